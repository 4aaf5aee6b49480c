/** Replies about containers and execs. @module */
import type { ContainerConfig, EndpointConfig, HostConfig, PortBinding } from "#core/container-config.ts";

export interface PortJson {
  IP?: string;
  PrivatePort: number;
  PublicPort?: number;
  Type: string;
}

export interface MountJson {
  Type: string;
  Name?: string;
  Source: string;
  Destination: string;
  Driver?: string;
  Mode: string;
  RW: boolean;
  Propagation: string;
}

/** Docker's EndpointSettings. */
export interface EndpointJson {
  IPAMConfig: EndpointConfig["IPAMConfig"];
  Links: string[] | null;
  Aliases: string[] | null;
  MacAddress: string;
  DriverOpts: Record<string, string> | null;
  GwPriority: number;
  NetworkID: string;
  EndpointID: string;
  Gateway: string;
  IPAddress: string;
  IPPrefixLen: number;
  IPv6Gateway: string;
  GlobalIPv6Address: string;
  GlobalIPv6PrefixLen: number;
  DNSNames: string[] | null;
}

/** `GET /containers/json`. */
export interface ContainerSummary {
  Id: string;
  /** Each with a leading slash. */
  Names: string[];
  Image: string;
  ImageID: string;
  Command: string;
  /** Unix seconds. */
  Created: number;
  Ports: PortJson[];
  SizeRw?: number;
  SizeRootFs?: number;
  Labels: Record<string, string>;
  /** created, running, paused, restarting, removing, exited, dead. */
  State: string;
  /** "Up 2 minutes", "Exited (0) 3 hours ago". */
  Status: string;
  HostConfig: { NetworkMode: string; Annotations?: Record<string, string> };
  NetworkSettings: { Networks: Record<string, EndpointJson> };
  Mounts: MountJson[];
}

/** Docker's Health: Status is starting, healthy or unhealthy; Log has the last five probes, oldest first. */
export interface HealthJson {
  Status: string;
  FailingStreak: number;
  Log: { Start: string; End: string; ExitCode: number; Output: string }[];
}

export interface ContainerStateJson {
  Status: string;
  Running: boolean;
  Paused: boolean;
  Restarting: boolean;
  OOMKilled: boolean;
  Dead: boolean;
  Pid: number;
  ExitCode: number;
  Error: string;
  StartedAt: string;
  FinishedAt: string;
  Health?: HealthJson;
  /** Ours: why it ended, for people. */
  Reason?: string;
  /** Ours: system calls that the seccomp filter refused, with `seccomp-audit=true`. */
  SeccompRefused?: string[];
}

/** `GET /containers/{id}/json`. */
export interface ContainerInspect {
  Id: string;
  Created: string;
  Path: string;
  Args: string[];
  State: ContainerStateJson;
  Image: string;
  ResolvConfPath: string;
  HostnamePath: string;
  HostsPath: string;
  LogPath: string;
  Name: string;
  RestartCount: number;
  Driver: string;
  Platform: string;
  MountLabel: string;
  ProcessLabel: string;
  AppArmorProfile: string;
  ExecIDs: string[] | null;
  /** IDMappings (ours, in Podman's form): the maps of its user namespace, lines of CONTAINER:HOST:COUNT. */
  HostConfig: HostConfig & { IDMappings?: { UidMap: string[]; GidMap: string[] } };
  GraphDriver: { Data: Record<string, string>; Name: string };
  SizeRw?: number;
  SizeRootFs?: number;
  Mounts: MountJson[];
  Config: ContainerConfig;
  NetworkSettings: {
    Bridge: string;
    SandboxID: string;
    SandboxKey: string;
    Ports: Record<string, PortBinding[] | null>;
    HairpinMode: boolean;
    LinkLocalIPv6Address: string;
    LinkLocalIPv6PrefixLen: number;
    SecondaryIPAddresses: null;
    SecondaryIPv6Addresses: null;
    EndpointID: string;
    Gateway: string;
    GlobalIPv6Address: string;
    GlobalIPv6PrefixLen: number;
    IPAddress: string;
    IPPrefixLen: number;
    IPv6Gateway: string;
    MacAddress: string;
    Networks: Record<string, EndpointJson>;
  };
}

/** `POST /containers/{id}/wait`. */
export interface WaitResult {
  StatusCode: number;
  Error?: { Message: string };
  /** Ours: why it ended, when the code does not say: "out of memory: limit 64 MiB". */
  Reason?: string;
}

/** `GET /containers/{id}/top`. */
export interface TopResult {
  Titles: string[];
  Processes: string[][];
}

/** `GET /containers/{id}/changes`: 0 modified, 1 added, 2 deleted. */
export interface ChangeItem {
  Path: string;
  Kind: 0 | 1 | 2;
}

/** `GET /exec/{id}/json`. */
export interface ExecInspect {
  ID: string;
  Running: boolean;
  ExitCode: number | null;
  ProcessConfig: { tty: boolean; entrypoint: string; arguments: string[]; privileged: boolean; user?: string };
  OpenStdin: boolean;
  OpenStderr: boolean;
  OpenStdout: boolean;
  CanRemove: boolean;
  ContainerID: string;
  DetachKeys: string;
  Pid: number;
}
