import { EngineError } from "#core/errors.ts";
import { printable } from "#unionfs/bytes.ts";
import type { IncomingContent, SentFiles, StoredContent } from "./sent-files.ts";
import type { KnownAnswers } from "./known-states.ts";
import type { ByteString, SourceEntry, SourceTree } from "./source-tree.ts";
import { emptyDirectory, maxEntries, pathInside, TreeIndex, withoutOverlay } from "./tree-index.ts";

/** An entry as its owner describes it; what it says is not believed yet. */
export type SentEntry = Omit<SourceEntry, "inode"> & {
  /** An earlier entry that is the same file by another name. */
  readonly sameAs?: ByteString;
  /** Another text for every content that the file has had; where its owner does not say, size and time are that. */
  readonly version?: string;
};

/** Whoever has the files of a context and sends what is asked for. */
export interface FileSender extends AsyncDisposable {
  /** All of them, in the order of a walk. To be read to its end before contents are asked for. */
  entries(): AsyncIterable<SentEntry>;
  /** A digest of all that {@link entries} tells, without having to tell it. undefined: a file may still change without a trace. Absent: all that can be done is to read them. */
  stamp?(): Promise<string | undefined>;
  /** Contents of entries by their number (from 0), in pieces of whatever order; without a piece: the end of one. Resolves when all have ended. */
  contents(numbers: readonly number[], take: (number: number, piece: Uint8Array | undefined) => Promise<void>): Promise<void>;
}

interface Node extends SourceEntry {
  /** Its number at the sender. */
  readonly number?: number;
  readonly version?: string;
}

/**
 * A context that lies elsewhere: known by its entries, with contents that come when they are wanted and are not here from an earlier build. What a step is hashed with is what it copies,
 * whatever becomes of the file meanwhile.
 */
export class SyncedTree implements SourceTree {
  readonly #sender: FileSender;
  readonly #files: SentFiles;
  readonly known?: KnownAnswers;
  readonly #read: () => Promise<TreeIndex<Node>>;
  #index: Promise<TreeIndex<Node>> | undefined;
  readonly #coming = new Map<ByteString, Promise<void>>();

  private constructor(sender: FileSender, files: SentFiles, read: () => Promise<TreeIndex<Node>>, known?: KnownAnswers) {
    this.#sender = sender;
    this.#files = files;
    this.#read = read;
    if (known !== undefined) this.known = known;
  }

  /** A sender that has a {@link FileSender.stamp} need not tell its entries before somebody asks for one. @throws EngineError "invalid" for names that lead out of it */
  static async receive(sender: FileSender, files: SentFiles): Promise<SyncedTree> {
    const stamp = await sender.stamp?.();
    const tree = new SyncedTree(sender, files, () => indexOf(sender, files), stamp === undefined ? undefined : files.answers(stamp));
    if (sender.stamp === undefined) await tree.#entries();
    return tree;
  }

  /** Without the entries that `ignores` names. */
  filtered(ignores: (path: ByteString) => boolean): SyncedTree {
    return new SyncedTree(this.#sender, this.#files, async () => (await this.#entries()).filtered(ignores));
  }

  async lstat(path: ByteString): Promise<SourceEntry | undefined> {
    return (await this.#entries()).get(path);
  }

  async *walk(path: ByteString): AsyncIterable<SourceEntry> {
    yield* (await this.#entries()).below(path);
  }

  async *read(path: ByteString): AsyncIterable<Uint8Array> {
    yield* this.#files.read(await this.#content(path));
  }

  async digest(path: ByteString): Promise<string> {
    return (await this.#content(path)).sha256;
  }

  /** Asks for all that is not here at once. */
  async want(paths: readonly ByteString[]): Promise<void> {
    const missing = new Map<number, Node>();
    const waiting = new Set<Promise<void>>();
    const index = await this.#entries();
    for (const path of paths) {
      const node = fileAt(index, path);
      const coming = this.#coming.get(node.inode ?? path);
      if (coming !== undefined) waiting.add(coming);
      else if (node.number !== undefined && this.#files.find(node.inode ?? path, versionOf(node)) === undefined) missing.set(node.number, node);
    }
    if (missing.size > 0) {
      const names = Array.from(missing.values(), (node) => node.inode ?? node.path);
      const fetching = this.#fetch(missing).finally(() => {
        for (const name of names) this.#coming.delete(name);
      });
      for (const name of names) this.#coming.set(name, fetching);
      waiting.add(fetching);
    }
    await Promise.all(waiting);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sender[Symbol.asyncDispose]();
  }

  async #fetch(missing: ReadonlyMap<number, Node>): Promise<void> {
    const begun = new Map<number, IncomingContent>();
    await this.#sender.contents([...missing.keys()], async (number, piece) => {
      const node = missing.get(number)!; // they are what was asked for
      const content = begun.get(number) ?? this.#files.begin(node.inode ?? node.path, versionOf(node), node.size);
      try {
        if (piece === undefined) {
          begun.delete(number);
          await content.end();
        } else {
          begun.set(number, content);
          await content.write(piece);
        }
      } catch (error) {
        if (error instanceof EngineError && error.code === "invalid")
          throw new EngineError("invalid", `"${printable(node.path)}": ${error.message}`, { cause: error });
        throw error;
      }
    });
  }

  async #content(path: ByteString): Promise<StoredContent> {
    const node = fileAt(await this.#entries(), path);
    await this.want([path]);
    const found = this.#files.find(node.inode ?? path, versionOf(node));
    if (found === undefined) throw new EngineError("internal", `the content of ${printable(path)} has not come`);
    return found;
  }

  #entries(): Promise<TreeIndex<Node>> {
    return (this.#index ??= this.#read());
  }
}

async function indexOf(sender: FileSender, files: SentFiles): Promise<TreeIndex<Node>> {
  await files.load();
  const index = new TreeIndex<Node>(emptyDirectory);
  let number = 0;
  for await (const entry of sender.entries()) add(index, files, entry, number++);
  return index;
}

function fileAt(index: TreeIndex<Node>, path: ByteString): Node {
  const node = index.get(path);
  if (node?.type !== "file") throw new EngineError("internal", `${printable(path)} is no file of the context`);
  return node;
}

function add(index: TreeIndex<Node>, files: SentFiles, { sameAs, ...entry }: SentEntry, number: number): void {
  if (index.size > maxEntries) throw new EngineError("unsupported", `the build context has more than ${maxEntries} entries`);
  const path = pathInside(entry.path);
  if (path === "") {
    if (entry.type !== "dir") throw new EngineError("invalid", "the build context's root is not a directory");
    return;
  }
  if (sameAs === undefined) {
    const node: Node = { ...entry, path, number, xattrs: withoutOverlay(entry.xattrs) };
    index.put(node);
    // What the client still has stays, whether this build wants it or not.
    if (node.type === "file") files.find(path, versionOf(node));
    return;
  }
  const target = index.get(pathInside(sameAs, entry.path));
  if (target?.type !== "file")
    throw new EngineError("invalid", `"${printable(path)}" is a hard link to "${printable(sameAs)}", which is not in the build context before it`);
  index.put({ ...target, inode: target.inode ?? target.path });
  index.put({ ...target, path, inode: target.inode ?? target.path });
}

function versionOf({ size, mtimeNs, version }: Node): string {
  return version ?? `${size} ${mtimeNs}`;
}
