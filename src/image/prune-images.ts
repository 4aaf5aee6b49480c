import type { ImageID } from "#core/digest.ts";
import { isEngineError } from "#core/errors.ts";
import { formatReference } from "#core/reference.ts";
import type { ImageDraft } from "./image-database.ts";
import type { DeleteResult, Image } from "./mod.ts";
import { referencesTo, removeImage } from "./remove-image.ts";

export interface PruneContext {
  readonly draft: ImageDraft;
  readonly images: readonly Image[];
  /** Not only untagged ones. */
  readonly all: boolean;
  /** Images that containers use. */
  readonly used: ReadonlySet<ImageID>;
  readonly match: (image: Image) => boolean;
}

/** Docker's `image prune`, on a draft: what stands in the way of a removal keeps that image, and the rest goes on. */
export function pruneImages({ draft, images, all, used, match }: PruneContext): DeleteResult[] {
  const results: DeleteResult[] = [];
  const chains = new Map(images.map((image) => [image.id, image.chainIds]));
  const context = {
    draft,
    chainsOf: (id: ImageID) => chains.get(id) ?? [],
    inUse: (id: ImageID) => (used.has(id) ? [{ id: "", running: false }] : []),
    force: false,
    prune: true,
  };
  for (const image of images) {
    if (!draft.images.has(image.id) || isIntermediate(draft, image.id) || !match(image)) continue;
    const names = referencesTo(draft, image.id);
    if (!all && names.some((name) => name.digest === undefined)) continue;
    if (!all && hasChildren(draft, image.id)) continue;
    for (const asked of names.length === 0 ? [image.id.slice(7)] : names.map(formatReference)) {
      try {
        results.push(...removeImage(image.id, asked, context));
      } catch (error) {
        if (!isEngineError(error, "conflict")) throw error;
      }
    }
  }
  return results;
}

function isIntermediate(draft: ImageDraft, id: ImageID): boolean {
  return referencesTo(draft, id).length === 0 && hasChildren(draft, id);
}

function hasChildren(draft: ImageDraft, id: ImageID): boolean {
  return [...draft.images.values()].some(({ parent }) => parent === id);
}
