import { expect, test } from "vitest";
import { bytes, decodeAttributes, textOf } from "#linux/netlink/attributes.ts";
import { encodeMessages, type NetlinkMessage } from "#linux/netlink/message.ts";
import { inFamily, newChain, newRule, NFT_MSG, NFTA } from "#linux/netlink/nftables.ts";
import { hasDocker, letThrough } from "./beside-docker.ts";

const chains = (...list: [table: string, chain: string][]) => encodeMessages(list.map(([table, name]) => inFamily(newChain(table, { name }), 2)));
/** A dump says handles of rules; requests have none. */
function dumped(messages: readonly NetlinkMessage[]): Uint8Array {
  const made = messages.filter(({ type }) => type === (0x0a00 | NFT_MSG.NEWRULE));
  return encodeMessages(
    made.map((rule, i) => ({ ...rule, body: Buffer.concat([rule.body, bytes(NFTA.RULE.HANDLE, Uint8Array.of(0, 0, 0, 0, 0, 0, 0, i + 1))]) })),
  );
}
const changes = (messages: readonly NetlinkMessage[] | undefined) =>
  messages
    ?.filter(({ type }) => type >= 0x0a00)
    .map(({ type, body }) => {
      const user = decodeAttributes(body.subarray(4)).get(NFTA.RULE.USERDATA);
      return `${body[0]} ${type & 255} ${user === undefined ? "" : textOf(user.subarray(2))}`.trim();
    });

test("Docker is there when its chain is, in the table of the same family", () => {
  expect(hasDocker(chains(["filter", "FORWARD"], ["filter", "DOCKER-USER"]))).toBe(true);
  expect(hasDocker(chains(["filter", "FORWARD"], ["other", "DOCKER-USER"]))).toBe(false);
  expect(hasDocker(new Uint8Array(0))).toBe(false);
});

test("our bridges are let through, each once; others' rules, and those of another daemon, are left alone", () => {
  const first = letThrough(2, "wherry", ["br-1"], new Uint8Array(0));
  expect(changes(first)).toEqual(["2 6 wherry: from br-1", "2 6 wherry: to br-1"]);
  const there = dumped(first ?? []);
  expect(letThrough(2, "wherry", ["br-1"], there)).toBeUndefined();
  expect(changes(letThrough(2, "wherry", [], there))).toEqual(["2 8", "2 8"]);
  expect(letThrough(2, "wherry-2", [], there)).toBeUndefined();
  expect(changes(letThrough(10, "wherry", ["br-1", "br-2"], there))).toEqual([
    "10 8",
    "10 8",
    ...["from br-1", "to br-1", "from br-2", "to br-2"].map((text) => `10 6 wherry: ${text}`),
  ]);
  const theirs = dumped([inFamily(newRule("filter", "FORWARD", []), 2)]);
  expect(letThrough(2, "wherry", [], theirs)).toBeUndefined();
});
