/** `network connect` and `disconnect`, and several networks at once, on the real kernel. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { networkingConfig } from "#api/types/host-config.ts";
import type { EndpointConfig } from "#core/container-config.ts";
import { TestEngine, until } from "./engine-setup.ts";
import { inOwnHost, sh } from "./own-host.fixture.ts";

/** On one network. WHERRY_MANY=500 for the full number. */
const many = Number(process.env["WHERRY_MANY"] ?? 16);

inOwnHost(import.meta.filename, { title: "connect and disconnect", limitMs: many * 3_000 + 120_000 }, [], () => {
  let t: TestEngine;
  const asked = (fields: Partial<EndpointConfig>): EndpointConfig => ({ IPAMConfig: null, Links: null, Aliases: null, DriverOpts: null, ...fields });
  const network = async (name: string, options: object = {}) => (await t.engine.networks.create({ Name: name, ...options })).id;
  const connect = (name: string, id: string, endpoint?: EndpointConfig) => t.engine.networks.connect!(name, id, endpoint);
  const disconnect = (name: string, id: string, force = false) => t.engine.networks.disconnect!(name, id, force);
  const inside = async (id: string, command: string) => (await t.exec(id, ["sh", "-c", command])).out;
  const routes = (id: string) => inside(id, "ip route");
  const defaultOf = async (id: string) => /default via (\S+) dev (\S+)/.exec(await routes(id))?.slice(1);
  const endpointOf = (id: string, name: string) => t.engine.containers.get(id).endpoints[name]!;
  const page = "echo hi >/tmp/index.html; httpd -f -p 80 -h /tmp";
  /** The page, once the server is up. */
  const page80 = async (port: number): Promise<string> => {
    for (let attempt = 0; ; attempt++) {
      const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } }).then((reply) => reply.text(), String);
      if (answer === "hi\n" || attempt > 20) return answer;
      await sleep(50);
    }
  };
  const cables = () => sh("ip -o link").match(/ veth\w+/g) ?? [];

  beforeAll(async () => {
    t = await TestEngine.open();
  }, 60_000);
  afterEach(async () => {
    await t.removeAll();
    await t.removeNetworks();
  });
  afterAll(() => t[Symbol.asyncDispose]());

  test("a running container gets an interface, an address, a hosts line, and loses them again", async () => {
    await network("blue", { IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.99.1.0/24" }] } });
    const id = await t.start(["sleep", "100"], {}, { NetworkMode: "bridge" }, "one");
    await inside(id, "echo 10.1.1.1 mine >>/etc/hosts");
    await connect("blue", id, asked({ IPAMConfig: { IPv4Address: "10.99.1.77" }, MacAddress: "02:00:00:00:00:07", Aliases: ["uno"] }));
    expect(await inside(id, "ip addr show eth1")).toMatch(/02:00:00:00:00:07.*inet 10\.99\.1\.77\/24 brd 10\.99\.1\.255/s);
    expect(endpointOf(id, "blue")).toMatchObject({ IPAddress: "10.99.1.77", MacAddress: "02:00:00:00:00:07", Aliases: ["uno"], Gateway: "10.99.1.1" });
    expect(await inside(id, "cat /etc/hosts")).toMatch(/10\.1\.1\.1 mine\n10\.99\.1\.77\t/);
    expect(t.engine.networks.members(t.engine.networks.get("blue").Id).map(({ name }) => name)).toEqual(["one"]);
    await expect(connect("blue", id)).rejects.toThrow("endpoint with name one already exists in network blue");
    await expect(t.engine.networks.remove("blue")).rejects.toThrow(/network blue has active endpoints \(name:"one"/);
    await disconnect("blue", id);
    expect(await inside(id, "ip addr")).not.toContain("eth1");
    expect(await inside(id, "cat /etc/hosts")).toMatch(/mine\n$/);
    expect(t.engine.containers.get(id).endpoints.blue).toBeUndefined();
    await expect(disconnect("blue", id)).rejects.toThrow(`container ${id} is not connected to network blue`);
    await disconnect("blue", id, true);
  });

  test("the default route goes through the network of the highest priority, then by name, and published ports with it", async () => {
    for (const [name, third] of [
      ["zed", 1],
      ["mid", 2],
      ["abc", 3],
    ] as const)
      await network(name, { IPAM: { Driver: "default", Options: null, Config: [{ Subnet: `10.98.${third}.0/24` }] } });
    await network("dark", { Internal: true, IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.98.9.0/24" }] } });
    const id = await t.start(["sh", "-c", page], {}, { NetworkMode: "zed", PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "8099" }] } });
    expect(await defaultOf(id)).toEqual(["10.98.1.1", "eth0"]);
    expect(await page80(8099)).toBe("hi\n");
    await connect("mid", id);
    expect(await defaultOf(id)).toEqual(["10.98.2.1", "eth1"]);
    expect(await page80(8099)).toBe("hi\n");
    expect(t.engine.containers.get(id).ports["80/tcp"]).toEqual([{ HostIp: "127.0.0.1", HostPort: "8099" }]);
    await connect("dark", id, asked({ GwPriority: 9 }));
    await connect("abc", id, asked({ GwPriority: -1 }));
    expect(await defaultOf(id)).toEqual(["10.98.2.1", "eth1"]);
    await disconnect("mid", id);
    expect(await defaultOf(id)).toEqual(["10.98.1.1", "eth0"]);
    await disconnect("zed", id);
    expect(await defaultOf(id)).toEqual(["10.98.3.1", "eth3"]);
    expect(await page80(8099)).toBe("hi\n");
    await disconnect("abc", id);
    expect(await defaultOf(id)).toBeUndefined();
    expect(t.engine.containers.get(id).ports).toEqual({ "80/tcp": null });
    await connect("zed", id); // the lowest interface that is free
    expect(await defaultOf(id)).toEqual(["10.98.1.1", "eth0"]);
    expect(await page80(8099)).toBe("hi\n");
  });

  test("several networks at create; a new engine goes on where the old one stopped", async () => {
    for (const [name, third] of [
      ["one", 1],
      ["two", 2],
    ] as const)
      await network(name, { IPAM: { Driver: "default", Options: null, Config: [{ Subnet: `10.97.${third}.0/24` }] } });
    const request = t.request(
      "busybox",
      ["sh", "-c", page],
      {},
      { NetworkMode: "one", PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "8098" }] } },
    );
    const EndpointsConfig = {
      one: asked({ IPAMConfig: { IPv4Address: "10.97.1.9" } }),
      two: asked({ GwPriority: 1, IPAMConfig: { IPv4Address: "10.97.2.9" } }),
    };
    const { id } = await t.engine.containers.create({ ...request, networkingConfig: networkingConfig({ EndpointsConfig }, "") });
    await t.engine.containers.start(id);
    expect(await defaultOf(id)).toEqual(["10.97.2.1", "eth1"]);
    await t.reopen();
    expect(await page80(8098)).toBe("hi\n");
    await disconnect("two", id);
    expect(await defaultOf(id)).toEqual(["10.97.1.1", "eth0"]);
    expect(await page80(8098)).toBe("hi\n");
    await t.engine.containers.restart(id, { timeout: 0 });
    expect(await inside(id, "ip -4 -o addr")).not.toContain("10.97.2.9");
  });

  test("an engine that was killed before it stored a start: the next one knows the container's networks", async () => {
    await network("blue", { IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.94.1.0/24" }] } });
    const bindings = { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "8097" }] };
    const id = await t.create(["sh", "-c", page], {}, { NetworkMode: "blue", PortBindings: bindings });
    const path = join(t.root, "data/containers", id, "container.json");
    const before = await readFile(path);
    await t.engine.containers.start(id);
    const { blue } = t.engine.containers.get(id).endpoints;
    await t.engine.close();
    await writeFile(path, before);
    await t.reopen();
    expect(t.engine.containers.get(id)).toMatchObject({ state: { status: "running" }, endpoints: { blue }, ports: bindings });
    expect(await defaultOf(id)).toEqual(["10.94.1.1", "eth0"]);
    expect(await page80(8097)).toBe("hi\n");
    await t.engine.containers.remove(id, { force: true, volumes: true });
    expect(await t.leftovers("run/c")).toEqual([]);
  });

  test("what cannot be is refused in docker's words, and nothing stays behind", async () => {
    await network("blue", { IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.96.1.0/24" }] } });
    const id = await t.start(["sleep", "100"], {}, { NetworkMode: "bridge" });
    const alone = await t.start(["sleep", "100"], {}, { NetworkMode: "none" });
    const shared = await t.start(["sleep", "100"], {}, { NetworkMode: `container:${id}` });
    await expect(connect("blue", alone)).rejects.toThrow("one of the networks in private (none) mode");
    await expect(connect("blue", shared)).rejects.toThrow("container sharing network namespace with another container or host");
    await expect(connect("host", id)).rejects.toThrow("cannot connect container to host network");
    await expect(connect("nowhere", id)).rejects.toThrow("network nowhere not found");
    await expect(connect("blue", id, asked({ IPAMConfig: { IPv4Address: "10.1.1.1" } }))).rejects.toThrow(
      "invalid address 10.1.1.1: It does not belong to any of this network's subnets",
    );
    expect(cables()).toHaveLength(1);
    await expect(connect("blue", id, asked({ IPAMConfig: { IPv4Address: "10.96.1.1" } }))).rejects.toThrow("Address already in use");
    expect(t.engine.networks.members(t.engine.networks.get("blue").Id)).toEqual([]);
  });

  test(`${many} containers on one network: each has its own address and name, and nothing stays of them`, { timeout: many * 3_000 + 60_000 }, async () => {
    await network("crowd", { IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.93.0.0/20" }] } });
    const ids: string[] = [];
    for (let from = 0; from < many; from += 8)
      ids.push(
        ...(await Promise.all(
          Array.from({ length: Math.min(8, many - from) }, (_, i) => t.start(["sleep", "1000"], {}, { NetworkMode: "crowd" }, `crowd${from + i}`)),
        )),
      );
    const addresses = ids.map((id) => endpointOf(id, "crowd").IPAddress);
    expect(new Set(addresses).size).toBe(many);
    expect(cables()).toHaveLength(many);
    const [first = "", last = ""] = [ids[0], ids.at(-1)];
    expect(await inside(first, `ping -c 1 -W 2 crowd${many - 1}`)).toContain(`(${endpointOf(last, "crowd").IPAddress})`);
    await t.reopen();
    expect(t.engine.networks.members(t.engine.networks.get("crowd").Id)).toHaveLength(many);
    expect(await inside(last, "ping -c 1 -W 2 crowd0")).toContain(`(${addresses[0]})`);
    for (let from = 0; from < many; from += 8)
      await Promise.all(ids.slice(from, from + 8).map((id) => t.engine.containers.remove(id, { force: true, volumes: true })));
    await until(() => cables().length === 0); // a cable goes a moment after its container
    expect(sh("ip route; nft list ruleset 2>/dev/null || true")).not.toMatch(/10\.93\.0\.([2-9]|1\d)\b/);
  });

  test("two hundred times on and off leaves nothing", { timeout: 60_000 }, async () => {
    await network("blue", { IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.95.1.0/29" }] } });
    const id = await t.start(["sleep", "100"], {}, { NetworkMode: "bridge" });
    for (let i = 0; i < 200; i++) {
      await connect("blue", id);
      await disconnect("blue", id);
    }
    expect(cables()).toHaveLength(1);
    expect(await inside(id, "ls /sys/class/net")).toMatch(/^eth0\nlo\n$/);
  });
});
