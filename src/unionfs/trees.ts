import { dirname, relative } from "node:path";
import { attachedOverlaySteps } from "#linux/attached-overlay.ts";
import type { WorkerTree } from "#linux/file-tree.ts";
import { filesystemSteps } from "#linux/filesystem-steps.ts";
import { AT_RECURSIVE, MOUNT_ATTR, O, OPEN_TREE_CLONE } from "#linux/flags.ts";
import type { Helper } from "#linux/helper.ts";
import { layerImageSteps } from "#linux/layer-image.ts";
import { NO_SLOT, type Plan, type Step } from "#linux/plan.ts";
import type { RootMount } from "./mod.ts";
import { shiftedTree } from "./shifted-tree.ts";

/** The directories of a root, top-most first. */
export function directoriesOf(mount: RootMount | undefined): readonly string[] {
  if (mount === undefined) return [];
  if (mount.kind === "overlay") return mount.upper === undefined ? mount.lower : [mount.upper, ...mount.lower];
  if (mount.kind === "fuse") return mount.directories;
  return mount.kind === "bind" ? [mount.source] : [];
}

/** What the top-most layer of a chain's mount has of its own, to be mounted alone; undefined when there is none. */
export function topLayer(mount: RootMount): RootMount | undefined {
  if (mount.kind === "fs") return mount;
  const image = mount.kind === "overlay" ? mount.images?.[0] : undefined;
  if (image !== undefined) {
    const { fstype, source, devices, loop } = image;
    return { kind: "fs", fstype, source, options: devices.map((device) => `device=${device}`), readonly: true, ...(loop === true ? { loop } : {}) };
  }
  const [top] = directoriesOf(mount);
  return top === undefined ? undefined : { kind: "bind", source: top, readonly: true };
}

/** Opens one tree that has all of these directories in it, and gives their paths within. */
export async function openCommonTree(
  helper: Helper,
  directories: readonly string[],
): Promise<{ readonly tree: WorkerTree; readonly paths: readonly string[] }> {
  const root = directories.length === 1 ? directories[0]! : commonParent(directories);
  return { tree: await helper.openTree(root), paths: directories.map((directory) => relative(root, directory)) };
}

/** Opens a root: a plain directory as it is, anything else mounted for this only. What is not read-only may be changed. Owners are those of the container. */
export async function openRoot(helper: Helper, mount: RootMount): Promise<WorkerTree> {
  return withOwners(await (mount.kind === "bind" ? helper.openTree(mount.source) : openUnion(helper, mount)), mount);
}

/** A tree of a root's, with the owners that the container sees. */
export function withOwners(tree: WorkerTree, mount: RootMount): WorkerTree {
  return (mount.kind === "bind" || mount.kind === "fs") && mount.owners !== undefined ? shiftedTree(tree, mount.owners) : tree;
}

/** Opens what {@link walkUnion} makes one tree of: a root's directories, top-most first; or the one that is mounted for this, where they are none. */
export async function openLayers(helper: Helper, mount: RootMount): Promise<AsyncDisposable & { readonly layers: readonly WorkerTree[] }> {
  const layers: WorkerTree[] = [];
  const closeAll = async () => {
    for (const layer of layers) await layer.close();
  };
  try {
    if (mount.kind === "bind" || hasImages(mount)) layers.push(await openRoot(helper, mount));
    else for (const directory of directoriesOf(mount)) layers.push(await helper.openTree(directory));
    return { layers, [Symbol.asyncDispose]: closeAll };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** True when some of its layers are images, which a directory's path does not lead into: {@link openUnion} does. */
export function hasImages(mount: RootMount | undefined): boolean {
  return mount !== undefined && (mount.kind === "fs" || (mount.kind === "overlay" && mount.images !== undefined));
}

/** Opens a root as the container would see it (an overlay read-only), or a directory in it; it is mounted for this only, and nowhere to be seen. */
export function openUnion(helper: Helper, mount: RootMount, path = ""): Promise<WorkerTree> {
  return helper.openTree(`${directoriesOf(mount)[0] ?? "the root"}/${path}`, planUnion(mount, path));
}

const [rootSlot, fsSlot, firstLayerSlot] = [0, 1, 2];

function planUnion(mount: RootMount, path: string): Plan {
  const host = { where: "host" } as const;
  const steps: Step[] = [];
  // Its directories are there to be opened.
  if (mount.kind === "fuse") throw new Error("a FUSE mount needs no union of images");
  if (mount.kind === "bind") {
    steps.push({ op: "open_tree", dir: NO_SLOT, path: mount.source, flags: OPEN_TREE_CLONE | AT_RECURSIVE, out: rootSlot, ...host, why: "the root directory" });
  } else if (mount.kind === "fs") {
    steps.push(...filesystemSteps(mount, { fs: fsSlot, out: rootSlot, loops: firstLayerSlot }, "the root's filesystem"));
  } else if (mount.images !== undefined && mount.attachAt !== undefined) {
    const upper = mount.upper === undefined ? [] : [mount.upper];
    const images = [...upper.map(() => undefined), ...mount.images];
    // Of the options, those of an upper directory are not for it.
    const options = mount.options.filter((option) => option !== "volatile");
    steps.push(...attachedOverlaySteps({ lower: [...upper, ...mount.lower], images, options, attachAt: mount.attachAt }, rootSlot, firstLayerSlot));
  } else {
    steps.push({ op: "fsopen", fstype: "overlay", out: rootSlot, ...host, why: "the layers seen as one tree" });
    const lower = (...paths: readonly string[]) =>
      steps.push({ op: "fsconfig_dirs", fs: rootSlot, key: "lowerdir+", dir: NO_SLOT, paths, ...host, why: "layers that are directories" });
    // The upper directory is read as the top-most lower one: a container may have claimed it.
    if (mount.upper !== undefined) lower(mount.upper);
    if (mount.images === undefined) lower(...mount.lower);
    for (const [i, image] of (mount.images ?? []).entries()) {
      const fd = firstLayerSlot + i;
      // The mount must live until the overlay is made: each in a slot of its own.
      if (image === undefined) lower(mount.lower[i]!);
      else
        steps.push(...layerImageSteps(image, { fs: fsSlot, out: fd, loops: fd + 1 }, "a layer"), {
          op: "fsconfig_fd",
          fs: rootSlot,
          key: "lowerdir+",
          fd,
          ...host,
          why: "a layer",
        });
    }
    steps.push({ op: "fsmount", fs: rootSlot, attrs: MOUNT_ATTR.RDONLY, out: rootSlot, ...host, why: "mounted read-only, attached nowhere" });
  }
  // A byte string: "/." follows no link that the last component may be.
  if (path !== "") steps.push({ op: "openat", dir: rootSlot, path, flags: O.PATH | O.DIRECTORY, mode: 0, out: rootSlot, ...host, why: "the directory in it" });
  return { steps };
}

function commonParent(paths: readonly string[]): string {
  let common = dirname(paths[0] ?? "/");
  for (const path of paths) while (common !== "/" && !path.startsWith(`${common}/`)) common = dirname(common);
  return common;
}
