/**
 * nf_tables: tables, chains, maps, elements and rules as messages of one transaction.
 * @module
 * @see kernel include/uapi/linux/netfilter/nf_tables.h, nft(8)
 */
import { bytes, concat, decodeAttributes, nested, string, u32be, uint16be } from "./attributes.ts";
import { decodeMessages, type NetlinkMessage, NLM_F } from "./message.ts";

const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const AF_UNSPEC = 0;
/** Family of the tables here: IPv4 and IPv6. */
export const NFPROTO_INET = 1;

export const NFT_MSG = {
  NEWTABLE: 0,
  DELTABLE: 2,
  NEWCHAIN: 3,
  NEWRULE: 6,
  DELRULE: 8,
  NEWSET: 9,
  DELCHAIN: 5,
  DELSET: 11,
  NEWSETELEM: 12,
  DELSETELEM: 14,
  NEWGEN: 15,
} as const;
export const NFTA = {
  LIST_ELEM: 1,
  TABLE: { NAME: 1, FLAGS: 2 },
  CHAIN: { TABLE: 1, NAME: 3, HOOK: 4, POLICY: 5, TYPE: 7 },
  HOOK: { NUM: 1, PRIORITY: 2 },
  RULE: { TABLE: 1, CHAIN: 2, EXPRESSIONS: 4 },
  SET: { TABLE: 1, NAME: 2, FLAGS: 3, KEY_TYPE: 4, KEY_LEN: 5, DATA_TYPE: 6, DATA_LEN: 7, ID: 10 },
  ELEMENTS: { TABLE: 1, SET: 2, LIST: 3 },
  ELEMENT: { KEY: 1, DATA: 2 },
  DATA: { VALUE: 1, VERDICT: 2 },
} as const;
const NFT_SET_MAP = 8;

export type NftHook = "prerouting" | "input" | "forward" | "output" | "postrouting";
const HOOKS: Readonly<Record<NftHook, number>> = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 };

/** Types of keys and values: only `nft list` reads the numbers, the kernel the lengths. A concatenation pads each part to four bytes. */
export const NFT_TYPE = { ipv4_addr: 7, ipv6_addr: 8, inet_proto: 12, inet_service: 13 } as const;
export type NftType = keyof typeof NFT_TYPE;
const paddedLength = (types: readonly NftType[]) => types.reduce((sum, type) => sum + (type === "ipv6_addr" ? 16 : 4), 0);

export interface NftChain {
  readonly name: string;
  /** A base chain hangs at a hook. */
  readonly hook?: { readonly type: "filter" | "nat"; readonly hook: NftHook; readonly priority: number };
}

export interface NftMap {
  readonly name: string;
  readonly key: readonly NftType[];
  readonly value: readonly NftType[];
}

/** nfgenmsg, then attributes. */
function message(type: number, flags: number, ...attributes: readonly Uint8Array[]): NetlinkMessage {
  return { type: (NFNL_SUBSYS_NFTABLES << 8) | type, flags: flags | NLM_F.ACK, body: concat([nfgenmsg(NFPROTO_INET, 0), ...attributes]) };
}

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
          nested(NFTA.CHAIN.HOOK, u32be(NFTA.HOOK.NUM, HOOKS[hook.hook]), u32be(NFTA.HOOK.PRIORITY, hook.priority)),
          u32be(NFTA.CHAIN.POLICY, 1), // NF_ACCEPT
          string(NFTA.CHAIN.TYPE, hook.type),
        ];
  return message(NFT_MSG.NEWCHAIN, NLM_F.CREATE, string(NFTA.CHAIN.TABLE, table), string(NFTA.CHAIN.NAME, name), ...base);
}

/** Removes all rules of a chain. */
export function flushChain(table: string, chain: string): NetlinkMessage {
  return message(NFT_MSG.DELRULE, 0, string(NFTA.RULE.TABLE, table), string(NFTA.RULE.CHAIN, chain));
}

/** Appends a rule. */
export function newRule(table: string, chain: string, expressions: readonly Uint8Array[]): NetlinkMessage {
  const list = nested(NFTA.RULE.EXPRESSIONS, ...expressions);
  return message(NFT_MSG.NEWRULE, NLM_F.CREATE | NLM_F.APPEND, string(NFTA.RULE.TABLE, table), string(NFTA.RULE.CHAIN, chain), list);
}

/** Adds a map; one that exists stays as it is. `id` is unique in its transaction. */
export function newMap(table: string, { name, key, value }: NftMap, id: number): NetlinkMessage {
  const typeOf = (types: readonly NftType[]) => types.reduce((sum, type) => (sum << 6) | NFT_TYPE[type], 0);
  return message(
    NFT_MSG.NEWSET,
    NLM_F.CREATE,
    string(NFTA.SET.TABLE, table),
    string(NFTA.SET.NAME, name),
    u32be(NFTA.SET.FLAGS, NFT_SET_MAP),
    u32be(NFTA.SET.KEY_TYPE, typeOf(key)),
    u32be(NFTA.SET.KEY_LEN, paddedLength(key)),
    u32be(NFTA.SET.DATA_TYPE, typeOf(value)),
    u32be(NFTA.SET.DATA_LEN, paddedLength(value)),
    u32be(NFTA.SET.ID, id),
  );
}

/** Removes all elements of a map. */
export function flushMap(table: string, map: string): NetlinkMessage {
  return message(NFT_MSG.DELSETELEM, 0, string(NFTA.ELEMENTS.TABLE, table), string(NFTA.ELEMENTS.SET, map));
}

export interface NftElement {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** As many elements as fit in one attribute (64 KiB) with room to spare. */
const ELEMENTS_PER_MESSAGE = 1000;

/** Adds elements to a map; an equal one that exists is no error, one with another value is EEXIST. */
export function newElements(table: string, map: string, elements: readonly NftElement[]): NetlinkMessage[] {
  return elementMessages(NFT_MSG.NEWSETELEM, NLM_F.CREATE, table, map, elements, ({ key, value }) => [
    nested(NFTA.ELEMENT.KEY, bytes(NFTA.DATA.VALUE, key)),
    nested(NFTA.ELEMENT.DATA, bytes(NFTA.DATA.VALUE, value)),
  ]);
}

/** Removes elements by key; ENOENT fails the transaction. */
export function deleteElements(table: string, map: string, elements: readonly NftElement[]): NetlinkMessage[] {
  return elementMessages(NFT_MSG.DELSETELEM, 0, table, map, elements, ({ key }) => [nested(NFTA.ELEMENT.KEY, bytes(NFTA.DATA.VALUE, key))]);
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
