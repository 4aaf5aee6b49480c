/** Errors as containerd, dockerd and podman read them: a line on standard error, and one of JSON (or text) in `--log`. @module */
import { appendFileSync } from "node:fs";
import { EngineError } from "#core/errors.ts";
import { PlanError } from "#linux/helper.ts";
import { renderPlanError } from "#runtime/mod.ts";
import type { RuntimeIo } from "./io.ts";

export interface LogOptions {
  readonly path: string | undefined;
  readonly json: boolean;
}

/** What to tell of any error. */
export function messageOf(error: unknown): string {
  if (error instanceof PlanError) return messageOf(renderPlanError(atExec(error), { action: "exec" })).replace(/^OCI runtime exec failed: exec failed: /, "");
  if (error instanceof EngineError) return error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
  return error instanceof Error ? error.message : String(error);
}

/** `exec_gate` asks what `exec` would answer: its failure is told as exec's. */
function atExec(error: PlanError): PlanError {
  if (error.plan.steps[error.step]?.op !== "exec_gate" || !["ENOENT", "EACCES"].includes(error.errno)) return error;
  const exec = error.plan.steps.findIndex((step) => step.op === "exec");
  return exec < 0 ? error : new PlanError(error.plan, exec, error.errnoNumber, error.errno);
}

export function logError(error: unknown, { path, json }: LogOptions, io: RuntimeIo): void {
  const message = messageOf(error);
  const time = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  if (path !== undefined && path !== "") {
    const line = json ? JSON.stringify({ level: "error", msg: message, time }) : `time="${time}" level=error msg=${JSON.stringify(message)}`;
    appendFileSync(path, `${line}\n`, { mode: 0o600 });
  }
  io.err(`${message}\n`);
}
