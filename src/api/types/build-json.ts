/** Events of a build as `POST /build?progress=events` (ours) sends them, one in each line's `aux`. @module */
import type { BuildEvent } from "#engine/mod.ts";

/** As JSON has it: bytes are base64. */
type Wire<Event> = { readonly [Key in keyof Event]: Event[Key] extends Uint8Array ? string : Event[Key] };

export type BuildEventJson = Wire<BuildEvent>;
export type StepJson = Extract<BuildEventJson, { readonly kind: "begin" }>["step"];

/** How a step is called wherever a build is shown: `[build 2/5] RUN make`. */
export function stepTitle({ stage, number, total, text }: StepJson): string {
  return `[${stage === undefined ? "" : `${stage} `}${number}/${total}] ${text}`;
}
