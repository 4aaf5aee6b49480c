import type { CacheEntry } from "#api/types/build-cache.ts";
import { EngineError } from "#core/errors.ts";
import type { SolvedBuild } from "#engine/mod.ts";
import { exportsOf } from "./caches.ts";
import { Progress } from "./progress.ts";
import type { Session } from "./sessions.ts";

/** How long calls wait for the build that they name: they come on streams of their own. */
const waitMs = 5_000;
/** How long the status of a build that has ended may still be asked for. */
const lingerMs = 10_000;

/** What a client says of the end of its part. */
export interface Returned {
  readonly result: string | undefined;
  readonly error: string | undefined;
}

/** One build, as `Control.Solve` begins and ends it. */
export class Job {
  readonly progress: Progress;
  readonly session: () => Promise<Session | undefined>;
  /** Results of the client's own solves, by reference. */
  readonly results: Map<string, SolvedBuild> = new Map();
  readonly returned: Promise<Returned>;
  readonly signal: AbortSignal;
  readonly finish: (returned: Returned) => void;
  readonly #exports: readonly CacheEntry[];
  #caches: ReturnType<typeof exportsOf> | undefined;

  constructor(ref: string, session: () => Promise<Session | undefined>, exports: readonly CacheEntry[], signal: AbortSignal) {
    this.progress = new Progress(ref);
    this.session = session;
    this.#exports = exports;
    this.signal = signal;
    let settle: (returned: Returned) => void = () => undefined;
    this.returned = new Promise((resolve, reject) => {
      settle = resolve;
      const cancel = () => reject(new EngineError("cancelled", "the build was cancelled", { cause: signal.reason }));
      if (signal.aborted) cancel();
      else signal.addEventListener("abort", cancel, { once: true });
    });
    this.finish = settle;
    // Whoever waits for it sees it; it may be that nobody does.
    this.returned.catch(() => undefined);
  }

  /** Where the cache of its steps goes. @throws EngineError for what is no place for one */
  get caches(): ReturnType<typeof exportsOf> {
    return (this.#caches ??= exportsOf(this.#exports));
  }

  async end(): Promise<void> {
    this.progress.status.end();
    for (const result of this.results.values()) await result[Symbol.asyncDispose]();
  }
}

/** Builds by their reference. */
export class Jobs {
  readonly #jobs = new Map<string, Job>();
  readonly #waiting = new Map<string, Set<(job: Job) => void>>();

  /** @throws EngineError "conflict" */
  begin(ref: string, job: Job): void {
    if (ref === "") throw new EngineError("invalid", "a build needs a reference");
    if (this.#jobs.has(ref)) throw new EngineError("conflict", `build ${ref} already exists`);
    this.#jobs.set(ref, job);
    for (const tell of this.#waiting.get(ref) ?? []) tell(job);
    this.#waiting.delete(ref);
  }

  end(ref: string): void {
    setTimeout(() => this.#jobs.delete(ref), lingerMs).unref();
  }

  /** @throws EngineError "not-found" when it does not begin */
  async get(ref: string): Promise<Job> {
    const known = this.#jobs.get(ref);
    if (known !== undefined) return known;
    return new Promise((resolve, reject) => {
      const waiting = this.#waiting.get(ref) ?? new Set();
      this.#waiting.set(ref, waiting);
      const late = setTimeout(() => {
        waiting.delete(tell);
        if (waiting.size === 0) this.#waiting.delete(ref);
        reject(new EngineError("not-found", `no such job ${ref}`));
      }, waitMs);
      const tell = (job: Job) => {
        clearTimeout(late);
        resolve(job);
      };
      waiting.add(tell);
    });
  }
}
