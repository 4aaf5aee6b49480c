import type { FileTree, TreeStat } from "#linux/file-tree.ts";
import { baseOf, type ByteString, compareWalkOrder, joinPath, parentOf, toByteString } from "./bytes.ts";
import type { Change } from "./mod.ts";
import { isUnusedMountPoint } from "./mount-points.ts";
import { isOpaque, isOverlayXattr, isWhiteout, opaqueMarker } from "./overlay-format.ts";
import type { UnionView } from "./union-view.ts";
import { walkUnion } from "./union-walk.ts";
import type { TarSource } from "./write-tree.ts";

/** A difference between a snapshot and what it lies on, in walk order. */
export type TreeChange =
  /** `same`: no change, but maybe a directory that something below has changed in. `tree`: where its content is, when it is not the snapshot's. */
  | { readonly kind: "add" | "modify" | "same"; readonly path: ByteString; readonly stat: TreeStat; readonly tree?: Pick<FileTree, "readFile"> }
  /** `implied`: an opaque directory says so already. */
  | { readonly kind: "delete"; readonly path: ByteString; readonly mtimeNs: bigint; readonly implied?: boolean }
  /** The directory just named does not continue the one below. */
  | { readonly kind: "opaque"; readonly path: ByteString; readonly mtimeNs: bigint };

/**
 * Reads an overlay's upper directory. `walker` is rooted at it; `lower` answers for the layers below.
 * @param forLayer it need not be known whether what is no directory is new or changed: it is told as "modify", and not looked up below
 */
export async function* upperChanges(walker: FileTree, lower: UnionView | undefined, forLayer = false): AsyncIterable<TreeChange> {
  /** Opaque directories that the walk is in, and which names of the directories below have not turned up. */
  const opaque: { readonly path: ByteString; readonly mtimeNs: bigint; readonly missing: Set<ByteString> }[] = [];
  const leave = function* (path: ByteString): Iterable<TreeChange> {
    for (let top = opaque.at(-1); top !== undefined && !path.startsWith(`${top.path}/`); top = opaque.at(-1)) {
      opaque.pop();
      for (const name of top.missing) yield { kind: "delete", path: joinPath(top.path, name), mtimeNs: top.mtimeNs, implied: true };
    }
  };
  for await (const stat of walker.walk("")) {
    const path = toByteString(stat.path);
    if (path === "" || baseOf(path) === opaqueMarker) continue;
    yield* leave(path);
    opaque.find((directory) => directory.path === parentOf(path))?.missing.delete(baseOf(path));
    if (forLayer && stat.type !== "dir" && !isWhiteout(stat)) {
      yield { kind: "modify", path, stat };
      continue;
    }
    const below = await lower?.lookup(path);
    if (isWhiteout(stat)) {
      // Of what the image never had (a mount point of ours, say), there is nothing to tell.
      if (below !== undefined) yield { kind: "delete", path, mtimeNs: stat.mtimeNs };
      continue;
    }
    yield { kind: below === undefined ? "add" : isSameDirectory(stat, below) && !isOpaque(stat) ? "same" : "modify", path, stat };
    if (isOpaque(stat) && below?.type === "dir") {
      yield { kind: "opaque", path, mtimeNs: stat.mtimeNs };
      opaque.push({ path, mtimeNs: stat.mtimeNs, missing: new Set(await lower?.names(path)) });
    }
  }
  yield* leave("");
}

/** Compares two trees (a full copy, and what it was copied from), as Docker's naive diff does. Either is in walk order; `old` undefined = an empty one; `mountPoints` were made for the container and are no change of its while they are as they were made. `isSame` is asked of what is no directory. */
export async function* comparedChanges<E extends TreeEntry>(
  current: AsyncIterable<E>,
  old: AsyncIterable<E> | undefined,
  mountPoints: ReadonlySet<ByteString> = new Set(),
  isSame: (now: E, before: E) => boolean | Promise<boolean> = (now, before) => isSameFile(now.stat, before.stat),
): AsyncIterable<TreeChange> {
  const after = current[Symbol.asyncIterator]();
  const before = (old ?? nothing<E>())[Symbol.asyncIterator]();
  const ours = (entry: TreeEntry) => mountPoints.has(entry.path) && isUnusedMountPoint(entry.stat);
  try {
    let [next, past] = [await after.next(), await before.next()];
    while (next.done !== true || past.done !== true) {
      const order = next.done === true ? 1 : past.done === true ? -1 : compareWalkOrder(next.value.path, past.value.path);
      if (order > 0 && past.done !== true) {
        const { path } = past.value;
        yield { kind: "delete", path, mtimeNs: 0n };
        past = await skipBelow(before, path);
      } else if (order < 0 && next.done !== true) {
        yield { kind: ours(next.value) ? "same" : "add", ...next.value };
        next = await after.next();
      } else if (next.done !== true && past.done !== true) {
        const { path, stat } = next.value;
        const replaced = past.value.stat.type === "dir" && stat.type !== "dir";
        if (ours(next.value)) yield { kind: "same", ...next.value };
        else if (stat.type === "dir" && isSameDirectory(stat, past.value.stat)) yield { kind: "same", ...next.value };
        else if (stat.type === "dir" || !(await isSame(next.value, past.value))) yield { kind: "modify", ...next.value };
        next = await after.next();
        past = replaced ? await skipBelow(before, path) : await before.next();
      }
    }
  } finally {
    await Promise.all([after.return?.(), before.return?.()]);
  }
}

export interface TreeEntry {
  readonly path: ByteString;
  readonly stat: TreeStat;
  readonly tree?: Pick<FileTree, "readFile">;
}

async function* nothing<E>(): AsyncGenerator<E> {}

/** All that is in a tree. */
export async function* treeEntries(tree: Pick<FileTree, "walk">): AsyncGenerator<TreeEntry, void> {
  for await (const stat of tree.walk("")) {
    const path = toByteString(stat.path);
    if (path !== "") yield { path, stat };
  }
}

/** All that several trees are as one, the top-most first, and where each is from. One tree is what it is; only of several, some hide what others have. */
export async function* layeredEntries<T extends FileTree>(
  layers: readonly T[],
): AsyncGenerator<TreeEntry & { readonly tree: T; readonly layer: number }, void> {
  const [only, ...more] = layers;
  if (only === undefined) return;
  if (more.length === 0) for await (const entry of treeEntries(only)) yield { ...entry, tree: only, layer: 0 };
  else for await (const { path, stat, layer } of walkUnion(layers)) yield { path, stat, tree: layers[layer]!, layer };
}

/** The next entry that is not below `path`. */
async function skipBelow<E extends TreeEntry>(walk: AsyncIterator<E>, path: ByteString): Promise<IteratorResult<E, unknown>> {
  let next = await walk.next();
  while (next.done !== true && next.value.path.startsWith(`${path}/`)) next = await walk.next();
  return next;
}

/** What `docker diff` prints: each change, and every directory above one as modified; sorted by path. */
export async function listChanges(changes: AsyncIterable<TreeChange>): Promise<Change[]> {
  const kinds = new Map<ByteString, Change["kind"]>();
  const add = (path: ByteString, kind: Change["kind"]) => {
    kinds.set(path, kind);
    for (let above = parentOf(path); above !== "" && !kinds.has(above); above = parentOf(above)) kinds.set(above, "modify");
  };
  for await (const change of changes) {
    if (change.kind !== "same" && change.kind !== "opaque") add(change.path, change.kind);
  }
  return [...kinds].sort(([a], [b]) => compareWalkOrder(a, b)).map(([path, kind]) => ({ kind, path: `/${Buffer.from(path, "latin1").toString("utf8")}` }));
}

/**
 * The changes as a layer's entries. Directories come before what has changed in them, with their owner and mode. `tree` is the snapshot's, for what has no tree of its own.
 */
export async function* layerEntries(changes: AsyncIterable<TreeChange>, tree: Pick<FileTree, "readFile">): AsyncIterable<TarSource> {
  const open: (TarSource & { kind: "entry" })[] = [];
  for await (const change of changes) {
    const { path } = change;
    if (change.kind === "opaque") {
      yield { kind: "opaque", path, mtimeNs: change.mtimeNs };
      continue;
    }
    while (open.length > 0 && !path.startsWith(`${open.at(-1)!.path}/`)) open.pop();
    if (change.kind === "same") {
      if (change.stat.type !== "dir") continue;
      open.push({ kind: "entry", path, stat: change.stat, tree: change.tree ?? tree });
      continue;
    }
    yield* open.splice(0);
    if (change.kind === "delete" && change.implied === true) continue;
    yield change.kind === "delete"
      ? { kind: "whiteout", path, mtimeNs: change.mtimeNs }
      : { kind: "entry", path, stat: change.stat, tree: change.tree ?? tree };
  }
}

function isSameDirectory(a: TreeStat, b: TreeStat): boolean {
  return a.type === "dir" && b.type === "dir" && sameMeta(a, b) && a.mtimeNs === b.mtimeNs;
}

/** By what a directory says of it, as docker's naive diff compares. */
export function isSameFile(a: TreeStat, b: TreeStat): boolean {
  return (
    a.type === b.type &&
    sameMeta(a, b) &&
    a.mtimeNs === b.mtimeNs &&
    a.size === b.size &&
    a.major === b.major &&
    a.minor === b.minor &&
    sameBytes(a.target, b.target)
  );
}

function sameMeta(a: TreeStat, b: TreeStat): boolean {
  return a.mode === b.mode && a.uid === b.uid && a.gid === b.gid && xattrKey(a) === xattrKey(b);
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && Buffer.compare(a, b) === 0);
}

function xattrKey({ xattrs }: TreeStat): string {
  if (xattrs.length === 0) return "";
  return xattrs
    .filter(({ name }) => !isOverlayXattr(name))
    .map(({ name, value }) => `${name}=${Buffer.from(value).toString("hex")}`)
    .sort()
    .join(";");
}
