import type { Clock } from "#core/clock.ts";
import { EngineError } from "#core/errors.ts";
import { isTransient } from "./network.ts";

export interface RetryOptions {
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Told what went wrong before each wait. */
  readonly onWait?: ((why: string, ms: number) => void) | undefined;
}

/** How often something is tried, and the first wait between two tries; each further one doubles. */
export const maxAttempts = 5;
const firstWaitMs = 500;
/** A registry that wants longer waits is not waited for. */
export const longestWaitMs: number = 5 * 60_000;

/** Tries again what failed in a way that may pass: a broken connection, 5xx, 429 (for as long as its Retry-After says). */
export async function withRetries<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt >= maxAttempts || !isTransient(error)) throw error;
      await waitBefore(attempt, error, options);
    }
  }
}

/** Waits before try `attempt` + 1. Throws the error itself when the registry wants too long a wait. */
export async function waitBefore(attempt: number, error: unknown, { clock, signal, onWait }: RetryOptions): Promise<void> {
  const asked = error instanceof EngineError ? error.details["retryAfterMs"] : undefined;
  const ms = typeof asked === "number" ? asked : firstWaitMs * 2 ** (attempt - 1);
  if (ms > longestWaitMs) throw error;
  onWait?.(error instanceof Error ? error.message : String(error), ms);
  try {
    await clock.sleep(ms, signal);
  } catch (cause) {
    throw new EngineError("cancelled", "context canceled", { cause });
  }
}

/** `Retry-After` in milliseconds from now: seconds, or a date. */
export function retryAfterMs(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header.trim())) return Number(header.trim()) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
