/**
 * What happens, told to whoever listens. Events form a linked list: a reader holds its place in it, so a slow one misses nothing and costs the others nothing; what no reader
 * and no history needs is garbage.
 * @module
 */
import { nowNs } from "#core/clock.ts";
import type { EngineEvent, Filters } from "./mod.ts";

/** How many past events `since` can reach. */
const HISTORY = 16_384;

interface Node {
  event: EngineEvent | undefined;
  next: Node | undefined;
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
  #last = 0n;
  readonly #sleepers = new Set<() => void>();
  /** Readers now. */
  listeners = 0;

  publish(Type: EngineEvent["Type"], Action: string, ID: string, Attributes: Readonly<Record<string, string>>): void {
    const now = nowNs();
    // Strictly rising, so that `since` a seen event's time gives what came after it.
    this.#last = now > this.#last ? now : this.#last + 1n;
    const next: Node = { event: undefined, next: undefined };
    this.#tail.event = { Type, Action, Actor: { ID, Attributes }, timeNano: this.#last };
    this.#tail.next = next;
    this.#tail = next;
    if (this.#kept === HISTORY && this.#oldest.next !== undefined) this.#oldest = this.#oldest.next;
    else this.#kept++;
    for (const wake of this.#sleepers) wake();
    this.#sleepers.clear();
  }

  /** Past events from `sinceNs` on, then new ones until `untilNs` or the signal. Listening begins with the call, not with the first `next()`. */
  read(query: EventQuery): AsyncGenerator<EngineEvent> {
    const { sinceNs, untilNs, filters } = query;
    // Docker: no past events without `since`, unless there is an `until`.
    const from = sinceNs !== undefined || untilNs !== undefined ? this.#oldest : this.#tail;
    return this.#follow(from, query, eventFilter(filters));
  }

  async *#follow(from: Node, { sinceNs, untilNs, signal }: EventQuery, wanted: (event: EngineEvent) => boolean): AsyncGenerator<EngineEvent> {
    let at = from;
    this.listeners++;
    try {
      for (;;) {
        for (; at.event !== undefined && at.next !== undefined; at = at.next) {
          if (signal?.aborted) return;
          const { event } = at;
          if (untilNs !== undefined && event.timeNano > untilNs) return;
          if ((sinceNs === undefined || event.timeNano >= sinceNs) && wanted(event)) yield event;
        }
        if (signal?.aborted || (untilNs !== undefined && nowNs() >= untilNs)) return;
        await this.#sleep(signal, untilNs);
      }
    } finally {
      this.listeners--;
    }
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
