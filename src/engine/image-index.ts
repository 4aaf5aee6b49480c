/** What lists need of images at once, without waiting: names, parents and layers. Refreshed after each change of the images. @module */
import { type ChainID, hexOf, type ImageID } from "#core/digest.ts";
import { familiarString, parseAnyReference, withDefaultTag } from "#core/reference.ts";
import { isEngineError } from "#core/errors.ts";
import type { Image, ImageStore } from "#image/mod.ts";

export class ImageIndex {
  readonly #images: ImageStore;
  #list: readonly Image[] = [];

  /** Before the first {@link refresh}, no layer is known. */
  constructor(images: ImageStore) {
    this.#images = images;
  }

  async refresh(): Promise<void> {
    this.#list = await this.#images.list();
  }

  hasLayer(chain: ChainID): boolean {
    return this.#list.some(({ chainIds }) => chainIds.includes(chain));
  }

  /** The image that a name or id (prefix) names, and all that were made from it. */
  withDescendants(nameOrId: string): ReadonlySet<ImageID> {
    const images = this.#images.relations();
    const found = new Set(images.filter((image) => names(image, nameOrId)).map((image) => image.id));
    for (let grown = true; grown; ) {
      grown = false;
      for (const { id, parent } of images) {
        if (parent === undefined || found.has(id) || !found.has(parent)) continue;
        found.add(id);
        grown = true;
      }
    }
    return found;
  }
}

function names(image: ReturnType<ImageStore["relations"]>[number], nameOrId: string): boolean {
  const hex = nameOrId.replace(/^sha256:/, "");
  if (/^[0-9a-f]{4,64}$/.test(hex) && hexOf(image.id).startsWith(hex)) return true;
  const name = familiar(nameOrId);
  return name !== undefined && (image.repoTags.includes(name) || image.repoDigests.includes(name));
}

/** `docker.io/library/busybox` → `busybox:latest`; undefined when it is no name. */
function familiar(text: string): string | undefined {
  try {
    const reference = parseAnyReference(text);
    return typeof reference === "string" ? undefined : familiarString(withDefaultTag(reference));
  } catch (error) {
    if (isEngineError(error)) return undefined;
    throw error;
  }
}
