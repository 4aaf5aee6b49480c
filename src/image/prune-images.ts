import type { ImageID } from "#core/digest.ts";
import { isEngineError } from "#core/errors.ts";
import { formatReference } from "#core/reference.ts";
import type { ImageDraft } from "./image-database.ts";
import type { DeleteResult, Image } from "./mod.ts";
import { DraftIndex, type RemoveContext, removeImage } from "./remove-image.ts";

export interface PruneContext {
  readonly draft: ImageDraft;
  readonly images: readonly Image[];
  /** Not only untagged ones. */
  readonly all: boolean;
  /** Images that containers use. */
  readonly used: ReadonlySet<ImageID>;
  readonly match: (image: Image) => boolean;
  readonly usesOf: RemoveContext["usesOf"];
}

/** Docker's `image prune`, on a draft: what stands in the way of a removal keeps that image, and the rest goes on. */
export function pruneImages({ draft, images, all, used, match, usesOf }: PruneContext): DeleteResult[] {
  const results: DeleteResult[] = [];
  const chains = new Map(images.map((image) => [image.id, image.chainIds]));
  const index = new DraftIndex(draft);
  const context: RemoveContext = {
    draft,
    index,
    usesOf,
    chainsOf: (id: ImageID) => chains.get(id) ?? [],
    inUse: (id: ImageID) => (used.has(id) ? [{ id: "", running: false }] : []),
    force: false,
    prune: true,
  };
  for (const image of images) {
    if (!draft.images.has(image.id) || isIntermediate(index, image.id) || !match(image)) continue;
    const names = index.namesOf(image.id);
    if (!all && names.some((name) => name.digest === undefined)) continue;
    if (!all && index.hasChildren(image.id)) continue;
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

function isIntermediate(index: DraftIndex, id: ImageID): boolean {
  return index.namesOf(id).length === 0 && index.hasChildren(id);
}
