/**
 * `create`: from a request to a stored container with a snapshot of its own. What fails half-way leaves nothing.
 * @module
 */
import { mkdir, realpath, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Container } from "#container/container.ts";
import type { ContainerRecord, MountPoint } from "#container/mod.ts";
import { openLogService } from "#container/logs/services/mod.ts";
import { planLog } from "#container/logs/log-drivers.ts";
import { generateName, parseContainerName } from "#container/names.ts";
import { createdState } from "#container/state.ts";
import { nowNs, rfc3339Nano } from "#core/clock.ts";
import { type ContainerConfig, type HostConfig, type LogConfig, type NetworkingConfig, plainEndpoint } from "#core/container-config.ts";
import type { ChainID } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { newId, shortId } from "#core/ids.ts";
import type { Image } from "#image/mod.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { EGRESS_LABEL, egressList, parseEgress, isUserSpace, parseShaping, requireUserSpace, shapingOfLabels, userSpaceAmong } from "#network/mod.ts";
import { slots } from "#runtime/mod.ts";
import type { SnapshotOptions } from "#unionfs/mod.ts";
import { openRoot } from "#unionfs/trees.ts";
import { defaultMaskedPaths, defaultReadonlyPaths } from "#runtime/default-spec.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";
import { copyUp } from "./copy-up.ts";
import { imageMountTarget } from "./host-mounts.ts";
import { shapeOf } from "./known-starts.ts";
import { checkLinks } from "./links.ts";
import { mergeImageConfig } from "./merge-image-config.ts";
import type { Containers } from "./mod.ts";
import { type WantedMount, wantedMounts } from "./mount-points.ts";
import { specOf } from "./container-spec.ts";
import { appArmorProfileOf } from "./apparmor.ts";
import { labelTree, refuseSystemDirectories } from "./selinux.ts";
import { checkSupported } from "./unsupported-options.ts";
import { privateCopyFor } from "./idmap-support.ts";
import { userOfImage } from "./resolve-user.ts";
import { parseUsernsMode } from "./userns-mode.ts";
import { validateConfig } from "./validate-config.ts";

type CreateRequest = Parameters<Containers["create"]>[0];

/** A container as it would be; nothing of it exists yet. */
export interface Draft {
  readonly record: ContainerRecord;
  readonly image: Image | undefined;
  /** What its snapshot lies on. */
  readonly chainId: ChainID | undefined;
  readonly wanted: readonly WantedMount[];
  readonly warnings: string[];
}

export async function createContainer(ctx: EngineContext, request: CreateRequest): Promise<{ readonly id: string; readonly warnings: string[] }> {
  const id = newId();
  const name = request.name === undefined || request.name === "" ? undefined : parseContainerName(request.name);
  try {
    return await create(ctx, id, name, request);
  } finally {
    releaseChoices(ctx, id);
  }
}

/** What a step of a build runs on: layers that are no image (yet). */
interface BuildBase {
  readonly chainId: ChainID | undefined;
}

/** A container of a build's step, in {@link BuildState.steps} until its caller takes it out. The next start of the engine removes it if this one does not. */
export async function createBuildContainer(
  ctx: EngineContext,
  { config, hostConfig, chainId }: Pick<CreateRequest, "config" | "hostConfig"> & BuildBase,
): Promise<{ readonly id: string }> {
  const id = newId();
  ctx.builds.steps.add(id);
  try {
    return await create(ctx, id, undefined, { config, hostConfig, networkingConfig: { EndpointsConfig: {} }, name: undefined, base: { chainId } });
  } catch (error) {
    ctx.builds.steps.delete(id);
    throw error;
  } finally {
    releaseChoices(ctx, id);
  }
}

async function create(
  ctx: EngineContext,
  id: string,
  name: string | undefined,
  request: CreateRequest & { readonly base?: BuildBase },
): Promise<{ readonly id: string; readonly warnings: string[] }> {
  const draft = await draftContainer(ctx, id, name ?? "", request);
  const { record } = draft;
  record.name = name ?? generateName((n) => ctx.registry.nameTaken(n));
  ctx.registry.reserveName(record.name, id);
  try {
    await materialize(ctx, draft);
  } catch (error) {
    ctx.registry.releaseName(record.name, id);
    await discard(ctx, draft, error);
    throw error;
  }
  const container = ctx.registry.add(record);
  publishContainerEvent(ctx, container, "create");
  return { id, warnings: draft.warnings };
}

/** What was chosen for a container belongs to its record from now on, or to nobody. */
export function releaseChoices({ idRanges, selinux }: EngineContext, id: string): void {
  idRanges.release(id);
  selinux?.release(id);
}

/** Ranges of its own stay held for `id`. Everything that can be said without making anything. Also what `--explain` plans with. @throws EngineError not-found, invalid, conflict */
export async function draftContainer(
  ctx: EngineContext,
  id: string,
  name: string,
  request: Pick<CreateRequest, "config" | "hostConfig" | "networkingConfig" | "platform"> & {
    readonly base?: BuildBase;
    /** Of another host, which it is only explained for. */
    readonly facts?: HostFacts;
  },
): Promise<Draft> {
  const hostConfig = withHostDefaults(ctx, request.hostConfig);
  const ofImage = hostConfig.WherryRootfs === undefined && request.base === undefined;
  const image = ofImage ? await ctx.images.find(request.config.Image) : undefined;
  if (image === undefined && ofImage) throw new EngineError("not-found", `No such image: ${withTag(request.config.Image)}`);
  if (image !== undefined && request.platform !== undefined && request.platform !== "") requirePlatform(image, request.platform, request.config.Image);
  resolveContainerModes(ctx, hostConfig);
  const warnings = validateConfig(request.config, hostConfig, ctx.facts);
  const config = mergeImageConfig(request.config, image?.config.config ?? {});
  if (config.NetworkDisabled === true && !/^(host|container:.*)$/.test(hostConfig.NetworkMode)) hostConfig.NetworkMode = "none";
  const networkingConfig = networkingOf(hostConfig, request.networkingConfig);
  warnings.push(...checkSupported({ config, hostConfig, networkingConfig }, ctx.facts, ctx.selinux !== undefined));
  checkLinks(ctx, [...(hostConfig.Links ?? []), ...Object.values(networkingConfig.EndpointsConfig).flatMap(({ Links }) => Links ?? [])]);
  await takeShaping(ctx, config, hostConfig);
  const label = config.Labels[EGRESS_LABEL];
  const egress = hostConfig.WherryEgress ?? (label === undefined ? undefined : [label]);
  if (egress !== undefined) await takeEgress(ctx, egress, hostConfig);
  await checkUserSpaceNetwork(hostConfig, networkingConfig);
  const wanted = wantedMounts(config, hostConfig, (from) => otherContainer(ctx, from).record.mounts);
  nameHost(ctx, id, config, hostConfig);
  const appArmorProfile = appArmorProfileOf(hostConfig, ctx.facts, ctx.appArmorDefault);
  if (ctx.selinux !== undefined) refuseSystemDirectories(wanted);
  const labels = ctx.selinux?.labelsFor(id, hostConfig, (other) => ctx.registry.get(other).record.processLabel ?? "");
  const idMappings = await idMappingsOf(ctx, id, image, config, hostConfig);
  const directory = ctx.records.directory(id);
  const [path = "", ...args] = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  if (image !== undefined) ctx.budget.noteUse(image.id, nowNs());
  const record: ContainerRecord = {
    version: 1,
    id,
    name,
    created: rfc3339Nano(nowNs()),
    imageId: image?.id ?? "",
    path,
    args,
    config,
    hostConfig,
    networkingConfig,
    state: createdState,
    mounts: wanted.map(toMountPoint),
    endpoints: {},
    ports: {},
    cgroup: undefined,
    driver: ctx.layers.driver.name,
    snapshot: hostConfig.WherryRootfs === undefined ? id : "",
    ...(request.base === undefined ? {} : { build: true }),
    ...(idMappings === undefined ? {} : { idMappings }),
    ...(appArmorProfile === "" ? {} : { appArmorProfile }),
    ...labels,
    restartCount: 0,
    manuallyStopped: false,
    ...etcPaths(ctx, directory, hostConfig),
    logPath: planLog(hostConfig.LogConfig) === undefined ? "" : join(directory, `${id}-json.log`),
  };
  const copied = await privateCopyFor(ctx, record, { elsewhere: request.facts !== undefined });
  if (copied !== undefined) {
    record.ownersOnDisk = copied.ownersOnDisk;
    warnings.push(copied.warning);
  }
  openLogService(record, ctx.helper)?.close();
  // Says no now to what the spec would refuse at start: unknown capabilities, sysctls of the host, malformed device rules.
  warnings.push(...(await lacksOf(ctx, record)));
  return { record, image, chainId: request.base === undefined ? image?.chainId : request.base.chainId, wanted, warnings: [...new Set(warnings)] };
}

/** What this host cannot do for it. */
async function lacksOf(ctx: EngineContext, record: ContainerRecord): Promise<readonly string[]> {
  const shape = shapeOf(record);
  const known = shape === undefined ? undefined : ctx.known.warnings.get(shape);
  if (known !== undefined) return known;
  const { spec, warnings } = await specOf(ctx, record, { user: { uid: 0, gid: 0, additionalGids: [], home: "/" }, join: "unknown" });
  const all = [...warnings, ...ctx.cgroups.plan(record.hostConfig.CgroupParent, record.id, spec.linux?.resources ?? {}, slots.cgroup).warnings];
  if (shape !== undefined) ctx.known.warnings.set(shape, all);
  return all;
}

/** Labels speak for clients that do not know our field. */
async function takeShaping(ctx: EngineContext, { Labels: labels }: ContainerConfig, host: HostConfig): Promise<void> {
  const text = host.WherryNetworkRate ?? shapingOfLabels(labels);
  const shaping = parseShaping(text);
  if (text === undefined || shaping === undefined) return;
  requireCable(host);
  await ctx.networks.checkShaping(shaping);
  host.WherryNetworkRate = { ...text };
}

/** Whom it may call: the rules one by one, into `host`. */
export async function takeEgress(ctx: EngineContext, given: readonly string[], host: HostConfig): Promise<void> {
  const list = given.flatMap(egressList);
  parseEgress(list);
  if (host.NetworkMode !== "none") requireCable(host, "egress rules", "whose calls could be limited");
  await ctx.networks.checkEgress();
  host.WherryEgress = list;
}

/** EngineError for what a network by a program in user space cannot be, or where there is no such program. */
async function checkUserSpaceNetwork(host: HostConfig, { EndpointsConfig: endpoints }: NetworkingConfig): Promise<void> {
  const mode = userSpaceAmong(Object.keys(endpoints));
  if (mode === undefined) return;
  if (Object.keys(endpoints).length > 1)
    throw new EngineError("invalid", `conflicting options: the network mode ${mode} and other networks: its container has one interface`);
  await requireUserSpace({
    networkName: mode,
    ports: Object.fromEntries(Object.entries(host.PortBindings ?? {}).map(([port, bindings]) => [port, bindings ?? [{ HostIp: "", HostPort: "" }]])),
    endpoint: endpoints[mode],
    ...(host.WherryPublishHost === undefined ? {} : { publishHost: host.WherryPublishHost }),
  });
}

/** EngineError "invalid" for a network that is not the container's own. */
export function requireCable({ NetworkMode: mode }: HostConfig, what = "a network rate", why = "to limit"): void {
  if (mode === "host" || mode === "none" || isUserSpace(mode) || mode.startsWith("container:"))
    throw new EngineError("invalid", `conflicting options: ${what} and the network mode ${mode}: there is no cable of the container's own ${why}`);
}

/** With keep-id and no user named, the process runs as the one that is kept. Changes `config`. */
async function idMappingsOf(
  ctx: EngineContext,
  id: string,
  image: Image | undefined,
  config: ContainerConfig,
  host: HostConfig,
): Promise<ContainerRecord["idMappings"]> {
  const mode = parseUsernsMode(host.UsernsMode);
  if (mode.kind !== "keep-id") return ctx.idRanges.mappingsFor(id, { mode });
  const root = async () => {
    if (image?.chainId !== undefined) return ctx.layers.driver.mounts(image.chainId);
    return { kind: "bind", source: host.WherryRootfs ?? "", readonly: true } as const;
  };
  const user = config.User === "" ? undefined : await userOfImage(ctx, await root(), image?.chainId, config.User);
  const mappings = await ctx.idRanges.mappingsFor(id, { mode, user });
  if (user === undefined) {
    const [uid, gid] = [mode.user ?? mode.hostUser ?? 0, mode.group ?? mode.hostGroup ?? mode.hostUser ?? 0];
    config.User = `${uid}:${gid}`;
  }
  return mappings;
}

/**
 * Makes what the draft names, in such an order that a crash leaves nothing that the sweep does not find. The record of a `--rm` container is stored by
 * its start, which mostly comes at once, or a little later; another's is written at the end.
 */
async function materialize(ctx: EngineContext, { record, chainId, wanted }: Draft): Promise<void> {
  const asked = record.hostConfig.StorageOpt?.["size"];
  const size = asked === undefined ? ctx.layers.driver.defaultSizeBytes : sizeOption(asked);
  const snapshot = async () => {
    if (record.snapshot === "") return checkRootfs(record);
    await ctx.layers.driver.prepare(record.snapshot, chainId, {
      ephemeral: record.hostConfig.AutoRemove || record.build === true,
      ...(size === undefined ? {} : { sizeBytes: size }),
      ...copiedFor(record),
    });
  };
  const removesItself = record.hostConfig.AutoRemove;
  const [directory, made] = await Promise.allSettled([removesItself ? ctx.records.makeDirectory(record.id) : ctx.records.makeFile(record.id), snapshot()]);
  const file = directory.status === "fulfilled" ? directory.value : undefined;
  try {
    // What fails is undone when both have come to their end.
    for (const each of [directory, made]) if (each.status === "rejected") throw each.reason;
    record.mounts = await Promise.all(wanted.map((mount, index) => makeMountPoint(ctx, record, mount, index)));
    if (record.snapshot !== "") await labelSnapshot(ctx, record);
    await file?.write(record);
  } finally {
    if (file !== undefined) ctx.background.add(`closing the record of container ${record.id}`, file.close());
  }
  ctx.background.add(`storing container ${record.id}`, ctx.records.saveSoon(record));
  for (const mount of record.mounts)
    if (mount.Type === "volume" && mount.CopyUp === true && ctx.volumes.backing(mount.Name ?? "").kind !== "mount") await copyUp(ctx, record, mount);
}

/** A directory tree of its own has labels on disk; other roots get theirs when they are mounted. */
async function labelSnapshot(ctx: EngineContext, { mountLabel = "", snapshot }: ContainerRecord): Promise<void> {
  if (mountLabel === "") return;
  const root = await ctx.layers.driver.mounts(snapshot);
  if (root.kind !== "bind") return;
  const tree = await openRoot(ctx.helper, root);
  try {
    await labelTree(tree, "", mountLabel);
  } finally {
    await tree.close();
  }
}

/** For the storage driver: of a container that has a private copy of its image's files, whose ids they get. */
export function copiedFor({ idMappings: owners, ownersOnDisk }: ContainerRecord): Pick<SnapshotOptions, "owners"> {
  return owners === undefined || ownersOnDisk === undefined ? {} : { owners };
}

async function discard(ctx: EngineContext, { record }: Draft, cause: unknown): Promise<void> {
  const undo = [
    ...(record.snapshot === "" ? [] : [ctx.layers.driver.remove(record.snapshot)]),
    ctx.records.discard(record.id).then((directory) => ctx.leftovers.add([], directory)),
    ...record.mounts
      .filter((m) => m.Anonymous === true && m.Name !== undefined && m.Name !== "")
      .map((m) => ctx.volumes.remove(m.Name as string, { force: true, users: [] })),
  ];
  for (const result of await Promise.allSettled(undo)) {
    if (result.status === "rejected")
      ctx.log("warn", `undoing the creation of a container after "${(cause as Error).message}": ${(result.reason as Error).message}`);
  }
}

function toMountPoint({ volume: _volume, mustExist: _mustExist, ...point }: WantedMount): MountPoint {
  return point;
}

async function makeMountPoint(ctx: EngineContext, record: ContainerRecord, wanted: WantedMount, index: number): Promise<MountPoint> {
  const point = toMountPoint(wanted);
  if (wanted.Type === "image") {
    const image = await ctx.images.get(point.Name ?? "");
    return { ...point, Image: image.id, Source: join(imageMountTarget(ctx, record.id, index), point.Source) };
  }
  if (wanted.Type === "bind") {
    await checkBindSource(point.Source, wanted.mustExist === true);
    return point;
  }
  if (wanted.volume === undefined) return point;
  const { name, labels, options, driver, subpath } = wanted.volume;
  const known = name === "" ? undefined : ctx.volumes.find(name);
  const volume =
    known ??
    (await ctx.volumes.create({
      ...(name === "" ? { anonymous: true } : { name }),
      driver,
      ...(labels === undefined ? {} : { labels }),
      ...(options === undefined ? {} : { options }),
    }));
  if (known === undefined) ctx.events.publish("volume", "create", volume.Name, { driver: volume.Driver });
  if (subpath !== undefined && ctx.volumes.backing(volume.Name).kind === "mount")
    throw new EngineError("unsupported", `a subpath of volume ${volume.Name} cannot be mounted: the volume is mounted only while containers run`);
  const source = subpath === undefined ? volume.Mountpoint : await subpathOf(volume.Mountpoint, subpath);
  record.mounts = record.mounts.map((m) => (m.Destination === point.Destination ? { ...m, Name: volume.Name } : m));
  return { ...point, Name: volume.Name, Driver: volume.Driver, Source: source };
}

/** A directory within the volume; links that lead out of it are refused (here; the mount itself is made from the real path). */
async function subpathOf(mountpoint: string, subpath: string): Promise<string> {
  try {
    const [root, real] = await Promise.all([realpath(mountpoint), realpath(join(mountpoint, subpath))]);
    if (real !== root && !real.startsWith(`${root}/`)) throw new EngineError("invalid", `subpath ${subpath} leads out of the volume`);
    return real;
  } catch (error) {
    if (errnoOf(error) === "ENOENT")
      throw new EngineError("invalid", `cannot access path ${join(mountpoint, subpath)}: no such file or directory`, { cause: error });
    throw error;
  }
}

/** `--mount type=bind` wants the source to be there; `-v` makes a directory, as Docker. */
export async function checkBindSource(source: string, mustExist: boolean): Promise<void> {
  try {
    await stat(source);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT")
      throw new EngineError("invalid", `invalid mount config for type "bind": stat ${source}: ${(error as Error).message}`, { cause: error });
    if (mustExist) throw new EngineError("invalid", `invalid mount config for type "bind": bind source path does not exist: ${source}`, { cause: error });
    await mkdir(source, { recursive: true, mode: 0o755 }).catch((cause: unknown) => {
      throw new EngineError("invalid", `error while creating mount source path '${source}': ${(cause as Error).message}`, { cause });
    });
  }
}

async function checkRootfs(record: ContainerRecord): Promise<void> {
  const root = record.hostConfig.WherryRootfs ?? "";
  const info = await stat(root).catch((cause: unknown) => {
    throw new EngineError("invalid", `the root directory ${root} cannot be used: ${(cause as Error).message}`, { cause });
  });
  if (!info.isDirectory()) throw new EngineError("invalid", `the root directory ${root} is not a directory`);
}

/** `busybox` → `busybox:latest`, as Docker's message has it. */
function withTag(name: string): string {
  return /[:@][^/]*$/.test(name) || /^[0-9a-f]{64}$/.test(name) ? name : `${name}:latest`;
}

function requirePlatform(image: Image, platform: string, name: string): void {
  const [os, architecture, variant] = platform.split("/");
  const { config } = image;
  if (
    (os !== undefined && os !== config.os) ||
    (architecture !== undefined && architecture !== config.architecture) ||
    (variant !== undefined && config.variant !== undefined && variant !== config.variant)
  ) {
    throw new EngineError(
      "not-found",
      `image with reference ${name} was found but its platform (${config.os}/${config.architecture}) does not match the specified platform (${platform})`,
    );
  }
}

/** Docker's defaults for what the request left open, and limits of the engine's configuration. A copy. */
function withHostDefaults(ctx: EngineContext, given: HostConfig): HostConfig {
  const host: HostConfig = { ...given };
  host.NetworkMode = given.NetworkMode === "" || given.NetworkMode === "default" ? "bridge" : given.NetworkMode;
  host.IpcMode ||= "private";
  host.CgroupnsMode ||= given.Privileged && ctx.cgroups.version === 1 ? "host" : "private";
  host.ShmSize ||= 64 * 1024 * 1024;
  host.Runtime ||= "wherry";
  if (host.Memory > 0 && host.MemorySwap === 0) host.MemorySwap = host.Memory * 2;
  if (host.RestartPolicy.Name === "") host.RestartPolicy = { ...host.RestartPolicy, Name: "no" };
  host.LogConfig = logConfigOf(ctx, given.LogConfig, given.WherryBoundLog === true);
  delete host.WherryBoundLog;
  if (host.Privileged) [host.MaskedPaths, host.ReadonlyPaths] = [[], []];
  host.MaskedPaths ??= [...defaultMaskedPaths];
  host.ReadonlyPaths ??= [...defaultReadonlyPaths];
  return host;
}

/** Docker's default is a log without end, which fills disks. */
const boundedLog = { "max-size": "10m", "max-file": "3" };

/** The daemon's options are its driver's: a container with another driver has only its own. */
function logConfigOf(ctx: EngineContext, { Type: asked, Config: own }: LogConfig, bound: boolean): LogConfig {
  const daemons = ctx.options.defaultLogDriver ?? "json-file";
  const type = asked || daemons;
  if (bound && type === "json-file" && Object.keys(ctx.options.defaultLogOpts ?? {}).length === 0) return { Type: type, Config: { ...boundedLog } };
  return { Type: type, Config: type === daemons ? { ...ctx.options.defaultLogOpts, ...own } : own };
}

/** @throws EngineError "invalid", not "not-found": docker's client would take the image for what is missing, and pull it. */
function otherContainer(ctx: EngineContext, name: string): Container {
  const found = ctx.registry.find(name);
  if (found === undefined) throw new EngineError("invalid", `No such container: ${name}`);
  return found;
}

/** `container:NAME` → `container:ID`, which a rename does not break. */
function resolveContainerModes(ctx: EngineContext, host: HostConfig): void {
  const resolve = (mode: string) => {
    const name = /^container:(.+)$/.exec(mode)?.[1];
    return name === undefined ? mode : `container:${otherContainer(ctx, name).id}`;
  };
  host.NetworkMode = resolve(host.NetworkMode);
  host.PidMode = resolve(host.PidMode);
  host.IpcMode = resolve(host.IpcMode);
}

/** Sets `Hostname`: the host's with its network or UTS, the other container's with its network, else the short id. Changes `config`. */
function nameHost(ctx: EngineContext, id: string, config: ContainerConfig, host: HostConfig): void {
  const other = /^container:(.+)$/.exec(host.NetworkMode)?.[1];
  if (other !== undefined) {
    const { Hostname, Domainname } = ctx.registry.get(other).record.config;
    [config.Hostname, config.Domainname] = [Hostname, Domainname];
  } else if (config.Hostname === "") config.Hostname = host.NetworkMode === "host" || host.UTSMode === "host" ? hostname() : shortId(id);
}

/** Whoever uses another container's network uses its files too. */
function etcPaths(ctx: EngineContext, directory: string, host: HostConfig): Pick<ContainerRecord, "hostnamePath" | "hostsPath" | "resolvConfPath"> {
  const other = /^container:(.+)$/.exec(host.NetworkMode)?.[1];
  if (other === undefined)
    return { hostnamePath: join(directory, "hostname"), hostsPath: join(directory, "hosts"), resolvConfPath: join(directory, "resolv.conf") };
  const { hostnamePath, hostsPath, resolvConfPath } = ctx.registry.get(other).record;
  return { hostnamePath, hostsPath, resolvConfPath };
}

function networkingOf(host: HostConfig, networking: NetworkingConfig): NetworkingConfig {
  const mode = host.NetworkMode;
  if (mode.startsWith("container:")) return { EndpointsConfig: {} };
  const own = networking.EndpointsConfig;
  // "default" names the default network in requests of older clients.
  const { default: byOldName, ...others } = own;
  const main = others[mode] ?? byOldName ?? plainEndpoint;
  return { EndpointsConfig: { [mode]: main, ...others } };
}

function sizeOption(size: string): number {
  const [, number, unit] = /^([0-9]+)([kmgt]?)b?$/i.exec(size) ?? [];
  if (number === undefined) throw new EngineError("invalid", `invalid size: '${size}'`);
  return Number(number) * 1024 ** " kmgt".indexOf((unit || " ").toLowerCase());
}
