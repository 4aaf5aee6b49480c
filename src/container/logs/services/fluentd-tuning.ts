/** fluentd's options about time and room, checked when a container is made. @module */
import { parseBytes } from "#core/byte-size.ts";
import { parseDuration } from "#core/duration.ts";
import { EngineError } from "#core/errors.ts";

export interface FluentdTuning {
  /** Before the first further try; each pause after it is longer. */
  readonly retryWaitMs: number;
  /** Tries after the first; then the lines are given up. */
  readonly maxRetries: number;
  /** For an acknowledgement. */
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  /** Bytes of log that may wait; undefined: as `mode` says. */
  readonly bufferBytes: number | undefined;
  /** A connection that is older is made anew before the next batch; undefined: none is. */
  readonly reconnectMs: number | undefined;
}

const second = 1000;
const unlimited = 2 ** 32 - 1;

/** @throws EngineError "invalid" in docker's words */
export function fluentdTuning(options: Readonly<Record<string, string>>): FluentdTuning {
  const milliseconds = (key: string): number | undefined => {
    const text = options[key] ?? "";
    if (text === "") return undefined;
    const ns = parseDuration(text);
    if (ns === undefined || ns < 0) throw new EngineError("invalid", `invalid value for ${key}: time: invalid duration "${text}"`);
    return ns / 1e6;
  };
  const reconnectMs = milliseconds("fluentd-async-reconnect-interval");
  if (reconnectMs !== undefined && reconnectMs !== 0 && (reconnectMs < 100 || reconnectMs > 10 * second))
    throw new EngineError(
      "invalid",
      `invalid value for fluentd-async-reconnect-interval: value (${options["fluentd-async-reconnect-interval"]}) must be between 100ms and 10s`,
    );
  const retries = options["fluentd-max-retries"] ?? "";
  if (retries !== "" && (!/^\d{1,10}$/.test(retries) || Number(retries) > unlimited))
    throw new EngineError("invalid", `invalid value for fluentd-max-retries: ${retries}`);
  const limit = options["fluentd-buffer-limit"] ?? "";
  const bufferBytes = limit === "" ? undefined : parseBytes(limit);
  if (limit !== "" && (bufferBytes === undefined || bufferBytes === 0)) throw new EngineError("invalid", `invalid value for fluentd-buffer-limit: ${limit}`);
  return {
    retryWaitMs: milliseconds("fluentd-retry-wait") || second,
    maxRetries: retries === "" ? unlimited : Number(retries),
    readTimeoutMs: milliseconds("fluentd-read-timeout") || 30 * second,
    writeTimeoutMs: milliseconds("fluentd-write-timeout") || 30 * second,
    bufferBytes,
    reconnectMs: reconnectMs || undefined,
  };
}
