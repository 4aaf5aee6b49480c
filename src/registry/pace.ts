/** A registry that gives less for this long has stopped, whatever it still sends. */
export interface SlowestPace {
  readonly bytes: number;
  readonly ms: number;
}

export const slowestPace: SlowestPace = { bytes: 4096, ms: 30_000 };

/** Notices a stream that drips. */
export class Pace {
  readonly #slowest: SlowestPace;
  #since = performance.now();
  #bytes = 0;

  constructor(slowest: SlowestPace) {
    this.#slowest = slowest;
  }

  /** To be told of each piece. */
  tooSlow(bytes: number): boolean {
    this.#bytes += bytes;
    const now = performance.now();
    if (now - this.#since < this.#slowest.ms) return false;
    const slow = this.#bytes < this.#slowest.bytes;
    this.#since = now;
    this.#bytes = 0;
    return slow;
  }

  /** For people. */
  toString(): string {
    return `less than ${this.#slowest.bytes} bytes in ${this.#slowest.ms / 1000} s`;
  }
}
