/** `wait`: for an end or a removal. @module */
import type { Container, WaitResult } from "#container/container.ts";
import { beyondCode } from "#container/exit-reason.ts";
import { healthCheckOf } from "#container/health/health-check.ts";
import { isActive, isRunning } from "#container/state.ts";
import { EngineError } from "#core/errors.ts";
import type { EngineContext } from "./context.ts";
import type { WaitCondition } from "./mod.ts";

export function waitContainer(ctx: EngineContext, name: string, condition: WaitCondition, signal?: AbortSignal): Promise<WaitResult> {
  const container = ctx.registry.get(name);
  if (condition === "healthy") return waitHealthy(container, signal);
  const { exitCode, error } = container.state;
  const reason = beyondCode(container.state.reason, exitCode);
  if (condition === "not-running" && !isActive(container.state))
    return Promise.resolve({ exitCode, ...(error === "" ? {} : { error }), ...(reason === undefined ? {} : { reason }) });
  return new Promise((resolve, reject) => {
    const cancelled = () => {
      stop();
      reject(new EngineError("cancelled", "the wait was given up", { cause: signal?.reason }));
    };
    const settle = (result: WaitResult) => {
      signal?.removeEventListener("abort", cancelled);
      resolve(result);
    };
    const stop = condition === "removed" ? container.onRemoved(settle) : container.onExit(settle);
    if (signal?.aborted) cancelled();
    else signal?.addEventListener("abort", cancelled, { once: true });
  });
}

/** Resolves with exit code 0. @throws EngineError "conflict" when it has no health check, is unhealthy, or ends */
async function waitHealthy(container: Container, signal: AbortSignal | undefined): Promise<WaitResult> {
  if (healthCheckOf(container.record.config) === undefined)
    throw new EngineError("conflict", `container ${container.record.name} has no health check`, {
      hint: "give one: --health-cmd, --health-http or --health-tcp",
    });
  for (;;) {
    const { status, health, exitCode } = container.state;
    if (!isRunning(container.state) && status !== "restarting")
      throw new EngineError("conflict", `container ${container.record.name} is not running (exit code ${exitCode}): it has not become healthy`);
    if (health?.status === "healthy") return { exitCode: 0 };
    const last = health?.log.at(-1)?.output.trim();
    if (health?.status === "unhealthy")
      throw new EngineError("conflict", `container ${container.record.name} is unhealthy${last === undefined || last === "" ? "" : `: ${last}`}`);
    await change(container, signal);
  }
}

/** Of its health, or its end. */
function change(container: Container, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      for (const stop of stops) stop();
      signal?.removeEventListener("abort", end);
      if (signal?.aborted === true) reject(new EngineError("cancelled", "the wait was given up", { cause: signal.reason }));
      else resolve();
    };
    const stops = [container.onHealth(end), container.onExit(end)];
    signal?.addEventListener("abort", end, { once: true });
    if (signal?.aborted === true) end();
  });
}
