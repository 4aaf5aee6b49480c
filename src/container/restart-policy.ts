/** When a container that ended is started again. Pure. @module */
import type { RestartPolicy } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 60_000;
/** A run this long means that the last start went well: the delay begins anew. */
const GOOD_RUN_MS = 10_000;

export interface RestartInput {
  readonly policy: RestartPolicy;
  readonly exitCode: number;
  /** Stopped or killed through the API. */
  readonly manuallyStopped: boolean;
  /** How often the policy has restarted it since somebody started it. */
  readonly restartCount: number;
  readonly ranMs: number;
  /** Delay before the last restart; 0 = none yet. */
  readonly lastDelayMs: number;
}

/** Delay before the restart in ms, or undefined: it stays ended. */
export function planRestart({ policy, exitCode, manuallyStopped, restartCount, ranMs, lastDelayMs }: RestartInput): number | undefined {
  if (manuallyStopped) return undefined;
  const failed = policy.Name === "on-failure" && exitCode !== 0 && (policy.MaximumRetryCount === 0 || restartCount < policy.MaximumRetryCount);
  if (policy.Name !== "always" && policy.Name !== "unless-stopped" && !failed) return undefined;
  return ranMs >= GOOD_RUN_MS || lastDelayMs === 0 ? FIRST_DELAY_MS : Math.min(lastDelayMs * 2, MAX_DELAY_MS);
}

/** Whether a daemon that starts finds this container to be started: it ran (or the policy is "always") when the last daemon ended. */
export function restartsWithDaemon(policy: RestartPolicy, exitCode: number, manuallyStopped: boolean, wasRunning: boolean): boolean {
  switch (policy.Name) {
    case "always":
      return true;
    case "unless-stopped":
      return !manuallyStopped;
    case "on-failure":
      return wasRunning && exitCode !== 0 && !manuallyStopped;
    default:
      return false;
  }
}

/** @throws EngineError "invalid" with Docker's texts */
export function validateRestartPolicy(policy: RestartPolicy): void {
  const { Name: name, MaximumRetryCount: count } = policy;
  if (!["", "no", "always", "unless-stopped", "on-failure"].includes(name)) {
    throw new EngineError("invalid", `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`);
  }
  const negative = count < 0 ? "; maximum retry count cannot be negative" : "";
  if (name !== "on-failure" && count !== 0)
    throw new EngineError("invalid", `invalid restart policy: maximum retry count can only be used with 'on-failure'${negative}`);
  if (count < 0) throw new EngineError("invalid", "invalid restart policy: maximum retry count cannot be negative");
}
