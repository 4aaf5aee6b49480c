import type { ContainerConfig } from "#core/container-config.ts";
import type { DiffID } from "#core/digest.ts";
import type { HistoryEntry, ImageConfigJson } from "#core/image-spec.ts";
import type { Image } from "./mod.ts";
import { hostPlatform } from "./platform.ts";

/** The tar with nothing in it: two zero blocks. A layer of it is left out of the image. */
export const emptyLayer: DiffID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

export interface CommitInput {
  /** What the container was made of; undefined = nothing. */
  readonly base: Pick<Image, "config"> | undefined;
  /** The new layer; undefined = the container has changed nothing. */
  readonly diffId: DiffID | undefined;
  /** Configuration of the new image. */
  readonly config: Partial<ContainerConfig>;
  /** What the history says made the layer: the container's command. */
  readonly createdBy: string;
  readonly containerId: string;
  /** RFC 3339. */
  readonly created: string;
  readonly author: string;
  readonly comment: string;
}

/** The config of an image that is `base` with one more layer, as its raw bytes. Pure. @see Docker's `commit` */
export function commitConfig(input: CommitInput): Uint8Array {
  const { base, created, author, comment } = input;
  const isEmpty = input.diffId === undefined || input.diffId === emptyLayer;
  const entry: HistoryEntry = {
    created,
    ...(author === "" ? {} : { author }),
    ...(input.createdBy === "" ? {} : { created_by: input.createdBy }),
    ...(comment === "" ? {} : { comment }),
    ...(isEmpty ? { empty_layer: true } : {}),
  };
  const platform: Pick<ImageConfigJson, "architecture" | "os" | "variant" | "os.version"> = base?.config ?? {
    os: hostPlatform.os,
    architecture: hostPlatform.architecture,
  };
  const { architecture, variant, os, "os.version": osVersion } = platform;
  const json: ImageConfigJson = {
    architecture: architecture || hostPlatform.architecture,
    ...(variant === undefined ? {} : { variant }),
    os,
    ...(osVersion === undefined ? {} : { "os.version": osVersion }),
    created,
    ...(author === "" ? {} : { author }),
    ...(comment === "" ? {} : { comment }),
    container: input.containerId,
    config: input.config,
    rootfs: { type: "layers", diff_ids: [...(base?.config.rootfs.diff_ids ?? []), ...(isEmpty || input.diffId === undefined ? [] : [input.diffId])] },
    history: [...(base?.config.history ?? []), entry],
  };
  return Buffer.from(JSON.stringify(json));
}
