/**
 * /sys/fs/cgroup inside the container: its own limits and counters, to read.
 * @module
 * @see cgroups(7)
 */
import type { CgroupPaths } from "#cgroup/mod.ts";
import type { OciMount } from "#core/runtime-spec.ts";
import { AT_RECURSIVE, MS, OPEN_TREE_CLONE } from "#linux/flags.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT } from "#linux/plan.ts";
import type { Draft } from "./draft.ts";
import { parseMountOptions } from "./mount-options.ts";
import { inRoot } from "./plan-mounts.ts";
import { slots } from "./slots.ts";

/** `ownNamespace`: the container has a cgroup namespace, so that a fresh mount shows its own cgroup as the root. */
export function planCgroupMount(draft: Draft, mount: OciMount, facts: HostFacts, ownNamespace: boolean, paths: CgroupPaths | undefined): void {
  const { flags } = parseMountOptions(mount.options ?? []);
  const path = inRoot(mount.destination);
  if (facts.cgroup.mode === "v2") {
    draft.child({ op: "mount", source: "cgroup", dir: slots.root, path, fstype: "cgroup2", flags, data: "" }, "its own limits and counters", {
      see: "cgroups(7)",
    });
    return;
  }
  if (facts.cgroup.mode === "none") return;
  draft.child(
    { op: "mount", source: "tmpfs", dir: slots.root, path, fstype: "tmpfs", flags: flags & ~MS.RDONLY, data: "mode=755" },
    "a folder for the hierarchies: cgroup v1 has one per controller",
    { see: "cgroups(7)" },
  );
  for (const { folder, controllers, data } of hierarchies(facts)) {
    const at = `${path}/${folder}`;
    draft.child({ op: "mkdir", dir: slots.root, path: at, mode: 0o755, uid: 0, gid: 0, parents: 1 }, `the place of ${folder}`);
    if (ownNamespace)
      draft.child({ op: "mount", source: "cgroup", dir: slots.root, path: at, fstype: "cgroup", flags, data }, `its own ${folder} cgroup, as the root`, {
        see: "cgroups(7)",
      });
    else bindOwn(draft, at, paths?.dirs[controllers[0] ?? ""], flags);
    for (const controller of controllers) {
      if (controller !== folder && controllers.length > 1)
        draft.child({ op: "symlink", dir: slots.root, path: `${path}/${controller}`, target: folder }, `${controller} lives in the ${folder} hierarchy`);
    }
  }
  if ((flags & MS.RDONLY) !== 0n)
    draft.child(
      { op: "mount", source: "none", dir: slots.root, path, fstype: "", flags: MS.BIND | MS.REMOUNT | flags, data: "" },
      "nothing may be added to the folder",
    );
}

/** Without a cgroup namespace a fresh mount would show the host's whole tree: bind the container's own directory instead. */
function bindOwn(draft: Draft, at: string, dir: string | undefined, flags: bigint): void {
  if (dir === undefined) return;
  const mnt = draft.take();
  draft.child({ op: "open_tree", dir: NO_SLOT, path: dir, flags: OPEN_TREE_CLONE | AT_RECURSIVE, out: mnt }, "its own cgroup directory");
  draft.child({ op: "move_mount", mnt, dir: slots.root, path: at }, "appears as if it were the root");
  draft.child(
    { op: "mount", source: "none", dir: slots.root, path: at, fstype: "", flags: MS.BIND | MS.REMOUNT | flags, data: "" },
    "with the options of the mount",
  );
  draft.release(mnt);
}

/** v1 controllers by mount point: several may share one ("cpu,cpuacct"). */
function hierarchies(facts: HostFacts): { folder: string; controllers: string[]; data: string }[] {
  const byPoint = new Map<string, string[]>();
  for (const [controller, point] of Object.entries(facts.cgroup.v1)) byPoint.set(point, [...(byPoint.get(point) ?? []), controller]);
  return [...byPoint].map(([point, controllers]) => ({
    folder: point.slice(point.lastIndexOf("/") + 1),
    controllers,
    // A named hierarchy without controllers needs "none" beside its name.
    data: controllers.every((c) => c.startsWith("name=")) ? `none,${controllers.join(",")}` : controllers.join(","),
  }));
}
