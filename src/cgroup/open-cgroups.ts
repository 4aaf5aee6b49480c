/**
 * Chooses the implementation that fits the host.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { CgroupManager } from "./mod.ts";
import { openV1 } from "./v1/manager.ts";
import { openV2 } from "./v2/manager.ts";

/** Where containers' cgroups are made unless `--cgroup-parent` says otherwise. */
export const DEFAULT_PARENT = "/wherry";

/** `parent`: the default parent in every hierarchy. Touches nothing; call `prepare` before the first container. */
export function openCgroups(facts: HostFacts, options: { readonly parent?: string } = {}): CgroupManager {
  const parent = options.parent ?? DEFAULT_PARENT;
  switch (facts.cgroup.mode) {
    case "v2":
      return openV2(facts, { parent });
    case "v1":
    case "hybrid":
      return openV1(facts, { parent });
    case "none":
      throw new EngineError("unsupported", "this host has no cgroups mounted", { hint: "mount -t cgroup2 none /sys/fs/cgroup" });
  }
}
