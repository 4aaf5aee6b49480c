/** The monitor's pid file: `MONITOR PID STARTTIME`. @module */
import { readFile } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";

export interface ProcessIdentity {
  readonly monitorPid: number;
  readonly pid: number;
  readonly startTime: bigint;
}

/** undefined when there is none. */
export async function readPidFile(path: string): Promise<ProcessIdentity | undefined> {
  try {
    const [, monitor, pid, startTime] = /^(\d+) (\d+) (\d+)\n$/.exec(await readFile(path, "utf8")) ?? [];
    return startTime === undefined ? undefined : { monitorPid: Number(monitor), pid: Number(pid), startTime: BigInt(startTime) };
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
