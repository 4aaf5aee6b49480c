/**
 * Bulk file work below one root directory: Node lacks xattrs, mknod, nanosecond times, openat2 and lchown of hostile paths. TypeScript
 * decides each operation; a forked helper child, chrooted into the root, performs the stream. Paths are relative to the root ("" = the root), as raw bytes
 * (latin1-safe Buffers or strings in UTF-8); no component is followed through a symlink outside the root.
 * Operations are pipelined: each method resolves when it was *accepted* (back-pressure), errors surface at the next call or at {@link FileTree.flush}.
 * @module
 */
import type { PackedEntries } from "./tree-wire.ts";

export type Bytes = Uint8Array;
export type TreePath = string | Bytes;

/** lstat with what tar needs. Times in nanoseconds. */
export interface TreeStat {
  readonly path: Bytes;
  readonly type: "file" | "dir" | "symlink" | "char" | "block" | "fifo" | "socket";
  /** Permission bits incl. setuid, setgid, sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly ino: bigint;
  readonly dev: bigint;
  readonly nlink: number;
  readonly major: number;
  readonly minor: number;
  /** Allocated 512-byte blocks. */
  readonly blocks: number;
  /** Symlink target. */
  readonly target?: Bytes;
  /** All xattrs, including trusted.* and security.*. */
  readonly xattrs: readonly { readonly name: string; readonly value: Bytes }[];
}

export interface FileMeta {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  readonly xattrs?: readonly { readonly name: string; readonly value: Bytes }[];
}

/** A file that is being read: what it is and what it holds are of the same one, whatever its path leads to meanwhile. */
export interface OpenedFile {
  readonly stat: TreeStat;
  /** To its end, which may be before or after `stat.size` when somebody writes to it. */
  readonly data: AsyncIterable<Bytes> | Iterable<Bytes>;
  /** Gives the file up; needless once `data` has been read to its end. */
  close(): Promise<void>;
}

/** Bytes that {@link FileTree.wholeFile} takes. */
export const wholeFileBytes: number = 256 * 1024;

export interface FileTree {
  /** mkdir, or set the metadata of an existing directory; replaces a non-directory. */
  mkdir(path: TreePath, meta: FileMeta): Promise<void>;
  /** A whole new file, of {@link wholeFileBytes} at most, where nothing has to be waited for. False: nothing was done; {@link openFile} does it, or says what is wrong. */
  wholeFile?(path: TreePath, data: Bytes, meta: FileMeta): boolean;
  /** Creates (replacing whatever non-directory tree was there) and opens a file for {@link writeData}. Hard size up front allows preallocation; 0 if unknown. */
  openFile(path: TreePath, size: number): Promise<void>;
  /** Appends to the open file. */
  writeData(chunk: Bytes): Promise<void>;
  /** Makes a hole in the open file. */
  skip(bytes: number): Promise<void>;
  /** Sets metadata (after the data, so that chown does not drop setuid or capabilities) and closes. */
  closeFile(meta: FileMeta): Promise<void>;
  symlink(path: TreePath, target: TreePath, meta: FileMeta): Promise<void>;
  /** Hard link to an existing entry; the last component of `existing` is not followed. */
  link(path: TreePath, existing: TreePath): Promise<void>;
  mknod(path: TreePath, type: "char" | "block" | "fifo", major: number, minor: number, meta: FileMeta): Promise<void>;
  setMeta(path: TreePath, meta: FileMeta): Promise<void>;
  setXattr(path: TreePath, name: string, value: Bytes): Promise<void>;
  /** Removes a file or a whole tree; missing is no error. */
  remove(path: TreePath): Promise<void>;
  rename(from: TreePath, to: TreePath): Promise<void>;
  /** Makes a directory where nothing is; what is there stays as it is. */
  ensureDirectory(path: TreePath, meta: FileMeta): Promise<void>;
  /** Fails (`details.op` "expect") with EISDIR when a directory is where `directory` is false, with ENOTDIR when something else is where it is true. */
  expect(path: TreePath, directory: boolean): Promise<void>;
  /** {@link setMeta} of a directory; what is none (any more) is left alone. */
  setDirectoryMeta(path: TreePath, meta: FileMeta): Promise<void>;
  /** Resolves when all operations so far have been performed; rejects with EngineError naming the first that failed ({op, path, errno}). */
  flush(): Promise<void>;
  /** syncfs of the root's filesystem, after a flush. */
  sync(): Promise<void>;
  lstat(path: TreePath): Promise<TreeStat | undefined>;
  /** Pre-order, siblings in byte order; back-pressured. Does not cross mounts. */
  walk(path: TreePath): AsyncIterable<TreeStat>;
  /** Opens a regular file; what is none (any more) is an error (EINVAL, EISDIR, ENOENT). Some 60 may be open at once; many small ones asked for together come together. */
  readFile(path: TreePath): Promise<OpenedFile>;
  close(): Promise<void>;
}

/** Where a worker waits for its one client; it can be told to another thread. */
export interface TreeAddress {
  readonly socketPath: string;
  /** The tree's name in messages. */
  readonly root: string;
  readonly pid: number;
}

/** Real files, by a worker process. */
export interface WorkerTree extends FileTree {
  /** A path that leads into the tree from this process, until the tree is closed: also into one that is mounted nowhere. @see proc_pid_root(5) */
  directory(): Promise<string>;
}

/** A tree as the worker itself tells it. */
export interface ListedTree extends WorkerTree {
  /** What is in a directory in byte order, in brief: without xattrs and blocks. Nothing of what is no directory (any more). Some 60 may be asked for at once. */
  list(path: TreePath): Promise<readonly PackedEntries[]>;
}
