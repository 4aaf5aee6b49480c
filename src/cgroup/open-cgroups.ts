/**
 * Chooses the implementation that fits the host.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { DEFAULT_DATA_ROOT, instanceName } from "#core/instance-name.ts";
import type { Helper } from "#linux/helper.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { CgroupManager } from "./mod.ts";
import { openV1 } from "./v1/manager.ts";
import { openV2 } from "./v2/manager.ts";

export interface CgroupOptions {
  /** Where containers' cgroups are made, in every hierarchy, unless `--cgroup-parent` says otherwise. Default: named after the data root. */
  readonly parent?: string;
  /** The engine's data root; without it, the default one. */
  readonly dataRoot?: string;
  /** Removes a container's directories in one call; without it they are removed one by one. */
  readonly helper?: Pick<Helper, "call">;
}

/** Touches nothing; call `prepare` before the first container. */
export function openCgroups(facts: HostFacts, options: CgroupOptions = {}): CgroupManager {
  const parent = options.parent ?? `/${instanceName(options.dataRoot ?? DEFAULT_DATA_ROOT)}`;
  const settings = { parent, ownParent: options.parent === undefined };
  switch (facts.cgroup.mode) {
    case "v2":
      return openV2(facts, settings);
    case "v1":
    case "hybrid":
      return openV1(facts, { ...settings, ...(options.helper && { helper: options.helper }) });
    case "none":
      throw new EngineError("unsupported", "this host has no cgroups mounted", { hint: "mount -t cgroup2 none /sys/fs/cgroup" });
  }
}
