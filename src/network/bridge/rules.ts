/**
 * The nf_tables rules of all bridge networks, in one table of our own. Pure.
 * @module
 */
import type { NetlinkMessage } from "#linux/netlink/message.ts";
import * as nft from "#linux/netlink/nft-expressions.ts";
import {
  deleteElements,
  deleteTable,
  flushChain,
  flushMap,
  type NftChain,
  type NftElement,
  type NftMap,
  type NftSet,
  newChain,
  newElements,
  newMap,
  newRule,
  newSet,
  newTable,
  nftBatch,
} from "#linux/netlink/nftables.ts";
import { type Address, addressBytes, type Family, firstOf, type Subnet } from "../ip-address.ts";
import { type Confined, confineMessages, egressMessages, forgetConfined, type Learned, learnMessages, withoutEgress } from "../egress/egress-table.ts";
import type { BridgeSettings } from "../network-records.ts";

/** A port of the host that leads to a port of a container. */
export interface PublishedPort {
  readonly protocol: "tcp" | "udp" | "sctp";
  /** Of the target's family; undefined = every address of the host. */
  readonly hostAddress: Address | undefined;
  /** 0: none leads there, but the container's own is open (gateway mode routed, or to those who come by a trusted interface). */
  readonly hostPort: number;
  readonly address: Address;
  readonly port: number;
}

/** The maps of a family have the container's address and port as values; the second is asked first. */
const MAPS: Readonly<Record<Family, { readonly ports: NftMap; readonly addressed: NftMap }>> = {
  4: {
    ports: { name: "ports", key: ["inet_proto", "inet_service"], value: ["ipv4_addr", "inet_service"] },
    addressed: { name: "addressed_ports", key: ["ipv4_addr", "inet_proto", "inet_service"], value: ["ipv4_addr", "inet_service"] },
  },
  6: {
    ports: { name: "ports6", key: ["inet_proto", "inet_service"], value: ["ipv6_addr", "inet_service"] },
    addressed: { name: "addressed_ports6", key: ["ipv6_addr", "inet_proto", "inet_service"], value: ["ipv6_addr", "inet_service"] },
  },
};
const FAMILIES = [4, 6] as const;
/** Ports of containers that are open to who has a route there. */
const OPEN_PORTS: Readonly<Record<Family, NftSet>> = {
  4: { name: "open_ports", key: ["ipv4_addr", "inet_proto", "inet_service"] },
  6: { name: "open_ports6", key: ["ipv6_addr", "inet_proto", "inet_service"] },
};
const ALL_MAPS = FAMILIES.flatMap((family) => [MAPS[family].ports, MAPS[family].addressed]);

/** Objects of a transaction are numbered. */
const FIRST_EGRESS_ID = ALL_MAPS.length + FAMILIES.length + 1;

/** Rules of the host's administrator: asked before ours, never changed by us. */
export const USER_CHAIN = "user";

const CHAINS: readonly NftChain[] = [
  { name: "published" },
  { name: "guard", hook: { type: "filter", hook: "prerouting", priority: -300 } },
  { name: "prerouting", hook: { type: "nat", hook: "prerouting", priority: -100 } },
  { name: "output", hook: { type: "nat", hook: "output", priority: -100 } },
  { name: "postrouting", hook: { type: "nat", hook: "postrouting", priority: 100 } },
  { name: "forward", hook: { type: "filter", hook: "forward", priority: 0 } },
];

const LOOPBACK: Readonly<Record<Family, Subnet>> = { 4: { family: 4, network: 0x7f000000n, prefix: 8 }, 6: { family: 6, network: 1n, prefix: 128 } };
const from = (subnet: Subnet) => nft.sourceIn(addressBytes(firstOf(subnet)), subnet.prefix);
const to = (subnet: Subnet) => nft.destinationIn(addressBytes(firstOf(subnet)), subnet.prefix);

/** One rule: its chain and expressions. */
type Rule = readonly [chain: string, ...expressions: readonly (readonly Uint8Array[])[]];

/** Rules that do not depend on networks. */
function sharedRules(): Rule[] {
  return [
    ...FAMILIES.flatMap((family): Rule[] => [
      ["published", nft.family(family), nft.dnatByAddressAndPort(family, MAPS[family].addressed.name)],
      ["published", nft.family(family), nft.dnatByPort(family, MAPS[family].ports.name)],
    ]),
    ["prerouting", nft.toThisHost(), nft.jump("published")],
    // IPv6 knows no route_localnet: what goes to ::1 is passed on by the socket that holds the port
    ["output", to(LOOPBACK[6]), nft.accept()],
    ["output", nft.toThisHost(), nft.jump("published")],
    ["forward", nft.jump(USER_CHAIN)],
  ];
}

function rulesOf({ interfaceName, ipv4, ipv6, icc, internal, trusted }: BridgeSettings): Rule[] {
  const [into, outOf] = [nft.outputInterface(interfaceName), nft.inputInterface(interfaceName)];
  const families = [ipv4, ...(ipv6 === undefined ? [] : [ipv6])];
  const rules: Rule[] = [
    // route_localnet, which lets the host's own 127.0.0.1 reach published ports, would let containers reach services bound to 127.0.0.1 of the host
    ["guard", outOf, to(LOOPBACK[4]), nft.drop()],
    ["postrouting", into, from(LOOPBACK[4]), nft.masquerade()],
  ];
  const between: Rule = ["forward", into, outOf, icc ? nft.accept() : nft.drop()];
  if (internal) return [...rules, between, ["forward", into, nft.drop()], ["forward", outOf, nft.drop()]];
  for (const { subnet, masquerade, source } of families) {
    const translate = source === undefined ? nft.masquerade() : nft.snat(addressBytes(source));
    if (masquerade) rules.push(["postrouting", nft.outputInterface(interfaceName, false), from(subnet), translate]);
    // a container that calls a port published by its own network: the answer must come back through the host
    rules.push(["postrouting", into, from(subnet), nft.translated(), nft.masquerade()]);
  }
  return [
    ...rules,
    ["forward", into, nft.established(), nft.accept()],
    ["forward", into, nft.translated(), nft.accept()],
    between,
    ...families.flatMap(({ subnet, mode }): Rule[] => {
      if (mode === "nat-unprotected") return [["forward", into, to(subnet), nft.accept()]];
      const { family } = subnet;
      const published = [to(subnet), nft.serviceInSet(family, OPEN_PORTS[family].name), nft.accept()];
      if (mode !== "routed") return trusted.map((name) => ["forward", into, nft.inputInterface(name), ...published]);
      return [
        ["forward", into, ...published],
        ["forward", into, to(subnet), nft.icmp(family), nft.accept()],
      ];
    }),
    ["forward", into, nft.drop()],
  ];
}

export interface RulesetOptions {
  readonly table: string;
  readonly bridges: readonly BridgeSettings[];
  /** Families whose forwarding the engine turned on: traffic that has nothing to do with bridges is kept from being forwarded. */
  readonly closeForwarding: readonly Family[];
  /** Some endpoints are confined; refusals are logged to `group`. */
  readonly egress?: { readonly group: number | undefined };
}

/** What containers have taken: it stands in elements. */
export interface TableContent {
  readonly ports: readonly PublishedPort[];
  readonly confined: readonly Confined[];
  readonly learned: readonly Learned[];
}

/** So many endpoints are confined in one transaction. */
const CONFINED_PER_TRANSACTION = 100;
const LEARNED_PER_TRANSACTION = 500;

/** Makes the table what the bridges need; elements of the maps, and the user's chain, stay. */
export function rulesTransaction(options: RulesetOptions): NetlinkMessage[] {
  return nftBatch(ruleMessages(options));
}

/** The same, with nothing of what earlier containers had taken, but with this. The first does most of it, so that nobody is without limits meanwhile. */
export function freshTransactions(options: RulesetOptions, { ports, confined, learned }: TableContent, now: number): NetlinkMessage[][] {
  const { table, egress } = options;
  const portions = <T>(list: readonly T[], size: number) =>
    Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));
  const [first = [], ...more] = portions(confined, CONFINED_PER_TRANSACTION);
  const limits = egress === undefined ? withoutEgress(table, FIRST_EGRESS_ID) : [...forgetConfined(table), ...confineMessages(table, first)];
  return [
    nftBatch([...ruleMessages(options), ...[...ALL_MAPS, OPEN_PORTS[4], OPEN_PORTS[6]].map(({ name }) => flushMap(table, name)), ...limits]),
    ...more.map((some) => nftBatch(confineMessages(table, some))),
    ...portions(learned, LEARNED_PER_TRANSACTION).map((some) => nftBatch(learnMessages(table, some, now))),
    ...publishTransactions(table, ports),
  ];
}

/** Adds the rules of one more bridge to a table that is as {@link rulesTransaction} makes it. Takes nothing away, which the kernel would have to wait for. */
export function additionTransaction(table: string, bridge: BridgeSettings): NetlinkMessage[] {
  return nftBatch(encodeRules(table, rulesOf(bridge)));
}

const encodeRules = (table: string, rules: readonly Rule[]): NetlinkMessage[] =>
  rules.map(([chain, ...expressions]) => newRule(table, chain, expressions.flat()));

function ruleMessages({ table, bridges, closeForwarding, egress }: RulesetOptions): NetlinkMessage[] {
  const closing = closeForwarding.map((family): Rule => ["forward", nft.family(family), nft.neitherKind("bridge"), nft.drop()]);
  return [
    newTable(table),
    ...ALL_MAPS.map((map, i) => newMap(table, map, i + 1)),
    ...FAMILIES.map((family, i) => newSet(table, OPEN_PORTS[family], ALL_MAPS.length + i + 1)),
    newChain(table, { name: USER_CHAIN }),
    ...CHAINS.map((chain) => newChain(table, chain)),
    ...CHAINS.map(({ name }) => flushChain(table, name)),
    ...encodeRules(table, [...sharedRules(), ...closing, ...bridges.flatMap(rulesOf)]),
    ...(egress === undefined ? [] : egressMessages(table, FIRST_EGRESS_ID, egress.group)),
  ];
}

/** Removes the table; it is made first, so that a missing one is no error. */
export function removalTransaction(table: string): NetlinkMessage[] {
  return nftBatch([newTable(table), deleteTable(table)]);
}

const PROTOCOL = { tcp: 6, udp: 17, sctp: 132 } as const;
const portBytes = (port: number) => Uint8Array.of(port >>> 8, port);

function elementOf({ protocol, hostAddress, hostPort, address, port }: PublishedPort): NftElement {
  if (hostPort === 0) return { key: nft.concatenation(addressBytes(address), Uint8Array.of(PROTOCOL[protocol]), portBytes(port)) };
  const service = [Uint8Array.of(PROTOCOL[protocol]), portBytes(hostPort)];
  return {
    key: nft.concatenation(...(hostAddress === undefined ? [] : [addressBytes(hostAddress)]), ...service),
    value: nft.concatenation(addressBytes(address), portBytes(port)),
  };
}

const mapOf = ({ address: { family }, hostAddress, hostPort }: PublishedPort): string =>
  hostPort === 0 ? OPEN_PORTS[family].name : MAPS[family][hostAddress === undefined ? "ports" : "addressed"].name;

/** So many ports are changed in one transaction: it must fit in one message to the kernel. */
const PORTS_PER_TRANSACTION = 1000;

function* portTransactions(ports: readonly PublishedPort[], change: (map: string, elements: NftElement[]) => NetlinkMessage[]): Generator<NetlinkMessage[]> {
  for (let at = 0; at < ports.length; at += PORTS_PER_TRANSACTION) {
    const some = ports.slice(at, at + PORTS_PER_TRANSACTION);
    const maps = [...new Set(some.map(mapOf))];
    yield nftBatch(maps.flatMap((map) => change(map, some.filter((port) => mapOf(port) === map).map(elementOf))));
  }
}

/** Transactions that publish ports; each is all or nothing. */
export const publishTransactions = (table: string, ports: readonly PublishedPort[]): NetlinkMessage[][] => [
  ...portTransactions(ports, (map, elements) => newElements(table, map, elements)),
];

/** Transactions that take published ports back. */
export const unpublishTransactions = (table: string, ports: readonly PublishedPort[]): NetlinkMessage[][] => [
  ...portTransactions(ports, (map, elements) => deleteElements(table, map, elements)),
];
