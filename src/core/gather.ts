/**
 * Things to do that nobody waits for gather for a little while and are done in one go: a trip to Node's thread pool costs the daemon's thread more than most
 * system calls do, and what is begun in the middle of an answer delays it.
 * @module
 */
export class Gather<T> {
  readonly #afterMs: number;
  readonly #work: (items: T[]) => Promise<void>;
  #items: T[] = [];
  #timer: NodeJS.Timeout | undefined;
  #last: Promise<void> = Promise.resolve();
  #closed = false;

  /** `work` is called with all that has come within `afterMs`, one call at a time; it tells its own failures, and does not reject. */
  constructor(afterMs: number, work: (items: T[]) => Promise<void>) {
    this.#afterMs = afterMs;
    this.#work = work;
  }

  add(...items: readonly T[]): void {
    if (this.#closed) return;
    this.#items.push(...items);
    this.#timer ??= setTimeout(() => this.flush(), this.#afterMs);
  }

  /** Does it now; resolves when all that was added before has been done. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const items = this.#items;
    this.#items = [];
    if (items.length > 0) this.#last = this.#last.then(() => this.#work(items));
    return this.#last;
  }

  /** As flush; what comes afterwards is dropped: whoever closes has said that the next start sees to it. */
  close(): Promise<void> {
    this.#closed = true;
    return this.flush();
  }
}
