import type { Inputs } from "../cache/record.ts";

/** Inputs that were made of a tree's files, by the question that they answer: a text that says all that the answer depends on besides the tree. */
export type KnownAnswers = Map<string, Inputs>;

/** So many states are remembered, with the answers of all Dockerfiles that were built from each. */
const maxStates = 64;

/** What builds have found out of trees of files, as long as this process lives: a tree is the same one when its state is (a digest of all of it). */
export class KnownStates {
  /** Those used last are last. */
  readonly #answers = new Map<string, KnownAnswers>();

  of(state: string): KnownAnswers {
    const answers = this.#answers.get(state) ?? new Map();
    this.#answers.delete(state);
    this.#answers.set(state, answers);
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= maxStates) break;
      this.#answers.delete(oldest);
    }
    return answers;
  }
}
