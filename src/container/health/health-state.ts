/**
 * How probes change a container's health. Each function returns a new state.
 *
 *     starting ─success→ healthy ⇄ unhealthy        starting ─failures→ unhealthy
 * @module
 */
import type { HealthState } from "#container/mod.ts";
import { rfc3339Nano } from "#core/clock.ts";
import type { HealthCheck } from "./health-check.ts";

/** Docker keeps that many. */
const LOG_LENGTH = 5;

export interface ProbeResult {
  /** Milliseconds since 1970. */
  readonly startMs: number;
  readonly endMs: number;
  /** -1: there was none, the output says why. */
  readonly exitCode: number;
  readonly output: string;
}

/** A container that has just started. The log of earlier runs stays, as in Docker. */
export function startingHealth(earlier: HealthState | undefined): HealthState {
  return { status: "starting", failingStreak: 0, log: earlier?.log ?? [] };
}

/** Nobody probes any more: paused or ended. Docker says "unhealthy" then. */
export function unprobedHealth(health: HealthState): HealthState {
  return { ...health, status: "unhealthy" };
}

export function afterProbe(health: HealthState, check: HealthCheck, probe: ProbeResult, startedAtMs: number): HealthState {
  const log = [
    ...health.log.slice(1 - LOG_LENGTH),
    { start: timeText(probe.startMs), end: timeText(probe.endMs), exitCode: probe.exitCode, output: probe.output },
  ];
  if (probe.exitCode === 0) return { status: "healthy", failingStreak: 0, log };
  if (health.status === "starting" && probe.startMs - startedAtMs < check.startPeriodMs) return { ...health, log };
  const failingStreak = health.failingStreak + 1;
  return { status: failingStreak >= check.retries ? "unhealthy" : health.status, failingStreak, log };
}

/** How long to wait for the next probe. */
export function delayMs(health: HealthState, check: HealthCheck, nowMs: number, startedAtMs: number): number {
  const starting = health.status === "starting" && nowMs - startedAtMs < check.startPeriodMs;
  return starting ? check.startIntervalMs : check.intervalMs;
}

function timeText(ms: number): string {
  return rfc3339Nano(BigInt(Math.round(ms)) * 1_000_000n);
}
