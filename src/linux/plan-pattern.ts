/**
 * A plan that is known for one container, for another which differs from it in nothing but the id. Planning and encoding are pure, so that what they make
 * of the other is the same with one id in the other's place.
 *
 * An id is 64 random hex digits. Wherever at least {@link SHORTEST} of them follow each other (a short id, a host name, a socket's name) they are meant.
 * @module
 */
import { encodeSteps } from "./encode.ts";
import type { Plan, Step } from "./plan.ts";

/** As many digits as a short id has: no plan holds them by chance. */
const SHORTEST = 12;

export class PlanPattern {
  readonly #id: string;
  readonly #steps: readonly Step[];
  readonly #bytes: Buffer;
  /** Where digits of the id stand, and how many. */
  readonly #places: readonly Place[];

  /** Of the plan for `id`. */
  constructor(plan: Plan, id: string) {
    this.#id = id;
    this.#steps = plan.steps;
    this.#bytes = Buffer.from(encodeSteps(plan.steps).done());
    this.#places = placesOf(this.#bytes, id);
  }

  /** The plan for another id, as long as this one's, after steps of its own. */
  for(id: string, first: readonly Step[]): Plan {
    const own = this.#id;
    const steps = this.#steps;
    const bytes = withId(this.#bytes, this.#places, id);
    return {
      get steps() {
        return [...first, ...renamed(steps, own, id)];
      },
      known: { first, count: steps.length, bytes },
    };
  }
}

interface Place {
  readonly at: number;
  readonly digits: number;
}

function withId(bytes: Buffer, places: readonly Place[], id: string): Buffer {
  const other = Buffer.from(bytes);
  for (const { at, digits } of places) other.write(id, at, digits, "latin1");
  return other;
}

/** The same text for another id. */
export function renameIn(text: string, id: string, other: string): string {
  let result = "";
  let from = 0;
  for (const { at, digits } of placesOf(text, id)) {
    result += text.slice(from, at) + other.slice(0, digits);
    from = at + digits;
  }
  return result + text.slice(from);
}

function placesOf(text: string | Buffer, id: string): Place[] {
  const short = id.slice(0, SHORTEST);
  const places: Place[] = [];
  const digit = (i: number) => (typeof text === "string" ? text.charCodeAt(i) : text[i]);
  for (let at = text.indexOf(short); at >= 0; ) {
    let digits = SHORTEST;
    while (digits < id.length && digit(at + digits) === id.charCodeAt(digits)) digits++;
    places.push({ at, digits });
    at = text.indexOf(short, at + digits);
  }
  return places;
}

/** Every text and every byte string in it. */
function renamed<T>(value: T, id: string, other: string): T {
  const of = (part: unknown): unknown => {
    if (typeof part === "string") return renameIn(part, id, other);
    if (part instanceof Uint8Array) {
      const bytes = Buffer.from(part);
      const places = placesOf(bytes, id);
      return places.length === 0 ? part : withId(bytes, places, other);
    }
    if (Array.isArray(part)) return part.map(of);
    if (typeof part === "object" && part !== null) return Object.fromEntries(Object.entries(part).map(([name, field]) => [name, of(field)]));
    return part;
  };
  return of(value) as T; // of the same shape
}
