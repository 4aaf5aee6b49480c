import type { FileTree, TreeStat } from "#linux/file-tree.ts";
import { type ByteString, joinPath, parentOf, toByteString, toBytes } from "./bytes.ts";
import { isOpaque, isWhiteout } from "./overlay-format.ts";

/**
 * Answers what a path is in the union of some directories, as overlayfs would, without a mount. For a few look-ups (a layer's missing parents, mount
 * points); whole trees are read with {@link walkUnion}.
 */
export class UnionView {
  readonly #tree: FileTree;
  /** Directories that make up a merged directory, top-most first, by its path. Empty = not a directory. */
  readonly #merged = new Map<ByteString, readonly ByteString[]>();

  /** `layers`: paths within `tree`, top-most first. */
  constructor(tree: FileTree, layers: readonly ByteString[]) {
    this.#tree = tree;
    this.#merged.set("", layers);
  }

  /** lstat in the union: no link is followed, also not in the directory part. `path` without leading slash. */
  async lookup(path: ByteString): Promise<TreeStat | undefined> {
    const parent = parentOf(path);
    if (path === "") {
      const [top] = this.#merged.get("") ?? [];
      return top === undefined ? undefined : this.#tree.lstat(toBytes(top));
    }
    const name = path.slice(parent === "" ? 0 : parent.length + 1);
    const places = (await this.#directories(parent)).map((directory) => joinPath(directory, name));
    // All layers are asked at once: one answer after the other is what an image of a hundred layers would take its time for.
    const entries = await Promise.all(places.map((at) => this.#tree.lstat(toBytes(at))));
    let found: TreeStat | undefined;
    const merged: ByteString[] = [];
    for (const [i, at] of places.entries()) {
      const entry = entries[i];
      if (entry === undefined) continue;
      if (entry.type !== "dir") {
        if (found === undefined && !isWhiteout(entry)) found = entry;
        break;
      }
      found ??= entry;
      merged.push(at);
      if (isOpaque(entry)) break;
    }
    this.#merged.set(path, merged);
    return found;
  }

  /** Names in a directory of the union, in byte order; empty for what is none. Walks what is below it: for the rare opaque directory. */
  async names(path: ByteString): Promise<readonly ByteString[]> {
    const names = new Map<ByteString, boolean>();
    for (const directory of await this.#directories(path)) {
      for await (const entry of this.#tree.walk(toBytes(directory))) {
        const at = toByteString(entry.path);
        const name = at.slice(at.lastIndexOf("/") + 1);
        if (at !== directory && parentOf(at) === directory && !names.has(name)) names.set(name, !isWhiteout(entry));
      }
    }
    return [...names]
      .filter(([, present]) => present)
      .map(([name]) => name)
      .sort();
  }

  async #directories(path: ByteString): Promise<readonly ByteString[]> {
    if (!this.#merged.has(path)) await this.lookup(path);
    return this.#merged.get(path) ?? [];
  }
}
