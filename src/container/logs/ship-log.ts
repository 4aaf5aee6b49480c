/**
 * Brings the lines of a container's log to a service, in order, from where it stopped when the engine last ran. The log on disk is the only buffer: in blocking mode the
 * monitor keeps every file until its lines are delivered and holds the container back when there is no more room; in non-blocking mode what is too far behind is
 * skipped. A line may be delivered twice after a crash or a lost connection, never out of order.
 * @module
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { type Clock, systemClock } from "#core/clock.ts";
import { errnoOf } from "#core/errors.ts";
import type { LogEntry } from "../mod.ts";
import { LineReader } from "./line-reader.ts";
import { type LogFile, openLogFiles, openNextLogFile } from "./log-files.ts";
import { watchFor } from "./log-wake.ts";
import type { LogService } from "./services/mod.ts";

export interface Shipment {
  readonly path: string;
  /** File that remembers how far it has come. */
  readonly cursorPath: string;
  readonly service: LogService;
  /** Bytes behind from which on lines are skipped; undefined: none are. */
  readonly dropAboveBytes: number | undefined;
  /** Settles when nothing more is written. */
  readonly ended: Promise<unknown>;
  readonly signal: AbortSignal;
  readonly warn: (message: string) => void;
  readonly clock?: Clock;
}

interface Cursor {
  readonly identity: string;
  readonly offset: number;
}

/** So much is sent at once. */
const CHUNK = 64 * 1024;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;

/** Resolves when all has been delivered and the writer has ended, or at the signal. */
export async function shipLog(shipment: Shipment): Promise<void> {
  const { path, signal, service, ended } = shipment;
  const wake = watchFor(path, ended, signal);
  let reader: LineReader | undefined;
  try {
    reader = await resume(shipment);
    while (!signal.aborted) {
      const { over } = wake; // read before the file: what was written before the end is found below
      reader = await skipBacklog(shipment, reader);
      const shipped = reader === undefined ? "end" : await shipRest(shipment, reader);
      if (shipped === "stopped") return;
      if (shipped === "more") continue;
      const next = await openNextLogFile(path, reader?.file.identity ?? "");
      if (next !== undefined) {
        // It was renamed after its last byte was written.
        if (reader !== undefined) {
          for (let rest = await shipRest(shipment, reader); rest !== "end"; rest = await shipRest(shipment, reader)) if (rest === "stopped") return;
          await reader.file.markFetched();
          await reader.file.close();
        }
        reader = new LineReader(next, 0, { chunk: CHUNK });
        continue;
      }
      if (over) return;
      await wake.wait();
    }
  } finally {
    wake.close();
    service.close();
    await reader?.file.close();
  }
}

/** To the end of the file as it is now; in non-blocking mode one batch, so that it is seen how far behind the reader is. */
async function shipRest(shipment: Shipment, reader: LineReader): Promise<"end" | "more" | "stopped"> {
  for (;;) {
    const entries = await reader.next();
    if (shipment.signal.aborted) return "stopped";
    if (entries === undefined) return "end";
    if (!(await deliver(shipment, reader, entries))) return "stopped";
    await saveCursor(shipment.cursorPath, { identity: reader.file.identity, offset: reader.position });
    if (shipment.dropAboveBytes !== undefined) return "more";
  }
}

/** Again and again, until the service takes them, the signal comes, or (non-blocking) others have become more urgent. */
async function deliver(shipment: Shipment, reader: LineReader, entries: readonly LogEntry[]): Promise<boolean> {
  const { service, signal, warn, clock = systemClock } = shipment;
  const { firstMs, times } = service.retry ?? { firstMs: FIRST_PAUSE_MS, times: Number.POSITIVE_INFINITY };
  const longestMs = Math.max(LONGEST_PAUSE_MS, firstMs);
  for (let pause = firstMs, told = false, failures = 0; ; pause = Math.min(2 * pause, longestMs)) {
    try {
      await service.send(entries, signal);
      if (told) warn("lines are delivered again");
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      if (!told) warn(`lines cannot be delivered: ${(error as Error).message}; trying again`);
      told = true;
      if (++failures > times) {
        warn(`${entries.length} lines are given up after ${failures} attempts`);
        return true;
      }
    }
    await clock.sleep(pause, signal).catch(() => undefined); // aborted: seen below
    if (signal.aborted) return false;
    if (shipment.dropAboveBytes !== undefined && (await bytesBehind(shipment.path, reader.file.identity, reader.position)) > shipment.dropAboveBytes)
      return true;
  }
}

async function bytesBehind(path: string, identity: string, offset: number): Promise<number> {
  const files = await openLogFiles(path);
  for (const file of files) await file.close();
  const from = files.findIndex((file) => file.identity === identity);
  return files.slice(Math.max(0, from)).reduce((sum, file) => sum + file.size, 0) - (from < 0 ? 0 : offset);
}

/** A reader that is too far behind goes on where it may be; a line that it comes into the middle of is none. */
async function skipBacklog({ path, dropAboveBytes, warn }: Shipment, reader: LineReader | undefined): Promise<LineReader | undefined> {
  if (dropAboveBytes === undefined || reader === undefined) return reader;
  const behind = await bytesBehind(path, reader.file.identity, reader.position);
  if (behind <= dropAboveBytes) return reader;
  const files = await openLogFiles(path);
  let [index, room] = [files.length - 1, dropAboveBytes];
  for (; index > 0 && (files[index] as LogFile).size < room; index--) room -= (files[index] as LogFile).size;
  const file = files[index];
  for (const other of files) if (other !== file) await other.close();
  if (file === undefined) return reader;
  warn(`${behind - dropAboveBytes} bytes of log are not delivered: the service is too slow`);
  await reader.file.close();
  return new LineReader(file, Math.max(0, file.size - room), { chunk: CHUNK });
}

/** Where it stopped; a file that is gone is answered with the oldest that is left. */
async function resume({ path, cursorPath }: Shipment): Promise<LineReader | undefined> {
  const cursor = await loadCursor(cursorPath);
  const files = (await openNextLogFile(path, "").then(closed)) ? await openLogFiles(path) : [];
  const at = files.find((file) => file.identity === cursor?.identity) ?? files[0];
  for (const file of files) {
    if (file === at) continue;
    if (files.indexOf(file) < files.indexOf(at as LogFile)) await file.markFetched();
    await file.close();
  }
  return at === undefined ? undefined : new LineReader(at, at.identity === cursor?.identity && cursor.offset <= at.size ? cursor.offset : 0, { chunk: CHUNK });
}

async function closed(file: LogFile | undefined): Promise<boolean> {
  await file?.close();
  return file !== undefined;
}

async function loadCursor(path: string): Promise<Cursor | undefined> {
  try {
    const [, identity, offset] = /^([0-9]{1,20}-[0-9]{1,20}) ([0-9]{1,15})\n$/.exec(await readFile(path, "utf8")) ?? [];
    return identity === undefined ? undefined : { identity, offset: Number(offset) };
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Not synced: after a crash of the host some lines come twice. A container that was removed meanwhile has no place for it. */
async function saveCursor(path: string, { identity, offset }: Cursor): Promise<void> {
  try {
    await writeFile(`${path}.new`, `${identity} ${offset}\n`, { mode: 0o600 });
    await rename(`${path}.new`, path);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}
