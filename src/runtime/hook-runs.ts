/**
 * Hooks of the spec as a plan performs them: each is a program that reads the container's state on descriptor 0.
 * @module
 * @see runtime-spec config.md "POSIX-platform Hooks"
 */
import { EngineError } from "#core/errors.ts";
import type { OciSpec } from "#core/runtime-spec.ts";
import type { HookRun } from "./mod.ts";

export const hookKinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] as const;
export type HookKind = (typeof hookKinds)[number];

/** The state that hooks get, but for the pid. */
export interface HookState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: string;
  readonly bundle: string;
}

/** @throws EngineError "invalid" for a path that is not absolute, or a timeout that is none */
export function hooksOf(spec: OciSpec, kind: HookKind): NonNullable<OciSpec["hooks"]>[string] {
  const hooks = spec.hooks?.[kind] ?? [];
  for (const hook of hooks) {
    if (!hook.path?.startsWith("/")) throw new EngineError("invalid", `${kind} hook: path must be absolute: "${hook.path}"`);
    if (hook.timeout !== undefined && hook.timeout <= 0) throw new EngineError("invalid", `${kind} hook ${hook.path}: timeout must be greater than zero`);
  }
  return hooks;
}

/**
 * The pid is known only to who runs them: the one that the container's process has in its own namespace for the process's own hooks, that of the host for those
 * of the monitor. With a `pid` it is that one (0: there is no process any more).
 */
export function hookRuns(spec: OciSpec, kind: HookKind, state: HookState, pid?: number): HookRun[] {
  const encoder = new TextEncoder();
  const rest = JSON.stringify(state).slice(1);
  return hooksOf(spec, kind).map(({ path, args, env, timeout }) => ({
    path,
    args: args ?? [],
    env: env ?? [],
    head: encoder.encode(pid === undefined ? '{"pid":' : `{"pid":${pid},${rest}`),
    tail: encoder.encode(pid === undefined ? `,${rest}` : ""),
    timeoutMs: (timeout ?? 0) * 1000,
  }));
}
