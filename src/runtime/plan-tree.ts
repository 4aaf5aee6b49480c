/**
 * Opens a container's root for a file worker: its tree as its processes see it, or would see it.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { AT_RECURSIVE, CLONE, MOUNT_ATTR, MS, O, OPEN_TREE_CLONE } from "#linux/flags.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT, type Plan, type Step } from "#linux/plan.ts";
import type { IdMappings } from "#core/id-mappings.ts";
import { mapText } from "#namespace/user.ts";
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
  /** Owners on disk (containerID) → as the container's processes see them (hostID). */
  readonly idmap?: IdMappings;
}

/** A user and a group, in the host's numbers. */
export interface HostIds {
  readonly uid: number;
  readonly gid: number;
}

const asOwner = (ids: HostIds | undefined): Step[] =>
  ids === undefined
    ? []
    : [
        {
          op: "fs_ids",
          ...ids,
          where: "host",
          why: "a mount that maps owners knows the container's root, and has no place for the host's",
          see: "mount_setattr(2)",
        },
      ];

/**
 * The worker joins the mount namespace of the container's first process: there are the mounts, and only from within does the kernel refuse to unlink
 * what is mounted on (from outside it would take the mount away). `root`: the container's, where it has a user namespace.
 */
export function planRunningTree(target: { readonly pid: number; readonly startTime: bigint; readonly root?: HostIds | undefined }): Plan {
  const host = { where: "host" } as const;
  return {
    steps: [
      { op: "pidfd_open", pid: target.pid, starttime: target.startTime, out: slots.free, ...host, why: "it is still that process" },
      { op: "setns", fd: slots.free, flags: CLONE.NEWNS, ...host, why: "sees the container's mounts", see: "mount_namespaces(7)" },
      { op: "openat", dir: NO_SLOT, path: "/", flags: O.PATH | O.DIRECTORY, mode: 0, out: slots.root, ...host, why: "the container's root directory" },
      ...asOwner(target.root),
    ],
  };
}

export interface StoppedTree {
  readonly root: RootMountData;
  readonly facts: HostFacts;
  /** In the order in which they are mounted. */
  readonly mounts: readonly TreeMount[];
  /** Owners of files are what they are on the host, those of a user namespace: its root. Undefined: they are the container's own numbers. */
  readonly owner?: HostIds | undefined;
  /** An empty directory of the engine's; the root is attached there, where only the worker sees it. */
  readonly at: string;
}

/** Mounts the root and what belongs in it in a mount namespace that ends with the worker. */
export function planStoppedTree({ root, facts, mounts, at, owner }: StoppedTree): Plan {
  const draft = new Draft();
  draft.host({ op: "unshare", flags: CLONE.NEWNS }, "a mount namespace for this work only");
  draft.host({ op: "mount", source: "none", dir: NO_SLOT, path: "/", fstype: "", flags: MS.SLAVE | MS.REC, data: "" }, "what is mounted here stays here");
  if (planRoot(draft, root, { facts, mapping: undefined }) === "detached") {
    draft.host({ op: "move_mount", mnt: slots.root, dir: NO_SLOT, path: at }, "attached, so that volumes can be mounted in it");
    draft.host({ op: "openat", dir: NO_SLOT, path: at, flags: O.PATH | O.DIRECTORY, mode: 0, out: slots.root }, "its root directory");
  } else if (root.kind === "overlay") planLegacyOverlay(draft, root);
  const mnt = draft.take();
  const userns = draft.take();
  for (const mount of mounts) planMount(draft, mount, { mnt, userns });
  // There is no child: the worker performs all of it.
  return { steps: [...draft.plan().steps.map((step): Step => ({ ...step, where: "host" })), ...asOwner(owner)] };
}

/** Mounts an image's root read-only where the host sees it: at `at`, a directory of the engine's. @throws EngineError "unsupported" where the kernel cannot mount so many layers from outside */
export function planImageMount({ root, facts, at }: Omit<StoppedTree, "mounts">): Plan {
  const draft = new Draft();
  if (planRoot(draft, root, { facts, mapping: undefined }) !== "detached")
    throw new EngineError("unsupported", "this kernel cannot mount so many layers by their full names (Linux 6.5 can)", {
      hint: "wherry create and wherry cp read the image, too",
    });
  draft.host(
    { op: "mount_setattr", mnt: slots.root, set: MOUNT_ATTR.RDONLY, clr: 0n, propagation: 0n, recursive: 0, userns: NO_SLOT },
    "an image is only read",
  );
  draft.host({ op: "move_mount", mnt: slots.root, dir: NO_SLOT, path: at }, "attached, so that the host can look at it");
  return draft.plan();
}

function planMount(draft: Draft, { source, destination, readonly, file, idmap }: TreeMount, { mnt, userns }: { mnt: number; userns: number }): void {
  const path = destination.replace(/^\/+/, "");
  draft.host({ op: "open_tree", dir: NO_SLOT, path: source, flags: OPEN_TREE_CLONE | AT_RECURSIVE, out: mnt }, `what the container sees as ${destination}`);
  if (idmap !== undefined) {
    const [uidmap, gidmap] = [mapText(idmap.uids), mapText(idmap.gids)];
    draft.host({ op: "userns_open", uidmap, gidmap, out: userns }, "how owners on disk relate to the container's users", { see: "mount_setattr(2)" });
    const attributes = { set: MOUNT_ATTR.IDMAP, clr: 0n, propagation: 0n, recursive: 1, userns };
    // A filesystem that cannot: its owners are shown as they are on disk.
    draft.host({ op: "mount_setattr", mnt, ...attributes }, "owners as the container sees them", { ignore: ["EINVAL"] });
    draft.host({ op: "close", slot: userns }, "the mount holds the mapping now");
  }
  if (file) draft.host({ op: "mkfile", dir: slots.root, path, mode: 0o644, parents: 1 }, "something to mount on, if there is no such file");
  else draft.host({ op: "mkdir", dir: slots.root, path, mode: 0o755, uid: 0, gid: 0, parents: 1 }, "something to mount on, if there is no such directory");
  draft.host({ op: "move_mount", mnt, dir: slots.root, path }, `appears as ${destination}`);
  if (readonly)
    draft.host(
      { op: "mount", source: "none", dir: slots.root, path, fstype: "", flags: MS.BIND | MS.REMOUNT | MS.RDONLY, data: "" },
      "read-only, as for the container",
    );
}
