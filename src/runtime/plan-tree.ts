/**
 * Opens a container's root for a file worker: its tree as its processes see it, or would see it.
 * @module
 */
import { AT_RECURSIVE, CLONE, MS, O, OPEN_TREE_CLONE } from "#linux/flags.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT, type Plan, type Step } from "#linux/plan.ts";
import { Draft } from "./draft.ts";
import { planLegacyOverlay, planRoot } from "./plan-root.ts";
import type { RootMountData } from "./root-mount.ts";
import { slots } from "./slots.ts";

/** Something mounted in a stopped container's root. */
export interface TreeMount {
  readonly source: string;
  readonly destination: string;
  readonly readonly: boolean;
  /** The source is not a directory. */
  readonly file: boolean;
}

/**
 * The worker joins the mount namespace of the container's first process: there are the mounts, and only from within does the kernel refuse to unlink
 * what is mounted on (from outside it would take the mount away).
 */
export function planRunningTree(target: { readonly pid: number; readonly startTime: bigint }): Plan {
  const host = { where: "host" } as const;
  return {
    steps: [
      { op: "pidfd_open", pid: target.pid, starttime: target.startTime, out: slots.free, ...host, why: "it is still that process" },
      { op: "setns", fd: slots.free, flags: CLONE.NEWNS, ...host, why: "sees the container's mounts", see: "mount_namespaces(7)" },
      { op: "openat", dir: NO_SLOT, path: "/", flags: O.PATH | O.DIRECTORY, mode: 0, out: slots.root, ...host, why: "the container's root directory" },
    ],
  };
}

export interface StoppedTree {
  readonly root: RootMountData;
  readonly facts: HostFacts;
  /** In the order in which they are mounted. */
  readonly mounts: readonly TreeMount[];
  /** An empty directory of the engine's; the root is attached there, where only the worker sees it. */
  readonly at: string;
}

/** Mounts the root and what belongs in it in a mount namespace that ends with the worker. Without id mapping: owners are the container's own numbers. */
export function planStoppedTree({ root, facts, mounts, at }: StoppedTree): Plan {
  const draft = new Draft();
  draft.host({ op: "unshare", flags: CLONE.NEWNS }, "a mount namespace for this work only");
  draft.host({ op: "mount", source: "none", dir: NO_SLOT, path: "/", fstype: "", flags: MS.SLAVE | MS.REC, data: "" }, "what is mounted here stays here");
  if (planRoot(draft, root, { facts, mapping: undefined }) === "detached") {
    draft.host({ op: "move_mount", mnt: slots.root, dir: NO_SLOT, path: at }, "attached, so that volumes can be mounted in it");
    draft.host({ op: "openat", dir: NO_SLOT, path: at, flags: O.PATH | O.DIRECTORY, mode: 0, out: slots.root }, "its root directory");
  } else if (root.kind === "overlay") planLegacyOverlay(draft, root);
  const mnt = draft.take();
  for (const mount of mounts) planMount(draft, mount, mnt);
  // There is no child: the worker performs all of it.
  return { steps: draft.plan().steps.map((step): Step => ({ ...step, where: "host" })) };
}

function planMount(draft: Draft, { source, destination, readonly, file }: TreeMount, mnt: number): void {
  const path = destination.replace(/^\/+/, "");
  draft.host({ op: "open_tree", dir: NO_SLOT, path: source, flags: OPEN_TREE_CLONE | AT_RECURSIVE, out: mnt }, `what the container sees as ${destination}`);
  if (file) draft.host({ op: "mkfile", dir: slots.root, path, mode: 0o644, parents: 1 }, "something to mount on, if there is no such file");
  else draft.host({ op: "mkdir", dir: slots.root, path, mode: 0o755, uid: 0, gid: 0, parents: 1 }, "something to mount on, if there is no such directory");
  draft.host({ op: "move_mount", mnt, dir: slots.root, path }, `appears as ${destination}`);
  if (readonly)
    draft.host(
      { op: "mount", source: "none", dir: slots.root, path, fstype: "", flags: MS.BIND | MS.REMOUNT | MS.RDONLY, data: "" },
      "read-only, as for the container",
    );
}
