/**
 * Layers and the union of them. A *layer* is an immutable directory tree made from one tar (DiffID) on top of a parent (ChainID names the
 * stack). A *snapshot* is a container's (or build step's) writable view on top of a chain. A driver returns mounts as data and never mounts.
 * @module
 */
import type { Readable } from "node:stream";
import type { ChainID, DiffID } from "#core/digest.ts";
import type { IdMappings } from "#core/id-mappings.ts";
import type { FileTree } from "#linux/file-tree.ts";
import type { LayerImage } from "#linux/layer-image.ts";
import type { ArchiveFile } from "./archive-file.ts";
import type { ErofsForm } from "./erofs/metadata-tree.ts";
import type { LayerSource } from "./layer-tar.ts";

/** A root filesystem as data: what the planner has to mount. `owners`: its files have the ids that these maps give (a private copy, see {@link SnapshotOptions}). */
export type RootMount =
  | {
      readonly kind: "overlay";
      /** Top-most first. Absolute directories. */
      readonly lower: readonly string[];
      /** Beside `lower`: where one is no directory but an image, which is mounted first; then its name in `lower` is the image's file. */
      readonly images?: readonly (LayerImage | undefined)[];
      /** Short relative links (below `linkDir`) of the same layers, for kernels without lowerdir+. */
      readonly links: readonly string[];
      readonly linkDir: string;
      readonly upper?: string;
      readonly work?: string;
      /** Extra options, e.g. ["volatile", "metacopy=off"]. */
      readonly options: readonly string[];
      /** This kernel's overlay takes images only where a path leads to them: an empty directory, below which they are mounted for a moment, unseen. */
      readonly attachAt?: string;
    }
  /** A plain directory (vfs, --rootfs). */
  | { readonly kind: "bind"; readonly source: string; readonly readonly: boolean; readonly owners?: IdMappings }
  /** What a FUSE program mounts on `mountpoint` (an empty directory), in a mount namespace of its own. */
  | {
      readonly kind: "fuse";
      /** The program's path first. */
      readonly argv: readonly string[];
      readonly mountpoint: string;
      readonly readonly: boolean;
      /** The directories that it shows as one, in overlay's format, top-most first. */
      readonly directories: readonly string[];
    }
  | {
      readonly kind: "fs";
      readonly fstype: string;
      readonly source: string;
      readonly options: readonly string[];
      readonly readonly: boolean;
      /** The source, and each `device=` of the options, is a file that is to be made a block device. */
      readonly loop?: true;
      readonly owners?: IdMappings;
    };

/** Where a layer that is an image is made, and in which form. */
export interface ImagePlace {
  readonly directory: string;
  readonly form: ErofsForm;
}

/** An archive: its plain bytes, or a file, maybe compressed, that a thread may read. */
export type LayerInput = Readable | AsyncIterable<Uint8Array> | ArchiveFile;

export interface DriverCapabilities {
  readonly nativeDiff: boolean;
  readonly quota: boolean;
  readonly idmap: boolean;
}

export interface SnapshotOptions {
  /** Contents need not survive a crash (volatile). */
  readonly ephemeral?: boolean;
  readonly sizeBytes?: number;
  /**
   * The snapshot is a private copy of all files, with the ids on disk that these maps give: for user namespaces where mounts cannot map owners. Layers stay as they are, and what reads the
   * snapshot by way of {@link LayerStore} or openRoot sees the ids of the namespace. EngineError "invalid" for a file whose owner the maps do not know.
   */
  readonly owners?: IdMappings;
}

/**
 * Keys: a *committed* layer is named by its ChainID; an *active* snapshot by a key that the caller chooses (`[a-z0-9-]{1,80}`).
 * Every directory is journalled before it is made: after a crash {@link sweep} removes what no committed or known key names.
 */
export interface StorageDriver {
  readonly name: string;
  readonly capabilities: DriverCapabilities;
  /** What a container may write that asks for no size of its own (an option of the driver's). */
  readonly defaultSizeBytes?: number;
  /** `info` lines, in order, as Docker prints them. */
  status(): Promise<readonly (readonly [string, string])[]>;
  /** An active snapshot on `parent` (undefined = empty). EngineError conflict when the key exists. */
  prepare(key: string, parent: ChainID | undefined, options?: SnapshotOptions): Promise<void>;
  /** Mounts of an active snapshot (writable), or read-only of a committed chain when `key` is a ChainID. */
  mounts(key: string | ChainID): Promise<RootMount>;
  /** What a layer consists of does not depend on the layers below: it may be filled as a snapshot on nothing, and committed on its parent ({@link commit}). */
  readonly layersApart?: boolean;
  /** An upper directory that nothing is mounted on any more is a layer as it is: {@link commit} takes it. */
  readonly layersAreUppers?: boolean;
  /**
   * Turns an active snapshot into the committed layer `chain`, on disk to stay where its mounts are no directories; no error when `chain` was committed meanwhile (the snapshot is dropped).
   * @param parent what the layer lies on, where the snapshot was made on nothing ({@link layersApart})
   */
  commit(key: string, chain: ChainID, parent?: ChainID): Promise<void>;
  /** Removes an active snapshot or a committed layer without children; the directory is gone from view at once and deleted in the background. Missing is no error. */
  remove(key: string | ChainID): Promise<void>;
  has(chain: ChainID): Promise<boolean>;
  parent(chain: ChainID): Promise<ChainID | undefined>;
  list(): Promise<{ readonly layers: readonly ChainID[]; readonly active: readonly string[] }>;
  /** The snapshot's or layer's own content: `bytes` as Docker counts (lengths of files, hard links once), `allocatedBytes` as du(1). */
  usage(key: string | ChainID): Promise<{ readonly bytes: number; readonly inodes: number; readonly allocatedBytes: number }>;
  /** A directory, or a filesystem of its own, into which a layer's tar is applied before commit, and how whiteouts are written there. */
  applyTarget(key: string): Promise<{ readonly root: RootMount; readonly whiteouts: "overlay" | "delete" }>;
  /** Drivers whose layers are images take the archive here, instead of {@link applyTarget}; whiteouts are overlay's. */
  receive?(key: string): Promise<ImagePlace>;
  /** The archive that was kept: its file; undefined = it is made again of the layer's files. */
  archive?(chain: ChainID): string | undefined;
  /** The directory of a layer that is an image. */
  imageDirectory?(chain: ChainID): string;
  /** Where a snapshot's changes lie: an upper directory with overlay whiteouts, or two trees to compare (`mountPoints`: paths, one character a byte, that the driver has made and that are no change as long as they are empty). */
  changes(
    key: string,
  ): Promise<
    | { readonly kind: "upper"; readonly dir: string; readonly lower: RootMount | undefined }
    | { readonly kind: "compare"; readonly root: RootMount; readonly parent: RootMount | undefined; readonly mountPoints?: ReadonlySet<string> }
  >;
  /** Removes everything that neither `active` nor the committed set names, and empties the trash. */
  sweep(active: ReadonlySet<string>): Promise<void>;
  /** Waits for background removals (tests, shutdown). */
  idle(): Promise<void>;
  /** Gives back what the driver holds of the kernel beyond its files (devices); what running containers use stays. */
  close?(): Promise<void>;
}

/** Why a driver cannot run here. */
export type DriverProbe = { readonly supported: true } | { readonly supported: false; readonly reason: string };

/** One change of a container against its image. @see Docker's `diff`: 0 modified, 1 added, 2 deleted */
export interface Change {
  readonly kind: "modify" | "add" | "delete";
  readonly path: string;
}

export interface ApplyProgress {
  readonly bytes: number;
}

export interface LayerStore {
  readonly driver: StorageDriver;
  /**
   * Applies a tar on `parent`. Verifies `expected` when given (EngineError "corrupt", nothing stored). Returns what it was. Does nothing but read when the chain exists.
   * Layers of one image may be applied at once: see `below`. The caller {@link hold}s them.
   */
  apply(
    parent: ChainID | undefined,
    tar: LayerInput,
    options?: {
      readonly expected?: DiffID;
      /** `parent` is still being applied: resolves when it is here. Where the driver allows it ({@link StorageDriver.layersApart}), the layer is unpacked meanwhile; when this rejects, so does the call. */
      readonly below?: Promise<unknown>;
      readonly signal?: AbortSignal;
      readonly onProgress?: (p: ApplyProgress) => void;
    },
  ): Promise<{ readonly diffId: DiffID; readonly chainId: ChainID; readonly size: number }>;
  /**
   * Makes what a snapshot has changed a layer on `parent`, which it lies on. `keep`: the snapshot stays as it is, and may be in use. Otherwise it is given up, and where the driver can
   * ({@link StorageDriver.layersAreUppers}) its files become the layer's without being copied; when this fails it may be gone.
   * @param options.latestNs no time in the layer is later (ns since 1970)
   */
  commit(
    key: string,
    parent: ChainID | undefined,
    options: { readonly keep: boolean; readonly latestNs?: bigint },
  ): Promise<{ readonly diffId: DiffID; readonly chainId: ChainID; readonly size: number }>;
  /** The layer's tar, byte for byte as it came in. */
  tar(chain: ChainID): Promise<Readable>;
  /** What a thread can make {@link tar} of; undefined where the layer would have to be mounted for that. */
  source(chain: ChainID): Promise<LayerSource | undefined>;
  /** Whether another driver has stored a layer in this data root. */
  elsewhere(chain: ChainID): Promise<boolean>;
  /** Length of {@link tar}. */
  tarBytes(chain: ChainID): Promise<number>;
  /** A snapshot's changes as a new deterministic tar. */
  diff(key: string): AsyncIterable<Uint8Array>;
  changes(key: string): Promise<Change[]>;
  /** The whole tree of a snapshot as one tar (export). `onChanged`: see writeTar. */
  exportTree(key: string, onChanged?: (message: string) => void): AsyncIterable<Uint8Array>;
  /** Resolves when every layer applied so far is on disk: before an image that names them is recorded. A layer that was not survives a crash of the engine, not one of the machine: it is dropped then. */
  sync(): Promise<void>;
  has(chain: ChainID): Promise<boolean>;
  /** Uncompressed size of the layer's content in bytes, as Docker counts image sizes. */
  size(chain: ChainID): Promise<number>;
  diffId(chain: ChainID): Promise<DiffID>;
  /** Until it is released, {@link prune} keeps every layer that {@link apply} has returned since: for a caller whose image is not recorded yet. */
  hold(): { release(): void };
  /** Removes layers that no chain in `needed` (tips) reaches, except what a snapshot lies on. Returns bytes freed. */
  prune(needed: ReadonlySet<ChainID>): Promise<number>;
}

export type { FileTree };
