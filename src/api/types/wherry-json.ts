/** Replies of our own routes that are the engine's words as they are (in a list, JSON says null for undefined), and a few more. @module */
import type { Descriptor, Platform } from "#core/image-spec.ts";

export type { DriverListing, StorageCosts } from "#engine/compare-storage.ts";
export type { ImageMount } from "#engine/image-mounts.ts";
export type { StoreProblem } from "#engine/mod.ts";
export type { ImageBranch, ImageComparison } from "#image/mod.ts";

/** `GET /wherry/manifests/{name}`: a manifest as it lies in a registry. */
export interface RemoteManifestJson {
  readonly digest: Descriptor["digest"];
  readonly mediaType: string;
  readonly size: number;
  readonly content: string;
  readonly platform: Platform | null;
}
