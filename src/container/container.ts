/**
 * A container that the engine knows: its stored record, and what lives only as long as this daemon.
 * @module
 */
import type { MonitorLink } from "#linux/helper.ts";
import { beyondCode } from "./exit-reason.ts";
import type { ContainerRecord, ContainerState } from "./mod.ts";
import { Mutex } from "./mutex.ts";

/** How a wait ends. */
export interface WaitResult {
  readonly exitCode: number;
  readonly error?: string;
  /** Of an end that the exit code does not explain: a signal and who sent it, memory that ran out. */
  readonly reason?: string;
}

type Waiter = (result: WaitResult) => void;

export class Container {
  readonly id: string;
  /** Replaced at each change, never changed: whoever read it keeps what was read. */
  record: ContainerRecord;
  /** Changes of the container, one at a time. Reads do not take it. */
  readonly mutex: Mutex = new Mutex();
  link: MonitorLink | undefined;
  /**
   * As long as its last run has left something (its root, which may not be mounted twice, or its cgroups): asks its monitor to let go of that at once, and
   * waits for it. Never rejects.
   */
  clearLast: (() => Promise<void>) | undefined;
  /** Numbers the runs within this daemon: an exit of an earlier run is not taken for one of this. */
  run = 0;
  /** The request that sent the last signal ("wherry kill"), for the exit's reason. */
  sentBy: { readonly signal: number; readonly by: string } | undefined;
  /** The wait before a restart by policy. */
  restart: { readonly cancel: AbortController; readonly delayMs: number } | undefined;
  /** Before the last restart; 0 = there was none since somebody started it. */
  lastDelayMs = 0;
  /** Ends its health checks; undefined: it has none, or is not probed now. */
  healthChecks: AbortController | undefined;
  /** Brings its lines to their service and compresses what was rotated. */
  logKeeper: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;
  /** Ids of its execs. */
  readonly execs: Set<string> = new Set();
  /** Removal has begun: nothing may start it any more. */
  removing = false;
  removed = false;
  readonly #exitWaiters = new Set<Waiter>();
  readonly #removeWaiters = new Set<Waiter>();
  readonly #healthWatchers = new Set<() => void>();

  constructor(record: ContainerRecord) {
    this.id = record.id;
    this.record = record;
  }

  get state(): ContainerState {
    return this.record.state;
  }

  set(change: Partial<ContainerRecord>): ContainerRecord {
    this.record = { ...this.record, ...change };
    return this.record;
  }

  setState(state: ContainerState): void {
    this.record = { ...this.record, state };
  }

  /** The next exit, or removal if that comes first. */
  onExit(waiter: Waiter): () => void {
    this.#exitWaiters.add(waiter);
    return () => this.#exitWaiters.delete(waiter);
  }

  /** Calls at every change of its health's status. */
  onHealth(watcher: () => void): () => void {
    this.#healthWatchers.add(watcher);
    return () => this.#healthWatchers.delete(watcher);
  }

  notifyHealth(): void {
    for (const watcher of [...this.#healthWatchers]) watcher();
  }

  onRemoved(waiter: Waiter): () => void {
    this.#removeWaiters.add(waiter);
    return () => this.#removeWaiters.delete(waiter);
  }

  notifyExit(): void {
    this.#settle(this.#exitWaiters);
  }

  notifyRemoved(): void {
    this.removed = true;
    this.#settle(this.#exitWaiters);
    this.#settle(this.#removeWaiters);
  }

  /** Without the error of a start: whoever started it has been told. */
  #settle(waiters: Set<Waiter>): void {
    const { exitCode, error } = this.record.state;
    const reason = error === "" ? beyondCode(this.record.state.reason, exitCode) : undefined;
    const all = [...waiters];
    waiters.clear();
    for (const waiter of all) waiter({ exitCode, ...(reason === undefined ? {} : { reason }) });
  }
}
