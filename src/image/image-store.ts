import { join } from "node:path";
import type { Readable } from "node:stream";
import type { ContentStore } from "#content/mod.ts";
import { nowNs, rfc3339Nano } from "#core/clock.ts";
import type { ChainID, ImageID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { ImageConfigJson } from "#core/image-spec.ts";
import { familiarString, formatReference, parseAnyReference, withDefaultTag } from "#core/reference.ts";
import type { LayerStore } from "#unionfs/mod.ts";
import type { LayerThreads } from "#unionfs/threads/layer-threads.ts";
import { decompress } from "#unionfs/tar/decompress.ts";
import type { ArchiveImage } from "./archive/archive-image.ts";
import { applyLayers, type LoadTarget, readArchive } from "./archive/load.ts";
import { Receiving } from "./archive/receiving.ts";
import { saveArchive } from "./archive/save.ts";
import { spoolArchive } from "./archive/spool.ts";
import { parseImageConfig } from "./image-config.ts";
import { ImageCatalog, type Log, messageOf, newTag, setTags } from "./image-catalog.ts";
import { ImageDatabase } from "./image-database.ts";
import type { DeleteResult, Image, ImageStore, LoadEvent, Origin, ReceivedImage } from "./mod.ts";
import { parsePlatform } from "./platform.ts";
import { pruneImages } from "./prune-images.ts";
import { DraftIndex, removeImage } from "./remove-image.ts";
import { selectToSave } from "./select-to-save.ts";

export interface ImageStoreOptions {
  /** The data root; the store's own files lie in `image/` below it. */
  readonly root: string;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly log: Log;
  /** They take in the layers of archives; without them the caller's thread does. */
  readonly threads?: LayerThreads;
}

/** Opens the images of a data root: each is read once, when it or all of them are asked for, and answered from memory afterwards. */
export async function openImageStore({ root, content, layers, log, threads }: ImageStoreOptions): Promise<ImageStore> {
  const directory = join(root, "image");
  const catalog = new ImageCatalog(await ImageDatabase.open(directory), content, layers, log);
  const receiving = await Receiving.open(join(directory, "ingest"));
  return new FileImageStore(catalog, receiving, { layers, threads }, log);
}

class FileImageStore implements ImageStore {
  readonly #catalog: ImageCatalog;
  readonly #receiving: Receiving;
  readonly #layers: LayerStore;
  readonly #threads: LayerThreads | undefined;
  readonly #log: Log;
  /** Layers that loads in progress count on. */
  readonly #expected = new Map<symbol, readonly ChainID[]>();
  #pruning: Promise<void> = Promise.resolve();
  readonly #keepers: (() => Iterable<ChainID>)[] = [];

  constructor(catalog: ImageCatalog, receiving: Receiving, { layers, threads }: LoadTarget, log: Log) {
    this.#catalog = catalog;
    this.#receiving = receiving;
    this.#layers = layers;
    this.#threads = threads;
    this.#log = log;
  }

  async get(nameOrId: string): Promise<Image> {
    const image = await this.find(nameOrId);
    if (image === undefined) throw noSuchImage(nameOrId);
    return image;
  }

  async find(nameOrId: string): Promise<Image | undefined> {
    if (!this.#catalog.isLoaded) await this.#catalog.prepare(nameOrId);
    return this.#catalog.find(nameOrId);
  }

  async list(): Promise<Image[]> {
    await this.#catalog.load();
    return this.#catalog.list();
  }

  relations(): Pick<Image, "id" | "parent" | "repoTags" | "repoDigests">[] {
    return this.#catalog.relations();
  }

  async damaged(): Promise<readonly { readonly id: ImageID; readonly why: string }[]> {
    await this.#catalog.load();
    return this.#catalog.damaged();
  }

  async elsewhere(): Promise<readonly ImageID[]> {
    await this.#catalog.load();
    return this.#catalog.elsewhere();
  }

  async tag(id: ImageID, name: string): Promise<void> {
    const reference = newTag(name);
    await this.#catalog.change((draft) => {
      if (!draft.images.has(id)) throw noSuchImage(id);
      setTags(draft, id, [reference]);
    });
  }

  async remove(nameOrId: string, { force, prune, inUse }: Parameters<ImageStore["remove"]>[1]): Promise<DeleteResult[]> {
    // How many images have a layer is known when all have been read.
    await this.#catalog.load();
    const results = await this.#catalog.change((draft) => {
      const id = this.#catalog.lookup(nameOrId);
      if (id === undefined) throw noSuchImage(nameOrId);
      const chainsOf = (image: ImageID) => this.#catalog.chainsOf(image);
      const usesOf = (chain: ChainID) => this.#catalog.usesOf(chain);
      return removeImage(id, nameOrId, { draft, index: new DraftIndex(draft), chainsOf, usesOf, inUse, force, prune });
    });
    if (results.some((result) => "Deleted" in result)) await this.#dispose();
    return results;
  }

  async prune({ all, used, match }: Parameters<ImageStore["prune"]>[0]): Promise<{ readonly deleted: DeleteResult[]; readonly bytes: number }> {
    const images = await this.list();
    const deleted = await this.#catalog.change((draft) => pruneImages({ draft, images, all, used, match, usesOf: (chain) => this.#catalog.usesOf(chain) }));
    if (deleted.length === 0) return { deleted, bytes: 0 };
    const sizes = new Map<string, number>(images.flatMap((image) => image.chainIds.map((chain, i) => [chain, image.layerSizes[i] ?? 0] as const)));
    const bytes = deleted.reduce((sum, result) => sum + ("Deleted" in result ? (sizes.get(result.Deleted) ?? 0) : 0), 0);
    await this.#dispose();
    return { deleted, bytes };
  }

  async load(
    archive: AsyncIterable<Uint8Array>,
    onEvent: (event: LoadEvent) => void,
    signal?: AbortSignal,
    makeRoom?: (bytes: number) => Promise<void>,
  ): Promise<void> {
    await using spool = await this.#receiving.begin();
    const images = await readArchive(await spoolArchive(archive, spool.directory, signal));
    const chains = images.flatMap((image) => image.config.chainIds);
    await this.#holding(chains, async () => {
      await makeRoom?.(await this.#newBytes(images));
      for (const image of images) await applyLayers(image, { layers: this.#layers, threads: this.#threads }, onEvent, signal);
      // Before the disk is waited for: what has no name any more need not be written.
      await spool[Symbol.asyncDispose]();
      const before = new Map(images.flatMap(({ names }) => names).map((name) => [name, this.#catalog.lookup(formatReference(name))]));
      await this.#catalog.register(images);
      for (const { config, names } of images) {
        const { id } = config;
        if (names.length === 0) onEvent({ kind: "loaded", reference: undefined, id });
        for (const name of names) {
          const replaced = before.get(name);
          onEvent({ kind: "loaded", reference: familiarString(name), id, ...(replaced === undefined || replaced === id ? {} : { replaced }) });
        }
      }
    });
  }

  /** What the layers that are not here yet take in the archive. */
  async #newBytes(images: readonly ArchiveImage[]): Promise<number> {
    const bytes = new Map<ChainID, number>();
    for (const { config, layers } of images) {
      for (const [i, chain] of config.chainIds.entries()) if (!(await this.#layers.has(chain))) bytes.set(chain, layers[i]?.size ?? 0);
    }
    return [...bytes.values()].reduce((sum, size) => sum + size, 0);
  }

  async import(tar: AsyncIterable<Uint8Array>, options: Parameters<ImageStore["import"]>[1]): Promise<ImageID> {
    const names = options.reference === undefined ? [] : [newTag(options.reference)];
    const platform = parsePlatform(options.platform ?? "");
    return this.#holding([], async () => {
      const { diffId } = await this.#layers.apply(undefined, decompress(tar), options.signal === undefined ? {} : { signal: options.signal });
      const created = options.created ?? rfc3339Nano(nowNs());
      const comment = options.message ?? "Imported from -";
      const json: ImageConfigJson = {
        ...platform,
        created,
        ...(comment === "" ? {} : { comment }),
        config: options.changes ?? {},
        rootfs: { type: "layers", diff_ids: [diffId] },
        history: [{ created, ...(options.createdBy === undefined ? {} : { created_by: options.createdBy }), ...(comment === "" ? {} : { comment }) }],
      };
      const config = parseImageConfig(Buffer.from(JSON.stringify(json)));
      await this.#catalog.register([{ config, names, parent: undefined }]);
      return config.id;
    });
  }

  async save(namesOrIds: readonly string[]): Promise<Readable> {
    await this.#catalog.load();
    return saveArchive(selectToSave(this.#catalog, namesOrIds), this.#layers, this.#threads);
  }

  async saveConfig(rawConfig: Uint8Array, names: readonly string[]): Promise<Readable> {
    return saveArchive([{ image: parseImageConfig(rawConfig), names: names.map(newTag) }], this.#layers, this.#threads);
  }

  async add(rawConfig: Uint8Array, options: Parameters<ImageStore["add"]>[1] = {}): Promise<Image> {
    const config = parseImageConfig(rawConfig);
    await this.#catalog.register([{ config, names: (options.tags ?? []).map(newTag), parent: options.parent }]);
    return this.#catalog.view(config.id);
  }

  receive({ config, names, manifest }: ReceivedImage, applyLayers: () => Promise<void>): Promise<Image> {
    return this.#holding(config.chainIds, async () => {
      await applyLayers();
      await this.#catalog.register([{ config, names, parent: undefined, manifest }]);
      return this.#catalog.view(config.id);
    });
  }

  origins(id: ImageID): Promise<Origin[]> {
    return this.#catalog.originsOf(id);
  }

  async sweep(): Promise<void> {
    await this.#receiving.sweep();
    await this.#catalog.load();
    await this.#dispose();
  }

  keep(chains: () => Iterable<ChainID>): void {
    this.#keepers.push(chains);
  }

  collect(): Promise<void> {
    return this.#pruneLayers();
  }

  /** Configs and layers that no image needs any more go. */
  async #dispose(): Promise<void> {
    await this.#catalog.dispose();
    await this.#pruneLayers();
  }

  /** One after the other, and never while a load looks which layers are there. */
  #pruneLayers(): Promise<void> {
    this.#pruning = this.#pruning.then(async () => {
      await this.#catalog.load();
      const tips = this.#catalog.tips();
      if (tips === undefined) {
        this.#log("warn", "layers are not pruned: which of them the damaged images need cannot be told");
        return;
      }
      try {
        const kept = this.#keepers.flatMap((chains) => [...chains()]);
        await this.#layers.prune(new Set([...tips, ...kept, ...[...this.#expected.values()].flat()]));
      } catch (error) {
        // What was asked for (a removal, say) is done; the next pruning tries again.
        this.#log("warn", `layers could not be pruned: ${messageOf(error)}`);
      }
    });
    return this.#pruning;
  }

  /** Runs what applies layers: they are kept until it has recorded the image they are for, and go when it fails. */
  async #holding<T>(chains: readonly ChainID[], work: () => Promise<T>): Promise<T> {
    const lease = Symbol("layers");
    this.#expected.set(lease, chains);
    await this.#pruning;
    const hold = this.#layers.hold();
    let done = false;
    try {
      const result = await work();
      done = true;
      return result;
    } finally {
      hold.release();
      this.#expected.delete(lease);
      if (!done) await this.#pruneLayers();
    }
  }
}

function noSuchImage(nameOrId: string): EngineError {
  const asked = parseAnyReference(nameOrId);
  return new EngineError("not-found", `No such image: ${typeof asked === "string" ? asked : familiarString(withDefaultTag(asked))}`);
}
