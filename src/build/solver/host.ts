import type { ChainID, DiffID, ImageID } from "#core/digest.ts";
import type { ResourceConfig, Ulimit } from "#core/container-config.ts";
import type { HistoryEntry, Platform } from "#core/image-spec.ts";
import type { FileTree } from "#linux/file-tree.ts";
import type { LayerStore } from "#unionfs/mod.ts";
import type { RunOperation } from "../graph/operation.ts";
import type { SourceTree } from "./source-tree.ts";
import type { ImageSettings } from "../graph/step.ts";

export interface Layer {
  readonly diffId: DiffID;
  readonly chainId: ChainID;
  /** Bytes. */
  readonly size: number;
}

/** An image that a stage is built on, or that files are taken from. */
export interface BaseImage {
  readonly id: ImageID;
  readonly chainId: ChainID | undefined;
  readonly diffIds: readonly DiffID[];
  readonly settings: ImageSettings;
  readonly created: string | undefined;
  readonly history: readonly HistoryEntry[];
  readonly platform: Pick<Platform, "os" | "architecture" | "variant">;
}

/** Limits and surroundings of RUN's containers: the build's flags, never part of a cache key. */
export interface RunLimits {
  readonly resources: Partial<ResourceConfig>;
  readonly ulimits: readonly Ulimit[];
  readonly shmSizeBytes: number;
  readonly extraHosts: readonly string[];
  /** What `network=default` of a step means. */
  readonly networkMode: string;
  /** False: `RUN --network=host` is refused. Default true. */
  readonly hostNetwork?: boolean;
}

/** A directory or file of the host that a RUN step sees. */
export interface RunMount {
  readonly kind: "bind" | "tmpfs";
  /** bind: absolute path on the host. */
  readonly source: string;
  /** Absolute, in the container. */
  readonly target: string;
  readonly readonly: boolean;
  readonly sizeBytes?: number;
}

export interface RunRequest {
  readonly parent: ChainID | undefined;
  readonly operation: Pick<RunOperation, "argv" | "env" | "user" | "workdir" | "network">;
  readonly mounts: readonly RunMount[];
  readonly limits: RunLimits;
  /** Later times in the layer become this; ns since 1970. */
  readonly clampNs: bigint | undefined;
  /** The id of its container, before it starts. */
  readonly onContainer: (id: string) => void;
  readonly onOutput: (stream: "stdout" | "stderr", data: Uint8Array) => void;
  readonly signal: AbortSignal;
  /** Keeps the container of a command that has succeeded. */
  readonly keep: boolean;
  /** Keeps that of one that has failed. */
  readonly keepFailed: boolean;
  /** What one that has failed has written becomes a layer as well. */
  readonly commitFailed: boolean;
}

export interface RunResult {
  readonly exitCode: number;
  /** Of a command that has failed: how it ended, for people. */
  readonly reason: string;
  /** Of one that has succeeded, or that was to be committed all the same, and has written something. */
  readonly layer?: Layer | undefined;
}

/**
 * What a build asks for and does not do itself: containers, the roots of images, owners by name. The engine implements it.
 */
export interface BuildHost {
  readonly layers: LayerStore;
  /** A directory of the build's own on the data root's filesystem. It is there. */
  readonly workDir: string;
  /** One that a reboot takes, for secrets: never on a disk where that can be helped. It is there. */
  readonly runtimeDir: string;
  /** Resolves a name to an image, pulling it when it must. @throws EngineError "not-found" */
  image(
    reference: string,
    options: { readonly platform: string; readonly pull: boolean; readonly signal: AbortSignal; readonly onStatus: (line: string) => void },
  ): Promise<BaseImage>;
  /** Runs a command in a container on a chain. What it has written becomes a layer if it succeeds. */
  run(request: RunRequest): Promise<RunResult>;
  /** A chain's tree as a container would see it, read-only. */
  openRoot(chain: ChainID): Promise<FileTree>;
  /** Makes one layer on `parent` of all that `chain`, which stands on it, has changed; later times become `clampNs`. */
  squash(chain: ChainID, parent: ChainID | undefined, clampNs: bigint | undefined): Promise<Layer>;
  /** Who `user[:group]` is in that tree. @throws EngineError */
  owner(chain: ChainID | undefined, text: string): Promise<{ readonly uid: number; readonly gid: number }>;
  /** Files of a git repository (`URL#ref:directory`), fetched; the commit that it was. To be disposed. @throws EngineError "invalid" */
  git(url: string, options: { readonly keepGitDir: boolean; readonly signal: AbortSignal }): Promise<{ readonly tree: SourceTree; readonly commit: string }>;
  /** Makes an image without a name of a config whose layers are here. */
  record(config: Uint8Array): Promise<ImageID>;
  /** Makes the storage budget allow for so many bytes more. */
  makeRoom(bytes: number): Promise<void>;
}
