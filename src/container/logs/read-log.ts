/**
 * Reads a container's json-file log: as much as is asked for, from the end backwards for `tail`, and on across rotations while the container writes.
 * @module
 */
import type { LogEntry, LogQuery } from "../mod.ts";
import { FOLLOWER_CHUNK, LineReader } from "./line-reader.ts";
import { findTail, type LogFile, openLogFiles, openNextLogFile } from "./log-files.ts";
import { type Wake, watchFor } from "./log-wake.ts";

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
      const reader = new LineReader(file, index === from.file ? from.offset : 0, follow ? { chunk: FOLLOWER_CHUNK } : { end: file.size });
      for (let entries = await reader.next(); entries !== undefined; entries = await reader.next()) {
        if (!(yield* batch(select, entries)) || signal?.aborted) return;
      }
      if (last && wake !== undefined) yield* followFrom(path, reader, select, wake, opened);
    }
    if (files.length === 0 && wake !== undefined) yield* followFrom(path, undefined, select, wake, opened);
  } finally {
    wake?.close();
    for (const file of opened) await file.close();
  }
}

async function openLogFilesIfAny(path: string): Promise<LogFile[]> {
  const next = await openNextLogFile(path, "");
  if (next === undefined) return [];
  await next.close();
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
    const next = await openNextLogFile(path, reader?.file.identity ?? "");
    if (next !== undefined) {
      // The old file was renamed only after its last byte was written; read the rest of it, then go on with the new one.
      for (let entries = await reader?.next(); entries !== undefined; entries = await reader?.next()) if (!(yield* batch(select, entries))) return;
      opened.push(next);
      reader = new LineReader(next, 0, { chunk: FOLLOWER_CHUNK });
      continue;
    }
    if (over) return;
    await wake.wait();
  }
}
