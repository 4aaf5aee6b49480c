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
  /** Answered by a cache. `from`: the imported one; undefined: the one that is here. */
  | { readonly kind: "cached"; readonly step: StepRef; readonly from?: string }
  /** Why the cache had no answer. */
  | { readonly kind: "miss"; readonly step: StepRef; readonly why: string }
  | { readonly kind: "container"; readonly step: StepRef; readonly id: string; readonly removed: boolean }
  | { readonly kind: "output"; readonly step: StepRef; readonly stream: "stdout" | "stderr"; readonly data: Uint8Array }
  | { readonly kind: "status"; readonly step: StepRef; readonly text: string }
  | { readonly kind: "warning"; readonly step: StepRef | undefined; readonly text: string }
  /** `image`: the id that an image which ended here would have. */
  | { readonly kind: "done"; readonly step: StepRef; readonly image: string; readonly atMs: number }
  | { readonly kind: "failed"; readonly step: StepRef; readonly message: string; readonly atMs: number }
  /**
   * `image`: what a failed step has left, without its mounts. `shell`: the program that was to read its command. `env`: variables that the step had and the image has not.
   */
  | {
      readonly kind: "left";
      readonly step: StepRef;
      readonly image: string;
      readonly shell: string;
      readonly env: readonly string[];
      readonly network: string;
    }
  /** Something in the Dockerfile is unwise. */
  | {
      readonly kind: "lint";
      readonly step: undefined;
      readonly rule: string;
      readonly description: string;
      readonly detail: string;
      readonly url: string;
      /** Lines of the instruction, from 1. */
      readonly line: number;
      readonly endLine: number;
    }
  /** Work around the steps: a cache is read or written. `message`: why it failed. */
  | {
      readonly kind: "task";
      readonly step: undefined;
      readonly name: string;
      readonly state: "begin" | "done" | "failed";
      readonly message: string;
      readonly atMs: number;
    };

export type Report = (event: BuildEvent) => void;

/** Reports work around the steps from its begin to its end. */
export async function reportTask<T>(report: Report, name: string, work: () => Promise<T>): Promise<T> {
  const tell = (state: "begin" | "done" | "failed", message: string) => report({ kind: "task", step: undefined, name, state, message, atMs: Date.now() });
  tell("begin", "");
  try {
    const result = await work();
    tell("done", "");
    return result;
  } catch (error) {
    tell("failed", error instanceof Error ? error.message : String(error));
    throw error;
  }
}
