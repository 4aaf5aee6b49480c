/**
 * `start`: from a record to a running process. Whatever fails is undone, and the container says why.
 * @module
 */
import { constants } from "node:os";
import { parseSecurityOptions } from "#runtime/security-options.ts";
import { distinct } from "#cgroup/mod.ts";
import type { Container } from "#container/container.ts";
import { attrsJson, planDelivery, planLog } from "#container/logs/log-drivers.ts";
import { toRunning, toStartFailed } from "#container/state.ts";
import { nowNs, rfc3339Nano } from "#core/clock.ts";
import { type PortBinding, plainEndpoint } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { OciSpec } from "#core/runtime-spec.ts";
import { type LaunchRequest, type MonitorLink, PlanError } from "#linux/helper.ts";
import { NO_SLOT, type Plan, type Step } from "#linux/plan.ts";
import { type EndpointRecord, type JoinRequest, parseEgress, parseShaping } from "#network/mod.ts";
import { planContainer, renderPlanError, type ResolvedUser, seccompProgram, slots } from "#runtime/mod.ts";
import type { RootMount } from "#unionfs/mod.ts";
import { connectAll, endAll, launchedWith } from "./attach-stream.ts";
import { hostsFile, planContainerFiles, writeAnew } from "./container-files.ts";
import { afterEnd, afterStart, planHooksOf, withHooks, writeBundle } from "./container-hooks.ts";
import { joinedProcesses, specOf } from "./container-spec.ts";
import { type EngineContext, monitorFiles, publishContainerEvent } from "./context.ts";
import { tellUse } from "./use-events.ts";
import { watchExit } from "./end-container.ts";
import { mountSources, unmountSources } from "./host-mounts.ts";
import { keepLog, requireLogService } from "./keep-log.ts";
import { type PlannedStart, shapeOf } from "./known-starts.ts";
import { beginHealthChecks } from "./health-check.ts";
import { linkEnv, linkNames, refreshLinkers } from "./links.ts";
import type { DirectStdio } from "./mod.ts";
import { checkBindSource } from "./create-container.ts";
import { removeEnded } from "./remove-container.ts";
import { relabelMounts } from "./selinux.ts";
import { userOf } from "./resolve-user.ts";

export async function startContainer(ctx: EngineContext, name: string, options: { readonly direct?: DirectStdio } = {}): Promise<void> {
  const container = ctx.registry.get(name);
  await container.mutex.run(async () => {
    await startLocked(ctx, container, options.direct);
    container.lastDelayMs = 0;
    if (container.record.restartCount > 0) container.set({ restartCount: 0 });
  });
}

/** With the container's mutex held. @throws EngineError "not-modified" when it runs already */
export async function startLocked(ctx: EngineContext, container: Container, direct?: DirectStdio): Promise<void> {
  const { status } = container.state;
  if (container.removed) throw new EngineError("not-found", `No such container: ${container.id}`);
  if (container.removing || status === "removing" || status === "dead")
    throw new EngineError("conflict", "container is marked for removal and cannot be started");
  if (status === "paused") throw new EngineError("conflict", "cannot start a paused container, try unpause instead");
  if (status === "running") throw new EngineError("not-modified", `container ${container.record.name} is already running`);
  if (ctx.closing) throw new EngineError("unavailable", "the engine is shutting down");
  container.restart?.cancel.abort();
  container.restart = undefined;
  const pending = ctx.attaches.take(container.id);
  const started = await launch(ctx, container, pending, direct).catch(async (error: unknown) => {
    endAll(pending);
    const failure = asStartError(error);
    await recordFailure(ctx, container, failure);
    throw failure;
  });
  const { link } = started;
  container.link = link;
  container.run++;
  container.sentBy = undefined;
  container.set({
    ...started.change,
    state: toRunning(container.state, { pid: link.pid, startTime: link.startTime, at: started.at }),
    manuallyStopped: false,
  });
  beginHealthChecks(ctx, container);
  keepLog(ctx, container, link);
  ctx.background.add(`serving names to ${container.record.name}`, ctx.networks.serveNames(container.id, link, container.record.hostConfig.Dns));
  // Not waited for: that it runs, and as which process, is on the exec root already.
  ctx.background.add(`storing container ${container.id}`, ctx.records.saveSoon(container.record));
  ctx.background.add(
    `telling those with a link to ${container.record.name}`,
    refreshLinkers(ctx, container, (record) => hostsFile(ctx, record, record.endpoints)),
  );
  tellUse(ctx, container.record);
  publishContainerEvent(ctx, container, "start");
  watchExit(ctx, container, link);
}

type Change = Partial<Pick<Container["record"], "endpoints" | "ports" | "cgroup">>;
type Pending = Parameters<typeof connectAll>[0];

async function launch(
  ctx: EngineContext,
  container: Container,
  pending: Pending,
  direct: DirectStdio | undefined,
): Promise<{ readonly link: MonitorLink; readonly at: string; readonly change: Change }> {
  const { record } = container;
  const { id, hostConfig } = record;
  const join = joinedProcesses(ctx, hostConfig);
  const undo: (() => Promise<unknown>)[] = [];
  try {
    for (const mount of record.mounts)
      if (mount.Type === "bind" && !hostConfig.Mounts?.some((m) => m.Target === mount.Destination)) await checkBindSource(mount.Source, false);
    await requireLogService(ctx, container);
    undo.push(() => unmountSources(ctx, record));
    await mountSources(ctx, container);
    await relabelMounts(ctx, record);
    undo.push(() => ctx.networks.leave(id));
    const [root, network] = await Promise.all([rootOf(ctx, container), joinNetworks(ctx, container)]);
    const [user, preparation] = await Promise.all([
      userOf(ctx, container, root, await chainOf(ctx, container), record.state.startedAt.startsWith("0001")),
      planContainerFiles(ctx, record, network.endpoints),
    ]);
    await prepareCgroupParent(ctx, hostConfig.CgroupParent);
    const start = await planStart(ctx, record, { root, user, join, network: network.steps, attachGate: pending.length > 0 });
    const { cgroup } = start;
    undo.push(() => ctx.cgroups.remove(cgroup.paths));
    const audited = parseSecurityOptions(hostConfig.SecurityOpt).seccompAudit;
    const plan = start.plan([
      ...preparation,
      ...(audited ? [auditSession] : []),
      hostConfig.AutoRemove
        ? storeRecord(ctx, { ...record, endpoints: network.endpoints, ports: network.ports, cgroup: cgroup.paths })
        : storeNetworks(ctx, id, network),
    ]);
    if (start.hooked !== undefined) {
      undo.push(() => afterEnd(ctx, record));
      await writeBundle(ctx, start.hooked, id);
    }
    const held = await start.hold?.();
    const exitReports = [...cgroup.exitReports, ...(audited ? [AUDIT_SESSION] : [])];
    // before its program can say a word: whoever asks for the log since then gets all of it
    const at = rfc3339Nano(nowNs());
    const link = await launchPlan(ctx, container, plan, exitReports, pending, direct).finally(() => held?.release());
    await ctx.networks.launched(id).catch(async (error: unknown) => {
      await link.kill(constants.signals.SIGKILL);
      await link.exited;
      throw error;
    });
    if (start.hooked !== undefined) ctx.background.add(`the poststart hooks of container ${id}`, afterStart(ctx, start.hooked, record, link.pid));
    return { link, at, change: { endpoints: network.endpoints, ports: network.ports, cgroup: cgroup.paths } };
  } catch (error) {
    for (const result of await Promise.allSettled(undo.map((step) => step()))) {
      if (result.status === "rejected") ctx.log("warn", `undoing the failed start of ${record.name}: ${(result.reason as Error).message}`);
    }
    throw error;
  }
}

interface StartInput {
  readonly root: RootMount;
  readonly user: ResolvedUser;
  readonly join: ReturnType<typeof joinedProcesses>;
  readonly network: readonly Step[];
  readonly attachGate: boolean;
}

/** `hold`: the systemd driver's. `hooked`: the spec, when it has hooks. */
async function planStart(
  ctx: EngineContext,
  record: Container["record"],
  input: StartInput,
): Promise<PlannedStart & { readonly hold?: () => ReturnType<NonNullable<typeof ctx.cgroups.hold>>; readonly hooked?: OciSpec }> {
  const { root, user, join, network, attachGate } = input;
  const { id, hostConfig, config } = record;
  const linked = linkEnv(ctx, record);
  const isOnlyItsOwn = network.length === 0 && Object.keys(join).length === 0 && ctx.cgroups.hold === undefined;
  const shape = isOnlyItsOwn ? shapeOf(record, [root, user, attachGate, linked]) : undefined;
  const known = shape === undefined ? undefined : ctx.known.find(shape, id);
  if (known !== undefined) return known;
  const ownNames = new Set((config.Env ?? []).map((entry) => entry.split("=")[0]));
  const env = [...linked.filter((entry) => !ownNames.has(entry.split("=")[0])), ...(config.Env ?? [])];
  const { spec, files } = await specOf(ctx, linked.length === 0 ? record : { ...record, config: { ...config, Env: env } }, { user, join });
  const cgroup = ctx.cgroups.plan(hostConfig.CgroupParent, id, spec.linux?.resources ?? {}, slots.cgroup);
  const rest = planContainer({
    spec,
    root,
    facts: ctx.facts,
    cgroup,
    network,
    tty: config.Tty,
    seccomp: seccompProgram(spec.linux?.seccomp, ctx.facts),
    attachGate,
    lateUnmount: root.kind === "overlay" && record.mounts.length === 0,
    lateRemoval: ctx.cgroups.hold === undefined && hostConfig.PidMode === "" ? distinct(cgroup.paths.dirs) : [],
    files,
    id,
    ...withHooks(planHooksOf(ctx, spec, record)),
    ...(hostConfig.Init === true ? { initBinary: ctx.options.helperPath } : {}),
  });
  if (shape !== undefined && spec.hooks === undefined) ctx.known.add(shape, id, rest, cgroup);
  const { hold } = ctx.cgroups;
  return {
    plan: (first) => ({ steps: [...first, ...rest.steps] }),
    cgroup,
    ...(spec.hooks === undefined ? {} : { hooked: spec }),
    ...(hold === undefined ? {} : { hold: () => hold.call(ctx.cgroups, cgroup) }),
  };
}

/** Of the monitor, which its container inherits. */
const AUDIT_SESSION = "/proc/self/sessionid";
const auditSession: Step = {
  op: "write",
  where: "host",
  dir: NO_SLOT,
  path: "/proc/self/loginuid",
  flags: 0n,
  data: Buffer.from("0"),
  why: "an audit session of its own, by which the kernel's log tells whose system call was refused",
  section: "To tell which system calls are refused",
  see: "proc(5)",
};

/** The record is stored after the start. Whoever is killed in between leaves a container that runs: the next engine learns from here where it is. */
function storeNetworks(ctx: EngineContext, id: string, { endpoints, ports }: Joined): Step {
  return {
    op: "write",
    where: "host",
    dir: NO_SLOT,
    path: monitorFiles(ctx.options, id).networkPath,
    flags: writeAnew,
    data: Buffer.from(JSON.stringify({ endpoints, ports } satisfies StartedNetworks)),
    why: "its networks, by which the next engine finds it if this one is killed before it is stored",
    section: "The engine's files for it",
  };
}

/** A container that removes itself is not worth a write by rename: whoever writes it launches it next, and a half-written record is swept. */
function storeRecord(ctx: EngineContext, record: Container["record"]): Step {
  return {
    op: "write",
    where: "host",
    dir: NO_SLOT,
    flags: writeAnew,
    ...ctx.records.handOver(record),
    why: "its record, by which the next engine knows it",
    section: "The engine's files for it",
  };
}

function launchPlan(
  ctx: EngineContext,
  container: Container,
  plan: Plan,
  exitReports: readonly string[],
  pending: Pending,
  direct: DirectStdio | undefined,
): Promise<MonitorLink> {
  const { config, hostConfig, id } = container.record;
  const [rows, columns] = direct !== undefined ? [direct.rows, direct.columns] : hostConfig.ConsoleSize;
  const { socketPath, pidPath, exitPath } = monitorFiles(ctx.options, id);
  let failAttach!: (error: unknown) => void;
  const attachFailed = new Promise<never>((_, reject) => (failAttach = reject));
  const launched = ctx.helper.launch(
    {
      plan,
      stdio: {
        tty: config.Tty,
        rows,
        columns,
        openStdin: config.OpenStdin,
        stdinOnce: config.StdinOnce,
        ...(direct === undefined
          ? {}
          : {
              direct: {
                token: direct.token,
                stdin: direct.stdin && config.OpenStdin,
                stdout: direct.stdout,
                stderr: direct.stderr,
                detachKeys: direct.detachKeys,
              },
            }),
        ...logOf(container.record),
        attachGate: pending.length,
      },
      socketPath,
      pidPath,
      exitPath,
      exitReports,
    },
    pending.length === 0 ? undefined : (attach) => void connectAll(pending, attach).catch(failAttach),
  );
  return pending.length === 0 ? launched : launchedWith(launched, attachFailed);
}

/** In blocking mode a file is not thrown away before its lines are delivered. Bytes that are no text are lost in json-file, as docker loses them, and nowhere else. */
function logOf(record: Container["record"]): Pick<LaunchRequest["stdio"], "log"> {
  const { LogConfig: config } = record.hostConfig;
  const plan = planLog(config);
  if (record.logPath === "" || plan === undefined) return {};
  const delivery = planDelivery(config);
  const hold = delivery !== undefined && delivery.dropAboveBytes === undefined && plan.maxBytes > 0 && plan.maxFiles > 1;
  const { maxBytes, maxFiles } = plan;
  return { log: { path: record.logPath, maxBytes, maxFiles, attrs: attrsJson(record, config), hold, exact: config.Type !== "json-file" } };
}

/** Where the root filesystem is, to be mounted: not before an earlier run has left it. Only for a container that does not run. */
export async function rootOf(ctx: EngineContext, { record, clearLast }: Container): Promise<RootMount> {
  await clearLast?.();
  if (record.hostConfig.WherryRootfs !== undefined) return { kind: "bind", source: record.hostConfig.WherryRootfs, readonly: false };
  return ctx.layers.driver.mounts(record.snapshot);
}

async function chainOf(ctx: EngineContext, { record }: Container): Promise<string | undefined> {
  if (record.imageId === "" || record.snapshot === "") return undefined;
  return (await ctx.images.find(record.imageId))?.chainId;
}

/** Content of a container's {@link MonitorFiles} `networkPath`. */
export type StartedNetworks = Pick<Container["record"], "endpoints" | "ports">;

interface Joined {
  readonly endpoints: Record<string, EndpointRecord>;
  readonly ports: Record<string, PortBinding[] | null>;
  readonly steps: readonly Step[];
}

/** Joins every network of the container, the one of its mode first; published ports go to that one. */
async function joinNetworks(ctx: EngineContext, { record }: Container): Promise<Joined> {
  const { hostConfig, config } = record;
  const mode = hostConfig.NetworkMode;
  const published = publishedPorts(record);
  const exposed = Object.fromEntries(Object.keys(config.ExposedPorts ?? {}).map((port) => [port, null]));
  if (mode.startsWith("container:")) return { endpoints: {}, ports: {}, steps: [] };
  const asked = Object.keys(record.networkingConfig.EndpointsConfig);
  // Whoever was disconnected from the network of its mode and connected to another is in the other only; one that is in none joins its mode's again.
  const names = asked.length === 0 ? [mode] : asked.sort((a, b) => Number(b === mode) - Number(a === mode));
  const result: { endpoints: Record<string, EndpointRecord>; ports: Record<string, PortBinding[] | null>; steps: Step[] } = {
    endpoints: {},
    ports: exposed,
    steps: [],
  };
  const together = Object.fromEntries(names.map((name) => [name, record.networkingConfig.EndpointsConfig[name] ?? plainEndpoint]));
  const gateway = ctx.networks.gatewayOf(together);
  for (const networkName of names) {
    const ports = networkName === (gateway ?? names[0]) && mode !== "host" && mode !== "none" ? published : {};
    const joined = await ctx.networks.join({ ...joinRequest(ctx, record, networkName, ports), together }, slots.network);
    result.endpoints[joined.endpoint.NetworkName] = joined.endpoint;
    Object.assign(result.ports, joined.ports);
    result.steps.push(...joined.steps);
  }
  return result;
}

/** What a network is asked for. */
export function joinRequest(ctx: EngineContext, record: Container["record"], networkName: string, ports: JoinRequest["ports"]): JoinRequest {
  const shaping = parseShaping(record.hostConfig.WherryNetworkRate);
  const asked = record.networkingConfig.EndpointsConfig[networkName];
  return {
    containerId: record.id,
    containerName: record.name,
    hostname: record.config.Hostname,
    networkName,
    endpoint: asked === undefined ? undefined : { ...asked, Links: linkNames(ctx, record, networkName) },
    ports,
    ...(shaping && { shaping }),
    ...(record.hostConfig.WherryEgress && { egress: parseEgress(record.hostConfig.WherryEgress) }),
    dns: record.hostConfig.Dns,
    programSocket: monitorFiles(ctx.options, record.id).programSocket,
    ...(record.hostConfig.WherryPublishHost === undefined ? {} : { publishHost: record.hostConfig.WherryPublishHost }),
  };
}

/** `-p` bindings, and with `-P` every exposed port at a port that is free. */
export function publishedPorts({ hostConfig, config }: Container["record"]): Record<string, readonly PortBinding[]> {
  const ports: Record<string, readonly PortBinding[]> = {};
  if (hostConfig.PublishAllPorts) for (const port of Object.keys(config.ExposedPorts ?? {})) ports[port] = [{ HostIp: "", HostPort: "" }];
  for (const [port, bindings] of Object.entries(hostConfig.PortBindings ?? {})) ports[port] = bindings?.length ? bindings : [{ HostIp: "", HostPort: "" }];
  return ports;
}

const preparedParents = new WeakMap<EngineContext, Set<string>>();

/** Once per parent and daemon. */
async function prepareCgroupParent(ctx: EngineContext, parent: string): Promise<void> {
  const done = preparedParents.get(ctx) ?? new Set();
  preparedParents.set(ctx, done);
  if (done.has(parent)) return;
  await ctx.cgroups.prepare(parent);
  done.add(parent);
}

function asStartError(error: unknown): EngineError {
  if (error instanceof PlanError) return renderPlanError(error, { action: "start" });
  if (error instanceof EngineError) return error;
  return new EngineError("internal", `failed to create task for container: ${(error as Error).message}`, { cause: error });
}

/** Docker's state after a failed start. A `--rm` container goes: there will be no end of it to wait for. */
async function recordFailure(ctx: EngineContext, container: Container, error: EngineError): Promise<void> {
  container.setState(toStartFailed(container.state, error.details.exitCode ?? 128, error.message));
  if (container.record.hostConfig.AutoRemove) await removeEnded(ctx, container);
  else ctx.background.add(`storing container ${container.id}`, ctx.records.save(container.record));
}
