/**
 * OCI runtime spec → plan. Pure: no I/O, no clock, no host beyond {@link HostFacts}.
 * @module
 */
import type { OciSpec } from "#core/runtime-spec.ts";
import type { CgroupPlan } from "#cgroup/mod.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { Plan, Step } from "#linux/plan.ts";
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
}

/** Refusals (bad spec, kernel lacks it) are EngineError "invalid" or "unsupported". */
export type Planner = (input: PlanInput) => Plan;

export interface ExecPlanInput {
  /** The container's init. */
  readonly target: { readonly pid: number; readonly startTime: bigint };
  readonly process: OciSpec["process"];
  /** Namespaces that the container has of its own. */
  readonly namespaces: readonly string[];
  readonly facts: HostFacts;
  readonly cgroup: Pick<CgroupPlan, "cloneInto" | "join">;
  readonly tty: boolean;
  readonly seccomp: Uint8Array | undefined;
  readonly attachGate: boolean;
  readonly userns: boolean;
}
