/**
 * Reads a container's json-file log: as much as is asked for, from the end backwards for `tail`, and on across rotations while the container writes.
 * @module
 */
import { watch } from "node:fs";
import { basename, dirname } from "node:path";
import type { LogEntry, LogQuery } from "../mod.ts";
import { decodeLine } from "./json-line.ts";
import { findTail, type LogFile, openLogFiles, openNextLogFile } from "./log-files.ts";

const CHUNK = 256 * 1024;
/** A longer line is none of ours: messages are split at 16 KiB. */
const MAX_LINE = 1024 * 1024;
const NEWLINE = 0x0a;

/** Entries in batches (as many as one read gave). `ended`: settles when the writer is gone; without it, `follow` is not possible and ignored. */
export async function* readLog(path: string, query: LogQuery, ended: Promise<unknown> | undefined, signal?: AbortSignal): AsyncGenerator<LogEntry[]> {
  const follow = query.follow && ended !== undefined;
  const wake = follow ? watchFor(path, ended, signal, query.untilNs) : undefined;
  const files = await openLogFilesIfAny(path);
  const opened = [...files];
  const select = selector(query);
  try {
    const from = query.tail === undefined ? { file: 0, offset: 0 } : await findTail(files, query.tail);
    for (let index = from.file; index < files.length; index++) {
      const last = index === files.length - 1;
      const file = files[index] as LogFile;
      // Without follow, what was there at the call is the answer, however fast the container writes.
      const reader = new LineReader(file, index === from.file ? from.offset : 0, follow ? undefined : file.size);
      for (let entries = await reader.next(); entries !== undefined; entries = await reader.next()) {
        if (!(yield* batch(select, entries)) || signal?.aborted) return;
      }
      if (last && wake !== undefined) yield* followFrom(path, reader, select, wake, opened);
    }
    if (files.length === 0 && wake !== undefined) yield* followFrom(path, undefined, select, wake, opened);
  } finally {
    wake?.close();
    for (const { handle } of opened) await handle.close();
  }
}

async function openLogFilesIfAny(path: string): Promise<LogFile[]> {
  const next = await openNextLogFile(path, -1n);
  if (next === undefined) return [];
  await next.handle.close();
  return openLogFiles(path);
}

/** Yields what was selected; false: nothing later can be wanted. */
function* batch(select: Selector, entries: LogEntry[]): Generator<LogEntry[], boolean> {
  const { wanted, done } = select(entries);
  if (wanted.length > 0) yield wanted;
  return !done;
}

type Selector = (entries: LogEntry[]) => { readonly wanted: LogEntry[]; readonly done: boolean };

function selector({ stdout, stderr, sinceNs, untilNs }: LogQuery): Selector {
  if (stdout && stderr && sinceNs === undefined && untilNs === undefined) return (entries) => ({ wanted: entries, done: false });
  return (entries) => {
    const wanted: LogEntry[] = [];
    for (const entry of entries) {
      if (untilNs !== undefined && entry.timeNs > untilNs) return { wanted, done: true };
      if ((entry.stream === "stdout" ? stdout : stderr) && (sinceNs === undefined || entry.timeNs >= sinceNs)) wanted.push(entry);
    }
    return { wanted, done: false };
  };
}

async function* followFrom(path: string, first: LineReader | undefined, select: Selector, wake: Wake, opened: LogFile[]): AsyncGenerator<LogEntry[]> {
  let reader = first;
  for (;;) {
    const over = wake.over; // read before the file: what was written before the end is found below
    for (let entries = await reader?.next(); entries !== undefined; entries = await reader?.next()) if (!(yield* batch(select, entries))) return;
    const next = await openNextLogFile(path, reader?.file.ino ?? -1n);
    if (next !== undefined) {
      // The old file was renamed only after its last byte was written; read the rest of it, then go on with the new one.
      for (let entries = await reader?.next(); entries !== undefined; entries = await reader?.next()) if (!(yield* batch(select, entries))) return;
      opened.push(next);
      reader = new LineReader(next, 0);
      continue;
    }
    if (over) return;
    await wake.wait();
  }
}

/** Lines of one file, from an offset on. */
class LineReader {
  readonly file: LogFile;
  #offset: number;
  readonly #end: number;
  #rest: Buffer = Buffer.alloc(0);

  constructor(file: LogFile, offset: number, end = Number.POSITIVE_INFINITY) {
    this.file = file;
    this.#offset = offset;
    this.#end = end;
  }

  /** The entries of the next block; undefined at the end of the file as it is now. */
  async next(): Promise<LogEntry[] | undefined> {
    for (;;) {
      const rest = this.#rest;
      // A buffer of its own for each block: entries point into it.
      const buffer = Buffer.allocUnsafe(rest.length + CHUNK);
      rest.copy(buffer);
      const { bytesRead } = await this.file.handle.read(buffer, rest.length, Math.min(CHUNK, this.#end - this.#offset), this.#offset);
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

interface Wake {
  /** The writer is gone, the reader has gone, or the time is over. */
  readonly over: boolean;
  /** Resolves when something may have been written since the last wait. */
  wait(): Promise<void>;
  close(): void;
}

function watchFor(path: string, ended: Promise<unknown>, signal: AbortSignal | undefined, untilNs: bigint | undefined): Wake {
  let [dirty, over] = [true, false];
  let resume: (() => void) | undefined;
  const poke = () => {
    dirty = true;
    resume?.();
    resume = undefined;
  };
  const finish = () => {
    over = true;
    poke();
  };
  // The directory, not the file: rotation renames the file.
  const name = basename(path);
  const watcher = watch(dirname(path), (_event, file) => {
    if (file === null || file === name) poke();
  });
  watcher.on("error", finish);
  ended.then(finish, finish);
  signal?.addEventListener("abort", finish, { once: true });
  if (signal?.aborted) finish();
  const msLeft = untilNs === undefined ? undefined : Number(untilNs / 1_000_000n) - Date.now();
  const timer = msLeft === undefined || msLeft > 2 ** 31 - 1 ? undefined : setTimeout(finish, Math.max(0, msLeft));
  return {
    get over() {
      return over;
    },
    async wait() {
      if (!dirty && !over) await new Promise<void>((resolve) => (resume = resolve));
      dirty = false;
    },
    close() {
      watcher.close();
      clearTimeout(timer);
      signal?.removeEventListener("abort", finish);
    },
  };
}
