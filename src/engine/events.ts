/**
 * What happens, told to whoever listens. The newest events form a linked list in memory, in which a reader holds its place; older ones lie on disk
 * ({@link EventStore}). A reader that is slower than the list is long goes on from disk: it misses nothing, costs the others nothing, and holds no memory.
 * @module
 */
import { nowNs } from "#core/clock.ts";
import type { EventStore } from "./event-store.ts";
import type { EngineEvent, Filters } from "./mod.ts";

/** How many events are kept in memory. */
const HISTORY = 16_384;

interface Node {
  event: EngineEvent | undefined;
  next: Node | undefined;
  /** It has left the list: whoever stands here finds what follows on disk. */
  forgotten?: boolean;
}

export interface EventQuery {
  readonly sinceNs: bigint | undefined;
  readonly untilNs: bigint | undefined;
  readonly filters: Filters;
  readonly signal?: AbortSignal;
}

export class EventLog {
  /** An empty node after the newest event. */
  #tail: Node = { event: undefined, next: undefined };
  #oldest: Node = this.#tail;
  #kept = 0;
  #last: bigint;
  /** Time of the newest event that is on disk only. */
  #forgottenNs: bigint;
  readonly #store: EventStore | undefined;
  readonly #sleepers = new Set<() => void>();
  /** Readers now. */
  listeners = 0;

  /** Without a store, history begins with this object and what leaves the list is gone. */
  constructor(store?: EventStore, lastNs = 0n) {
    this.#store = store;
    this.#last = lastNs;
    this.#forgottenNs = lastNs;
  }

  /** With what an earlier engine has left. */
  static async open(store: EventStore): Promise<EventLog> {
    let last = 0n;
    for await (const { timeNano } of store.read(0n)) last = timeNano;
    return new EventLog(store, last);
  }

  publish(Type: EngineEvent["Type"], Action: string, ID: string, Attributes: Readonly<Record<string, string>>): void {
    const now = nowNs();
    // Strictly rising, so that `since` a seen event's time gives what came after it.
    this.#last = now > this.#last ? now : this.#last + 1n;
    const next: Node = { event: undefined, next: undefined };
    const event: EngineEvent = { Type, Action, Actor: { ID, Attributes }, timeNano: this.#last };
    this.#tail.event = event;
    this.#store?.append(event);
    this.#tail.next = next;
    this.#tail = next;
    if (this.#kept === HISTORY) this.#forgetOldest();
    else this.#kept++;
    for (const wake of this.#sleepers) wake();
    this.#sleepers.clear();
  }

  #forgetOldest(): void {
    const { next, event } = this.#oldest;
    if (next === undefined || event === undefined) return;
    this.#forgottenNs = event.timeNano;
    // Without a store a slow reader's nodes are the only copy: they stay as long as it does.
    if (this.#store !== undefined) Object.assign(this.#oldest, { event: undefined, next: undefined, forgotten: true });
    this.#oldest = next;
  }

  /** Past events from `sinceNs` on, then new ones until `untilNs` or the signal. Listening begins with the call, not with the first `next()`. */
  read(query: EventQuery): AsyncGenerator<EngineEvent> {
    const { sinceNs, untilNs, filters } = query;
    // Docker: no past events without `since`, unless there is an `until`.
    const past = sinceNs !== undefined || untilNs !== undefined;
    const seenNs = past ? (sinceNs ?? 0n) - 1n : this.#last;
    const from = past ? this.#after(seenNs) : this.#tail;
    return this.#follow(from, seenNs, query, eventFilter(filters));
  }

  async *#follow(from: Node, seenNs: bigint, { untilNs, signal }: EventQuery, wanted: (event: EngineEvent) => boolean): AsyncGenerator<EngineEvent> {
    const over = (event?: EngineEvent) => signal?.aborted === true || (untilNs !== undefined && (event?.timeNano ?? nowNs()) > untilNs);
    let [at, seen] = [from, seenNs];
    this.listeners++;
    try {
      for (;;) {
        while (at.forgotten === true && this.#store !== undefined) {
          const forgottenNs = this.#forgottenNs;
          for await (const event of this.#store.read(seen)) {
            if (over(event)) return;
            seen = event.timeNano;
            if (wanted(event)) yield event;
          }
          // What the disk does not have any more is no reason to look there for ever.
          if (seen < forgottenNs) seen = forgottenNs;
          at = this.#after(seen);
        }
        while (at.event !== undefined && at.next !== undefined) {
          const { event, next } = at; // while the event is taken, the node may be forgotten
          if (over(event)) return;
          seen = event.timeNano;
          if (wanted(event)) yield event;
          at = next;
        }
        if (at.forgotten === true) continue;
        if (over()) return;
        await this.#sleep(signal, untilNs);
      }
    } finally {
      this.listeners--;
    }
  }

  /** Where the events after a time begin; a forgotten node when that is on disk. */
  #after(seenNs: bigint): Node {
    if (this.#store !== undefined && seenNs < this.#forgottenNs) return { event: undefined, next: undefined, forgotten: true };
    let at = this.#oldest;
    while (at.event !== undefined && at.event.timeNano <= seenNs && at.next !== undefined) at = at.next;
    return at;
  }

  /** Until the next event, the signal or `untilNs`. */
  #sleep(signal: AbortSignal | undefined, untilNs: bigint | undefined): Promise<void> {
    return new Promise((resolve) => {
      const ms = untilNs === undefined ? undefined : Math.min(Number((untilNs - nowNs()) / 1_000_000n) + 1, 2 ** 31 - 1);
      const wake = () => {
        this.#sleepers.delete(wake);
        signal?.removeEventListener("abort", wake);
        clearTimeout(timer);
        resolve();
      };
      const timer = ms === undefined ? undefined : setTimeout(wake, ms);
      this.#sleepers.add(wake);
      signal?.addEventListener("abort", wake, { once: true });
    });
  }
}

/** Keys are joined by "and", the values of a key by "or" (labels by "and"), as in Docker. */
export function eventFilter(filters: Filters): (event: EngineEvent) => boolean {
  const checks = Object.entries(filters)
    .filter(([, values]) => values.length > 0)
    .map(
      ([key, values]) =>
        (event: EngineEvent) =>
          key === "label" ? values.every((v) => hasLabel(event, v)) : values.some((v) => matches(event, key, v)),
    );
  return (event) => checks.every((check) => check(event));
}

function hasLabel({ Actor }: EngineEvent, label: string): boolean {
  const [name = "", value] = label.split(/=(.*)/s);
  const found = Actor.Attributes[name];
  return value === undefined ? found !== undefined : found === value;
}

function matches({ Type, Action, Actor }: EngineEvent, key: string, value: string): boolean {
  const names = (type: string) => Type === type && (Actor.ID.startsWith(value) || (Actor.Attributes["name"] ?? "").startsWith(value.replace(/^\//, "")));
  switch (key) {
    case "type":
      return Type === value;
    case "event":
      return Action === value || Action.startsWith(`${value}:`);
    case "scope":
      return value === "local";
    case "container":
      return names("container") || (Type !== "container" && (Actor.Attributes["container"] ?? "").startsWith(value));
    case "image":
      return [Actor.ID, ...(Type === "image" ? [Actor.Attributes["name"]] : []), Actor.Attributes["image"]].some(
        (name) => name !== undefined && (name === value || stripTag(name) === value),
      );
    case "volume":
    case "network":
    case "daemon":
      return names(key);
    default:
      return false; // nodes, services, secrets …: there are none here
  }
}

function stripTag(name: string): string {
  return name.replace(/(:[^:/]+)?(@sha256:[0-9a-f]+)?$/, "");
}
