/** Work that is begun in answering and goes on after the answer. @module */
import { isEngineError } from "#core/errors.ts";

export class Background {
  readonly #running = new Set<Promise<void>>();
  readonly #report: (message: string) => void;

  /** `report` is told of failures: nobody else is there to hear them. */
  constructor(report: (message: string) => void) {
    this.#report = report;
  }

  /** Like {@link add}, for what may take as long as a container lives: {@link idle} does not wait for it. */
  addEndless(what: string, work: Promise<unknown>): void {
    void this.#watch(what, work);
  }

  add(what: string, work: Promise<unknown>): void {
    const tracked = this.#watch(what, work);
    this.#running.add(tracked);
    void tracked.then(() => this.#running.delete(tracked));
  }

  #watch(what: string, work: Promise<unknown>): Promise<void> {
    return work.then(
      () => undefined,
      (error: unknown) => {
        if (!isEngineError(error, "cancelled")) this.#report(`${what}: ${error instanceof Error ? error.message : String(error)}`);
      },
    );
  }

  /** Resolves when all that is under way has ended. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
