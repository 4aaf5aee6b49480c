/**
 * Control files: what is written to them, as data, and reading and writing them.
 * @module
 */
import { constants } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { EngineError, errnoOf } from "#core/errors.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";

/** One value for one control file. `controller` is the v1 hierarchy; "" on v2. */
export interface ControlWrite {
  readonly controller: string;
  readonly file: string;
  readonly value: string;
  /** One phrase, for people. */
  readonly why: string;
}

const encoder = new TextEncoder();

/** The write as a step of a plan. */
export function writeStep(dir: string, { file, value, why }: ControlWrite): Step {
  return { op: "write", where: "host", dir: NO_SLOT, path: `${dir}/${file}`, flags: 0n, data: encoder.encode(value), why };
}

/** The step that makes a cgroup's directory; one that is left over is used again. */
export function mkdirStep(dir: string, why: string): Step {
  return { op: "mkdir", where: "host", dir: NO_SLOT, path: dir, mode: 0o755, uid: 0, gid: 0, parents: 1, why, section: "cgroups", see: "cgroups(7)" };
}

/** Writes a value in one write. EngineError "not-found" when the cgroup is gone, "invalid" for a value that the kernel refuses, else "kernel". */
export async function writeControl(path: string, value: string): Promise<void> {
  try {
    await writeFile(path, value, { flag: constants.O_WRONLY });
  } catch (error) {
    throw controlError(error, path, `cannot write "${value}" to ${path}`);
  }
}

/** False: the cgroup is not there any more. @throws EngineError as {@link writeControl} */
export async function writeUnlessGone(path: string, value: string): Promise<boolean> {
  try {
    await writeControl(path, value);
    return true;
  } catch (error) {
    if (error instanceof EngineError && error.code === "not-found") return false;
    throw error;
  }
}

const reasons: Readonly<Record<string, string>> = {
  EINVAL: "the kernel takes no such value",
  ERANGE: "the value is out of range",
  EBUSY: "it is in use: more than the new limit is used already, or the cgroup has processes",
  ENOSPC: "the cpuset has no CPUs or memory nodes",
  EACCES: "the parent cgroup does not allow it",
};

function controlError(error: unknown, path: string, attempted: string): EngineError {
  const errno = errnoOf(error) ?? "EIO";
  const code =
    errno === "ENOENT" || errno === "ENODEV"
      ? "not-found"
      : errno === "EINVAL" || errno === "ERANGE" || errno === "EBUSY" || errno === "EACCES"
        ? "invalid"
        : "kernel";
  return new EngineError(code, `${attempted}: ${reasons[errno] ?? errno}`, { cause: error, details: { errno, path } });
}

/** A control file's text without the final newline; undefined when the file or its cgroup does not exist. */
export async function readControl(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, "utf8")).trimEnd();
  } catch (error) {
    const errno = errnoOf(error);
    // ENODEV: the cgroup was removed while its file was open. EOPNOTSUPP: the file exists, the feature does not.
    if (errno === "ENOENT" || errno === "ENODEV" || errno === "EOPNOTSUPP") return undefined;
    throw controlError(error, path, `cannot read ${path}`);
  }
}

/** A file with one number. "max", a missing file or anything else: `otherwise`. */
export function numberIn(text: string | undefined, otherwise = 0): number {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : otherwise;
}

/** A file of "key value" lines. */
export function keyedIn(text: string | undefined): Record<string, number> {
  const values: Record<string, number> = {};
  for (const line of text?.split("\n") ?? []) {
    const [key, value] = line.split(" ");
    if (key !== undefined && value !== undefined) values[key] = Number(value);
  }
  return values;
}
