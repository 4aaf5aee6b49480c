import { EngineError } from "#core/errors.ts";
import type { Helper } from "./helper.ts";

/** How a program of the host ended. */
export interface ProgramResult {
  /** 128+n for signal n; 127 when it could not be run. */
  readonly code: number;
  /** The first 64 KiB of what it printed, to stdout and stderr. */
  readonly output: string;
}

/** Runs a program of the host to its end, by the helper: a fork of the engine itself would hold all else up. @param argv its absolute path first */
export async function programResult(helper: Helper, argv: readonly string[], why: string): Promise<ProgramResult> {
  const reports = await helper.call({ steps: [{ op: "program", argv, tag: 1, where: "host", why }] });
  const report = Buffer.from(reports.get(1) ?? []);
  const status = report.readUInt32LE(0);
  return { code: (status & 0x7f) === 0 ? (status >>> 8) & 0xff : 128 + (status & 0x7f), output: report.subarray(4).toString("utf8") };
}

/** As {@link programResult}, and gives what it printed. @throws EngineError "kernel" with that when it fails */
export async function runProgram(helper: Helper, argv: readonly string[], why: string): Promise<string> {
  const { code, output } = await programResult(helper, argv, why);
  if (code === 0) return output;
  const said = output.trim().split("\n").slice(-6).join("; ");
  throw new EngineError("kernel", `${why}: ${argv[0]} ended with code ${code}: ${said === "" ? "it says nothing of why" : said}`, {
    details: { code, output },
  });
}
