/** Options of bridge networks and of endpoints, on the real kernel: gateway modes, with a machine outside that has routes to the containers; settings of interfaces. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { networkingConfig } from "#api/types/host-config.ts";
import type { EndpointConfig, HostConfig } from "#core/container-config.ts";
import { TestEngine } from "./engine-setup.ts";
import { inOwnHost, sh } from "./own-host.fixture.ts";

const GREETER = `for (const port of [80, 81, 7000]) require("net").createServer((s) => s.on("error", () => {}).end((s.remoteAddress ?? "").replace(/^::ffff:/, ""))).listen(port, "::"); console.log("up");`;
const CLIENT = `const [host, port, patience] = process.argv.slice(1); let t = ""; const done = (x) => { console.log(x); process.exit(); }; setTimeout(done, Number(patience), "nothing");
require("net").connect({ host, port: Number(port) }).on("data", (d) => (t += d)).on("error", (e) => done(e.code)).on("close", () => done(t));`;

inOwnHost(import.meta.filename, "options of networks and endpoints", ["nsenter"], () => {
  let t: TestEngine;
  const children: ChildProcess[] = [];
  const OPTION = "com.docker.network.bridge.";
  const network = (name: string, Options: Record<string, string>, subnets: string[], fields: object = {}) =>
    t.engine.networks.create({
      Name: name,
      Options,
      EnableIPv6: subnets.length > 1,
      IPAM: { Driver: "default", Options: null, Config: subnets.map((Subnet) => ({ Subnet })) },
      ...fields,
    });
  async function start(name: string, endpoint: Partial<EndpointConfig> = {}, host: Partial<HostConfig> = {}): Promise<string> {
    const request = t.request("busybox", ["sleep", "1000"], {}, { NetworkMode: name, ...host });
    const asked = { IPAMConfig: null, Links: null, Aliases: null, DriverOpts: null, ...endpoint };
    const { id } = await t.engine.containers.create({ ...request, networkingConfig: networkingConfig({ EndpointsConfig: { [name]: asked } }, "") });
    await t.engine.containers.start(id);
    return id;
  }
  const inside = async (id: string, command: string) => (await t.exec(id, ["sh", "-c", command])).out;
  const enter = (id: string) => ["nsenter", "-t", String(t.engine.containers.get(id).state.pid), "-n"];
  const OUT = ["ip", "netns", "exec", "out"];
  async function greeter(where: readonly string[]): Promise<void> {
    const child = spawn(where[0] ?? "", [...where.slice(1), process.execPath, "-e", GREETER], { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    await once(child.stdout!, "data");
  }
  /** Who has answered. Nobody does on port 81 where it is not open: there it is not worth waiting long. */
  const call = async (where: readonly string[], host: string, port: number) => {
    const patience = port === 81 ? 1500 : 10_000;
    return (await promisify(execFile)(where[0] ?? "", [...where.slice(1), process.execPath, "-e", CLIENT, host, String(port), String(patience)])).stdout.trim();
  };

  beforeAll(async () => {
    sh("ip netns add out; ip link add wire0 type veth peer name wire1 netns out; ip link set wire0 up; ip -n out link set lo up; ip -n out link set wire1 up");
    sh(
      "ip addr add 10.78.0.1/24 dev wire0; ip addr add fd78::1/64 dev wire0 nodad; ip -n out addr add fd78::2/64 dev wire1 nodad; ip -n out addr add 10.78.0.2/24 dev wire1",
    );
    sh("ip -n out route add 10.90.0.0/16 via 10.78.0.1; ip -n out -6 route add fd90::/16 via fd78::1");
    await greeter(OUT);
    t = await TestEngine.open();
  }, 60_000);
  afterEach(async () => {
    for (const child of children.splice(1)) child.kill("SIGKILL");
    await t.removeAll();
    await t.removeNetworks();
  });
  afterAll(async () => {
    for (const child of children) child.kill("SIGKILL");
    await t[Symbol.asyncDispose]();
  });

  test("routed: containers are called, and call, by their own addresses; only published ports of theirs are open", async () => {
    await network("routed", { [`${OPTION}gateway_mode_ipv4`]: "routed", [`${OPTION}gateway_mode_ipv6`]: "routed" }, ["10.90.1.0/24", "fd90::/64"]);
    const id = await start("routed", {}, { PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "8080" }] } });
    await greeter(enter(id));
    const { IPAddress: four, GlobalIPv6Address: six } = t.engine.containers.get(id).endpoints.routed!;
    const holds = async () => {
      expect([await call(OUT, four, 80), await call(OUT, four, 81), await call(OUT, six, 80), await call(OUT, six, 81)]).toEqual([
        "10.78.0.2",
        "nothing",
        "fd78::2",
        "nothing",
      ]);
      expect(await call(OUT, "10.78.0.1", 8080)).toBe("ECONNREFUSED");
    };
    await holds();
    expect(await call(enter(id), "10.78.0.2", 7000)).toBe(four);
    expect(await call(enter(id), "fd78::2", 7000)).toBe(six);
    sh(`ip netns exec out busybox ping -c 1 -W 2 ${four}`);
    expect(t.engine.containers.get(id).ports).toEqual({ "80/tcp": [] });
    await t.reopen();
    await holds();
  });

  test("one family routed, the other translated; all ports open; an internal network without the host", async () => {
    await network("half", { [`${OPTION}gateway_mode_ipv6`]: "routed" }, ["10.90.2.0/24", "fd92::/64"]);
    sh("ip -n out -6 route add fd92::/64 via fd78::1");
    const half = await start("half", {}, { PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "8082" }] } });
    await greeter(enter(half));
    expect(await call(OUT, "10.78.0.1", 8082)).toBe("10.78.0.2");
    expect(await call(OUT, t.engine.containers.get(half).endpoints.half!.GlobalIPv6Address, 80)).toBe("fd78::2");
    expect(t.engine.containers.get(half).ports).toEqual({ "80/tcp": [{ HostIp: "0.0.0.0", HostPort: "8082" }] });
    await network("open", { [`${OPTION}gateway_mode_ipv4`]: "nat-unprotected" }, ["10.90.3.0/24"]);
    const open = await start("open");
    await greeter(enter(open));
    expect(await call(OUT, t.engine.containers.get(open).endpoints.open!.IPAddress, 81)).toBe("10.78.0.2");
    await network("alone", { [`${OPTION}gateway_mode_ipv4`]: "isolated", [`${OPTION}name`]: "alone0" }, ["10.90.4.0/24"], { Internal: true });
    expect(sh("ip -4 -o addr show alone0")).toBe("");
    const [one, two] = [await start("alone"), await start("alone")];
    expect((await t.exec(one, ["ping", "-c", "1", "-W", "2", t.engine.containers.get(two).endpoints.alone!.IPAddress])).code).toBe(0);
  });

  test("who comes by a trusted interface may call published ports by the container's own address, and only those; what goes out has the source that was chosen", async () => {
    sh("ip addr add 10.78.0.9/24 dev wire0; ip addr add fd78::9/64 dev wire0 nodad");
    const subnets = ["10.90.7.0/24", "fd90:7::/64"];
    const own = { "com.docker.network.host_ipv4": "10.78.0.9", "com.docker.network.host_ipv6": "fd78::9" };
    const publish = { PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "8087" }] } };
    await network("trusted", { ...own, [`${OPTION}trusted_host_interfaces`]: "wg7:wire0" }, subnets);
    await network("others", { [`${OPTION}trusted_host_interfaces`]: "wg7" }, ["10.90.8.0/24"]);
    const id = await start("trusted", {}, publish);
    const other = await start("others", {}, { PortBindings: { "81/tcp": [{ HostIp: "127.0.0.1", HostPort: "8088" }] } });
    await greeter(enter(id));
    await greeter(enter(other));
    const { IPAddress: four, GlobalIPv6Address: six } = t.engine.containers.get(id).endpoints.trusted!;
    const holds = async () => {
      expect([await call(OUT, four, 80), await call(OUT, four, 81), await call(OUT, six, 80)]).toEqual(["10.78.0.2", "nothing", "fd78::2"]);
      expect([await call(enter(id), "10.78.0.2", 80), await call(enter(id), "fd78::2", 80)]).toEqual(["10.78.0.9", "fd78::9"]);
      expect(await call(["env"], "127.0.0.1", 8087)).toBe("10.90.7.1");
    };
    await holds();
    expect(await call(OUT, t.engine.containers.get(other).endpoints.others!.IPAddress, 81)).toBe("nothing");
    await t.reopen();
    await holds();
    await expect(network("bad", { [`${OPTION}trusted_host_interfaces`]: "eth0::eth1" }, ["10.90.9.0/24"])).rejects.toThrow('invalid interface name ""');
    await expect(network("bad", { "com.docker.network.host_ipv6": "10.0.0.1" }, ["10.90.9.0/24"])).rejects.toThrow("want an IPv6 address");
  });

  test("an endpoint's name, settings and link-local addresses, at start and while it runs; a network's prefix of names", async () => {
    const DriverOpts = {
      "com.docker.network.endpoint.ifname": "wan0",
      "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.ifname.forwarding=0",
    };
    await network("plain", {}, ["10.90.5.0/24"]);
    await network("named", { "com.docker.network.container_iface_prefix": "lan" }, ["10.90.6.0/24"]);
    const id = await start("plain", { DriverOpts, IPAMConfig: { LinkLocalIPs: ["169.254.7.7", "fe80::7"] } });
    const settings = "cat /proc/sys/net/ipv4/conf/wan0/log_martians /proc/sys/net/ipv4/conf/wan0/forwarding";
    expect(await inside(id, settings)).toBe("1\n0\n");
    expect(await inside(id, "ip -o addr show wan0")).toMatch(/169\.254\.7\.7\/16.*fe80::7\/64/s);
    await t.engine.networks.connect!("named", id, undefined);
    expect(await inside(id, "ls /sys/class/net")).toBe("lan1\nlo\nwan0\n");
    await t.engine.networks.disconnect!("plain", id, false);
    expect(await inside(id, "ip route")).toContain("default via 10.90.6.1 dev lan1");
    await t.engine.networks.connect!("plain", id, { IPAMConfig: null, Links: null, Aliases: null, DriverOpts });
    expect(await inside(id, settings)).toBe("1\n0\n");
    await t.reopen();
    await t.engine.networks.disconnect!("named", id, false);
    expect(await inside(id, "ip route")).toContain("default via 10.90.5.1 dev wan0");
  });

  test("SCTP is published where the kernel has it, else refused with the reason", async () => {
    const publish = t.start(["sleep", "10"], {}, { NetworkMode: "bridge", PortBindings: { "7/sctp": [{ HostIp: "", HostPort: "7007" }] } });
    const has = sh("grep -c ^SCTP /proc/net/protocols || true").trim() !== "0";
    if (has) expect(t.engine.containers.get(await publish).ports["7/sctp"]?.[0]).toEqual({ HostIp: "0.0.0.0", HostPort: "7007" });
    else await expect(publish).rejects.toThrow("SCTP ports cannot be published: this kernel has no SCTP");
  });
});
