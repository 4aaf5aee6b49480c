import { expect, test } from "vitest";
import { containerConfig } from "#api/types/container-config.ts";
import { hostConfig, networkingConfig } from "#api/types/host-config.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { checkSupported } from "./unsupported-options.ts";

// Only these facts are asked for.
const facts = (mountSetattr: boolean) => ({ mountSetattr, lsm: [] as readonly string[] }) as HostFacts;

function check(host: object, endpoint: object = {}, config: object = {}, mountSetattr = true): string[] {
  const options = {
    config: containerConfig({ Image: "x", ...config }, ""),
    hostConfig: hostConfig({ LogConfig: { Type: "json-file", Config: {} }, ...host }, ""),
    networkingConfig: networkingConfig({ EndpointsConfig: { [(host as { NetworkMode?: string }).NetworkMode ?? "bridge"]: endpoint } }, ""),
  };
  return checkSupported(options, facts(mountSetattr), false);
}

test("what is asked for every day gives no warning", () => {
  expect(check({})).toEqual([]);
  const host = {
    Isolation: "default",
    LogConfig: { Type: "json-file", Config: { "max-size": "1m", "max-file": "3", mode: "blocking", compress: "false" } },
    SecurityOpt: ["apparmor=unconfined", "label=disable", "no-new-privileges"],
    PortBindings: { "80/tcp": [{ HostPort: "80" }] },
    StorageOpt: { size: "1g" },
    Mounts: [{ Type: "bind", Source: "/a", Target: "/a", ReadOnly: true, BindOptions: { ReadOnlyForceRecursive: true } }],
  };
  expect(check(host, { IPAMConfig: { IPv4Address: "10.0.0.2" }, Aliases: ["a"] }, { Healthcheck: { Test: ["NONE"] } })).toEqual([]);
});

test.each<[string, object, object, string]>([
  ["isolation", { Isolation: "hyperv" }, {}, "Invalid isolation: \"hyperv\" - linux only supports 'default'"],
  ["another's cgroup", { Cgroup: "container:x" }, {}, 'the cgroup of another container cannot be joined (Cgroup "container:x")'],
  ["a storage option", { StorageOpt: { foo: "1" } }, {}, "Unknown option foo"],
  ["a size of what is not ours", { StorageOpt: { size: "1g" }, WherryRootfs: "/x" }, {}, "conflicting options: --storage-opt and --rootfs"],
  ["link-local", {}, { IPAMConfig: { LinkLocalIPs: ["10.1.1.1"] } }, "invalid link-local IP address: 10.1.1.1"],
  [
    "endpoint sysctls",
    {},
    { DriverOpts: { "com.docker.network.endpoint.sysctls": "net.ipv4.ip_forward=1" } },
    'invalid sysctl "net.ipv4.ip_forward=1" of an endpoint',
  ],
  [
    "an address without a network",
    { NetworkMode: "none" },
    { IPAMConfig: { IPv4Address: "10.0.0.2" } },
    "user specified IP address is supported on user defined networks only",
  ],
  [
    "recursively read-only, and writable",
    { Mounts: [{ Type: "bind", Source: "/a", Target: "/a", BindOptions: { ReadOnlyForceRecursive: true } }] },
    {},
    'invalid mount config for type "bind": mount is not read-only, and ReadOnlyForceRecursive is set',
  ],
])("refused: %s", (_what, host, endpoint, message) => {
  expect(() => check(host, endpoint)).toThrow(message);
});

test("refused: recursively read-only on a kernel that cannot", () => {
  const host = { Mounts: [{ Type: "bind", Source: "/a", Target: "/a", ReadOnly: true, BindOptions: { ReadOnlyForceRecursive: true } }] };
  expect(() => check(host, {}, {}, false)).toThrow("this kernel cannot make a mount recursively read-only");
});

test.each<[string, object, object, object, string]>([
  ["windows", { CpuCount: 2 }, {}, {}, "linux does not support CPU count. Count discarded."],
  ["options of no log", { LogConfig: { Type: "none", Config: { "max-size": "1m" } } }, {}, {}, "The log option max-size has no effect: nothing is logged."],
  ["AppArmor", { SecurityOpt: ["apparmor=mine"] }, {}, {}, 'This kernel runs without AppArmor: the container runs without the profile "mine".'],
  ["SELinux", { SecurityOpt: ["label=type:x"] }, {}, {}, 'The SELinux option "label=type:x" has no effect: this kernel runs without SELinux.'],
  ["ports without a network", { NetworkMode: "none", PublishAllPorts: true }, {}, {}, "Published ports are discarded when using none network mode"],
  [
    "driver options",
    {},
    { DriverOpts: { a: "b" } },
    {},
    "The driver option a of the endpoint on network bridge is not supported by this engine. It is discarded.",
  ],
  [
    "an unknown health check",
    {},
    {},
    { Healthcheck: { Test: ["FOO", "x"] } },
    "Unknown healthcheck type 'FOO' (expected 'CMD'): the container's health is not checked",
  ],
])("warned about: %s", (_what, host, endpoint, config, message) => {
  expect(check(host, endpoint, config)).toEqual([message]);
});
