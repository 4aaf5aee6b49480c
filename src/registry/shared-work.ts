/** Work that several callers want at the same time is done once. It is given up when the last of them has gone. */
export class SharedWork<T> {
  readonly #running = new Map<string, Shared<T>>();

  /** The result of the work under this key, which is begun unless it runs. Rejects with the signal's reason when this caller gives up. */
  run(key: string, signal: AbortSignal | undefined, begin: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const shared = this.#running.get(key) ?? this.#begin(key, begin);
    shared.callers++;
    return new Promise<T>((resolve, reject) => {
      const leave = () => {
        if (--shared.callers === 0) {
          // Who comes now begins anew.
          if (this.#running.get(key) === shared) this.#running.delete(key);
          shared.abort.abort(signal?.reason);
        }
        // What was begun may hold files: who gives up waits until they are let go when he is the last.
        if (shared.callers === 0) void shared.result.then(reject, reject);
        else reject(signal?.reason);
      };
      if (signal?.aborted) return leave();
      signal?.addEventListener("abort", leave, { once: true });
      shared.result.then(resolve, reject).finally(() => signal?.removeEventListener("abort", leave));
    });
  }

  /** The end of what runs under this key, for who needs it and does not keep it going. */
  running(key: string): Promise<T> | undefined {
    return this.#running.get(key)?.result;
  }

  #begin(key: string, begin: (signal: AbortSignal) => Promise<T>): Shared<T> {
    const abort = new AbortController();
    const shared: Shared<T> = { callers: 0, abort, result: begin(abort.signal) };
    this.#running.set(key, shared);
    const done = () => {
      if (this.#running.get(key) === shared) this.#running.delete(key);
    };
    shared.result.then(done, done);
    return shared;
  }
}

interface Shared<T> {
  callers: number;
  readonly abort: AbortController;
  readonly result: Promise<T>;
}
