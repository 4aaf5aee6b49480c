import { constants, copyFile } from "node:fs/promises";
import type { FileMeta, FileTree, TreeStat } from "#linux/file-tree.ts";
import { type ByteString, toByteString, toBytes } from "./bytes.ts";
import { withPathBelow } from "./open-below.ts";
import { isOverlayXattr } from "./overlay-format.ts";
import { walkUnion } from "./union-walk.ts";
import { isZero } from "./zeros.ts";

/** A tree that is open, and the directory it is rooted at. */
export interface OpenTree {
  readonly tree: FileTree;
  readonly directory: string;
}

/**
 * Copies everything below one directory into another, empty one: hard links among the files, devices, owners, xattrs and times of nanoseconds too. Data is shared with the
 * original where the filesystem can (reflinks).
 */
export async function copyTree(from: OpenTree, to: OpenTree): Promise<void> {
  const names = new Map<bigint, ByteString>();
  const directories: [Uint8Array, FileMeta][] = [];
  for await (const stat of from.tree.walk("")) {
    if (stat.type === "socket") continue; // means nothing without its listener
    const path = toByteString(stat.path);
    const meta: FileMeta = { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtimeNs: stat.mtimeNs, xattrs: stat.xattrs };
    const first = stat.nlink > 1 && stat.type !== "dir" ? names.get(stat.ino) : undefined;
    if (stat.type === "dir") {
      if (path !== "") await to.tree.mkdir(stat.path, meta);
      directories.push([stat.path, meta]);
    } else if (first !== undefined) {
      await to.tree.link(stat.path, toBytes(first));
    } else {
      if (stat.nlink > 1) names.set(stat.ino, path);
      if (stat.type === "symlink") await to.tree.symlink(stat.path, stat.target ?? new Uint8Array(), meta);
      else if (stat.type === "file") await copyOne(from, to, stat, meta);
      else await to.tree.mknod(stat.path, stat.type, stat.major, stat.minor, meta);
    }
  }
  for (const [path, meta] of directories.reverse()) await to.tree.setMeta(path, meta);
  await to.tree.flush();
}

/** Fills the directory `to` with what is below `from` in the same tree: its own directories, and further names of the same files. */
export async function linkTree(tree: FileTree, from: string, to: string): Promise<void> {
  const directories: [Uint8Array, FileMeta][] = [];
  for await (const stat of tree.walk(from)) {
    const target = Buffer.concat([Buffer.from(to), Buffer.from(stat.path).subarray(Buffer.byteLength(from))]);
    if (stat.type !== "dir") {
      await tree.link(target, stat.path);
      continue;
    }
    const meta: FileMeta = { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtimeNs: stat.mtimeNs, xattrs: stat.xattrs };
    await tree.mkdir(target, meta);
    directories.push([target, meta]);
  }
  for (const [path, meta] of directories.reverse()) await tree.setMeta(path, meta);
  await tree.flush();
}

async function copyOne(from: OpenTree, to: OpenTree, stat: TreeStat, meta: FileMeta): Promise<void> {
  const sparse = stat.blocks * 512 < stat.size;
  if (stat.size > 0 && !sparse) {
    // The directory must be there before Node writes to it.
    await to.tree.flush();
    const path = Buffer.from(stat.path);
    await withPathBelow(from.directory, path, (source) =>
      withPathBelow(to.directory, path, (target) => copyFile(source, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)),
    );
    await to.tree.setMeta(stat.path, meta);
    return;
  }
  await copyContent({ from: from.tree, to: to.tree, sparse }, stat, meta);
}

/** `sparse`: zeros become holes. */
async function copyContent(
  { from, to, sparse }: { readonly from: FileTree; readonly to: FileTree; readonly sparse: boolean },
  stat: TreeStat,
  meta: FileMeta,
): Promise<void> {
  await to.openFile(stat.path, sparse ? 0 : stat.size);
  if (stat.size > 0) {
    for await (const chunk of (await from.readFile(stat.path)).data) {
      if (sparse && isZero(chunk)) await to.skip(chunk.byteLength);
      else await to.writeData(chunk);
    }
  }
  await to.closeFile(meta);
}

/**
 * Copies what some directories are as one (see {@link walkUnion}) into an empty one. Sockets, which mean nothing without their listeners, are left out.
 * @param root what the directory itself is to look like; default: as the top-most that there is
 */
export async function copyUnion(layers: readonly FileTree[], to: FileTree, root?: TreeStat): Promise<void> {
  const links = new Map<string, Uint8Array>();
  const top = root ?? (await layers[0]?.lstat(""));
  const directories: [Uint8Array, FileMeta][] = top === undefined ? [] : [[new Uint8Array(), metaOf(top)]];
  for await (const { stat, layer } of walkUnion(layers)) {
    if (stat.type === "socket") continue;
    const { path } = stat;
    const meta = metaOf(stat);
    const inode = stat.nlink > 1 && stat.type !== "dir" ? `${layer}:${stat.ino}` : undefined;
    const first = inode === undefined ? undefined : links.get(inode);
    if (first !== undefined) {
      await to.link(path, first);
      continue;
    }
    if (inode !== undefined) links.set(inode, path);
    if (stat.type === "dir") {
      await to.mkdir(path, meta);
      directories.push([path, meta]);
    } else if (stat.type === "symlink") await to.symlink(path, stat.target ?? new Uint8Array(), meta);
    else if (stat.type === "file")
      await copyContent({ from: layers[layer]!, to, sparse: true }, stat, meta); // erofs counts holes as blocks
    else await to.mknod(path, stat.type, stat.major, stat.minor, meta);
  }
  // Last, children first: making an entry changes its directory's time.
  for (const [path, meta] of directories.reverse()) await to.setMeta(path, meta);
  await to.flush();
}

function metaOf({ mode, uid, gid, mtimeNs, xattrs }: TreeStat): FileMeta {
  return { mode, uid, gid, mtimeNs, xattrs: xattrs.filter(({ name }) => !isOverlayXattr(name)) };
}
