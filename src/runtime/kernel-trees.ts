/**
 * The container's /proc and /sys, opened once they are mounted and known to be what they seem.
 *
 * An image may have a link in the place of /proc, and a container that shares a volume may swap one meanwhile: what is then masked, protected or
 * written would be some other tree, and the real one stays open (CVE-2019-19921, CVE-2025-31133, CVE-2025-52881). So the mount point itself must be no
 * link, the filesystem must be the kernel's, and every later step starts from this descriptor.
 * @module
 */
import type { OciMount } from "#core/runtime-spec.ts";
import { FS_MAGIC, O } from "#linux/flags.ts";
import type { Draft } from "./draft.ts";
import { inRoot } from "./plan-mounts.ts";
import { slots } from "./slots.ts";

/** Which slot holds the tree of "proc" and "sys"; absent = the spec mounts none there. */
export type KernelTrees = ReadonlyMap<string, number>;

const trees = [
  { destination: "/proc", type: "proc", magic: FS_MAGIC.proc },
  { destination: "/sys", type: "sysfs", magic: FS_MAGIC.sysfs },
] as const;

/** What mounts there the kernel's filesystem: a fresh one, or the host's. */
function mounts(mount: OciMount, destination: string, type: string): boolean {
  return mount.destination.replace(/\/+$/, "") === destination && (mount.type === type || mount.source === destination);
}

export function openKernelTrees(draft: Draft, all: readonly OciMount[]): KernelTrees {
  const found = new Map<string, number>();
  for (const { destination, type, magic } of trees) {
    if (!all.some((mount) => mounts(mount, destination, type))) continue;
    const slot = draft.take();
    const name = inRoot(destination);
    draft.child(
      { op: "openat", dir: slots.root, path: name, flags: O.PATH | O.DIRECTORY | O.NOFOLLOW, mode: 0, out: slot },
      `the container's ${destination}, which must not be a link`,
    );
    draft.child({ op: "expect_fs", slot, magic }, "nothing else lies over it");
    found.set(name, slot);
  }
  return found;
}

export function closeKernelTrees(draft: Draft, kernel: KernelTrees): void {
  for (const [name, slot] of kernel) {
    draft.child({ op: "close", slot }, `done with /${name}`);
    draft.release(slot);
  }
}

/** Where a step finds an absolute path of the container. */
export function kernelPath(kernel: KernelTrees, path: string): { readonly dir: number; readonly path: string } {
  const [, name = "", rest = ""] = /^([^/]+)\/+(.*)$/.exec(inRoot(path)) ?? [];
  const slot = kernel.get(name);
  return slot === undefined || rest === "" ? { dir: slots.root, path: inRoot(path) } : { dir: slot, path: rest };
}
