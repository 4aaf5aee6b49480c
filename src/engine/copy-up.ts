/**
 * A new volume gets what the image has at its mount point: the directory's content, and its owner and mode. Done at create, while nobody uses the volume.
 * @module
 */
import { join } from "node:path";
import type { ContainerRecord, MountPoint } from "#container/mod.ts";
import type { FileMeta, FileTree, TreeStat } from "#linux/file-tree.ts";
import { isOpaque, isOverlayXattr, isWhiteout } from "#unionfs/overlay-format.ts";
import { directoriesOf, hasImages, openCommonTree, openUnion } from "#unionfs/trees.ts";
import { walkUnion } from "#unionfs/union-walk.ts";
import type { EngineContext } from "./context.ts";

/** As the kernel: ELOOP after so many. */
const MAX_LINKS = 40;

/** Does nothing when the volume holds something already, or the image has no such directory. */
export async function copyUp(ctx: EngineContext, record: ContainerRecord, mount: MountPoint): Promise<void> {
  if (record.snapshot === "" || mount.Name === undefined || !(await ctx.volumes.isEmpty(mount.Name))) return;
  const root = await ctx.layers.driver.mounts(record.snapshot);
  const union = hasImages(root);
  const layers = union ? [""] : directoriesOf(root);
  const { tree, paths } = union ? { tree: await openUnion(ctx.helper, root), paths: [""] } : await openCommonTree(ctx.helper, layers);
  let found: Found | undefined;
  try {
    found = await resolveDirectory(tree, paths, mount.Destination);
  } finally {
    await tree.close();
  }
  if (found === undefined) return;
  const open = (path: string): Promise<FileTree> => (union ? openUnion(ctx.helper, root, path) : ctx.helper.openTree(path));
  await copyUnion(layers, found, { open, destination: await ctx.helper.openTree(mount.Source) });
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

async function copyUnion(
  layers: readonly string[],
  { stat, parts }: Found,
  { open, destination: to }: { readonly open: (path: string) => Promise<FileTree>; readonly destination: FileTree },
): Promise<void> {
  // Each is a real directory in its layer: no component of its path is a link.
  const directories = parts.map(({ layer, path }) => join(layers[layer] as string, path));
  await using opened = new Trees(to);
  const walks = await Promise.all(directories.map((directory) => opened.add(open(directory))));
  const readers = await Promise.all(directories.map((directory) => opened.add(open(directory))));
  const links = new Map<string, Uint8Array>();
  const directoryMeta: [Uint8Array, FileMeta][] = [[new Uint8Array(), metaOf(stat)]];
  for await (const entry of walkUnion(walks)) {
    const { path } = entry.stat;
    const meta = metaOf(entry.stat);
    const key = `${entry.layer}:${entry.stat.ino}`;
    const first = entry.stat.nlink > 1 && entry.stat.type !== "dir" ? links.get(key) : undefined;
    if (first !== undefined) await to.link(path, first);
    else await copyEntry(readers[entry.layer] as FileTree, to, entry.stat, meta);
    if (entry.stat.type === "dir") directoryMeta.push([path, meta]);
    else if (first === undefined && entry.stat.nlink > 1) links.set(key, path);
  }
  // Last, children first: making an entry changes its directory's time.
  for (const [path, meta] of directoryMeta.reverse()) await to.setMeta(path, meta);
  await to.flush();
}

async function copyEntry(reader: FileTree, to: FileTree, stat: TreeStat, meta: FileMeta): Promise<void> {
  const { path } = stat;
  switch (stat.type) {
    case "dir":
      return to.mkdir(path, meta);
    case "symlink":
      return to.symlink(path, stat.target ?? new Uint8Array(), meta);
    case "file":
      await to.openFile(path, stat.size);
      if (stat.size > 0) for await (const chunk of (await reader.readFile(path)).data) await to.writeData(chunk);
      return to.closeFile(meta);
    case "socket":
      return; // means nothing without its listener
    default:
      return to.mknod(path, stat.type, stat.major, stat.minor, meta);
  }
}

function metaOf({ mode, uid, gid, mtimeNs, xattrs }: TreeStat): FileMeta {
  return { mode, uid, gid, mtimeNs, xattrs: xattrs.filter(({ name }) => !isOverlayXattr(name)) };
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
