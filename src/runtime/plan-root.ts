/**
 * The root filesystem: made by the monitor as a detached mount (one that is attached nowhere, so the host never shows it), attached later by the
 * child in its own mount namespace.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { IdMapping } from "#core/runtime-spec.ts";
import { AT_RECURSIVE, MOUNT_ATTR, MS, O, OPEN_TREE_CLONE } from "#linux/flags.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { attachedOverlaySlots, attachedOverlaySteps, type ImageOverlay, quotedOption } from "#linux/attached-overlay.ts";
import { filesystemLoops, filesystemSteps } from "#linux/filesystem-steps.ts";
import { type LayerImage, layerImageSteps, loopSlots } from "#linux/layer-image.ts";
import { NO_SLOT, type Plan } from "#linux/plan.ts";
import { mapText } from "#namespace/mod.ts";
import { Draft } from "./draft.ts";
import type { RootMountData } from "./root-mount.ts";
import { slots } from "./slots.ts";

type Overlay = Extract<RootMountData, { kind: "overlay" }>;

export interface RootOptions {
  readonly facts: HostFacts;
  /** The container's user namespace; undefined = the host's. */
  readonly mapping: { readonly uids: readonly IdMapping[]; readonly gids: readonly IdMapping[] } | undefined;
}

/** fsconfig(2) takes values of up to 255 bytes. */
export const FSCONFIG_MAX = 255;
/** mount(2) takes one page of options. */
const MOUNT_DATA_MAX = 4095;

/**
 * The root as a mount whose files have an SELinux label, whatever they have on disk. Files of a plain directory have their own: the caller has seen to them.
 * @throws EngineError "unsupported" for a program's mount, where processes are confined to the label
 */
export function labelledRoot(
  root: RootMountData,
  { files = "", processes = "" }: { readonly files?: string | undefined; readonly processes?: string | undefined },
): RootMountData {
  if (files === "" || root.kind === "bind") return root;
  if (root.kind !== "fuse") return { ...root, options: [...root.options, `${CONTEXT}${files}`] };
  if (processes === "") return root;
  throw new EngineError("unsupported", "the files of a FUSE root have no SELinux label that a container could be confined to", {
    hint: "use another --storage-driver, or --security-opt label=disable",
  });
}

const CONTEXT = "context=";

/**
 * Adds the steps that make the root. `hidden` = it is in slots.root, detached. `in-child` = this kernel can only mount it in place: call
 * {@link planLegacyOverlay} when the child has its own mount namespace.
 */
export function planRoot(draft: Draft, root: RootMountData, options: RootOptions): "detached" | "in-child" {
  draft.section("The root filesystem");
  if (root.kind === "bind") planBindRoot(draft, root, options);
  else if (options.mapping !== undefined && root.kind === "fuse")
    throw new EngineError("unsupported", "a FUSE root cannot be used with a user namespace", {
      hint: "use the overlay2 driver, or mount it and give the directory",
    });
  else if (root.kind === "fs") planFilesystemRoot(draft, root, options);
  else if (root.kind === "fuse") planFuseRoot(draft, root);
  else if (isAttached(root)) planAttachedOverlay(draft, root, options);
  else if (options.mapping !== undefined) planMappedOverlay(draft, root, options.mapping, options.facts);
  else if (fitsFsconfig(root, options.facts)) planOverlay(draft, root, options.facts);
  else return "in-child";
  return "detached";
}

/** A call plan that makes a root for a user namespace and drops it again: to learn whether this host can. @throws EngineError "unsupported" */
export function planMappedRoot(root: RootMountData, facts: HostFacts, mapping: NonNullable<RootOptions["mapping"]>): Plan {
  const draft = new Draft();
  planRoot(draft, root, { facts, mapping });
  return draft.plan();
}

/** A directory tree as it is. */
function planBindRoot(draft: Draft, root: Extract<RootMountData, { kind: "bind" }>, { facts, mapping }: RootOptions): void {
  if (mapping === undefined || root.owners !== undefined) {
    draft.host(
      { op: "open_tree", dir: NO_SLOT, path: root.source, flags: OPEN_TREE_CLONE | AT_RECURSIVE, out: slots.root },
      "a second mount of this directory: it will be the container's /",
    );
    return;
  }
  requireIdmap(facts);
  // Without what is mounted below: some other filesystem there may not support id-mapped mounts.
  draft.host(
    { op: "open_tree", dir: NO_SLOT, path: root.source, flags: OPEN_TREE_CLONE, out: slots.root },
    "a second mount of this directory: it will be the container's /",
  );
  shiftOwners(draft, mapping);
}

function planFilesystemRoot(draft: Draft, root: Extract<RootMountData, { kind: "fs" }>, { facts, mapping }: RootOptions): void {
  const fs = draft.take();
  const loops = draft.takeRange(filesystemLoops(root));
  draft.add(...filesystemSteps(root, { fs, out: slots.root, loops: loops[0] ?? NO_SLOT }, `a ${root.fstype} filesystem, to be configured`));
  for (const slot of [fs, ...loops]) draft.release(slot);
  if (mapping === undefined || root.owners !== undefined) return;
  requireIdmap(facts);
  shiftOwners(draft, mapping);
}

function isAttached(root: Overlay): root is Overlay & Pick<ImageOverlay, "images" | "attachAt"> {
  return root.images !== undefined && root.attachAt !== undefined;
}

/** Images, on a kernel whose overlay takes no mount that is attached nowhere. */
function planAttachedOverlay(draft: Draft, root: Overlay & Pick<ImageOverlay, "images" | "attachAt">, { mapping, facts }: RootOptions): void {
  if (mapping !== undefined)
    throw new EngineError("unsupported", "--userns with layers that are images needs overlay layers by descriptor, which this kernel lacks (Linux 6.15)", {
      hint: `this host runs Linux ${facts.kernel.release}; use --storage-driver overlay2`,
    });
  const free = draft.takeRange(attachedOverlaySlots(root));
  draft.add(...attachedOverlaySteps(root, slots.root, free[0] ?? slots.free));
  for (const slot of free) draft.release(slot);
}

/** The root that has been mounted is seen with the owners of a user namespace. */
function shiftOwners(draft: Draft, mapping: NonNullable<RootOptions["mapping"]>): void {
  const userns = draft.take();
  openIdmap(draft, userns, mapping, false);
  draft.host(
    { op: "mount_setattr", mnt: slots.root, set: MOUNT_ATTR.IDMAP, clr: 0n, propagation: 0n, recursive: 0, userns },
    "files of root on disk belong to the container's root here",
  );
  closeIdmap(draft, userns);
}

/** A FUSE program's mount. The program lives as long as the mount does, which the host never sees. */
function planFuseRoot(draft: Draft, root: Extract<RootMountData, { kind: "fuse" }>): void {
  draft.host({ op: "fuse", argv: root.argv, path: root.mountpoint, out: slots.root }, "the layers as one tree, by a program in user space");
  if (root.readonly)
    draft.host(
      { op: "mount_setattr", mnt: slots.root, set: MOUNT_ATTR.RDONLY, clr: 0n, propagation: 0n, recursive: 0, userns: NO_SLOT },
      "nothing is to be written to it",
    );
}

/** fs.overlay: the layers as one directory tree. Lower layers are shared by all containers of an image; what changes goes to the upper one. */
function planOverlay(draft: Draft, root: Overlay, facts: HostFacts): void {
  const fs = openOverlay(draft);
  const held: number[] = [];
  if (facts.overlay.lowerdirPlus) {
    for (const layers of lowerLayers(root)) {
      if (layers.image === undefined) draft.host({ op: "fsconfig_dirs", fs, key: "lowerdir+", dir: NO_SLOT, paths: layers.directories }, layers.why);
      else held.push(useImage(draft, fs, layers.image, layers.why));
    }
  } else {
    draft.host({ op: "fsconfig_str", fs, key: "lowerdir", value: root.lower.map(escapeLower).join(":") }, "the read-only layers, top-most first");
  }
  if (root.upper !== undefined && root.work !== undefined) {
    draft.host({ op: "fsconfig_str", fs, key: "upperdir", value: root.upper }, "the writable layer: this container's own changes");
    draft.host({ op: "fsconfig_str", fs, key: "workdir", value: root.work }, "where overlayfs prepares a file before it appears");
  }
  finishOverlay(draft, fs, root);
  letGo(draft, held);
}

/**
 * With a user namespace, the layers are reached through a detached mount of their folder that shifts the owners: root's files on disk are root's
 * in the container. Nothing is copied or chowned, and the layers stay shared. The mount must live until the overlay is made.
 */
function planMappedOverlay(draft: Draft, root: Overlay, mapping: NonNullable<RootOptions["mapping"]>, facts: HostFacts): void {
  if (!facts.overlay.layerFds) {
    throw new EngineError("unsupported", "--userns needs overlay layers by descriptor, which this kernel lacks (Linux 6.13)", {
      hint: `this host runs Linux ${facts.kernel.release}`,
    });
  }
  requireIdmap(facts);
  const [userns, store] = [draft.take(), draft.take()];
  const writable =
    root.upper === undefined || root.work === undefined
      ? []
      : ([
          ["upperdir", root.upper],
          ["workdir", root.work],
        ] as const);
  const folder = commonFolder([...root.lower, ...writable.map(([, path]) => path)]);
  openIdmap(draft, userns, mapping, true);
  draft.host({ op: "open_tree", dir: NO_SLOT, path: folder, flags: OPEN_TREE_CLONE, out: store }, "a second mount of the folder of all layers");
  draft.host(
    { op: "mount_setattr", mnt: store, set: MOUNT_ATTR.IDMAP, clr: 0n, propagation: 0n, recursive: 0, userns },
    "seen through it, the owners are the container's",
  );
  const fs = openOverlay(draft);
  const use = (key: string, directories: readonly string[], why: string) => {
    const paths = directories.map((directory) => directory.slice(folder.length).replace(/^\//, ""));
    draft.host({ op: "fsconfig_dirs", fs, key, dir: store, paths }, why);
  };
  const held: number[] = [];
  for (const layers of lowerLayers(root)) {
    if (layers.image === undefined) use("lowerdir+", layers.directories, layers.why);
    else held.push(useImage(draft, fs, layers.image, layers.why, userns));
  }
  for (const [key, path] of writable)
    use(key, [path], key === "upperdir" ? "the writable layer: this container's own changes" : "where overlayfs prepares a file before it appears");
  finishOverlay(draft, fs, root);
  letGo(draft, [...held, store, userns]);
}

/** Mounts an image as the next lower layer, with its owners shifted where `userns` says how. The mount in the slot must live until the overlay is made. */
function useImage(draft: Draft, fs: number, image: LayerImage, why: string, userns: number = NO_SLOT): number {
  const [context, layer] = [draft.take(), draft.take()];
  const loops = draft.takeRange(loopSlots(image));
  draft.add(...layerImageSteps(image, { fs: context, out: layer, loops: loops[0] ?? NO_SLOT }, why));
  for (const slot of [context, ...loops]) draft.release(slot);
  if (userns !== NO_SLOT)
    draft.host(
      { op: "mount_setattr", mnt: layer, set: MOUNT_ATTR.IDMAP, clr: 0n, propagation: 0n, recursive: 0, userns },
      "seen through it, the owners are the container's",
    );
  draft.host({ op: "fsconfig_fd", fs, key: "lowerdir+", fd: layer }, "the image is this layer");
  return layer;
}

function letGo(draft: Draft, slots: readonly number[]): void {
  for (const slot of slots) {
    draft.host({ op: "close", slot }, "the overlay holds what it needs");
    draft.release(slot);
  }
}

function openOverlay(draft: Draft): number {
  const fs = draft.take();
  draft.host({ op: "fsopen", fstype: "overlay", out: fs }, "an overlay: layers of directories seen as one tree", {
    see: "https://docs.kernel.org/filesystems/overlayfs.html",
  });
  draft.host({ op: "fsconfig_str", fs, key: "source", value: "overlay" }, "the name that /proc/mounts will show");
  return fs;
}

function finishOverlay(draft: Draft, fs: number, root: Overlay): void {
  setOptions(draft, fs, root.options);
  draft.host(
    { op: "fsmount", fs, attrs: root.upper === undefined ? MOUNT_ATTR.RDONLY : 0n, out: slots.root },
    "mounted, but attached nowhere: only this container will see it",
  );
  draft.host({ op: "close", slot: fs }, "the context has served");
  draft.release(fs);
}

const optionWhy: Readonly<Record<string, string>> = {
  volatile: "no fsync: the container is removed when it ends, so its changes need not survive a crash",
  "metacopy=off": "a chown copies the whole file up, so that the layer is complete in itself",
  "redirect_dir=off": "a renamed directory is copied, so that the layer is complete in itself",
  "index=off": "lower files need not be told apart by their handles",
};

function setOptions(draft: Draft, fs: number, options: readonly string[]): void {
  for (const option of options) {
    const [key = "", value] = option.split(/=(.*)/s);
    const why = optionWhy[option] ?? (option.startsWith(CONTEXT) ? "the SELinux label of all files in it" : "as the storage driver asks");
    draft.host(value === undefined ? { op: "fsconfig_flag", fs, key } : { op: "fsconfig_str", fs, key, value }, why);
  }
}

type LowerLayers =
  | { readonly image: LayerImage; readonly why: string }
  | { readonly image: undefined; readonly directories: readonly string[]; readonly why: string };

/** The read-only layers, top-most first; directories that follow each other are one step, however many they are. */
function lowerLayers({ lower, images }: Overlay): readonly LowerLayers[] {
  const found: LowerLayers[] = [];
  for (let from = 0; from < lower.length; ) {
    const image = images?.[from];
    const to = image === undefined ? from + directoriesAt(from, lower, images) : from + 1;
    const why = lowerWhy({ from, to, count: lower.length });
    found.push(image === undefined ? { image, directories: lower.slice(from, to), why } : { image, why });
    from = to;
  }
  return found;
}

function directoriesAt(from: number, lower: readonly string[], images: Overlay["images"]): number {
  if (images === undefined) return lower.length - from;
  const next = images.findIndex((image, i) => i > from && image !== undefined);
  return (next < 0 ? lower.length : next) - from;
}

function lowerWhy({ from, to, count }: { readonly from: number; readonly to: number; readonly count: number }): string {
  if (count === 1) return "the read-only layer";
  if (from === 0 && to === count) return `the ${count} read-only layers, top-most first`;
  if (from === 0) return `the top-most of ${count} read-only layers`;
  return to === count ? "the lowest: the base of the image" : "the next layer below";
}

function requireIdmap(facts: HostFacts): void {
  if (!facts.idmappedMounts)
    throw new EngineError("unsupported", "--userns needs id-mapped mounts, which this kernel lacks (Linux 5.12)", {
      hint: `this host runs Linux ${facts.kernel.release}`,
    });
}

/**
 * A user namespace whose maps say how a mount shifts owners: on disk → in the kernel. overlayfs itself works in the upper layer as the host's
 * root (work directory, whiteouts), and an owner that the map does not know is refused (EOVERFLOW): `withRoot` adds the host's root behind the
 * container's range.
 */
function openIdmap(draft: Draft, out: number, mapping: NonNullable<RootOptions["mapping"]>, withRoot: boolean): void {
  draft.host(
    { op: "userns_open", uidmap: idmapText(mapping.uids, withRoot), gidmap: idmapText(mapping.gids, withRoot), out },
    "how owners on disk relate to the container's users",
    { see: "mount_setattr(2)" },
  );
}

function closeIdmap(draft: Draft, slot: number): void {
  draft.host({ op: "close", slot }, "the mounts hold the mapping now");
  draft.release(slot);
}

/** Exported for its test. */
export function idmapText(mappings: readonly IdMapping[], withRoot: boolean): string {
  const hasRoot = mappings.some((m) => m.hostID === 0);
  const behind = Math.max(...mappings.map((m) => m.containerID + m.size));
  return mapText(withRoot && !hasRoot ? [...mappings, { containerID: behind, hostID: 0, size: 1 }] : mappings);
}

/** The deepest folder that holds all these paths. */
function commonFolder(paths: readonly string[]): string {
  const [first = [], ...rest] = paths.map((path) => path.split("/").slice(0, -1));
  let depth = first.length;
  for (const parts of rest) while (depth > 0 && first.slice(0, depth).join("/") !== parts.slice(0, depth).join("/")) depth--;
  return first.slice(0, depth).join("/") || "/";
}

/** ":" separates layers and "\" escapes, in the one-string form. */
function escapeLower(path: string): string {
  return path.replace(/[\\:]/g, (c) => `\\${c}`);
}

function fitsFsconfig(root: Overlay, facts: HostFacts): boolean {
  const values = [root.upper ?? "", root.work ?? "", ...(facts.overlay.lowerdirPlus ? root.lower : [root.lower.map(escapeLower).join(":")])];
  return values.every((value) => Buffer.byteLength(value) <= FSCONFIG_MAX);
}

/**
 * Before Linux 6.5, or with long paths: mount(2) with short names relative to the folder of links, in the child's own mount namespace, over that
 * very folder (nobody else sees it covered). Ends with the root open in slots.root.
 */
export function planLegacyOverlay(draft: Draft, root: Overlay): void {
  const lower = root.links.join(":");
  // A comma separates options, so it is escaped as well.
  const path = (text: string) => text.replace(/[\\:,]/g, (c) => `\\${c}`);
  const options = [
    `lowerdir=${lower}`,
    ...(root.upper === undefined || root.work === undefined ? [] : [`upperdir=${path(root.upper)}`, `workdir=${path(root.work)}`]),
    ...root.options.map(quotedOption),
  ].join(",");
  if (root.links.length !== root.lower.length || Buffer.byteLength(options) > MOUNT_DATA_MAX)
    throw new EngineError("unsupported", `${root.lower.length} layers are more than this kernel can mount (Linux 6.5 has no such limit)`);
  draft.child({ op: "chdir", path: root.linkDir }, "the layers have short names here: mount(2) takes at most one page of options");
  draft.child(
    { op: "mount", source: "overlay", dir: NO_SLOT, path: root.linkDir, fstype: "overlay", flags: root.upper === undefined ? MS.RDONLY : 0n, data: options },
    "the layers seen as one tree",
    { see: "https://docs.kernel.org/filesystems/overlayfs.html" },
  );
  draft.child({ op: "openat", dir: NO_SLOT, path: root.linkDir, flags: O.PATH | O.DIRECTORY, mode: 0, out: slots.root }, "the container's root directory");
}
