/** unlink where a missing file is what was wanted. @module */
import { unlink } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";

/** Removes a file; missing is no error. Rejects with Node's system error otherwise. @see unlink(2) */
export async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}
