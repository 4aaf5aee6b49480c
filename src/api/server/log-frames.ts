/**
 * Log entries as bytes for the wire: Docker's 8-byte-header frames, or raw for a terminal, with optional timestamps. Entries are gathered into chunks of
 * some 64 KiB, because one write per line would make a million of them for 50 MB; what is there when the log falls silent goes out at once.
 * @module
 */
import type { LogEntry } from "#container/mod.ts";

export interface FrameOptions {
  readonly framed: boolean;
  readonly timestamps: boolean;
  readonly details: boolean;
}

/** How much is gathered before the reader of the log has to wait. */
const highWater = 256 * 1024;
const chunkBytes = 64 * 1024;

const encoder = new TextEncoder();

/** RFC 3339 with all nine digits, as `logs -t` prints. The seconds' text is kept: entries come in order. */
function fixedTime(): (ns: bigint) => string {
  let second = -1n;
  let text = "";
  return (ns) => {
    const s = ns / 1_000_000_000n;
    if (s !== second) {
      second = s;
      text = new Date(Number(s) * 1000).toISOString().slice(0, 19);
    }
    return `${text}.${(ns % 1_000_000_000n).toString().padStart(9, "0")}Z`;
  };
}

/** One entry's bytes. */
export function frameEncoder(options: FrameOptions): (entry: LogEntry) => readonly Uint8Array[] {
  const time = fixedTime();
  return (entry) => {
    const prefix =
      options.timestamps || options.details ? encoder.encode(`${options.timestamps ? `${time(entry.timeNs)} ` : ""}${options.details ? " " : ""}`) : undefined;
    const parts = prefix ? [prefix, entry.log] : [entry.log];
    if (!options.framed) return parts;
    const header = new Uint8Array(8);
    header[0] = entry.stream === "stderr" ? 2 : 1;
    new DataView(header.buffer).setUint32(4, (prefix?.length ?? 0) + entry.log.length);
    return [header, ...parts];
  };
}

/** Collects small pieces into few large ones. */
class Gather {
  #buffer = new Uint8Array(chunkBytes);
  #used = 0;
  #full: Uint8Array[] = [];
  bytes = 0;

  add(piece: Uint8Array): void {
    this.bytes += piece.length;
    if (this.#used + piece.length > this.#buffer.length) {
      this.#seal();
      if (piece.length > chunkBytes / 2) {
        this.#full.push(piece);
        return;
      }
    }
    this.#buffer.set(piece, this.#used);
    this.#used += piece.length;
  }

  take(): Uint8Array[] {
    this.#seal();
    const taken = this.#full;
    this.#full = [];
    this.bytes = 0;
    return taken;
  }

  #seal(): void {
    if (this.#used === 0) return;
    this.#full.push(this.#buffer.subarray(0, this.#used));
    this.#buffer = new Uint8Array(chunkBytes);
    this.#used = 0;
  }
}

/** Reads the log as fast as the consumer takes it, at most {@link highWater} bytes ahead. */
export async function* logFrames(entries: AsyncIterable<LogEntry>, options: FrameOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const encode = frameEncoder(options);
  const gather = new Gather();
  const iterator = entries[Symbol.asyncIterator]();
  let ended = false;
  let failure: unknown;
  let wakeReader: (() => void) | undefined;
  let wakeWriter: (() => void) | undefined;
  const pump = async (): Promise<void> => {
    try {
      while (!ended) {
        const item = await iterator.next();
        if (item.done) break;
        for (const piece of encode(item.value)) gather.add(piece);
        wakeReader?.();
        if (gather.bytes > highWater) await new Promise<void>((resolve) => (wakeWriter = resolve));
      }
    } catch (error) {
      failure = error;
    }
    ended = true;
    wakeReader?.();
  };
  const pumping = pump();
  try {
    for (;;) {
      if (gather.bytes === 0 && !ended) await new Promise<void>((resolve) => (wakeReader = resolve));
      wakeReader = undefined;
      // One turn of the event loop: whatever else is ready joins this chunk.
      if (!ended && gather.bytes < chunkBytes) await new Promise<void>((resolve) => setImmediate(resolve));
      yield* gather.take();
      wakeWriter?.();
      wakeWriter = undefined;
      if (ended && gather.bytes === 0) break;
    }
    if (failure !== undefined) throw failure;
  } finally {
    ended = true;
    wakeWriter?.();
    // A follower may be waiting for the next line: it is told to stop, and not waited for.
    void pumping.then(() => undefined);
    await Promise.race([iterator.return?.() ?? pumping, new Promise<void>((resolve) => setImmediate(resolve))]);
  }
}
