import { digestOf, type ChainID, type DiffID, type ImageID } from "#core/digest.ts";
import type { HistoryEntry, ImageConfigJson, Platform } from "#core/image-spec.ts";
import type { ImageSettings } from "../graph/step.ts";
import type { BaseImage, Layer } from "./host.ts";

/** What a stage has come to: an image that is not recorded. Immutable. */
export interface ImageState {
  readonly chainId: ChainID | undefined;
  readonly diffIds: readonly DiffID[];
  readonly history: readonly HistoryEntry[];
  readonly settings: ImageSettings;
  readonly author: string | undefined;
  readonly created: string | undefined;
  readonly platform: Pick<Platform, "os" | "architecture" | "variant">;
}

export function emptyState(platform: ImageState["platform"]): ImageState {
  return { chainId: undefined, diffIds: [], history: [], settings: {}, author: undefined, created: undefined, platform };
}

/** Who made the base has not made what is built on it: the author is not taken over, as with Docker. */
export function stateOf({ chainId, diffIds, history, settings, created, platform }: BaseImage): ImageState {
  return { chainId, diffIds, history, settings, author: undefined, created, platform };
}

/** After one more step. */
export function withStep(
  state: ImageState,
  step: { readonly settings: ImageSettings; readonly author: string | undefined; readonly createdBy: string | undefined },
  layer: Layer | undefined,
  created: string,
): ImageState {
  const { createdBy, settings, author } = step;
  const entry: HistoryEntry = {
    created,
    ...(author === undefined ? {} : { author }),
    ...(createdBy === undefined ? {} : { created_by: createdBy }),
    ...(layer === undefined ? { empty_layer: true } : {}),
  };
  return {
    ...state,
    settings,
    author,
    created,
    ...(layer === undefined ? {} : { chainId: layer.chainId, diffIds: [...state.diffIds, layer.diffId] }),
    history: createdBy === undefined ? state.history : [...state.history, entry],
  };
}

/** All layers above those of `base` as one, with the history that docker writes of it: what was done stays, and made no layer. */
export function squashed(
  state: ImageState,
  base: ImageState,
  { layer, created, comment }: { readonly layer: Layer; readonly created: string; readonly comment: string },
): ImageState {
  const own = state.history.slice(base.history.length).map((entry): HistoryEntry => ({ ...entry, empty_layer: true }));
  return {
    ...state,
    created,
    chainId: layer.chainId,
    diffIds: [...base.diffIds, layer.diffId],
    history: [...base.history, ...own, { created, comment }],
  };
}

/** The image's config, as its bytes. */
export function configOf({ diffIds, history, settings, author, created, platform }: ImageState): Uint8Array {
  const { architecture, os, variant } = platform;
  const json: ImageConfigJson = {
    architecture,
    ...(variant === undefined || variant === "" ? {} : { variant }),
    os,
    ...(created === undefined ? {} : { created }),
    ...(author === undefined ? {} : { author }),
    config: settingsJson(settings),
    rootfs: { type: "layers", diff_ids: [...diffIds] },
    history: [...history],
  };
  return Buffer.from(JSON.stringify(json));
}

export function imageIdOf(state: ImageState): ImageID {
  return digestOf(configOf(state));
}

/** In one order, whatever the order of the instructions was; what is not set is left out. */
function settingsJson(settings: ImageSettings): ImageSettings {
  const {
    Hostname: _h,
    Domainname: _d,
    Image: _i,
    AttachStdin: _a,
    AttachStdout: _b,
    AttachStderr: _c,
    Tty: _t,
    OpenStdin: _o,
    StdinOnce: _s,
    ...kept
  } = settings;
  const sorted = <T>(map: Record<string, T>) => Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
  return Object.fromEntries(
    Object.entries(kept)
      .filter(([, value]) => value !== undefined && value !== null && value !== "")
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => [
        key,
        typeof value === "object" && !Array.isArray(value) && key !== "Healthcheck" ? sorted(value as Record<string, unknown>) : value,
      ]),
  ) as ImageSettings; // the same keys with the same values
}
