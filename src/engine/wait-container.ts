/** `wait`: for an end or a removal. @module */
import type { WaitResult } from "#container/container.ts";
import { isActive } from "#container/state.ts";
import { EngineError } from "#core/errors.ts";
import type { EngineContext } from "./context.ts";
import type { WaitCondition } from "./mod.ts";

export function waitContainer(ctx: EngineContext, name: string, condition: WaitCondition, signal?: AbortSignal): Promise<WaitResult> {
  const container = ctx.registry.get(name);
  const { exitCode, error, oomKilled, reason, refused } = container.state;
  if (condition === "not-running" && !isActive(container.state))
    return Promise.resolve({ exitCode, ...(error === "" ? {} : { error }), ...(oomKilled || refused !== undefined ? { reason } : {}) });
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
