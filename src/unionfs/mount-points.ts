import type { FileMeta, FileTree, TreeStat } from "#linux/file-tree.ts";
import { type ByteString, joinPath, parentOf, toByteString, toBytes } from "./bytes.ts";
import { isOverlayXattr } from "./overlay-format.ts";
import type { UnionView } from "./union-view.ts";

/**
 * What a container's mounts need to exist, as Docker's init layer has it. A bind mount on a path that is missing would have to be made in the
 * writable layer first: 1.2 ms and a change that `diff` shows.
 */
const mountPoints: readonly { readonly path: string; readonly kind: "dir" | "file" | { readonly linkTo: string } }[] = [
  { path: "dev", kind: "dir" },
  { path: "dev/pts", kind: "dir" },
  { path: "dev/shm", kind: "dir" },
  { path: "proc", kind: "dir" },
  { path: "sys", kind: "dir" },
  { path: ".dockerenv", kind: "file" },
  { path: "dev/console", kind: "file" },
  { path: "etc/resolv.conf", kind: "file" },
  { path: "etc/hosts", kind: "file" },
  { path: "etc/hostname", kind: "file" },
  { path: "etc/mtab", kind: { linkTo: "/proc/mounts" } },
];

const newDirectory: FileMeta = { mode: 0o755, uid: 0, gid: 0, mtimeNs: 0n };

/**
 * Makes the mount points that the image lacks. What it has is left alone where it serves: a directory that something is made in keeps the image's owner and mode (in a union the
 * top-most counts), and a link on the way (`/etc` → `usr/etc`) is followed within the image.
 * @param target where to make them, within `tree`
 * @param image what the image has
 * @returns the paths of what was made, or replaced
 */
export async function addMountPoints(tree: FileTree, target: ByteString, image: UnionView): Promise<readonly ByteString[]> {
  const layer = new MountPointLayer(tree, target, image);
  for (const { path, kind } of mountPoints) await layer.add(path, kind);
  return layer.finish();
}

/** True while nobody has changed what {@link addMountPoints} has made at a path. */
export function isUnusedMountPoint(stat: TreeStat): boolean {
  if (stat.mtimeNs !== 0n || stat.uid !== 0 || stat.gid !== 0) return false;
  return stat.type === "symlink" || (stat.mode === 0o755 && (stat.type === "dir" || (stat.type === "file" && stat.size === 0)));
}

class MountPointLayer {
  readonly #tree: FileTree;
  readonly #diff: string;
  readonly #image: UnionView;
  /** Directories of this layer and what they are to look like. */
  readonly #made = new Map<ByteString, FileMeta>();
  readonly #added: ByteString[] = [];

  constructor(tree: FileTree, diff: string, image: UnionView) {
    this.#tree = tree;
    this.#diff = diff;
    this.#image = image;
  }

  async add(path: string, kind: (typeof mountPoints)[number]["kind"]): Promise<void> {
    const parent = await this.#resolveDirectory(parentOf(path));
    if (parent === undefined) return;
    const target = joinPath(parent, path.slice(path.lastIndexOf("/") + 1));
    if (this.#made.has(target)) return;
    // Below a directory that this layer put over something else, the image has nothing.
    const present = this.#hides(parent) ? undefined : await this.#image.lookup(target);
    if (present !== undefined && serves(present, kind)) return;
    await this.#makeDirectory(parent);
    if (kind === "dir") {
      await this.#makeDirectory(target);
      return;
    }
    this.#added.push(target);
    await this.#tree.remove(this.#at(target));
    if (kind === "file") {
      await this.#tree.openFile(this.#at(target), 0);
      await this.#tree.closeFile(newDirectory);
    } else {
      await this.#tree.symlink(this.#at(target), kind.linkTo, { ...newDirectory, mode: 0o777 });
    }
  }

  /** Times of directories come last: what was made in them changed them. */
  async finish(): Promise<readonly ByteString[]> {
    for (const [path, meta] of [...this.#made].reverse()) await this.#tree.setMeta(this.#at(path), meta);
    await this.#tree.flush();
    return this.#added;
  }

  #at(path: ByteString): Buffer {
    return toBytes(joinPath(this.#diff, path));
  }

  readonly #covers = new Set<ByteString>();

  #hides(path: ByteString): boolean {
    for (let at = path; at !== ""; at = parentOf(at)) if (this.#covers.has(at)) return true;
    return false;
  }

  /** Where a directory of the image really is: links are followed within the image. undefined = there is a file in the way; leave it. */
  async #resolveDirectory(path: string): Promise<ByteString | undefined> {
    let rest = path.split("/").filter((part) => part !== "");
    let at: ByteString = "";
    for (let links = 0; rest.length > 0; ) {
      const [part = "", ...after] = rest;
      rest = after;
      if (part === ".") continue;
      if (part === "..") {
        at = parentOf(at);
        continue;
      }
      const next = joinPath(at, part);
      const entry = this.#made.has(next) ? undefined : await this.#image.lookup(next);
      if (entry?.type === "symlink") {
        if (++links > 40) return undefined;
        const target = toByteString(entry.target ?? new Uint8Array());
        if (target.startsWith("/")) at = "";
        rest = [...target.split("/").filter((name) => name !== ""), ...rest];
      } else if (entry !== undefined && entry.type !== "dir") {
        return undefined;
      } else {
        at = next;
      }
    }
    return at;
  }

  async #makeDirectory(path: ByteString): Promise<void> {
    if (path === "" || this.#made.has(path)) return;
    await this.#makeDirectory(parentOf(path));
    const image = await this.#image.lookup(path);
    if (image !== undefined && image.type !== "dir") this.#covers.add(path);
    if (image?.type !== "dir") this.#added.push(path);
    const meta = image?.type === "dir" ? metaOf(image) : newDirectory;
    await this.#tree.mkdir(this.#at(path), meta);
    this.#made.set(path, meta);
  }
}

function serves(present: TreeStat, kind: (typeof mountPoints)[number]["kind"]): boolean {
  if (kind === "dir") return present.type === "dir";
  // A file to mount on may be any but a link (which would be followed) or a directory; mtab may be a link to anywhere.
  if (kind === "file") return present.type !== "dir" && present.type !== "symlink";
  return present.type === "symlink";
}

function metaOf(entry: TreeStat): FileMeta {
  return { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtimeNs: entry.mtimeNs, xattrs: entry.xattrs.filter(({ name }) => !isOverlayXattr(name)) };
}
