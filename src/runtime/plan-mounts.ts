/**
 * What is mounted inside the root: the kernel's own filesystems, and the user's binds, volumes and tmpfs.
 * @module
 */
import { posix } from "node:path";
import { EngineError } from "#core/errors.ts";
import type { IdMapping, OciMount } from "#core/runtime-spec.ts";
import { AT_RECURSIVE, CLONE, MOUNT_ATTR, MS, O, OPEN_TREE_CLONE } from "#linux/flags.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { type ForeignProc, mapText } from "#namespace/mod.ts";
import type { Draft } from "./draft.ts";
import { type MountOptions, parseMountOptions } from "./mount-options.ts";
import { slots } from "./slots.ts";

export interface MountContext {
  readonly facts: HostFacts;
  /** Destinations that are files. */
  readonly files: ReadonlySet<string>;
  readonly userns: boolean;
  /** SELinux label of what is mounted afresh. */
  readonly label?: string | undefined;
}

/** A bind whose source the monitor has opened already. */
export interface OpenedBind {
  readonly mount: OciMount;
  readonly options: MountOptions;
  /** Undefined: the child opens the source itself. */
  readonly slot: number | undefined;
}

/** Path below the root, without the leading slash. */
export function inRoot(path: string): string {
  return path.replace(/^\/+/, "");
}

export function isBind(mount: OciMount): boolean {
  return mount.type === "bind" || mount.options?.includes("bind") === true || mount.options?.includes("rbind") === true;
}

/** One slot must stay for the child's own needs. */
const KEPT_FREE = 6;

/**
 * Before `clone`: opens the sources of binds as detached mounts. The monitor has the host's paths and rights, and a mount opened here keeps its
 * ties to the host's (so that rshared and rslave mean something).
 */
export function openBinds(draft: Draft, mounts: readonly OciMount[], context: MountContext): Map<OciMount, OpenedBind> {
  const opened = new Map<OciMount, OpenedBind>();
  const binds = mounts.filter(isBind);
  const idmaps = new Idmaps(draft);
  if (binds.length > 0) draft.section("Directories and files of the host that it shall see");
  for (const mount of binds) {
    const options = parseMountOptions(mount.options ?? []);
    refuseInProc(mount);
    if (mount.source === undefined || !mount.source.startsWith("/"))
      throw new EngineError("invalid", `bind source path must be absolute: "${mount.source ?? ""}"`);
    if (draft.freeSlots <= KEPT_FREE) {
      if (context.userns) throw new EngineError("unsupported", `too many binds for one container with a user namespace: ${binds.length}`);
      opened.set(mount, { mount, options, slot: undefined });
      continue;
    }
    const slot = draft.take();
    openSource(draft, mount, mount.source, options, slot);
    if (mount.uidMappings !== undefined && mount.gidMappings !== undefined) idmaps.apply(slot, mount.uidMappings, mount.gidMappings, options, context.facts);
    opened.set(mount, { mount, options, slot });
  }
  idmaps.close();
  return opened;
}

/** As {@link openForeignSysfs}: procfs shows the PID namespace of who makes it, and the child is not in it yet. `pidns`: the slot that holds it. */
export function openForeignProc(
  draft: Draft,
  mounts: readonly OciMount[],
  opened: Map<OciMount, OpenedBind>,
  { from, pidns }: { readonly from: ForeignProc; readonly pidns: number },
): void {
  for (const mount of mounts) {
    if (mount.type !== "proc" || isBind(mount)) continue;
    const options = parseMountOptions(mount.options ?? []);
    const slot = draft.take();
    if (from.how === "option") {
      const fs = draft.take();
      draft.host({ op: "fsopen", fstype: "proc", out: fs }, "the processes that it will see", { see: "proc(5)" });
      draft.host({ op: "fsconfig_fd", fs, key: "pidns", fd: pidns }, "those of the namespace that it joins");
      for (const option of options.data.split(",").filter((text) => text !== "")) {
        const [key = "", value] = option.split(/=(.*)/s);
        draft.host(value === undefined ? { op: "fsconfig_flag", fs, key } : { op: "fsconfig_str", fs, key, value }, "as the spec asks");
      }
      draft.host({ op: "fsmount", fs, attrs: options.set, out: slot }, `what the container will see as ${mount.destination}`);
      draft.host({ op: "close", slot: fs }, "the mount stands");
      draft.release(fs);
    } else {
      if (options.data !== "")
        throw new EngineError(
          "unsupported",
          `a proc filesystem of another container's processes cannot have options of its own (${options.data}) before Linux 6.18`,
        );
      openInContainer(draft, from.pid, { path: "/proc", flags: OPEN_TREE_CLONE, out: slot }, `what the container will see as ${mount.destination}`);
      draft.host({ op: "expect_procfs", slot, pidns }, "the other container may have put something else there");
    }
    opened.set(mount, { mount, options, slot });
  }
}

/**
 * After the namespaces of others are joined, before `clone`: sysfs shows the network namespace of who makes it, and a user namespace has no right over one
 * that it does not own. The monitor has.
 */
export function openForeignSysfs(draft: Draft, mounts: readonly OciMount[], opened: Map<OciMount, OpenedBind>): void {
  for (const mount of mounts) {
    if (mount.type !== "sysfs" || isBind(mount)) continue;
    const options = parseMountOptions(mount.options ?? []);
    const [fs, slot] = [draft.take(), draft.take()];
    draft.host({ op: "fsopen", fstype: "sysfs", out: fs }, "the devices of the network that it joins", { see: "sysfs(5)" });
    draft.host({ op: "fsmount", fs, attrs: options.set, out: slot }, `what the container will see as ${mount.destination}`);
    draft.host({ op: "close", slot: fs }, "the mount stands");
    draft.release(fs);
    opened.set(mount, { mount, options, slot });
  }
}

function treeFlags(options: MountOptions): number {
  return OPEN_TREE_CLONE | (options.recursiveBind ? AT_RECURSIVE : 0);
}

function openSource(draft: Draft, mount: OciMount, source: string, options: MountOptions, out: number): void {
  const [, pid, path] = /^\/proc\/(\d+)\/root(\/.*)$/.exec(source) ?? [];
  const why = sourceWhy[mount.destination] ?? `what the container will see as ${mount.destination}`;
  if (pid === undefined || path === undefined) {
    draft.host({ op: "open_tree", dir: NO_SLOT, path: source, flags: treeFlags(options), out }, why);
    return;
  }
  openInContainer(draft, pid, { path, flags: treeFlags(options), out }, `the other container's ${path}, which both will share`);
}

/** A mount of another container can only be opened from within its mount namespace. */
function openInContainer(draft: Draft, pid: string, tree: { readonly path: string; readonly flags: number; readonly out: number }, why: string): void {
  const [home, other] = [draft.take(), draft.take()];
  draft.host({ op: "openat", dir: NO_SLOT, path: "/proc/self/ns/mnt", flags: O.RDONLY, mode: 0, out: home }, "the way back");
  draft.host({ op: "openat", dir: NO_SLOT, path: `/proc/${pid}/ns/mnt`, flags: O.RDONLY, mode: 0, out: other }, "the other container's mount namespace");
  draft.host({ op: "setns", fd: other, flags: CLONE.NEWNS }, "only from inside can its mounts be opened", { see: "mount_namespaces(7)" });
  draft.host({ op: "open_tree", dir: NO_SLOT, ...tree }, why);
  draft.host({ op: "setns", fd: home, flags: CLONE.NEWNS }, "back to the host", { see: "mount_namespaces(7)" });
  for (const slot of [home, other]) {
    draft.host({ op: "close", slot }, "no longer needed");
    draft.release(slot);
  }
}

const sourceWhy: Readonly<Record<string, string>> = {
  "/etc/resolv.conf": "name servers, written by the engine for this container",
  "/etc/hostname": "its name, written by the engine",
  "/etc/hosts": "its own address and name, written by the engine",
};

/** One mapping serves all binds that want the same. */
class Idmaps {
  readonly #slots = new Map<string, number>();
  readonly #draft: Draft;

  constructor(draft: Draft) {
    this.#draft = draft;
  }

  apply(mnt: number, uids: readonly IdMapping[], gids: readonly IdMapping[], options: MountOptions, facts: HostFacts): void {
    if (!facts.idmappedMounts) throw new EngineError("unsupported", "this kernel has no id-mapped mounts (Linux 5.12)");
    const [uidmap, gidmap] = [mapText(uids), mapText(gids)];
    const key = `${uidmap}/${gidmap}`;
    let userns = this.#slots.get(key);
    if (userns === undefined) {
      userns = this.#draft.take();
      this.#slots.set(key, userns);
      this.#draft.host({ op: "userns_open", uidmap, gidmap, out: userns }, "how owners on disk relate to the container's users", { see: "mount_setattr(2)" });
    }
    this.#draft.host(
      { op: "mount_setattr", mnt, set: MOUNT_ATTR.IDMAP, clr: 0n, propagation: 0n, recursive: options.recursiveIdmap ? 1 : 0, userns },
      "files of root on disk belong to the container's root here",
    );
  }

  close(): void {
    for (const slot of this.#slots.values()) {
      this.#draft.host({ op: "close", slot }, "the mounts hold the mapping now");
      this.#draft.release(slot);
    }
  }
}

/** What programs rely on in /proc must be the kernel's (runc's list of exceptions). */
const allowedInProc = new Set(
  ["cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "net/dev", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"].map(
    (name) => `/proc/${name}`,
  ),
);

function refuseInProc(mount: OciMount): void {
  const destination = posix.normalize(mount.destination).replace(/\/$/, "");
  if (destination === "/proc" && mount.source !== "/proc")
    throw new EngineError("invalid", `"${mount.destination}" cannot be mounted because it is not of type proc`);
  if (!destination.startsWith("/proc/") || allowedInProc.has(destination)) return;
  throw new EngineError("invalid", `"${mount.destination}" cannot be mounted because it is inside /proc`);
}

/** In the child: mounts everything, in the spec's order. Mounts of type cgroup come later, when the child is in its cgroups. */
export function planMounts(draft: Draft, mounts: readonly OciMount[], opened: ReadonlyMap<OciMount, OpenedBind>, context: MountContext): void {
  for (const mount of mounts) {
    if (mount.type === "cgroup" || mount.type === "cgroup2") continue;
    const bind = opened.get(mount);
    if (bind !== undefined) attachBind(draft, bind, context);
    else mountFresh(draft, mount, context.label);
  }
}

const mountWhy: Readonly<Record<string, string>> = {
  proc: "the kernel's view of processes; mounted here, it shows this PID namespace",
  sysfs: "the kernel's view of devices; mounted here, it shows this network namespace",
  devpts: "terminals of its own, numbered from 0",
  mqueue: "POSIX message queues of this IPC namespace, as files",
};
const destinationWhy: Readonly<Record<string, string>> = {
  "/dev": "an empty directory in memory, for the few devices that a container gets",
  "/dev/shm": "POSIX shared memory: files that live in memory",
};

/** Their files have labels that the policy gives them, and no context of a mount. */
const ownLabels = new Set(["proc", "sysfs", "mqueue", "cgroup", "cgroup2"]);

/** The data of a mount with the label that its files shall have: a value with commas stands in quotes. */
function labelled(type: string, data: string, label: string | undefined): string {
  if (label === undefined || label === "" || ownLabels.has(type)) return data;
  const context = `context="${label}"`;
  return data === "" ? context : `${data},${context}`;
}

function mountFresh(draft: Draft, mount: OciMount, label: string | undefined): void {
  if (mount.type === undefined) throw new EngineError("invalid", `the mount at ${mount.destination} has no type`);
  if (mount.type !== "proc") refuseInProc(mount);
  const options = parseMountOptions(mount.options ?? []);
  const path = inRoot(mount.destination);
  makeMountPoint(draft, mount.destination, false);
  const below = mount.type === "tmpfs" && options.copyUp ? draft.take() : undefined;
  if (below !== undefined)
    draft.child({ op: "openat", dir: slots.root, path, flags: O.PATH | O.DIRECTORY, mode: 0, out: below }, `what ${mount.destination} holds in the image`);
  draft.child(
    {
      op: "mount",
      source: mount.source ?? mount.type,
      dir: slots.root,
      path,
      fstype: mount.type,
      flags: below === undefined ? options.flags : options.flags & ~MS.RDONLY,
      data: labelled(mount.type, options.data, label),
    },
    destinationWhy[mount.destination] ??
      mountWhy[mount.type] ??
      (mount.type === "tmpfs" ? "files here live in memory and go with the container" : `a ${mount.type} filesystem, as the spec asks`),
    { see: fsPage[mount.type] ?? "mount(2)" },
  );
  if (below !== undefined) copyUp(draft, path, below, options);
  if (options.propagation !== 0n && options.propagation !== MS.PRIVATE) {
    draft.child(
      { op: "mount", source: "none", dir: slots.root, path, fstype: "", flags: options.propagation | (options.propagationRecursive ? MS.REC : 0n), data: "" },
      "how mounts propagate from here",
    );
  }
}
/** tmpcopyup; a read-only tmpfs becomes so afterwards. */
function copyUp(draft: Draft, path: string, from: number, { flags }: MountOptions): void {
  const to = draft.take();
  draft.child({ op: "openat", dir: slots.root, path, flags: O.DIRECTORY, mode: 0, out: to }, "the tmpfs itself");
  draft.child({ op: "copy_tree", from, to }, "it begins with what the directory below it holds");
  for (const slot of [from, to]) {
    draft.child({ op: "close", slot }, "copied");
    draft.release(slot);
  }
  if ((flags & MS.RDONLY) !== 0n)
    draft.child({ op: "mount", source: "none", dir: slots.root, path, fstype: "", flags: MS.BIND | MS.REMOUNT | flags, data: "" }, "read-only from here on");
}

const fsPage: Readonly<Record<string, string>> = {
  proc: "proc(5)",
  sysfs: "sysfs(5)",
  tmpfs: "tmpfs(5)",
  devpts: "pts(4)",
  mqueue: "mq_overview(7)",
  cgroup: "cgroups(7)",
  cgroup2: "cgroups(7)",
};

/** The kernel's own places exist in every image's init layer, or in the mount just made. */
function makeMountPoint(draft: Draft, destination: string, file: boolean): void {
  const path = inRoot(destination);
  if (path === "") throw new EngineError("invalid", "invalid mount: a mount over / would hide the whole root");
  if (path.startsWith("sys/")) return; // sysfs has its directories, and takes no others
  if (file) draft.child({ op: "mkfile", dir: slots.root, path, mode: 0o644, parents: 1 }, "something to mount on, if the image has no such file");
  else
    draft.child({ op: "mkdir", dir: slots.root, path, mode: 0o755, uid: 0, gid: 0, parents: 1 }, "something to mount on, if the image has no such directory");
}

function attachBind(draft: Draft, { mount, options, slot }: OpenedBind, { facts, files }: MountContext): void {
  const mnt = slot ?? draft.take();
  const path = inRoot(mount.destination);
  makeMountPoint(draft, mount.destination, files.has(mount.destination));
  if (slot === undefined)
    draft.child(
      { op: "open_tree", dir: NO_SLOT, path: mount.source ?? "", flags: treeFlags(options), out: mnt },
      `what the container will see as ${mount.destination}`,
    );
  if (facts.mountSetattr) {
    const propagation = options.propagation === 0n ? MS.PRIVATE : options.propagation;
    const all = options.recursiveBind && (options.propagationRecursive || options.propagation === 0n);
    draft.child(
      {
        op: "mount_setattr",
        mnt,
        set: options.recursiveSet,
        clr: options.recursiveClr,
        propagation,
        recursive: all || options.recursiveSet !== 0n ? 1 : 0,
        userns: NO_SLOT,
      },
      options.recursiveSet === 0n
        ? "mounts made below it stay on their side"
        : "read-only, with all that is mounted below; and mounts made below it stay on their side",
    );
    const [set, clr] = [options.set & ~options.recursiveSet, options.clr & ~options.recursiveClr];
    if (set !== 0n || clr !== 0n)
      draft.child(
        { op: "mount_setattr", mnt, set, clr, propagation: 0n, recursive: 0, userns: NO_SLOT },
        (set & MOUNT_ATTR.RDONLY) === 0n ? "the options of this mount" : "read-only for the container",
      );
  }
  draft.child({ op: "move_mount", mnt, dir: slots.root, path }, `appears as ${mount.destination}`);
  if (!facts.mountSetattr) attachOld(draft, options, path);
  // Not closed: it is a mount of the container's own by now, and close-on-exec.
  draft.release(mnt);
}

/** Linux 5.10 and 5.11: the old way to change a mount, after it is attached. */
function attachOld(draft: Draft, options: MountOptions, path: string): void {
  const at = { op: "mount", source: "none", dir: slots.root, path, fstype: "", data: "" } as const;
  draft.child(
    { ...at, flags: (options.propagation === 0n ? MS.PRIVATE : options.propagation) | (options.recursiveBind ? MS.REC : 0n) },
    "mounts made below it stay on their side",
  );
  if (options.flags !== 0n) draft.child({ ...at, flags: MS.BIND | MS.REMOUNT | options.flags }, "the options of this mount");
}
