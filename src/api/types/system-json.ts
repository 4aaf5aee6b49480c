/** Replies about the daemon, events, networks and volumes. @module */
import type { ContainerSummary } from "./container-json.ts";
import type { ImageSummary } from "./image-json.ts";
import type { IpamPool } from "./requests.ts";

/** `GET /version`. */
export interface VersionJson {
  Platform: { Name: string };
  Components: { Name: string; Version: string; Details?: Record<string, string> }[];
  Version: string;
  ApiVersion: string;
  MinAPIVersion: string;
  GitCommit: string;
  GoVersion: string;
  Os: string;
  Arch: string;
  KernelVersion: string;
  BuildTime?: string;
}

/** `GET /info`. Fields of ours that Docker lacks: none. */
export interface SystemInfoJson {
  ID: string;
  Containers: number;
  ContainersRunning: number;
  ContainersPaused: number;
  ContainersStopped: number;
  Images: number;
  Driver: string;
  DriverStatus: [string, string][];
  Plugins: { Volume: string[]; Network: string[]; Authorization: string[] | null; Log: string[] };
  MemoryLimit: boolean;
  SwapLimit: boolean;
  CpuCfsPeriod: boolean;
  CpuCfsQuota: boolean;
  CPUShares: boolean;
  CPUSet: boolean;
  PidsLimit: boolean;
  IPv4Forwarding: boolean;
  Debug: boolean;
  NFd: number;
  OomKillDisable: boolean;
  NGoroutines: number;
  SystemTime: string;
  LoggingDriver: string;
  CgroupDriver: string;
  CgroupVersion: string;
  NEventsListener: number;
  KernelVersion: string;
  OperatingSystem: string;
  OSVersion: string;
  OSType: string;
  Architecture: string;
  IndexServerAddress: string;
  RegistryConfig: {
    InsecureRegistryCIDRs: string[];
    IndexConfigs: Record<string, { Name: string; Mirrors: string[]; Secure: boolean; Official: boolean }>;
    Mirrors: string[];
    AllowNondistributableArtifactsCIDRs?: null;
    AllowNondistributableArtifactsHostnames?: null;
  };
  NCPU: number;
  MemTotal: number;
  GenericResources: null;
  DockerRootDir: string;
  HttpProxy: string;
  HttpsProxy: string;
  NoProxy: string;
  Name: string;
  Labels: string[];
  ExperimentalBuild: boolean;
  ServerVersion: string;
  Runtimes: Record<string, { path: string; status?: Record<string, string> }>;
  DefaultRuntime: string;
  Swarm: { NodeID: string; NodeAddr: string; LocalNodeState: string; ControlAvailable: boolean; Error: string; RemoteManagers: null };
  LiveRestoreEnabled: boolean;
  Isolation: string;
  InitBinary: string;
  ContainerdCommit: { ID: string; Expected?: string };
  RuncCommit: { ID: string; Expected?: string };
  InitCommit: { ID: string; Expected?: string };
  SecurityOptions: string[];
  ProductLicense?: string;
  Warnings: string[] | null;
  CDISpecDirs: string[];
  [flag: string]: unknown;
}

/** `GET /events`, one a line. */
export interface EventJson {
  status?: string;
  id?: string;
  from?: string;
  Type: string;
  Action: string;
  Actor: { ID: string; Attributes: Record<string, string> };
  scope: "local";
  /** Unix seconds. */
  time: number;
  /** Unix nanoseconds. JSON.parse rounds it to some 256 ns. */
  timeNano: number;
}

/** `GET /networks/{id}`. */
export interface NetworkJson {
  Name: string;
  Id: string;
  Created: string;
  Scope: string;
  Driver: string;
  EnableIPv4: boolean;
  EnableIPv6: boolean;
  IPAM: { Driver: string; Options: Record<string, string> | null; Config: IpamPool[] };
  Internal: boolean;
  Attachable: boolean;
  Ingress: boolean;
  ConfigFrom: { Network: string };
  ConfigOnly: boolean;
  Containers: Record<string, { Name: string; EndpointID: string; MacAddress: string; IPv4Address: string; IPv6Address: string }>;
  Options: Record<string, string>;
  Labels: Record<string, string>;
}

/** `GET /volumes/{name}`. */
export interface VolumeJson {
  CreatedAt: string;
  Driver: string;
  Labels: Record<string, string> | null;
  Mountpoint: string;
  Name: string;
  Options: Record<string, string> | null;
  Scope: string;
  UsageData?: { Size: number; RefCount: number };
}

/** `GET /volumes`. */
export interface VolumeListJson {
  Volumes: VolumeJson[];
  Warnings: string[] | null;
}

/** `GET /system/df`. */
export interface DiskUsage {
  LayersSize?: number;
  Images?: ImageSummary[];
  Containers?: ContainerSummary[];
  Volumes?: VolumeJson[];
  BuildCache?: BuildCacheJson[];
}

/** A step that the build cache remembers. */
export interface BuildCacheJson {
  ID: string;
  Parent?: string;
  Parents?: string[];
  Type: "regular";
  Description: string;
  InUse: boolean;
  Shared: boolean;
  /** Bytes. */
  Size: number;
  CreatedAt: string;
  LastUsedAt: string | null;
  UsageCount: number;
}

/** How a name is resolved (`GET /wherry/dns`). */
export interface NameTraceJson {
  readonly found: readonly { readonly network: string; readonly container: string; readonly addresses: readonly string[] }[];
  /** It may ask nobody: it is on internal networks only. */
  readonly internal: boolean;
  /** Its egress rules do not let it ask for this name. */
  readonly refused: boolean;
  readonly asked: readonly { readonly server: string; readonly result: string; readonly answered: boolean; readonly ms: number }[];
}
