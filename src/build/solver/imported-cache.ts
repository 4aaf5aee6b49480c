import type { ChainID, DiffID } from "#core/digest.ts";
import type { PortableStep } from "../cache/portable.ts";
import type { Layer } from "./host.ts";

/** A cache from elsewhere. It is opened when a step asks first, and a layer is fetched when a step is answered with it. */
export interface ImportedCache {
  /** For people. */
  readonly name: string;
  /** undefined: it has no such step, or cannot be read, which it has reported itself. */
  find(key: string, signal: AbortSignal): Promise<PortableStep | undefined>;
  /** Brings a layer here, verified. @throws EngineError */
  fetch(diffId: DiffID, parent: ChainID | undefined, signal: AbortSignal): Promise<Layer>;
}
