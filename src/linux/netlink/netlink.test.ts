import { describe, expect, test } from "vitest";
import { attributesIn, bytes, decodeAttributes, nested, string, textOf, u8, u16, u32, u32be } from "./attributes.ts";
import { decodeMessages, encodeMessages, NLM_F } from "./message.ts";
import {
  bridgePort,
  bridgeUp,
  deleteAddress,
  deleteGroup,
  deleteLink,
  dumpBridges,
  dumpedLinks,
  IFLA,
  linkUp,
  newAddress,
  newBridge,
  newDefaultRoute,
  newVeth,
  RTM,
  setGroup,
} from "./rtnetlink.ts";

const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");

describe("attributes", () => {
  test("length, type, payload, padding", () => {
    expect(hex(u32(4, 1500))).toBe("08000400dc050000");
    expect(hex(u32be(4, 1))).toBe("0800040000000001");
    expect(hex(u16(2, 0x1234))).toBe("0600020034120000");
    expect(hex(u8(1, 7))).toBe("0500010007000000");
    expect(hex(string(3, "eth0"))).toBe("090003006574683000000000");
    expect(hex(nested(18, string(1, "bridge")))).toBe("100012800b00010062726964676500" + "00");
  });

  test("what does not fit is refused", () => {
    expect(() => bytes(1, new Uint8Array(65_532))).toThrow("do not fit");
    expect(() => string(3, "a\0b")).toThrow("NUL");
    expect(bytes(1, new Uint8Array(65_531)).length).toBe(65_536);
  });

  test("decoding gives back what was encoded, without flags in the type", () => {
    const data = Buffer.concat([string(3, "veth1"), nested(18, u32(1, 5), u8(2, 1))]);
    const found = decodeAttributes(data);
    expect(textOf(found.get(3) ?? new Uint8Array())).toBe("veth1");
    expect(attributesIn(found.get(18) ?? new Uint8Array()).map(({ type, payload }) => [type, hex(payload)])).toEqual([
      [1, "05000000"],
      [2, "01"],
    ]);
  });

  test("decoding refuses lengths that point outside", () => {
    expect(() => attributesIn(Uint8Array.of(3, 0, 1, 0))).toThrow(RangeError);
    expect(() => attributesIn(Uint8Array.of(12, 0, 1, 0, 1, 2, 3, 4))).toThrow(RangeError);
    expect(() => attributesIn(Uint8Array.of(1, 0))).toThrow(RangeError);
  });
});

describe("messages", () => {
  test("headers with sequence numbers, each message aligned", () => {
    const encoded = encodeMessages([
      { type: 16, flags: NLM_F.ACK, body: Uint8Array.of(1, 2, 3) },
      { type: 20, flags: 0, body: Uint8Array.of(9) },
    ]);
    expect(hex(encoded)).toBe("13000000100005000100000000000000010203" + "00" + "11000000140001000200000000000000" + "09" + "000000");
    expect(decodeMessages(encoded).map(({ type, flags, sequence, body }) => [type, flags, sequence, hex(body)])).toEqual([
      [16, NLM_F.ACK | NLM_F.REQUEST, 1, "010203"],
      [20, NLM_F.REQUEST, 2, "09"],
    ]);
    expect(() => decodeMessages(encoded.subarray(0, 30))).toThrow(RangeError);
  });
});

// Compared with what iproute2 6.1 sends for the commands named (strace -e write=all); it orders attributes otherwise, and leaves out NUL and NLA_F_NESTED here and there.
describe("rtnetlink", () => {
  test("ip link set dev (index 5) alias 'mine' up, with route_localnet; a long alias is cut", () => {
    const { type, body } = bridgeUp(5, "mine");
    expect([type, hex(body.subarray(4, 12))]).toEqual([RTM.NEWLINK, "0500000001000000"]);
    const attributes = decodeAttributes(body.subarray(16));
    expect(textOf(attributes.get(IFLA.IFALIAS)!)).toBe("mine");
    // AF_INET { IFLA_INET_CONF { 26: 1 } }
    expect(hex(attributes.get(IFLA.AF_SPEC)!)).toBe("1000028" + "00c000180" + "08001a0001000000");
    expect(decodeAttributes(bridgeUp(5, "x".repeat(300)).body.subarray(16)).get(IFLA.IFALIAS)).toHaveLength(255);
    expect(decodeAttributes(bridgeUp(5, undefined).body.subarray(16)).has(IFLA.IFALIAS)).toBe(false);
  });

  test("ip link set dev (index 5) group 7, ip link del group 7, ip addr del", () => {
    expect(hex(setGroup(5, 7).body)).toBe("00000000050000000000000000000000" + "08001b0007000000");
    const { type, body } = deleteGroup(7);
    expect([type, hex(body)]).toEqual([RTM.DELLINK, "00000000000000000000000000000000" + "08001b0007000000"]);
    const off = deleteAddress({ index: 5, address: Uint8Array.of(10, 0, 0, 1), prefix: 24 });
    expect([off.type, hex(off.body)]).toEqual([RTM.DELADDR, "0218000005000000" + "080002000a000001" + "080001000a000001"]);
  });

  test("names and aliases of links that are dumped", () => {
    expect(decodeAttributes(dumpBridges().body.subarray(16)).has(IFLA.LINKINFO)).toBe(true);
    const { body } = bridgeUp(9, "t: network blue");
    const named = Buffer.concat([body.subarray(0, 16), string(IFLA.IFNAME, "br-1"), body.subarray(16)]);
    const answers = encodeMessages([
      { type: RTM.NEWLINK, flags: 0, body: named },
      { type: RTM.DELLINK, flags: 0, body: named },
    ]);
    expect(dumpedLinks(answers)).toEqual([{ index: 9, name: "br-1", alias: "t: network blue" }]);
  });

  test("ip link set dev (index 5) up", () => {
    const message = linkUp(5);
    expect(message.type).toBe(RTM.NEWLINK);
    expect(hex(message.body)).toBe("00000000" + "05000000" + "01000000" + "01000000");
  });

  test("ip link add br0 index 7 address 02:42:ac:11:00:01 mtu 1500 up type bridge", () => {
    const message = newBridge({ name: "br0", index: 7, mac: Uint8Array.of(2, 0x42, 172, 17, 0, 1), mtu: 1500, up: true });
    expect(message.flags).toBe(NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL);
    expect(hex(message.body)).toBe(
      "00000000070000000100000001000000" + // struct ifinfomsg
        "0800030062723000" + // IFLA_IFNAME
        "0a0001000242ac1100010000" + // IFLA_ADDRESS
        "08000400dc050000" + // IFLA_MTU
        "100012800b00010062726964676500" +
        "00", // IFLA_LINKINFO { IFLA_INFO_KIND }
    );
  });

  test("a veth pair whose peer is made in another namespace", () => {
    const { body } = newVeth(
      { name: "veth1", index: 70, master: 7, up: true },
      { name: "eth0", index: 100, namespaceFd: 104, mac: Uint8Array.of(2, 0x42, 172, 17, 0, 2) },
    );
    const outer = decodeAttributes(body.subarray(16));
    expect(new DataView(body.buffer, body.byteOffset).getInt32(4, true)).toBe(70);
    expect(textOf(outer.get(IFLA.IFNAME)!)).toBe("veth1");
    expect(hex(outer.get(IFLA.MASTER)!)).toBe("07000000");
    const info = decodeAttributes(outer.get(IFLA.LINKINFO)!);
    expect(textOf(info.get(IFLA.INFO_KIND)!)).toBe("veth");
    const peer = decodeAttributes(info.get(IFLA.INFO_DATA)!).get(1)!;
    expect(hex(peer.subarray(0, 16))).toBe("00000000" + "64000000" + "00000000" + "00000000"); // down until its owner sets it up
    const inner = decodeAttributes(peer.subarray(16));
    expect(textOf(inner.get(IFLA.IFNAME)!)).toBe("eth0");
    expect(hex(inner.get(IFLA.NET_NS_FD)!)).toBe("68000000");
    expect(hex(inner.get(IFLA.ADDRESS)!)).toBe("0242ac110002");
  });

  test("bridge link set dev (index 70) hairpin on isolated on", () => {
    const message = bridgePort(70, { hairpin: true, isolated: true });
    expect(message.type).toBe(RTM.SETLINK);
    expect(hex(message.body)).toBe("07000000460000000000000000000000" + "14000c80" + "0500040001000000" + "0500210001000000");
  });

  test("ip addr add 172.17.0.2/16 broadcast 172.17.255.255 dev (index 100)", () => {
    expect(hex(newAddress({ index: 100, address: Uint8Array.of(172, 17, 0, 2), prefix: 16, broadcast: Uint8Array.of(172, 17, 255, 255) }).body)).toBe(
      "0210000064000000" + "08000200ac110002" + "08000100ac110002" + "08000400ac11ffff",
    );
  });

  test("ip route add default via 172.17.0.1 dev (index 100)", () => {
    expect(hex(newDefaultRoute(Uint8Array.of(172, 17, 0, 1), 100).body)).toBe("02000000fe030001" + "00000000" + "08000500ac110001" + "0800040064000000");
  });

  test("names longer than the kernel takes are refused here", () => {
    expect(() => deleteLink("a-name-of-16-chr")).toThrow("1 to 15 bytes");
    expect(() => newBridge({ name: "" })).toThrow("1 to 15 bytes");
    expect(textOf(decodeAttributes(deleteLink("fifteen-chars-x").body.subarray(16)).get(IFLA.IFNAME)!)).toBe("fifteen-chars-x");
  });
});
