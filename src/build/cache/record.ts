import type { ChainID, DiffID } from "#core/digest.ts";

/** What a step was made of, by name: `parent`, `command`, `env PATH` → a digest of it. The files that it copies are one of them: `files`, a digest of their {@link FilePrints}. */
export type Inputs = Readonly<Record<string, string>>;

/** Files by name → what counts of each. Read only to tell which of them have changed. */
export type FilePrints = ReadonlyMap<string, string>;

/** A value that may be told to nobody: of a build argument, a variable, a secret. */
export class Hidden {
  readonly value: string | Uint8Array;

  constructor(value: string | Uint8Array) {
    this.value = value;
  }
}

/** The same while a build runs: nothing is concealed yet. */
export type StepInputs = Readonly<Record<string, string | Hidden>>;

/** The outcome of a step, for whoever asks for the same one again. */
export interface CacheRecord {
  /** sha256 of {@link inputs}, hex. */
  readonly key: string;
  readonly inputs: Inputs;
  /** undefined: the step has left the root as it was. */
  readonly layer: { readonly diffId: DiffID; readonly chainId: ChainID; readonly size: number } | undefined;
  /** RFC 3339: what the image's history says. */
  readonly created: string;
  /** The instruction as written; records of one text are compared to tell why one does not serve. */
  readonly text: string;
  readonly usedAtMs: number;
  readonly uses: number;
}
