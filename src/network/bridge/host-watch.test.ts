import { expect, test } from "vitest";
import { bytes, concat, string } from "#linux/netlink/attributes.ts";
import { encodeMessages } from "#linux/netlink/message.ts";
import { RuleNotices } from "./host-watch.ts";

const [DELTABLE, DELRULE, NEWGEN] = [2, 8, 15];
const notice = (type: number, family: number, ...attributes: Uint8Array[]) => ({
  type: (10 << 8) | type,
  flags: 0,
  body: concat([Uint8Array.of(family, 0, 0, 0), ...attributes]),
});
const by = (process: string) => notice(NEWGEN, 0, bytes(1, Uint8Array.of(0, 0, 0, 9)), string(3, process));

test("what others take from our table is a loss; what we change ourselves, other tables and the user's chain are none", () => {
  const lost = (...messages: ReturnType<typeof notice>[]) => new RuleNotices("wherry").lost(encodeMessages(messages));
  const rule = (chain: string, table = "wherry", family = 1) => notice(DELRULE, family, string(1, table), string(2, chain));
  expect(lost(rule("forward"), by("nft"))).toBe(true);
  expect(lost(notice(DELTABLE, 1, string(1, "wherry")), by("firewalld"))).toBe(true);
  expect(lost(rule("forward"), by("wherry-monitor"))).toBe(false);
  expect(lost(rule("forward"), by("wherry-helper"), rule("user"), by("nft"))).toBe(false);
  expect(lost(rule("forward", "other"), rule("forward", "wherry", 2), by("nft"))).toBe(false);
  expect(lost(by("nft"))).toBe(false);
});

test("a transaction may come in several datagrams", () => {
  const notices = new RuleNotices("wherry");
  expect(notices.lost(encodeMessages([notice(DELTABLE, 1, string(1, "wherry"))]))).toBe(false);
  expect(notices.lost(encodeMessages([by("nft")]))).toBe(true);
});

test("changes of the table filter by others are told once, our own are not", () => {
  const notices = new RuleNotices("wherry");
  const rule = notice(6, 2, string(1, "filter"), string(2, "FORWARD"));
  notices.lost(encodeMessages([rule, by("wherry-helper")]));
  expect(notices.othersChanged()).toBe(false);
  expect(notices.lost(encodeMessages([rule, by("dockerd")]))).toBe(false);
  expect([notices.othersChanged(), notices.othersChanged()]).toEqual([true, false]);
  notices.lost(encodeMessages([notice(6, 2, string(1, "nat"), string(2, "X")), by("dockerd")]));
  expect(notices.othersChanged()).toBe(false);
});
