/** `image import-store`: takes the images of a docker's data root over, without docker. @module */
import type { ImageID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { dockerStores, type DockerStore, type StoredImage } from "#image/mod.ts";
import type { EngineContext } from "./context.ts";

export type StoreEvent =
  | { readonly kind: "image"; readonly id: ImageID; readonly tags: readonly string[] }
  | { readonly kind: "layer"; readonly id: string; readonly current: number }
  /** It was left out. */
  | { readonly kind: "refused"; readonly id: ImageID; readonly tags: readonly string[]; readonly why: string };

/**
 * Every image gets the id, the layers and the names that it has there; names that are taken here move. The directory is only read. An image whose layers are not what its config says is left out,
 * and told.
 * @throws EngineError "invalid" when the directory is no such data root
 */
export async function importStore(ctx: EngineContext, directory: string, onEvent: (event: StoreEvent) => void, signal: AbortSignal): Promise<void> {
  for (const store of await dockerStores(directory)) {
    for (const image of await store.images()) {
      const { id, tags } = image;
      try {
        await takeOver(ctx, store, image, onEvent, signal);
        ctx.events.publish("image", "load", id, { name: id });
        onEvent({ kind: "image", id, tags });
      } catch (error) {
        // Of the others, nothing is wrong.
        if (!isEngineError(error, "corrupt") && !isEngineError(error, "unsupported")) throw error;
        onEvent({ kind: "refused", id, tags, why: error.message });
      }
    }
  }
}

async function takeOver(ctx: EngineContext, store: DockerStore, image: StoredImage, onEvent: (event: StoreEvent) => void, signal: AbortSignal): Promise<void> {
  const { layers, images, helper } = ctx;
  const { rawConfig, diffIds, chainIds } = await image.config();
  // Until the image is recorded, no prune may take its layers.
  const held = layers.hold();
  try {
    for (const [i, chain] of chainIds.entries()) {
      const expected = diffIds[i]!;
      if (await layers.has(chain)) continue;
      try {
        await layers.apply(chainIds[i - 1], store.layer(chain, expected, helper), {
          expected,
          signal,
          onProgress: ({ bytes }) => onEvent({ kind: "layer", id: expected, current: bytes }),
        });
      } catch (error) {
        if (!isEngineError(error)) throw error;
        // A file that is missing there is the store's fault, not ours.
        const code = error.code === "kernel" ? "corrupt" : error.code;
        throw new EngineError(code, `layer ${i} (${expected.slice(0, 19)}): ${error.message}`, { cause: error, details: error.details });
      }
    }
    const parent = image.parent !== undefined && (await images.find(image.parent)) !== undefined ? image.parent : undefined;
    await images.add(rawConfig, { tags: image.tags, ...(parent === undefined ? {} : { parent }) });
  } finally {
    held.release();
  }
}
