/**
 * One owner per data root: the highest of `wherry.lock.1`, `.2`, … names the process that has it by pid and start time, so a lock that a crash left is seen to be stale. Whoever takes over makes
 * the next number. (Node has no flock.)
 * @module
 */
import { link, mkdir, readdir, readFile, rename, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import { unlinkIfThere } from "#linux/unlink-if-there.ts";

export interface LockHolder {
  readonly pid: number;
  /** Field 22 of proc(5) stat, and the boot it counts from. */
  readonly startTime: string;
  readonly boot: string;
  readonly execRoot: string;
}

/** Field 22 of /proc/PID/stat; undefined when there is no such process (or it is a zombie). The name in field 2 may hold anything, also ")". */
export async function processStartTime(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ESRCH") return undefined;
    throw error;
  }
}

/** Takes the root. The result gives it back. @throws EngineError "conflict" that says who holds it */
export async function lockDataRoot(dataRoot: string, execRoot: string): Promise<() => Promise<void>> {
  await mkdir(dataRoot, { recursive: true, mode: 0o711 });
  const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  const mine: LockHolder = { pid: process.pid, startTime: (await processStartTime(process.pid)) ?? "", boot, execRoot };
  const draft = join(dataRoot, `wherry.lock.${process.pid}-${drafts++}.new`);
  try {
    for (;;) {
      const newest = (await locks(dataRoot)).at(-1) ?? 0;
      if (newest > 0) await refuseIfHeld(lockPath(dataRoot, newest), boot, dataRoot);
      await writeFile(draft, JSON.stringify(mine), { mode: 0o600 });
      // link(2) fails when the name exists: of all that saw the same stale lock, one makes the next.
      if (!(await tryLink(draft, lockPath(dataRoot, newest + 1)))) continue;
      const all = await locks(dataRoot);
      // A number that was free because its successor had removed it already.
      if (all.at(-1) !== newest + 1) {
        await unlink(lockPath(dataRoot, newest + 1));
        continue;
      }
      for (const old of all.slice(0, -1)) await unlinkIfThere(lockPath(dataRoot, old));
      return async () => {
        // Emptied, not removed: the numbers never begin anew.
        await writeFile(draft, "");
        await rename(draft, lockPath(dataRoot, newest + 1));
      };
    }
  } finally {
    await unlinkIfThere(draft);
  }
}

let drafts = 0;

function lockPath(dataRoot: string, number: number): string {
  return join(dataRoot, `wherry.lock.${number}`);
}

/** Numbers of the locks that are there, the valid one last. */
async function locks(dataRoot: string): Promise<number[]> {
  const numbers = (await readdir(dataRoot)).map((name) => /^wherry\.lock\.([1-9][0-9]*)$/.exec(name)?.[1]).filter((n) => n !== undefined);
  return numbers.map(Number).sort((a, b) => a - b);
}

async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return false;
    throw error;
  }
}

async function refuseIfHeld(path: string, boot: string, dataRoot: string): Promise<void> {
  const holder = await readHolder(path);
  if (holder === undefined || holder.boot !== boot || (await processStartTime(holder.pid)) !== holder.startTime) return;
  throw new EngineError("conflict", `the data root ${dataRoot} belongs to process ${holder.pid}, which is running`, {
    hint: `talk to it (its sockets are in ${holder.execRoot}), or choose another --data-root and --exec-root`,
    details: { pid: holder.pid, execRoot: holder.execRoot },
  });
}

/** undefined: given back, torn by a crash of the host, or gone. */
async function readHolder(path: string): Promise<LockHolder | undefined> {
  try {
    const { pid, startTime, boot, execRoot = "" } = JSON.parse(await readFile(path, "utf8")) as Partial<LockHolder>;
    return typeof pid === "number" && typeof startTime === "string" && typeof boot === "string" ? { pid, startTime, boot, execRoot } : undefined;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || error instanceof SyntaxError) return undefined;
    throw error;
  }
}
