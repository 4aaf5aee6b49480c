/** Container records as Docker's JSON. Pure. @module */
import { zeroTime } from "#core/clock.ts";
import type { PortBinding } from "#core/container-config.ts";
import { shortId } from "#core/ids.ts";
import type { ContainerRecord, ExecRecord, HealthState, MountPoint } from "#container/mod.ts";
import type { ContainerInspect, ContainerSummary, EndpointJson, ExecInspect, HealthJson, MountJson, PortJson } from "#api/types/container-json.ts";
import { humanDuration } from "#api/types/text.ts";

const live = (record: ContainerRecord): boolean => ["running", "paused", "restarting"].includes(record.state.status);

/** "Up 2 minutes (Paused)", "Exited (0) 3 hours ago". `now` in ms. */
export function statusText(record: ContainerRecord, now: number): string {
  const { state } = record;
  const since = (time: string): string => humanDuration(Math.max(0, now - Date.parse(time)));
  switch (state.status) {
    case "running":
      return `Up ${since(state.startedAt)}${healthText(state.health)}`;
    case "paused":
      return `Up ${since(state.startedAt)} (Paused)`;
    case "restarting":
      return `Restarting (${state.exitCode}) ${since(state.finishedAt)} ago`;
    case "removing":
      return "Removal In Progress";
    case "dead":
      return "Dead";
    case "created":
      return "Created";
    case "exited":
      return state.startedAt === zeroTime ? "Created" : state.finishedAt === zeroTime ? "" : `Exited (${state.exitCode}) ${since(state.finishedAt)} ago`;
  }
}

function healthText(health: HealthState | undefined): string {
  if (health === undefined) return "";
  return health.status === "starting" ? " (health: starting)" : ` (${health.status})`;
}

function healthJson({ status, failingStreak, log }: HealthState): HealthJson {
  return {
    Status: status,
    FailingStreak: failingStreak,
    Log: log.map(({ start, end, exitCode, output }) => ({ Start: start, End: end, ExitCode: exitCode, Output: output })),
  };
}

function commandText(record: ContainerRecord): string {
  return [record.path, ...record.args.map((arg) => (arg.includes(" ") ? `'${arg}'` : arg))].join(" ");
}

function mountJson(mount: MountPoint): MountJson {
  return {
    Type: mount.Type,
    ...(mount.Name === undefined ? {} : { Name: mount.Name }),
    Source: mount.Source,
    Destination: mount.Destination,
    ...(mount.Driver === undefined ? {} : { Driver: mount.Driver }),
    Mode: mount.Mode,
    RW: mount.RW,
    Propagation: mount.Propagation,
  };
}

/** Exposed ports (null when not published) and published ones; nothing while the container does not run. */
function portMap(record: ContainerRecord): Record<string, PortBinding[] | null> {
  if (!live(record)) return {};
  const exposed = Object.keys(record.config.ExposedPorts ?? {}).map((port) => [port, null] as const);
  return { ...Object.fromEntries(exposed), ...record.ports };
}

function portList(record: ContainerRecord): PortJson[] {
  const list: PortJson[] = [];
  for (const [port, bindings] of Object.entries(portMap(record))) {
    const [number, type = "tcp"] = port.split("/");
    const base = { PrivatePort: Number(number), Type: type };
    if (!bindings?.length) list.push(base);
    for (const b of bindings ?? []) list.push({ IP: b.HostIp, PrivatePort: base.PrivatePort, PublicPort: Number(b.HostPort), Type: type });
  }
  return list;
}

/** Looks a network's id up by name; "" when there is none. */
export type NetworkId = (name: string) => string;

/** Every network the container is (or will be) on, by name. */
function endpoints(record: ContainerRecord, networkId: NetworkId, minor: number): Record<string, EndpointJson> {
  const mode = record.hostConfig.NetworkMode;
  const asked = record.networkingConfig.EndpointsConfig;
  const names = new Set([...Object.keys(record.endpoints), ...Object.keys(asked)]);
  if (names.size === 0 && !mode.startsWith("container:") && !record.config.NetworkDisabled) names.add(mode);
  const result: Record<string, EndpointJson> = {};
  for (const name of [...names].sort()) {
    const now = record.endpoints[name];
    const config = asked[name];
    const aliases = now?.Aliases ?? config?.Aliases ?? null;
    result[name] = {
      IPAMConfig: config?.IPAMConfig ?? null,
      Links: config?.Links ?? null,
      // Below 1.45 the short id was among the aliases; since then it is only in DNSNames.
      Aliases: minor < 45 && aliases !== null ? [...new Set([...aliases, shortId(record.id)])] : aliases,
      MacAddress: now?.MacAddress ?? "",
      DriverOpts: config?.DriverOpts ?? null,
      GwPriority: config?.GwPriority ?? 0,
      NetworkID: now?.NetworkID ?? networkId(name),
      EndpointID: now?.EndpointID ?? "",
      Gateway: now?.Gateway ?? "",
      IPAddress: now?.IPAddress ?? "",
      IPPrefixLen: now?.IPPrefixLen ?? 0,
      IPv6Gateway: now?.IPv6Gateway ?? "",
      GlobalIPv6Address: now?.GlobalIPv6Address ?? "",
      GlobalIPv6PrefixLen: now?.GlobalIPv6PrefixLen ?? 0,
      DNSNames: now?.DNSNames ?? null,
    };
  }
  return result;
}

export interface SizeJson {
  readonly rw: number;
  readonly rootFs: number;
}

const sizes = (size: SizeJson | undefined): { SizeRw?: number; SizeRootFs?: number } => (size ? { SizeRw: size.rw, SizeRootFs: size.rootFs } : {});

export interface SummaryOptions {
  readonly now: number;
  readonly minor: number;
  /** What to show as the image: the reference if it still names the image, else the id. */
  readonly image: string;
  readonly networkId: NetworkId;
  readonly size?: SizeJson | undefined;
}

/** One entry of `GET /containers/json`. */
export function containerSummary(record: ContainerRecord, options: SummaryOptions): ContainerSummary {
  const annotations = record.hostConfig.Annotations;
  return {
    Id: record.id,
    Names: [`/${record.name}`],
    Image: options.image,
    ImageID: record.imageId,
    Command: commandText(record),
    Created: Math.floor(Date.parse(record.created) / 1000),
    Ports: portList(record),
    ...sizes(options.size),
    Labels: record.config.Labels,
    State: record.state.status,
    Status: statusText(record, options.now),
    HostConfig: { NetworkMode: record.hostConfig.NetworkMode, ...(annotations && options.minor >= 46 ? { Annotations: annotations } : {}) },
    NetworkSettings: { Networks: endpoints(record, options.networkId, options.minor) },
    Mounts: record.mounts.map(mountJson),
  };
}

export interface InspectOptions {
  readonly minor: number;
  readonly networkId: NetworkId;
  readonly execIds: readonly string[];
  readonly graph: Readonly<Record<string, string>>;
  readonly size?: SizeJson | undefined;
}

function idMappingsJson({ uids, gids }: NonNullable<ContainerRecord["idMappings"]>): NonNullable<ContainerInspect["HostConfig"]["IDMappings"]> {
  const lines = (map: typeof uids) => map.map(({ containerID, hostID, size }) => `${containerID}:${hostID}:${size}`);
  return { UidMap: lines(uids), GidMap: lines(gids) };
}

/** `GET /containers/{id}/json`. */
export function containerInspect(record: ContainerRecord, options: InspectOptions): ContainerInspect {
  const { state } = record;
  const networks = endpoints(record, options.networkId, options.minor);
  const legacy = networks.bridge;
  return {
    Id: record.id,
    Created: record.created,
    Path: record.path,
    Args: record.args,
    State: {
      Status: state.status,
      Running: live(record),
      Paused: state.status === "paused",
      Restarting: state.status === "restarting",
      OOMKilled: state.oomKilled,
      Dead: state.dead,
      Pid: live(record) ? state.pid : 0,
      ExitCode: state.exitCode,
      Error: state.error,
      StartedAt: state.startedAt,
      FinishedAt: state.finishedAt,
      ...(state.health === undefined ? {} : { Health: healthJson(state.health) }),
      ...(state.reason === "" ? {} : { Reason: state.reason }),
      ...(state.refused === undefined ? {} : { SeccompRefused: [...state.refused] }),
    },
    Image: record.imageId,
    ResolvConfPath: record.resolvConfPath,
    HostnamePath: record.hostnamePath,
    HostsPath: record.hostsPath,
    LogPath: record.hostConfig.LogConfig.Type === "json-file" ? record.logPath : "",
    Name: `/${record.name}`,
    RestartCount: record.restartCount,
    Driver: record.driver,
    Platform: "linux",
    MountLabel: record.mountLabel ?? "",
    ProcessLabel: record.processLabel ?? "",
    AppArmorProfile: record.appArmorProfile ?? "",
    ExecIDs: options.execIds.length === 0 ? null : [...options.execIds],
    HostConfig: record.idMappings === undefined ? record.hostConfig : { ...record.hostConfig, IDMappings: idMappingsJson(record.idMappings) },
    GraphDriver: { Data: { ...options.graph }, Name: record.driver },
    ...sizes(options.size),
    Mounts: record.mounts.map(mountJson),
    Config: record.config,
    NetworkSettings: {
      Bridge: "",
      SandboxID: "",
      SandboxKey: "",
      Ports: portMap(record),
      HairpinMode: false,
      LinkLocalIPv6Address: "",
      LinkLocalIPv6PrefixLen: 0,
      SecondaryIPAddresses: null,
      SecondaryIPv6Addresses: null,
      EndpointID: legacy?.EndpointID ?? "",
      Gateway: legacy?.Gateway ?? "",
      GlobalIPv6Address: legacy?.GlobalIPv6Address ?? "",
      GlobalIPv6PrefixLen: legacy?.GlobalIPv6PrefixLen ?? 0,
      IPAddress: legacy?.IPAddress ?? "",
      IPPrefixLen: legacy?.IPPrefixLen ?? 0,
      IPv6Gateway: legacy?.IPv6Gateway ?? "",
      MacAddress: legacy?.MacAddress ?? "",
      Networks: networks,
    },
  };
}

/** `GET /exec/{id}/json`. */
export function execInspect(record: ExecRecord): ExecInspect {
  const [entrypoint = "", ...rest] = record.config.Cmd;
  return {
    ID: record.id,
    Running: record.running,
    ExitCode: record.exitCode,
    ProcessConfig: {
      tty: record.config.Tty,
      entrypoint,
      arguments: rest,
      privileged: record.config.Privileged,
      ...(record.config.User === "" ? {} : { user: record.config.User }),
    },
    OpenStdin: record.openStdin,
    OpenStderr: record.config.AttachStderr,
    OpenStdout: record.config.AttachStdout,
    CanRemove: !record.running && record.exitCode !== null,
    ContainerID: record.containerId,
    DetachKeys: record.config.DetachKeys,
    Pid: record.pid,
  };
}
