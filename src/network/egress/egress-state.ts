/**
 * What containers with egress rules have asked and been told: addresses that answers have opened, and refusals, few enough to be read.
 * @module
 */
import { systemClock } from "#core/clock.ts";
import { type Address, formatAddress, parseAddress } from "../ip-address.ts";
import type { Refused } from "../mod.ts";
import { type EgressRules, mayAsk, type Opening, openingsFor } from "./egress-rules.ts";
import type { Confined, Learned } from "./egress-table.ts";
import type { RefusedPacket } from "./refusals.ts";

/** An answer that may be kept for less is still used for a moment. */
const MIN_OPEN_MS = 10_000;
const MAX_OPEN_MS = 24 * 3_600_000;
/** Of one container; what is asked later is not opened until something has ended. */
const MAX_LEARNED = 2_000;
/** The same refusal is told once in this time; of one container, so many. */
const TELL_AGAIN_MS = 5_000;
const TOLD_AT_MOST = 20;

const PROTOCOLS: Readonly<Record<number, string>> = { 1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp" };

interface State {
  readonly rules: EgressRules;
  readonly learned: Map<string, Learned>;
  /** What was told lately, and when. */
  readonly told: Map<string, number>;
}

export interface EgressStateOptions {
  readonly endpointsOf: (containerId: string) => readonly Confined[];
  /** Puts it into the kernel's sets. */
  readonly open: (learned: readonly Learned[], now: number) => Promise<void>;
  /** Takes it out again. */
  readonly close: (learned: readonly Learned[]) => Promise<void>;
  readonly onRefused: (containerId: string, refused: Refused) => void;
}

export class EgressState {
  readonly #options: EgressStateOptions;
  readonly #states = new Map<string, State>();

  constructor(options: EgressStateOptions) {
    this.#options = options;
  }

  add(containerId: string, rules: EgressRules): void {
    if (!this.#states.has(containerId)) this.#states.set(containerId, { rules, learned: new Map(), told: new Map() });
  }

  /** Other rules, of a container that runs. `closed`: what answers have opened and these do not. `undo`: as if nothing had been. */
  replace(containerId: string, rules: EgressRules): { readonly closed: readonly Learned[]; undo(): void } {
    const before = this.#states.get(containerId);
    const [learned, closed] = [new Map<string, Learned>(), [] as Learned[]];
    for (const [key, each] of before?.learned ?? []) {
      if (each.name !== undefined && openingsFor(rules, each.name).some((opening) => sameOpening(opening, each.opening))) learned.set(key, each);
      else closed.push(each);
    }
    this.#states.set(containerId, { rules, learned, told: new Map() });
    const undo = () => (before === undefined ? this.#states.delete(containerId) : this.#states.set(containerId, before));
    return { closed, undo: () => void undo() };
  }

  forget(containerId: string): void {
    this.#states.delete(containerId);
  }

  /** Whether others may be asked for a name. */
  allows(containerId: string, name: string): boolean {
    const state = this.#states.get(containerId);
    return state === undefined || mayAsk(state.rules, name);
  }

  /** The same; a refusal is told. */
  mayAsk(containerId: string, name: string): boolean {
    const state = this.#states.get(containerId);
    if (state === undefined || mayAsk(state.rules, name)) return true;
    this.#tell(containerId, state, { host: name });
    return false;
  }

  /** Opens what an answer to a container says, before it has the answer. */
  async answered(containerId: string, name: string, records: readonly { readonly type: string; readonly ttl: number; readonly data: string }[]): Promise<void> {
    const state = this.#states.get(containerId);
    const openings = state === undefined ? [] : openingsFor(state.rules, name);
    if (state === undefined || openings.length === 0) return;
    const now = systemClock.now();
    const learned = records.flatMap(({ type, data, ttl }) => {
      const destination = type === "A" || type === "AAAA" ? parseAddress(data) : undefined;
      return destination === undefined
        ? []
        : this.#fresh(containerId, state, { name, destination }, openings, now + Math.min(MAX_OPEN_MS, Math.max(MIN_OPEN_MS, ttl * 1000)));
    });
    if (learned.length === 0) return;
    await this.#options.open(learned, now);
    // the container may have ended meanwhile, and its address be another's
    if (this.#states.get(containerId) !== state) await this.#options.close(learned);
    else for (const each of learned) state.learned.set(keyOf(each), each);
  }

  /** What is not open for so long yet. */
  #fresh(
    containerId: string,
    state: State,
    { name, destination }: { readonly name: string; readonly destination: Address },
    openings: readonly Opening[],
    until: number,
  ): Learned[] {
    const sources = this.#options.endpointsOf(containerId).flatMap(({ addresses }) => addresses.filter(({ family }) => family === destination.family));
    const all = sources.flatMap((source) => openings.map((opening): Learned => ({ source, destination, opening, until, name })));
    if (state.learned.size + all.length > MAX_LEARNED) {
      const now = systemClock.now();
      for (const [key, each] of state.learned) if (each.until < now) state.learned.delete(key);
      if (state.learned.size + all.length > MAX_LEARNED) return [];
    }
    return all.filter((each) => (state.learned.get(keyOf(each))?.until ?? 0) < until);
  }

  /** Takes back what an earlier engine had opened. False: it is nobody's any more. */
  adopt(containerId: string, learned: Learned): void {
    this.#states.get(containerId)?.learned.set(keyOf(learned), learned);
  }

  /** All that is open now. */
  learned(): Learned[] {
    const now = systemClock.now();
    return [...this.#states.values()].flatMap(({ learned }) => [...learned.values()]).filter(({ until }) => until > now);
  }

  /** What is open through one endpoint, which goes. */
  take({ containerId, addresses }: Confined): Learned[] {
    const learned = this.#states.get(containerId)?.learned ?? new Map<string, Learned>();
    const taken = [...learned].filter(([, { source }]) => addresses.some(({ family, value }) => source.family === family && source.value === value));
    for (const [key] of taken) learned.delete(key);
    return taken.map(([, each]) => each);
  }

  packet(containerId: string, { destination, protocol, port }: RefusedPacket): void {
    const state = this.#states.get(containerId);
    const refused = { address: formatAddress(destination), protocol: PROTOCOLS[protocol] ?? String(protocol), port };
    if (state !== undefined) this.#tell(containerId, state, refused);
  }

  #tell(containerId: string, { told }: State, refused: Refused): void {
    const now = systemClock.now();
    for (const [key, at] of told) if (now - at > TELL_AGAIN_MS) told.delete(key);
    const key = JSON.stringify(refused);
    if (told.has(key) || told.size >= TOLD_AT_MOST) return;
    told.set(key, now);
    this.#options.onRefused(containerId, refused);
  }
}

const sameOpening = (a: Opening, b: Opening): boolean => a?.protocol === b?.protocol && a?.port === b?.port;

const keyOf = ({ source, destination, opening }: Learned): string =>
  `${source.family} ${source.value} ${destination.value} ${opening === undefined ? "" : `${opening.protocol} ${opening.port}`}`;
