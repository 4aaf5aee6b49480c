/**
 * What nf_tables rules are made of: small expressions that load a value into a register, compare it, and act. Registers: 1 is the first 16 bytes, 9 and 10 the
 * second and third four bytes of it, 12 and 13 the two that follow on it, 0 the verdict.
 * @module
 * @see kernel net/netfilter/nft_*.c; `nft --debug=netlink` prints rules in these terms
 */
import { bytes, concat, nested, string, u8, u32be, u64be, uint16be, uint32 } from "./attributes.ts";
import { NFTA } from "./nftables.ts";

const META = { IIFNAME: 6, OIFNAME: 7, NFPROTO: 15, L4PROTO: 16, IIFKIND: 26, OIFKIND: 27 } as const;
const CMP = { EQ: 0, NEQ: 1, LTE: 3, GTE: 5 } as const;
const LINK_HEADER = 0;
const NETWORK_HEADER = 1;
const TRANSPORT_HEADER = 2;
const NFPROTO = { 4: 2, 6: 10 } as const;
/** Where a packet's addresses lie, by their length. */
const SOURCE_OFFSET = { 4: 12, 16: 8 } as const;
const DESTINATION_OFFSET = { 4: 16, 16: 24 } as const;
const CT = { STATE: 0, STATUS: 2 } as const;
const CT_ESTABLISHED_OR_RELATED = 2 | 4;
const IPS_DST_NAT = 1 << 5;
const RTN_LOCAL = 2;
const VERDICT = { drop: 0, accept: 1, jump: -3 } as const;

function expression(name: string, ...data: readonly Uint8Array[]): Uint8Array {
  return nested(NFTA.LIST_ELEM, string(1, name), nested(2, ...data));
}

const value = (type: number, data: Uint8Array) => nested(type, bytes(NFTA.DATA.VALUE, data));
const meta = (key: number, register: number) => expression("meta", u32be(2, key), u32be(1, register));
const compare = (register: number, operation: number, data: Uint8Array) => expression("cmp", u32be(1, register), u32be(2, operation), value(3, data));
const payload = (base: number, offset: number, length: number, register: number) =>
  expression("payload", u32be(1, register), u32be(2, base), u32be(3, offset), u32be(4, length));
const conntrack = (key: number) => expression("ct", u32be(2, key), u32be(1, 1));
const and = (length: number, mask: Uint8Array) =>
  expression("bitwise", u32be(1, 1), u32be(2, 1), u32be(3, length), value(4, mask), value(5, new Uint8Array(length)));

/** Interface names and kinds are compared over all of their 16 bytes. */
function named(name: string): Uint8Array {
  const bytes16 = new Uint8Array(16);
  bytes16.set(new TextEncoder().encode(name).subarray(0, 15));
  return bytes16;
}

const operation = (is: boolean) => (is ? CMP.EQ : CMP.NEQ);

/** `iifname NAME` / `iifname != NAME` */
export const inputInterface = (name: string, is = true): Uint8Array[] => [meta(META.IIFNAME, 1), compare(1, operation(is), named(name))];
/** `oifname NAME` / `oifname != NAME` */
export const outputInterface = (name: string, is = true): Uint8Array[] => [meta(META.OIFNAME, 1), compare(1, operation(is), named(name))];
/** `meta iifkind != KIND meta oifkind != KIND` (5.6) */
export const neitherKind = (kind: string): Uint8Array[] => [
  meta(META.IIFKIND, 1),
  compare(1, CMP.NEQ, named(kind)),
  meta(META.OIFKIND, 1),
  compare(1, CMP.NEQ, named(kind)),
];

/** `meta nfproto ipv4` or `ipv6` */
export const family = (number: 4 | 6): Uint8Array[] => [meta(META.NFPROTO, 1), compare(1, CMP.EQ, Uint8Array.of(NFPROTO[number]))];

function addressIn(offsets: typeof SOURCE_OFFSET | typeof DESTINATION_OFFSET, address: Uint8Array, prefix: number): Uint8Array[] {
  const { length } = address;
  const mask = Uint8Array.from({ length }, (_, i) => (0xff << (8 - Math.min(8, Math.max(0, prefix - 8 * i)))) & 0xff);
  const network = address.map((byte, i) => byte & (mask[i] ?? 0));
  const offset = length === 16 ? offsets[16] : offsets[4];
  return [...family(length === 16 ? 6 : 4), payload(NETWORK_HEADER, offset, length, 1), and(length, mask), compare(1, CMP.EQ, network)];
}

/** `ip saddr A/P` or `ip6 saddr A/P`, as the address is long */
export const sourceIn = (address: Uint8Array, prefix: number): Uint8Array[] => addressIn(SOURCE_OFFSET, address, prefix);
/** `ip daddr A/P` or `ip6 daddr A/P` */
export const destinationIn = (address: Uint8Array, prefix: number): Uint8Array[] => addressIn(DESTINATION_OFFSET, address, prefix);

/** `ct state established,related` */
export const established = (): Uint8Array[] => [conntrack(CT.STATE), and(4, uint32(CT_ESTABLISHED_OR_RELATED)), compare(1, CMP.NEQ, uint32(0))];
/** `ct status dnat` */
export const translated = (): Uint8Array[] => [conntrack(CT.STATUS), and(4, uint32(IPS_DST_NAT)), compare(1, CMP.NEQ, uint32(0))];
/** `fib daddr type local` */
export const toThisHost = (): Uint8Array[] => [expression("fib", u32be(3, 2), u32be(2, 3), u32be(1, 1)), compare(1, CMP.EQ, uint32(RTN_LOCAL))];

const lookup = (map: string) => expression("lookup", u32be(2, 1), u32be(3, 1), string(1, map));
/** Registers behind an address in register 1. */
const BEHIND = { 4: [9, 10], 6: [12, 13] } as const;
/** The address from register 1, the port from behind it. */
const dnat = (number: 4 | 6) => expression("nat", u32be(1, 1), u32be(2, NFPROTO[number]), u32be(3, 1), u32be(5, BEHIND[number][0]));
const IPPROTO = { tcp: 6, udp: 17, sctp: 132 } as const;
export type NftProtocol = keyof typeof IPPROTO;

/** `meta l4proto P` */
export const protocolIs = (protocol: NftProtocol): Uint8Array[] => [meta(META.L4PROTO, 1), compare(1, CMP.EQ, Uint8Array.of(IPPROTO[protocol]))];
/** `th dport N` */
export const destinationPortIs = (port: number): Uint8Array[] => [payload(TRANSPORT_HEADER, 2, 2, 1), compare(1, CMP.EQ, uint16be(port))];
/** `th sport N` */
export const sourcePortIs = (port: number): Uint8Array[] => [payload(TRANSPORT_HEADER, 0, 2, 1), compare(1, CMP.EQ, uint16be(port))];

const CSUM_INET = 1;
/** `tcp dport set N` and its like; the checksum is kept right. */
export const setPort = (protocol: "tcp" | "udp", which: "source" | "destination", port: number): Uint8Array[] => [
  expression("immediate", u32be(1, 1), value(2, uint16be(port))),
  expression(
    "payload",
    u32be(2, TRANSPORT_HEADER),
    u32be(3, which === "source" ? 0 : 2),
    u32be(4, 2),
    u32be(5, 1),
    u32be(6, CSUM_INET),
    u32be(7, protocol === "tcp" ? 16 : 6),
    u32be(8, 0),
  ),
];

const source = (number: 4 | 6, register: number) =>
  payload(NETWORK_HEADER, number === 4 ? SOURCE_OFFSET[4] : SOURCE_OFFSET[16], number === 4 ? 4 : 16, register);
const destination = (number: 4 | 6, register: number) =>
  payload(NETWORK_HEADER, number === 4 ? DESTINATION_OFFSET[4] : DESTINATION_OFFSET[16], number === 4 ? 4 : 16, register);
const NFT_LOOKUP_F_INV = 1;
const isIn = (set: string, is = true) => expression("lookup", u32be(2, 1), string(1, set), ...(is ? [] : [u32be(5, NFT_LOOKUP_F_INV)]));
/** Registers for a source address and what follows on it: each part is padded to four bytes, and the 32-bit registers 8, 9, … lie upon 1 to 4. */
const FOLLOWING = { 4: [9, 10, 11], 6: [12, 16, 17] } as const;

/** `ip saddr != @SET` */
export const sourceNotInSet = (number: 4 | 6, set: string): Uint8Array[] => [source(number, 1), isIn(set, false)];
/** `ip saddr . ip daddr @SET` */
export const addressesInSet = (number: 4 | 6, set: string): Uint8Array[] => [source(number, 1), destination(number, FOLLOWING[number][0]), isIn(set)];
/** `ip saddr . ip daddr . meta l4proto . th dport @SET` */
export const flowInSet = (number: 4 | 6, set: string): Uint8Array[] => [
  source(number, 1),
  destination(number, FOLLOWING[number][0]),
  meta(META.L4PROTO, FOLLOWING[number][1]),
  destinationPort(FOLLOWING[number][2]),
  isIn(set),
];

/** `ip daddr . meta l4proto . th dport @SET` */
export const serviceInSet = (number: 4 | 6, set: string): Uint8Array[] => [
  ...family(number),
  destination(number, 1),
  meta(META.L4PROTO, BEHIND[number][0]),
  destinationPort(BEHIND[number][1]),
  isIn(set),
];

const IPPROTO_ICMPV6 = 58;
/** `meta l4proto icmp` or `ipv6-icmp` */
export const icmp = (number: 4 | 6): Uint8Array[] => [meta(META.L4PROTO, 1), compare(1, CMP.EQ, Uint8Array.of(number === 4 ? 1 : IPPROTO_ICMPV6))];
/** `icmpv6 type 133-137`: who has which address on the link, and by whom one leaves it */
export const neighbourDiscovery = (): Uint8Array[] => [
  meta(META.L4PROTO, 1),
  compare(1, CMP.EQ, Uint8Array.of(IPPROTO_ICMPV6)),
  payload(TRANSPORT_HEADER, 0, 1, 1),
  compare(1, CMP.GTE, Uint8Array.of(133)),
  compare(1, CMP.LTE, Uint8Array.of(137)),
];

/** `ether type N` */
export const etherType = (type: number): Uint8Array[] => [payload(LINK_HEADER, 12, 2, 1), compare(1, CMP.EQ, uint16be(type))];
/** `ip saddr A` or `ip6 saddr A`, or not, where the family is known */
export const sourceIs = (address: Uint8Array, is = true): Uint8Array[] => [source(address.length === 4 ? 4 : 6, 1), compare(1, operation(is), address)];
/** `arp saddr ip != A` */
export const arpSourceIsNot = (address: Uint8Array): Uint8Array[] => [payload(NETWORK_HEADER, 14, 4, 1), compare(1, CMP.NEQ, address)];

const UNIT_SECOND = 1n;
/** `limit rate N/second burst N packets` */
export const perSecond = (count: number): Uint8Array[] => [expression("limit", u64be(1, BigInt(count)), u64be(2, UNIT_SECOND), u32be(3, count))];
/** `log group N` */
export const logTo = (group: number): Uint8Array[] => [expression("log", bytes(1, uint16be(group)))];
const REJECT = { ICMPX: 2, ADMIN_PROHIBITED: 3 } as const;
/** `reject with icmpx admin-prohibited` (in prerouting: 5.9) */
export const reject = (): Uint8Array[] => [expression("reject", u32be(1, REJECT.ICMPX), u8(2, REJECT.ADMIN_PROHIBITED))];

const destinationPort = (register: number) => payload(TRANSPORT_HEADER, 2, 2, register);

/** `dnat ip to meta l4proto . th dport map @MAP`; goes on to the next rule where the map has no such key. */
export const dnatByPort = (number: 4 | 6, map: string): Uint8Array[] => [meta(META.L4PROTO, 1), destinationPort(9), lookup(map), dnat(number)];
/** `dnat ip to ip daddr . meta l4proto . th dport map @MAP` */
export const dnatByAddressAndPort = (number: 4 | 6, map: string): Uint8Array[] => [
  payload(NETWORK_HEADER, number === 4 ? DESTINATION_OFFSET[4] : DESTINATION_OFFSET[16], number === 4 ? 4 : 16, 1),
  meta(META.L4PROTO, BEHIND[number][0]),
  destinationPort(BEHIND[number][1]),
  lookup(map),
  dnat(number),
];

/** `snat to A` */
export const snat = (address: Uint8Array): Uint8Array[] => [
  expression("immediate", u32be(1, 1), value(2, address)),
  expression("nat", u32be(1, 0), u32be(2, NFPROTO[address.length === 4 ? 4 : 6]), u32be(3, 1)),
];
export const masquerade = (): Uint8Array[] => [expression("masq")];

function verdict(code: number, chain?: string): Uint8Array[] {
  const what = nested(NFTA.DATA.VERDICT, u32be(1, code), ...(chain === undefined ? [] : [string(2, chain)]));
  return [expression("immediate", u32be(1, 0), nested(2, what))];
}
export const accept = (): Uint8Array[] => verdict(VERDICT.accept);
export const drop = (): Uint8Array[] => verdict(VERDICT.drop);
export const jump = (chain: string): Uint8Array[] => verdict(VERDICT.jump, chain);

/** Key or value of a map: parts padded to four bytes each. */
export function concatenation(...parts: readonly Uint8Array[]): Uint8Array {
  return concat(parts.map((part) => concat([part, new Uint8Array((4 - (part.length % 4)) % 4)])));
}
