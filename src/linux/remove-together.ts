/**
 * Removing a handful of entries by one call of the helper. Each `fs.rmdir` costs the daemon's thread some 60 µs to hand over to the thread
 * pool and back, more than the system call; a container leaves two dozen such entries behind.
 * @module
 */
import { isEngineError } from "#core/errors.ts";
import { type Helper, PlanError } from "./helper.ts";
import { NO_SLOT, type Step } from "./plan.ts";

/** What says that an entry is not (or not yet) one that can be removed like this. */
const notSo = new Set(["EBUSY", "ENOTEMPTY", "EEXIST", "ENOTDIR", "EISDIR"]);

/**
 * Removes files, then directories, in this order; missing ones are no error. False when one of them is in use, not empty or of another kind:
 * those before it are gone then. Paths are absolute and the engine's own.
 */
export async function removeTogether(helper: Pick<Helper, "call">, files: readonly string[], directories: readonly string[]): Promise<boolean> {
  const step = (op: "unlink" | "rmdir", path: string): Step => ({
    op,
    dir: NO_SLOT,
    path,
    where: "host",
    why: "left behind by a container",
    ignore: ["ENOENT"],
  });
  const plan = { steps: [...files.map((path) => step("unlink", path)), ...directories.map((path) => step("rmdir", path))] };
  try {
    await helper.call(plan).catch((error: unknown) => {
      // The helper was killed meanwhile; a new one takes over, and what is gone already is no error.
      if (!isEngineError(error, "unavailable")) throw error;
      return helper.call(plan);
    });
    return true;
  } catch (error) {
    if (error instanceof PlanError && notSo.has(error.errno)) return false;
    throw error;
  }
}
