/**
 * What follows when a container's process has ended: its state, the resources that it held, the restart policy, `--rm`.
 * @module
 */
import type { Container } from "#container/container.ts";
import { exitReason } from "#container/exit-reason.ts";
import { memoryPeak } from "#cgroup/memory-peak.ts";
import { parsePressure } from "#cgroup/v2/stats.ts";
import { refusedCalls } from "#linux/seccomp-log.ts";
import { parseSecurityOptions } from "#runtime/security-options.ts";
import { planRestart } from "#container/restart-policy.ts";
import { isRunning, toExited } from "#container/state.ts";
import { nowNs, rfc3339Nano, systemClock } from "#core/clock.ts";
import { parseRfc3339Nano } from "#container/logs/json-line.ts";
import { isEngineError } from "#core/errors.ts";
import type { ExitRecord, MonitorLink } from "#linux/helper.ts";
import { noAddresses } from "#network/mod.ts";
import { afterEnd } from "./container-hooks.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";
import { unmountSources } from "./host-mounts.ts";
import { endHealthChecks } from "./health-check.ts";
import { removeEnded } from "./remove-container.ts";
import { tellEndOfUse } from "./use-events.ts";

/** What is known of an end when the monitor was lost with it. */
const LOST_CODE = 255;

/** Waits (in the background) for the end of this run. */
export function watchExit(ctx: EngineContext, container: Container, link: MonitorLink): void {
  const { run } = container;
  link.onOom = () => tellOom(ctx, container, run);
  link.onPressure = (text) => tellPressure(ctx, container, run, text);
  ctx.background.addEndless(
    `the end of container ${container.id}`,
    link.exited.then(
      (exit) => container.mutex.run(() => endLocked(ctx, container, run, exit)),
      (error: Error) => container.mutex.run(() => endLocked(ctx, container, run, { code: LOST_CODE, signal: 0, atNs: nowNs(), reports: [] }, error.message)),
    ),
  );
}

/** A process of the container was killed for want of memory; as with Docker, `inspect` says so from now on. */
function tellOom(ctx: EngineContext, container: Container, run: number): void {
  if (container.run !== run || !isRunning(container.state) || ctx.closing) return;
  container.setState({ ...container.state, oomKilled: true });
  publishContainerEvent(ctx, container, "oom");
}

/** Not an event of Docker's. Percent of the last ten seconds in which some process, or all of them, waited for memory. */
function tellPressure(ctx: EngineContext, container: Container, run: number, text: string): void {
  const pressure = parsePressure(text);
  if (container.run !== run || !isRunning(container.state) || ctx.closing || pressure === undefined) return;
  publishContainerEvent(ctx, container, "pressure", { resource: "memory", some: String(pressure.some.avg10), full: String(pressure.full.avg10) });
}

/** With the mutex held. `lost`: why nobody knows how it ended. */
export async function endLocked(ctx: EngineContext, container: Container, run: number, exit: ExitRecord, lost?: string): Promise<void> {
  if (container.run !== run || !isRunning(container.state) || ctx.closing) return;
  endHealthChecks(container);
  const { record } = container;
  const oomKilled = ctx.cgroups.wasOomKilled(exit.reports);
  const sentBy = container.sentBy !== undefined && (exit.signal === 0 || exit.signal === container.sentBy.signal) ? container.sentBy.by : undefined;
  const refused = await refusedOf(ctx, record, exit);
  const reason =
    lost ??
    exitReason({
      code: exit.code,
      signal: exit.signal,
      oomKilled,
      memoryLimit: record.hostConfig.Memory,
      memoryPeak: memoryPeak(exit.reports),
      sentBy,
      refused,
    });
  const killed = killBeyond(ctx, record);
  leave(ctx, container, killed);
  const ranNs = exit.atNs - (parseRfc3339Nano(record.state.startedAt) ?? exit.atNs);
  const restart = record.hostConfig.AutoRemove
    ? undefined
    : planRestart({
        policy: record.hostConfig.RestartPolicy,
        exitCode: exit.code,
        manuallyStopped: record.manuallyStopped,
        restartCount: record.restartCount,
        ranMs: Number(ranNs / 1_000_000n),
        lastDelayMs: container.lastDelayMs,
      });
  const exited = toExited(record.state, { code: exit.code, oomKilled, at: rfc3339Nano(exit.atNs), reason, ...(refused.length === 0 ? {} : { refused }) });
  const { record: ended } = container;
  container.set({
    state: restart === undefined ? exited : { ...exited, status: "restarting" },
    endpoints: stopped(record.endpoints),
    ports: {},
    cgroup: undefined,
  });
  if (oomKilled && !record.state.oomKilled) publishContainerEvent(ctx, container, "oom");
  if (refused.length > 0) publishContainerEvent(ctx, container, "seccomp", { refused: refused.join(",") });
  publishContainerEvent(ctx, container, "die", { exitCode: String(exit.code), execDuration: String(ranNs / 1_000_000_000n) });
  tellEndOfUse(ctx, ended);
  if (record.hostConfig.AutoRemove && !container.removing) {
    await removeEnded(ctx, container, () => free(ctx, ended, killed));
    return;
  }
  // A port, an address, a mount: who waits for the end may want them for himself.
  const early = holdsForOthers(record);
  if (early) await free(ctx, ended, killed);
  // How it ended is on the exec root; that it was stopped, and so is not to be restarted, is not.
  const { Name: policy = "no" } = record.hostConfig.RestartPolicy;
  const stored = policy === "no" || policy === "" ? ctx.records.saveSoon(container.record) : ctx.records.save(container.record);
  ctx.background.add(`storing container ${container.id}`, stored);
  container.notifyExit();
  if (restart !== undefined) scheduleRestart(ctx, container, restart);
  if (!early) await free(ctx, ended, killed);
}

/** Whether it had what another container, or its user, could be waiting for. */
function holdsForOthers({ hostConfig, mounts }: Container["record"]): boolean {
  const { NetworkMode: network, PidMode: pid, DeviceRequests: devices } = hostConfig;
  return network !== "none" || pid !== "" || mounts.length > 0 || (devices?.length ?? 0) > 0;
}

/** Which system calls its filter refused; only of a container that was started with `seccomp-audit`, whose last report is its audit session. */
async function refusedOf(ctx: EngineContext, { hostConfig, name }: Container["record"], exit: ExitRecord): Promise<string[]> {
  const session = exit.reports.at(-1)?.trim() ?? "";
  if (!parseSecurityOptions(hostConfig.SecurityOpt).seccompAudit || !/^[0-9]+$/.test(session)) return [];
  try {
    const calls = await refusedCalls(session);
    return calls.filter((call) => !absentCalls.has(call));
  } catch (error) {
    if (!isEngineError(error)) throw error;
    ctx.log("warn", `which system calls were refused to ${name} is not known: ${error.message}`);
    return [];
  }
}

/** Answered with ENOSYS on purpose: libc does it another way, and nobody misses it. */
const absentCalls = new Set(["clone3"]);

/** Processes of a container that shares its pid namespace outlive its first one. */
async function killBeyond(ctx: EngineContext, record: Container["record"]): Promise<void> {
  if (record.cgroup !== undefined && record.hostConfig.PidMode !== "") await allOf(ctx, record, [ctx.cgroups.kill(record.cgroup)]);
}

/** Gives back what only a running container has, and others may want. */
async function free(ctx: EngineContext, record: Container["record"], killed: Promise<void>): Promise<void> {
  await allOf(ctx, record, [ctx.networks.leave(record.id), unmountSources(ctx, record), afterEnd(ctx, record), killed]);
}

/** What is nobody's but the container's: its monitor takes the mounts down, and removes the cgroups if it has been told of them and they are empty. */
function leave(ctx: EngineContext, container: Container, killed: Promise<void>): void {
  const { record, link } = container;
  const done = (async () => {
    await killed;
    if ((await link?.left) !== true && record.cgroup !== undefined) await allOf(ctx, record, [ctx.cgroups.remove(record.cgroup)]);
  })();
  const clear = () => {
    link?.letGo();
    return done;
  };
  container.link = undefined;
  container.clearLast = clear;
  const forgotten = done.then(() => {
    if (container.clearLast === clear) container.clearLast = undefined;
  });
  ctx.background.add(`what the end of container ${container.id} leaves`, forgotten);
}

/** Failures are told to the log: the sweep of the next start tries again. */
async function allOf(ctx: EngineContext, record: Container["record"], steps: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(steps))
    if (result.status === "rejected") ctx.log("warn", `after the end of ${record.name}: ${(result.reason as Error).message}`);
}

/** Addresses of a stopped container are no longer its own. */
function stopped(endpoints: Container["record"]["endpoints"]): Container["record"]["endpoints"] {
  return Object.fromEntries(
    Object.entries(endpoints).map(([name, { HostInterface: _gone, ...endpoint }]) => [
      name,
      {
        ...endpoint,
        EndpointID: "",
        ...noAddresses,
      },
    ]),
  );
}

/** Starts the container again after the delay, unless somebody stops, starts or removes it meanwhile. */
export function scheduleRestart(ctx: EngineContext, container: Container, delayMs: number): void {
  const cancel = new AbortController();
  const mine = { cancel, delayMs };
  container.restart = mine;
  container.lastDelayMs = delayMs;
  const again = async () => {
    await systemClock.sleep(delayMs, cancel.signal).catch(() => undefined); // aborted: seen below
    await container.mutex.run(async () => {
      if (container.restart !== mine || ctx.closing) return;
      container.set({ restartCount: container.record.restartCount + 1 });
      await ctx.start(container);
    });
  };
  ctx.background.addEndless(
    `restarting container ${container.id}`,
    again().catch((error: unknown) => {
      if (!isEngineError(error)) throw error;
      ctx.log("warn", `container ${container.record.name} cannot be restarted: ${error.message}`);
    }),
  );
}
