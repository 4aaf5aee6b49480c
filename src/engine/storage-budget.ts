/**
 * `--storage-budget`: before an image is added, images that no container uses are removed until it fits, the least recently used first. A write that would not
 * fit even then is refused before it begins; the disk is never full first.
 * @module
 */
import type { ChainID, ImageID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Image, ImageStore } from "#image/mod.ts";

export interface StorageBudgetOptions {
  /** undefined = no limit. */
  readonly budgetBytes: number | undefined;
  readonly images: Pick<ImageStore, "list" | "remove">;
  /** Images that containers use. */
  readonly used: () => ReadonlySet<ImageID>;
  readonly onRemoved: (id: ImageID) => void;
}

export class StorageBudget {
  readonly #options: StorageBudgetOptions;
  /** When a container was last made of an image, ns since 1970; of earlier daemons' uses only the tag's time is known. */
  readonly #uses = new Map<ImageID, bigint>();
  /** One at a time: two loads must not count on the same room. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: StorageBudgetOptions) {
    this.#options = options;
  }

  /** A container was made of the image. */
  noteUse(id: ImageID, atNs: bigint): void {
    if (this.#options.budgetBytes !== undefined) this.#uses.set(id, atNs);
  }

  /**
   * @param measure what is about to be added, bytes; not asked where there is no limit
   * @throws EngineError "storage" when all unused images together would not make room
   */
  makeRoom(measure: () => Promise<number>): Promise<void> {
    const { budgetBytes } = this.#options;
    if (budgetBytes === undefined) return Promise.resolve();
    const work = this.#turn.then(async () => this.#makeRoom(budgetBytes, await measure()));
    this.#turn = work.catch(() => undefined);
    return work;
  }

  async #makeRoom(budgetBytes: number, bytes: number): Promise<void> {
    const { images, used, onRemoved } = this.#options;
    const all = await images.list();
    if (layerBytes(all) + bytes <= budgetBytes) return;
    const kept = needed(all, used());
    const keptBytes = layerBytes(all.filter(({ id }) => kept.has(id)));
    if (keptBytes + bytes > budgetBytes) {
      throw new EngineError(
        "storage",
        `the storage budget of ${budgetBytes} bytes would be exceeded: ${bytes} are to be added, and the images that containers use hold ${keptBytes}`,
        { hint: "remove containers and their images, or raise --storage-budget" },
      );
    }
    const oldestFirst = all.filter(({ id }) => !kept.has(id)).sort((a, b) => (this.#lastUsed(a) < this.#lastUsed(b) ? -1 : 1));
    for (const { id } of oldestFirst) {
      if (layerBytes(await images.list()) + bytes <= budgetBytes) return;
      try {
        await images.remove(id, { force: true, prune: false, inUse: (image) => (used().has(image) ? [{ id: "", running: true }] : []) });
        onRemoved(id);
      } catch (error) {
        // Used since, the parent of another, or gone.
        if (!isEngineError(error, "conflict") && !isEngineError(error, "not-found")) throw error;
      }
    }
  }

  #lastUsed({ id, lastTaggedNs }: Image): bigint {
    const used = this.#uses.get(id) ?? 0n;
    return used > lastTaggedNs ? used : lastTaggedNs;
  }
}

/** Used images and what they were made from. */
function needed(images: readonly Image[], used: ReadonlySet<ImageID>): ReadonlySet<ImageID> {
  const parents = new Map(images.map(({ id, parent }) => [id, parent]));
  const kept = new Set<ImageID>();
  for (const id of used) for (let at: ImageID | undefined = id; at !== undefined && !kept.has(at); at = parents.get(at)) kept.add(at);
  return kept;
}

/** Layers that several images share count once. */
function layerBytes(images: readonly Image[]): number {
  const sizes = new Map<ChainID, number>();
  for (const { chainIds, layerSizes } of images) for (const [i, chain] of chainIds.entries()) sizes.set(chain, layerSizes[i] ?? 0);
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}
