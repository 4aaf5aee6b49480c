/** Layers in memory: applies nothing, keeps the tars. For tests of names, configs and archives without root. @module */
import { Readable } from "node:stream";
import { type ChainID, chainIds, type DiffID, digestOf } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { piecesOf } from "#unionfs/archive-file.ts";
import type { LayerInput, LayerStore, StorageDriver } from "#unionfs/mod.ts";

export interface MemoryLayer {
  readonly parent: ChainID | undefined;
  readonly diffId: DiffID;
  readonly bytes: Buffer;
}

export class MemoryLayers implements LayerStore {
  readonly layers: Map<ChainID, MemoryLayer> = new Map();
  readonly #held = new Set<ChainID>();
  #holds = 0;

  get driver(): StorageDriver {
    throw new EngineError("unsupported", "there is no driver in memory");
  }

  async apply(
    parent: ChainID | undefined,
    input: LayerInput,
    options: { readonly expected?: DiffID; readonly below?: Promise<unknown>; readonly signal?: AbortSignal } = {},
  ): Promise<{ readonly diffId: DiffID; readonly chainId: ChainID; readonly size: number }> {
    const parts: Uint8Array[] = [];
    const { pieces } = piecesOf(input, { expected: options.expected, signal: options.signal });
    for await (const part of pieces) parts.push(Uint8Array.from(part as Uint8Array));
    const bytes = Buffer.concat(parts);
    const diffId: DiffID = digestOf(bytes);
    if (options.expected !== undefined && options.expected !== diffId)
      throw new EngineError("corrupt", `layer has the digest ${diffId}, expected ${options.expected}`);
    await options.below;
    const chainId = parent === undefined ? chainIds([diffId])[0]! : digestOf(`${parent} ${diffId}`);
    this.layers.set(chainId, { parent, diffId, bytes });
    if (this.#holds > 0) this.#held.add(chainId);
    return { diffId, chainId, size: bytes.length };
  }

  async commit(): Promise<never> {
    throw new EngineError("unsupported", "there are no snapshots in memory");
  }

  async source(): Promise<undefined> {
    return undefined;
  }

  async tar(chain: ChainID): Promise<Readable> {
    return Readable.from([this.#get(chain).bytes]);
  }

  async tarBytes(chain: ChainID): Promise<number> {
    return this.#get(chain).bytes.length;
  }

  // biome-ignore lint/correctness/useYield: there are no snapshots
  async *diff(): AsyncIterable<Uint8Array> {
    throw new EngineError("unsupported", "there are no snapshots in memory");
  }

  async changes(): Promise<never> {
    throw new EngineError("unsupported", "there are no snapshots in memory");
  }

  exportTree(): AsyncIterable<Uint8Array> {
    return this.diff();
  }

  async elsewhere(): Promise<boolean> {
    return false;
  }

  async has(chain: ChainID): Promise<boolean> {
    return this.layers.has(chain);
  }

  async sync(): Promise<void> {}

  async size(chain: ChainID): Promise<number> {
    return this.#get(chain).bytes.length;
  }

  async diffId(chain: ChainID): Promise<DiffID> {
    return this.#get(chain).diffId;
  }

  hold(): { release(): void } {
    this.#holds++;
    return {
      release: () => {
        if (--this.#holds <= 0) this.#held.clear();
      },
    };
  }

  async prune(needed: ReadonlySet<ChainID>): Promise<number> {
    const reached = new Set<ChainID>();
    for (const tip of [...needed, ...this.#held]) for (let at: ChainID | undefined = tip; at !== undefined; at = this.layers.get(at)?.parent) reached.add(at);
    let bytes = 0;
    for (const [chain, layer] of [...this.layers]) {
      if (reached.has(chain)) continue;
      bytes += layer.bytes.length;
      this.layers.delete(chain);
    }
    return bytes;
  }

  #get(chain: ChainID): MemoryLayer {
    const layer = this.layers.get(chain);
    if (layer === undefined) throw new EngineError("not-found", `layer ${chain} not found`);
    return layer;
  }
}
