/**
 * {@link FileTree} over a file worker's socket (native/tree.c). Operations are collected and sent in large pieces; answers come in order.
 * @module
 */
import { connect, type Socket } from "node:net";
import { EngineError } from "#core/errors.ts";
import { giveBack, takePiece } from "#core/pieces.ts";
import { errnoMessage, errnoName } from "./errno.ts";
import { type Bytes, type FileMeta, type ListedTree, type OpenedFile, type TreeAddress, type TreePath, type TreeStat, wholeFileBytes } from "./file-tree.ts";
import { EntryReader, PackedEntries, printablePath, T, treeOps, treeVerbs, writeMeta } from "./tree-wire.ts";
import { FrameParser, Writer } from "./wire.ts";

/** Send what has been collected when it is this long, or at the end of the event loop's turn. */
const BATCH_BYTES = 128 << 10;
const DATA_BYTES = 256 << 10;
const COPY_BYTES = 32 << 10;
const MAX_OPEN = 64;
/** Batches of a walk or read that are under way while the caller works on one. */
const AHEAD = 3;

/** Connects to a worker that listens for us. */
export function connectTree({ socketPath, root, pid }: TreeAddress): Promise<ListedTree> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath });
    socket.once("error", (cause) => reject(new EngineError("internal", `the file worker cannot be reached: ${cause.message}`, { cause })));
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(new TreeClient(socket, root, pid));
    });
  });
}

interface Answer {
  readonly type: number;
  readonly data: Buffer;
}
/** A walk or read that the worker knows by its number, unless its first batch is its last. */
interface Begun {
  readonly number: number;
  readonly first: Buffer;
  readonly last: boolean;
}
interface Batches {
  /** Once only. */
  all(): AsyncGenerator<Buffer, void, undefined>;
  end(): Promise<void>;
}
interface Waiting {
  readonly together: boolean;
  resolve(answer: Answer): void;
  reject(error: EngineError): void;
}

class TreeClient implements ListedTree {
  readonly #socket: Socket;
  readonly #root: string;
  readonly #pid: number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #numbers = new Set<number>();
  /** The first grows: most trees are asked a few things. Those after it are pieces: a layer is thousands of them. */
  #batch = new Writer(8192);
  #sending: NodeJS.Immediate | undefined;
  #nextId = 1;
  /** The first change that failed since the last flush. */
  #failure: EngineError | undefined;
  #lost: EngineError | undefined;
  #closing = false;
  readonly #closed: Promise<void>;

  constructor(socket: Socket, root: string, pid: number) {
    this.#socket = socket;
    this.#root = root;
    this.#pid = pid;
    const parser = new FrameParser((type, id, payload) => this.#answer(type, id, payload));
    socket.on("data", (chunk) => {
      try {
        parser.push(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    let cause: Error | undefined;
    socket.on("error", (error) => {
      cause = error;
    });
    this.#closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#lost = new EngineError(
          "internal",
          this.#closing ? "the file tree is closed" : `the file worker of ${root} ended`,
          cause === undefined ? {} : { cause },
        );
        for (const waiting of this.#waiting.values()) waiting.reject(this.#lost);
        this.#waiting.clear();
        resolve();
      });
    });
  }

  // --- sending

  /** Appends one operation. */
  #put(op: number, fill: (w: Writer) => void, path: TreePath = ""): number {
    if (this.#lost !== undefined) throw this.#lost;
    if (this.#closing) throw new EngineError("internal", "the file tree is closed");
    const w = this.#batch;
    const start = w.length;
    const id = this.#nextId;
    this.#nextId = (this.#nextId % 0xfffffff0) + 1;
    w.u32(0);
    w.u8(op);
    w.u32(id);
    try {
      fill(w);
    } catch (cause) {
      w.truncate(start);
      throw new EngineError("invalid", `cannot ${treeVerbs[op] ?? "handle"} ${JSON.stringify(printablePath(path))}: ${(cause as Error).message}`, { cause });
    }
    w.patch(start, w.length - start - 4);
    if (w.length >= BATCH_BYTES) this.#send();
    else this.#sending ??= setImmediate(() => this.#send());
    return id;
  }

  #send(): void {
    clearImmediate(this.#sending);
    this.#sending = undefined;
    if (this.#batch.length === 0 || this.#lost !== undefined) return;
    const sent = this.#batch.done();
    this.#socket.write(sent, () => giveBack(sent));
    this.#batch = new Writer(takePiece());
  }

  /** A change: accepted when there is room to send it. */
  async #change(op: number, path: TreePath, fill: (w: Writer) => void): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#put(op, fill, path);
    if (this.#socket.writableNeedDrain) await this.#drained();
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#socket.off("drain", done);
        this.#socket.off("close", done);
        resolve();
      };
      this.#socket.on("drain", done);
      this.#socket.on("close", done);
    });
  }

  /** `together`: it need not be sent before the end of the event loop's turn, with others. */
  #ask(op: number, path: TreePath, fill: (w: Writer) => void, together = false): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const id = this.#put(op, fill, path);
      if (!together) this.#send();
      this.#waiting.set(id, { resolve, reject, together });
    });
  }

  // --- answers

  #answer(type: number, id: number, payload: Buffer): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) {
      if (type === T.ERROR) this.#failure ??= this.#error(payload);
      return;
    }
    this.#waiting.delete(id);
    if (type === T.ERROR) waiting.reject(this.#error(payload));
    // A small answer is copied, so that it does not keep its whole chunk alive; what is asked for in numbers is used at once.
    else waiting.resolve({ type, data: waiting.together || payload.length > COPY_BYTES ? payload : Buffer.from(payload) });
  }

  #error(payload: Buffer): EngineError {
    const op = payload[0] ?? 0;
    const number = payload.readUInt32LE(1);
    const path = payload.subarray(9, 9 + payload.readUInt32LE(5)).toString("utf8");
    const errno = errnoName(number);
    const reason = errno === "EXDEV" ? "the path leads out of the tree" : errnoMessage(number);
    const full = errno === "ENOSPC" || errno === "EDQUOT";
    return new EngineError(full ? "storage" : "kernel", `cannot ${treeVerbs[op] ?? "handle"} ${JSON.stringify(path)} in ${this.#root}: ${reason}`, {
      details: { errno, op: treeOps[op] ?? String(op), path },
      ...(full ? { hint: "the disk (or its quota) is full: make room and try again" } : {}),
    });
  }

  // --- changes

  mkdir(path: TreePath, meta: FileMeta): Promise<void> {
    return this.#change(T.MKDIR, path, (w) => {
      w.str(path);
      writeMeta(w, meta);
    });
  }
  wholeFile(path: TreePath, data: Bytes, meta: FileMeta): boolean {
    if (this.#failure !== undefined || data.length > wholeFileBytes || this.#socket.writableNeedDrain) return false;
    this.#put(
      T.FILE,
      (w) => {
        w.str(path);
        writeMeta(w, meta);
        w.raw(data);
      },
      path,
    );
    return true;
  }
  openFile(path: TreePath, size: number): Promise<void> {
    return this.#change(T.OPEN, path, (w) => {
      w.str(path);
      w.u64(BigInt(size));
    });
  }
  async writeData(chunk: Bytes): Promise<void> {
    for (let at = 0; at < chunk.length; at += DATA_BYTES) await this.#change(T.DATA, "", (w) => w.raw(chunk.subarray(at, at + DATA_BYTES)));
  }
  skip(bytes: number): Promise<void> {
    return this.#change(T.SKIP, "", (w) => w.u64(BigInt(bytes)));
  }
  closeFile(meta: FileMeta): Promise<void> {
    return this.#change(T.CLOSE, "", (w) => writeMeta(w, meta));
  }
  symlink(path: TreePath, target: TreePath, meta: FileMeta): Promise<void> {
    return this.#change(T.SYMLINK, path, (w) => {
      w.str(path);
      w.str(target);
      writeMeta(w, meta);
    });
  }
  link(path: TreePath, existing: TreePath): Promise<void> {
    return this.#change(T.LINK, path, (w) => {
      w.str(path);
      w.str(existing);
    });
  }
  mknod(path: TreePath, type: "char" | "block" | "fifo", major: number, minor: number, meta: FileMeta): Promise<void> {
    return this.#change(T.MKNOD, path, (w) => {
      w.str(path);
      w.u8({ char: 1, block: 2, fifo: 3 }[type]);
      w.u32(major);
      w.u32(minor);
      writeMeta(w, meta);
    });
  }
  setMeta(path: TreePath, meta: FileMeta): Promise<void> {
    return this.#change(T.META, path, (w) => {
      w.str(path);
      writeMeta(w, meta);
    });
  }
  setXattr(path: TreePath, name: string, value: Bytes): Promise<void> {
    return this.#change(T.XATTR, path, (w) => {
      w.str(path);
      w.str(name);
      w.bytes(value);
    });
  }
  remove(path: TreePath): Promise<void> {
    return this.#change(T.REMOVE, path, (w) => w.str(path));
  }
  rename(from: TreePath, to: TreePath): Promise<void> {
    return this.#change(T.RENAME, from, (w) => {
      w.str(from);
      w.str(to);
    });
  }

  ensureDirectory(path: TreePath, meta: FileMeta): Promise<void> {
    return this.#change(T.ENSURE, path, (w) => {
      w.str(path);
      writeMeta(w, meta);
    });
  }
  expect(path: TreePath, directory: boolean): Promise<void> {
    return this.#change(T.EXPECT, path, (w) => {
      w.str(path);
      w.u8(directory ? 1 : 0);
    });
  }
  setDirectoryMeta(path: TreePath, meta: FileMeta): Promise<void> {
    return this.#change(T.DIRMETA, path, (w) => {
      w.str(path);
      writeMeta(w, meta);
    });
  }

  async #settle(op: number): Promise<void> {
    try {
      await this.#ask(op, "", () => {});
    } finally {
      this.#failure = undefined;
    }
  }
  flush(): Promise<void> {
    return this.#settle(T.FLUSH);
  }
  sync(): Promise<void> {
    return this.#settle(T.SYNC);
  }

  // --- questions

  async lstat(path: TreePath): Promise<TreeStat | undefined> {
    const { type, data } = await this.#ask(T.LSTAT, path, (w) => w.str(path), true);
    if (type === T.MISSING) return undefined;
    // The worker names the root itself "".
    return new EntryReader(data, 0).next();
  }

  #takeNumber(what: string): number {
    for (let number = 0; number < MAX_OPEN; number++)
      if (!this.#numbers.has(number)) {
        this.#numbers.add(number);
        return number;
      }
    throw new EngineError("internal", `more than ${MAX_OPEN} ${what} at once on one file tree`);
  }

  async *walk(path: TreePath): AsyncGenerator<TreeStat, void, undefined> {
    const batches = this.#following(await this.#begin(T.WALK, path), { next: T.WALK_NEXT, end: T.WALK_END }, path);
    for await (const batch of batches.all()) {
      const reader = new EntryReader(batch, 1);
      while (!reader.done) yield reader.next();
    }
  }

  async list(path: TreePath): Promise<readonly PackedEntries[]> {
    const batches = this.#following(await this.#begin(T.LIST, path), { next: T.WALK_NEXT, end: T.WALK_END }, path);
    const lists: PackedEntries[] = [];
    for await (const batch of batches.all()) {
      const entries = new PackedEntries(batch, 1);
      // The first of all is what was asked for.
      lists.push(lists.length === 0 ? new PackedEntries(batch, entries.after(1)) : entries);
    }
    return lists;
  }

  async readFile(path: TreePath): Promise<OpenedFile> {
    const begun = await this.#begin(T.READ, path);
    const first = new EntryReader(begun.first, 1);
    const stat = first.next();
    const { at } = first;
    // Nearly every file: all of it came with the answer.
    if (begun.last) return { stat, data: at < begun.first.length ? [begun.first.subarray(at)] : [], close: async () => undefined };
    const batches = this.#following(begun, { next: T.READ_NEXT, end: T.READ_END }, path);
    const data = async function* () {
      let from = at;
      for await (const batch of batches.all()) {
        if (batch.length > from) yield batch.subarray(from);
        from = 1;
      }
    };
    return { stat, data: { [Symbol.asyncIterator]: data }, close: () => batches.end() };
  }

  /** The first batch of a walk or read. A batch's first byte tells the last. */
  async #begin(op: number, path: TreePath): Promise<Begun> {
    const number = this.#takeNumber("walks and reads");
    try {
      const { data: first } = await this.#ask(
        op,
        path,
        (w) => {
          w.u32(number);
          w.str(path);
        },
        true,
      );
      const last = first[0] === 1;
      if (last) this.#numbers.delete(number);
      return { number, first, last };
    } catch (error) {
      this.#numbers.delete(number);
      throw error;
    }
  }

  /** All batches of what has begun. */
  #following({ number, first, last: onlyOne }: Begun, ops: { readonly next: number; readonly end: number }, path: TreePath): Batches {
    let open = !onlyOne;
    const end = async () => {
      if (!open) return;
      open = false;
      if (this.#lost === undefined) await this.#ask(ops.end, path, (w) => w.u32(number)).catch(() => {});
      this.#numbers.delete(number);
    };
    const finished = () => {
      open = false;
      this.#numbers.delete(number);
    };
    const next = () => {
      const answer = this.#ask(ops.next, path, (w) => w.u32(number));
      answer.catch(() => {}); // a caller that stops early never looks at it
      return answer;
    };
    const all = async function* () {
      try {
        const following: Promise<Answer>[] = [];
        for (let batch = first; ; ) {
          // Those asked for behind the last one are answered with an error that nobody sees.
          while (open && following.length < AHEAD) following.push(next());
          yield batch;
          if (!open) return;
          batch = (await following.shift()!).data;
          if (batch[0] === 1) finished();
        }
      } catch (error) {
        finished();
        throw error;
      } finally {
        await end();
      }
    };
    return { all, end };
  }

  async directory(): Promise<string> {
    // It answers when it has changed its root directory.
    await this.flush();
    return `/proc/${this.#pid}/root`;
  }

  async close(): Promise<void> {
    this.#send();
    this.#closing = true;
    this.#socket.end();
    await this.#closed;
    giveBack(this.#batch.done());
  }
}
