/** A producer that is told to wait goes on when fewer values than this wait to be read. */
const fewValues = 16;

/** Values from callbacks as an iterable that one consumer reads to its end. What is put in while nobody reads waits. */
export class Queue<T> implements AsyncIterable<T> {
  #values: T[] = [];
  #ended = false;
  #unread = 0;
  #wakeReader: (() => void) | undefined;
  #wakeWriters: (() => void)[] = [];

  put(value: T): void {
    if (this.#ended) return;
    this.#values.push(value);
    this.#unread++;
    this.#wakeReader?.();
  }

  /** Resolves when little is left to be read, or nothing will be read any more. */
  async ready(): Promise<void> {
    if (this.#unread >= fewValues && !this.#ended) await new Promise<void>((resolve) => this.#wakeWriters.push(resolve));
  }

  end(): void {
    this.#ended = true;
    this.#wakeReader?.();
    this.#letWrite();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        const batch = this.#values;
        this.#values = [];
        for (const value of batch) {
          yield value;
          if (--this.#unread < fewValues) this.#letWrite();
        }
        if (this.#values.length > 0) continue;
        if (this.#ended) return;
        await new Promise<void>((resolve) => (this.#wakeReader = resolve));
        this.#wakeReader = undefined;
      }
    } finally {
      this.end();
    }
  }

  #letWrite(): void {
    const waiting = this.#wakeWriters;
    this.#wakeWriters = [];
    for (const wake of waiting) wake();
  }
}
