/** A directory of this host as a build's context: walked by each build, read only where a file is new or has changed. @module */
import { createHash, randomUUID } from "node:crypto";
import { IgnoreRules } from "#build/frontend/ignore-file.ts";
import type { FileSender, SentEntry } from "#build/solver/synced-tree.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { ListedTree } from "#linux/file-tree.ts";
import type { PackedEntries } from "#linux/tree-wire.ts";
import { toBytes } from "#unionfs/bytes.ts";

/** So many directories are listed, and files read, at once. */
const atOnce = 32;
/** Clocks of filesystems go in steps of some milliseconds: a change within one step shows no other time. */
const clockStepMs = 50;

interface Walked {
  /** What each directory has, by its path. */
  readonly directories: ReadonlyMap<string, readonly PackedEntries[]>;
  readonly stamp: string | undefined;
}

/**
 * Sends what lies below a directory, without what the rules leave out. Links are sent as links. A file worker looks at the files: it is in the directory as its root, so that no link which
 * is put there meanwhile leads elsewhere, and a filesystem that keeps it waiting keeps nobody else.
 */
export class LocalFiles implements FileSender {
  readonly #tree: Promise<ListedTree>;
  readonly #rules: IgnoreRules;
  readonly #signal: AbortSignal;
  /** Nothing that has changed after this is taken for settled; ms since 1970. */
  readonly #settledMs = Date.now() - clockStepMs;
  readonly #paths: string[] = [];
  #walked: Promise<Walked> | undefined;

  /** `tree`: of the directory; closed with this. */
  constructor(tree: Promise<ListedTree>, ignore: readonly string[], signal: AbortSignal) {
    this.#tree = tree.catch(failed);
    this.#tree.catch(() => undefined); // whoever asks first is told
    this.#rules = IgnoreRules.of(ignore);
    this.#signal = signal;
  }

  async stamp(): Promise<string | undefined> {
    return (await this.#walk()).stamp;
  }

  async *entries(): AsyncIterable<SentEntry> {
    const { directories } = await this.#walk();
    const links = new Map<string, string>();
    for (const [entries, at] of below(directories, "")) {
      // A directory that is ignored is only there for what is in it and is not: then it is made.
      if (this.#ignores(entries, at)) continue;
      const entry = this.#entry(entries, at, links);
      this.#paths.push(entry.path);
      yield entry;
    }
  }

  async contents(numbers: readonly number[], take: Parameters<FileSender["contents"]>[1]): Promise<void> {
    const pending = [...numbers].reverse();
    const worker = async () => {
      for (let number = pending.pop(); number !== undefined; number = pending.pop()) await this.#send(number, take);
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const tree = await this.#tree.catch(() => undefined);
    await tree?.close();
  }

  #walk(): Promise<Walked> {
    return (this.#walked ??= this.#list());
  }

  async #list(): Promise<Walked> {
    const directories = new Map<string, readonly PackedEntries[]>();
    const hash = createHash("sha256");
    let isSettled = true;
    // Thousands of files: nothing is made for each.
    const look = (entries: PackedEntries, next: string[]) => {
      let from = entries.start;
      for (let at = from; at < entries.data.length; ) {
        const after = entries.after(at);
        const type = entries.type(at);
        const isIgnored = this.#ignores(entries, at);
        if (type === "dir" && (!isIgnored || this.#rules.hasExceptions)) next.push(entries.path(at));
        if (isIgnored) {
          hash.update(entries.data.subarray(from, at));
          from = after;
        } else if (type === "file" && entries.ctimeMs(at) > this.#settledMs) isSettled = false;
        at = after;
      }
      hash.update(entries.data.subarray(from));
    };
    for (let level = [""]; level.length > 0; ) {
      const next: string[] = [];
      for (let from = 0; from < level.length; from += atOnce) {
        const paths = level.slice(from, from + atOnce);
        const lists = await this.#lists(paths);
        for (const [i, list] of lists.entries()) {
          directories.set(paths[i]!, list); // as long as the list of lists
          for (const entries of list) look(entries, next);
        }
      }
      level = next;
    }
    return { directories, stamp: isSettled ? hash.digest("hex") : undefined };
  }

  async #lists(paths: readonly string[]): Promise<(readonly PackedEntries[])[]> {
    this.#throwIfCancelled();
    const tree = await this.#tree;
    return Promise.all(
      paths.map((path) =>
        tree.list(toBytes(path)).catch((error: unknown) => {
          // It has gone since its directory was listed.
          if (path !== "" && isEngineError(error) && error.details["errno"] === "ENOENT") return [];
          return failed(error);
        }),
      ),
    );
  }

  #ignores(entries: PackedEntries, at: number): boolean {
    return !this.#rules.empty && this.#rules.ignores(Buffer.from(entries.path(at), "latin1").toString("utf8"));
  }

  #entry(entries: PackedEntries, at: number, links: Map<string, string>): SentEntry {
    const path = entries.path(at);
    const type = entries.type(at);
    const key = type !== "dir" && entries.number(at, "nlink") > 1 ? entries.inode(at) : undefined;
    const first = key === undefined ? undefined : links.get(key);
    if (key !== undefined && first === undefined) links.set(key, path);
    return {
      path,
      type,
      mode: entries.number(at, "mode"),
      uid: entries.number(at, "uid"),
      gid: entries.number(at, "gid"),
      size: type === "file" ? entries.size(at) : 0,
      mtimeNs: entries.mtimeNs(at),
      target: type === "symlink" ? entries.target(at) : "",
      major: entries.number(at, "major"),
      minor: entries.number(at, "minor"),
      xattrs: [],
      version: this.#version(entries, at),
      ...(type === "file" && first !== undefined ? { sameAs: first } : {}),
    };
  }

  /** Nobody can set the time of a change (ctime), so no write goes unseen; what was changed just now is read again by the next build. */
  #version(entries: PackedEntries, at: number): string {
    const version = entries.version(at).toString("base64");
    return entries.ctimeMs(at) > this.#settledMs ? `${version} ${randomUUID()}` : version;
  }

  async #send(number: number, take: Parameters<FileSender["contents"]>[1]): Promise<void> {
    this.#throwIfCancelled();
    const path = this.#paths[number];
    if (path === undefined) throw new EngineError("internal", `there is no entry ${number} in the context`);
    const tree = await this.#tree;
    const file = await tree.readFile(toBytes(path)).catch((error: unknown) => {
      const errno = isEngineError(error) ? error.details["errno"] : undefined;
      if (errno === "EINVAL" || errno === "EISDIR" || errno === "ELOOP")
        throw new EngineError("invalid", `${toBytes(path).toString()} has become something else than a file while it was read: build again`, { cause: error });
      return failed(error);
    });
    try {
      for await (const piece of file.data) await take(number, piece);
    } catch (error) {
      return failed(error);
    } finally {
      await file.close();
    }
    await take(number, undefined);
  }

  #throwIfCancelled(): void {
    if (this.#signal.aborted) throw new EngineError("cancelled", "the build was cancelled", { cause: this.#signal.reason });
  }
}

/** In the order of a walk. */
function* below(directories: ReadonlyMap<string, readonly PackedEntries[]>, path: string): Iterable<[PackedEntries, number]> {
  for (const entries of directories.get(path) ?? [])
    for (let at = entries.start; at < entries.data.length; at = entries.after(at)) {
      yield [entries, at];
      if (entries.type(at) === "dir") yield* below(directories, entries.path(at));
    }
}

function failed(error: unknown): never {
  if (!isEngineError(error, "kernel")) throw error;
  throw new EngineError("invalid", `reading the build context: ${error.message}`, { cause: error, details: error.details });
}
