/**
 * Bytes of the file worker's stream: operation numbers (native/tree.h), metadata, and entries.
 * @module
 */
import type { Bytes, FileMeta, TreePath, TreeStat } from "./file-tree.ts";
import type { Writer } from "./wire.ts";

/** The same numbers as native/tree.h (a test compares them). */
export const T = {
  MKDIR: 1,
  OPEN: 2,
  DATA: 3,
  SKIP: 4,
  CLOSE: 5,
  SYMLINK: 6,
  LINK: 7,
  MKNOD: 8,
  META: 9,
  XATTR: 10,
  REMOVE: 11,
  RENAME: 12,
  ENSURE: 13,
  EXPECT: 14,
  DIRMETA: 15,
  FILE: 16,
  FLUSH: 20,
  SYNC: 21,
  LSTAT: 22,
  WALK: 23,
  WALK_NEXT: 24,
  WALK_END: 25,
  READ: 26,
  READ_NEXT: 27,
  READ_END: 28,
  LIST: 29,
  OK: 64,
  ERROR: 65,
  DATA_OUT: 66,
  MISSING: 67,
} as const;

/** What each operation is called in a message. */
export const treeVerbs: Readonly<Record<number, string>> = {
  [T.MKDIR]: "make the directory",
  [T.OPEN]: "create",
  [T.DATA]: "write",
  [T.SKIP]: "write",
  [T.CLOSE]: "set owner, mode, xattrs or time of",
  [T.SYMLINK]: "make the symbolic link",
  [T.LINK]: "make the hard link",
  [T.MKNOD]: "make the node",
  [T.META]: "set owner, mode, xattrs or time of",
  [T.XATTR]: "set an extended attribute of",
  [T.REMOVE]: "remove",
  [T.RENAME]: "rename",
  [T.ENSURE]: "make the directory",
  [T.EXPECT]: "replace",
  [T.DIRMETA]: "set owner, mode, xattrs or time of",
  [T.FILE]: "create",
  [T.SYNC]: "write to disk",
  [T.LSTAT]: "look at",
  [T.WALK]: "walk",
  [T.WALK_NEXT]: "walk",
  [T.LIST]: "list",
  [T.READ]: "read",
  [T.READ_NEXT]: "read",
};

/** Short names, for `details.op`. */
export const treeOps: Readonly<Record<number, string>> = Object.fromEntries(Object.entries(T).map(([name, code]) => [code, name.toLowerCase()]));

export function writeMeta(w: Writer, { mode, uid, gid, mtimeNs, xattrs = [] }: FileMeta): void {
  w.u32(mode & 0o7777);
  w.u32(uid);
  w.u32(gid);
  w.i64(mtimeNs);
  w.u32(xattrs.length);
  for (const { name, value } of xattrs) {
    w.str(name);
    w.bytes(value);
  }
}

/** A path in UTF-8, for messages. */
export function printablePath(path: TreePath): string {
  return typeof path === "string" ? path : Buffer.from(path).toString("utf8");
}

const types = ["file", "dir", "symlink", "char", "block", "fifo", "socket"] as const;

/** Reads entries one after the other. */
export class EntryReader {
  readonly #data: Buffer;
  #at: number;

  constructor(data: Buffer, at: number) {
    this.#data = data;
    this.#at = at;
  }

  /** Where the next entry begins. */
  get at(): number {
    return this.#at;
  }

  get done(): boolean {
    return this.#at >= this.#data.length;
  }

  #u32(): number {
    this.#at += 4;
    return this.#data.readUInt32LE(this.#at - 4);
  }
  #u64(): bigint {
    this.#at += 8;
    return this.#data.readBigUInt64LE(this.#at - 8);
  }
  #i64(): bigint {
    this.#at += 8;
    return this.#data.readBigInt64LE(this.#at - 8);
  }
  #bytes(): Bytes {
    const length = this.#u32();
    this.#at += length;
    return this.#data.subarray(this.#at - length, this.#at);
  }

  next(): TreeStat {
    const type = types[(this.#data[this.#at++] ?? 1) - 1] ?? "file";
    const mode = this.#u32();
    const uid = this.#u32();
    const gid = this.#u32();
    const size = Number(this.#u64());
    const mtimeNs = this.#i64();
    const ctimeNs = this.#i64();
    const ino = this.#u64();
    const dev = this.#u64();
    const nlink = this.#u32();
    const major = this.#u32();
    const minor = this.#u32();
    const blocks = Number(this.#u64());
    const path = this.#bytes();
    const target = this.#bytes();
    const xattrs = this.#xattrs();
    const fields = { type, mode, uid, gid, size, mtimeNs, ctimeNs, ino, dev, nlink, major, minor, blocks, path, xattrs };
    return type === "symlink" ? { ...fields, target } : fields;
  }

  #xattrs(): TreeStat["xattrs"] {
    const xattrs: { readonly name: string; readonly value: Bytes }[] = [];
    for (let missing = this.#u32(); missing > 0; missing--) xattrs.push({ name: Buffer.from(this.#bytes()).toString("utf8"), value: this.#bytes() });
    return xattrs;
  }
}

/** Where an entry's fields lie: all before its path have one length. */
const field = { mode: 1, uid: 5, gid: 9, size: 13, mtime: 21, ctime: 29, dev: 45, nlink: 53, major: 57, minor: 61, path: 73 } as const;

/**
 * Entries as the worker tells them, without an object for each: `at` is where one begins. Whoever has thousands of files to compare looks at two or three fields of each.
 */
export class PackedEntries {
  readonly data: Buffer;
  /** Of the first. */
  readonly start: number;

  /** `data`: a batch of {@link WorkerTree.list}. */
  constructor(data: Buffer, start: number) {
    this.data = data;
    this.start = start;
  }

  /** Where the next one begins; at the end: the length of the data. */
  after(at: number): number {
    let next = at + field.path;
    next += 4 + this.data.readUInt32LE(next);
    next += 4 + this.data.readUInt32LE(next);
    // In brief: without xattrs.
    return next + 4;
  }

  type(at: number): TreeStat["type"] {
    return types[(this.data[at] ?? 1) - 1] ?? "file";
  }

  /** latin1: a byte is a character. */
  path(at: number): string {
    const from = at + field.path + 4;
    return this.data.toString("latin1", from, from + this.data.readUInt32LE(from - 4));
  }

  target(at: number): string {
    const from = at + field.path + 8 + this.data.readUInt32LE(at + field.path);
    return this.data.toString("latin1", from, from + this.data.readUInt32LE(from - 4));
  }

  size(at: number): number {
    return this.#number(at + field.size);
  }

  mtimeNs(at: number): bigint {
    return this.data.readBigInt64LE(at + field.mtime);
  }

  /** ms since 1970, rounded. */
  ctimeMs(at: number): number {
    return this.#number(at + field.ctime) / 1e6;
  }

  /** Size, times and place of a file, which are others when it has been written to: as bytes. */
  version(at: number): Buffer {
    return this.data.subarray(at + field.size, at + field.nlink);
  }

  /** Device and inode, as text. */
  inode(at: number): string {
    return this.data.toString("latin1", at + field.dev - 8, at + field.nlink);
  }

  number(at: number, name: "mode" | "uid" | "gid" | "nlink" | "major" | "minor"): number {
    return this.data.readUInt32LE(at + field[name]);
  }

  #number(at: number): number {
    return this.data.readUInt32LE(at) + this.data.readInt32LE(at + 4) * 2 ** 32;
  }
}
