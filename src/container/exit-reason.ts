/** Why a container ended, in words. @module */
import { constants } from "node:os";

const names = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** "SIGKILL" for 9; "signal 40" for one without a name. */
export function signalName(signal: number): string {
  return names.get(signal) ?? `signal ${signal}`;
}

/** Bytes as people say them: "64 MiB". */
function humanBytes(bytes: number): string {
  for (const [unit, size] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const)
    if (bytes >= size) return `${Number((bytes / size).toFixed(1))} ${unit}`;
  return `${bytes} bytes`;
}

/** One line: "exited 3", "killed by SIGKILL (wherry kill)", "out of memory: limit 64 MiB". `sentBy`: the request that sent that signal, if one did. */
export function exitReason(exit: {
  readonly code: number;
  readonly signal: number;
  readonly oomKilled: boolean;
  readonly memoryLimit: number;
  readonly sentBy: string | undefined;
  /** Bytes of memory that were used at most; undefined = not known. */
  readonly memoryPeak?: number | undefined;
  /** System calls that the seccomp filter refused, when that was asked for. */
  readonly refused?: readonly string[];
}): string {
  const { refused = [] } = exit;
  return `${ending(exit)}${refused.length === 0 ? "" : `; seccomp refused ${refused.join(", ")}`}`;
}

/** Why it ended, for who has the exit code already: undefined when that says it all, or nothing went wrong. */
export function beyondCode(reason: string, exitCode: number): string | undefined {
  return exitCode === 0 || reason === "" || reason === `exited ${exitCode}` ? undefined : reason;
}

function ending(exit: Parameters<typeof exitReason>[0]): string {
  if (exit.oomKilled && exit.signal === constants.signals.SIGKILL)
    return exit.memoryLimit > 0
      ? `out of memory: limit ${humanBytes(exit.memoryLimit)}${exit.memoryPeak === undefined ? "" : `, used ${humanBytes(exit.memoryPeak)}`}`
      : "out of memory";
  if (exit.signal !== 0) return `killed by ${signalName(exit.signal)}${exit.sentBy === undefined ? "" : ` (${exit.sentBy})`}`;
  const oom = exit.oomKilled ? ", after a process ran out of memory" : "";
  return `exited ${exit.code}${exit.sentBy === undefined ? "" : ` after ${exit.sentBy}`}${oom}`;
}
