import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AddressPool, chooseIPv6, choosePool, defaultPools } from "./address-pool.ts";
import { bytes, concat, u32 } from "#linux/netlink/attributes.ts";
import { encodeMessages } from "#linux/netlink/message.ts";
import { IFA, RTA, RTM } from "#linux/netlink/rtnetlink.ts";
import { hostRanges, parseRanges } from "./host-routes.ts";
import { addressBytes, contains, firstOf, formatAddress, formatSubnet, lastOf, overlap, parseAddress, parseCidr } from "./ip-address.ts";

const subnet = (text: string) => parseCidr(text) ?? expect.fail(text);
const address = (text: string) => parseAddress(text) ?? expect.fail(text);

describe("addresses", () => {
  test("addresses and ranges", () => {
    expect(parseAddress("172.17.0.1")).toEqual({ family: 4, value: 0xac110001n });
    expect(parseAddress("255.255.255.255")?.value).toBe(0xffffffffn);
    for (const bad of ["", "1.2.3", "1.2.3.256", "1.2.3.4.5", "fe80::1%eth0", "1.2.3.4 ", "-1.2.3.4", ":::", "1:2:3:4:5:6:7:8:9"])
      expect(parseAddress(bad)).toBeUndefined();
    expect(subnet("10.1.2.3/16")).toEqual({ family: 4, network: 0x0a010000n, prefix: 16, address: { family: 4, value: 0x0a010203n } });
    expect(subnet("0.0.0.0/0")).toMatchObject({ network: 0n, prefix: 0 });
    expect(subnet("255.255.255.255/32").network).toBe(0xffffffffn);
    for (const bad of ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "x/8", "fd00::/129"]) expect(parseCidr(bad)).toBeUndefined();
    expect(formatAddress(lastOf(subnet("192.168.0.0/20")))).toBe("192.168.15.255");
  });

  test("of IPv6 in all spellings, written in the shortest", () => {
    const spellings: readonly (readonly [string, string])[] = [
      ["fd00:0:0:0:0:0:0:1", "fd00::1"],
      ["FD00::0001:0", "fd00::1:0"],
      ["::", "::"],
      ["::ffff:10.0.0.1", "::ffff:a00:1"],
      ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ];
    for (const [text, short] of spellings) expect(formatAddress(address(text))).toBe(short);
    expect(formatSubnet(subnet("fd00:1:2:3:4::9/64"))).toBe("fd00:1:2:3::/64");
    expect(formatAddress(lastOf(subnet("fd00::/120")))).toBe("fd00::ff");
    fc.assert(fc.property(fc.ipV6(), (text) => parseAddress(formatAddress(address(text)))?.value === address(text).value));
  });

  test("two ranges overlap exactly when one holds the other's first address", () => {
    const range = fc
      .record({ address: fc.nat({ max: 0xffffffff }), prefix: fc.integer({ min: 0, max: 32 }) })
      .map(({ address: a, prefix }) => subnet(`${formatAddress({ family: 4, value: BigInt(a) })}/${prefix}`));
    fc.assert(
      fc.property(range, range, (a, b) => {
        expect(overlap(a, b)).toBe(contains(a, firstOf(b)) || contains(b, firstOf(a)));
        expect(overlap(b, a)).toBe(overlap(a, b));
        expect(subnet(formatSubnet(a)).network).toBe(a.network);
      }),
    );
  });
});

describe("pools", () => {
  test("docker's, in its order, without those in use", () => {
    const all = [...defaultPools(16)].map(formatSubnet);
    expect([all.length, all[0], all[14], all[15], all.at(-1)]).toEqual([31, "172.17.0.0/16", "172.31.0.0/16", "192.168.0.0/20", "192.168.240.0/20"]);
    const chosen = (...used: string[]) => formatSubnet(choosePool(used.map(subnet), 16));
    expect(chosen()).toBe("172.17.0.0/16");
    expect(chosen("172.17.5.0/24")).toBe("172.18.0.0/16");
    expect(chosen("172.16.0.0/12", "192.168.7.0/24")).toBe("192.168.16.0/20");
    expect(() => chosen("172.16.0.0/12", "192.168.0.0/16")).toThrow("could not find an available, non-overlapping IPv4 address pool");
    expect(formatSubnet(choosePool([subnet("172.17.0.0/16"), subnet("172.18.0.0/24")], 24))).toBe("172.18.1.0/24");
    expect([...defaultPools(24)]).toHaveLength(16 * 256);
  });

  test("of IPv6 are unique local ones", () => {
    const [a, b] = [chooseIPv6([]), chooseIPv6([])];
    expect([a.prefix, formatSubnet(a)]).toEqual([64, expect.stringMatching(/^fd/)]);
    expect(overlap(a, b)).toBe(false);
  });
});

describe("addresses of a network", () => {
  const pool = (config: ConstructorParameters<typeof AddressPool>[0]) => new AddressPool(config, "net (abc)");

  test("the lowest free one first; network, gateway, broadcast and auxiliary ones never", () => {
    const small = pool({ Subnet: "10.0.0.0/29", Gateway: "10.0.0.2", AuxiliaryAddresses: { router: "10.0.0.4" } });
    expect([small.take("a"), small.take("b"), small.take("c"), small.take("d")].map(formatAddress)).toEqual(["10.0.0.1", "10.0.0.3", "10.0.0.5", "10.0.0.6"]);
    expect(() => small.take("e")).toThrow("no available IPv4 addresses on this network's address pools: net (abc)");
    small.free(address("10.0.0.3"));
    expect(formatAddress(small.take("e"))).toBe("10.0.0.3");
  });

  test("a wanted one is given when it is free and inside", () => {
    const any = pool({ Subnet: "10.0.0.0/24" });
    expect(any.gateway).toEqual(address("10.0.0.1"));
    expect(formatAddress(any.take("a", address("10.0.0.9")))).toBe("10.0.0.9");
    expect(() => any.take("b", address("10.0.0.9"))).toThrow("Address already in use");
    expect(() => any.take("b", address("10.0.0.1"))).toThrow("Address already in use");
    expect(() => any.take("b", address("10.0.1.9"))).toThrow("It does not belong to any of this network's subnets");
  });

  test("a range within the subnet", () => {
    const ranged = pool({ Subnet: "10.0.0.0/16", IPRange: "10.0.5.0/30" });
    expect([1, 2, 3, 4].map(() => formatAddress(ranged.take("x")))).toEqual(["10.0.5.0", "10.0.5.1", "10.0.5.2", "10.0.5.3"]);
    expect(() => ranged.take("x")).toThrow("no available IPv4 addresses");
    expect(formatAddress(ranged.take("x", address("10.0.9.9")))).toBe("10.0.9.9");
  });

  test("configurations that do not hold together are refused", () => {
    expect(() => pool({})).toThrow("invalid subnet");
    expect(() => pool({ Subnet: "10.0.0.0/24", Gateway: "10.0.1.1" })).toThrow("no matching subnet for gateway 10.0.1.1");
    expect(() => pool({ Subnet: "10.0.0.0/24", IPRange: "10.0.0.0/16" })).toThrow("no matching subnet for range");
    expect(() => pool({ Subnet: "10.0.0.0/24", AuxiliaryAddresses: { x: "10.0.1.1" } })).toThrow("no matching subnet for aux-address 10.0.1.1");
  });

  test("IPv6: the gateway is the first, there is no broadcast address", () => {
    const six = pool({ Subnet: "fd00::/126" });
    expect([six.take("a"), six.take("b")].map(formatAddress)).toEqual(["fd00::2", "fd00::3"]);
    expect(() => six.take("c")).toThrow("no available IPv6 addresses");
    expect(() => six.take("c", address("10.0.0.1"))).toThrow("It does not belong");
  });

  test("a point-to-point range has no broadcast address", () => {
    const two = pool({ Subnet: "10.0.0.0/31", Gateway: "10.0.0.0" });
    expect(formatAddress(two.take("x"))).toBe("10.0.0.1");
  });
});

describe("what the host uses", () => {
  const route = (
    destination: string | undefined,
    prefix: number,
    options: { readonly table?: number; readonly index?: number; readonly flags?: number; readonly type?: number } = {},
  ) => {
    const { table = 254, index = 2, flags = 0, type = 1 } = options;
    const six = destination?.includes(":") ?? false;
    const rtmsg = Uint8Array.of(six ? 10 : 2, prefix, 0, 0, table, 3, 0, type, flags & 255, flags >> 8, 0, 0);
    const to = destination === undefined ? [] : [bytes(RTA.DST, addressBytes(address(destination)))];
    return { type: RTM.NEWROUTE, flags: 2, body: concat([rtmsg, ...to, ...(index === 0 ? [] : [u32(RTA.OIF, index)])]) };
  };
  const interfaceAddress = (text: string, prefix: number, index: number) => {
    const own = addressBytes(address(text));
    return { type: RTM.NEWADDR, flags: 2, body: concat([Uint8Array.of(own.length === 16 ? 10 : 2, prefix, 0, 0, index, 0, 0, 0), bytes(IFA.ADDRESS, own)]) };
  };
  const shown = (routes: Parameters<typeof encodeMessages>[0], addresses: Parameters<typeof encodeMessages>[0] = []) =>
    parseRanges(encodeMessages(routes), encodeMessages(addresses)).map((range) => `${range.index} ${formatSubnet(range)}`);

  test("routes of all tables, one that leads nowhere too; no default route, no address of its own, nothing that all interfaces have", () => {
    const own = route("192.0.2.7", 32, { table: 255, type: 2 });
    expect(
      shown([route(undefined, 0), route("192.0.2.0", 24), route("172.16.0.0", 12, { table: 0, index: 9 }), route("10.0.0.0", 8, { index: 0, type: 6 }), own]),
    ).toEqual(["2 192.0.2.0/24", "9 172.16.0.0/12", "undefined 10.0.0.0/8"]);
    expect(shown([route("fe80::", 64), route("ff00::", 8), route("2001:db8:1::", 48), route("::1", 128), route("2001:db8::9", 128, { flags: 0x200 })])).toEqual(
      ["2 2001:db8:1::/48"],
    );
  });

  test("networks of interfaces, whether there is a route or not", () => {
    expect(
      shown(
        [],
        [interfaceAddress("172.17.0.1", 16, 5), interfaceAddress("127.0.0.1", 8, 1), interfaceAddress("fd00::1", 64, 5), interfaceAddress("fe80::1", 64, 5)],
      ),
    ).toEqual(["5 172.17.0.0/16", "5 fd00::/64"]);
  });

  test("the helper is asked, and what is ours is left out", async () => {
    const call = async () => new Map([[0, encodeMessages([route("172.17.0.0", 16, { index: 3 }), route("172.18.0.0", 16, { index: 4 })])]]);
    expect((await hostRanges({ call }, new Set([3]))).map(formatSubnet)).toEqual(["172.18.0.0/16"]);
  });
});
