/**
 * Images: names → configs → layer chains. An {@link Image} is an immutable view.
 * @module
 */
import type { Readable } from "node:stream";
import type { ChainID, DiffID, Digest, ImageID } from "#core/digest.ts";
import type { ImageConfigJson } from "#core/image-spec.ts";
import type { Reference } from "#core/reference.ts";
import type { ParsedConfig } from "./image-config.ts";

export interface Image {
  readonly id: ImageID;
  readonly config: ImageConfigJson;
  /** The config exactly as stored (its sha256 is `id`). */
  readonly rawConfig: Uint8Array;
  readonly diffIds: readonly DiffID[];
  readonly chainIds: readonly ChainID[];
  /** Tip of the chain; undefined for an image without layers. */
  readonly chainId: ChainID | undefined;
  /** Familiar names: `busybox:latest`, `localhost:5000/a/b:v1`. */
  readonly repoTags: readonly string[];
  /** `busybox@sha256:…` */
  readonly repoDigests: readonly string[];
  /** Sum of the layers' sizes, bytes. */
  readonly size: number;
  readonly layerSizes: readonly number[];
  /** When this store last tagged it, ns since 1970; 0n = never. */
  readonly lastTaggedNs: bigint;
  readonly parent: ImageID | undefined;
}

/** A manifest that registries have for an image. */
export interface Origin {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
  /** Normalized names without tag: `docker.io/library/busybox`. */
  readonly repositories: readonly string[];
}

/** An image on its way from a registry. */
export interface ReceivedImage {
  readonly config: ParsedConfig;
  /** With tags or digests. */
  readonly names: readonly Reference[];
  readonly manifest: { readonly bytes: Uint8Array; readonly digest: Digest; readonly mediaType: string; readonly repository: string };
}

/** What `rmi` did, in order, as Docker prints it. */
export type DeleteResult = { readonly Untagged: string } | { readonly Deleted: string };

export type LoadEvent =
  /** Layer progress: Docker's "Loading layer". */
  | { readonly kind: "layer"; readonly id: string; readonly current: number; readonly total: number }
  /** `replaced`: the image that had this name before. */
  | { readonly kind: "loaded"; readonly reference: string | undefined; readonly id: ImageID; readonly replaced?: ImageID };

export interface ImageStore {
  /** By id, unambiguous id prefix (with or without sha256:), or name. EngineError not-found with Docker's text `No such image: X`. */
  get(nameOrId: string): Promise<Image>;
  find(nameOrId: string): Promise<Image | undefined>;
  list(): Promise<Image[]>;
  /** Names and parents of all images, at once: also of those that have not been read since the start, and of damaged ones. */
  relations(): Pick<Image, "id" | "parent" | "repoTags" | "repoDigests">[];
  /** Images that are recorded and cannot be read, and why; {@link list} leaves them out. */
  damaged(): Promise<readonly { readonly id: ImageID; readonly why: string }[]>;
  /** Images that another storage driver has the layers of: nobody is told of them, and nothing of theirs is removed. */
  elsewhere(): Promise<readonly ImageID[]>;
  tag(id: ImageID, name: string): Promise<void>;
  /** Removes a name (or, by id, the image). `inUse(id)` = ids or names of containers that use it, running ones flagged. EngineError conflict with Docker's texts. */
  remove(
    nameOrId: string,
    options: {
      readonly force: boolean;
      readonly prune: boolean;
      readonly inUse: (id: ImageID) => readonly { readonly id: string; readonly running: boolean }[];
    },
  ): Promise<DeleteResult[]>;
  /**
   * docker-archive or OCI layout as tar, plain, gzip or zstd. Nothing is stored when it fails. `makeRoom` is told what the layers that are new take in the archive (bytes) before the first is
   * unpacked; when it fails, nothing is.
   */
  load(
    archive: AsyncIterable<Uint8Array>,
    onEvent: (event: LoadEvent) => void,
    signal?: AbortSignal,
    makeRoom?: (bytes: number) => Promise<void>,
  ): Promise<void>;
  /** One tar (maybe compressed) becomes a one-layer image. */
  import(
    tar: AsyncIterable<Uint8Array>,
    options: {
      readonly reference?: string;
      readonly message?: string;
      readonly changes?: ImageConfigJson["config"];
      readonly platform?: string;
      readonly signal?: AbortSignal /** RFC 3339; default: now. */;
      readonly created?: string /** What history says made it. */;
      readonly createdBy?: string;
    },
  ): Promise<ImageID>;
  /** docker-archive with an OCI index, as docker 25+ writes it. */
  save(namesOrIds: readonly string[]): Promise<Readable>;
  /** The same of an image that is not recorded: its layers are here, and it gets these names in the archive. */
  saveConfig(rawConfig: Uint8Array, names: readonly string[]): Promise<Readable>;
  /**
   * Takes an image in that comes from a registry. `applyLayers` sees to it that its layers are there; they are kept from being pruned until the image is recorded, and nothing is recorded
   * when it fails.
   */
  receive(image: ReceivedImage, applyLayers: () => Promise<void>): Promise<Image>;
  /** What registries have this image as, the latest first. */
  origins(id: ImageID): Promise<Origin[]>;
  /** Registers a config whose layers are present; used by commit, import, bootstrap. */
  add(rawConfig: Uint8Array, options?: { readonly tags?: readonly string[]; readonly parent?: ImageID }): Promise<Image>;
  /** Removes untagged (or all unused) images. */
  prune(options: {
    readonly all: boolean;
    readonly used: ReadonlySet<ImageID>;
    readonly match: (image: Image) => boolean;
  }): Promise<{ readonly deleted: DeleteResult[]; readonly bytes: number }>;
  sweep(): Promise<void>;
  /** From now on, layers that `chains` names stay though no image has them: those of a build cache. */
  keep(chains: () => Iterable<ChainID>): void;
  /** Removes the layers that nothing needs. */
  collect(): Promise<void>;
}

export { branchOf, compareImages, type ImageBranch, type ImageComparison } from "./compare-images.ts";
export { type DockerStore, dockerStores, type StoredImage } from "./docker-store/docker-store.ts";
export { maxConfigBytes, type ParsedConfig, parseImageConfig } from "./image-config.ts";
export { chooseManifest } from "./choose-manifest.ts";
export { hostPlatform, parsePlatform, type PlatformLike, platformRank, printPlatform } from "./platform.ts";
export { type BootstrapOptions, bootstrapImage } from "./bootstrap.ts";
export { type CommitInput, commitConfig, emptyLayer } from "./commit.ts";
export { type ImageStoreOptions, openImageStore } from "./image-store.ts";
export type { Digest };
