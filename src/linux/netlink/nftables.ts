/**
 * nf_tables: tables, chains, maps, elements and rules as messages of one transaction.
 * @module
 * @see kernel include/uapi/linux/netfilter/nf_tables.h, nft(8)
 */
import { attributesIn, bytes, concat, decodeAttributes, nested, string, u32be, u64be, uint16be } from "./attributes.ts";
import { decodeMessages, type NetlinkMessage, NLM_F } from "./message.ts";

const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const AF_UNSPEC = 0;
/** Families of tables: IPv4 and IPv6; one of them; what comes in by one interface. */
export const NFPROTO_INET = 1;
export const NFPROTO_IPV4 = 2;
export const NFPROTO_NETDEV = 5;
export const NFPROTO_IPV6 = 10;

export const NFT_MSG = {
  NEWTABLE: 0,
  DELTABLE: 2,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
  NEWSET: 9,
  DELCHAIN: 5,
  DELSET: 11,
  NEWSETELEM: 12,
  GETSETELEM: 13,
  DELSETELEM: 14,
  NEWGEN: 15,
} as const;
export const NFTA = {
  LIST_ELEM: 1,
  TABLE: { NAME: 1, FLAGS: 2 },
  CHAIN: { TABLE: 1, NAME: 3, HOOK: 4, POLICY: 5, TYPE: 7 },
  HOOK: { NUM: 1, PRIORITY: 2, DEVICE: 3 },
  RULE: { TABLE: 1, CHAIN: 2, HANDLE: 3, EXPRESSIONS: 4, USERDATA: 7 },
  SET: { TABLE: 1, NAME: 2, FLAGS: 3, KEY_TYPE: 4, KEY_LEN: 5, DATA_TYPE: 6, DATA_LEN: 7, DESCRIPTION: 9, ID: 10 },
  SET_DESCRIPTION: { FIELDS: 2, FIELD_LEN: 1 },
  ELEMENTS: { TABLE: 1, SET: 2, LIST: 3 },
  ELEMENT: { KEY: 1, DATA: 2, TIMEOUT: 4, EXPIRATION: 5, KEY_END: 10 },
  DATA: { VALUE: 1, VERDICT: 2 },
} as const;
const NFT_SET = { INTERVAL: 4, MAP: 8, TIMEOUT: 0x10, CONCATENATION: 0x80 } as const;

export type NftHook = "prerouting" | "input" | "forward" | "output" | "postrouting" | "ingress";
/** The netdev family counts for itself. */
const HOOKS: Readonly<Record<NftHook, number>> = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4, ingress: 0 };

/** Types of keys and values: only `nft list` reads the numbers, the kernel the lengths. A concatenation pads each part to four bytes. */
export const NFT_TYPE = { ipv4_addr: 7, ipv6_addr: 8, inet_proto: 12, inet_service: 13 } as const;
export type NftType = keyof typeof NFT_TYPE;
const LENGTHS: Readonly<Record<NftType, number>> = { ipv4_addr: 4, ipv6_addr: 16, inet_proto: 1, inet_service: 2 };
const paddedLength = (types: readonly NftType[]) => types.reduce((sum, type) => sum + (type === "ipv6_addr" ? 16 : 4), 0);

export interface NftChain {
  readonly name: string;
  /** A base chain hangs at a hook. */
  readonly hook?: { readonly type: "filter" | "nat"; readonly hook: NftHook; readonly priority: number; readonly device?: string };
}

export interface NftMap {
  readonly name: string;
  readonly key: readonly NftType[];
  readonly value: readonly NftType[];
}

export interface NftSet {
  readonly name: string;
  readonly key: readonly NftType[];
  /** Elements are ranges in each part of the key (5.6), which do not overlap. */
  readonly intervals?: boolean;
  /** Elements end by themselves. */
  readonly timeouts?: boolean;
}

/** nfgenmsg, then attributes. */
function message(type: number, flags: number, ...attributes: readonly Uint8Array[]): NetlinkMessage {
  return { type: (NFNL_SUBSYS_NFTABLES << 8) | type, flags: flags | NLM_F.ACK, body: concat([nfgenmsg(NFPROTO_INET, 0), ...attributes]) };
}

/** The same for a table of another family. */
export function inFamily({ type, flags, body }: NetlinkMessage, family: number): NetlinkMessage {
  return { type, flags, body: concat([Uint8Array.of(family), body.subarray(1)]) };
}

export const ofDevice = (message: NetlinkMessage): NetlinkMessage => inFamily(message, NFPROTO_NETDEV);

function nfgenmsg(family: number, resource: number): Uint8Array {
  return concat([Uint8Array.of(family, 0), uint16be(resource)]);
}

/**
 * Wraps messages as one transaction. Only the last asks for an acknowledgement: errors are reported anyway, and hundreds of answers would not fit in the
 * socket's buffer.
 */
export function nftBatch(messages: readonly NetlinkMessage[]): NetlinkMessage[] {
  const body = nfgenmsg(AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  const quiet = messages.map((message, i) => (i === messages.length - 1 ? message : { ...message, flags: message.flags & ~NLM_F.ACK }));
  return [{ type: NFNL_MSG_BATCH_BEGIN, flags: 0, body }, ...quiet, { type: NFNL_MSG_BATCH_END, flags: 0, body }];
}

/** A change of tables, as the kernel tells of it. */
export interface NftNotice {
  readonly type: number;
  readonly family: number;
  readonly attributes: Map<number, Uint8Array>;
}

/** Notices in a datagram of the group NFNLGRP_NFTABLES; others are left out. RangeError when a length does not fit. */
export function nftNotices(datagram: Uint8Array): NftNotice[] {
  return decodeMessages(datagram)
    .filter(({ type, body }) => type >> 8 === NFNL_SUBSYS_NFTABLES && body.length >= 4)
    .map(({ type, body }) => ({ type: type & 0xff, family: body[0] ?? 0, attributes: decodeAttributes(body.subarray(4)) }));
}

/** Adds the table; one that exists stays as it is. */
export function newTable(table: string): NetlinkMessage {
  return message(NFT_MSG.NEWTABLE, NLM_F.CREATE, string(NFTA.TABLE.NAME, table), u32be(NFTA.TABLE.FLAGS, 0));
}

/** Removes the table with all that it holds. */
export function deleteTable(table: string): NetlinkMessage {
  return message(NFT_MSG.DELTABLE, 0, string(NFTA.TABLE.NAME, table));
}

export function newChain(table: string, { name, hook }: NftChain): NetlinkMessage {
  const base =
    hook === undefined
      ? []
      : [
          nested(
            NFTA.CHAIN.HOOK,
            u32be(NFTA.HOOK.NUM, HOOKS[hook.hook]),
            u32be(NFTA.HOOK.PRIORITY, hook.priority),
            ...(hook.device === undefined ? [] : [string(NFTA.HOOK.DEVICE, hook.device)]),
          ),
          u32be(NFTA.CHAIN.POLICY, 1), // NF_ACCEPT
          string(NFTA.CHAIN.TYPE, hook.type),
        ];
  return message(NFT_MSG.NEWCHAIN, NLM_F.CREATE, string(NFTA.CHAIN.TABLE, table), string(NFTA.CHAIN.NAME, name), ...base);
}

/** Removes a chain that has no rules. */
export function deleteChain(table: string, chain: string): NetlinkMessage {
  return message(NFT_MSG.DELCHAIN, 0, string(NFTA.CHAIN.TABLE, table), string(NFTA.CHAIN.NAME, chain));
}

/** Removes all rules of a chain. */
export function flushChain(table: string, chain: string): NetlinkMessage {
  return message(NFT_MSG.DELRULE, 0, string(NFTA.RULE.TABLE, table), string(NFTA.RULE.CHAIN, chain));
}

/** Appends a rule. `userData` is kept with it and means nothing to the kernel. */
export function newRule(table: string, chain: string, expressions: readonly Uint8Array[], userData?: Uint8Array): NetlinkMessage {
  const list = nested(NFTA.RULE.EXPRESSIONS, ...expressions);
  const data = userData === undefined ? [] : [bytes(NFTA.RULE.USERDATA, userData)];
  return message(NFT_MSG.NEWRULE, NLM_F.CREATE | NLM_F.APPEND, string(NFTA.RULE.TABLE, table), string(NFTA.RULE.CHAIN, chain), list, ...data);
}

/** Removes one rule by its handle, as a dump says it. */
export function deleteRule(table: string, chain: string, handle: Uint8Array): NetlinkMessage {
  return message(NFT_MSG.DELRULE, 0, string(NFTA.RULE.TABLE, table), string(NFTA.RULE.CHAIN, chain), bytes(NFTA.RULE.HANDLE, handle));
}

const dump = ({ type, body }: NetlinkMessage): NetlinkMessage => ({ type, flags: NLM_F.DUMP, body });
/** Asks for all chains of a family. */
export const dumpChains = (): NetlinkMessage => dump(message(NFT_MSG.GETCHAIN, 0));
/** Asks for all rules of a chain. */
export const dumpRules = (table: string, chain: string): NetlinkMessage =>
  dump(message(NFT_MSG.GETRULE, 0, string(NFTA.RULE.TABLE, table), string(NFTA.RULE.CHAIN, chain)));

const typeOf = (types: readonly NftType[]) => types.reduce((sum, type) => (sum << 6) | NFT_TYPE[type], 0);

function newSetOrMap(table: string, name: string, flags: number, key: readonly NftType[], id: number, ...more: readonly Uint8Array[]): NetlinkMessage {
  return message(
    NFT_MSG.NEWSET,
    NLM_F.CREATE,
    string(NFTA.SET.TABLE, table),
    string(NFTA.SET.NAME, name),
    u32be(NFTA.SET.FLAGS, flags),
    u32be(NFTA.SET.KEY_TYPE, typeOf(key)),
    u32be(NFTA.SET.KEY_LEN, paddedLength(key)),
    ...more,
    u32be(NFTA.SET.ID, id),
  );
}

/** Adds a map; one that exists stays as it is. `id` is unique in its transaction. */
export function newMap(table: string, { name, key, value }: NftMap, id: number): NetlinkMessage {
  const data = [u32be(NFTA.SET.DATA_TYPE, typeOf(value)), u32be(NFTA.SET.DATA_LEN, paddedLength(value))];
  return newSetOrMap(table, name, NFT_SET.MAP, key, id, ...data);
}

/** Adds a set; one that exists stays as it is. `id` is unique in its transaction, among maps too. */
export function newSet(table: string, { name, key, intervals = false, timeouts = false }: NftSet, id: number): NetlinkMessage {
  const flags = (intervals ? NFT_SET.INTERVAL | NFT_SET.CONCATENATION : 0) | (timeouts ? NFT_SET.TIMEOUT : 0);
  const fields = key.map((type) => nested(NFTA.LIST_ELEM, u32be(NFTA.SET_DESCRIPTION.FIELD_LEN, LENGTHS[type])));
  const description = intervals ? [nested(NFTA.SET.DESCRIPTION, nested(NFTA.SET_DESCRIPTION.FIELDS, ...fields))] : [];
  return newSetOrMap(table, name, flags, key, id, ...description);
}

/** Removes a map or set that no rule uses. */
export function deleteSet(table: string, set: string): NetlinkMessage {
  return message(NFT_MSG.DELSET, 0, string(NFTA.SET.TABLE, table), string(NFTA.SET.NAME, set));
}

/** Removes all elements of a map or set. */
export function flushMap(table: string, map: string): NetlinkMessage {
  return message(NFT_MSG.DELSETELEM, 0, string(NFTA.ELEMENTS.TABLE, table), string(NFTA.ELEMENTS.SET, map));
}

export interface NftElement {
  readonly key: Uint8Array;
  /** Of a set with intervals: the last key of the range. */
  readonly keyEnd?: Uint8Array;
  /** Of a map. */
  readonly value?: Uint8Array;
  /** Of a set with timeouts: milliseconds until it ends. */
  readonly timeoutMs?: number;
}

/** As many elements as fit in one attribute (64 KiB) with room to spare. */
const ELEMENTS_PER_MESSAGE = 500;

/** Adds elements to a map or set; an equal one that exists is no error (and keeps its time), one with another value is EEXIST. */
export function newElements(table: string, map: string, elements: readonly NftElement[]): NetlinkMessage[] {
  return elementMessages(NFT_MSG.NEWSETELEM, NLM_F.CREATE, table, map, elements, (element) => [
    ...keysOf(element),
    ...(element.value === undefined ? [] : [nested(NFTA.ELEMENT.DATA, bytes(NFTA.DATA.VALUE, element.value))]),
    ...(element.timeoutMs === undefined ? [] : [u64be(NFTA.ELEMENT.TIMEOUT, BigInt(Math.ceil(element.timeoutMs)))]),
  ]);
}

/** Removes elements by key; ENOENT fails the transaction. */
export function deleteElements(table: string, map: string, elements: readonly NftElement[]): NetlinkMessage[] {
  return elementMessages(NFT_MSG.DELSETELEM, 0, table, map, elements, keysOf);
}

const keysOf = ({ key, keyEnd }: NftElement): Uint8Array[] => [
  nested(NFTA.ELEMENT.KEY, bytes(NFTA.DATA.VALUE, key)),
  ...(keyEnd === undefined ? [] : [nested(NFTA.ELEMENT.KEY_END, bytes(NFTA.DATA.VALUE, keyEnd))]),
];

/** Asks for all elements of a set. */
export function dumpElements(table: string, set: string): NetlinkMessage {
  return dump(message(NFT_MSG.GETSETELEM, 0, string(NFTA.ELEMENTS.TABLE, table), string(NFTA.ELEMENTS.SET, set)));
}

/** Keys of the elements in the answers to {@link dumpElements}, and how long they stay. RangeError when a length does not fit. */
export function dumpedElements(answers: Uint8Array): { readonly key: Uint8Array; readonly expiresInMs: number | undefined }[] {
  return nftNotices(answers)
    .filter(({ type }) => type === NFT_MSG.NEWSETELEM)
    .flatMap(({ attributes }) => attributesIn(attributes.get(NFTA.ELEMENTS.LIST) ?? new Uint8Array(0)))
    .flatMap(({ payload }) => {
      const element = decodeAttributes(payload);
      const key = decodeAttributes(element.get(NFTA.ELEMENT.KEY) ?? new Uint8Array(0)).get(NFTA.DATA.VALUE);
      const left = element.get(NFTA.ELEMENT.EXPIRATION);
      const expiresInMs = left?.length === 8 ? Number(new DataView(left.buffer, left.byteOffset, 8).getBigUint64(0, false)) : undefined;
      return key === undefined ? [] : [{ key, expiresInMs }];
    });
}

function elementMessages(
  type: number,
  flags: number,
  table: string,
  map: string,
  elements: readonly NftElement[],
  encode: (element: NftElement) => Uint8Array[],
): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at < elements.length; at += ELEMENTS_PER_MESSAGE) {
    const list = elements.slice(at, at + ELEMENTS_PER_MESSAGE).map((element) => nested(NFTA.LIST_ELEM, ...encode(element)));
    messages.push(message(type, flags, string(NFTA.ELEMENTS.TABLE, table), string(NFTA.ELEMENTS.SET, map), nested(NFTA.ELEMENTS.LIST, ...list)));
  }
  return messages;
}
