/** Time as a seam, so that back-off and health checks are testable without waiting. @module */

/** Wall clock and timers. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Resolves after `ms`, rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The real clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const stop = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", stop);
        resolve();
      }, ms);
      signal?.addEventListener("abort", stop, { once: true });
    }),
};

/** Docker's "no time": `0001-01-01T00:00:00Z`. */
export const zeroTime = "0001-01-01T00:00:00Z";

/** RFC 3339 with nanoseconds, as Go prints it (trailing zeros dropped). `ns` = nanoseconds since 1970. */
export function rfc3339Nano(ns: bigint): string {
  const seconds = Number(ns / 1_000_000_000n);
  const fraction = (ns % 1_000_000_000n).toString().padStart(9, "0").replace(/0+$/, "");
  const base = new Date(seconds * 1000).toISOString().slice(0, 19);
  return fraction === "" ? `${base}Z` : `${base}.${fraction}Z`;
}

/** Now, in nanoseconds since 1970 (microsecond precision is what Node gives). */
export function nowNs(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
}
