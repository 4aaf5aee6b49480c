import type { FileTree, TreeStat } from "#linux/file-tree.ts";
import { baseOf, type ByteString, compareWalkOrder, toByteString } from "./bytes.ts";
import { isOpaque, isWhiteout, opaqueMarker } from "./overlay-format.ts";

/** An entry of a union, and which of its layers (0 = top-most) it is from. `path` is that within the union. */
export interface UnionEntry {
  readonly path: ByteString;
  readonly stat: TreeStat;
  readonly layer: number;
}

/** Below `path`, layers beyond `last` do not show. */
interface Barrier {
  readonly path: ByteString;
  readonly last: number;
}

/**
 * Walks the union of some directories as overlayfs would show it, without a mount: one walk for each layer side by side, joined in their common order. A layer's whiteout, opaque directory
 * or file hides what the layers under it have there. The root directory itself is not among the entries.
 * @param layers one open tree for each layer, top-most first, rooted at the layer's directory
 */
export async function* walkUnion(layers: readonly FileTree[]): AsyncIterable<UnionEntry> {
  const walks = layers.map((tree) => tree.walk("")[Symbol.asyncIterator]());
  const heads = await Promise.all(walks.map((walk) => nextEntry(walk)));
  const barriers: Barrier[] = [];
  try {
    for (;;) {
      const path = smallest(heads);
      if (path === undefined) return;
      while (barriers.length > 0 && !isBelow(path, barriers.at(-1)!.path)) barriers.pop();
      const visibleTo = barriers.reduce((last, barrier) => Math.min(last, barrier.last), layers.length - 1);
      const { entry, hidesFrom } = merge(heads, path, visibleTo);
      if (hidesFrom !== undefined) barriers.push({ path, last: hidesFrom });
      if (entry !== undefined) yield entry;
      await Promise.all(
        heads.map(async (head, layer) => {
          if (head?.path === path) heads[layer] = await nextEntry(walks[layer]!);
        }),
      );
    }
  } finally {
    await Promise.all(walks.map((walk) => walk.return?.()));
  }
}

/** What the layers up to `visibleTo` make of a path, and the last layer that shows below it where that is not all of them. */
function merge(heads: readonly (Head | undefined)[], path: ByteString, visibleTo: number): { entry: UnionEntry | undefined; hidesFrom: number | undefined } {
  let entry: UnionEntry | undefined;
  for (let layer = 0; layer <= visibleTo; layer++) {
    const head = heads[layer];
    if (head?.path !== path) continue;
    const { stat } = head;
    if (stat.type !== "dir") {
      // Under a directory, what is no directory ends the union; on top, it is all there is.
      if (entry !== undefined) return { entry, hidesFrom: layer - 1 };
      return { entry: isWhiteout(stat) ? undefined : { path, stat, layer }, hidesFrom: layer };
    }
    entry ??= { path, stat, layer };
    if (isOpaque(stat)) return { entry, hidesFrom: layer };
  }
  return { entry, hidesFrom: undefined };
}

interface Head {
  readonly path: ByteString;
  readonly stat: TreeStat;
}

async function nextEntry(walk: AsyncIterator<TreeStat>): Promise<Head | undefined> {
  for (let next = await walk.next(); next.done !== true; next = await walk.next()) {
    const path = toByteString(next.value.path);
    if (path !== "" && baseOf(path) !== opaqueMarker) return { path, stat: next.value };
  }
  return undefined;
}

function smallest(heads: readonly (Head | undefined)[]): ByteString | undefined {
  let path: ByteString | undefined;
  for (const head of heads) if (head !== undefined && (path === undefined || compareWalkOrder(head.path, path) < 0)) path = head.path;
  return path;
}

function isBelow(path: ByteString, directory: ByteString): boolean {
  return path.startsWith(`${directory}/`);
}
