/**
 * Delegation: a container with users and a cgroup namespace of its own, to which its cgroup is mounted writable, may make cgroups below. On cgroup v2 only: v1 cannot be
 * delegated safely.
 * @module
 * @see cgroups(7) "Cgroups delegation", runtime-spec config-linux.md "Cgroup ownership"
 */
import type { OciSpec } from "#core/runtime-spec.ts";
import type { CgroupPlan } from "#cgroup/mod.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { toHost } from "#core/id-mappings.ts";
import { membershipOf } from "#namespace/mod.ts";
import type { Draft } from "./draft.ts";

/** Where the kernel does not list them (before Linux 4.15). */
const oldFiles = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];
const KEEP = 0xffffffff;

/** Host steps behind those that make the cgroup. */
export function planDelegation(draft: Draft, spec: OciSpec, cgroup: CgroupPlan, { cgroup: facts }: HostFacts): void {
  const directory = cgroup.paths.version === 2 ? cgroup.paths.dirs[""] : undefined;
  const own = membershipOf(spec, "user").how === "new" && membershipOf(spec, "cgroup").how === "new";
  const writable = spec.mounts?.some(
    ({ destination, type, options }) => destination === "/sys/fs/cgroup" && (type === "cgroup" || type === "cgroup2") && options?.includes("ro") !== true,
  );
  if (directory === undefined || !own || writable !== true) return;
  const uid = toHost(spec.linux?.uidMappings ?? [], spec.process.user.uid);
  if (uid === undefined) return; // refused where its user is set
  draft.host({ op: "chown", dir: NO_SLOT, path: directory, uid, gid: KEEP }, "its user may make cgroups below", { see: "cgroups(7)" });
  for (const name of facts.delegate ?? oldFiles)
    draft.host({ op: "chown", dir: NO_SLOT, path: `${directory}/${name}`, uid, gid: KEEP }, "a file that can be delegated, if this cgroup has it", {
      see: "cgroups(7)",
      ignore: ["ENOENT"],
    });
}
