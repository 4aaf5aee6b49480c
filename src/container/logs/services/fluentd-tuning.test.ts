import { describe, expect, it } from "vitest";
import { planDelivery, validateLogConfig } from "../log-drivers.ts";
import { fluentdTuning } from "./fluentd-tuning.ts";

describe("fluentd's tuning", () => {
  it("is docker's where nothing is said", () =>
    expect(fluentdTuning({})).toEqual({
      retryWaitMs: 1000,
      maxRetries: 2 ** 32 - 1,
      readTimeoutMs: 30_000,
      writeTimeoutMs: 30_000,
      bufferBytes: undefined,
      reconnectMs: undefined,
    }));

  it("takes Go's durations and sizes", () =>
    expect(
      fluentdTuning({
        "fluentd-retry-wait": "1.5s",
        "fluentd-max-retries": "3",
        "fluentd-read-timeout": "200ms",
        "fluentd-write-timeout": "1m",
        "fluentd-buffer-limit": "2k",
        "fluentd-async-reconnect-interval": "500ms",
      }),
    ).toEqual({ retryWaitMs: 1500, maxRetries: 3, readTimeoutMs: 200, writeTimeoutMs: 60_000, bufferBytes: 2048, reconnectMs: 500 }));

  it.each([
    ["fluentd-retry-wait", "1"],
    ["fluentd-read-timeout", "-1s"],
    ["fluentd-max-retries", "-1"],
    ["fluentd-max-retries", "99999999999"],
    ["fluentd-buffer-limit", "much"],
    ["fluentd-buffer-limit", "0"],
    ["fluentd-async-reconnect-interval", "1h"],
    ["fluentd-async-reconnect-interval", "1ms"],
  ])("%s=%s is refused when the container is made", (key, value) =>
    expect(() => validateLogConfig({ Type: "fluentd", Config: { [key]: value } })).toThrow(
      expect.objectContaining({ code: "invalid", message: expect.stringContaining(key) }),
    ),
  );

  it("a limit of the buffer is what may wait, in blocking mode too", () => {
    expect(planDelivery({ Type: "fluentd", Config: { "fluentd-buffer-limit": "1m" } })).toEqual({ dropAboveBytes: 2 ** 20 });
    expect(planDelivery({ Type: "fluentd", Config: {} })).toEqual({ dropAboveBytes: undefined });
    expect(planDelivery({ Type: "fluentd", Config: { mode: "non-blocking", "max-buffer-size": "2m", "fluentd-buffer-limit": "1m" } })).toEqual({
      dropAboveBytes: 2 ** 20,
    });
  });
});
