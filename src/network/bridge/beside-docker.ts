/**
 * Docker's daemon sets the policy of the table `filter`, chain FORWARD, to drop and lets its own bridges through: then nothing of ours would be forwarded, whatever
 * our table says. Where Docker's chains are, our bridges are let through at the end of that chain: every rule that is there goes first, and what reaches its end is
 * for our own table to decide. Rules are such as iptables itself writes, so that it goes on reading the table. Pure.
 * @module
 */
import type { NetlinkMessage } from "#linux/netlink/message.ts";
import * as nft from "#linux/netlink/nft-expressions.ts";
import {
  deleteRule,
  dumpChains,
  dumpRules,
  inFamily,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  newRule,
  nftBatch,
  nftNotices,
  NFT_MSG,
  NFTA,
} from "#linux/netlink/nftables.ts";
import { textOf } from "#linux/netlink/attributes.ts";

export type FilterFamily = 2 | 10;
export const FILTER_FAMILIES: readonly FilterFamily[] = [NFPROTO_IPV4, NFPROTO_IPV6];
export const FILTER_TABLE = "filter";
const CHAIN = "FORWARD";
const DOCKERS_CHAIN = "DOCKER-USER";

export const askForChains = (family: FilterFamily): NetlinkMessage => inFamily(dumpChains(), family);
export const askForRules = (family: FilterFamily): NetlinkMessage => inFamily(dumpRules(FILTER_TABLE, CHAIN), family);

/** Whether the answers to {@link askForChains} have Docker's chains beside FORWARD. */
export function hasDocker(answers: Uint8Array): boolean {
  const names = nftNotices(answers)
    .filter(({ type, attributes }) => type === NFT_MSG.NEWCHAIN && textAt(attributes, NFTA.CHAIN.TABLE) === FILTER_TABLE)
    .map(({ attributes }) => textAt(attributes, NFTA.CHAIN.NAME));
  return names.includes(CHAIN) && names.includes(DOCKERS_CHAIN);
}

const textAt = (attributes: ReadonlyMap<number, Uint8Array>, key: number) => textOf(attributes.get(key) ?? new Uint8Array(0));

/** How our rules are known again: a comment, as nft(8) keeps them. */
const COMMENT = 0;
function commentOf(userData: Uint8Array | undefined): string {
  return userData === undefined || userData[0] !== COMMENT ? "" : textOf(userData.subarray(2));
}
function comment(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(`${text}\0`);
  return Uint8Array.of(COMMENT, bytes.length, ...bytes);
}

/**
 * What makes the chain let these bridges of our `table` through, and no others of ours; undefined when it does. `answers`: to {@link askForRules}.
 */
export function letThrough(family: FilterFamily, table: string, bridges: readonly string[], answers: Uint8Array): NetlinkMessage[] | undefined {
  const mine = nftNotices(answers)
    .filter(({ type }) => type === NFT_MSG.NEWRULE)
    .map(({ attributes }) => ({ handle: attributes.get(NFTA.RULE.HANDLE) ?? new Uint8Array(8), text: commentOf(attributes.get(NFTA.RULE.USERDATA)) }))
    .filter(({ text }) => text.startsWith(`${table}: `));
  const wanted = bridges.flatMap((name) => [
    { text: `${table}: from ${name}`, match: nft.inputInterface(name) },
    { text: `${table}: to ${name}`, match: nft.outputInterface(name) },
  ]);
  if (mine.length === wanted.length && wanted.every(({ text }) => mine.some((rule) => rule.text === text))) return undefined;
  const messages = [
    ...mine.map(({ handle }) => deleteRule(FILTER_TABLE, CHAIN, handle)),
    ...wanted.map(({ text, match }) => newRule(FILTER_TABLE, CHAIN, [...match, ...nft.accept()], comment(text))),
  ];
  return nftBatch(messages.map((message) => inFamily(message, family)));
}
