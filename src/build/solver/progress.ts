/** What a build tells while it runs. @module */

export interface StepRef {
  /** From 1, in the order of the file. */
  readonly number: number;
  readonly total: number;
  /** Name or number of its stage; undefined when there is only one without a name. */
  readonly stage: string | undefined;
  /** The instruction. */
  readonly text: string;
}

export type BuildEvent =
  | { readonly kind: "begin"; readonly step: StepRef; readonly atMs: number }
  /** Answered by the cache. */
  | { readonly kind: "cached"; readonly step: StepRef }
  /** Why the cache had no answer. */
  | { readonly kind: "miss"; readonly step: StepRef; readonly why: string }
  | { readonly kind: "container"; readonly step: StepRef; readonly id: string; readonly removed: boolean }
  | { readonly kind: "output"; readonly step: StepRef; readonly stream: "stdout" | "stderr"; readonly data: Uint8Array }
  | { readonly kind: "status"; readonly step: StepRef; readonly text: string }
  | { readonly kind: "warning"; readonly step: StepRef | undefined; readonly text: string }
  /** `image`: the id that an image which ended here would have. */
  | { readonly kind: "done"; readonly step: StepRef; readonly image: string; readonly atMs: number }
  | { readonly kind: "failed"; readonly step: StepRef; readonly message: string; readonly atMs: number };

export type Report = (event: BuildEvent) => void;
