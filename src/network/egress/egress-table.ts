/**
 * Egress rules as nf_tables objects. Containers are told apart by their addresses, which a chain at the near end of each one's cable makes them keep to; what
 * they may call are elements of sets, whatever the number of containers. Pure.
 * @module
 */
import type { NetlinkMessage } from "#linux/netlink/message.ts";
import * as nft from "#linux/netlink/nft-expressions.ts";
import {
  deleteChain,
  deleteElements,
  deleteSet,
  deleteTable,
  flushChain,
  flushMap,
  type NftChain,
  type NftElement,
  type NftSet,
  newChain,
  newElements,
  newRule,
  newSet,
  newTable,
  nftBatch,
  ofDevice,
} from "#linux/netlink/nftables.ts";
import { type Address, addressBytes, addressOf, type Family } from "../ip-address.ts";
import type { Box, Opening } from "./egress-rules.ts";

/** An endpoint whose calls are limited. */
export interface Confined {
  readonly containerId: string;
  /** The host's end of its cable. */
  readonly cable: string;
  readonly addresses: readonly Address[];
  readonly boxes: Readonly<Record<Family, readonly Box[]>>;
}

/** What an answer to a container's question has opened. `until`: milliseconds of the system's clock. */
export interface Learned {
  readonly source: Address;
  readonly destination: Address;
  readonly opening: Opening;
  readonly until: number;
  /** What was asked for; an earlier engine's is not known. */
  readonly name?: string;
}

const FAMILIES = [4, 6] as const;

interface Sets {
  readonly confined: NftSet;
  readonly allowed: NftSet;
  readonly learned: NftSet;
  readonly learnedAny: NftSet;
}

function sets(address: "ipv4_addr" | "ipv6_addr", suffix: string): Sets {
  const flow = [address, address, "inet_proto", "inet_service"] as const;
  return {
    confined: { name: `confined${suffix}`, key: [address] },
    allowed: { name: `allowed${suffix}`, key: flow, intervals: true },
    learned: { name: `learned${suffix}`, key: flow, timeouts: true },
    learnedAny: { name: `learned_any${suffix}`, key: [address, address], timeouts: true },
  };
}

export const SETS: Readonly<Record<Family, Sets>> = { 4: sets("ipv4_addr", ""), 6: sets("ipv6_addr", "6") };
const ALL_SETS = FAMILIES.flatMap((family) => Object.values(SETS[family]) as NftSet[]);

/** Behind connection tracking, before translation: what counts is whom the container calls. */
const CHAIN: NftChain = { name: "egress", hook: { type: "filter", hook: "prerouting", priority: -150 } };
const LINK_LOCAL = [
  { address: Uint8Array.of(0xfe, 0x80, ...new Uint8Array(14)), prefix: 10 },
  { address: Uint8Array.of(0xff, 0x02, ...new Uint8Array(14)), prefix: 16 },
] as const;
/** Of all containers together; the engine counts for each. */
const LOGGED_PER_SECOND = 100;

/** The chain with its rules, and its sets with what stays in them. `group`: where refusals are logged to, if they are. */
export function egressMessages(table: string, firstId: number, group: number | undefined): NetlinkMessage[] {
  const accept = nft.accept();
  const discovery = [...nft.family(6), ...nft.neighbourDiscovery()];
  const rules: Uint8Array[][] = [
    [...nft.established(), ...accept],
    ...FAMILIES.map((family) => [...nft.family(family), ...nft.sourceNotInSet(family, SETS[family].confined.name), ...accept]),
    [...discovery, ...nft.toThisHost(), ...accept],
    ...LINK_LOCAL.map(({ address, prefix }) => [...discovery, ...nft.destinationIn(address, prefix), ...accept]),
    ...FAMILIES.flatMap((family) => [
      [...nft.family(family), ...nft.flowInSet(family, SETS[family].allowed.name), ...accept],
      [...nft.family(family), ...nft.flowInSet(family, SETS[family].learned.name), ...accept],
      [...nft.family(family), ...nft.addressesInSet(family, SETS[family].learnedAny.name), ...accept],
    ]),
    ...(group === undefined ? [] : [[...nft.perSecond(LOGGED_PER_SECOND), ...nft.logTo(group)]]),
    nft.reject(),
  ];
  return [
    ...ALL_SETS.map((set, i) => newSet(table, set, firstId + i)),
    newChain(table, CHAIN),
    flushChain(table, CHAIN.name),
    ...rules.map((rule) => newRule(table, CHAIN.name, rule)),
  ];
}

/** Takes it away, whether it is there or not; guards are a table of their own. */
export function withoutEgress(table: string, firstId: number): NetlinkMessage[] {
  return [
    ...ALL_SETS.map((set, i) => newSet(table, set, firstId + i)),
    newChain(table, CHAIN),
    flushChain(table, CHAIN.name),
    deleteChain(table, CHAIN.name),
    ...ALL_SETS.map(({ name }) => deleteSet(table, name)),
  ];
}

/** What earlier containers were confined to; what answers have opened stays. */
export const forgetConfined = (table: string): NetlinkMessage[] => [
  ...FAMILIES.flatMap((family) => [flushMap(table, SETS[family].confined.name), flushMap(table, SETS[family].allowed.name)]),
  ...withoutGuards(table),
];

/** Removing a table that there is not is an error. */
const withoutGuards = (table: string): NetlinkMessage[] => [ofDevice(newTable(table)), ofDevice(deleteTable(table))];
export const guardsRemoval = (table: string): NetlinkMessage[] => nftBatch(withoutGuards(table));

const two = (value: number) => Uint8Array.of(value >>> 8, value);

function boxElement(source: Address, { first, last, protocols, ports }: Box): NftElement {
  const corner = (value: bigint, protocol: number, port: number) =>
    nft.concatenation(addressBytes(source), addressBytes({ family: source.family, value }), Uint8Array.of(protocol), two(port));
  return { key: corner(first, protocols.first, ports.first), keyEnd: corner(last, protocols.last, ports.last) };
}

/** Which elements of which sets stand for it. */
function* elementsOf({ addresses, boxes }: Confined): Generator<readonly [set: string, elements: NftElement[]]> {
  for (const address of addresses) {
    const allowed = boxes[address.family].map((box) => boxElement(address, box));
    if (allowed.length > 0) yield [SETS[address.family].allowed.name, allowed];
    yield [SETS[address.family].confined.name, [{ key: addressBytes(address) }]];
  }
}

const takeElements = (table: string, confined: Confined) => [...elementsOf(confined)].flatMap(([set, elements]) => newElements(table, set, elements));
const freeElements = (table: string, confined: Confined) => [...elementsOf(confined)].flatMap(([set, elements]) => deleteElements(table, set, elements));

/** Confines endpoints, whose cables are there. */
export function confineMessages(table: string, list: readonly Confined[]): NetlinkMessage[] {
  if (list.length === 0) return [];
  return [
    ...list.flatMap((confined) => takeElements(table, confined)),
    ofDevice(newTable(table)),
    ...list.flatMap((confined) => guardMessages(table, confined)),
  ];
}

const ETHER = { IP: 0x0800, ARP: 0x0806, IPV6: 0x86dd } as const;

/** A packet has the container's address as its source, or it does not get past the cable. */
function guardMessages(table: string, { cable, addresses }: Confined): NetlinkMessage[] {
  const own = (family: Family) => addresses.filter((address) => address.family === family).map(addressBytes);
  const [accept, drop] = [nft.accept(), nft.drop()];
  const rules: Uint8Array[][] = [
    ...own(4).flatMap((address) => [
      [...nft.etherType(ETHER.IP), ...nft.sourceIs(address), ...accept],
      [...nft.etherType(ETHER.ARP), ...nft.arpSourceIsNot(address), ...drop],
      [...nft.etherType(ETHER.ARP), ...accept],
    ]),
    ...own(6).flatMap((address) => [
      [...nft.etherType(ETHER.IPV6), ...nft.sourceIs(address), ...accept],
      [...nft.etherType(ETHER.IPV6), ...nft.neighbourDiscovery(), ...accept],
    ]),
    drop,
  ];
  const messages = [
    newChain(table, { name: cable, hook: { type: "filter", hook: "ingress", priority: -300, device: cable } }),
    flushChain(table, cable),
    ...rules.map((rule) => newRule(table, cable, rule)),
  ];
  return messages.map(ofDevice);
}

/** Frees what an endpoint was confined to, as a transaction; ENOENT: it is gone already. */
export const releaseTransaction = (table: string, confined: Confined): NetlinkMessage[] => nftBatch(freeElements(table, confined));

/** What an endpoint is confined to instead of what it was (undefined: to nothing). */
export interface Reconfined {
  readonly was: Confined | undefined;
  readonly now: Confined;
}

/** Other rules for endpoints, and an end to what answers had opened, as one transaction: at no moment are they free. */
export const reconfineTransaction = (table: string, changes: readonly Reconfined[], closed: readonly Learned[]): NetlinkMessage[] =>
  nftBatch([
    // made first, so that all of it is there to be removed
    ...changes.flatMap(({ was }) => (was === undefined ? [] : [...takeElements(table, was), ...freeElements(table, was)])),
    ...changes.flatMap(({ was, now }) => (was === undefined ? confineMessages(table, [now]) : takeElements(table, now))),
    ...forgetMessages(table, closed),
  ]);
/** Its guard, where the kernel has not removed it with the cable. ENOENT: it has. */
export const unguardTransaction = (table: string, { cable }: Confined): NetlinkMessage[] =>
  nftBatch([flushChain(table, cable), deleteChain(table, cable)].map(ofDevice));

const setOf = ({ source, opening }: Learned): string => (opening === undefined ? SETS[source.family].learnedAny : SETS[source.family].learned).name;
function learnedElement({ source, destination, opening, until }: Learned, now: number): NftElement {
  const ports = opening === undefined ? [] : [Uint8Array.of(opening.protocol), two(opening.port)];
  return { key: nft.concatenation(addressBytes(source), addressBytes(destination), ...ports), timeoutMs: Math.max(1, until - now) };
}

/** An element that is there keeps its time: it is removed, once it is there for certain, and made anew. */
export function learnMessages(table: string, list: readonly Learned[], now: number): NetlinkMessage[] {
  return list.flatMap((each) => {
    const [set, element] = [setOf(each), [learnedElement(each, now)]];
    return [...newElements(table, set, element), ...deleteElements(table, set, element), ...newElements(table, set, element)];
  });
}

export function forgetMessages(table: string, list: readonly Learned[]): NetlinkMessage[] {
  return list.flatMap((each) => {
    const [set, element] = [setOf(each), [learnedElement(each, each.until - 1000)]];
    return [...newElements(table, set, element), ...deleteElements(table, set, element)];
  });
}

/** The inverse of an element's key in a set of what answers have opened. undefined: it is not one of ours. */
export function learnedOf(family: Family, set: "learned" | "learnedAny", key: Uint8Array, until: number): Learned | undefined {
  const length = family === 4 ? 4 : 16;
  if (key.length !== 2 * length + (set === "learned" ? 8 : 0)) return undefined;
  const address = (at: number): Address => addressOf(key.subarray(at, at + length));
  const rest = key.subarray(2 * length);
  const opening = set === "learned" ? { protocol: rest[0] ?? 0, port: (rest[4] ?? 0) * 256 + (rest[5] ?? 0) } : undefined;
  return { source: address(0), destination: address(length), opening, until };
}
