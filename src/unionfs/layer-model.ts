import { baseOf, type ByteString, joinPath, parentOf, printable } from "./bytes.ts";
import { refused } from "./layer-names.ts";

/** A file's content as the layer counts it: hard links share one. */
export interface Content {
  readonly bytes: number;
  /** More names than one were made for it, of which some may be gone. */
  linked: boolean;
}

export function contentOf(bytes: number): Content {
  return { bytes, linked: false };
}

/** What this layer's archive has put at a name so far. */
export type LayerNode =
  | {
      readonly kind: "dir";
      readonly children: Map<ByteString, LayerNode>;
      /** Nothing of the layers below is seen in it. */
      hidesLower: boolean;
    }
  | { readonly kind: "symlink"; readonly target: ByteString; readonly content: Content }
  /** `record`: number in the tar index of the file record whose content lies at this name. */
  | { readonly kind: "file"; readonly content: Content; readonly record: number | undefined }
  | { readonly kind: "other"; readonly content: Content }
  | { readonly kind: "whiteout" };

export type DirNode = Extract<LayerNode, { kind: "dir" }>;

export function dirNode(hidesLower: boolean): DirNode {
  return { kind: "dir", children: new Map(), hidesLower };
}

const maxLinks = 40;

/**
 * The names of a layer while it is unpacked: what decides whether an entry may land where it says. Links count only as this archive made them; what is
 * below a link leads to is decided here, never by the kernel following it.
 */
export class LayerModel {
  readonly root: DirNode = dirNode(false);
  /** Where the last one was: entries of a directory come one after the other. */
  #lastPath: ByteString = "";
  #last: DirNode = this.root;

  /** The directory at a path of real directories; undefined when there is none. */
  directory(path: ByteString): DirNode | undefined {
    if (path === this.#lastPath) return this.#last;
    const node = this.#walk(path);
    if (node?.kind !== "dir") return undefined;
    this.#lastPath = path;
    this.#last = node;
    return node;
  }

  /** The node at a path of real directories. */
  get(path: ByteString): LayerNode | undefined {
    return path === "" ? this.root : this.directory(parentOf(path))?.children.get(baseOf(path));
  }

  #walk(path: ByteString): LayerNode | undefined {
    let node: LayerNode | undefined = this.root;
    if (path === "") return node;
    for (const part of path.split("/")) {
      if (node?.kind !== "dir") return undefined;
      node = node.children.get(part);
    }
    return node;
  }

  set(path: ByteString, node: LayerNode): void {
    const parent = this.directory(parentOf(path));
    // Callers make the parents first.
    if (parent === undefined) throw new Error(`no directory for ${printable(path)}`);
    const name = baseOf(path);
    if (parent.children.has(name)) {
      // It may be what the last directory was, or lay in.
      this.#lastPath = "";
      this.#last = this.root;
    }
    parent.children.set(name, node);
  }

  /**
   * Where the directory `path` really is, when links that the archive made on the way are followed. Links that lead out (absolute, or with more `..` than there are directories) and things
   * that are no directory are refused in the name of `entry`. What is missing is taken as a directory to be made.
   */
  resolveDirectory(path: ByteString, entry: ByteString): ByteString {
    // Without a link on the way, which is nearly always, the answer is the question.
    if (path === this.#lastPath || this.#isPlain(path)) return path;
    let at: ByteString = "";
    const rest = path.split("/").reverse();
    for (let links = 0; rest.length > 0; ) {
      const part = rest.pop()!;
      if (part === "" || part === ".") continue;
      if (part === "..") {
        if (at === "") throw refused(entry, "leads out of the layer through a symbolic link");
        at = parentOf(at);
        continue;
      }
      const next = joinPath(at, part);
      const node = this.get(next);
      if (node === undefined || node.kind === "dir" || node.kind === "whiteout") {
        at = next;
      } else if (node.kind === "symlink") {
        if (node.target.startsWith("/"))
          throw refused(entry, `leads out of the layer through the symbolic link "${printable(next)}" → "${printable(node.target)}"`);
        if (++links > maxLinks) throw refused(entry, `has more than ${maxLinks} symbolic links on its way`);
        rest.push(...node.target.split("/").reverse());
        if (rest.length > 10_000) throw refused(entry, "has too many components");
      } else {
        throw refused(entry, `lies below "${printable(next)}", which is not a directory`);
      }
    }
    return at;
  }

  /** True when nothing of the layers below shows at this path. */
  hidesLower(path: ByteString): boolean {
    let node: LayerNode | undefined = this.root;
    if (this.root.hidesLower) return true;
    for (const part of path === "" ? [] : path.split("/")) {
      node = node.kind === "dir" ? node.children.get(part) : undefined;
      if (node === undefined) return false;
      if (node.kind !== "dir" || node.hidesLower) return true;
    }
    return false;
  }

  /** Bytes as Docker counts a layer: lengths of files and link targets, hard links once. */
  size(): number {
    const counted = new Set<Content>();
    const directories = [this.root];
    let bytes = 0;
    for (let directory = directories.pop(); directory !== undefined; directory = directories.pop())
      for (const node of directory.children.values()) {
        if (node.kind === "dir") directories.push(node);
        if (node.kind === "dir" || node.kind === "whiteout" || counted.has(node.content)) continue;
        if (node.content.linked) counted.add(node.content);
        bytes += node.content.bytes;
      }
    return bytes;
  }

  #isPlain(path: ByteString): boolean {
    let node: LayerNode | undefined = this.root;
    for (const part of path === "" ? [] : path.split("/")) {
      node = node.children.get(part);
      if (node === undefined) return true;
      if (node.kind !== "dir") return node.kind === "whiteout";
    }
    return true;
  }
}

/** Paths and nodes below a directory (itself excluded). */
export function* pathsBelow(path: ByteString, node: LayerNode): Iterable<readonly [ByteString, LayerNode]> {
  const pending: (readonly [ByteString, LayerNode])[] = [[path, node]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [at, current] = next;
    if (current !== node) yield next;
    if (current.kind === "dir") for (const [name, child] of current.children) pending.push([joinPath(at, name), child]);
  }
}
