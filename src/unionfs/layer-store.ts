import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { Readable } from "node:stream";
import { type ChainID, chainOf, type DiffID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { FileTree } from "#linux/file-tree.ts";
import type { Helper } from "#linux/helper.ts";
import type { AppliedTar } from "./apply.ts";
import { isArchiveFile, piecesOf } from "./archive-file.ts";
import { type ByteString, toByteString } from "./bytes.ts";
import { commitLayer } from "./commit-layer.ts";
import { ErofsReceiver } from "./erofs/receiver.ts";
import { type LayerRecord, LayerRecords } from "./layer-records.ts";
import { type LayerSource, readArchive, rebuildTar } from "./layer-tar.ts";
import type { Change, LayerInput, LayerStore, RootMount, StorageDriver } from "./mod.ts";
import { takeIntoImage, takeIntoTree } from "./take-layer.ts";
import { clampTimes } from "./tar/clamp-times.ts";
import { TarIndexWriter } from "./tar-index.ts";
import { comparedChanges, layeredEntries, layerEntries, listChanges, type TreeChange, treeEntries, upperChanges } from "./tree-changes.ts";
import { directoriesOf, hasImages, openCommonTree, openLayers, openRoot, openUnion, topLayer } from "./trees.ts";
import { UnionView } from "./union-view.ts";
import { walkUnion } from "./union-walk.ts";
import { type TarSource, tarPieces, writeTar } from "./write-tree.ts";

type ApplyOptions = NonNullable<Parameters<LayerStore["apply"]>[2]>;
type Applied = Awaited<ReturnType<LayerStore["apply"]>>;

/** Opens the layers of a driver. What a crash left between the driver and the records here (a layer that only one of them knows) is removed. */
export async function openLayerStore({
  root,
  driver,
  helper,
}: {
  readonly root: string;
  readonly driver: StorageDriver;
  readonly helper: Helper;
}): Promise<LayerStore> {
  const records = await LayerRecords.open(join(root, "layerdb", driver.name));
  const store = new Layers(driver, helper, records);
  await store.reconcile();
  return store;
}

const applyKeyPrefix = "apply-";

function applyKey(): string {
  return `${applyKeyPrefix}${randomBytes(12).toString("hex")}`;
}

/** The kernel says once that bytes are lost. */
function isLost(error: unknown): error is EngineError {
  return isEngineError(error) && error.details["op"] === "sync";
}

class Layers implements LayerStore {
  readonly driver: StorageDriver;
  readonly #helper: Helper;
  readonly #records: LayerRecords;
  /** Layers that were applied, or found applied, while somebody held them. */
  readonly #held = new Set<ChainID>();
  #holds = 0;
  #changing: Promise<unknown> = Promise.resolve();
  /** Writes back what has been applied while more of the same image is, so that {@link sync} has little left to wait for. */
  #writingBack: Promise<void> = Promise.resolve();
  /** A failure of that, and the layers that it may have cost bytes. */
  #lost: { readonly failure: EngineError; readonly chains: readonly ChainID[] } | undefined;

  constructor(driver: StorageDriver, helper: Helper, records: LayerRecords) {
    this.driver = driver;
    this.#helper = helper;
    this.#records = records;
  }

  async reconcile(): Promise<void> {
    const { layers, active } = await this.driver.list();
    for (const key of active) if (key.startsWith(applyKeyPrefix)) await this.driver.remove(key);
    const known = new Set(layers);
    for (const { chainId } of [...this.#records.all()]) if (!known.has(chainId)) await this.#records.remove(chainId);
    await this.#removeLayers(layers.filter((chain) => this.#records.get(chain) === undefined));
  }

  async apply(parent: ChainID | undefined, tar: LayerInput, options: ApplyOptions = {}): Promise<Applied> {
    // Where a layer is the same whatever it lies on, nothing but what is looked up there waits for it.
    const apart = options.below !== undefined && this.driver.layersApart === true;
    const below = options.below ?? Promise.resolve();
    below.catch(() => undefined); // awaited where nothing has failed before
    if (!apart) await this.#arrived(parent, below);
    const expectedChain = options.expected === undefined ? undefined : chainOf(parent, options.expected);
    if (expectedChain !== undefined && (await this.has(expectedChain))) return this.#readOnly(expectedChain, tar, options);
    const key = applyKey();
    const directory = await this.#records.begin();
    try {
      await this.driver.prepare(key, apart ? undefined : parent);
      await using lower = lazily(() => this.#viewBelow(parent, below));
      const { diffId, size, tarBytes } = await this.#unpack({ key, directory, lower }, tar, options);
      if (options.expected !== undefined && diffId !== options.expected)
        throw new EngineError("corrupt", `layer has the digest ${diffId}, expected ${options.expected}`);
      const record = { chainId: chainOf(parent, diffId), diffId, parent: parent ?? null, size, tarBytes };
      await below;
      await this.#exclusive(() => this.#commit(key, directory, record));
      // Nobody is in the way of a layer's removal when it is a directory like any other.
      if (this.#holds > 0 && this.driver.layersApart === true) this.#writeBack(record.chainId);
      return { diffId, chainId: record.chainId, size };
    } catch (error) {
      await this.driver.remove(key);
      await this.#records.drop(directory);
      throw error;
    }
  }

  async commit(key: string, parent: ChainID | undefined, { keep, latestNs }: Parameters<LayerStore["commit"]>[2]): Promise<Applied> {
    const { driver } = this;
    const where = await driver.changes(key);
    // Only a layer of overlay's form is written as its archive is.
    if (where.kind !== "upper" || driver.layersApart !== true || driver.receive !== undefined || latestNs !== undefined) {
      const diff = this.diff(key);
      const applied = await this.apply(parent, latestNs === undefined ? diff : clampTimes(diff, latestNs));
      if (!keep) await driver.remove(key);
      return applied;
    }
    const taken = keep || driver.layersAreUppers !== true ? undefined : await this.#commitFiles(key, key, parent);
    if (taken !== undefined) return taken;
    const copy = applyKey();
    try {
      await driver.prepare(copy, parent);
      const applied = await this.#commitFiles(key, copy, parent);
      if (!keep) await driver.remove(key);
      return applied!;
    } catch (error) {
      await driver.remove(copy);
      throw error;
    }
  }

  /** Makes a layer of what has changed in the snapshot `from`: of the empty snapshot `to`, or of `from` itself (undefined = it is not as its archive says, and stays as it is). */
  async #commitFiles(from: string, to: string, parent: ChainID | undefined): Promise<Applied | undefined> {
    const directory = await this.#records.begin();
    const index = new TarIndexWriter(join(directory, "tar-index.gz"));
    let differs = false;
    const onDifference = () => {
      differs = true;
    };
    try {
      await using changes = await this.#changes(from, true);
      await using target = from === to ? undefined : closing(await openRoot(this.#helper, (await this.driver.applyTarget(to)).root));
      const pieces = tarPieces(layerEntries(changes.changes, changes.tree), onDifference);
      const { diffId, size, tarBytes } = await commitLayer(
        pieces,
        index,
        target === undefined ? { kind: "taken", onDifference } : { kind: "copy", tree: target.tree },
      );
      await index.finish();
      if (differs && from === to) {
        await this.#records.drop(directory);
        return undefined;
      }
      const record = { chainId: chainOf(parent, diffId), diffId, parent: parent ?? null, size, tarBytes };
      await this.#exclusive(() => this.#commit(to, directory, record));
      return { diffId, chainId: record.chainId, size };
    } catch (error) {
      await index.discard();
      await this.#records.drop(directory);
      throw error;
    }
  }

  async #arrived(parent: ChainID | undefined, below: Promise<unknown>): Promise<void> {
    await below;
    if (parent !== undefined) this.#record(parent);
  }

  async #commit(key: string, directory: string, record: Omit<LayerRecord, "version" | "boot">): Promise<void> {
    const { chainId } = record;
    if (this.#holds > 0) this.#held.add(chainId);
    if (await this.has(chainId)) {
      await this.driver.remove(key);
      await this.#records.drop(directory);
      return;
    }
    await this.driver.commit(key, chainId, record.parent ?? undefined);
    try {
      await this.#records.add(directory, record);
    } catch (error) {
      await this.driver.remove(chainId);
      throw error;
    }
  }

  /** Takes the archive in: a file by a thread, where one has a turn for it and the layer can be filled by paths. */
  async #unpack({ key, directory, lower }: Unpacking, input: LayerInput, { expected, signal, onProgress }: ApplyOptions): Promise<AppliedTar> {
    const look = (path: ByteString) => lower.lookup(path);
    const options = { record: directory, lower: look, expected, signal, onProgress };
    const image = await this.driver.receive?.(key);
    if (image !== undefined) {
      if (isArchiveFile(input) && input.turn !== undefined)
        return input.turn.take(input, { place: async () => ({ kind: "image", ...image }), record: directory, lower: look, expected, signal });
      const receiver = new ErofsReceiver(image);
      if (isArchiveFile(input) && input.plain) return takeIntoImage(receiver, await receiver.adopt(input.file.path), { ...options, verified: input.verified });
      const { pieces, verified } = piecesOf(input, { expected, signal });
      return takeIntoImage(receiver, receiver.keep(pieces), { ...options, verified });
    }
    const { root, whiteouts } = await this.driver.applyTarget(key);
    if (isArchiveFile(input) && input.turn !== undefined && root.kind === "bind" && root.owners === undefined) {
      const place = async () => ({ kind: "tree", worker: await this.#helper.startTree(root.source), directory: root.source, whiteouts }) as const;
      return input.turn.take(input, { place, record: directory, lower: look, expected, signal });
    }
    await using tree = closing(await openRoot(this.#helper, root));
    const { pieces, verified } = piecesOf(input, { expected, signal });
    const target = { tree: tree.tree, directory: root.kind === "bind" ? root.source : await tree.tree.directory(), whiteouts };
    return await takeIntoTree(target, pieces, { ...options, verified });
  }

  /** The chain is here already: only checks that the stream is what it says. */
  async #readOnly(chain: ChainID, input: LayerInput, { expected, signal, onProgress }: ApplyOptions): Promise<Applied> {
    const tar = piecesOf(input, { expected, signal }).pieces;
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of tar) {
      if (signal?.aborted) throw new EngineError("cancelled", "cancelled while reading a layer", { cause: signal.reason });
      hash.update(chunk);
      bytes += chunk.byteLength;
      onProgress?.({ bytes });
    }
    const digest = `sha256:${hash.digest("hex")}`;
    if (digest !== expected) throw new EngineError("corrupt", `layer has the digest ${digest}, expected ${expected}`);
    const record = this.#record(chain);
    if (this.#holds > 0) this.#held.add(chain);
    return { diffId: record.diffId, chainId: chain, size: record.size };
  }

  async source(chain: ChainID): Promise<LayerSource | undefined> {
    const { diffId } = this.#record(chain);
    const archive = this.driver.archive?.(chain);
    if (archive !== undefined) return { diffId, archive };
    const own = topLayer(await this.driver.mounts(chain));
    return own?.kind === "bind" ? { diffId, record: this.#records.directory(chain), directory: own.source } : undefined;
  }

  async tar(chain: ChainID): Promise<Readable> {
    const { diffId } = this.#record(chain);
    const archive = this.driver.archive?.(chain);
    if (archive !== undefined) return Readable.from(readArchive(archive, diffId), { objectMode: false });
    const own = topLayer(await this.driver.mounts(chain));
    if (own === undefined) throw new EngineError("internal", `layer ${chain} has no directory`);
    return Readable.from(this.#rebuild(this.#records.directory(chain), own, diffId), { objectMode: false });
  }

  async *#rebuild(record: string, layer: RootMount, diffId: DiffID): AsyncGenerator<Buffer, void> {
    await using files = closing(await openRoot(this.#helper, layer));
    yield* rebuildTar(record, { directory: await files.tree.directory(), tree: files.tree }, diffId);
  }

  async tarBytes(chain: ChainID): Promise<number> {
    const known = this.#record(chain).tarBytes;
    if (known !== undefined) return known;
    // Of a layer that was applied before this was recorded.
    let bytes = 0;
    for await (const piece of await this.tar(chain)) bytes += (piece as Uint8Array).byteLength;
    return bytes;
  }

  async *diff(key: string): AsyncIterable<Uint8Array> {
    await using changes = await this.#changes(key, true);
    yield* writeTar(layerEntries(changes.changes, changes.tree));
  }

  async changes(key: string): Promise<Change[]> {
    await using changes = await this.#changes(key);
    return await listChanges(changes.changes);
  }

  async *exportTree(key: string, onChanged?: (message: string) => void): AsyncIterable<Uint8Array> {
    await using root = await openLayers(this.#helper, await this.driver.mounts(key));
    yield* writeTar(unionEntries(root.layers), onChanged);
  }

  elsewhere(chain: ChainID): Promise<boolean> {
    return this.#records.elsewhere(chain);
  }

  async has(chain: ChainID): Promise<boolean> {
    return this.#records.get(chain) !== undefined && (await this.driver.has(chain));
  }

  sync(): Promise<void> {
    const done = this.#writingBack.then(() => this.#sync());
    this.#writingBack = done.catch(() => undefined); // told to who has asked
    return done;
  }

  async #sync(): Promise<void> {
    const lost = this.#lost;
    this.#lost = undefined;
    const { unsynced } = this.#records;
    if (lost?.chains.some((chain) => unsynced.has(chain))) throw lost.failure;
    for (let [first] = unsynced; first !== undefined; [first] = unsynced) {
      try {
        return await this.#syncWith(first);
      } catch (error) {
        // A layer that was removed meanwhile leads nowhere any more; another may.
        if (unsynced.has(first) || isLost(error)) throw error;
      }
    }
  }

  /** One after the other: what is applied meanwhile is written by the next. */
  #writeBack(chain: ChainID): void {
    this.#writingBack = this.#writingBack.then(async () => {
      try {
        if (this.#records.unsynced.has(chain)) await this.#syncWith(chain);
      } catch (error) {
        // All else (the layer was removed again, the helper has ended) sync() finds for itself.
        if (isLost(error)) this.#lost = { failure: error, chains: [...this.#records.unsynced] };
      }
    });
  }

  /** Writes back the filesystem that a layer is on, and says of all layers that were there before that they are on disk. */
  async #syncWith(chain: ChainID): Promise<void> {
    const chains = [...this.#records.unsynced];
    // The layers' files and the records may lie on two filesystems.
    const image = this.driver.imageDirectory?.(chain);
    const files = image === undefined ? directoriesOf(await this.driver.mounts(chain)).slice(0, 1) : [image];
    for (const directory of [...files, this.#records.directory(chain)]) {
      await using tree = closing(await this.#helper.openTree(directory));
      await tree.tree.sync();
    }
    await this.#records.markSynced(chains);
  }

  async size(chain: ChainID): Promise<number> {
    return this.#record(chain).size;
  }

  async diffId(chain: ChainID): Promise<DiffID> {
    return this.#record(chain).diffId;
  }

  hold(): { release(): void } {
    this.#holds++;
    let released = false;
    return {
      release: () => {
        if (released) return;
        released = true;
        if (--this.#holds === 0) this.#held.clear();
      },
    };
  }

  prune(needed: ReadonlySet<ChainID>): Promise<number> {
    return this.#exclusive(() => this.#prune(needed));
  }

  async #prune(needed: ReadonlySet<ChainID>): Promise<number> {
    const reached = new Set<ChainID>();
    for (const tip of [...needed, ...this.#held]) {
      for (let chain: ChainID | undefined = tip; chain !== undefined && !reached.has(chain); chain = this.#records.get(chain)?.parent ?? undefined)
        reached.add(chain);
    }
    return this.#removeLayers([...this.#records.all()].map(({ chainId }) => chainId).filter((chain) => !reached.has(chain)));
  }

  /** Removes layers, those on top first; keeps what a layer or snapshot on top still needs. */
  async #removeLayers(chains: readonly ChainID[]): Promise<number> {
    const doomed = new Set(chains);
    const onTop = new Map<ChainID, number>();
    const below = new Map<ChainID, ChainID>();
    for (const chain of doomed) {
      const parent = await this.driver.parent(chain);
      if (parent === undefined || !doomed.has(parent)) continue;
      below.set(chain, parent);
      onTop.set(parent, (onTop.get(parent) ?? 0) + 1);
    }
    const free = chains.filter((chain) => !onTop.has(chain));
    let bytes = 0;
    for (let chain = free.pop(); chain !== undefined; chain = free.pop()) {
      try {
        await this.driver.remove(chain);
      } catch (error) {
        if (!isEngineError(error, "conflict")) throw error;
        continue;
      }
      bytes += this.#records.get(chain)?.size ?? 0;
      await this.#records.remove(chain);
      const parent = below.get(chain);
      const left = parent === undefined ? 0 : (onTop.get(parent) ?? 0) - 1;
      if (parent !== undefined) onTop.set(parent, left);
      if (parent !== undefined && left === 0) free.push(parent);
    }
    return bytes;
  }

  /** One at a time: what changes which layers there are. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#changing.then(work);
    this.#changing = result.catch(() => undefined);
    return result;
  }

  #record(chain: ChainID): LayerRecord {
    const record = this.#records.get(chain);
    if (record === undefined) throw new EngineError("not-found", `layer ${chain} not found`);
    return record;
  }

  async #viewBelow(parent: ChainID | undefined, below: Promise<unknown>): Promise<LowerView | undefined> {
    await this.#arrived(parent, below);
    return this.#viewOf(parent === undefined ? undefined : await this.driver.mounts(parent));
  }

  /** lstat in layers. */
  async #viewOf(lower: RootMount | undefined): Promise<LowerView | undefined> {
    if (lower !== undefined && hasImages(lower)) return viewOf(await openUnion(this.#helper, lower), [""]);
    const directories = directoriesOf(lower);
    if (directories.length === 0) return undefined;
    const { tree, paths } = await openCommonTree(this.#helper, directories);
    return viewOf(
      tree,
      paths.map((path) => toByteString(Buffer.from(path))),
    );
  }

  async #changes(key: string, forLayer = false): Promise<AsyncDisposable & { readonly tree: FileTree; readonly changes: AsyncIterable<TreeChange> }> {
    const where = await this.driver.changes(key);
    if (where.kind === "upper") {
      const walker = await this.#helper.openTree(where.dir);
      const lower = await opened(walker, this.#viewOf(where.lower));
      return {
        tree: walker,
        changes: upperChanges(walker, lower?.view, forLayer),
        [Symbol.asyncDispose]: async () => {
          await walker.close();
          await lower?.[Symbol.asyncDispose]();
        },
      };
    }
    const walker = await openRoot(this.#helper, where.root);
    const old = where.parent === undefined ? undefined : await opened(walker, openLayers(this.#helper, where.parent));
    return {
      tree: walker,
      changes: comparedChanges(treeEntries(walker), old === undefined ? undefined : layeredEntries(old.layers), where.mountPoints),
      [Symbol.asyncDispose]: async () => {
        await walker.close();
        await old?.[Symbol.asyncDispose]();
      },
    };
  }
}

/** A layer that is being unpacked: its snapshot, the directory of its record, and what it lies on. */
interface Unpacking {
  readonly key: string;
  readonly directory: string;
  readonly lower: Pick<UnionView, "lookup">;
}

interface LowerView extends AsyncDisposable {
  readonly lookup: UnionView["lookup"];
  readonly view: UnionView;
}

function viewOf(tree: FileTree, paths: readonly ByteString[]): LowerView {
  const view = new UnionView(tree, paths);
  return { view, lookup: (path) => view.lookup(path), [Symbol.asyncDispose]: () => tree.close() };
}

/** Looks nothing up before it is asked: most archives need nothing of what is below. */
function lazily(open: () => Promise<LowerView | undefined>): Pick<UnionView, "lookup"> & AsyncDisposable {
  let opened: Promise<LowerView | undefined> | undefined;
  return {
    lookup: async (path) => {
      opened ??= open();
      return (await opened)?.lookup(path);
    },
    [Symbol.asyncDispose]: async () => (await opened?.catch(() => undefined))?.[Symbol.asyncDispose](),
  };
}

async function* unionEntries(layers: readonly FileTree[]): AsyncIterable<TarSource> {
  for await (const { path, stat, layer } of walkUnion(layers)) yield { kind: "entry", path, stat, tree: layers[layer]! };
}

/** What is opened beside a tree: when it cannot be, the tree is closed. */
async function opened<T>(beside: FileTree, opening: Promise<T>): Promise<T> {
  try {
    return await opening;
  } catch (error) {
    await beside.close();
    throw error;
  }
}

function closing<T extends FileTree>(tree: T): AsyncDisposable & { readonly tree: T } {
  return { tree, [Symbol.asyncDispose]: () => tree.close() };
}
