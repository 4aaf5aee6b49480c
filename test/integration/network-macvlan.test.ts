/** Containers with MAC addresses of their own on the wire: a cable of the test's host leads to another machine. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { networkingConfig } from "#api/types/host-config.ts";
import { TestEngine } from "./engine-setup.ts";
import { inOwnHost, sh } from "./own-host.fixture.ts";

inOwnHost(import.meta.filename, "macvlan", [], () => {
  let t: TestEngine;
  const ipam = { IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.66.0.0/24", Gateway: "10.66.0.254", IPRange: "10.66.0.64/26" }] } };
  const macvlan = (fields: object = {}) => t.engine.networks.create({ Name: "lan", Driver: "macvlan", Options: { parent: "wire0" }, ...ipam, ...fields });
  const ping = async (id: string, to: string) => (await t.exec(id, ["ping", "-c", "1", "-W", "2", to])).code;

  beforeAll(async () => {
    sh("ip netns add far; ip link add wire0 type veth peer name wire1 netns far; ip link set wire0 up; ip -n far link set wire1 up");
    sh("ip -n far addr add 10.66.0.254/24 dev wire1; ip addr add 10.66.0.1/24 dev wire0");
    t = await TestEngine.open();
  }, 60_000);
  afterEach(async () => {
    await t.removeAll();
    await t.removeNetworks();
  });
  afterAll(() => t[Symbol.asyncDispose]());

  test("containers are machines of the wire: they reach it and each other, by name too", async () => {
    await macvlan();
    const asked = { IPAMConfig: { IPv4Address: "10.66.0.70" }, MacAddress: "02:66:00:00:00:70", Links: null, Aliases: null, DriverOpts: null };
    const request = t.request("busybox", ["sleep", "100"], {}, { NetworkMode: "lan" }, "one");
    const { id } = await t.engine.containers.create({ ...request, networkingConfig: networkingConfig({ EndpointsConfig: { lan: asked } }, "") });
    await t.engine.containers.start(id);
    const two = await t.start(["sleep", "100"], {}, { NetworkMode: "lan" }, "two");
    expect(t.engine.containers.get(two).endpoints.lan).toMatchObject({ IPAddress: "10.66.0.64", Gateway: "10.66.0.254", MacAddress: "02:42:0a:42:00:40" });
    expect([await ping(id, "10.66.0.254"), await ping(two, "one")]).toEqual([0, 0]);
    expect((await t.exec(two, ["ip", "route"])).out).toMatch(/default via 10\.66\.0\.254 dev eth0/);
    expect(sh("ip netns exec far ip neigh show 10.66.0.70")).toContain("02:66:00:00:00:70");
    expect(await ping(id, "10.66.0.1")).not.toBe(0); // the host itself: the kernel keeps parts and whole apart
  });

  test("connected and disconnected while it runs; beside a bridge", async () => {
    await macvlan();
    const id = await t.start(["sleep", "100"], {}, { NetworkMode: "bridge" });
    await t.engine.networks.connect!("lan", id, undefined);
    expect(await ping(id, "10.66.0.254")).toBe(0);
    await t.reopen();
    await t.engine.networks.disconnect!("lan", id, false);
    expect((await t.exec(id, ["ls", "/sys/class/net"])).out).toMatch(/^eth0\nlo\n$/);
    await t.engine.networks.connect!("lan", id, undefined);
    expect(t.engine.containers.get(id).endpoints.lan?.IPAddress).toBe("10.66.0.64");
  });

  test("what it takes, and what there is not", async () => {
    await expect(macvlan({ Options: {} })).rejects.toThrow("a macvlan network needs an interface of the host");
    await expect(macvlan({ Options: { parent: "nowhere0" } })).rejects.toThrow("the host has no interface nowhere0");
    await expect(macvlan({ Options: { parent: "wire0", macvlan_mode: "odd" } })).rejects.toThrow("unknown macvlan mode: odd");
    await expect(macvlan({ Driver: "ipvlan" })).rejects.toThrow("ipvlan networks are not supported by this engine");
    await macvlan();
    await expect(macvlan({ Name: "second", IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.67.0.0/24" }] } })).rejects.toThrow(
      "is already using parent interface wire0",
    );
    const rate = t.start(["true"], {}, { NetworkMode: "lan", WherryNetworkRate: { rate: "1mbit" } });
    await expect(rate).rejects.toThrow("a network rate cannot be set on network lan");
  });
});
