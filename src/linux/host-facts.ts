/**
 * What this host can do, asked once. The planner branches on these facts; the helper never does. Plain JSON, so that
 * `wherry run --explain --facts FILE` and golden tests need no root.
 * @module
 */
export interface HostFacts {
  readonly kernel: { readonly release: string; readonly major: number; readonly minor: number; readonly arch: "x86_64" | "aarch64" };
  readonly cgroup: CgroupFacts;
  readonly overlay: {
    readonly supported: boolean;
    /** fsconfig("lowerdir+") (6.5). */
    readonly lowerdirPlus: boolean;
    /** fsconfig SET_FD for layers (6.13): layers may be detached, idmapped mounts. */
    readonly layerFds: boolean;
    readonly metacopyDefault: boolean;
    readonly redirectDirDefault: boolean;
    readonly indexDefault: boolean;
  };
  /** mount_setattr(2) (5.12). */
  readonly mountSetattr: boolean;
  readonly idmappedMounts: boolean;
  /** procfs can be mounted for another PID namespace than one's own (6.18); absent = no. */
  readonly procPidns?: boolean;
  readonly seccomp: { readonly supported: boolean; readonly actions: readonly string[] };
  readonly lsm: readonly string[];
  /** Where the kernel runs with SELinux and the host's policy knows containers: the labels that it has for their processes and files, and whether it has levels. */
  readonly selinux?: { readonly process: string; readonly file: string; readonly mls: boolean };
  readonly namespaces: readonly ("pid" | "mnt" | "uts" | "ipc" | "net" | "user" | "cgroup" | "time")[];
  readonly mqueue: boolean;
  /** CAP_* bits that the engine itself has (effective). */
  readonly capabilities: bigint | string;
  readonly lastCap: number;
  readonly cpus: number;
  /** NUMA nodes with memory, as "0-1"; absent = not known. */
  readonly memoryNodes?: string;
  readonly memoryBytes: number;
  readonly swapAccounting: boolean;
  /** The engine's own RLIMIT_* hard limits that cannot be exceeded without CAP_SYS_RESOURCE, by name; empty with it. */
  readonly rlimitCaps: Readonly<Record<string, number>>;
  /** Whether a negative oom_score_adj may be asked for. */
  readonly oomScoreAdjMin: number;
}

export interface CgroupFacts {
  readonly mode: "v1" | "hybrid" | "v2" | "none";
  /** v2 mount point ("/sys/fs/cgroup", or "/sys/fs/cgroup/unified" in hybrid), undefined without. */
  readonly v2Root?: string;
  /** v1 controller (or "name=systemd") → mount point. */
  readonly v1: Readonly<Record<string, string>>;
  /** Controllers in the v2 root's cgroup.controllers. */
  readonly v2Controllers: readonly string[];
  /** Cgroup paths the engine itself runs in: hierarchy ("" for v2, else controller) → path. */
  readonly own: Readonly<Record<string, string>>;
  /** Files of a v2 cgroup that can be given to somebody else; absent = the kernel does not say. */
  readonly delegate?: readonly string[];
  /** cgroup.kill (5.14). */
  readonly kill: boolean;
}
