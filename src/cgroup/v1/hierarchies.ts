/**
 * The hierarchies of cgroup v1: each controller has its own, or several share one (cpu,cpuacct).
 * @module
 */
import type { CgroupFacts } from "#linux/host-facts.ts";

/** The controllers that a container is placed in, in this order, where they are mounted. cpuset first: a cgroup without CPUs takes no process. */
export const CONTROLLERS: readonly string[] = [
  "cpuset",
  "cpu",
  "cpuacct",
  "memory",
  "devices",
  "freezer",
  "blkio",
  "pids",
  "hugetlb",
  "net_cls",
  "net_prio",
  "perf_event",
  "rdma",
  "misc",
  "name=systemd",
];

/** Controller → mount point, of those that are mounted. */
export function mountedControllers(facts: CgroupFacts): readonly (readonly [controller: string, mount: string])[] {
  return CONTROLLERS.flatMap((controller) => {
    const mount = facts.v1[controller];
    return mount === undefined ? [] : [[controller, mount.replace(/\/+$/, "")] as const];
  });
}

/** Controller → directory of the cgroup `path`. */
export function directories(facts: CgroupFacts, path: string): Record<string, string> {
  return Object.fromEntries(mountedControllers(facts).map(([controller, mount]) => [controller, mount + path]));
}

/** Each directory once: co-mounted controllers share theirs. */
export function distinct(dirs: Readonly<Record<string, string>>): string[] {
  return [...new Set(Object.values(dirs))];
}

/** Names of the controllers that share a directory, for people. */
export function controllersAt(dirs: Readonly<Record<string, string>>, dir: string): string {
  return Object.entries(dirs)
    .filter(([, each]) => each === dir)
    .map(([controller]) => controller)
    .join(",");
}
