/** From the flags of `create` and `run` to the body of `POST /containers/create`: what docker's CLI sends for the same command line. @module */
import type { ContainerConfig, DeviceRequest, HostConfig, NetworkingConfig, ResourceConfig } from "#core/container-config.ts";
import type { FlagValues } from "./flags.ts";
import { isCdiName } from "./options/device-requests.ts";
import { readEnv, readLabels } from "./options/env.ts";
import {
  parseCapabilities,
  parseDevice,
  parseHealth,
  parseLogging,
  parseRestart,
  parseStorageOptions,
  parseTmpfs,
  parseVolumes,
  readSecurityOptions,
} from "./options/host-options.ts";
import { type MountFlag, resolveMount } from "./options/mount.ts";
import { parseNetworks } from "./options/network.ts";
import { parsePorts } from "./options/ports.ts";
import { macAddress, toMap } from "./options/validate.ts";
import { resolve } from "node:path";

export type CreateBody = Partial<ContainerConfig> & { readonly HostConfig: Partial<HostConfig>; readonly NetworkingConfig: NetworkingConfig };

export interface CreateContext {
  readonly cwd: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Empty lists and maps are not sent: the daemon's defaults are the same, and the hot path has less to parse. */
const ifAny = <T>(list: readonly T[]): T[] | null => (list.length === 0 ? null : [...list]);

function namespaceMode(flag: string, value: string, valid: RegExp, what: string): string {
  if (!valid.test(value)) throw new Error(`--${flag}: invalid ${what} mode`);
  return value;
}

/** keep-id means the caller's: the daemon is told who that is. Under sudo, it is who called sudo. */
function userNamespace(value: string, env: CreateContext["env"]): string {
  const mode = namespaceMode("userns", value, /^(host|private|(auto|keep-id)(:.+)?|map:.+|[0-9]+:[0-9]+)?$/, "USER");
  if (!/^keep-id(:|$)/.test(mode) || /[:,]hostuid=/.test(mode)) return mode;
  const uid = env["SUDO_UID"] ?? String(process.getuid?.() ?? 0);
  const gid = env["SUDO_GID"] ?? String(process.getgid?.() ?? 0);
  return uid === "0" ? mode : `${mode}${mode === "keep-id" ? ":" : ","}hostuid=${uid},hostgid=${gid}`;
}

const networkRates = [
  ["network-rate", "rate"],
  ["network-rate-ingress", "ingress"],
  ["network-rate-egress", "egress"],
  ["network-burst", "burst"],
  ["network-latency", "latency"],
  ["network-loss", "loss"],
] as const;

/** Limits as the API names them. */
export function resources(flags: FlagValues): Partial<ResourceConfig> {
  const result: Partial<ResourceConfig> = {};
  const add = <K extends keyof ResourceConfig>(name: string, field: K, extra?: (value: ResourceConfig[K]) => void) => {
    if (!flags.changed(name)) return;
    const value = flags.get<ResourceConfig[K]>(name);
    result[field] = value;
    extra?.(value);
  };
  add("blkio-weight", "BlkioWeight");
  add("cpu-period", "CpuPeriod");
  add("cpu-quota", "CpuQuota");
  add("cpu-rt-period", "CpuRealtimePeriod");
  add("cpu-rt-runtime", "CpuRealtimeRuntime");
  add("cpu-shares", "CpuShares");
  add("cpus", "NanoCpus");
  add("cpuset-cpus", "CpusetCpus");
  add("cpuset-mems", "CpusetMems");
  add("memory", "Memory");
  add("memory-reservation", "MemoryReservation");
  add("memory-swap", "MemorySwap");
  add("pids-limit", "PidsLimit");
  const rates = networkRates.flatMap(([flag, key]) => (flags.changed(flag) ? [[key, flags.text(flag)] as const] : []));
  if (rates.length > 0) result.WherryNetworkRate = Object.fromEntries(rates);
  add("network-classid", "WherryNetworkClassId");
  if (flags.changed("network-priority")) result.WherryNetworkPriorities = Object.fromEntries(flags.list<[string, number]>("network-priority"));
  if (flags.changed("egress")) result.WherryEgress = [...flags.list("egress")];
  if (flags.changed("cgroup-conf")) result.WherryUnified = toMap([...flags.list("cgroup-conf")]);
  return result;
}

/** Limits that only a new container can get. */
function createResources(flags: FlagValues): Partial<ResourceConfig> {
  const swappiness = flags.number("memory-swappiness");
  if (swappiness !== -1 && (swappiness < 0 || swappiness > 100)) throw new Error(`invalid value: ${swappiness}. Valid memory swappiness range is 0-100`);
  const result: Partial<ResourceConfig> = resources(flags);
  const list = <K extends keyof ResourceConfig>(name: string, field: K) => {
    if (flags.changed(name)) result[field] = [...flags.list(name)] as unknown as ResourceConfig[K]; // parsed by the flag into the field's item type
  };
  list("blkio-weight-device", "BlkioWeightDevice");
  list("device-read-bps", "BlkioDeviceReadBps");
  list("device-write-bps", "BlkioDeviceWriteBps");
  list("device-read-iops", "BlkioDeviceReadIOps");
  list("device-write-iops", "BlkioDeviceWriteIOps");
  list("device-cgroup-rule", "DeviceCgroupRules");
  list("ulimit", "Ulimits");
  const [named, paths] = [flags.list("device").filter(isCdiName), flags.list("device").filter((device) => !isCdiName(device))];
  if (paths.length > 0) result.Devices = paths.map(parseDevice);
  const requests = [
    ...(flags.changed("gpus") ? [flags.get<DeviceRequest>("gpus")] : []),
    ...(named.length > 0 ? [{ Driver: "cdi", Count: 0, DeviceIDs: named, Capabilities: null, Options: null }] : []),
  ];
  if (requests.length > 0) result.DeviceRequests = requests;
  if (swappiness !== -1) result.MemorySwappiness = swappiness;
  if (flags.on("oom-kill-disable")) result.OomKillDisable = true;
  if (flags.changed("cgroup-parent")) result.CgroupParent = flags.text("cgroup-parent");
  return result;
}

function healthAction(text: string): "none" | "restart" | "stop" | "kill" {
  if (text === "none" || text === "restart" || text === "stop" || text === "kill") return text;
  throw new Error(`invalid --health-on-failure "${text}": use none, restart, stop or kill`);
}

/** Throws Error with docker's reason. `args` starts with the image unless --rootfs is given. */
export async function createBody(flags: FlagValues, args: readonly string[], context: CreateContext): Promise<CreateBody> {
  const rootfs = flags.text("rootfs");
  const command = rootfs === "" ? args.slice(1) : args;
  const mac = flags.text("mac-address");
  if (mac !== "") macAddress(mac);
  const volumes = parseVolumes(flags.list("volume"), context.cwd);
  const ports = parsePorts(flags.list("publish"), flags.list("expose"));
  const env = await readEnv(flags.list("env-file"), flags.list("env"), context.cwd, context.env);
  const labels = await readLabels(flags.list("label-file"), flags.list("label"), context.cwd);
  const health = await parseHealth(flags, context.cwd);
  const attach = attachments(flags);
  const networks = parseNetworks(flags);
  const config: Partial<ContainerConfig> = {
    Hostname: flags.text("hostname"),
    Domainname: flags.text("domainname"),
    User: flags.text("user"),
    ...attach,
    Tty: flags.on("tty"),
    OpenStdin: flags.on("interactive"),
    // A client that goes away ends the input of a container that it was to feed.
    StdinOnce: flags.on("interactive") && attach.AttachStdin,
    Env: ifAny(env),
    Cmd: ifAny(command),
    Image: rootfs === "" ? args[0]! : "", // the arity is checked
    Volumes: volumes.volumes,
    WorkingDir: flags.text("workdir"),
    Entrypoint: flags.changed("entrypoint") ? [flags.text("entrypoint")] : null,
    Labels: toMap(labels),
    ...(health === undefined ? {} : { Healthcheck: health }),
    ...(Object.keys(ports.exposed).length > 0 ? { ExposedPorts: ports.exposed } : {}),
    ...(flags.text("stop-signal") === "" ? {} : { StopSignal: flags.text("stop-signal") }),
    ...(flags.changed("stop-timeout") ? { StopTimeout: flags.number("stop-timeout") } : {}),
  };
  const host = await hostConfig(flags, context, volumes.binds, networks.mode);
  if (Object.keys(ports.bindings).length > 0) host.PortBindings = ports.bindings;
  if (flags.text("log-driver") === "" && flags.list("log-opt").length === 0) host.WherryBoundLog = true;
  const onFailure = flags.text("health-on-failure");
  if (onFailure !== "") host.WherryHealthOnFailure = healthAction(onFailure);
  if (rootfs !== "") host.WherryRootfs = resolve(context.cwd, rootfs);
  return { ...config, HostConfig: host, NetworkingConfig: { EndpointsConfig: networks.endpoints } };
}

function attachments(flags: FlagValues): { AttachStdin: boolean; AttachStdout: boolean; AttachStderr: boolean } {
  const named = flags.list("attach");
  return {
    AttachStdin: named.includes("stdin") || flags.on("interactive"),
    AttachStdout: named.length === 0 || named.includes("stdout"),
    AttachStderr: named.length === 0 || named.includes("stderr"),
  };
}

async function hostConfig(flags: FlagValues, context: CreateContext, binds: string[], networkMode: string): Promise<Partial<HostConfig>> {
  const restart = parseRestart(flags.text("restart"));
  if (flags.on("rm") && restart.Name !== "" && restart.Name !== "no") throw new Error("conflicting options: cannot specify both --restart and --rm");
  const host: Partial<HostConfig> = {
    ...createResources(flags),
    NetworkMode: networkMode,
    RestartPolicy: restart,
    AutoRemove: flags.on("rm"),
    LogConfig: parseLogging(flags.text("log-driver"), flags.list("log-opt")),
    PidMode: namespaceMode("pid", flags.text("pid"), /^(host|container:.+|private)?$/, "PID"),
    UTSMode: namespaceMode("uts", flags.text("uts"), /^(host)?$/, "UTS"),
    UsernsMode: userNamespace(flags.text("userns"), context.env),
    CgroupnsMode: namespaceMode("cgroupns", flags.text("cgroupns"), /^(host|private)?$/, "CGROUP"),
    IpcMode: flags.text("ipc"),
    ConsoleSize: [0, 0],
  };
  if (binds.length > 0) host.Binds = binds;
  lists(flags, host);
  switches(flags, host);
  if (flags.changed("mount")) host.Mounts = flags.list<MountFlag>("mount").map((mount) => resolveMount(mount, context.cwd));
  if (flags.changed("tmpfs")) host.Tmpfs = parseTmpfs(flags.list("tmpfs"));
  if (flags.changed("sysctl")) host.Sysctls = toMap(flags.list("sysctl"));
  if (flags.changed("annotation")) host.Annotations = toMap(flags.list("annotation"));
  if (flags.changed("storage-opt")) host.StorageOpt = parseStorageOptions(flags.list("storage-opt"));
  if (flags.changed("security-opt")) {
    const security = await readSecurityOptions(flags.list("security-opt"), context.cwd);
    host.SecurityOpt = ifAny(security.options);
    if (security.unmasked) {
      host.MaskedPaths = [];
      host.ReadonlyPaths = [];
    }
  }
  return host;
}

function lists(flags: FlagValues, host: Partial<HostConfig>): void {
  const put = (name: string, field: "Dns" | "DnsOptions" | "DnsSearch" | "ExtraHosts" | "GroupAdd" | "Links" | "VolumesFrom") => {
    if (flags.changed(name)) host[field] = [...flags.list(name)];
  };
  if (flags.changed("cap-add")) host.CapAdd = parseCapabilities(flags.list("cap-add"));
  if (flags.changed("cap-drop")) host.CapDrop = parseCapabilities(flags.list("cap-drop"));
  put("dns", "Dns");
  put("dns-opt", "DnsOptions");
  put("dns-option", "DnsOptions");
  put("dns-search", "DnsSearch");
  put("add-host", "ExtraHosts");
  put("group-add", "GroupAdd");
  put("link", "Links");
  put("volumes-from", "VolumesFrom");
}

function switches(flags: FlagValues, host: Partial<HostConfig>): void {
  if (flags.on("privileged")) host.Privileged = true;
  if (flags.on("publish-all")) host.PublishAllPorts = true;
  // Not the world, unless told so: `-p 0.0.0.0:80:80`, or for all ports at once.
  if (flags.on("publish-all") || flags.list("publish").length > 0) host.WherryPublishHost = flags.text("publish-host");
  if (flags.on("read-only")) host.ReadonlyRootfs = true;
  if (flags.changed("init")) host.Init = flags.on("init");
  if (flags.changed("oom-score-adj")) host.OomScoreAdj = flags.number("oom-score-adj");
  if (flags.changed("shm-size")) host.ShmSize = flags.number("shm-size");
  if (flags.changed("runtime")) host.Runtime = flags.text("runtime");
  if (flags.changed("isolation")) host.Isolation = flags.text("isolation");
  if (flags.changed("volume-driver")) host.VolumeDriver = flags.text("volume-driver");
  if (flags.changed("cidfile")) host.ContainerIDFile = flags.text("cidfile");
}
