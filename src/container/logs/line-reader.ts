/** Entries of one log file, from an offset on. @module */
import type { LogEntry } from "../mod.ts";
import { decodeLine } from "./json-line.ts";
import type { LogFile } from "./log-files.ts";

const CHUNK = 256 * 1024;
/** Of those who follow, of whom there may be hundreds; where little came last, each is woken for a line or two. */
export const FOLLOWER_CHUNK: number = 64 * 1024;
const SMALL_CHUNK = 4 * 1024;
/** A longer line is none of ours: messages are split at 16 KiB. */
const MAX_LINE = 1024 * 1024;
const NEWLINE = 0x0a;

export class LineReader {
  readonly file: LogFile;
  readonly #largest: number;
  #chunk: number;
  #offset: number;
  readonly #end: number;
  #rest: Buffer = Buffer.alloc(0);

  constructor(file: LogFile, offset: number, options: { readonly end?: number | undefined; readonly chunk?: number } = {}) {
    this.file = file;
    this.#offset = offset;
    this.#end = options.end ?? Number.POSITIVE_INFINITY;
    this.#largest = options.chunk ?? CHUNK;
    this.#chunk = this.#largest;
  }

  /** Where the entries that were given end: a reader from there on continues. */
  get position(): number {
    return this.#offset - this.#rest.length;
  }

  /** The entries of the next block; undefined at the end of the file as it is now. */
  async next(): Promise<LogEntry[] | undefined> {
    for (;;) {
      const rest = this.#rest;
      // A buffer of its own for each block: entries point into it.
      const buffer = Buffer.allocUnsafe(rest.length + this.#chunk);
      rest.copy(buffer);
      const bytesRead = await this.file.read(buffer, rest.length, Math.min(this.#chunk, this.#end - this.#offset), this.#offset);
      this.#chunk = Math.min(this.#largest, bytesRead === this.#chunk ? 2 * bytesRead : SMALL_CHUNK);
      if (bytesRead === 0) return undefined;
      this.#offset += bytesRead;
      const length = rest.length + bytesRead;
      const last = buffer.subarray(0, length).lastIndexOf(NEWLINE);
      this.#rest = Buffer.from(buffer.subarray(last + 1, length));
      if (this.#rest.length > MAX_LINE) this.#rest = Buffer.alloc(0);
      const entries = last < 0 ? [] : decodeLines(buffer, last);
      if (entries.length > 0) return entries;
    }
  }
}

function decodeLines(buffer: Buffer, last: number): LogEntry[] {
  const entries: LogEntry[] = [];
  for (let start = 0; start <= last; ) {
    const end = buffer.indexOf(NEWLINE, start);
    const entry = decodeLine(buffer, start, end);
    if (entry !== undefined) entries.push(entry);
    start = end + 1;
  }
  return entries;
}
