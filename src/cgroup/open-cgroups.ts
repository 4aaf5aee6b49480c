/**
 * Chooses the implementation that fits the host.
 * @module
 */
import { existsSync } from "node:fs";
import { EngineError } from "#core/errors.ts";
import { DEFAULT_DATA_ROOT, instanceName } from "#core/instance-name.ts";
import type { Helper } from "#linux/helper.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { CgroupManager } from "./mod.ts";
import { sliceName } from "./systemd/units.ts";
import { openSystemd } from "./systemd/manager.ts";
import { openV1 } from "./v1/manager.ts";
import { openV2 } from "./v2/manager.ts";

export type CgroupDriver = "cgroupfs" | "systemd";

/** Microseconds. @see sched(7) "Real-time group scheduling" */
export interface CpuRealtime {
  readonly periodUs?: number;
  readonly runtimeUs?: number;
}

export interface CgroupOptions {
  /** Who makes the directories; default "cgroupfs": we do. */
  readonly driver?: CgroupDriver;
  /** Path of the native helper; the systemd driver needs it. */
  readonly helperPath?: string;
  /** Where containers' cgroups are made, in every hierarchy, unless `--cgroup-parent` says otherwise. Default: named after the data root. */
  readonly parent?: string;
  /** The engine's data root; without it, the default one. */
  readonly dataRoot?: string;
  /** For the parents of containers, which share it out: without it theirs is 0, and a container's is refused by the kernel. cgroup v1 only. */
  readonly cpuRealtime?: CpuRealtime;
  /** Removes a container's directories in one call; without it they are removed one by one. */
  readonly helper?: Pick<Helper, "call">;
}

/** Touches nothing; call `prepare` before the first container. */
export function openCgroups(facts: HostFacts, options: CgroupOptions = {}): CgroupManager {
  if (options.driver === "systemd") return openWithSystemd(facts, options);
  const parent = options.parent ?? `/${instanceName(options.dataRoot ?? DEFAULT_DATA_ROOT)}`;
  if (options.cpuRealtime !== undefined && (facts.cgroup.mode === "v2" || !existsSync(`${facts.cgroup.v1["cpu"]}/cpu.rt_runtime_us`)))
    throw new EngineError("unsupported", "--cpu-rt-period and --cpu-rt-runtime need cgroup v1 and a kernel with real-time group scheduling");
  const settings = { parent, ownParent: options.parent === undefined };
  switch (facts.cgroup.mode) {
    case "v2":
      return openV2(facts, settings);
    case "v1":
    case "hybrid":
      return openV1(facts, {
        ...settings,
        ...(options.cpuRealtime && { cpuRealtime: options.cpuRealtime }),
        ...(options.helper && { helper: options.helper }),
      });
    case "none":
      throw new EngineError("unsupported", "this host has no cgroups mounted", { hint: "mount -t cgroup2 none /sys/fs/cgroup" });
  }
}

/** Where systemd keeps services; as dockerd. */
const DEFAULT_SLICE = "system.slice";

function openWithSystemd(facts: HostFacts, { parent = DEFAULT_SLICE, dataRoot = DEFAULT_DATA_ROOT, helperPath }: CgroupOptions): CgroupManager {
  if (!existsSync("/run/systemd/system"))
    throw new EngineError("unsupported", "the cgroup driver systemd needs systemd as the first process, and this host was not booted with it", {
      hint: "use the driver cgroupfs (--exec-opt native.cgroupdriver=cgroupfs)",
    });
  if (facts.cgroup.mode !== "v2")
    throw new EngineError("unsupported", `the cgroup driver systemd works on cgroup v2 only, and this host has ${facts.cgroup.mode}`, {
      hint: "boot with systemd.unified_cgroup_hierarchy=1, or use the driver cgroupfs",
    });
  if (helperPath === undefined) throw new EngineError("internal", "the cgroup driver systemd was opened without the helper's path");
  const slice = sliceName(parent);
  return openSystemd((path) => openV2(facts, { parent: path, ownParent: false }), { slice, prefix: instanceName(dataRoot), helperPath });
}
