/**
 * The exit record: what the monitor writes when init has ended, as a file (LaunchRequest.exitPath) and as a frame.
 * @module
 */
import { readFile } from "node:fs/promises";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { ExitRecord } from "./helper.ts";

/** Parses a record's JSON; EngineError "corrupt" when it is none. */
export function parseExitRecord(text: string): ExitRecord {
  try {
    const data = JSON.parse(text) as { code: number; signal: number; atNs: string; reports: (string | null)[] };
    return { code: data.code, signal: data.signal, atNs: BigInt(data.atNs), reports: data.reports.map((report) => report ?? undefined) };
  } catch (cause) {
    throw new EngineError("corrupt", `not an exit record: ${JSON.stringify(text.slice(0, 200))}`, { cause });
  }
}

/** Reads a container's exit record; undefined when there is none (it never ended under a monitor's eyes). */
export async function readExitRecord(path: string): Promise<ExitRecord | undefined> {
  try {
    return parseExitRecord(await readFile(path, "utf8"));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
