/**
 * What a starting engine makes of what it finds: containers that went on while no engine ran, those that ended meanwhile, and the leavings of crashes.
 * @module
 */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Container } from "#container/container.ts";
import { restartsWithDaemon } from "#container/restart-policy.ts";
import { isActive, isRunning, toExited } from "#container/state.ts";
import { exitReason } from "#container/exit-reason.ts";
import { nowNs, rfc3339Nano } from "#core/clock.ts";
import { errnoOf } from "#core/errors.ts";
import { readExitRecord } from "#linux/exit-record.ts";
import { memoryPeak } from "#cgroup/memory-peak.ts";
import type { ExitRecord, MonitorLink } from "#linux/helper.ts";
import { afterEnd } from "./container-hooks.ts";
import { type EngineContext, monitorDirectory, monitorFiles, publishContainerEvent } from "./context.ts";
import { scheduleRestart, watchExit } from "./end-container.ts";
import { parseEgress } from "#network/mod.ts";
import { endHealthChecks, resumeHealthChecks } from "./health-check.ts";
import { restoreHostMounts } from "./host-mounts.ts";
import { keepLog } from "./keep-log.ts";
import { removeContainer, removeEnded } from "./remove-container.ts";
import { unlinkIfThere } from "#linux/unlink-if-there.ts";
import { readPidFile } from "./pid-file.ts";
import type { StartedNetworks } from "./start-container.ts";

/** Loads every record, finds the processes, and cleans up. Restart policies are applied by {@link restartContainers}, when all is known. */
export async function restore(ctx: EngineContext): Promise<void> {
  const { records, broken } = await ctx.records.load();
  for (const name of broken) await ctx.records.discard(name);
  const found = new Set((await ctx.layers.driver.list()).active);
  const containers = records.map((record) => ctx.registry.add(record));
  await Promise.all(containers.map((container) => findProcess(ctx, container)));
  const running = containers.filter((c) => isRunning(c.state));
  await sweepStrayCgroups(
    ctx,
    containers.filter((c) => !isRunning(c.state)),
  );
  await restoreHostMounts(ctx, running);
  const lost = await ctx.networks.restore(
    running.map(({ record: { id, name, endpoints, ports, networkingConfig, hostConfig } }) => ({
      containerId: id,
      containerName: name,
      endpoints: Object.values(endpoints),
      ports,
      asked: networkingConfig.EndpointsConfig,
      ...(hostConfig.WherryEgress && { egress: parseEgress(hostConfig.WherryEgress) }),
    })),
  );
  for (const { containerId, networkId } of lost) forgetEndpoint(ctx, ctx.registry.get(containerId), networkId);
  for (const container of containers) {
    keepLog(ctx, container, container.link);
    if (container.link === undefined) continue;
    watchExit(ctx, container, container.link);
    const { id, name, hostConfig } = container.record;
    ctx.background.add(`serving names to ${name}`, ctx.networks.serveNames(id, container.link, hostConfig.Dns));
    resumeHealthChecks(ctx, container);
  }
  ctx.background.add("sweeping what crashes have left", sweep(ctx, found));
}

/** Whether the container runs is what its monitor's files say; the record may be behind them in both directions. */
async function findProcess(ctx: EngineContext, container: Container): Promise<void> {
  const { state, id } = container.record;
  const { socketPath, pidPath, exitPath } = monitorFiles(ctx.options, id);
  const started = (await readPidFile(pidPath)) !== undefined;
  const link = started ? await ctx.helper.reconnect(socketPath, pidPath, exitPath) : undefined;
  if (link !== undefined) {
    await adopt(ctx, container, link);
    return;
  }
  const exit = started ? await readExitRecord(exitPath) : undefined;
  // An end that the record knows already has the record's time.
  const news = exit !== undefined && rfc3339Nano(exit.atNs) !== state.finishedAt;
  if (isActive(state) || news) await recordEnd(ctx, container, news ? exit : undefined);
}

/**
 * Cgroups of containers that have no process: a crash has cut a start short before it was written down, and no record names what it had made. They go
 * before the container's next start, and hold up nobody else's.
 */
async function sweepStrayCgroups(ctx: EngineContext, containers: readonly Container[]): Promise<void> {
  const there = new Set((await ctx.cgroups.orphans(new Set())).flatMap(({ dirs }) => Object.values(dirs)));
  for (const container of containers) {
    const { id, name, hostConfig } = container.record;
    if (there.size === 0 && hostConfig.CgroupParent === "") continue;
    const { paths } = ctx.cgroups.plan(hostConfig.CgroupParent, id, {}, 1);
    if (!Object.values(paths.dirs).some((dir) => there.has(dir) || (hostConfig.CgroupParent !== "" && existsSync(dir)))) continue;
    const remove = async () => {
      await ctx.cgroups.kill(paths);
      await ctx.cgroups.remove(paths);
    };
    ctx.background.add(`removing the cgroup that a start of ${name} has left`, container.mutex.run(remove));
  }
}

/** The container is on the network no more; what was asked for holds for its next start. */
function forgetEndpoint(ctx: EngineContext, container: Container, networkId: string): void {
  const { endpoints, id, name } = container.record;
  const left = Object.entries(endpoints).filter(([, { NetworkID }]) => NetworkID !== networkId);
  ctx.log("warn", `container ${name} is not connected to network ${networkId.slice(0, 12)} any more: its interface is gone`);
  container.set({ endpoints: Object.fromEntries(left) });
  ctx.background.add(`storing container ${id}`, ctx.records.save(container.record));
}

/** It goes on. A record from before the start lacks what the start has found out. */
async function adopt(ctx: EngineContext, container: Container, link: MonitorLink): Promise<void> {
  const { record } = container;
  container.link = link;
  container.run = 1;
  const same = isRunning(record.state) && record.state.pid === link.pid && record.state.startTime === link.startTime.toString();
  if (same) return;
  const { health: _ofAnEarlierRun, ...state } = record.state;
  container.setState({
    ...state,
    status: "running",
    pid: link.pid,
    startTime: link.startTime.toString(),
    exitCode: 0,
    error: "",
    startedAt: rfc3339Nano(nowNs()),
  });
  container.set({
    ...(await startedNetworks(ctx, record.id)),
    cgroup: record.cgroup ?? ctx.cgroups.plan(record.hostConfig.CgroupParent, record.id, {}, 1).paths,
  });
  ctx.background.add(`storing container ${record.id}`, ctx.records.save(container.record));
}

async function startedNetworks(ctx: EngineContext, id: string): Promise<Partial<StartedNetworks>> {
  try {
    return JSON.parse(await readFile(monitorFiles(ctx.options, id).networkPath, "utf8")) as StartedNetworks; // written whole before the program ran, in a directory of ours
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return {};
    throw error;
  }
}

/** Code of a container of which nobody knows how it ended: the host was restarted, or its monitor killed. */
const UNKNOWN_CODE = 255;

async function recordEnd(ctx: EngineContext, container: Container, exit: ExitRecord | undefined): Promise<void> {
  endHealthChecks(container);
  const { record } = container;
  const oomKilled = exit !== undefined && ctx.cgroups.wasOomKilled(exit.reports);
  const reason =
    exit === undefined
      ? "ended while no engine was running; how is not known"
      : exitReason({
          code: exit.code,
          signal: exit.signal,
          oomKilled,
          memoryLimit: record.hostConfig.Memory,
          sentBy: undefined,
          memoryPeak: memoryPeak(exit.reports),
        });
  const code = exit?.code ?? UNKNOWN_CODE;
  container.set({ state: toExited(record.state, { code, oomKilled, at: rfc3339Nano(exit?.atNs ?? nowNs()), reason }), ports: {}, cgroup: undefined });
  if (record.cgroup !== undefined) {
    await ctx.cgroups.kill(record.cgroup);
    await ctx.cgroups.remove(record.cgroup);
  }
  await afterEnd(ctx, record);
  publishContainerEvent(ctx, container, "die", { exitCode: String(code), execDuration: "0" });
  await ctx.records.save(container.record);
  endedMeanwhile.add(container);
}

/** Containers that ran when the last engine saw them and do not now. */
const endedMeanwhile = new WeakSet<Container>();

/** Steps of builds go, whether they run or not; `--rm` containers that have ended go; those whose policy wants it start again. */
export async function restartContainers(ctx: EngineContext): Promise<void> {
  for (const container of [...ctx.registry.all()]) {
    const { record } = container;
    if (record.build === true) {
      ctx.background.add(`removing the build step ${record.id}`, removeContainer(ctx, record.id, { force: true, volumes: true }));
      continue;
    }
    if (isRunning(record.state) || (record.state.status === "created" && !record.hostConfig.AutoRemove)) continue;
    if (record.hostConfig.AutoRemove) {
      // One that was created and not started yet may still be: its maker may only be slow.
      if (record.state.status !== "created") await container.mutex.run(() => removeEnded(ctx, container));
      continue;
    }
    if (record.state.status === "removing" || record.state.dead) continue;
    const { RestartPolicy } = record.hostConfig;
    if (restartsWithDaemon(RestartPolicy, record.state.exitCode, record.manuallyStopped, endedMeanwhile.has(container))) scheduleRestart(ctx, container, 0);
  }
}

/** The snapshots that containers have, and all that come into being after `found` was read: a container may be on its way while the sweep goes on. */
class KeptSnapshots extends Set<string> {
  readonly #found: ReadonlySet<string>;

  constructor(found: ReadonlySet<string>, known: Iterable<string>) {
    super(known);
    this.#found = found;
  }

  override has(key: string): boolean {
    return super.has(key) || !this.#found.has(key);
  }
}

/** Ids of the containers there are at the moment of the question. */
class LiveIds extends Set<string> {
  readonly #ctx: EngineContext;

  constructor(ctx: EngineContext) {
    super();
    this.#ctx = ctx;
  }

  override has(id: string): boolean {
    return this.#ctx.registry.has(id);
  }
}

/** Everything that no container names. `found`: the snapshots that were there when nobody could have asked for one yet. */
async function sweep(ctx: EngineContext, found: ReadonlySet<string>): Promise<void> {
  const ids = new LiveIds(ctx);
  const snapshots = new KeptSnapshots(
    found,
    [...ctx.registry.all()].map(({ record }) => record.snapshot),
  );
  const steps: Record<string, () => Promise<unknown>> = {
    cgroups: async () => {
      for (const paths of await ctx.cgroups.orphans(ids)) {
        await ctx.cgroups.kill(paths);
        await ctx.cgroups.remove(paths);
      }
    },
    "monitor files": () => sweepMonitorFiles(ctx),
    snapshots: () => ctx.layers.driver.sweep(snapshots),
    images: () => ctx.images.sweep(),
    blobs: () => ctx.content.sweep(),
    volumes: () => ctx.volumes.sweep(),
    trash: () => ctx.records.emptyTrash(),
  };
  for (const [what, step] of Object.entries(steps)) {
    await step().catch((error: unknown) => ctx.log("warn", `sweeping ${what}: ${error instanceof Error ? error.message : String(error)}`));
  }
}

/** Files of containers that are gone, and of execs whose process has ended. */
async function sweepMonitorFiles(ctx: EngineContext): Promise<void> {
  const directory = monitorDirectory(ctx.options);
  const bases = new Set((await readdir(directory)).map((name) => name.replace(/\..*$/, "")));
  // After the files were listed: whoever has been started meanwhile is among these.
  const known = new Set([...ctx.registry.all()].map(({ id }) => id.slice(0, 24)));
  for (const base of bases) {
    const [container = "", exec] = base.split("-");
    if (exec === undefined && known.has(container)) continue;
    const path = join(directory, base);
    const unlinkAll = () => Promise.all([".sock", ".pid", ".exit", ".net", ".pid.tmp", ".exit.tmp"].map((ending) => unlinkIfThere(path + ending)));
    const link = exec === undefined ? undefined : await ctx.helper.reconnect(`${path}.sock`, `${path}.pid`, `${path}.exit`);
    if (link === undefined) await unlinkAll();
    else ctx.background.addEndless(`files of exec ${base}`, link.exited.then(unlinkAll, unlinkAll));
  }
}
