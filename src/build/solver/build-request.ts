import type { ChainID, ImageID } from "#core/digest.ts";
import type { Platform } from "#core/image-spec.ts";
import type { BuildCache } from "../cache/build-cache.ts";
import type { Dockerfile } from "../frontend/stages.ts";
import type { StepInputs } from "../cache/record.ts";
import type { BuildHost, Layer, RunLimits } from "./host.ts";
import type { ImageState } from "./image-state.ts";
import type { ImportedCache } from "./imported-cache.ts";
import type { Report } from "./progress.ts";
import type { SourceTree } from "./source-tree.ts";

/** A context by name (`--build-context`), which beats a stage's or image's of that name. */
export type NamedContext = { readonly kind: "image"; readonly reference: string } | { readonly kind: "tree"; readonly open: () => Promise<SourceTree> };

export interface BuildRequest {
  readonly dockerfile: Dockerfile;
  /** Opened when a step needs it; whoever gives it closes it. undefined: there is none, only a Dockerfile. */
  readonly context: (() => Promise<SourceTree>) | undefined;
  readonly namedContexts: ReadonlyMap<string, NamedContext>;
  readonly target: string;
  readonly buildArgs: Readonly<Record<string, string | undefined>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly platform: Pick<Platform, "os" | "architecture" | "variant">;
  readonly hostPlatform: Pick<Platform, "os" | "architecture" | "variant">;
  readonly noCache: boolean;
  /** The same for the stages of these names. */
  readonly noCacheStages: readonly string[];
  /** Asks for newer images even when they are here. */
  readonly pull: boolean;
  readonly limits: RunLimits;
  /** A secret's content by its id; undefined: the client has none of that id. */
  readonly secret: (id: string) => Promise<Uint8Array | undefined>;
  /** A socket on this host that leads to the client's SSH agent; undefined: there is none of that id. */
  readonly sshAgent: (id: string) => Promise<string | undefined>;
  /** Seconds since 1970; times in the image become at most this. */
  readonly sourceDateEpoch: number | undefined;
  /** The image gets one layer on its base. */
  readonly squash: boolean;
  /** Asked in this order for what the cache here does not know. */
  readonly imports: readonly ImportedCache[];
  /** Takes what must stay until the result has been put to use. */
  readonly keep: (hold: { release(): void }) => void;
  /** Keeps RUN's containers: of those that succeed, of those that fail. */
  readonly keepContainers: { readonly succeeded: boolean; readonly failed: boolean };
  /** An image is made of what a RUN that fails has left. */
  readonly leaveFailed: boolean;
  readonly signal: AbortSignal;
  readonly report: Report;
}

export interface BuildResult {
  readonly state: ImageState;
  readonly id: ImageID;
  readonly config: Uint8Array;
  readonly chainId: ChainID | undefined;
  /** Build arguments that no stage has asked for. */
  readonly unusedArgs: readonly string[];
  /** Every step that was answered or performed. */
  readonly steps: readonly SolvedStep[];
}

/** What came of a step, for a cache that goes elsewhere. */
export interface SolvedStep {
  readonly inputs: StepInputs;
  readonly layer: Layer | undefined;
  readonly created: string;
  /** It is one of the image's own: of the stage that was built, or of one that it continues. */
  readonly inImage: boolean;
}

export interface Builder {
  readonly host: BuildHost;
  readonly cache: BuildCache;
}
