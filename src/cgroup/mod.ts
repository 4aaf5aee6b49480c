/**
 * cgroups: bound, account and freeze what a container uses. Two implementations (v1 incl. hybrid, v2) behind {@link CgroupManager}, and a third that has systemd
 * own the directories of v2 (systemd/).
 * Creation and joining are plan steps (so `--explain` shows them and they cost no extra round trip); the rest acts on the files.
 * @module
 * @see cgroups(7)
 */
import type { OciResources } from "#core/runtime-spec.ts";
import type { Step } from "#linux/plan.ts";
import type { TransientUnit } from "./systemd/units.ts";

/** The cgroups of one container: its path in every hierarchy. Plain JSON; stored with the container. */
export interface CgroupPaths {
  readonly version: 1 | 2;
  /** v1: controller → absolute directory; v2: {"": directory}. */
  readonly dirs: Readonly<Record<string, string>>;
  /** systemd driver: the scope that owns the directory, e.g. "wherry-<id>.scope". */
  readonly unit?: string;
}

export interface CgroupPlan {
  readonly paths: CgroupPaths;
  /** Host steps before `clone`: make the directories, write limits. */
  readonly create: readonly Step[];
  /**
   * Host steps directly before `clone`, and the slot to give to it (`cgroup`). v2: opens the directory for CLONE_INTO_CGROUP. v1: the monitor steps into
   * the cgroup itself, so that the child is born inside (slot = NO_SLOT), and `join` takes the monitor out again. docs/adr/0005-join-cgroup-v1.md says why.
   */
  readonly cloneInto?: { readonly steps: readonly Step[]; readonly slot: number };
  /** Host steps directly after `clone` (also when `cloneInto` is set; may be empty). */
  readonly join: readonly Step[];
  /** Files for LaunchRequest.exitReports that tell about OOM kills and waiting for memory. */
  readonly exitReports: readonly string[];
  /** Limits that this host lacks, each a sentence as Docker warns. */
  readonly warnings: readonly string[];
  /** systemd driver: the scope that {@link CgroupManager.hold} has to make before the steps are performed. */
  readonly unit?: TransientUnit;
}

/** How much of the time some (or all) processes waited for a resource: percent of the last 10, 60 and 300 s, and microseconds ever. @see the kernel's accounting/psi */
export interface Pressure {
  readonly some: PressureLine;
  readonly full: PressureLine;
}

export interface PressureLine {
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
  readonly totalUs: number;
}

/** cpu in nanoseconds, memory in bytes; the raw counters that `stats` needs. */
export interface CgroupStats {
  readonly cpu: {
    readonly usageNs: number;
    readonly userNs: number;
    readonly systemNs: number;
    readonly perCpuNs: readonly number[];
    readonly periods: number;
    readonly throttledPeriods: number;
    readonly throttledNs: number;
  };
  readonly memory: {
    readonly usage: number;
    readonly maxUsage: number;
    readonly limit: number;
    readonly failcnt: number;
    /** Processes that the OOM killer has ended. */
    readonly oomKills: number;
    readonly stats: Readonly<Record<string, number>>;
  };
  readonly pids: { readonly current: number; readonly limit: number };
  /** v2 only, where the kernel counts it (CONFIG_PSI). */
  readonly pressure?: { readonly cpu?: Pressure; readonly memory?: Pressure; readonly io?: Pressure };
  readonly blkio: readonly {
    readonly field: "io_service_bytes_recursive" | "io_serviced_recursive";
    readonly major: number;
    readonly minor: number;
    readonly op: string;
    readonly value: number;
  }[];
}

export interface CgroupManager {
  /**
   * systemd driver: has the plan's scope made, which takes a process in it: one of ours, until the container is there. Call `release` when the plan was
   * performed or has failed. The other driver has no such method: its plans need nobody else.
   */
  hold?(plan: CgroupPlan): Promise<{ release(): Promise<void> }>;
  readonly driver: "cgroupfs" | "systemd";
  readonly version: 1 | 2;
  /**
   * Makes the parent ("" = default) in every hierarchy and passes the controllers on to it. Must have run once per parent and host boot before a plan below it is performed.
   */
  prepare(parent?: string): Promise<void>;
  /** Steps to make and join the cgroup `parent/name` ("/wherry/<id>" by default; parent "" = default). `slot`: a free slot number it may use. Pure. */
  plan(parent: string, name: string, resources: OciResources, slot: number): CgroupPlan;
  /**
   * Steps that join an existing container's cgroups (exec). v1: the child's own, directly after `clone`; it makes no cgroup namespace whose root would have to
   * be right from its birth on.
   */
  planJoin(paths: CgroupPaths, slot: number): Pick<CgroupPlan, "cloneInto" | "join">;
  /** Changes limits of a living cgroup; order such that memory and memsw never conflict. EngineError("invalid"/"kernel"). */
  update(paths: CgroupPaths, resources: OciResources): Promise<void>;
  freeze(paths: CgroupPaths): Promise<void>;
  thaw(paths: CgroupPaths): Promise<void>;
  /** SIGKILL to everything inside, repeated until empty. */
  kill(paths: CgroupPaths): Promise<void>;
  /** Processes inside, recursively. */
  pids(paths: CgroupPaths): Promise<number[]>;
  stats(paths: CgroupPaths): Promise<CgroupStats>;
  /** Removes the directories (deepest first, retrying EBUSY); missing is no error. */
  remove(paths: CgroupPaths): Promise<void>;
  /** True when the exit reports (texts of `exitReports`) say that the OOM killer ended a process of the container. */
  wasOomKilled(reports: readonly (string | undefined)[]): boolean;
  /** Cgroup directories under the default parent whose names are not in `known`: for the sweep at start. */
  orphans(known: ReadonlySet<string>): Promise<CgroupPaths[]>;
  /** Takes the default parent away when it is named after the data root and nothing is left in it. */
  close(): Promise<void>;
  /** Docker `info` booleans (MemoryLimit, SwapLimit, CpuCfsPeriod, …) and its WARNING lines. */
  info(): { readonly flags: Readonly<Record<string, boolean>>; readonly warnings: readonly string[] };
}

export { distinct } from "./v1/hierarchies.ts";
export { type CgroupDriver, type CgroupOptions, type CpuRealtime, openCgroups } from "./open-cgroups.ts";
