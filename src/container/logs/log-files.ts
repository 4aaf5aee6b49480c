/**
 * A json-file log and its rotated predecessors: `x-json.log` is the newest, then `.1`, `.2`, … Files are told apart by inode, so a rotation while they are opened neither repeats nor skips one.
 * @module
 */
import { type FileHandle, open } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";

export interface LogFile {
  readonly handle: FileHandle;
  readonly ino: bigint;
  /** Bytes when it was opened. */
  readonly size: number;
}

/** undefined when there is no such file. */
export async function openLogFile(path: string): Promise<LogFile | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, "r");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  const { ino, size } = await handle.stat({ bigint: true });
  return { handle, ino, size: Number(size) };
}

/** Name of the nth file, 0 = the newest. */
export function rotatedName(path: string, n: number): string {
  return n === 0 ? path : `${path}.${n}`;
}

/** All files, oldest first. They are opened from the newest on: what a rotation moves meanwhile is met again under its next name and recognised. */
export async function openLogFiles(path: string): Promise<LogFile[]> {
  const files: LogFile[] = [];
  for (let n = 0; ; n++) {
    const file = await openLogFile(rotatedName(path, n));
    if (file === undefined) {
      // Between two renames of a rotation the newest name is missing for a moment.
      if (n > 0) return files;
      continue;
    }
    if (files.some((f) => f.ino === file.ino)) await file.handle.close();
    else files.unshift(file);
  }
}

/** The file that was begun after the one with this inode; undefined while that is the newest. */
export async function openNextLogFile(path: string, ino: bigint): Promise<LogFile | undefined> {
  const newer: LogFile[] = [];
  const closeAllBut = async (kept: LogFile | undefined) => {
    for (const file of newer) if (file !== kept) await file.handle.close();
    return kept;
  };
  for (let n = 0; ; n++) {
    const file = await openLogFile(rotatedName(path, n));
    if (file === undefined) {
      if (n === 0) return undefined;
      break; // ours is gone already: go on with the oldest that is left
    }
    if (file.ino === ino) {
      await file.handle.close();
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
    const { handle, size } = files[index] as LogFile;
    let end = size;
    let first = true;
    while (end > 0) {
      const start = Math.max(0, end - BLOCK);
      const { bytesRead } = await handle.read(block, 0, end - start, start);
      // The newline that ends the last line does not begin another one.
      let at = first && block[bytesRead - 1] === NEWLINE ? bytesRead - 2 : bytesRead - 1;
      first = false;
      for (at = block.lastIndexOf(NEWLINE, at); at >= 0 && at < bytesRead; at = at === 0 ? -1 : block.lastIndexOf(NEWLINE, at - 1)) {
        if (--wanted === 0) return { file: index, offset: start + at + 1 };
      }
      end = start;
    }
    // The first line of a file has no newline before it.
    if (size > 0 && --wanted === 0) return { file: index, offset: 0 };
  }
  return { file: 0, offset: 0 };
}
