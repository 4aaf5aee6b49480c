/**
 * Health checks of running containers: probes are processes in the container, at the intervals that its HEALTHCHECK says. What they find is in the
 * container's state; it is stored when the status changes, and a daemon that starts again goes on from there.
 * @module
 */
import { readFile } from "node:fs/promises";
import { constants } from "node:os";
import type { Container } from "#container/container.ts";
import { type Probe, runCheckLoop } from "#container/health/check-loop.ts";
import { healthCheckOf } from "#container/health/health-check.ts";
import { startingHealth, unprobedHealth } from "#container/health/health-state.ts";
import { FramePayloads, ProbeOutput } from "#container/health/probe-output.ts";
import type { HealthState } from "#container/mod.ts";
import { systemClock } from "#core/clock.ts";
import { errnoOf, isEngineError } from "#core/errors.ts";
import type { MonitorLink } from "#linux/helper.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";
import { runUnlisted } from "./exec-container.ts";
import type { Exec } from "./exec-table.ts";
import { startNetworkProbe } from "./network-probe.ts";
import { killContainer, restartContainer, stopContainer } from "./stop-container.ts";

/** Of a container that has just started. */
export function beginHealthChecks(ctx: EngineContext, container: Container): void {
  if (healthCheckOf(container.record.config) === undefined) return;
  setHealth(container, startingHealth(container.state.health));
  resumeHealthChecks(ctx, container);
}

/** Of one that runs on: thawed, or found by a new daemon. Its status stays until a probe says otherwise. */
export function resumeHealthChecks(ctx: EngineContext, container: Container): void {
  const check = healthCheckOf(container.record.config);
  if (check === undefined || container.state.status !== "running") return;
  container.healthChecks?.abort();
  const stop = new AbortController();
  container.healthChecks = stop;
  const health = () => container.state.health ?? startingHealth(undefined);
  setHealth(container, health());
  const loop = runCheckLoop({
    clock: systemClock,
    check,
    startedAtMs: Date.parse(container.state.startedAt),
    health,
    changed: (now) => changed(ctx, container, health(), now),
    probe: () => ("port" in check.probe ? startNetworkProbe(ctx, container, check.probe, check.timeoutMs) : startProbe(ctx, container, check.probe)),
    stop: stop.signal,
  });
  ctx.background.addEndless(`health checks of container ${container.id}`, loop);
}

/** Paused, or ended. */
export function endHealthChecks(container: Container): void {
  container.healthChecks?.abort();
  container.healthChecks = undefined;
  const { health } = container.state;
  if (health !== undefined) setHealth(container, unprobedHealth(health));
}

function setHealth(container: Container, health: HealthState): void {
  container.setState({ ...container.state, health });
}

function changed(ctx: EngineContext, container: Container, before: HealthState, now: HealthState): void {
  setHealth(container, now);
  if (now.status === before.status) return;
  publishContainerEvent(ctx, container, `health_status: ${now.status}`);
  container.notifyHealth();
  if (now.status === "unhealthy") onFailure(ctx, container);
  ctx.background.add(`storing container ${container.id}`, ctx.records.save(container.record));
}

/** `--health-on-failure`, of the container that is running now: what is done takes longer than this probe may. */
function onFailure(ctx: EngineContext, container: Container): void {
  const action = container.record.hostConfig.WherryHealthOnFailure ?? "none";
  if (action === "none" || ctx.closing) return;
  const name = container.id;
  ctx.log("info", `container ${container.record.name} is unhealthy: ${action}`);
  const work = {
    restart: () => restartContainer(ctx, name),
    stop: () => stopContainer(ctx, name),
    kill: () => killContainer(ctx, name, "SIGKILL"),
  }[action]();
  ctx.background.addEndless(
    `${action} of unhealthy container ${container.record.name}`,
    work.catch((error: unknown) => {
      if (!isEngineError(error)) throw error;
      // Somebody was faster: it has ended, or is gone.
      if (error.code !== "not-modified" && error.code !== "not-found" && error.code !== "conflict") throw error;
    }),
  );
}

/** How long after a probe's end its output is read: a process that it left behind may hold it open for ever. */
const OUTPUT_GRACE_MS = 500;

function startProbe(ctx: EngineContext, container: Container, argv: readonly string[]): Probe {
  const { exec, stream, started } = runUnlisted(ctx, container, argv);
  const output = new ProbeOutput();
  const frames = new FramePayloads();
  stream.on("data", (chunk: Uint8Array) => {
    for (const payload of frames.read(chunk)) output.add(payload);
  });
  const closed = new Promise<void>((resolve) => {
    // An error of the stream ends the output, as its end does; the exit code is what counts.
    for (const event of ["end", "error", "close"]) stream.once(event, () => resolve());
  });
  let killed = false;
  const ended = async () => {
    try {
      await started;
      if (killed) killProbe(ctx, exec);
      const code = await exec.ended;
      await Promise.race([closed, systemClock.sleep(OUTPUT_GRACE_MS)]);
      return code;
    } finally {
      stream.destroy();
    }
  };
  return {
    ended: ended(),
    output: () => output.text,
    kill: () => {
      killed = true;
      killProbe(ctx, exec);
    },
  };
}

/** With all that it has started, unless that made a session of its own. Nothing happens while it has not started, or when it has ended. */
function killProbe(ctx: EngineContext, { link, record }: Exec): void {
  if (link === undefined) return;
  const kill = async () => {
    await killGroup(link);
    await link.kill(constants.signals.SIGKILL);
  };
  // One that has just started as the engine closes goes on to its end.
  const work = kill().catch((error: unknown) => {
    if (!ctx.closing) throw error;
  });
  ctx.background.add(`killing health check ${record.id}`, work);
}

/** If that pid is still the process that was started, and leads a group of its own. */
async function killGroup({ pid, startTime }: MonitorLink): Promise<void> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // Fields 5 and 22 of proc(5); the name before them may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[2] === String(pid) && fields[19] === startTime.toString()) process.kill(-pid, "SIGKILL");
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" && errnoOf(error) !== "ESRCH") throw error; // else it has ended
  }
}
