import type { ContentStore } from "#content/mod.ts";
import { allDone } from "#core/all-done.ts";
import { nowNs } from "#core/clock.ts";
import type { BlobDigest, ChainID, Digest, ImageID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { familiarString, formatReference, parseAnyReference, parseReference, type Reference, withDefaultTag } from "#core/reference.ts";
import { Slots } from "#core/slots.ts";
import type { LayerStore } from "#unionfs/mod.ts";
import { type ParsedConfig, parseImageConfig } from "./image-config.ts";
import type { ImageDatabase, ImageDraft, ImageOrigin, ImageState } from "./image-database.ts";
import type { Image, Origin } from "./mod.ts";
import { DraftIndex } from "./remove-image.ts";

export type Log = (level: "debug" | "info" | "warn" | "error", message: string) => void;

/** A config with the sizes of its layers: what does not change while the image exists. */
type Loaded = ParsedConfig & Pick<Image, "chainId" | "layerSizes" | "size">;

/** An image that is to be recorded. */
export interface Registration {
  readonly config: ParsedConfig;
  /** With tags or digests. */
  readonly names: readonly Reference[];
  readonly parent: ImageID | undefined;
  readonly manifest?: ReceivedManifest;
}

/** The manifest that a registry has for an image, as it came or went. */
export interface ReceivedManifest {
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  readonly mediaType: string;
  /** Normalized, without tag. */
  readonly repository: string;
}

/** An image is remembered by so many manifests, and each by so many repositories. */
const maxOrigins = 8;
const maxRepositories = 16;

/** Configs that are read at once. */
const readTogether = 16;
/** Blobs that are written at once. */
const writesAtOnce = 8;

/** Names that {@link ImageCatalog.find} has answered for are remembered, up to so many. */
const maxRemembered = 1000;

/** The images there are, in memory as on disk: names and parents in the database, configs in the content store. */
export class ImageCatalog {
  readonly #database: ImageDatabase;
  readonly #content: ContentStore;
  readonly #layers: LayerStore;
  readonly #log: Log;
  readonly #loaded = new Map<ImageID, Loaded>();
  /** Images by layer, counted over {@link #loaded}. */
  readonly #uses = new Map<ChainID, number>();
  /** Names by image; of the database's state {@link #indexed}. */
  #index = new DraftIndex({ images: new Map(), references: new Map(), pending: new Set() });
  #indexed: ImageState | undefined;
  /** Images whose config or layers cannot be read, and why. */
  readonly #damaged = new Map<ImageID, unknown>();
  /** Images of another storage driver: not there, for whoever asks, but nothing of theirs goes. */
  readonly #elsewhere = new Set<ImageID>();
  /** Views by image, and by the names that were asked for; valid until the next change. */
  readonly #views = new Map<ImageID, Image>();
  readonly #remembered = new Map<string, Image>();
  #changes: Promise<unknown> = Promise.resolve();
  /** Images whose config is being read. */
  readonly #reading = new Map<ImageID, Promise<void>>();
  #isLoaded = false;
  #loading: Promise<void> | undefined;

  constructor(database: ImageDatabase, content: ContentStore, layers: LayerStore, log: Log) {
    this.#database = database;
    this.#content = content;
    this.#layers = layers;
    this.#log = log;
  }

  /**
   * Reads all configs, a few at a time, so that others are served in between; resolves when all of them are there, and never rejects. Until then {@link find}, {@link list}, {@link damaged} and {@link usesOf} know
   * only what has been read, and {@link tips} nothing.
   */
  load(): Promise<void> {
    this.#loading ??= this.#load();
    return this.#loading;
  }

  async #load(): Promise<void> {
    const ids = [...this.#database.state.images.keys()];
    for (let at = 0; at < ids.length; at += readTogether) {
      await Promise.all(ids.slice(at, at + readTogether).map((id) => this.#need(id)));
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#isLoaded = true;
  }

  /** Before {@link find}, unless all are loaded: reads the image that is asked for, when that has not been done. */
  async prepare(nameOrId: string): Promise<void> {
    const id = this.#recorded(nameOrId);
    if (id !== undefined) await this.#need(id);
  }

  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  #need(id: ImageID): Promise<void> {
    // Removed meanwhile, or read already.
    if (!this.#database.state.images.has(id) || this.#loaded.has(id) || this.#damaged.has(id) || this.#elsewhere.has(id)) return Promise.resolve();
    const known = this.#reading.get(id);
    if (known !== undefined) return known;
    const reading = this.#read(id).finally(() => this.#reading.delete(id));
    this.#reading.set(id, reading);
    return reading;
  }

  find(nameOrId: string): Image | undefined {
    const remembered = this.#remembered.get(nameOrId);
    if (remembered !== undefined) return remembered;
    const id = this.lookup(nameOrId);
    if (id === undefined) return undefined;
    const image = this.view(id);
    if (this.#remembered.size >= maxRemembered) this.#remembered.clear();
    this.#remembered.set(nameOrId, image);
    return image;
  }

  /** The image that a name, an id or the beginning of one means. EngineError invalid when it can be none of them. */
  lookup(nameOrId: string): ImageID | undefined {
    const id = this.#recorded(nameOrId);
    return id !== undefined && this.#elsewhere.has(id) ? undefined : id;
  }

  #recorded(nameOrId: string): ImageID | undefined {
    const { images, references } = this.#database.state;
    const asked = parseAnyReference(nameOrId);
    if (typeof asked === "string") return images.has(asked) ? asked : undefined;
    const name = withDefaultTag(asked);
    // A name with tag and digest is looked up by its digest: the tag may have moved.
    const named = references.get(formatReference(name.digest === undefined ? name : { ...name, tag: undefined }));
    if (named !== undefined) return named;
    const prefix = nameOrId.replace(/^sha256:/, "");
    if (!/^[0-9a-f]+$/.test(prefix)) return undefined;
    const matches = [...images.keys()].filter((id) => id.startsWith(prefix, 7));
    return matches.length === 1 ? matches[0] : undefined;
  }

  /** What registries have an image as, the latest first. Manifests that cannot be read are left out. */
  async originsOf(id: ImageID): Promise<Origin[]> {
    const origins: Origin[] = [];
    for (const { manifest, mediaType, repositories } of this.#database.state.images.get(id)?.origins ?? []) {
      try {
        origins.push({ digest: manifest, mediaType, repositories, bytes: await this.#content.read(manifest) });
      } catch (error) {
        this.#log("warn", `the manifest ${manifest} of image ${id} cannot be read: ${messageOf(error)}`);
      }
    }
    return origins;
  }

  view(id: ImageID): Image {
    const known = this.#views.get(id);
    if (known !== undefined) return known;
    const loaded = this.#loaded.get(id);
    const record = this.#database.state.images.get(id);
    if (record === undefined) throw new EngineError("not-found", `No such image: ${id}`);
    if (loaded === undefined) {
      const cause = this.#damaged.get(id);
      throw new EngineError("storage", `image ${id} is damaged: ${messageOf(cause)}`, { cause, hint: "remove it and load it again" });
    }
    const view: Image = {
      ...loaded,
      ...this.#namesOf(id),
      lastTaggedNs: BigInt(record.lastTaggedNs),
      parent: record.parent,
    };
    this.#views.set(id, view);
    return view;
  }

  /** All images that can be read. One that is being removed has lost its record before what was read of it. */
  list(): Image[] {
    const { images } = this.#database.state;
    return [...this.#loaded.keys()].filter((id) => images.has(id)).map((id) => this.view(id));
  }

  /** Names and parents of all images, also of those that have not been read yet. */
  relations(): Pick<Image, "id" | "parent" | "repoTags" | "repoDigests">[] {
    const here = [...this.#database.state.images].filter(([id]) => !this.#elsewhere.has(id));
    return here.map(([id, { parent }]) => ({ id, parent, ...this.#namesOf(id) }));
  }

  #namesOf(id: ImageID): Pick<Image, "repoTags" | "repoDigests"> {
    const names = this.#currentIndex().namesOf(id);
    return {
      repoTags: names.filter((name) => name.digest === undefined).map(familiarString),
      repoDigests: names.filter((name) => name.digest !== undefined).map(familiarString),
    };
  }

  /** Images that cannot be read, and why. */
  damaged(): { readonly id: ImageID; readonly why: string }[] {
    return Array.from(this.#damaged, ([id, error]) => ({ id, why: messageOf(error) }));
  }

  /** Images whose layers another storage driver has. */
  elsewhere(): readonly ImageID[] {
    return [...this.#elsewhere];
  }

  /** Chain of an image, bottom first; [] when its config cannot be read. */
  chainsOf(id: ImageID): readonly ChainID[] {
    return this.#loaded.get(id)?.chainIds ?? [];
  }

  /** How many images have a layer. */
  usesOf(chain: ChainID): number {
    return this.#uses.get(chain) ?? 0;
  }

  #currentIndex(): DraftIndex {
    const { state } = this.#database;
    if (this.#indexed !== state) {
      this.#index = new DraftIndex(state);
      this.#indexed = state;
    }
    return this.#index;
  }

  #setLoaded(id: ImageID, loaded: Loaded | undefined): void {
    for (const chain of this.#loaded.get(id)?.chainIds ?? []) this.#uses.set(chain, this.usesOf(chain) - 1);
    for (const chain of loaded?.chainIds ?? []) this.#uses.set(chain, this.usesOf(chain) + 1);
    if (loaded === undefined) this.#loaded.delete(id);
    else this.#loaded.set(id, loaded);
  }

  /** Tips of all images' chains; undefined when damaged images, or such that have not been read, keep that from being known. */
  tips(): ChainID[] | undefined {
    if (!this.#isLoaded || this.#damaged.size > 0) return undefined;
    return [...this.#loaded.values()].flatMap(({ chainId }) => (chainId === undefined ? [] : [chainId]));
  }

  /** Tags of a repository, sorted. */
  tagsOf({ domain, path }: Reference): { readonly id: ImageID; readonly name: Reference }[] {
    return [...this.#database.state.references]
      .map(([text, id]) => ({ id, name: parseReference(text) }))
      .filter(({ name }) => name.domain === domain && name.path === path && name.digest === undefined)
      .sort((a, b) => (formatReference(a.name) < formatReference(b.name) ? -1 : 1));
  }

  /** Edits names and images; all of it is stored, or nothing when `edit` throws. */
  change<T>(edit: (draft: ImageDraft) => T): Promise<T> {
    return this.#serially(() => this.#database.update(edit));
  }

  /** Records images, all of them or none. */
  register(images: readonly Registration[]): Promise<void> {
    return this.#serially(async () => {
      await this.load();
      for (const { config } of images) await this.#checkLayers(config);
      const added = images.filter(({ config }) => !this.#loaded.has(config.id));
      try {
        // Beside each other: most of it is to wait for the disk.
        await allDone([this.#layers.sync(), this.#writeBlobs(added, images)]);
        // Who asks sees an image from the moment on that it is recorded: then it must have been read.
        for (const { config } of added) await this.#read(config.id);
        await this.#database.update((draft) => {
          for (const image of images) record(draft, image);
        });
      } catch (error) {
        // They stay pending on disk, for the sweep, when this fails as well.
        await this.#removePending().catch((again: unknown) => this.#log("warn", `cleaning up after a failure: ${messageOf(again)}`));
        throw error;
      }
    });
  }

  /** Writes what describes images: the configs of those that are new, and all manifests. */
  async #writeBlobs(added: readonly Registration[], images: readonly Registration[]): Promise<void> {
    const blobs = [
      ...added.map(({ config }) => ({ bytes: config.rawConfig, digest: asBlob(config.id) })),
      ...images.flatMap(({ manifest }) => (manifest === undefined ? [] : [manifest])),
    ];
    if (blobs.length === 0) return;
    await this.#database.update((draft) => {
      for (const { config } of added) draft.pending.add(config.id);
      for (const { manifest } of images) if (manifest !== undefined) draft.pending.add(manifest.digest);
    });
    const writes = new Slots(writesAtOnce);
    await allDone(blobs.map(({ bytes, digest }) => writes.run(() => this.#content.write(bytes, digest))));
  }

  /** Configs of what is an image no longer, or has not become one, go. */
  dispose(): Promise<void> {
    return this.#serially(() => this.#removePending());
  }

  /** Changes do not overlap; views are made anew after each. */
  #serially<T>(work: () => Promise<T>): Promise<T> {
    const change = this.#changes.then(work).finally(() => {
      this.#views.clear();
      this.#remembered.clear();
    });
    this.#changes = change.catch(() => undefined);
    return change;
  }

  async #removePending(): Promise<void> {
    const { pending, images } = this.#database.state;
    const manifests = new Set([...images.values()].flatMap(({ origins = [] }) => origins.map(({ manifest }) => manifest)));
    for (const id of pending) {
      if (images.has(id) || manifests.has(id)) continue;
      this.#setLoaded(id, undefined);
      this.#damaged.delete(id);
      await this.#content.remove(asBlob(id));
    }
    if (pending.size > 0) await this.#database.update((draft) => draft.pending.clear());
  }

  async #checkLayers({ id, chainIds }: ParsedConfig): Promise<void> {
    for (const chain of chainIds)
      if (!(await this.#layers.has(chain))) throw new EngineError("not-found", `image ${id} has the layer ${chain}, which is not here`);
  }

  /** Its layers are not all here, and those that are not, another driver has. */
  async #isElsewhere({ chainIds }: ParsedConfig): Promise<boolean> {
    let missing = 0;
    for (const chain of chainIds) {
      if (await this.#layers.has(chain)) continue;
      if (!(await this.#layers.elsewhere(chain))) return false;
      missing++;
    }
    return missing > 0;
  }

  /** Reads an image's config into memory; one that is damaged is remembered as such. */
  async #read(id: ImageID): Promise<void> {
    try {
      const config = parseImageConfig(await this.#content.read(asBlob(id)));
      if (await this.#isElsewhere(config)) {
        this.#elsewhere.add(id);
        return;
      }
      await this.#checkLayers(config);
      const layerSizes = await Promise.all(config.chainIds.map((chain) => this.#layers.size(chain)));
      this.#setLoaded(id, { ...config, chainId: config.chainIds.at(-1), layerSizes, size: layerSizes.reduce((a, b) => a + b, 0) });
      this.#damaged.delete(id);
      this.#elsewhere.delete(id);
    } catch (error) {
      this.#setLoaded(id, undefined);
      this.#damaged.set(id, error);
      this.#log("error", `image ${id} is damaged: ${messageOf(error)}`);
    }
  }
}

/** A name that an image may be given. */
export function newTag(text: string): Reference {
  const name = withDefaultTag(parseReference(text));
  if (name.digest !== undefined) throw new EngineError("invalid", "refusing to create a tag with a digest reference");
  if (name.domain === "docker.io" && name.path === "library/sha256") {
    throw new EngineError("invalid", "refusing to create an ambiguous tag using digest algorithm as name");
  }
  return name;
}

export function setTags(draft: ImageDraft, id: ImageID, names: readonly Reference[]): void {
  if (names.length === 0) return;
  for (const name of names) draft.references.set(formatReference(name), id);
  draft.images.set(id, { ...draft.images.get(id), lastTaggedNs: String(nowNs()) });
}

function record(draft: ImageDraft, { config: { id }, names, parent, manifest }: Registration): void {
  const known = parent !== undefined && parent !== id && draft.images.has(parent) ? { parent } : {};
  const before = draft.images.get(id);
  const origins = manifest === undefined ? before?.origins : withOrigin(before?.origins ?? [], manifest);
  draft.images.set(id, { lastTaggedNs: "0", ...before, ...known, ...(origins === undefined ? {} : { origins }) });
  draft.pending.delete(id);
  // Those that are forgotten go with the next sweep.
  for (const origin of before?.origins ?? []) if (!origins?.some(({ manifest: kept }) => kept === origin.manifest)) draft.pending.add(origin.manifest);
  if (manifest !== undefined) draft.pending.delete(manifest.digest);
  for (const name of names) if (name.digest !== undefined) draft.references.set(formatReference(name), id);
  setTags(
    draft,
    id,
    names.filter((name) => name.digest === undefined),
  );
}

function withOrigin(origins: readonly ImageOrigin[], { digest, mediaType, repository }: ReceivedManifest): ImageOrigin[] {
  const same = origins.find(({ manifest }) => manifest === digest);
  const repositories = [repository, ...(same?.repositories ?? []).filter((other) => other !== repository)].slice(0, maxRepositories);
  return [{ manifest: digest, mediaType, repositories }, ...origins.filter((origin) => origin !== same)].slice(0, maxOrigins);
}

/** A config is a blob of the same digest. */
function asBlob(id: Digest): BlobDigest {
  return id;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
