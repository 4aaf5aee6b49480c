/** What an image's files are, layer by layer, and how two images differ. @module */
import type { Digest, DiffID, ImageID } from "#core/digest.ts";
import { type ByteString, baseOf, parentOf, printable } from "#unionfs/bytes.ts";
import { cleanPath, parseLayerName } from "#unionfs/layer-names.ts";
import type { LayerStore } from "#unionfs/mod.ts";
import type { TarEntry } from "#unionfs/tar/entry.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import type { Image } from "./mod.ts";

export interface ComparedLayer {
  readonly diffId: DiffID;
  /** Bytes, as Docker counts. */
  readonly size: number;
  /** Bytes of it that layers above replace or take away. */
  readonly wasted: number;
}

export interface ComparedFile {
  /** "modify" also where only owner, mode, time or an extended attribute differ. */
  readonly kind: "add" | "modify" | "delete";
  readonly path: string;
  /** Bytes in the first and in the second image; undefined where it is not there. */
  readonly sizes: readonly [number | undefined, number | undefined];
}

/** Two images side by side. */
export interface ImageComparison {
  readonly ids: readonly [ImageID, ImageID];
  /** Layers at the bottom that both have. */
  readonly shared: number;
  readonly layers: readonly [readonly ComparedLayer[], readonly ComparedLayer[]];
  /** Sorted by path. */
  readonly files: readonly ComparedFile[];
}

/** Something in a tree; directories have children. */
interface Node {
  entry: TarEntry | undefined;
  /** The layer that it came with. */
  layer: number;
  /** Hard links count nothing. */
  bytes: number;
  children: Map<ByteString, Node> | undefined;
}

interface ImageTree {
  readonly root: Node;
  /** By layer. */
  readonly wasted: number[];
}

/** Reads every layer of both images: seconds for a large one. */
export async function compareImages(layers: LayerStore, a: Image, b: Image): Promise<ImageComparison> {
  const [left, right] = [await treeOf(layers, a), await treeOf(layers, b)];
  let shared = 0;
  while (shared < Math.min(a.chainIds.length, b.chainIds.length) && a.chainIds[shared] === b.chainIds[shared]) shared++;
  const files: ComparedFile[] = [];
  compare(left.root, right.root, "", files);
  return { ids: [a.id, b.id], shared, layers: [layersOf(a, left), layersOf(b, right)], files };
}

function layersOf(image: Image, { wasted }: ImageTree): ComparedLayer[] {
  return image.diffIds.map((diffId, i) => ({ diffId, size: image.layerSizes[i] ?? 0, wasted: wasted[i] ?? 0 }));
}

async function treeOf(layers: LayerStore, { chainIds }: Image): Promise<ImageTree> {
  const tree: ImageTree = { root: { entry: undefined, layer: 0, bytes: 0, children: new Map() }, wasted: chainIds.map(() => 0) };
  for (const [layer, chain] of chainIds.entries()) {
    const reader = new TarReader(await layers.tar(chain));
    try {
      for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) add(tree, entry, layer);
    } finally {
      await reader.close();
    }
  }
  return tree;
}

/** Whiteouts speak of the layers below, whether they come before or after what their own layer has there. */
function add(tree: ImageTree, entry: TarEntry, layer: number): void {
  const name = parseLayerName(entry.name);
  if (name.kind === "ignored") return;
  if (name.kind === "opaque") {
    const directory = find(tree.root, name.path);
    for (const child of directory?.children?.keys() ?? []) drop(tree, directory!, child, layer);
    return;
  }
  if (name.kind === "whiteout") {
    const directory = find(tree.root, parentOf(name.path));
    if (directory !== undefined) drop(tree, directory, baseOf(name.path), layer);
    return;
  }
  if (name.path === "") return;
  const parent = directoryAt(tree, parentOf(name.path), layer);
  const base = baseOf(name.path);
  const old = parent.children?.get(base);
  if (entry.type === "dir" && old?.children !== undefined) {
    Object.assign(old, { entry, layer });
    return;
  }
  if (old !== undefined) drop(tree, parent, base, layer + 1);
  const target = entry.type === "link" ? find(tree.root, cleanPath(entry.linkname, entry.name)) : undefined;
  parent.children?.set(base, {
    entry: target?.entry ?? entry,
    layer,
    bytes: entry.type === "file" ? entry.size : entry.type === "symlink" ? entry.linkname.length : 0,
    children: entry.type === "dir" ? new Map() : undefined,
  });
}

function find(root: Node, path: ByteString): Node | undefined {
  let node: Node | undefined = root;
  for (const part of path === "" ? [] : path.split("/")) node = node?.children?.get(part);
  return node;
}

function directoryAt(tree: ImageTree, path: ByteString, layer: number): Node {
  let node = tree.root;
  for (const part of path === "" ? [] : path.split("/")) {
    let next = node.children?.get(part);
    if (next?.children === undefined) {
      if (next !== undefined) drop(tree, node, part, layer + 1);
      next = { entry: undefined, layer, bytes: 0, children: new Map() };
      node.children?.set(part, next);
    }
    node = next;
  }
  return node;
}

/** Takes away what layers below `layer` have at a name; what is of `layer` itself stays. */
function drop(tree: ImageTree, directory: Node, name: ByteString, layer: number): void {
  const node = directory.children?.get(name);
  if (node === undefined) return;
  for (const child of [...(node.children?.keys() ?? [])]) drop(tree, node, child, layer);
  if (node.layer >= layer || (node.children?.size ?? 0) > 0) return;
  tree.wasted[node.layer] = (tree.wasted[node.layer] ?? 0) + node.bytes;
  directory.children?.delete(name);
}

function compare(a: Node | undefined, b: Node | undefined, path: string, into: ComparedFile[]): void {
  const names = [...new Set([...(a?.children?.keys() ?? []), ...(b?.children?.keys() ?? [])])].sort();
  for (const name of names) {
    const [left, right] = [a?.children?.get(name), b?.children?.get(name)];
    const at = `${path}/${printable(name)}`;
    const sizes = [left?.bytes, right?.bytes] as const;
    if (left === undefined) into.push({ kind: "add", path: at, sizes });
    else if (right === undefined) into.push({ kind: "delete", path: at, sizes });
    else if (signature(left) !== signature(right)) into.push({ kind: "modify", path: at, sizes });
    compare(left, right, at, into);
  }
}

/** All that an archive says of a file but its content: that is another one when the time is. */
function signature({ entry }: Node): string {
  if (entry === undefined) return "";
  const { type, mode, uid, gid, size, mtimeNs, linkname, major, minor, xattrs } = entry;
  const attributes = xattrs.map(({ name, value }) => `${name}=${Buffer.from(value).toString("base64")}`).sort();
  return [type, mode, uid, gid, size, mtimeNs, linkname, major, minor, ...attributes].join("\n");
}

/** An image's place among the others: its layers, bottom first. */
export interface ImageBranch {
  readonly id: ImageID;
  readonly names: readonly string[];
  readonly layers: readonly { readonly chainId: Digest; readonly size: number }[];
}

export function branchOf(image: Image): ImageBranch {
  return { id: image.id, names: image.repoTags, layers: image.chainIds.map((chainId, i) => ({ chainId, size: image.layerSizes[i] ?? 0 })) };
}
