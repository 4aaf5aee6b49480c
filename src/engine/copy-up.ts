/**
 * A new volume gets what the image has at its mount point: the directory's content, and its owner and mode. Done at create, while nobody uses the volume.
 * @module
 */
import { join } from "node:path";
import type { ContainerRecord, MountPoint } from "#container/mod.ts";
import type { FileTree, TreeStat } from "#linux/file-tree.ts";
import { copyUnion } from "#unionfs/copy-tree.ts";
import { isOpaque, isWhiteout } from "#unionfs/overlay-format.ts";
import { shiftedTree } from "#unionfs/shifted-tree.ts";
import { directoriesOf, hasImages, openCommonTree, openUnion, withOwners } from "#unionfs/trees.ts";
import type { EngineContext } from "./context.ts";

/** As the kernel: ELOOP after so many. */
const MAX_LINKS = 40;

/**
 * Does nothing when the volume holds something already, or the image has no such directory; then, where its files are to have the host's ids, the volume becomes that of the
 * container's root.
 */
export async function copyUp(ctx: EngineContext, record: ContainerRecord, mount: MountPoint): Promise<void> {
  if (record.snapshot === "" || mount.Name === undefined || !(await ctx.volumes.isEmpty(mount.Name))) return;
  const root = await ctx.layers.driver.mounts(record.snapshot);
  const union = hasImages(root);
  const layers = union ? [""] : directoriesOf(root);
  const { tree, paths } = union ? { tree: await openUnion(ctx.helper, root), paths: [""] } : await openCommonTree(ctx.helper, layers);
  let found: Found | undefined;
  try {
    found = await resolveDirectory(withOwners(tree, root), paths, mount.Destination);
  } finally {
    await tree.close();
  }
  const { idMappings, ownersOnDisk } = record;
  if (found === undefined && ownersOnDisk !== "all") return;
  const volume = await ctx.helper.openTree(mount.Source);
  const target = ownersOnDisk === "all" && idMappings !== undefined ? shiftedTree(volume, idMappings) : volume;
  await using opened = new Trees(target);
  if (found === undefined) {
    const { mode, mtimeNs } = (await volume.lstat(""))!;
    await target.setMeta("", { mode, uid: 0, gid: 0, mtimeNs });
    await target.flush();
    return;
  }
  const open = async (path: string): Promise<FileTree> => withOwners(await (union ? openUnion(ctx.helper, root, path) : ctx.helper.openTree(path)), root);
  // Each is a real directory in its layer: no component of its path is a link.
  const directories = found.parts.map(({ layer, path }) => join(layers[layer] as string, path));
  await copyUnion(await Promise.all(directories.map((directory) => opened.add(open(directory)))), target, found.stat);
}

interface Found {
  readonly stat: TreeStat;
  /** The layers (indices) that have the directory, top-most first, and where below each layer's root. */
  readonly parts: readonly { readonly layer: number; readonly path: string }[];
}

/** Follows links within the union, component by component; undefined when there is no such directory. */
async function resolveDirectory(tree: FileTree, layers: readonly string[], path: string): Promise<Found | undefined> {
  const todo = path.split("/").filter((part) => part !== "" && part !== ".");
  const root = layers.map((_, layer) => ({ layer, path: "" }));
  let parts = root;
  const above: (typeof root)[] = [];
  let stat = await tree.lstat(layers[0] ?? "");
  for (let links = 0; todo.length > 0; ) {
    const name = todo.shift() as string;
    if (name === "..") {
      parts = above.pop() ?? root;
      continue;
    }
    const step = await descend(tree, layers, parts, name);
    if (step === undefined) return undefined;
    if (step.stat.type === "symlink") {
      if (++links > MAX_LINKS) return undefined;
      const target = Buffer.from(step.stat.target ?? []).toString();
      todo.unshift(...target.split("/").filter((part) => part !== "" && part !== "."));
      if (target.startsWith("/")) [parts, above.length] = [root, 0];
      continue;
    }
    if (step.stat.type !== "dir") return undefined;
    above.push(parts);
    parts = step.parts;
    stat = step.stat;
  }
  return stat === undefined ? undefined : { stat, parts };
}

/** One name in a merged directory. */
async function descend(
  tree: FileTree,
  layers: readonly string[],
  directory: Found["parts"],
  name: string,
): Promise<{ readonly stat: TreeStat; readonly parts: { layer: number; path: string }[] } | undefined> {
  const parts: { layer: number; path: string }[] = [];
  let first: TreeStat | undefined;
  for (const { layer, path } of directory) {
    const at = path === "" ? name : `${path}/${name}`;
    const stat = await tree.lstat(join(layers[layer] as string, at));
    if (stat === undefined) continue;
    if (stat.type !== "dir") {
      if (first === undefined && !isWhiteout(stat)) return { stat, parts };
      break;
    }
    first ??= stat;
    parts.push({ layer, path: at });
    if (isOpaque(stat)) break;
  }
  return first === undefined ? undefined : { stat: first, parts };
}

/** Trees that are closed together. */
class Trees implements AsyncDisposable {
  readonly #open: FileTree[];

  constructor(first: FileTree) {
    this.#open = [first];
  }

  async add(opening: Promise<FileTree>): Promise<FileTree> {
    const tree = await opening;
    this.#open.push(tree);
    return tree;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#open.map((tree) => tree.close()));
  }
}
