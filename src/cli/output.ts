/** Writing to the caller. @module */
import { once } from "node:events";
import type { Writable } from "node:stream";
import type { CliIo } from "./io.ts";

/** Writes and waits while the reader is slower than we are. Throws {@link BrokenPipe} when nobody reads any more. */
export async function write(stream: Writable, chunk: string | Uint8Array): Promise<void> {
  if (stream.destroyed) throw new BrokenPipe();
  if (!stream.write(chunk)) await drained(stream);
}

/** Resolves when the stream takes more; rejects when it is closed meanwhile. */
async function drained(stream: Writable): Promise<void> {
  const stop = new AbortController();
  try {
    await Promise.race([
      once(stream, "drain", { signal: stop.signal }),
      once(stream, "close", { signal: stop.signal }).then(() => {
        throw new BrokenPipe();
      }),
    ]);
  } finally {
    stop.abort();
  }
}

/** The reader has gone (`wherry logs x | head`): end quietly, as SIGPIPE does. */
export class BrokenPipe extends Error {}

/** A line on stdout. */
export function print(io: CliIo, line: string): Promise<void> {
  return write(io.stdout, `${line}\n`);
}

/** A line on stderr. */
export function warn(io: Pick<CliIo, "stderr">, line: string): void {
  io.stderr.write(`${line}\n`);
}

/** Copies a byte stream to the caller. */
export async function copy(from: AsyncIterable<Uint8Array>, to: Writable): Promise<void> {
  for await (const chunk of from) await write(to, chunk);
}
