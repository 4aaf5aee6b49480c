/** Readers for the host's half of a container's configuration. @module */
import type {
  DeviceMapping,
  DeviceRequest,
  EndpointConfig,
  HostConfig,
  LogConfig,
  MountSpec,
  NetworkingConfig,
  PortBinding,
  ResourceConfig,
  RestartPolicy,
  Ulimit,
} from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { isIP } from "node:net";
import { normalPort } from "./container-config.ts";
import { asObject, type Field, flag, int, list, map, object, optional, orElse, orNull, strings, text, wrongType } from "./fields.ts";

/** Docker's /dev/shm. */
const defaultShmBytes = 64 * 1024 * 1024;
/** Names that mean "the engine's own runtime". */
const ownRuntimes: readonly string[] = ["", "wherry", "runc", "io.containerd.runc.v2"];

const texts: Field<string[] | null> = orNull(list(text));
const rate = orNull(list(object<{ Path: string; Rate: number }>({ Path: text, Rate: int })));

/** One field of ResourceConfig each. */
const resourceFields: { readonly [K in keyof ResourceConfig]-?: Field<ResourceConfig[K]> } = {
  CpuShares: int,
  Memory: int,
  NanoCpus: int,
  CgroupParent: text,
  BlkioWeight: int,
  BlkioWeightDevice: orNull(list(object<{ Path: string; Weight: number }>({ Path: text, Weight: int }))),
  BlkioDeviceReadBps: rate,
  BlkioDeviceWriteBps: rate,
  BlkioDeviceReadIOps: rate,
  BlkioDeviceWriteIOps: rate,
  CpuPeriod: int,
  CpuQuota: int,
  CpuRealtimePeriod: int,
  CpuRealtimeRuntime: int,
  CpusetCpus: text,
  CpusetMems: text,
  Devices: orNull(list(object<DeviceMapping>({ PathOnHost: text, PathInContainer: text, CgroupPermissions: text }))),
  DeviceCgroupRules: texts,
  DeviceRequests: orNull(
    list(object<DeviceRequest>({ Driver: text, Count: int, DeviceIDs: texts, Capabilities: orNull(list(list(text))), Options: orNull(map(text)) })),
  ),
  KernelMemoryTCP: optional(int),
  MemoryReservation: int,
  MemorySwap: int,
  MemorySwappiness: orNull(int),
  OomKillDisable: orNull(flag),
  // 0 and -1 both mean "no limit".
  PidsLimit: (value, path) => {
    const limit = orNull(int)(value, path);
    return limit !== null && limit <= 0 ? null : limit;
  },
  Ulimits: orNull(list(object<Ulimit>({ Name: text, Soft: int, Hard: int }))),
  CpuCount: int,
  CpuPercent: int,
  IOMaximumIOps: int,
  WherryUnified: optional(map(text)),
  WherryNetworkRate: optional(map(text)),
  WherryNetworkClassId: optional(int),
  WherryNetworkPriorities: optional(map(int)),
  WherryEgress: optional(list(text)),
  IOMaximumBandwidth: int,
};

const mount = object<MountSpec>({
  Type: (value, path) => {
    const type = text(value, path);
    if (type !== "bind" && type !== "volume" && type !== "tmpfs" && type !== "image" && type !== "npipe" && type !== "cluster") {
      throw new EngineError("invalid", `invalid mount config for type "${type}": mount type unknown`);
    }
    return type;
  },
  Source: optional(text),
  Target: text,
  ReadOnly: optional(flag),
  Consistency: optional(text),
  BindOptions: optional(
    object<NonNullable<MountSpec["BindOptions"]>>({
      Propagation: optional(text),
      NonRecursive: optional(flag),
      CreateMountpoint: optional(flag),
      ReadOnlyNonRecursive: optional(flag),
      ReadOnlyForceRecursive: optional(flag),
      WherryIdmap: optional(text),
    }),
  ),
  VolumeOptions: optional(
    object<NonNullable<MountSpec["VolumeOptions"]>>({
      NoCopy: optional(flag),
      Labels: optional(map(text)),
      DriverConfig: optional(object<{ Name?: string; Options?: Record<string, string> }>({ Name: optional(text), Options: optional(map(text)) })),
      Subpath: optional(text),
    }),
  ),
  ImageOptions: optional(object<NonNullable<MountSpec["ImageOptions"]>>({ Subpath: optional(text) })),
  TmpfsOptions: optional(
    object<NonNullable<MountSpec["TmpfsOptions"]>>({ SizeBytes: optional(int), Mode: optional(int), Options: optional(list(list(text))) }),
  ),
});

/** `on-failure:3` and its like. Throws EngineError invalid with Docker's texts. */
export const restartPolicy: Field<RestartPolicy> = (value, path) => {
  const given = object<{ Name: string; MaximumRetryCount: number }>({ Name: text, MaximumRetryCount: int })(value, path);
  const { Name: name, MaximumRetryCount: count } = given;
  if (name !== "" && name !== "no" && name !== "always" && name !== "unless-stopped" && name !== "on-failure") {
    throw new EngineError("invalid", `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`);
  }
  if (name !== "on-failure" && count !== 0) throw new EngineError("invalid", "invalid restart policy: maximum retry count can only be used with 'on-failure'");
  if (count < 0) throw new EngineError("invalid", "invalid restart policy: maximum retry count cannot be negative");
  return { Name: name === "" ? "no" : name, MaximumRetryCount: count };
};

const portBindings: Field<Record<string, PortBinding[] | null> | null> = (value, path) => {
  const given = orNull(map(orNull(list(object<PortBinding>({ HostIp: text, HostPort: text })))))(value, path);
  if (given === null) return null;
  return Object.fromEntries(Object.entries(given).map(([port, bindings]) => [normalPort(port, path), bindings]));
};

const consoleSize: Field<[number, number]> = (value, path) => {
  if (value === undefined || value === null) return [0, 0];
  const size = list(int)(value, path);
  if (size.length !== 2 || size.some((n) => n < 0 || n > 65535)) throw wrongType(path, "[rows, columns]", value);
  return [size[0]!, size[1]!];
};

/** "" and "default" are the default bridge. */
const networkMode: Field<string> = (value, path) => {
  const mode = text(value, path);
  return mode === "" || mode === "default" ? "bridge" : mode;
};

const runtime: Field<string> = (value, path) => {
  const name = text(value, path);
  if (!ownRuntimes.includes(name)) throw new EngineError("invalid", `unknown or invalid runtime name: ${name.slice(0, 80)}`);
  return "wherry";
};

const healthAction: Field<"none" | "restart" | "stop" | "kill"> = (value, path) => {
  const action = text(value, path);
  if (action === "none" || action === "restart" || action === "stop" || action === "kill") return action;
  throw wrongType(path, "none, restart, stop or kill", value);
};

/** Reads Docker's `HostConfig`; missing fields get Docker's defaults. */
export const hostConfig: Field<HostConfig> = object<HostConfig>({
  ...resourceFields,
  Binds: texts,
  ContainerIDFile: text,
  LogConfig: (value, path) => {
    const config = object<LogConfig>({ Type: text, Config: orElse(map(text), {}) })(value, path);
    return { Type: config.Type === "" ? "json-file" : config.Type, Config: config.Config };
  },
  NetworkMode: networkMode,
  PortBindings: portBindings,
  RestartPolicy: restartPolicy,
  AutoRemove: flag,
  VolumeDriver: text,
  VolumesFrom: texts,
  ConsoleSize: consoleSize,
  Annotations: optional(map(text)),
  // docker-py sends a lone string for some of these, as Docker's strslice takes it.
  CapAdd: orNull(strings),
  CapDrop: orNull(strings),
  CgroupnsMode: text,
  Dns: texts,
  DnsOptions: texts,
  DnsSearch: texts,
  ExtraHosts: texts,
  GroupAdd: texts,
  IpcMode: (value, path) => text(value, path) || "private",
  Cgroup: text,
  Links: texts,
  OomScoreAdj: (value, path) => {
    const score = int(value, path);
    if (score < -1000 || score > 1000) throw new EngineError("invalid", `Invalid value ${score}, range for oom score adj is [-1000, 1000]`);
    return score;
  },
  PidMode: text,
  Privileged: flag,
  PublishAllPorts: flag,
  ReadonlyRootfs: flag,
  SecurityOpt: texts,
  StorageOpt: optional(map(text)),
  Tmpfs: optional(map(text)),
  UTSMode: text,
  UsernsMode: text,
  ShmSize: (value, path) => {
    const bytes = int(value, path);
    if (bytes < 0) throw new EngineError("invalid", "SHM size can not be less than 0");
    return bytes === 0 ? defaultShmBytes : bytes;
  },
  Sysctls: optional(map(text)),
  Runtime: runtime,
  Isolation: text,
  Mounts: optional(list(mount)),
  MaskedPaths: texts,
  ReadonlyPaths: texts,
  Init: (value, path) => (value === undefined ? undefined : orNull(flag)(value, path)),
  WherryHealthOnFailure: optional(healthAction),
  WherryBoundLog: optional(flag),
  WherryPublishHost: optional((value, path) => {
    const address = text(value, path);
    if (address !== "" && isIP(address) === 0) throw new EngineError("invalid", `${path}: "${address.slice(0, 64)}" is no IP address`);
    return address || undefined;
  }),
  WherryRootfs: optional((value, path) => text(value, path) || undefined),
});

/** Reads one network's part of NetworkingConfig. */
export const endpointConfig: Field<EndpointConfig> = object<EndpointConfig>({
  IPAMConfig: orNull(
    object<NonNullable<EndpointConfig["IPAMConfig"]>>({ IPv4Address: optional(text), IPv6Address: optional(text), LinkLocalIPs: optional(list(text)) }),
  ),
  Links: texts,
  Aliases: texts,
  MacAddress: optional((value, path) => text(value, path) || undefined),
  DriverOpts: orNull(map(text)),
  GwPriority: optional(int),
});

/** Reads Docker's `NetworkingConfig`. The network "default" is called "bridge". */
export const networkingConfig: Field<NetworkingConfig> = (value, path) => {
  const given = object<{ EndpointsConfig: Record<string, EndpointConfig> }>({
    EndpointsConfig: orElse(
      map((v, p) => endpointConfig(v, p)),
      {},
    ),
  })(value, path);
  return {
    EndpointsConfig: Object.fromEntries(Object.entries(given.EndpointsConfig).map(([name, endpoint]) => [name === "default" ? "bridge" : name, endpoint])),
  };
};

/** What `POST /containers/{id}/update` may carry: only the fields that were given. `null` and 0 mean "leave it", and so does an empty list, but for egress rules: they deny. */
export function resourceUpdate(value: unknown): { readonly resources: Partial<ResourceConfig>; readonly restartPolicy: RestartPolicy | undefined } {
  const source = asObject(value ?? {}, "");
  const resources: Record<string, unknown> = {};
  for (const name of Object.keys(resourceFields) as (keyof ResourceConfig)[]) {
    const given = source[name];
    if (given === undefined || given === null) continue;
    // 0 and -1 remove a pids limit; an update says so with -1, since null means "leave it".
    const parsed = name === "PidsLimit" ? Math.max(int(given, name), 0) || -1 : resourceFields[name](given, name);
    if (parsed === 0 || parsed === "" || (Array.isArray(parsed) && parsed.length === 0 && name !== "WherryEgress")) continue;
    resources[name] = parsed;
  }
  const policy = source.RestartPolicy;
  const named = typeof policy === "object" && policy !== null && "Name" in policy && policy.Name !== "";
  return { resources: resources as Partial<ResourceConfig>, restartPolicy: named ? restartPolicy(policy, "RestartPolicy") : undefined };
}
