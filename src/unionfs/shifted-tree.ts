import { EngineError } from "#core/errors.ts";
import { type IdMappings, shownInside, toContainer, toHost } from "#core/id-mappings.ts";
import type { FileMeta, TreeStat, WorkerTree } from "#linux/file-tree.ts";

type Xattr = TreeStat["xattrs"][number];

/**
 * A tree whose files have the ids of a user namespace, told and changed in the numbers of that namespace: owners, access lists, and whose root file capabilities are for.
 * What the namespace does not know is shown as nobody's, and cannot be given (EngineError "invalid").
 */
export function shiftedTree(tree: WorkerTree, maps: IdMappings): WorkerTree {
  const out = <T extends FileMeta>(meta: T): T => toDisk(meta, maps);
  const seen = (stat: TreeStat): TreeStat => fromDisk(stat, maps);
  return {
    mkdir: async (path, meta) => tree.mkdir(path, out(meta)),
    openFile: (path, size) => tree.openFile(path, size),
    writeData: (chunk) => tree.writeData(chunk),
    skip: (bytes) => tree.skip(bytes),
    closeFile: async (meta) => tree.closeFile(out(meta)),
    symlink: async (path, target, meta) => tree.symlink(path, target, out(meta)),
    link: (path, existing) => tree.link(path, existing),
    mknod: async (path, type, major, minor, meta) => tree.mknod(path, type, major, minor, out(meta)),
    setMeta: async (path, meta) => tree.setMeta(path, out(meta)),
    setXattr: async (path, name, value) => tree.setXattr(path, name, xattrToDisk({ name, value }, maps).value),
    remove: (path) => tree.remove(path),
    rename: (from, to) => tree.rename(from, to),
    ensureDirectory: async (path, meta) => tree.ensureDirectory(path, out(meta)),
    expect: (path, directory) => tree.expect(path, directory),
    setDirectoryMeta: async (path, meta) => tree.setDirectoryMeta(path, out(meta)),
    flush: () => tree.flush(),
    sync: () => tree.sync(),
    lstat: async (path) => {
      const stat = await tree.lstat(path);
      return stat === undefined ? undefined : seen(stat);
    },
    walk: async function* (path) {
      for await (const stat of tree.walk(path)) yield seen(stat);
    },
    readFile: async (path) => {
      const file = await tree.readFile(path);
      return { stat: seen(file.stat), data: file.data, close: () => file.close() };
    },
    directory: () => tree.directory(),
    close: () => tree.close(),
  };
}

/** Gives everything in a tree, which has the numbers of the namespace now, the ids of the host that they mean. */
export async function shiftOwners(tree: WorkerTree, maps: IdMappings): Promise<void> {
  const inodes = new Set<bigint>();
  for await (const stat of tree.walk("")) {
    if (stat.nlink > 1 && stat.type !== "dir" && inodes.size === inodes.add(stat.ino).size) continue;
    const { mode, uid, gid, mtimeNs, xattrs } = stat;
    await tree.setMeta(stat.path, toDisk({ mode, uid, gid, mtimeNs, xattrs }, maps));
  }
  await tree.flush();
}

function hostId(maps: IdMappings, what: "uid" | "gid", id: number): number {
  const found = toHost(what === "uid" ? maps.uids : maps.gids, id);
  if (found === undefined) throw new EngineError("invalid", `${what} ${id} is not in the container's user namespace`);
  return found;
}

function toDisk<T extends FileMeta>(meta: T, maps: IdMappings): T {
  const { xattrs } = meta;
  return {
    ...meta,
    uid: hostId(maps, "uid", meta.uid),
    gid: hostId(maps, "gid", meta.gid),
    ...(xattrs === undefined ? {} : { xattrs: xattrs.map((xattr) => xattrToDisk(xattr, maps)) }),
  };
}

function fromDisk(stat: TreeStat, maps: IdMappings): TreeStat {
  const uid = shownInside(maps.uids, stat.uid);
  const gid = shownInside(maps.gids, stat.gid);
  if (stat.xattrs.length === 0) return { ...stat, uid, gid };
  const access = { user: (id: number) => shownInside(maps.uids, id), group: (id: number) => shownInside(maps.gids, id) };
  const shown = (xattr: Xattr): Xattr => {
    if (xattr.name === CAPABILITY) return { ...xattr, value: withRoot(xattr.value, toContainer(maps.uids, rootOf(xattr.value)) ?? rootOf(xattr.value)) };
    return isAccessList(xattr.name) ? { ...xattr, value: mapAccessList(xattr.value, access) } : xattr;
  };
  return { ...stat, uid, gid, xattrs: stat.xattrs.map(shown) };
}

function xattrToDisk(xattr: Xattr, maps: IdMappings): Xattr {
  if (xattr.name === CAPABILITY) return { ...xattr, value: withRoot(xattr.value, hostId(maps, "uid", rootOf(xattr.value))) };
  if (!isAccessList(xattr.name)) return xattr;
  return { ...xattr, value: mapAccessList(xattr.value, { user: (id) => hostId(maps, "uid", id), group: (id) => hostId(maps, "gid", id) }) };
}

/** struct vfs_ns_cap_data: the third revision has, behind what the second has, the root that the capabilities are for. @see capabilities(7) */
const CAPABILITY = "security.capability";
const REVISION = { mask: 0xff000000, second: 0x02000000, third: 0x03000000 } as const;
const SECOND_BYTES = 20;

function rootOf(value: Uint8Array): number {
  return value.byteLength < SECOND_BYTES + 4 ? 0 : Buffer.from(value).readUInt32LE(SECOND_BYTES);
}

function withRoot(value: Uint8Array, root: number): Uint8Array {
  if (value.byteLength < SECOND_BYTES) return value;
  const bytes = Buffer.alloc(root === 0 ? SECOND_BYTES : SECOND_BYTES + 4);
  bytes.set(value.subarray(0, SECOND_BYTES));
  const flags = (bytes.readUInt32LE(0) & ~REVISION.mask) >>> 0;
  bytes.writeUInt32LE((flags | (root === 0 ? REVISION.second : REVISION.third)) >>> 0, 0);
  if (root !== 0) bytes.writeUInt32LE(root, SECOND_BYTES);
  return bytes;
}

function isAccessList(name: string): boolean {
  return name === "system.posix_acl_access" || name === "system.posix_acl_default";
}

/** A version and entries of a tag, permissions and an id. @see acl(5), include/uapi/linux/posix_acl_xattr.h */
const ACL = { head: 4, entry: 8, user: 0x02, group: 0x08 } as const;

function mapAccessList(value: Uint8Array, map: { readonly user: (id: number) => number; readonly group: (id: number) => number }): Uint8Array {
  const bytes = Buffer.from(value);
  for (let at = ACL.head; at + ACL.entry <= bytes.length; at += ACL.entry) {
    const tag = bytes.readUInt16LE(at);
    if (tag === ACL.user || tag === ACL.group) bytes.writeUInt32LE((tag === ACL.user ? map.user : map.group)(bytes.readUInt32LE(at + 4)), at + 4);
  }
  return bytes;
}
