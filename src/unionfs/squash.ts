/** Several layers as one. @module */
import type { ChainID } from "#core/digest.ts";
import type { FileTree } from "#linux/file-tree.ts";
import type { Helper } from "#linux/helper.ts";
import { toBytes } from "./bytes.ts";
import type { RootMount, StorageDriver } from "./mod.ts";
import { comparedChanges, isSameFile, layeredEntries, layerEntries } from "./tree-changes.ts";
import { directoriesOf, hasImages, openLayers } from "./trees.ts";
import { writeTar } from "./write-tree.ts";

/**
 * The tar of a layer on `parent` that gives what `chain`, which stands on it, shows. What is the same is told by the layer that a file is from; where a driver's layers are not told apart,
 * by comparing contents too: a time that was set back must not hide a change.
 */
export async function* squashedTar(driver: StorageDriver, helper: Helper, chain: ChainID, parent: ChainID | undefined): AsyncIterable<Uint8Array> {
  const [mount, below] = [await driver.mounts(chain), parent === undefined ? undefined : await driver.mounts(parent)];
  await using now = await openLayers(helper, mount);
  await using before = below === undefined ? undefined : await openLayers(helper, below);
  const own = ownDirectories(mount, below);
  const isSame =
    own === undefined
      ? async (a: LayeredEntry, b: LayeredEntry) => isSameFile(a.stat, b.stat) && (a.stat.type !== "file" || (await sameContent(a, b)))
      : (a: LayeredEntry) => a.layer >= own;
  const changes = comparedChanges(layeredEntries(now.layers), before === undefined ? undefined : layeredEntries(before.layers), undefined, isSame);
  yield* writeTar(layerEntries(changes, now.layers[0]!)); // a chain has a layer
}

type LayeredEntry = ReturnType<typeof layeredEntries<FileTree>> extends AsyncIterable<infer E> ? E : never;

/** How many of the directories of `mount`, the top-most, are not among those of `below`; undefined: that is not to be told. */
function ownDirectories(mount: RootMount, below: RootMount | undefined): number | undefined {
  if (mount.kind === "bind" || hasImages(mount) || hasImages(below)) return undefined;
  const [all, old] = [directoriesOf(mount), directoriesOf(below)];
  const own = all.length - old.length;
  return own >= 0 && old.every((directory, i) => all[own + i] === directory) ? own : undefined;
}

async function sameContent(a: LayeredEntry, b: LayeredEntry): Promise<boolean> {
  const [left, right] = [pieces(a), pieces(b)];
  try {
    let [mine, theirs] = [Buffer.alloc(0), Buffer.alloc(0)];
    for (;;) {
      if (mine.length === 0) mine = Buffer.from((await left.next()).value ?? []);
      if (theirs.length === 0) theirs = Buffer.from((await right.next()).value ?? []);
      const length = Math.min(mine.length, theirs.length);
      if (length === 0) return mine.length === theirs.length;
      if (mine.compare(theirs, 0, length, 0, length) !== 0) return false;
      [mine, theirs] = [mine.subarray(length), theirs.subarray(length)];
    }
  } finally {
    await Promise.all([left.return(undefined), right.return(undefined)]);
  }
}

async function* pieces({ tree, path }: LayeredEntry): AsyncGenerator<Uint8Array, undefined> {
  for await (const piece of (await tree.readFile(toBytes(path))).data) if (piece.byteLength > 0) yield piece;
}
