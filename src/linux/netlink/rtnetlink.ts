/**
 * Links, addresses and routes.
 * @module
 * @see rtnetlink(7)
 */
import { bytes, concat, decodeAttributes, nested, string, textOf, u8, u32 } from "./attributes.ts";
import { decodeMessages, type NetlinkMessage, NLM_F } from "./message.ts";

export const RTM = { NEWLINK: 16, DELLINK: 17, GETLINK: 18, SETLINK: 19, NEWADDR: 20, DELADDR: 21, GETADDR: 22, NEWROUTE: 24, GETROUTE: 26 } as const;
export const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  PROTINFO: 12,
  LINKINFO: 18,
  IFALIAS: 20,
  AF_SPEC: 26,
  GROUP: 27,
  NET_NS_FD: 28,
  INFO_KIND: 1,
  INFO_DATA: 2,
} as const;
const IFLA_INET_CONF = 1;
/** Number of the setting net.ipv4.conf.*.route_localnet. */
const ROUTE_LOCALNET = 26;
/** Linux: IFALIASZ with its NUL. */
const MAX_ALIAS = 255;
export const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4, FLAGS: 8 } as const;
/** No duplicate address detection: an address is of use at once. */
const IFA_F_NODAD = 2;
export const RTA = { DST: 1, OIF: 4, GATEWAY: 5 } as const;
const VETH_INFO_PEER = 1;
const IFF_UP = 1;
const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_BRIDGE = 7;
const AF_INET6 = 10;
const IFLA_BRPORT = { MODE: 4, ISOLATED: 33 } as const;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RT_SCOPE_UNIVERSE = 0;
const RTN_UNICAST = 1;
const RT_TABLE_LOCAL = 255;
const RTM_F_CLONED = 0x200;
/** Linux: IFNAMSIZ with its NUL. */
const MAX_NAME = 15;

/** Attributes that a link may be made with. */
export interface LinkOptions {
  /** At most 15 bytes. */
  readonly name: string;
  /** Interface index to take; default: the kernel's choice. */
  readonly index?: number;
  /** Six bytes. */
  readonly mac?: Uint8Array;
  readonly mtu?: number;
  /** Index of the bridge that it becomes a port of. */
  readonly master?: number;
  /** Descriptor of the network namespace that it is made in. */
  readonly namespaceFd?: number;
  readonly up?: boolean;
}

const IFINFOMSG = 16;

/** struct ifinfomsg. */
function ifinfomsg(index: number, flags: number, family = AF_UNSPEC): Uint8Array {
  const header = new Uint8Array(IFINFOMSG);
  const view = new DataView(header.buffer);
  view.setUint8(0, family);
  view.setInt32(4, index, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, flags, true); // change mask
  return header;
}

function linkBody(options: LinkOptions, ...rest: readonly Uint8Array[]): Uint8Array {
  const { name, index = 0, mac, mtu, master, namespaceFd, up = false } = options;
  if (name === "" || new TextEncoder().encode(name).length > MAX_NAME) throw new RangeError(`interface name "${name}": 1 to ${MAX_NAME} bytes`);
  return concat([
    ifinfomsg(index, up ? IFF_UP : 0),
    string(IFLA.IFNAME, name),
    ...(mac === undefined ? [] : [bytes(IFLA.ADDRESS, mac)]),
    ...(mtu === undefined ? [] : [u32(IFLA.MTU, mtu)]),
    ...(master === undefined ? [] : [u32(IFLA.MASTER, master)]),
    ...(namespaceFd === undefined ? [] : [u32(IFLA.NET_NS_FD, namespaceFd)]),
    ...rest,
  ]);
}

const CREATE = NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL;

/** A new bridge. */
export function newBridge(options: LinkOptions): NetlinkMessage {
  return { type: RTM.NEWLINK, flags: CREATE, body: linkBody(options, nested(IFLA.LINKINFO, string(IFLA.INFO_KIND, "bridge"))) };
}

/** A new pair of virtual interfaces, `peer` maybe directly in another namespace. A peer's index is honoured only when the near end has one too. */
export function newVeth(options: LinkOptions, peer: LinkOptions): NetlinkMessage {
  const data = nested(IFLA.INFO_DATA, nested(VETH_INFO_PEER, linkBody(peer)));
  return { type: RTM.NEWLINK, flags: CREATE, body: linkBody(options, nested(IFLA.LINKINFO, string(IFLA.INFO_KIND, "veth"), data)) };
}

const IFLA_MACVLAN_MODE = 1;
/** Docker's names of modes. Who hears whom: all of one parent, nobody, by way of the switch outside, or one container has it alone. */
export const MACVLAN_MODES = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;
export type MacvlanMode = keyof typeof MACVLAN_MODES;

/** A part of the link with index `parent` (in the namespace of the socket) with a MAC address of its own, maybe directly in another namespace. */
export function newMacvlan(options: LinkOptions, parent: number, mode: MacvlanMode): NetlinkMessage {
  const data = nested(IFLA.INFO_DATA, u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode]));
  return { type: RTM.NEWLINK, flags: CREATE, body: linkBody(options, u32(IFLA.LINK, parent), nested(IFLA.LINKINFO, string(IFLA.INFO_KIND, "macvlan"), data)) };
}

/** Makes an existing link a port of a bridge, by indexes. */
export function setMaster(index: number, master: number): NetlinkMessage {
  return { type: RTM.NEWLINK, flags: NLM_F.ACK, body: concat([ifinfomsg(index, 0), u32(IFLA.MASTER, master)]) };
}

/** Names of the links that a datagram of the group RTNLGRP_LINK says are gone. RangeError when a length does not fit. */
export function deletedLinks(datagram: Uint8Array): string[] {
  return decodeMessages(datagram)
    .filter(({ type, body }) => type === RTM.DELLINK && body.length >= IFINFOMSG && body[0] === AF_UNSPEC)
    .map(({ body }) => textOf(decodeAttributes(body.subarray(IFINFOMSG)).get(IFLA.IFNAME) ?? new Uint8Array(0)));
}

/** Sets an existing link up, by index. */
export function linkUp(index: number): NetlinkMessage {
  return { type: RTM.NEWLINK, flags: NLM_F.ACK, body: ifinfomsg(index, IFF_UP) };
}

/**
 * Sets a bridge up, by index, and lets what is for 127.0.0.0/8 be routed there (net.ipv4.conf.*.route_localnet). `alias`: a text by which it is known again; what is
 * longer than 255 bytes is cut.
 */
export function bridgeUp(index: number, alias: string | undefined): NetlinkMessage {
  const text = alias === undefined ? [] : [bytes(IFLA.IFALIAS, new TextEncoder().encode(alias).subarray(0, MAX_ALIAS))];
  const routeLocalnet = nested(IFLA.AF_SPEC, nested(AF_INET, nested(IFLA_INET_CONF, u32(ROUTE_LOCALNET, 1))));
  return { type: RTM.NEWLINK, flags: NLM_F.ACK, body: concat([ifinfomsg(index, IFF_UP), ...text, routeLocalnet]) };
}

/** Puts a link into a group, by index. */
export function setGroup(index: number, group: number): NetlinkMessage {
  return { type: RTM.NEWLINK, flags: NLM_F.ACK, body: concat([ifinfomsg(index, 0), u32(IFLA.GROUP, group)]) };
}

/** Removes all links of a group at once: the kernel waits once for all of them. ENODEV when there are none. */
export function deleteGroup(group: number): NetlinkMessage {
  return { type: RTM.DELLINK, flags: NLM_F.ACK, body: concat([ifinfomsg(0, 0), u32(IFLA.GROUP, group)]) };
}

/** Asks for all bridges; a kernel before 4.6 answers with all links. */
export const dumpBridges = (): NetlinkMessage => ({
  type: RTM.GETLINK,
  flags: NLM_F.DUMP,
  body: concat([ifinfomsg(0, 0), nested(IFLA.LINKINFO, string(IFLA.INFO_KIND, "bridge"))]),
});

/** Links in the answers to {@link dumpBridges}. RangeError when a length does not fit. */
export function dumpedLinks(answers: Uint8Array): { readonly index: number; readonly name: string; readonly alias: string }[] {
  return decodeMessages(answers).flatMap(({ type, body }) => {
    if (type !== RTM.NEWLINK || body.length < IFINFOMSG) return [];
    const attributes = decodeAttributes(body.subarray(IFINFOMSG));
    const text = (attribute: number) => textOf(attributes.get(attribute) ?? new Uint8Array(0));
    return [{ index: numberOf(body.subarray(4, 8)) ?? 0, name: text(IFLA.IFNAME), alias: text(IFLA.IFALIAS) }];
  });
}

/** Settings of a bridge's port. `hairpin`: frames may leave by the port that they came in by; `isolated`: no frames to and from other isolated ports (4.18). */
export function bridgePort(index: number, options: { readonly hairpin?: boolean; readonly isolated?: boolean }): NetlinkMessage {
  const { hairpin, isolated } = options;
  const settings = [
    ...(hairpin === undefined ? [] : [u8(IFLA_BRPORT.MODE, hairpin ? 1 : 0)]),
    ...(isolated === undefined ? [] : [u8(IFLA_BRPORT.ISOLATED, isolated ? 1 : 0)]),
  ];
  return { type: RTM.SETLINK, flags: NLM_F.ACK, body: concat([ifinfomsg(index, 0, AF_BRIDGE), nested(IFLA.PROTINFO, ...settings)]) };
}

/** Removes a link, by name. */
export function deleteLink(name: string): NetlinkMessage {
  return { type: RTM.DELLINK, flags: NLM_F.ACK, body: linkBody({ name }) };
}

/** An address (four or sixteen bytes) with its prefix length; `broadcast` is IPv4's. */
export function newAddress(options: {
  readonly index: number;
  readonly address: Uint8Array;
  readonly prefix: number;
  readonly broadcast?: Uint8Array;
}): NetlinkMessage {
  const { index, address, prefix, broadcast } = options;
  const attributes = [
    bytes(IFA.LOCAL, address),
    bytes(IFA.ADDRESS, address),
    ...(broadcast === undefined ? [] : [bytes(IFA.BROADCAST, broadcast)]),
    ...(address.length === 16 ? [u32(IFA.FLAGS, IFA_F_NODAD)] : []),
  ];
  return { type: RTM.NEWADDR, flags: CREATE, body: concat([ifaddrmsg(index, familyOf(address), prefix), ...attributes]) };
}

/** Takes an address off an interface. */
export function deleteAddress({ index, address, prefix }: { readonly index: number; readonly address: Uint8Array; readonly prefix: number }): NetlinkMessage {
  return {
    type: RTM.DELADDR,
    flags: NLM_F.ACK,
    body: concat([ifaddrmsg(index, familyOf(address), prefix), bytes(IFA.LOCAL, address), bytes(IFA.ADDRESS, address)]),
  };
}

/** struct ifaddrmsg. */
function ifaddrmsg(index: number, family: number, prefix: number): Uint8Array {
  const header = new Uint8Array(8);
  const view = new DataView(header.buffer);
  view.setUint8(0, family);
  view.setUint8(1, prefix);
  view.setUint32(4, index, true);
  return header;
}

const familyOf = (address: Uint8Array): number => (address.length === 16 ? AF_INET6 : AF_INET);

/** The default route of the gateway's family; one that is there is replaced. */
export function newDefaultRoute(gateway: Uint8Array, index: number): NetlinkMessage {
  const rtmsg = Uint8Array.of(familyOf(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0, 0, 0, 0);
  return { type: RTM.NEWROUTE, flags: NLM_F.ACK | NLM_F.CREATE | NLM_F.REPLACE, body: concat([rtmsg, bytes(RTA.GATEWAY, gateway), u32(RTA.OIF, index)]) };
}

/** A range that is somewhere, and by which interface. */
export interface DumpedRange {
  /** Four or sixteen bytes. */
  readonly destination: Uint8Array;
  readonly prefix: number;
  readonly index: number | undefined;
}

/** Asks for all routes of both families, in all tables. */
export const dumpRoutes = (): NetlinkMessage => ({ type: RTM.GETROUTE, flags: NLM_F.DUMP, body: new Uint8Array(12) });
/** Asks for all addresses of all interfaces. */
export const dumpAddresses = (): NetlinkMessage => ({ type: RTM.GETADDR, flags: NLM_F.DUMP, body: new Uint8Array(8) });

const numberOf = (payload: Uint8Array | undefined): number | undefined =>
  payload?.length === 4 ? new DataView(payload.buffer, payload.byteOffset, 4).getUint32(0, true) : undefined;
const lengthOf: Readonly<Record<number, number>> = { [AF_INET]: 4, [AF_INET6]: 16 };

/** Destinations in the answers to {@link dumpRoutes}, without the host's own addresses and what is remembered of single ones. RangeError when a length does not fit. */
export function dumpedRoutes(answers: Uint8Array): DumpedRange[] {
  return decodeMessages(answers).flatMap(({ type, body }) => {
    if (type !== RTM.NEWROUTE || body.length < 12) return [];
    const attributes = decodeAttributes(body.subarray(12));
    const length = lengthOf[body[0] ?? 0];
    const cloned = (new DataView(body.buffer, body.byteOffset + 8, 4).getUint32(0, true) & RTM_F_CLONED) !== 0;
    if (length === undefined || cloned || body[4] === RT_TABLE_LOCAL) return [];
    const destination = attributes.get(RTA.DST) ?? new Uint8Array(length);
    return destination.length === length ? [{ destination, prefix: body[1] ?? 0, index: numberOf(attributes.get(RTA.OIF)) }] : [];
  });
}

/** Networks in the answers to {@link dumpAddresses}. RangeError when a length does not fit. */
export function dumpedAddresses(answers: Uint8Array): DumpedRange[] {
  return decodeMessages(answers).flatMap(({ type, body }) => {
    if (type !== RTM.NEWADDR || body.length < 8) return [];
    const destination = decodeAttributes(body.subarray(8)).get(IFA.ADDRESS);
    const length = lengthOf[body[0] ?? 0];
    return destination === undefined || destination.length !== length ? [] : [{ destination, prefix: body[1] ?? 0, index: numberOf(body.subarray(4, 8)) }];
  });
}
