/**
 * What a container may not be that is made through a socket without the right `host`: anything that reaches out of it. The list of what is allowed is closed:
 * an option that nobody has thought about here is refused.
 * @module
 */
import type { HostConfig, MountSpec, ResourceConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";

/** Options that stay within a container, whatever they say. Published ports are the one exception: they take a port of the host. */
const harmless: ReadonlySet<string> = new Set<keyof HostConfig>([
  "CpuShares",
  "Memory",
  "NanoCpus",
  "BlkioWeight",
  "CpuPeriod",
  "CpuQuota",
  "CpusetCpus",
  "CpusetMems",
  "KernelMemoryTCP",
  "MemoryReservation",
  "MemorySwap",
  "MemorySwappiness",
  "PidsLimit",
  "Ulimits",
  "CpuCount",
  "CpuPercent",
  "IOMaximumIOps",
  "IOMaximumBandwidth",
  "WherryPublishHost",
  "WherryNetworkRate",
  "PortBindings",
  "PublishAllPorts",
  "RestartPolicy",
  "AutoRemove",
  "ConsoleSize",
  "ContainerIDFile",
  "CapDrop",
  "Dns",
  "DnsOptions",
  "DnsSearch",
  "ExtraHosts",
  "GroupAdd",
  "ReadonlyRootfs",
  "ShmSize",
  "Tmpfs",
  "Init",
  "WherryHealthOnFailure",
  "WherryBoundLog",
  // The engine has one of each, and refuses others.
  "Runtime",
  "Isolation",
  // These name other objects, whose own rules scoped-engine.ts applies, or are looked at below.
  "VolumesFrom",
  "Links",
  "NetworkMode",
  "Binds",
  "Mounts",
  "PidMode",
  "IpcMode",
  "UTSMode",
  "UsernsMode",
  "CgroupnsMode",
  "SecurityOpt",
  "LogConfig",
  "Sysctls",
  "OomScoreAdj",
]);

/** What a container has anyway. */
const defaultCapabilities: ReadonlySet<string> = new Set([
  "CHOWN",
  "DAC_OVERRIDE",
  "FSETID",
  "FOWNER",
  "MKNOD",
  "NET_RAW",
  "SETGID",
  "SETUID",
  "SETFCAP",
  "SETPCAP",
  "NET_BIND_SERVICE",
  "SYS_CHROOT",
  "KILL",
  "AUDIT_WRITE",
]);

/** Sysctls that belong to the container's namespaces. */
const ownSysctl = /^(net\.|kernel\.(shm|msg|sem)|fs\.mqueue\.)/;

function refuse(what: string): EngineError {
  return new EngineError("denied", `this socket does not allow ${what}`, { hint: "it needs the right host" });
}

/** Null, "", 0, false, an empty list or object: not said. */
function isUnset(value: unknown): boolean {
  if (value === undefined || value === null || value === "" || value === 0 || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** @throws EngineError "denied" for the first option that reaches the host */
export function checkHostConfig(host: HostConfig): void {
  for (const [key, value] of Object.entries(host)) {
    if (key === "CapAdd") checkCapabilities(host.CapAdd ?? []);
    // An empty list says that nothing is masked.
    else if (key === "MaskedPaths" || key === "ReadonlyPaths") {
      if (value !== null) throw refuse(`${key}`);
    } else if (!harmless.has(key) && !isUnset(value)) throw refuse(`${key}`);
  }
  for (const [key, shared] of [
    ["PidMode", host.PidMode],
    ["IpcMode", host.IpcMode],
    ["UTSMode", host.UTSMode],
    ["UsernsMode", host.UsernsMode],
    ["CgroupnsMode", host.CgroupnsMode],
  ] as const) {
    const own = shared === "" || shared === "private" || (key === "IpcMode" && ["shareable", "none"].includes(shared));
    if (!own && !(shared.startsWith("container:") && (key === "PidMode" || key === "IpcMode"))) throw refuse(`${key} ${shared}`);
  }
  if (host.NetworkMode === "host") throw refuse("the host's network");
  for (const option of host.SecurityOpt ?? []) if (!/^no-new-privileges(([:=])true)?$/.test(option)) throw refuse(`the security option ${option}`);
  if (!["", "json-file", "local", "none"].includes(host.LogConfig.Type)) throw refuse(`the log driver ${host.LogConfig.Type}`);
  for (const name of Object.keys(host.Sysctls ?? {})) if (!ownSysctl.test(name)) throw refuse(`the sysctl ${name}`);
  if (host.OomScoreAdj < 0) throw refuse("an OomScoreAdj below 0");
  for (const bind of host.Binds ?? []) if (!isVolumeName(bind.split(":")[0] ?? "")) throw refuse(`the host's path in ${bind}`);
  for (const mount of host.Mounts ?? []) checkMount(mount);
}

function checkCapabilities(added: readonly string[]): void {
  for (const name of added) if (!defaultCapabilities.has(name.toUpperCase().replace(/^CAP_/, ""))) throw refuse(`the capability ${name}`);
}

function isVolumeName(source: string): boolean {
  return /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(source);
}

function checkMount({ Type, Source = "", VolumeOptions }: MountSpec): void {
  if (Type === "tmpfs" || Type === "image") return;
  if (Type !== "volume") throw refuse(`mounts of type ${Type}`);
  if (Source !== "" && !isVolumeName(Source)) throw refuse(`the mount's source ${Source}`);
  if (!isUnset(VolumeOptions?.DriverConfig?.Options)) throw refuse("a volume with driver options");
}

/** Volumes that are named: `-v name:/path` and mounts. */
export function namedVolumes(host: HostConfig): string[] {
  const bound = (host.Binds ?? [])
    .map((bind) => bind.split(":"))
    .flatMap(([source = "", target]) => (target === undefined || !isVolumeName(source) ? [] : [source]));
  const mounted = (host.Mounts ?? []).flatMap(({ Type, Source }) => (Type === "volume" && Source !== undefined && Source !== "" ? [Source] : []));
  return [...new Set([...bound, ...mounted])];
}

/** Containers that a new one would share something with: by what is shared. */
export function namedContainers(host: HostConfig): string[] {
  const modes = [host.NetworkMode, host.PidMode, host.IpcMode].flatMap((mode) => (mode.startsWith("container:") ? [mode.slice("container:".length)] : []));
  const volumes = (host.VolumesFrom ?? []).map((from) => from.split(":")[0] ?? "");
  const links = (host.Links ?? []).map((link) => (link.split(":")[0] ?? "").replace(/^\//, ""));
  return [...modes, ...volumes, ...links];
}

/** Changes of a running container's limits. @throws EngineError "denied" */
export function checkResources(resources: Partial<ResourceConfig>): void {
  for (const [key, value] of Object.entries(resources)) if (!harmless.has(key) && !isUnset(value)) throw refuse(`${key}`);
}

/** A volume's own options. @throws EngineError "denied" */
export function checkVolumeOptions(options: Readonly<Record<string, string>> | undefined, driver: string | undefined): void {
  if (driver !== undefined && driver !== "" && driver !== "local") throw refuse(`the volume driver ${driver}`);
  if (!isUnset(options) && options?.["type"] !== "tmpfs") throw refuse("volumes with driver options, other than type=tmpfs");
}

/** Options of a bridge that touch nothing but its own containers. */
const ownNetworkOptions: ReadonlySet<string> = new Set([
  "com.docker.network.bridge.enable_icc",
  "com.docker.network.bridge.enable_ip_masquerade",
  "com.docker.network.driver.mtu",
]);

const privateRange = /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|f[cd][0-9a-f]{2}:)/i;

/** @throws EngineError "denied" */
export function checkNetwork(network: {
  readonly Driver?: string;
  readonly Options?: Readonly<Record<string, string>> | null;
  readonly IPAM?: { readonly Config?: readonly { readonly Subnet?: string }[] | null } | null;
}): void {
  if (network.Driver !== undefined && network.Driver !== "" && network.Driver !== "bridge") throw refuse(`the network driver ${network.Driver}`);
  for (const key of Object.keys(network.Options ?? {})) if (!ownNetworkOptions.has(key)) throw refuse(`the network option ${key}`);
  for (const { Subnet = "" } of network.IPAM?.Config ?? []) if (Subnet !== "" && !privateRange.test(Subnet)) throw refuse(`the public addresses ${Subnet}`);
}
