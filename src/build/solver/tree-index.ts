import { EngineError } from "#core/errors.ts";
import { printable } from "#unionfs/bytes.ts";
import { isOverlayXattr } from "#unionfs/overlay-format.ts";
import { type ByteString, joinPath, parentOf, type SourceEntry } from "./source-tree.ts";

/** Entries of one context; each takes some hundred bytes of memory. */
export const maxEntries = 2_000_000;

/** Entries of a context by path, and the names in each directory. */
export class TreeIndex<T extends SourceEntry> {
  readonly #nodes = new Map<ByteString, T>();
  readonly #names = new Map<ByteString, Set<string>>();
  readonly #directory: (path: ByteString) => T;

  /** `directory`: one that nobody has described. */
  constructor(directory: (path: ByteString) => T) {
    this.#directory = directory;
    this.#nodes.set("", directory(""));
    this.#names.set("", new Set());
  }

  get size(): number {
    return this.#nodes.size;
  }

  get(path: ByteString): T | undefined {
    return this.#nodes.get(path);
  }

  /** An entry and all below it, a directory before what is in it, siblings in byte order. */
  *below(path: ByteString): Iterable<T> {
    const node = this.#nodes.get(path);
    if (node === undefined) return;
    yield node;
    for (const name of [...(this.#names.get(path) ?? [])].sort()) yield* this.below(joinPath(path, name));
  }

  /** Adds an entry, or replaces the one of its path; the directories above it are made where they are missing. */
  put(node: T): void {
    const { path } = node;
    if (path !== "") this.#namesIn(parentOf(path)).add(path.slice(parentOf(path).length).replace("/", ""));
    if (node.type === "dir") {
      if (!this.#names.has(path)) this.#names.set(path, new Set());
    } else this.#empty(path); // what is no directory any more has nothing in it
    this.#nodes.set(path, node);
  }

  /** Without the entries that `ignores` names. */
  filtered(ignores: (path: ByteString) => boolean): TreeIndex<T> {
    const kept = new TreeIndex<T>(this.#directory);
    for (const [path, node] of this.#nodes) if (path !== "" && node.type !== "dir" && !ignores(path)) kept.put(node);
    // A directory that is ignored stays for the sake of what is in it and is not.
    for (const [path, node] of this.#nodes) if (path !== "" && node.type === "dir" && (kept.#nodes.has(path) || !ignores(path))) kept.put(node);
    return kept;
  }

  #empty(path: ByteString): void {
    for (const name of this.#names.get(path) ?? []) {
      this.#empty(joinPath(path, name));
      this.#nodes.delete(joinPath(path, name));
    }
    this.#names.delete(path);
  }

  #namesIn(path: ByteString): Set<string> {
    const known = this.#names.get(path);
    if (known !== undefined) return known;
    this.put(this.#directory(path));
    return this.#names.get(path)!; // a directory has them
  }
}

export function emptyDirectory(path: ByteString): SourceEntry {
  return { path, type: "dir", mode: 0o755, uid: 0, gid: 0, size: 0, mtimeNs: 0n, target: "", major: 0, minor: 0, xattrs: [] };
}

const none: SourceEntry["xattrs"] = [];

/** What a context's files may bring along: nothing that overlayfs would take for its own. Most have none: they share one list. */
export function withoutOverlay(xattrs: SourceEntry["xattrs"]): SourceEntry["xattrs"] {
  return xattrs.length === 0 ? none : xattrs.filter(({ name }) => !isOverlayXattr(name));
}

/** A name that came from outside, without dots and doubled slashes. @throws EngineError "invalid" for one that leads out of the context; `of`: the entry that has it */
export function pathInside(name: ByteString, of: ByteString = name): ByteString {
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new EngineError("invalid", `the build context's entry "${printable(of)}" leads out of it: "${printable(name)}"`);
  return parts.join("/");
}
