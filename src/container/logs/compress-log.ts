/** `compress`: what was rotated away becomes `.gz`, while the container writes on. @module */
import { constants } from "node:fs";
import { open, rename, stat, unlink } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";
import { rotatedName } from "./log-files.ts";
import { watchFor } from "./log-wake.ts";
import { pack } from "./packed-log.ts";

export interface Compression {
  readonly path: string;
  readonly maxFiles: number;
  /** Leave alone what has not been fetched (see LogFile.markFetched). */
  readonly fetchedOnly: boolean;
  /** Settles when nothing more is written. */
  readonly ended: Promise<unknown>;
  readonly signal: AbortSignal;
  /** Only the monitor knows which number a file has while it rotates: asks it to put `PATH.gz.tmp` in the place of the file with this inode. undefined: there is no monitor. */
  readonly replace: (ino: bigint) => Promise<boolean | undefined> | undefined;
}

/** Until the writer has ended and all is compressed, or the signal. */
export async function compressRotated(compression: Compression): Promise<void> {
  const { path, ended, signal } = compression;
  const wake = watchFor(path, ended, signal);
  try {
    while (!signal.aborted) {
      const { over } = wake;
      for (let n = 1; n < compression.maxFiles && !signal.aborted; n++) await compress(compression, n);
      if (over) return;
      await wake.wait();
    }
  } finally {
    wake.close();
  }
}

async function compress({ path, fetchedOnly, replace }: Compression, n: number): Promise<void> {
  const name = rotatedName(path, n);
  const packed = `${path}.gz.tmp`;
  try {
    await using log = await open(name, "r");
    if (fetchedOnly && ((await log.stat()).mode & constants.S_IWUSR) !== 0) return;
    const ino = await pack(log, packed);
    if ((await replace(ino)) !== undefined) return;
    // Nobody rotates: the name is still this file's.
    if ((await stat(name, { bigint: true })).ino !== ino) return await unlink(packed);
    await rename(packed, `${name}.gz`);
    await unlink(name);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error; // rotated away, or removed with its container
  }
}
