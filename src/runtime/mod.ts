/**
 * OCI runtime spec → plan. Pure: no I/O, no clock, no host beyond {@link HostFacts}.
 * @module
 */
import type { OciLinux, OciSpec } from "#core/runtime-spec.ts";
import type { CgroupPlan } from "#cgroup/mod.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { Plan, Step } from "#linux/plan.ts";
import type { SeccompListener } from "./seccomp.ts";
import type { RootMountData } from "./root-mount.ts";

export interface PlanInput {
  readonly spec: OciSpec;
  /** The root filesystem; see unionfs RootMount (same shape, declared here so that runtime does not import unionfs). */
  readonly root: RootMountData;
  readonly facts: HostFacts;
  readonly cgroup: CgroupPlan | undefined;
  /** Steps of the network drivers. */
  readonly network: readonly Step[];
  readonly tty: boolean;
  /** The compiled seccomp program (cached by the caller per profile); undefined = unconfined. */
  readonly seccomp: Uint8Array | undefined;
  /** Launch announces attach clients: put `attach_gate` before exec. */
  readonly attachGate: boolean;
  /** Path of the static helper binary to bind as /sbin/docker-init (`--init`). */
  readonly initBinary?: string;
  /** Host steps that come first: what the binds need (the engine's /etc files). */
  readonly preparation?: readonly Step[];
  /** Destinations of binds whose source is not a directory (SpecResult.files). */
  readonly files?: ReadonlySet<string>;
  /** The monitor takes the container's mounts down after it has told the end, and not before: for a root with nothing of others in it. Who mounts it again waits for that. */
  readonly lateUnmount?: boolean;
  /** Directories that the monitor removes when it has told the end: cgroups, in which nobody is left then. With [], too, it tells when it has let go of everything. */
  readonly lateRemoval?: readonly string[];
  /** The container's id, for the name of its session keyring. */
  readonly id?: string;
  /** For a launch by {@link launchDetached}: nobody of ours stays with the process. */
  readonly detached?: DetachedProcess;
  readonly hooks?: PlanHooks;
}

/** Hooks of the spec that are steps of the plan. */
export interface PlanHooks {
  /** The monitor's, in the engine's namespaces, when the container's are there; `prestart` ones first. */
  readonly createRuntime?: readonly HookRun[];
  /** The container's own, in its namespaces: before pivot_root, and before the program. */
  readonly createContainer?: readonly HookRun[];
  readonly startContainer?: readonly HookRun[];
  /** Directory of the host where createContainer hooks find the container's root; undefined = where the spec says. */
  readonly rootAt?: string;
}

/** A process that lives without a monitor. */
export interface DetachedProcess {
  /** FIFO that a byte is written to when the program shall start; undefined = at once. */
  readonly fifo?: string;
  /** Descriptors that the launch hands on to the program, from 3 up. */
  readonly preserveFds?: number;
  /** The agent that the filter's listener goes to. */
  readonly listener?: SeccompListener | undefined;
  /** `--no-pivot`: chroot(2), for hosts whose root is the initial ramdisk. */
  readonly noPivot?: boolean;
  /** `--no-new-keyring`: the caller's session keyring stays the process's. */
  readonly noKeyring?: boolean;
}

/** A hook, and what it reads: `head`, and with a `tail` the container's pid (as its caller sees it) and the tail. */
export interface HookRun {
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
  /** 0 = as long as it takes. */
  readonly timeoutMs: number;
}

/** Refusals (bad spec, kernel lacks it) are EngineError "invalid" or "unsupported". */
export type Planner = (input: PlanInput) => Plan;

export interface ExecPlanInput {
  /** The container's init. */
  readonly target: { readonly pid: number; readonly startTime: bigint };
  readonly process: OciSpec["process"];
  /** Types in the container's spec.linux.namespaces: those that are not the host's. */
  readonly namespaces: readonly string[];
  readonly facts: HostFacts;
  readonly cgroup: Pick<CgroupPlan, "cloneInto" | "join">;
  readonly tty: boolean;
  readonly seccomp: Uint8Array | undefined;
  /** Flags for seccomp(2); default: {@link seccompFlags} of no profile. */
  readonly seccompFlags?: number;
  readonly personality?: OciLinux["personality"];
  readonly attachGate: boolean;
  readonly userns: boolean;
  /** The container's id, for its session keyring. */
  readonly id?: string;
  /** For a launch by {@link launchDetached}. */
  readonly detached?: DetachedProcess;
}

export { type HookKind, hookKinds, hookRuns, hooksOf } from "./hook-runs.ts";
export { planContainer } from "./plan-container.ts";
export { hookOp } from "./plan-process.ts";
export { planExec } from "./plan-exec.ts";
export { buildSpec, capabilitySets, defaultMaskedPaths, defaultReadonlyPaths, environmentOf, type SpecInput, type SpecResult } from "./default-spec.ts";
export { explainPlan, planToJson } from "./explain.ts";
export { type PlanErrorContext, renderPlanError } from "./plan-error.ts";
export { bindMappings, seenInside } from "./bind-idmap.ts";
export { planMappedRoot } from "./plan-root.ts";
export { planImageMount, planRunningTree, planStoppedTree, type TreeMount } from "./plan-tree.ts";
export { planReadRootFiles, type RootFile } from "./read-root-files.ts";
export { deviceRules, devicePathsOf, limitsOf } from "./resources.ts";
export { seccompArchitectures, seccompOperators } from "#linux/bpf/compile.ts";
export { mountOptionNames } from "./mount-options.ts";
export { seccompFlagNames, seccompFlags, seccompFor, seccompListener, seccompProgram } from "./seccomp.ts";
export { points, slots } from "./slots.ts";
export { type ResolvedUser, resolveUser } from "./users.ts";
