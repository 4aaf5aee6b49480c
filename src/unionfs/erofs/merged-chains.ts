import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import type { ChainID } from "#core/digest.ts";
import type { LayerImage } from "#linux/layer-image.ts";
import { exists } from "../layer-directory.ts";
import { mergedDevices, mergeLayers } from "./merge-layers.ts";

/** In the directory of a chain's top layer: what all layers of the chain show together. */
export const mergedFile = "merged.erofs";
/** Mounting one layer takes some 0.06 ms. */
const worthwhileLayers = 8;

/**
 * Images of whole chains: a mount for each of a hundred layers is what a container on them would take its time for. One is made in the background when a container first starts on a
 * long chain, for those that are made after it; a snapshot stays with the form that it was made on.
 * @see docs/adr/0048-merged-chains.md
 */
export class MergedChains {
  readonly #directoryOf: (chain: ChainID) => string;
  readonly #layersOf: (chain: ChainID) => readonly LayerImage[];
  /** Whether a chain's image is there. */
  readonly #known = new Map<ChainID, Promise<boolean>>();
  readonly #tried = new Set<ChainID>();
  readonly #making = new Set<Promise<boolean>>();
  readonly #failures: unknown[] = [];

  constructor(directoryOf: (chain: ChainID) => string, layersOf: (chain: ChainID) => readonly LayerImage[]) {
    this.#directoryOf = directoryOf;
    this.#layersOf = layersOf;
  }

  /** The chain's image, if it is there already. */
  async find(chain: ChainID): Promise<LayerImage | undefined> {
    const layers = this.#layersOf(chain);
    if (layers.length <= worthwhileLayers) return undefined;
    const source = join(this.#directoryOf(chain), mergedFile);
    const known = this.#known.get(chain) ?? exists(source);
    this.#known.set(chain, known);
    if (this.#making.has(known)) return undefined;
    return (await known) ? mergedImage(source, layers) : undefined;
  }

  /** The chain's image; made now when it is gone. */
  async get(chain: ChainID): Promise<LayerImage> {
    const layers = this.#layersOf(chain);
    const source = join(this.#directoryOf(chain), mergedFile);
    if (!(await exists(source))) await this.#write(chain);
    return mergedImage(source, layers);
  }

  /** Has it made in the background where that is worth while; what could not be made is not tried again. */
  async make(chain: ChainID): Promise<void> {
    const layers = this.#layersOf(chain);
    if (layers.length <= worthwhileLayers || this.#tried.has(chain) || (await this.find(chain)) !== undefined || this.#tried.has(chain)) return;
    this.#tried.add(chain);
    const making = this.#write(chain).then(
      () => true,
      (error: unknown) => {
        this.#failures.push(error);
        return false;
      },
    );
    this.#known.set(chain, making);
    this.#making.add(making);
    void making.then(() => this.#making.delete(making));
  }

  #write(chain: ChainID): Promise<void> {
    const directory = this.#directoryOf(chain);
    return mergeLayers(this.#layersOf(chain), join(directory, mergedFile), join(dirname(directory), `tmp-merged-${randomBytes(8).toString("hex")}`));
  }

  /** The chain's directory is about to go. */
  async forget(chain: ChainID): Promise<void> {
    await this.#known.get(chain);
    this.#known.delete(chain);
    this.#tried.delete(chain);
  }

  /** Waits for what is being made. */
  async settled(): Promise<void> {
    await Promise.all(this.#making);
  }

  /** The same; rejects when something could not be made. */
  async idle(): Promise<void> {
    await this.settled();
    const [failure] = this.#failures.splice(0);
    if (failure !== undefined) throw failure;
  }
}

function mergedImage(source: string, layers: readonly LayerImage[]): LayerImage {
  const loop = layers.some((layer) => layer.loop === true);
  return { fstype: "erofs", source, devices: mergedDevices(layers), ...(loop ? { loop } : {}) };
}
