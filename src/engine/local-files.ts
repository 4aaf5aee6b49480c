/** A directory of this host as a build's context: walked by each build, read only where a file is new or has changed. @module */
import { randomUUID } from "node:crypto";
import { constants, lstatSync } from "node:fs";
import { lstat, open, readdir, readlink } from "node:fs/promises";
import { IgnoreRules } from "#build/frontend/ignore-file.ts";
import type { FileSender, SentEntry } from "#build/solver/synced-tree.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { deviceNumbers, fileType } from "#core/file-stat.ts";
import { backingFilesystem } from "#unionfs/backing-filesystem.ts";

/** So many files are looked at, and read, at once. */
const atOnce = 32;
/** Filesystems of a disk of this host, or of its memory: to look at a file there takes microseconds, to have a thread do it takes the daemon's thread several times as long. */
const quickFilesystems: ReadonlySet<string> = new Set(["extfs", "xfs", "btrfs", "tmpfs", "overlayfs", "f2fs", "zfs"]);
/** So long the daemon looks at files before others have their turn. */
const sliceMs = 3;
/** Files are read in pieces of so many bytes. */
const pieceBytes = 1024 * 1024;

type BigStats = Awaited<ReturnType<typeof statOf>>;

const statOf = (path: Buffer) => lstat(path, { bigint: true });
const statNow = (path: Buffer) => lstatSync(path, { bigint: true });

/** Sends what lies below `root`, an absolute path, without what the rules leave out. Links are sent as links. */
export class LocalFiles implements FileSender {
  readonly #root: Buffer;
  readonly #rules: IgnoreRules;
  readonly #signal: AbortSignal;
  readonly #paths: (Buffer | undefined)[] = [];
  readonly #links = new Map<string, string>();
  /** Devices whose files are looked at at once; others (network filesystems) may keep one waiting. */
  readonly #quick = new Map<bigint, boolean>();
  #sliceEnd = 0;

  constructor(root: string, ignore: readonly string[], signal: AbortSignal) {
    this.#root = Buffer.from(root);
    this.#rules = IgnoreRules.of(ignore);
    this.#signal = signal;
  }

  async *entries(): AsyncIterable<SentEntry> {
    yield* this.#below(this.#root, "", await statOf(this.#root).catch(failed("lstat", this.#root)));
  }

  async contents(numbers: readonly number[], take: Parameters<FileSender["contents"]>[1]): Promise<void> {
    const pending = [...numbers].reverse();
    const worker = async () => {
      for (let number = pending.pop(); number !== undefined; number = pending.pop()) await this.#send(number, take);
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async *#below(directory: Buffer, name: string, { dev }: BigStats): AsyncIterable<SentEntry> {
    if (this.#signal.aborted) throw new EngineError("cancelled", "the build was cancelled", { cause: this.#signal.reason });
    const names = (await readdir(directory, { encoding: "buffer" }).catch(failed("open", directory))).sort(Buffer.compare);
    for (let at = 0; at < names.length; at += atOnce) {
      const paths = names.slice(at, at + atOnce).map((child) => Buffer.concat([directory, Buffer.from("/"), child]));
      const stats = await this.#stats(paths, directory, dev);
      for (const [i, stat] of stats.entries()) {
        const [path, child] = [paths[i]!, names[at + i]!.toString("latin1")]; // as long as the list of stats
        const type = fileType(stat);
        const below = name === "" ? child : `${name}/${child}`;
        if (type === undefined) continue;
        const ignored = !this.#rules.empty && this.#rules.ignores(Buffer.from(below, "latin1").toString("utf8"));
        if (ignored && !(type === "dir" && this.#rules.hasExceptions)) continue;
        // A directory that is ignored is only there for what is in it and is not: then it is made.
        if (!ignored) yield await this.#entry(path, below, type, stat);
        if (type === "dir") yield* this.#below(path, below, stat);
      }
    }
  }

  async #stats(paths: readonly Buffer[], directory: Buffer, dev: bigint): Promise<BigStats[]> {
    let quick = this.#quick.get(dev);
    if (quick === undefined) {
      quick = quickFilesystems.has(await backingFilesystem(directory).catch(failed("statfs", directory)));
      this.#quick.set(dev, quick);
    }
    if (!quick) return Promise.all(paths.map((path) => statOf(path).catch(failed("lstat", path))));
    if (performance.now() > this.#sliceEnd) {
      await new Promise(setImmediate);
      this.#sliceEnd = performance.now() + sliceMs;
    }
    return paths.map((path) => {
      try {
        return statNow(path);
      } catch (error) {
        return failed("lstat", path)(error);
      }
    });
  }

  async #entry(path: Buffer, name: string, type: SentEntry["type"], stat: BigStats): Promise<SentEntry> {
    this.#paths.push(path);
    const { rdev, dev, ino, nlink, size, mtimeNs } = stat;
    const key = type !== "dir" && nlink > 1n ? `${dev}:${ino}` : undefined;
    const first = key === undefined ? undefined : this.#links.get(key);
    if (key !== undefined && first === undefined) this.#links.set(key, name);
    return {
      path: name,
      type,
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      size: type === "file" ? Number(size) : 0,
      mtimeNs,
      target: type === "symlink" ? (await readlink(path, { encoding: "buffer" }).catch(failed("readlink", path))).toString("latin1") : "",
      ...deviceNumbers(rdev),
      xattrs: [],
      version: versionOf(stat),
      ...(type === "file" && first !== undefined ? { sameAs: first } : {}),
    };
  }

  async #send(number: number, take: Parameters<FileSender["contents"]>[1]): Promise<void> {
    if (this.#signal.aborted) throw new EngineError("cancelled", "the build was cancelled", { cause: this.#signal.reason });
    const path = this.#paths[number];
    if (path === undefined) throw new EngineError("internal", `there is no entry ${number} in the context`);
    // What was a file a moment ago may be a link or a pipe by now.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    await using file = await open(path, flags).catch(failed("open", path));
    const stat = await file.stat();
    if (!stat.isFile()) throw new EngineError("invalid", `${path.toString()} has become something else than a file while it was read: build again`);
    const { size } = stat;
    // One byte more than the file has, to see its end.
    const buffer = Buffer.allocUnsafe(Math.min(size + 1, pieceBytes));
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, -1).catch(failed("read", path));
      if (bytesRead === 0) break;
      await take(number, buffer.subarray(0, bytesRead));
      if (bytesRead < buffer.length) break;
    }
    await take(number, undefined);
  }
}

/** Clocks of filesystems go in steps of some milliseconds: a change within one step shows no other time. */
const clockStepNs = 50_000_000n;

/** Nobody can set the time of a change (ctime), so no write goes unseen; what was changed just now is read again by the next build. */
function versionOf({ size, mtimeNs, ctimeNs, dev, ino }: BigStats): string {
  const settled = BigInt(Date.now()) * 1_000_000n - ctimeNs > clockStepNs;
  return `${size} ${mtimeNs} ${ctimeNs} ${dev}:${ino}${settled ? "" : ` ${randomUUID()}`}`;
}

function failed(what: string, path: Buffer): (error: unknown) => never {
  return (error) => {
    throw new EngineError("invalid", `reading the build context: ${what} ${path.toString()}: ${errnoOf(error) ?? String(error)}`, { cause: error });
  };
}
