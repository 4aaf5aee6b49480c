/**
 * The plan steps that connect a container to a bridge. Pure.
 * @module
 */
import { encodeMessages, NETLINK_NETFILTER, NETLINK_ROUTE, type NetlinkMessage } from "#linux/netlink/message.ts";
import { bridgePort, deleteLink, linkUp, type MacvlanMode, newAddress, newDefaultRoute, newMacvlan, newVeth } from "#linux/netlink/rtnetlink.ts";
import { NO_SLOT, SLOT_BASE, type Step } from "#linux/plan.ts";
import { type Direction, type Shaping, shapingMessages, unshaped } from "../shaping.ts";
import { type Address, addressBytes, formatAddress, lastOf, type Subnet } from "../ip-address.ts";
import type { RunningProcess } from "../mod.ts";
import { namesStep, redirectStep } from "../names/redirect.ts";
import { type Confined, confineMessages } from "../egress/egress-table.ts";
import { nftBatch } from "#linux/netlink/nftables.ts";
import { type PublishedPort, publishTransactions } from "./rules.ts";

const INWARDS = "limits what the container receives: what the host's end of its cable sends";
const OUTWARDS = "limits what the container sends";

/** A pair of interfaces, one end a port of a bridge. */
export interface Cable {
  readonly kind: "cable";
  readonly bridge: { readonly name: string; readonly index: number; readonly mtu: number; readonly icc: boolean };
  readonly host: { readonly name: string; readonly index: number };
}

/** A part of an interface of the host's. `index`: the parent's. */
export interface MacvlanPart {
  readonly kind: "macvlan";
  readonly parent: string;
  readonly index: number;
  readonly mode: MacvlanMode;
  readonly mtu: number | undefined;
}

/** An address inside. `gateway`: the default route of its family goes through there. */
export interface InnerAddress {
  readonly address: Address;
  readonly subnet: Subnet;
  readonly gateway: Address | undefined;
}

export interface EndpointWiring {
  /** Free slot for the namespace's descriptor. */
  readonly slot: number;
  readonly link: Cable | MacvlanPart;
  readonly container: {
    readonly name: string;
    readonly index: number;
    readonly mac: Uint8Array;
    readonly ipv4: InnerAddress;
    readonly ipv6: InnerAddress | undefined;
    /** Further addresses, which lead nowhere but to the link. */
    readonly linkLocal: readonly Address[];
    /** Files below /proc/sys and what is written to them. */
    readonly sysctls: readonly { readonly path: string; readonly value: string }[];
  };
  readonly table: string;
  readonly ports: readonly PublishedPort[];
  readonly shaping: Shaping | undefined;
  readonly confined: Confined | undefined;
  /** The container gets its name server with this endpoint. */
  readonly names: boolean;
}

export function netlinkStep(where: "host" | "child", protocol: number, messages: readonly NetlinkMessage[], why: string, ignore: readonly string[] = []): Step {
  const see = protocol === NETLINK_NETFILTER ? "nft(8)" : "rtnetlink(7)";
  return { op: "netlink", where, protocol, messages: encodeMessages(messages), why, see, section: "network", ...(ignore.length > 0 && { ignore }) };
}

const CLONE_NEWNET = 0x40000000n;
const section = "network";

/**
 * The pair is made with its far end already in the container's namespace: moving it there later costs several times as much. Both indexes are chosen here,
 * so that neither side needs to ask for them. The planner sees to it that the child's steps wait for the host's.
 */
export function endpointSteps(wiring: EndpointWiring): Step[] {
  return [
    { op: "child_ns", where: "host", name: "net", out: wiring.slot, why: "the container's network namespace", section },
    ...linkSteps(wiring),
    { op: "close", where: "host", slot: wiring.slot, why: "the namespace's descriptor is not needed any more", section },
    ...publishSteps(wiring),
    ...(wiring.names ? [namesStep] : []),
    ...innerSteps(wiring, "child"),
  ];
}

/** Steps of a call that connects a running container. `wiring.slot` and the one after it are free. */
export function plugSteps(wiring: EndpointWiring, target: RunningProcess): Step[] {
  return [
    ...openNamespace(wiring.slot + 1, wiring.slot, target),
    ...linkSteps(wiring),
    ...publishSteps(wiring),
    { op: "setns", where: "host", fd: wiring.slot, flags: CLONE_NEWNET, why: "the container's network namespace" },
    ...innerSteps(wiring, "host"),
  ];
}

/** The process's network namespace in `slot`: opened by its pid, while a descriptor of the process in `process` tells that it is the one that is meant. */
function openNamespace(process: number, slot: number, { pid, startTime }: RunningProcess): Step[] {
  return [
    {
      op: "openat",
      where: "host",
      dir: NO_SLOT,
      path: `/proc/${pid}/ns/net`,
      flags: 0n,
      mode: 0,
      out: slot,
      why: "the network namespace of the container's first process",
    },
    { op: "pidfd_open", where: "host", pid, starttime: startTime, out: process, why: "which is still the same" },
  ];
}

function linkSteps(wiring: EndpointWiring): Step[] {
  const { link, slot, container } = wiring;
  if (link.kind === "cable") return cableSteps(wiring, link);
  const { name, index, mac } = container;
  const made = newMacvlan({ name, index, mac, namespaceFd: SLOT_BASE + slot, ...(link.mtu !== undefined && { mtu: link.mtu }) }, link.index, link.mode);
  return [netlinkStep("host", NETLINK_ROUTE, [made], `${name} inside the container, a part of ${link.parent} (macvlan, mode ${link.mode})`)];
}

/** The host's side: the pair, its place in the bridge, its limits. */
function cableSteps({ slot, container, ports, shaping, table, confined }: EndpointWiring, { bridge, host }: Cable): Step[] {
  const pair = newVeth(
    { name: host.name, index: host.index, master: bridge.index, mtu: bridge.mtu, up: true },
    { name: container.name, index: container.index, mac: container.mac, mtu: bridge.mtu, namespaceFd: SLOT_BASE + slot },
  );
  // A container that calls its own published port is answered through the same port of the bridge, where bridge-nf-call-iptables is on.
  const port = { ...(ports.length > 0 && { hairpin: true }), ...(!bridge.icc && { isolated: true }) };
  const cable = [pair, ...(Object.keys(port).length > 0 ? [bridgePort(host.index, port)] : [])];
  const inwards = shaping === undefined ? [] : shapingMessages(host.index, shaping.ingress, shaping);
  return [
    netlinkStep("host", NETLINK_ROUTE, cable, `a virtual cable: ${host.name}, a port of the bridge ${bridge.name}, and ${container.name} inside the container`),
    ...(inwards.length > 0 ? [netlinkStep("host", NETLINK_ROUTE, inwards, INWARDS)] : []),
    ...(confined === undefined
      ? []
      : [netlinkStep("host", NETLINK_NETFILTER, nftBatch(confineMessages(table, [confined])), "what it may call, and that it keeps to its own addresses")]),
  ];
}

const publishSteps = ({ table, ports, container: { ipv4 } }: EndpointWiring): Step[] =>
  publishTransactions(table, ports).map((messages) =>
    netlinkStep("host", NETLINK_NETFILTER, messages, `published ports lead to ${formatAddress(ipv4.address)}`),
  );

const LINK_LOCAL_PREFIX = { 4: 16, 6: 64 } as const;

/** What is done in the container's namespace. */
function innerSteps({ container, shaping, names }: EndpointWiring, where: "host" | "child"): Step[] {
  const { name, index, ipv4, ipv6, linkLocal, sysctls } = container;
  const hasIPv6 = ipv6 !== undefined || linkLocal.some(({ family }) => family === 6);
  const outwards = shaping === undefined ? [] : shapingMessages(index, shaping.egress, shaping);
  const addresses = [ipv4, ...(ipv6 === undefined ? [] : [ipv6])];
  const configure = [
    ...addresses.map(({ address, subnet }) =>
      newAddress({
        index,
        address: addressBytes(address),
        prefix: subnet.prefix,
        ...(subnet.family === 4 ? { broadcast: addressBytes(lastOf(subnet)) } : {}),
      }),
    ),
    ...linkLocal.map((address) => newAddress({ index, address: addressBytes(address), prefix: LINK_LOCAL_PREFIX[address.family] })),
    linkUp(index),
    ...addresses.flatMap(({ gateway }) => (gateway === undefined ? [] : [newDefaultRoute(addressBytes(gateway), index)])),
  ];
  const texts = addresses.map(({ address, subnet: { prefix }, gateway }) => {
    const route = gateway === undefined ? "" : `, default route through the bridge at ${formatAddress(gateway)}`;
    return `address ${formatAddress(address)}/${prefix}${route}`;
  });
  return [
    {
      op: "write",
      where,
      dir: NO_SLOT,
      path: `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`,
      flags: 0n,
      data: new TextEncoder().encode(hasIPv6 ? "0" : "1"),
      why: hasIPv6 ? "the network has IPv6" : "the network has no IPv6",
      see: "kernel: ip-sysctl",
      // a kernel without IPv6; one with it says later what it lacks
      ignore: ["ENOENT"],
      section,
    },
    ...(names ? [redirectStep(where)] : []),
    ...(outwards.length > 0 ? [netlinkStep(where, NETLINK_ROUTE, outwards, OUTWARDS)] : []),
    netlinkStep(where, NETLINK_ROUTE, configure, [...texts, ...linkLocal.map((address) => `link-local ${formatAddress(address)}`)].join("; ")),
    ...sysctls.map(
      ({ path, value }): Step => ({
        op: "write",
        where,
        dir: NO_SLOT,
        path,
        flags: 0n,
        data: new TextEncoder().encode(value),
        why: `a setting of ${name} that was asked for`,
        see: "kernel: ip-sysctl",
        section,
      }),
    ),
  ];
}

/** Steps of a call that leads a running container's default route through another of its networks. */
export function rerouteSteps(target: RunningProcess, gateway: Address, index: number): Step[] {
  return [
    ...enterNamespace(target),
    netlinkStep("host", NETLINK_ROUTE, [newDefaultRoute(addressBytes(gateway), index)], `default route through ${formatAddress(gateway)}`),
  ];
}

/** Steps of a call that takes an interface out of a running container: one whose other end is not with us. */
export function removeInnerSteps(target: RunningProcess, name: string): Step[] {
  return [...enterNamespace(target), netlinkStep("host", NETLINK_ROUTE, [deleteLink(name)], `takes ${name} out of the container`, ["ENODEV", "EINVAL"])];
}

/** Steps of a call that gives a running container the way to its name server. */
export const redirectSteps = (target: RunningProcess): Step[] => [...enterNamespace(target), redirectStep("host")];

function enterNamespace({ pid, startTime }: RunningProcess): Step[] {
  const slot = 0;
  return [
    { op: "pidfd_open", where: "host", pid, starttime: startTime, out: slot, why: "the container's first process" },
    { op: "setns", where: "host", fd: slot, flags: CLONE_NEWNET, why: "the container's network namespace" },
  ];
}

/** Steps of a call that changes the limits of a running container: the host's ends, then, in its namespace, its own. */
export function reshapeSteps(cables: readonly { readonly host: number; readonly container: number }[], target: RunningProcess, shaping: Shaping): Step[] {
  const change = (index: number, direction: Direction, why: string): Step[] => {
    // What was there may be of another kind, which the kernel does not change in place; without netem on either side it does, and nothing is lost.
    const messages = shapingMessages(index, direction, shaping);
    const inPlace = messages.length === 1 && direction.rate !== undefined;
    const clear = netlinkStep("host", NETLINK_ROUTE, [unshaped(index)], "takes the earlier limit off", ["ENOENT", "EINVAL"]);
    return [...(inPlace ? [] : [clear]), ...(messages.length > 0 ? [netlinkStep("host", NETLINK_ROUTE, messages, why)] : [])];
  };
  return [
    ...cables.flatMap(({ host }) => change(host, shaping.ingress, INWARDS)),
    ...enterNamespace(target),
    ...cables.flatMap(({ container }) => change(container, shaping.egress, OUTWARDS)),
  ];
}
