/** Hooks of the spec: programs that get the container's state on standard input. @module */
import { spawn } from "node:child_process";
import { EngineError } from "#core/errors.ts";
import type { OciSpec } from "#core/runtime-spec.ts";
import { type HookKind, type HookRun, hookKinds, hookRuns, hooksOf } from "#runtime/mod.ts";
import type { RuntimeIo } from "./io.ts";
import type { OciState } from "./state.ts";

type Hook = NonNullable<OciSpec["hooks"]>[string][number];

/** Checks all of them before anything is made. */
export function checkHooks(spec: OciSpec): void {
  for (const kind of hookKinds) hooksOf(spec, kind);
}

/** poststart and poststop: a failure is told, and the others run (runtime.md "Lifecycle"). */
export async function runHooksAnyway(spec: OciSpec, kind: "poststart" | "poststop", state: OciState, io: RuntimeIo): Promise<void> {
  for (const hook of hooksOf(spec, kind)) {
    try {
      await runHook(hook, kind, JSON.stringify(state));
    } catch (error) {
      io.err(`${(error as Error).message}\n`);
    }
  }
}

/** Runs them in order, here in the runtime's namespaces. The first failure rejects. */
export async function runHooks(spec: OciSpec, kind: HookKind, state: OciState): Promise<void> {
  for (const hook of hooksOf(spec, kind)) await runHook(hook, kind, JSON.stringify(state));
}

function runHook({ path, args, env, timeout }: Hook, kind: HookKind, state: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (why: string, cause?: Error) =>
      reject(new EngineError("invalid", `error running ${kind} hook ${path}: ${why}`, cause === undefined ? {} : { cause }));
    const pairs = (env ?? []).map((entry): [string, string] => [entry.split("=", 1)[0] ?? "", entry.slice(entry.indexOf("=") + 1)]);
    const child = spawn(path, (args ?? []).slice(1), {
      argv0: args?.[0] ?? path,
      env: Object.fromEntries(pairs),
      stdio: ["pipe", "ignore", "pipe"],
      ...(timeout === undefined ? {} : { timeout: timeout * 1000, killSignal: "SIGKILL" }),
    });
    let complaint = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (complaint = (complaint + text).slice(-2000)));
    child.on("error", (error) => failed(error.message, error));
    child.on("exit", (code, signal) => {
      if (code === 0) resolve();
      else if (signal !== null && timeout !== undefined && child.killed) failed(`timed out after ${timeout} s`);
      else failed(`${signal === null ? `exit status ${code}` : `signal ${signal}`}${complaint === "" ? "" : `, stderr: ${complaint.trim()}`}`);
    });
    child.stdin?.on("error", () => {}); // it need not read its state
    child.stdin?.end(state);
  });
}

/** Hooks that the container's own process runs. */
export function containerHooks(spec: OciSpec, kind: "createContainer" | "startContainer", { pid: _pid, ...state }: OciState): HookRun[] {
  return hookRuns(spec, kind, state);
}
