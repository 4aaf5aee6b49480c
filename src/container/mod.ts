/**
 * Containers: the record that is stored, the state machine over it, the link to its monitor, its logs and execs.
 * @module
 */
import type { CgroupPaths } from "#cgroup/mod.ts";
import type { ContainerConfig, HostConfig, NetworkingConfig, PortBinding } from "#core/container-config.ts";
import type { ImageID } from "#core/digest.ts";
import type { IdMapping } from "#core/runtime-spec.ts";
import type { EndpointRecord } from "#network/mod.ts";

export type ContainerStatus = "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead";

/** A mount of the container, as `inspect` shows it. */
export interface MountPoint {
  Type: "bind" | "volume" | "tmpfs" | "image";
  Name?: string;
  Source: string;
  Destination: string;
  Driver?: string;
  Mode: string;
  RW: boolean;
  Propagation: string;
  /** volume: copy the image's content at the mount point in, once. */
  CopyUp?: boolean;
  /** Anonymous volumes go with `rm -v` and `--rm`. */
  Anonymous?: boolean;
  /** tmpfs options (size, mode, …). */
  Options?: string;
  /** image: its id. */
  Image?: ImageID;
  /** bind: whose files on disk are whose in the container; see runtime/bind-idmap.ts. */
  Idmap?: string;
}

export interface ContainerState {
  status: ContainerStatus;
  oomKilled: boolean;
  dead: boolean;
  /** Host pid of init; 0 when not running. */
  pid: number;
  /** proc stat field 22, decimal. */
  startTime: string;
  exitCode: number;
  error: string;
  /** RFC 3339 or zeroTime. */
  startedAt: string;
  finishedAt: string;
  /** Of one that has a health check, since its first start. */
  health?: HealthState;
  /** Why it ended, for people: "exited 3", "killed by SIGKILL (wherry kill)", "out of memory: limit 64 MiB". */
  reason: string;
  /** System calls that its seccomp filter refused in its last run, if that was asked for (`--security-opt seccomp-audit=true`). */
  refused?: readonly string[];
}

/** Docker's health check of a container that has one. */
export interface HealthState {
  status: "starting" | "healthy" | "unhealthy";
  /** Failures in a row. */
  failingStreak: number;
  /** The last five probes, oldest first. Times RFC 3339. */
  log: { start: string; end: string; exitCode: number; output: string }[];
}

/** Stored as containers/<id>/container.json. */
export interface ContainerRecord {
  version: 1;
  id: string;
  /** Without the leading slash. */
  name: string;
  /** RFC 3339 nano. */
  created: string;
  imageId: ImageID | "";
  path: string;
  args: string[];
  config: ContainerConfig;
  hostConfig: HostConfig;
  networkingConfig: NetworkingConfig;
  state: ContainerState;
  mounts: MountPoint[];
  endpoints: Record<string, EndpointRecord>;
  /** Published ports as they are now. */
  ports: Record<string, PortBinding[] | null>;
  cgroup: CgroupPaths | undefined;
  /** Storage driver name and snapshot key. */
  driver: string;
  snapshot: string;
  /** AppArmor's profile; "unconfined" for none. Absent: this kernel runs without AppArmor. */
  appArmorProfile?: string;
  /** SELinux labels of its processes ("" = unconfined) and of its files, chosen at create. Absent: SELinux is not used. */
  processLabel?: string;
  mountLabel?: string;
  /** The maps of its user namespace, chosen at create; absent = the host's users. */
  idMappings?: { readonly uids: readonly IdMapping[]; readonly gids: readonly IdMapping[] };
  /**
   * With `idMappings`, where files cannot be shown with other owners than they have on disk: "root" = its snapshot is a private copy whose files have the host's ids;
   * "all" = those of its volumes and of the engine's files for it, too. Absent: files on disk have the container's own ids.
   */
  ownersOnDisk?: "root" | "all";
  /** A step of a build: it is of no use to anybody once the engine that builds is gone. */
  build?: true;
  restartCount: number;
  /** Set by stop/kill through the API: restart policies leave it alone. */
  manuallyStopped: boolean;
  /** The engine's files of this container (hostname, hosts, resolv.conf, log). */
  hostnamePath: string;
  hostsPath: string;
  resolvConfPath: string;
  logPath: string;
}

/** One line (or part of a line) of a json-file log. */
export interface LogEntry {
  readonly stream: "stdout" | "stderr";
  readonly timeNs: bigint;
  /** As written, usually with its newline. */
  readonly log: Uint8Array;
  /** What `--log-opt labels=…` and its like have every line say, for `logs --details`. */
  readonly attrs?: Readonly<Record<string, string>>;
}

export interface LogQuery {
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly follow: boolean;
  /** Last n entries; undefined = all. */
  readonly tail: number | undefined;
  readonly sinceNs: bigint | undefined;
  readonly untilNs: bigint | undefined;
}

/** Docker's exec instance. */
export interface ExecRecord {
  id: string;
  containerId: string;
  config: {
    AttachStdin: boolean;
    AttachStdout: boolean;
    AttachStderr: boolean;
    DetachKeys: string;
    Tty: boolean;
    Cmd: string[];
    Env: string[] | null;
    WorkingDir: string;
    User: string;
    Privileged: boolean;
  };
  running: boolean;
  exitCode: number | null;
  pid: number;
  openStdin: boolean;
}
