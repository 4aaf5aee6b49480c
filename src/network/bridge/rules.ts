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
  type NftChain,
  type NftElement,
  type NftMap,
  newChain,
  newElements,
  newMap,
  newRule,
  newTable,
  nftBatch,
} from "#linux/netlink/nftables.ts";
import { addressBytes } from "../ipv4.ts";
import type { BridgeSettings } from "../network-records.ts";

/** A port of the host that leads to a port of a container. */
export interface PublishedPort {
  readonly protocol: "tcp" | "udp" | "sctp";
  /** undefined = every address of the host. */
  readonly hostAddress: number | undefined;
  readonly hostPort: number;
  readonly address: number;
  readonly port: number;
}

/** Both maps have the container's address and port as values; the second is asked first. */
const PORTS: NftMap = { name: "ports", key: ["inet_proto", "inet_service"], value: ["ipv4_addr", "inet_service"] };
const ADDRESSED: NftMap = { name: "addressed_ports", key: ["ipv4_addr", "inet_proto", "inet_service"], value: ["ipv4_addr", "inet_service"] };

const CHAINS: readonly NftChain[] = [
  { name: "published" },
  { name: "guard", hook: { type: "filter", hook: "prerouting", priority: -300 } },
  { name: "prerouting", hook: { type: "nat", hook: "prerouting", priority: -100 } },
  { name: "output", hook: { type: "nat", hook: "output", priority: -100 } },
  { name: "postrouting", hook: { type: "nat", hook: "postrouting", priority: 100 } },
  { name: "forward", hook: { type: "filter", hook: "forward", priority: 0 } },
];

const LOOPBACK = { network: 0x7f000000, prefix: 8 };

/** One rule: its chain and expressions. */
type Rule = readonly [chain: string, ...expressions: readonly (readonly Uint8Array[])[]];

/** Rules that do not depend on networks. */
function sharedRules(): Rule[] {
  return [
    ["published", nft.dnatByAddressAndPort(ADDRESSED.name)],
    ["published", nft.dnatByPort(PORTS.name)],
    ["prerouting", nft.toThisHost(), nft.jump("published")],
    ["output", nft.toThisHost(), nft.jump("published")],
  ];
}

function rulesOf({ interfaceName, subnet, icc, masquerade, internal }: BridgeSettings): Rule[] {
  const fromHere = nft.sourceIn(addressBytes(subnet.network), subnet.prefix);
  const [into, outOf] = [nft.outputInterface(interfaceName), nft.inputInterface(interfaceName)];
  const localhost = nft.sourceIn(addressBytes(LOOPBACK.network), LOOPBACK.prefix);
  const rules: Rule[] = [
    // route_localnet, which lets the host's own 127.0.0.1 reach published ports, would let containers reach services bound to 127.0.0.1 of the host
    ["guard", outOf, nft.destinationIn(addressBytes(LOOPBACK.network), LOOPBACK.prefix), nft.drop()],
    ["postrouting", into, localhost, nft.masquerade()],
  ];
  const between: Rule = ["forward", into, outOf, icc ? nft.accept() : nft.drop()];
  if (internal) return [...rules, between, ["forward", into, nft.drop()], ["forward", outOf, nft.drop()]];
  if (masquerade) rules.push(["postrouting", nft.outputInterface(interfaceName, false), fromHere, nft.masquerade()]);
  return [
    ...rules,
    // a container that calls a port published by its own network: the answer must come back through the host
    ["postrouting", into, fromHere, nft.translated(), nft.masquerade()],
    ["forward", into, nft.established(), nft.accept()],
    ["forward", into, nft.translated(), nft.accept()],
    between,
    ["forward", into, nft.drop()],
  ];
}

export interface RulesetOptions {
  readonly table: string;
  readonly bridges: readonly BridgeSettings[];
  /** The engine turned IP forwarding on: traffic that has nothing to do with bridges is kept from being forwarded. */
  readonly closeForwarding: boolean;
}

/** Makes the table what the bridges need; elements of the maps stay. */
export function rulesTransaction(options: RulesetOptions): NetlinkMessage[] {
  return nftBatch(ruleMessages(options));
}

/** The same for a table of which nothing is to be kept. */
export function freshTransaction(options: RulesetOptions): NetlinkMessage[] {
  return nftBatch([newTable(options.table), deleteTable(options.table), ...ruleMessages(options)]);
}

function ruleMessages({ table, bridges, closeForwarding }: RulesetOptions): NetlinkMessage[] {
  const rules = [...sharedRules(), ...bridges.flatMap(rulesOf)];
  if (closeForwarding) rules.push(["forward", nft.neitherKind("bridge"), nft.drop()]);
  return [
    newTable(table),
    ...[PORTS, ADDRESSED].map((map, i) => newMap(table, map, i + 1)),
    ...CHAINS.map((chain) => newChain(table, chain)),
    ...CHAINS.map(({ name }) => flushChain(table, name)),
    ...rules.map(([chain, ...expressions]) => newRule(table, chain, expressions.flat())),
  ];
}

/** Removes the table; it is made first, so that a missing one is no error. */
export function removalTransaction(table: string): NetlinkMessage[] {
  return nftBatch([newTable(table), deleteTable(table)]);
}

const PROTOCOL = { tcp: 6, udp: 17, sctp: 132 } as const;
const portBytes = (port: number) => Uint8Array.of(port >>> 8, port);

function elementOf({ protocol, hostAddress, hostPort, address, port }: PublishedPort): NftElement {
  const service = [Uint8Array.of(PROTOCOL[protocol]), portBytes(hostPort)];
  return {
    key: nft.concatenation(...(hostAddress === undefined ? [] : [addressBytes(hostAddress)]), ...service),
    value: nft.concatenation(addressBytes(address), portBytes(port)),
  };
}

/** So many ports are changed in one transaction: it must fit in one message to the kernel. */
const PORTS_PER_TRANSACTION = 1000;

function* portTransactions(ports: readonly PublishedPort[], change: (map: string, elements: NftElement[]) => NetlinkMessage[]): Generator<NetlinkMessage[]> {
  for (let at = 0; at < ports.length; at += PORTS_PER_TRANSACTION) {
    const some = ports.slice(at, at + PORTS_PER_TRANSACTION);
    const [plain, addressed] = [some.filter((p) => p.hostAddress === undefined), some.filter((p) => p.hostAddress !== undefined)];
    yield nftBatch([
      ...(plain.length > 0 ? change(PORTS.name, plain.map(elementOf)) : []),
      ...(addressed.length > 0 ? change(ADDRESSED.name, addressed.map(elementOf)) : []),
    ]);
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
