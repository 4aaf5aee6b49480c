/** One at a time, in order of asking. Each container has one of its own; there is no lock over all. @module */
export class Mutex {
  #tail: Promise<void> | undefined;

  /** Runs `work` when everything that asked before has ended. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#tail;
    let release!: () => void;
    const mine = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#tail = mine;
    if (before !== undefined) await before;
    try {
      return await work();
    } finally {
      if (this.#tail === mine) this.#tail = undefined;
      release();
    }
  }

  /** Whether somebody is inside. */
  get busy(): boolean {
    return this.#tail !== undefined;
  }
}
