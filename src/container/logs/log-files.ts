/**
 * A json-file log and its rotated predecessors: `x-json.log` is the newest, then `.1`, `.2`, …, which may be compressed (`.1.gz`). Files are told apart by
 * {@link identityOf} what the monitor has written, so a rotation while they are opened neither repeats nor skips one.
 * @module
 */
import { type FileHandle, open } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";
import { identityOf, type Packed, readPackedHead, unpack } from "./packed-log.ts";

export class LogFile {
  /** See {@link identityOf}. */
  readonly identity: string;
  /** Bytes of log when it was opened. */
  readonly size: number;
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #packed: Packed | undefined;
  #content: Promise<FileHandle> | undefined;

  constructor(path: string, file: FileHandle, info: { readonly identity: string; readonly size: number }, packed: Packed | undefined) {
    this.identity = packed?.identity ?? info.identity;
    this.size = packed?.size ?? info.size;
    this.#path = path;
    this.#file = file;
    this.#packed = packed;
    if (packed === undefined) this.#content = Promise.resolve(file);
  }

  /** As pread(2). A compressed file is unpacked when it is first read. */
  async read(buffer: Buffer, offset: number, length: number, position: number): Promise<number> {
    this.#content ??= unpack(this.#path, this.#file);
    return (await (await this.#content).read(buffer, offset, length, position)).bytesRead;
  }

  /** Tells the monitor that nobody misses this file when it is rotated away. */
  async markFetched(): Promise<void> {
    if (this.#packed === undefined) await this.#file.chmod(0o440);
  }

  async close(): Promise<void> {
    const content = await this.#content?.catch(() => undefined); // whoever read it was told
    if (content !== undefined && content !== this.#file) await content.close();
    await this.#file.close();
  }
}

/** The nth file, 0 = the newest; undefined when there is no such file. */
export async function openLogFile(path: string, n: number): Promise<LogFile | undefined> {
  const name = rotatedName(path, n);
  // A file that is being compressed has one name or the other, and for a moment both.
  for (const candidate of n === 0 ? [name] : [name, `${name}.gz`, name]) {
    const file = await openIfThere(candidate);
    if (file === undefined) continue;
    const stat = await file.stat({ bigint: true });
    const size = Number(stat.size);
    return new LogFile(candidate, file, { identity: identityOf(stat), size }, candidate === name ? undefined : await readPackedHead(file, size));
  }
  return undefined;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, "r");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Name of the nth file, 0 = the newest. */
export function rotatedName(path: string, n: number): string {
  return n === 0 ? path : `${path}.${n}`;
}

/** All files, oldest first. They are opened from the newest on: what a rotation moves meanwhile is met again under its next name and recognised. */
export async function openLogFiles(path: string): Promise<LogFile[]> {
  const files: LogFile[] = [];
  for (let n = 0; ; n++) {
    const file = await openLogFile(path, n);
    if (file === undefined) {
      // Between two renames of a rotation the newest name is missing for a moment.
      if (n > 0) return files;
      continue;
    }
    if (files.some((f) => f.identity === file.identity)) await file.close();
    else files.unshift(file);
  }
}

/** The file that was begun after the one with this identity; undefined while that is the newest. */
export async function openNextLogFile(path: string, identity: string): Promise<LogFile | undefined> {
  const newer: LogFile[] = [];
  const closeAllBut = async (kept: LogFile | undefined) => {
    for (const file of newer) if (file !== kept) await file.close();
    return kept;
  };
  for (let n = 0; ; n++) {
    const file = await openLogFile(path, n);
    if (file === undefined) {
      if (n === 0) return undefined;
      break; // ours is gone already: go on with the oldest that is left
    }
    if (file.identity === identity) {
      await file.close();
      break;
    }
    newer.push(file);
  }
  return closeAllBut(newer.at(-1));
}

const BLOCK = 64 * 1024;
const NEWLINE = 0x0a;

/**
 * Where the last `lines` lines begin: index of the file and offset in it. Reads backwards from the end, so it costs what is asked for and not what is there.
 */
export async function findTail(files: readonly LogFile[], lines: number): Promise<{ readonly file: number; readonly offset: number }> {
  if (lines === 0) return { file: Math.max(0, files.length - 1), offset: files.at(-1)?.size ?? 0 };
  const block = Buffer.allocUnsafe(BLOCK);
  let wanted = lines;
  for (let index = files.length - 1; index >= 0; index--) {
    const file = files[index] as LogFile;
    let end = file.size;
    let first = true;
    while (end > 0) {
      const start = Math.max(0, end - BLOCK);
      const bytesRead = await file.read(block, 0, end - start, start);
      // The newline that ends the last line does not begin another one.
      let at = first && block[bytesRead - 1] === NEWLINE ? bytesRead - 2 : bytesRead - 1;
      first = false;
      for (at = block.lastIndexOf(NEWLINE, at); at >= 0 && at < bytesRead; at = at === 0 ? -1 : block.lastIndexOf(NEWLINE, at - 1)) {
        if (--wanted === 0) return { file: index, offset: start + at + 1 };
      }
      end = start;
    }
    // The first line of a file has no newline before it.
    if (file.size > 0 && --wanted === 0) return { file: index, offset: 0 };
  }
  return { file: 0, offset: 0 };
}
