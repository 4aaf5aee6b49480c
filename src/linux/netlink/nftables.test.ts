import { describe, expect, test } from "vitest";
import { decodeMessages, encodeMessages, NLM_F } from "./message.ts";
import { accept, concatenation, dnatByAddressAndPort, drop, established, jump, masquerade, neitherKind, toThisHost } from "./nft-expressions.ts";
import { deleteElements, newElements, newRule, nftBatch } from "./nftables.ts";

const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");

/** Bodies of the NFT_MSG_NEWRULE messages that nft(8) 1.0.6 sends for these rules (strace -e write=all), of the family `inet`. */
const rules: readonly (readonly [chain: string, rule: string, expressions: Uint8Array[], body: string])[] = [
  [
    "c",
    "ct state established,related accept",
    [...established(), ...accept()],
    "0100000006000100740000000600020063000000c40004802000018007000100637400001400028008000200000000000800010000000001440001800c000100" +
      "6269747769736500340002800800010000000001080002000000000108000300000000040c00048008000100060000000c00058008000100000000002c000180" +
      "08000100636d700020000280080001000000000108000200000000010c0003800800010000000000300001800e000100696d6d6564696174650000001c000280" +
      "0800010000000000100002800c0002800800010000000001",
  ],
  [
    "c",
    'meta iifkind != "bridge" meta oifkind != "bridge" drop',
    [...neitherKind("bridge"), ...drop()],
    "0100000006000100740000000600020063000000ec00048024000180090001006d6574610000000014000280080002000000001a080001000000000138000180" +
      "08000100636d70002c0002800800010000000001080002000000000118000380140001006272696467650000000000000000000024000180090001006d657461" +
      "0000000014000280080002000000001b08000100000000013800018008000100636d70002c000280080001000000000108000200000000011800038014000100" +
      "62726964676500000000000000000000300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c0002800800010000000000",
  ],
  [
    "c",
    "fib daddr type local jump d",
    [...toThisHost(), ...jump("d")],
    "0100000006000100740000000600020063000000900004802800018008000100666962001c000280080003000000000208000200000000030800010000000001" +
      "2c00018008000100636d700020000280080001000000000108000200000000000c0003800800010002000000380001800e000100696d6d656469617465000000" +
      "240002800800010000000000180002801400028008000100fffffffd0600020064000000",
  ],
  [
    "d",
    "dnat ip to ip daddr . meta l4proto . th dport map @m",
    dnatByAddressAndPort(4, "m"),
    // without NFTA_LOOKUP_SET_ID: our maps are in the table already
    "0100000006000100740000000600020064000000ec000480340001800c0001007061796c6f616400240002800800010000000001080002000000000108000300" +
      "00000010080004000000000424000180090001006d657461000000001400028008000200000000100800010000000009340001800c0001007061796c6f616400" +
      "24000280080001000000000a0800020000000002080003000000000208000400000000022c0001800b0001006c6f6f6b757000001c0002800800020000000001" +
      "0800030000000001060001006d00000030000180080001006e617400240002800800010000000001080002000000000208000300000000010800050000000009",
  ],
  ["p", "masquerade", masquerade(), "01000000060001007400000006000200700000001800048014000180090001006d6173710000000004000280"],
];

/** The body of NFT_MSG_NEWSETELEM for `add element ip t m { 10.0.0.1 . tcp . 80 : 172.17.0.2 . 8080 }`. */
const element =
  "010000000600010074000000060002006d00000008000400000000012c0003802800018014000180100001000a0000010600000000500000100002800c000100" + "ac1100021f900000";

describe("nf_tables speaks as nft(8) does", () => {
  test.each(rules)("chain %s: %s", (chain, _rule, expressions, body) => {
    expect(hex(newRule("t", chain, expressions).body)).toBe(body);
  });

  test("an element of a map", () => {
    const one = {
      key: concatenation(Uint8Array.of(10, 0, 0, 1), Uint8Array.of(6), Uint8Array.of(0, 80)),
      value: concatenation(Uint8Array.of(172, 17, 0, 2), Uint8Array.of(0x1f, 0x90)),
    };
    const [message] = newElements("t", "m", [one]);
    // nft names the set by its number in the transaction as well: attribute 4, not needed when the set exists
    expect(hex(message!.body)).toBe(element.replace("0800040000000001", ""));
  });

  test("many elements go in messages that fit the attribute's 16-bit length", () => {
    const many = Array.from({ length: 2500 }, (_, i) => ({
      key: Uint8Array.of(6, 0, 0, 0, i >> 8, i, 0, 0),
      value: Uint8Array.of(172, 17, 0, 2, i >> 8, i, 0, 0),
    }));
    expect(newElements("t", "m", many).length).toBe(5);
    expect(deleteElements("t", "m", many).length).toBe(5);
    expect(newElements("t", "m", [])).toEqual([]);
  });

  test("a transaction begins and ends with the subsystem's number, and only its last message asks for an answer", () => {
    const messages = decodeMessages(encodeMessages(nftBatch([newRule("t", "c", accept()), newRule("t", "c", drop())])));
    expect(messages.map(({ type, flags }) => [type, (flags & NLM_F.ACK) !== 0])).toEqual([
      [16, false],
      [0x0a06, false],
      [0x0a06, true],
      [17, false],
    ]);
    expect(hex(messages[0]!.body)).toBe("0000000a");
  });
});
