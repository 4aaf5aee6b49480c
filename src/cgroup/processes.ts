/**
 * Processes of a cgroup and its descendants; removal of its directories.
 * @module
 */
import { readdir, rmdir } from "node:fs/promises";
import { systemClock } from "#core/clock.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { readControl } from "./control-files.ts";

/** The cgroup's directory and those below, parents first; empty when it does not exist. */
export async function subtree(dir: string): Promise<string[]> {
  let entries: import("node:fs").Dirent[];
  try {
    entries = await readdir(dir, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
  const dirs = [dir];
  for (const entry of entries) if (entry.isDirectory()) dirs.push(...(await subtree(`${dir}/${entry.name}`)));
  return dirs;
}

/** Process ids inside, recursively. */
export async function processesOf(dir: string): Promise<number[]> {
  const pids: number[] = [];
  for (const each of await subtree(dir)) {
    const text = await readControl(`${each}/cgroup.procs`);
    if (text) pids.push(...text.split("\n").map(Number));
  }
  return pids;
}

/** SIGKILL to every process inside. Pid 0 stands for a process of a pid namespace that this one cannot see. */
export async function killOnce(dir: string): Promise<number> {
  const pids = await processesOf(dir);
  for (const pid of pids) {
    if (pid === 0) continue;
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      if (errnoOf(error) !== "ESRCH") throw error;
    }
  }
  return pids.length;
}

/** Calls `attempt` until it says true: first often, then every 20 ms; false when `timeoutMs` is over. */
export async function until(attempt: () => Promise<boolean>, timeoutMs: number): Promise<boolean> {
  const end = systemClock.now() + timeoutMs;
  for (let pauseMs = 1; ; pauseMs = Math.min(20, pauseMs * 2)) {
    if (await attempt()) return true;
    if (systemClock.now() >= end) return false;
    await systemClock.sleep(pauseMs);
  }
}

/** How long a directory may stay busy: the kernel lets go of a dead process's cgroup a little after the process was reaped. */
const REMOVE_TIMEOUT_MS = 5_000;

/** Removes the cgroup, and what was made below it, deepest first. Missing is no error; EngineError "kernel" when it stays busy. */
export async function removeTree(dir: string): Promise<void> {
  const gone = await until(async () => {
    if (await removed(dir)) return true;
    const below = (await subtree(dir)).slice(1).reverse();
    for (const each of below) await removed(each);
    return below.length > 0 && (await removed(dir));
  }, REMOVE_TIMEOUT_MS);
  if (gone) return;
  const pids = await processesOf(dir);
  throw new EngineError(
    "kernel",
    `cannot remove the cgroup ${dir}: it is still in use by process${pids.length === 1 ? "" : "es"} ${pids.slice(0, 10).join(", ") || "that are ending"}`,
    { details: { errno: "EBUSY", path: dir } },
  );
}

/** Removes a directory unless it is in use; true when it is gone. */
export async function removed(dir: string): Promise<boolean> {
  try {
    await rmdir(dir);
    return true;
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT") return true;
    if (errno === "EBUSY" || errno === "ENOTEMPTY") return false;
    throw error;
  }
}
