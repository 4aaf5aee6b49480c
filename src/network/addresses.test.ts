import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AddressPool, choosePool, defaultPools } from "./address-pool.ts";
import { parseRoutes } from "./host-routes.ts";
import { contains, formatAddress, formatSubnet, lastOf, overlap, parseAddress, parseCidr, prefixOf } from "./ipv4.ts";

const subnet = (text: string) => parseCidr(text) ?? expect.fail(text);
const address = (text: string) => parseAddress(text) ?? expect.fail(text);

describe("IPv4", () => {
  test("addresses and ranges", () => {
    expect(parseAddress("172.17.0.1")).toBe(0xac110001);
    expect(parseAddress("255.255.255.255")).toBe(0xffffffff);
    for (const bad of ["", "1.2.3", "1.2.3.256", "1.2.3.4.5", "::1", "1.2.3.4 ", "-1.2.3.4"]) expect(parseAddress(bad)).toBeUndefined();
    expect(subnet("10.1.2.3/16")).toEqual({ network: 0x0a010000, prefix: 16, address: 0x0a010203 });
    expect(subnet("0.0.0.0/0")).toEqual({ network: 0, prefix: 0, address: 0 });
    expect(subnet("255.255.255.255/32").network).toBe(0xffffffff);
    for (const bad of ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "x/8"]) expect(parseCidr(bad)).toBeUndefined();
    expect(formatAddress(lastOf(subnet("192.168.0.0/20")))).toBe("192.168.15.255");
    expect([0xffff0000, 0xffffffff, 0, 0xff00ff00].map(prefixOf)).toEqual([16, 32, 0, undefined]);
  });

  test("two ranges overlap exactly when one holds the other's first address", () => {
    const range = fc
      .record({ address: fc.nat({ max: 0xffffffff }), prefix: fc.integer({ min: 0, max: 32 }) })
      .map(({ address: a, prefix }) => subnet(`${formatAddress(a)}/${prefix}`));
    fc.assert(
      fc.property(range, range, (a, b) => {
        expect(overlap(a, b)).toBe(contains(a, b.network) || contains(b, a.network));
        expect(overlap(b, a)).toBe(overlap(a, b));
        expect(subnet(formatSubnet(a)).network).toBe(a.network);
      }),
    );
  });
});

describe("pools", () => {
  test("docker's, in its order, without those in use", () => {
    const all = [...defaultPools()].map(formatSubnet);
    expect([all.length, all[0], all[14], all[15], all.at(-1)]).toEqual([31, "172.17.0.0/16", "172.31.0.0/16", "192.168.0.0/20", "192.168.240.0/20"]);
    const chosen = (...used: string[]) => formatSubnet(choosePool(used.map(subnet)));
    expect(chosen()).toBe("172.17.0.0/16");
    expect(chosen("172.17.5.0/24")).toBe("172.18.0.0/16");
    expect(chosen("172.16.0.0/12", "192.168.7.0/24")).toBe("192.168.16.0/20");
    expect(() => chosen("172.16.0.0/12", "192.168.0.0/16")).toThrow("could not find an available, non-overlapping IPv4 address pool");
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
    expect(any.gateway).toBe(address("10.0.0.1"));
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
