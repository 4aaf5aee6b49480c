/** A {@link FileTree} in memory, for tests without root: behaves as the helper's does, for one directory without mounts. @module */
import { EngineError } from "#core/errors.ts";
import type { Bytes, FileMeta, FileTree, OpenedFile, TreePath, TreeStat } from "#linux/file-tree.ts";
import { type ByteString, baseOf, joinPath, parentOf, printable, toByteString } from "../bytes.ts";

interface Inode {
  readonly ino: bigint;
  type: TreeStat["type"];
  mode: number;
  uid: number;
  gid: number;
  mtimeNs: bigint;
  nlink: number;
  major: number;
  minor: number;
  data: Uint8Array[];
  target: Uint8Array | undefined;
  xattrs: Map<string, Bytes>;
  children: Map<ByteString, Inode>;
}

export class MemoryTree implements FileTree {
  #next = 1n;
  readonly root: Inode = this.#inode("dir", { mode: 0o755, uid: 0, gid: 0, mtimeNs: 0n });
  #open: { inode: Inode; path: ByteString } | undefined;
  /** Every operation that changed something, as "op path", for tests of order. */
  readonly log: string[] = [];
  /** Makes one operation fail. */
  failOn: { readonly op: string; readonly path: string; readonly errno: string } | undefined;

  async mkdir(path: TreePath, meta: FileMeta): Promise<void> {
    const at = this.#change("mkdir", path);
    const old = this.#find(at);
    if (old?.type === "dir") this.#setMeta(old, meta);
    else this.#put(at, this.#inode("dir", meta));
  }

  async openFile(path: TreePath, _size: number): Promise<void> {
    const at = this.#change("openFile", path);
    if (this.#open !== undefined) throw failure("openFile", at, "EBUSY");
    const inode = this.#inode("file", { mode: 0, uid: 0, gid: 0, mtimeNs: 0n });
    this.#put(at, inode);
    this.#open = { inode, path: at };
  }

  async writeData(chunk: Bytes): Promise<void> {
    this.#opened().inode.data.push(Uint8Array.from(chunk));
  }

  async skip(bytes: number): Promise<void> {
    this.#opened().inode.data.push(new Uint8Array(bytes));
  }

  async closeFile(meta: FileMeta): Promise<void> {
    this.#setMeta(this.#opened().inode, meta);
    this.#open = undefined;
  }

  async symlink(path: TreePath, target: TreePath, meta: FileMeta): Promise<void> {
    const inode = this.#inode("symlink", { ...meta, mode: 0o777 });
    inode.target = typeof target === "string" ? Buffer.from(target) : Uint8Array.from(target);
    this.#put(this.#change("symlink", path), inode);
  }

  async link(path: TreePath, existing: TreePath): Promise<void> {
    const inode = this.#get("link", bytesOf(existing));
    if (inode.type === "dir") throw failure("link", bytesOf(existing), "EPERM");
    inode.nlink++;
    this.#put(this.#change("link", path), inode);
  }

  async mknod(path: TreePath, type: "char" | "block" | "fifo", major: number, minor: number, meta: FileMeta): Promise<void> {
    this.#put(this.#change("mknod", path), Object.assign(this.#inode(type, meta), { major, minor }));
  }

  async setMeta(path: TreePath, meta: FileMeta): Promise<void> {
    const at = this.#change("setMeta", path);
    this.#setMeta(this.#get("setMeta", at), meta);
  }

  async setXattr(path: TreePath, name: string, value: Bytes): Promise<void> {
    const at = this.#change("setXattr", path);
    this.#get("setXattr", at).xattrs.set(name, Uint8Array.from(value));
  }

  async remove(path: TreePath): Promise<void> {
    const at = this.#change("remove", path);
    this.#find(parentOf(at))?.children.delete(baseOf(at));
  }

  async rename(from: TreePath, to: TreePath): Promise<void> {
    const source = bytesOf(from);
    const inode = this.#get("rename", source);
    this.#find(parentOf(source))?.children.delete(baseOf(source));
    this.#put(this.#change("rename", to), inode);
  }

  async ensureDirectory(path: TreePath, meta: FileMeta): Promise<void> {
    if (this.#find(bytesOf(path)) === undefined) await this.mkdir(path, meta);
  }

  async expect(path: TreePath, directory: boolean): Promise<void> {
    const type = this.#find(bytesOf(path))?.type;
    if (type !== undefined && (type === "dir") !== directory) throw failure("expect", bytesOf(path), directory ? "ENOTDIR" : "EISDIR");
  }

  async setDirectoryMeta(path: TreePath, meta: FileMeta): Promise<void> {
    if (this.#find(bytesOf(path))?.type === "dir") await this.setMeta(path, meta);
  }

  async flush(): Promise<void> {}
  async sync(): Promise<void> {}
  async close(): Promise<void> {}

  async lstat(path: TreePath): Promise<TreeStat | undefined> {
    const at = bytesOf(path);
    const inode = this.#find(at);
    return inode === undefined ? undefined : statOf(at, inode);
  }

  async *walk(path: TreePath): AsyncIterable<TreeStat> {
    const at = bytesOf(path);
    const pending: [ByteString, Inode][] = [[at, this.#get("walk", at)]];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [name, inode] = next;
      yield statOf(name, inode);
      for (const child of [...inode.children.keys()].sort().reverse()) pending.push([joinPath(name, child), inode.children.get(child)!]);
    }
  }

  async readFile(path: TreePath): Promise<OpenedFile> {
    const at = bytesOf(path);
    const inode = this.#get("readFile", at);
    if (inode.type !== "file") throw failure("readFile", at, inode.type === "dir" ? "EISDIR" : "EINVAL");
    const stat = statOf(at, inode);
    const data = async function* () {
      yield* inode.data;
    };
    return { stat, data: data(), close: async () => undefined };
  }

  #inode(type: TreeStat["type"], meta: FileMeta): Inode {
    const inode: Inode = {
      ino: this.#next++,
      type,
      mode: 0,
      uid: 0,
      gid: 0,
      mtimeNs: 0n,
      nlink: 1,
      major: 0,
      minor: 0,
      data: [],
      target: undefined,
      xattrs: new Map(),
      children: new Map(),
    };
    this.#setMeta(inode, meta);
    return inode;
  }

  #setMeta(inode: Inode, meta: FileMeta): void {
    Object.assign(inode, { mode: meta.mode, uid: meta.uid, gid: meta.gid, mtimeNs: meta.mtimeNs });
    for (const { name, value } of meta.xattrs ?? []) inode.xattrs.set(name, Uint8Array.from(value));
  }

  #opened() {
    if (this.#open === undefined) throw failure("writeData", "", "EBADF");
    return this.#open;
  }

  #change(op: string, path: TreePath): ByteString {
    const at = bytesOf(path);
    this.log.push(`${op} ${printable(at)}`);
    if (this.failOn?.op === op && this.failOn.path === at) throw failure(op, at, this.failOn.errno);
    return at;
  }

  #find(path: ByteString): Inode | undefined {
    let inode: Inode | undefined = this.root;
    for (const part of path === "" ? [] : path.split("/")) {
      if (part === ".." || part === "." || part === "") throw failure("lookup", path, "EXDEV");
      inode = inode?.children.get(part);
    }
    return inode;
  }

  #get(op: string, path: ByteString): Inode {
    const inode = this.#find(path);
    if (inode === undefined) throw failure(op, path, "ENOENT");
    return inode;
  }

  #put(path: ByteString, inode: Inode): void {
    const parent = this.#get("create", parentOf(path));
    if (parent.type !== "dir") throw failure("create", path, "ENOTDIR");
    const old = parent.children.get(baseOf(path));
    if (old?.type === "dir" && old.children.size > 0) throw failure("create", path, "ENOTEMPTY");
    parent.children.set(baseOf(path), inode);
    parent.mtimeNs = BigInt(Date.now()) * 1_000_000n;
  }
}

function bytesOf(path: TreePath): ByteString {
  return toByteString(typeof path === "string" ? Buffer.from(path) : path);
}

function statOf(path: ByteString, inode: Inode): TreeStat {
  const size = inode.type === "symlink" ? inode.target!.length : inode.data.reduce((sum, chunk) => sum + chunk.length, 0);
  return {
    path: Buffer.from(path, "latin1"),
    type: inode.type,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    size,
    mtimeNs: inode.mtimeNs,
    ctimeNs: inode.mtimeNs,
    ino: inode.ino,
    dev: 1n,
    nlink: inode.nlink,
    major: inode.major,
    minor: inode.minor,
    blocks: Math.ceil(size / 512),
    ...(inode.target === undefined ? {} : { target: inode.target }),
    xattrs: Array.from(inode.xattrs, ([name, value]) => ({ name, value })),
  };
}

function failure(op: string, path: ByteString, errno: string): EngineError {
  return new EngineError("kernel", `${op} ${printable(path)}: ${errno}`, { details: { op, path: printable(path), errno } });
}
