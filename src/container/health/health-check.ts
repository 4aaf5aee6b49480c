/**
 * What a container's HEALTHCHECK asks for, with Docker's defaults filled in. Pure.
 * @module
 */
import type { ContainerConfig } from "#core/container-config.ts";
import { type NetworkTest, parseHttpTest, parseTcpTest } from "./network-probe.ts";

export interface HealthCheck {
  /** A command in the container, or what is connected to in its network. */
  readonly probe: readonly string[] | NetworkTest;
  /** From the end of a probe to the start of the next; also before the first. */
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Failures in a row that make it unhealthy. */
  readonly retries: number;
  /** How long after the start failures do not count, as long as none has succeeded. */
  readonly startPeriodMs: number;
  /** In place of the interval while it is within the start period and has not been healthy. */
  readonly startIntervalMs: number;
}

const SECOND = 1000;
/** A longer timer would fire at once: Node keeps milliseconds in 31 bits. */
const LONGEST_MS = 2 ** 31 - 1;

/** undefined: it has none, or says NONE, or what Docker does not know either ({@link unknownTest}). */
export function healthCheckOf({ Healthcheck: health, Shell: shell }: Pick<ContainerConfig, "Healthcheck" | "Shell">): HealthCheck | undefined {
  const [type, ...command] = health?.Test ?? [];
  if (health === undefined || type === undefined || !testTypes.includes(type)) return undefined;
  return {
    probe: probeOf(type, command, shell),
    intervalMs: milliseconds(health.Interval, 30 * SECOND),
    timeoutMs: milliseconds(health.Timeout, 30 * SECOND),
    retries: health.Retries || 3,
    startPeriodMs: milliseconds(health.StartPeriod, 0),
    startIntervalMs: milliseconds(health.StartInterval, 5 * SECOND),
  };
}

const testTypes = ["CMD", "CMD-SHELL", "HTTP", "TCP"];

/** @throws EngineError "invalid" for an address that is none */
function probeOf(type: string, command: readonly string[], shell: readonly string[] | null | undefined): HealthCheck["probe"] {
  if (type === "HTTP") return parseHttpTest(command[0] ?? "", command[1]);
  if (type === "TCP") return parseTcpTest(command[0] ?? "");
  return type === "CMD" ? command : [...(shell?.length ? shell : ["/bin/sh", "-c"]), ...command];
}

/** The first word of a test that is none of Docker's or ours. */
export function unknownTest({ Healthcheck: health }: Pick<ContainerConfig, "Healthcheck">): string | undefined {
  const type = health?.Test?.[0];
  return type === undefined || type === "NONE" || testTypes.includes(type) ? undefined : type;
}

function milliseconds(ns: number | undefined, otherwise: number): number {
  return ns === undefined || ns === 0 ? otherwise : Math.min(ns / 1e6, LONGEST_MS);
}
