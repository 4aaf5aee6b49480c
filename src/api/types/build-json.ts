/** Events of a build as `POST /build?progress=events` (ours) sends them, one in each line's `aux`. @module */

export interface StepJson {
  readonly number: number;
  readonly total: number;
  readonly stage?: string;
  readonly text: string;
}

export type BuildEventJson =
  | { readonly kind: "begin"; readonly step: StepJson; readonly atMs: number }
  | { readonly kind: "cached"; readonly step: StepJson }
  | { readonly kind: "miss"; readonly step: StepJson; readonly why: string }
  | { readonly kind: "container"; readonly step: StepJson; readonly id: string; readonly removed: boolean }
  /** `data`: base64. */
  | { readonly kind: "output"; readonly step: StepJson; readonly stream: "stdout" | "stderr"; readonly data: string }
  | { readonly kind: "status"; readonly step: StepJson; readonly text: string }
  | { readonly kind: "warning"; readonly step?: StepJson; readonly text: string }
  | { readonly kind: "done"; readonly step: StepJson; readonly image: string; readonly atMs: number }
  | { readonly kind: "failed"; readonly step: StepJson; readonly message: string; readonly atMs: number };
