import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AddressPool, chooseIPv6, choosePool, defaultPools } from "./address-pool.ts";
import { parseIPv6Routes, parseRoutes } from "./host-routes.ts";
import { contains, firstOf, formatAddress, formatSubnet, lastOf, overlap, parseAddress, parseCidr, prefixOf } from "./ip-address.ts";

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
    expect([0xffff0000, 0xffffffff, 0, 0xff00ff00].map(prefixOf)).toEqual([16, 32, 0, undefined]);
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

test("routes of the host: little-endian hexadecimal, the default route left out", () => {
  const text = [
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
    "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
    "tun0\t000010AC\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0",
    "",
  ].join("\n");
  expect(parseRoutes(text).map((route) => `${route.interface} ${formatSubnet(route)}`)).toEqual(["eth0 192.0.2.0/24", "tun0 172.16.0.0/12"]);
});

test("IPv6 routes of the host: without default, loopback and what every interface has", () => {
  const text = [
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0",
    "20010db8000100000000000000000000 30 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0",
    "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0",
    "00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000001 00000000 80200001       lo",
    "",
  ].join("\n");
  expect(parseIPv6Routes(text).map((route) => `${route.interface} ${formatSubnet(route)}`)).toEqual(["eth0 2001:db8:1::/48"]);
});
