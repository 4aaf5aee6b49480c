/** NDJSON progress (pull, load, import, bootstrap) for people: lines that move on a terminal, plain lines elsewhere. @module */
import type { Writable } from "node:stream";
import { decodeLines } from "#api/types/ndjson.ts";
import { progressBar, type ProgressLine } from "#api/types/progress.ts";
import type { CliIo } from "./io.ts";
import { write } from "./output.ts";

export interface ProgressOptions {
  readonly io: CliIo;
  readonly output: Writable;
  readonly terminal: boolean;
  /** Print nothing; errors still throw. */
  readonly quiet?: boolean;
  readonly onAux?: (aux: unknown) => void;
}

/** Prints the stream to its end. Throws Error with the daemon's message when a line says so. */
export async function renderProgress(body: AsyncIterable<Uint8Array>, options: ProgressOptions): Promise<void> {
  const rows = new Map<string, number>(); // id → how many rows from the top
  for await (const value of decodeLines(body)) {
    const line = value as ProgressLine; // the shape of every progress stream
    if (line.error !== undefined || line.errorDetail !== undefined) throw new Error(line.errorDetail?.message ?? line.error);
    if (line.aux !== undefined) options.onAux?.(line.aux);
    else if (options.quiet !== true) await show(line, rows, options);
  }
}

async function show(line: ProgressLine, rows: Map<string, number>, { io, output, terminal }: ProgressOptions): Promise<void> {
  if (line.stream !== undefined) return write(output, line.stream);
  if (line.status === undefined) return;
  const bar = barOf(line, (io.size()?.columns ?? 80) < 110);
  const id = line.id ?? "";
  const text = `${id === "" ? "" : `${id}: `}${line.status}`;
  if (!terminal) {
    // Without a terminal only changes of state are worth a line.
    if (bar === "") await write(output, `${text}\n`);
    return;
  }
  if (id === "") {
    rows.clear();
    return write(output, `${text}\n`);
  }
  const known = rows.get(id);
  if (known === undefined) {
    rows.set(id, rows.size);
    return write(output, `${text}${bar === "" ? "" : ` ${bar}`}\n`);
  }
  const up = rows.size - known;
  await write(output, `\u001b[${up}A\u001b[2K\r${text}${bar === "" ? "" : ` ${bar}`}\u001b[${up}B\r`);
}

function barOf({ progressDetail, progress }: ProgressLine, narrow: boolean): string {
  const { current, total } = progressDetail ?? {};
  if (current === undefined || (current === 0 && (total ?? 0) === 0)) return progress ?? "";
  const bar = progressBar(current, total ?? 0);
  return narrow ? bar.slice(bar.indexOf("]") + 1).trim() : bar;
}
