import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Helper } from "#linux/helper.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { Plan } from "#linux/plan.ts";
import { parseAddress } from "./ip-address.ts";
import { type JoinRequest, type NetworkManager, openNetworks } from "./mod.ts";
import { parseContainerPort, parseHostPort, releaseAll, takePort } from "./ports/host-ports.ts";
import { publishPorts } from "./published-ports.ts";

let dataRoot: string;
let plans: Plan[];

/** Writes down what it is asked. */
const recorder = (): Helper =>
  ({
    call: async (plan: Plan) => {
      plans.push(plan);
      return new Map();
    },
  }) as unknown as Helper; // networks only call plans

beforeEach(async () => {
  dataRoot = await mkdtemp(join(tmpdir(), "wherry-networks-"));
  plans = [];
});
afterEach(async () => {
  await rm(dataRoot, { recursive: true, force: true });
});

async function open(bridge = { name: "wtest-absent", subnet: "10.200.0.1/24" }): Promise<NetworkManager> {
  return await openNetworks({ dataRoot, helper: recorder(), facts: {} as HostFacts, bridge, log: () => undefined });
}

const request = (options: Partial<JoinRequest>): JoinRequest => ({
  containerId: "1".repeat(64),
  containerName: "web",
  hostname: "web",
  networkName: "bridge",
  endpoint: undefined,
  programSocket: "/nonexistent",
  ports: {},
  ...options,
});

describe("records", () => {
  test("the predefined networks, with docker's options", async () => {
    const networks = await open();
    expect(networks.list().map(({ Name, Driver, Scope }) => [Name, Driver, Scope])).toEqual([
      ["bridge", "bridge", "local"],
      ["host", "host", "local"],
      ["none", "null", "local"],
    ]);
    const bridge = networks.get("bridge");
    expect(bridge.IPAM).toEqual({ Driver: "default", Options: null, Config: [{ Subnet: "10.200.0.0/24", Gateway: "10.200.0.1" }] });
    expect(bridge.Options).toMatchObject({
      "com.docker.network.bridge.default_bridge": "true",
      "com.docker.network.bridge.name": "wtest-absent",
      "com.docker.network.driver.mtu": "1500",
    });
    expect(networks.get("default")).toBe(bridge);
    expect(networks.get(bridge.Id.slice(0, 12))).toBe(bridge);
    expect(() => networks.get("absent")).toThrow("network absent not found");
    expect(() => networks.get("")).toThrow("not found");
    expect(plans).toEqual([]);
  });

  test("they are the same after a restart; another range makes another bridge network", async () => {
    const ids = (await open()).list().map(({ Id }) => Id);
    expect((await open()).list().map(({ Id }) => Id)).toEqual(ids);
    const moved = await open({ name: "wtest-absent", subnet: "10.201.0.0/24" });
    expect(moved.get("bridge").IPAM.Config[0]).toEqual({ Subnet: "10.201.0.0/24", Gateway: "10.201.0.1" });
    expect(moved.get("host").Id).toBe(ids[1]);
  });

  test("a file that is not ours to understand is not overwritten", async () => {
    await open();
    const path = join(dataRoot, "network", "networks.json");
    for (const text of ["{", '{"version":2,"networks":[]}']) {
      await writeFile(path, text);
      await expect(open()).rejects.toMatchObject({ code: "corrupt" });
      expect(await readFile(path, "utf8")).toBe(text);
    }
  });

  test("what a new network may not be", async () => {
    const networks = await open();
    const code = async (options: Parameters<NetworkManager["create"]>[0]) =>
      await networks.create(options).then(
        () => "made",
        (error: { code: string; message: string }) => `${error.code}: ${error.message}`,
      );
    const config = (Subnet: string, more = {}) => ({ Driver: "default", Options: null, Config: [{ Subnet, ...more }] });
    expect(await code({ Name: "bridge" })).toBe("denied: operation is not permitted on predefined bridge network");
    expect(await code({ Name: "a b" })).toMatch(/^invalid: invalid network name "a b"/);
    expect(await code({ Name: "x", Driver: "overlay" })).toBe("not-found: could not find plugin overlay in v1 plugin registry: plugin not found");
    expect(await code({ Name: "x", Driver: "host" })).toBe('denied: only one instance of "host" network is allowed');
    const mode = (value: string) => code({ Name: "x", Options: { "com.docker.network.bridge.gateway_mode_ipv6": value } });
    expect(await mode("isolated")).toBe("invalid: the gateway mode isolated is for internal networks only");
    expect(await mode("odd")).toBe("invalid: unknown gateway mode odd");
    expect(await code({ Name: "x", Options: { "com.docker.network.container_iface_prefix": "a/b" } })).toMatch(/^invalid: invalid interface prefix/);
    expect(await code({ Name: "x", Options: { "com.docker.network.bridge.host_binding_ipv4": "::1" } })).toMatch(/^invalid: invalid value "::1"/);
    expect(await code({ Name: "x", EnableIPv4: false })).toBe("unsupported: network x without IPv4 is not supported");
    expect(await code({ Name: "x", Options: { "com.docker.network.enable_ipv4": "false" } })).toMatch(/^unsupported: network x without IPv4/);
    const two = { Driver: "default", Options: null, Config: [{ Subnet: "10.5.0.0/24" }, { Subnet: "10.6.0.0/24" }] };
    expect(await code({ Name: "x", IPAM: two })).toBe("invalid: bridge driver doesn't support multiple subnets");
    expect(await code({ Name: "x", IPAM: config("10.200.0.128/25") })).toBe("denied: invalid pool request: Pool overlaps with other one on this address space");
    expect(await code({ Name: "x", IPAM: config("10.9.0.0/24", { Gateway: "10.8.0.1" }) })).toBe("invalid: no matching subnet for gateway 10.8.0.1");
    expect(await code({ Name: "x", Options: { "com.docker.network.bridge.name": "much-too-long-a-name" } })).toMatch(/^invalid: invalid interface name/);
    expect(await code({ Name: "x", Options: { "com.docker.network.bridge.name": "wtest-absent" } })).toMatch(/^denied: .*networks have same bridge name$/);
    expect(await code({ Name: "x", Options: { "com.docker.network.driver.mtu": "big" } })).toBe('invalid: invalid MTU "big"');
    expect(networks.list()).toHaveLength(3);
  });

  test("the predefined ones stay", async () => {
    await expect((await open()).remove("host")).rejects.toThrow("host is a pre-defined network and cannot be removed");
  });
});

describe("joining", () => {
  test("host and none give nothing, but are joined", async () => {
    const networks = await open();
    const joined = await networks.join(request({ networkName: "none" }), 4);
    expect(joined).toMatchObject({ ports: {}, steps: [], endpoint: { NetworkName: "none", IPAddress: "", MacAddress: "" } });
    expect(networks.members(networks.get("none").Id).map(({ name }) => name)).toEqual(["web"]);
    await networks.leave("1".repeat(64));
    await networks.leave("1".repeat(64));
    expect(networks.members(networks.get("none").Id)).toEqual([]);
    await expect(networks.join(request({ networkName: "nowhere" }), 4)).rejects.toMatchObject({ code: "not-found" });
    expect(plans).toEqual([]);
  });

  test("an address of one's own choice is not for the default bridge", async () => {
    const networks = await open();
    const endpoint = { IPAMConfig: { IPv4Address: "10.200.0.9" }, Links: null, Aliases: null, DriverOpts: null };
    await expect(networks.join(request({ endpoint }), 4)).rejects.toThrow("user specified IP address is supported on user defined networks only");
  });
});

describe("ports", () => {
  const target = { host: "127.0.0.1", port: 9 };

  test("texts of ports", () => {
    expect(parseContainerPort("80/tcp")).toEqual({ port: 80, protocol: "tcp" });
    expect(parseContainerPort("53/udp").protocol).toBe("udp");
    for (const bad of ["0/tcp", "65536/tcp", "80/icmp", "http", ""]) expect(() => parseContainerPort(bad)).toThrow("invalid container port");
    const host = (HostPort: string) => parseHostPort({ HostIp: "", HostPort });
    expect([host(""), host("0"), host("80"), host("80-82")]).toEqual([
      { first: 0, last: 0 },
      { first: 0, last: 0 },
      { first: 80, last: 80 },
      { first: 80, last: 82 },
    ]);
    for (const bad of ["x", "82-80", "70000", "-1"]) expect(() => host(bad)).toThrow("invalid host port");
  });

  test("holding is exclusive until it is released; a range gives the next", async () => {
    const base = { protocol: "tcp" as const, hostIps: ["127.0.0.1"], optionalIps: new Set<string>(), target };
    const [first] = await takePort({ ...base, first: 0, last: 0 });
    const port = first!.port;
    expect(port).toBeGreaterThan(1023);
    await expect(takePort({ ...base, first: port, last: port })).rejects.toThrow(`Bind for 127.0.0.1:${port} failed: port is already allocated`);
    const next = await takePort({ ...base, first: port, last: Math.min(65_535, port + 20) });
    expect(next[0]?.port).not.toBe(port);
    await releaseAll([first!, ...next]);
    await releaseAll(await takePort({ ...base, first: port, last: port }));
  });

  test("all or nothing: the second address is taken, the first is given back", async () => {
    const other = createServer();
    await new Promise<void>((done) => other.listen(0, "127.0.0.2", done));
    const { port } = other.address() as { port: number };
    const base = { protocol: "tcp" as const, optionalIps: new Set<string>(), target, first: port, last: port };
    await expect(takePort({ ...base, hostIps: ["127.0.0.1", "127.0.0.2"] })).rejects.toThrow(`Bind for 127.0.0.2:${port} failed`);
    await releaseAll(await takePort({ ...base, hostIps: ["127.0.0.1"] }));
    await new Promise((done) => other.close(done));
  });

  const at = (text: string) => ({ ipv4: parseAddress(text)!, ipv6: parseAddress("fd00::2") });

  test("IPv6 addresses of the host lead to the container's, where it has one", async () => {
    const ports = { "80/tcp": [{ HostIp: "::1", HostPort: "" }] };
    const bare = { ipv4: parseAddress("10.0.0.2")!, ipv6: undefined };
    const [six, none] = [await publishPorts(ports, at("10.0.0.2"), undefined), await publishPorts(ports, bare, undefined)];
    expect(six.published).toMatchObject([{ hostAddress: parseAddress("::1"), address: parseAddress("fd00::2"), port: 80 }]);
    expect(none.published).toEqual([]);
    await releaseAll([...six.held, ...none.held]);
  });

  test("bindings become real ports; what cannot be had gives everything back", async () => {
    const { bindings, held, published } = await publishPorts({ "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "" }], "81/tcp": null }, at("10.0.0.2"), undefined);
    const port = Number(bindings["80/tcp"]?.[0]?.HostPort);
    expect(bindings).toEqual({ "80/tcp": [{ HostIp: "127.0.0.1", HostPort: String(port) }], "81/tcp": null });
    expect(published).toEqual([{ protocol: "tcp", hostAddress: parseAddress("127.0.0.1"), hostPort: port, address: parseAddress("10.0.0.2"), port: 80 }]);
    const clash = publishPorts(
      { "82/udp": [{ HostIp: "127.0.0.1", HostPort: String(port) }], "80/tcp": [{ HostIp: "127.0.0.1", HostPort: String(port) }] },
      at("10.0.0.3"),
      undefined,
    );
    await expect(clash).rejects.toThrow("port is already allocated");
    await releaseAll(held);
    await releaseAll((await publishPorts({ "82/udp": [{ HostIp: "127.0.0.1", HostPort: String(port) }] }, at("10.0.0.3"), undefined)).held);
    await expect(publishPorts({ "80/tcp": [{ HostIp: "localhost", HostPort: "1" }] }, at("10.0.0.3"), undefined)).rejects.toThrow(
      'invalid host address "localhost"',
    );
  });

  test("sctp, which has no sockets here, is held by number", async () => {
    const base = { protocol: "sctp" as const, hostIps: ["0.0.0.0"], optionalIps: new Set<string>(), target };
    const held = await takePort({ ...base, first: 7, last: 7 });
    await expect(takePort({ ...base, first: 7, last: 7 })).rejects.toThrow("port is already allocated");
    const any = await takePort({ ...base, first: 0, last: 0 });
    expect(any[0]?.port).toBeGreaterThan(1023);
    await releaseAll([...held, ...any]);
  });
});
