/**
 * The states of a container and the steps between them. Each function returns a new state.
 *
 *     created ─start→ running ⇄ paused          running ─exit→ exited | restarting
 *     exited ─start→ running                    restarting ─(delay)→ running
 *     any but running, paused ─rm→ removing ─(failed)→ dead
 * @module
 */
import { zeroTime } from "#core/clock.ts";
import type { ContainerState } from "./mod.ts";

export const createdState: ContainerState = {
  status: "created",
  oomKilled: false,
  dead: false,
  pid: 0,
  startTime: "",
  exitCode: 0,
  error: "",
  startedAt: zeroTime,
  finishedAt: zeroTime,
  reason: "",
};

/** Has processes: running or frozen. */
export function isRunning(state: ContainerState): boolean {
  return state.status === "running" || state.status === "paused";
}

/** As `docker wait` means it: a container between two restarts still counts. */
export function isActive(state: ContainerState): boolean {
  return isRunning(state) || state.status === "restarting";
}

export function toRunning(state: ContainerState, process: { readonly pid: number; readonly startTime: bigint; readonly at: string }): ContainerState {
  const { refused: _before, ...rest } = state;
  return {
    ...rest,
    status: "running",
    oomKilled: false,
    dead: false,
    pid: process.pid,
    startTime: process.startTime.toString(),
    exitCode: 0,
    error: "",
    startedAt: process.at,
    reason: "",
  };
}

export function toExited(
  state: ContainerState,
  exit: { readonly code: number; readonly oomKilled: boolean; readonly at: string; readonly reason: string; readonly refused?: readonly string[] },
): ContainerState {
  const { refused: _before, ...rest } = state;
  return {
    ...rest,
    ...(exit.refused === undefined ? {} : { refused: exit.refused }),
    status: "exited",
    pid: 0,
    startTime: "",
    exitCode: exit.code,
    oomKilled: exit.oomKilled,
    finishedAt: exit.at,
    reason: exit.reason,
  };
}

/** A start that failed: the container stays what it was, with the error and Docker's code for it. */
export function toStartFailed(state: ContainerState, code: number, error: string): ContainerState {
  return { ...state, status: state.status === "created" ? "created" : "exited", pid: 0, startTime: "", exitCode: code, error, reason: error };
}
