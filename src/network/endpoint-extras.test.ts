import { expect, test } from "vitest";
import { plainEndpoint } from "#core/container-config.ts";
import { endpointExtras } from "./endpoint-extras.ts";
import { formatAddress } from "./ip-address.ts";

const options = (DriverOpts: Record<string, string>) => endpointExtras({ ...plainEndpoint, DriverOpts });

test("settings of the interface, whatever it is called", () => {
  const { sysctls, name, unknown } = options({
    "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=2",
    "com.docker.network.endpoint.ifname": "wan0",
    "com.example.other": "x",
  });
  expect(sysctls("wan0")).toEqual([
    { path: "/proc/sys/net/ipv4/conf/wan0/log_martians", value: "1" },
    { path: "/proc/sys/net/ipv6/conf/wan0/accept_ra", value: "2" },
  ]);
  expect([name, unknown]).toEqual(["wan0", ["com.example.other"]]);
  expect(endpointExtras(undefined)).toMatchObject({ linkLocal: [], name: undefined, unknown: [] });
});

test.each([
  "net.ipv4.ip_forward=1",
  "net.ipv4.conf.all.forwarding=1",
  "net.ipv4.conf.IFNAME.../../x=1",
  "kernel.IFNAME.a.b=1",
  "net.ipv4.conf.IFNAME.forwarding",
])("%s is no setting of an interface", (text) => {
  expect(() => options({ "com.docker.network.endpoint.sysctls": text })).toThrow(/^invalid sysctl/);
});

test.each(["", "a/b", "..", "lo", "all", "sixteen-letters-", "a b"])("an interface cannot be called %j", (name) => {
  expect(() => options({ "com.docker.network.endpoint.ifname": name })).toThrow(/^invalid interface name/);
});

test("link-local addresses", () => {
  const of = (...LinkLocalIPs: string[]) => endpointExtras({ ...plainEndpoint, IPAMConfig: { LinkLocalIPs } }).linkLocal.map(formatAddress);
  expect(of("169.254.7.7", "fe80::7")).toEqual(["169.254.7.7", "fe80::7"]);
  for (const text of ["10.0.0.1", "fd00::1", "x"]) expect(() => of(text)).toThrow(`invalid link-local IP address: ${text}`);
});
