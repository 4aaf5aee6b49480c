/**
 * Who reaches whom: the host, containers on three networks, a router and a machine behind it, each a network namespace of this test's own. Every row holds for TCP
 * and UDP. docs/networks.md has the table.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server } from "node:net";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestEngine } from "./engine-setup.ts";
import { inOwnHost, sh } from "./own-host.fixture.ts";

/** A program in a namespace: a server that says whom it sees, and a client that does as it is told, line by line. */
const AGENT = `
const net = require("net"), dgram = require("dgram"), { Resolver } = require("dns").promises;
const plain = (a) => a.replace(/^::ffff:/, "");
net.createServer((s) => { s.on("error", () => {}); s.end(plain(s.remoteAddress ?? "?")); }).listen(7000, "::");
const echo = dgram.createSocket("udp6"); echo.on("message", (m, r) => echo.send(plain(r.address), r.port, r.address)); echo.bind(7000);
const tcp = (host, port, ms) => new Promise((done) => { const s = net.connect({ host, port }); let t = ""; const timer = setTimeout(() => { s.destroy(); done("nothing"); }, ms);
  s.on("data", (d) => (t += d)); s.on("error", (e) => { t = e.code; }); s.on("close", () => { clearTimeout(timer); done(t); }); });
const udp = (host, port, ms) => new Promise((done) => { const s = dgram.createSocket(host.includes(":") ? "udp6" : "udp4"); const end = (t) => { clearTimeout(timer); s.close(); done(t); }; const timer = setTimeout(() => end("nothing"), ms);
  s.on("error", (e) => end(e.code)); s.on("message", (d) => end(String(d))); s.connect(port, host, (e) => e ? end(e.code) : s.send("x")); });
const resolver = new Resolver(); resolver.setServers(["127.0.0.11"]);
require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, protocol, name, host = name, port, ms } = JSON.parse(line);
  let answer;
  try { const to = name === undefined ? host : (await resolver.resolve4(name))[0]; answer = await (protocol === "tcp" ? tcp : udp)(to, port, ms); } catch (e) { answer = e.code; }
  console.log(JSON.stringify({ id, answer }));
});
console.log("up");`;

class Agent {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: string) => void>();
  #next = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(enter: readonly string[]): Promise<Agent> {
    const [program = "", ...args] = [...enter, process.execPath, "-e", AGENT];
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
    const agent = new Agent(child);
    await new Promise<void>((up) => {
      createInterface({ input: child.stdout! }).on("line", (line) => {
        if (line === "up") return up();
        const { id, answer } = JSON.parse(line) as { id: number; answer: string };
        agent.#waiting.get(id)?.(answer);
      });
    });
    return agent;
  }

  ask(what: { readonly protocol: string; readonly host?: string; readonly name?: string; readonly port: number; readonly ms: number }): Promise<string> {
    const id = this.#next++;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.stdin!.write(`${JSON.stringify({ id, ...what })}\n`);
    });
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}

/** From, to (`name:` is looked up), port, and whom the other sees, or why there is no answer. */
type Row = readonly [what: string, from: string, to: string, port: number, answer: RegExp];

const A = "10\\.90\\.1\\.10";
const rows: readonly Row[] = [
  ["a container to another, by name", "aa", "name:bb", 7000, new RegExp(`^${A}$`)],
  ["by alias", "aa", "name:bee", 7000, new RegExp(`^${A}$`)],
  ["by address", "aa", "10.90.1.11", 7000, new RegExp(`^${A}$`)],
  ["by IPv6 address", "aa", "fd90::11", 7000, /^fd90::10$/],
  ["a container to the host, by its gateway", "aa", "10.90.1.1", 7001, new RegExp(`^${A}$`)],
  ["by IPv6", "aa", "fd90::1", 7001, /^fd90::10$/],
  ["a container to outside, as the host", "aa", "10.78.0.2", 7000, /^10\.77\.0\.1$/],
  ["by IPv6, as the host", "aa", "fd78::2", 7000, /^fd77::1$/],
  ["outside to a published port: the caller's address is kept", "out", "10.77.0.1", 8080, /^10\.78\.0\.2$/],
  ["by IPv6", "out", "fd77::1", 8080, /^fd78::2$/],
  ["outside to one published on 127.0.0.1 only", "out", "10.77.0.1", 8081, /^(ECONNREFUSED|nothing)$/],
  ["outside to a container's address", "out", "10.90.1.10", 7000, /^nothing$/],
  ["to its IPv6 address", "out", "fd90::10", 7000, /^nothing$/],
  ["the host to a published port, by 127.0.0.1", "host", "127.0.0.1", 8080, /^10\.90\.1\.1$/],
  ["by its own address", "host", "10.77.0.1", 8080, /^10\.(77\.0|90\.1)\.1$/],
  ["by ::1", "host", "::1", 8080, /^10\.90\.1\.1$/],
  ["by its own IPv6 address", "host", "fd77::1", 8080, /^fd/],
  ["to one published on 127.0.0.1 only", "host", "127.0.0.1", 8081, /^10\.90\.1\.1$/],
  ["a container to its own published port", "aa", "10.77.0.1", 8080, /^10\.90\.1\.1$/],
  ["by the gateway's address", "aa", "10.90.1.1", 8080, /^10\.90\.1\.1$/],
  ["by IPv6", "aa", "fd77::1", 8080, /^fd90::1$/],
  ["its neighbour to it", "bb", "10.77.0.1", 8080, /^10\.90\.1\.1$/],
  ["a container of another network to a published port", "cc", "10.77.0.1", 8080, /^10\.(90\.2\.10|77\.0\.1|90\.1\.1)$/],
  ["between networks, by address", "aa", "10.90.2.10", 7000, /^nothing$/],
  ["the other way round", "cc", "10.90.1.10", 7000, /^nothing$/],
  ["between networks, by name", "aa", "name:cc", 7000, /^(ESERVFAIL|ENOTFOUND)$/],
  ["an internal network to outside", "dd", "10.78.0.2", 7000, /^(ENETUNREACH|nothing)$/],
  ["to the host's other address", "dd", "10.77.0.1", 7001, /^(ENETUNREACH|nothing)$/],
  ["to its neighbour", "dd", "name:ee", 7000, /^10\.90\.3\.10$/],
  ["to another network", "dd", "10.90.1.10", 7000, /^(ENETUNREACH|nothing)$/],
  ["outside to an internal network", "out", "10.90.3.10", 7000, /^nothing$/],
];

inOwnHost(import.meta.filename, "who reaches whom", ["nsenter"], () => {
  let t: TestEngine;
  const agents = new Map<string, Agent>();
  let tcp: Server | undefined;
  let udp: UdpSocket | undefined;

  async function container(
    name: string,
    network: string,
    fields: { ip: string; ip6?: string; alias?: string; ports?: Record<string, { HostIp: string; HostPort: string }[]> },
  ): Promise<void> {
    const request = t.request("busybox", ["sleep", "1000"], {}, { NetworkMode: network, PortBindings: fields.ports ?? {} }, name);
    const IPAMConfig = { IPv4Address: fields.ip, ...(fields.ip6 === undefined ? {} : { IPv6Address: fields.ip6 }) };
    const EndpointsConfig = { [network]: { IPAMConfig, Links: null, Aliases: fields.alias === undefined ? null : [fields.alias], DriverOpts: null } };
    const { id } = await t.engine.containers.create({ ...request, networkingConfig: { EndpointsConfig } });
    await t.engine.containers.start(id);
    agents.set(name, await Agent.start(["nsenter", "-t", String(t.engine.containers.get(id).state.pid), "-n"]));
  }

  beforeAll(async () => {
    sh("mount --bind /dev/null /etc/resolv.conf"); // this namespace's own: nobody is asked
    for (const name of ["router", "out"])
      sh(`ip netns add ${name}; ip -n ${name} link set lo up; ip netns exec ${name} sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1`);
    sh("ip link add wire0 type veth peer name wire1 netns router; ip link set wire0 up; ip -n router link set wire1 up");
    sh("ip -n router link add far0 type veth peer name far1 netns out; ip -n router link set far0 up; ip -n out link set far1 up");
    sh(
      "ip addr add 10.77.0.1/24 dev wire0; ip addr add fd77::1/64 dev wire0 nodad; ip route add default via 10.77.0.254; ip -6 route add default via fd77::254",
    );
    sh("ip -n router addr add 10.77.0.254/24 dev wire1; ip -n router addr add fd77::254/64 dev wire1 nodad");
    sh("ip -n router addr add 10.78.0.254/24 dev far0; ip -n router addr add fd78::254/64 dev far0 nodad");
    // the router knows the way to the containers: nothing but the host's rules keeps outsiders out
    sh("ip -n router route add 10.90.0.0/16 via 10.77.0.1; ip -n router -6 route add fd90::/64 via fd77::1");
    sh(
      "ip -n out addr add 10.78.0.2/24 dev far1; ip -n out addr add fd78::2/64 dev far1 nodad; ip -n out route add default via 10.78.0.254; ip -n out -6 route add default via fd78::254",
    );
    t = await TestEngine.open();
    const ipam = (...subnets: string[]) => ({ IPAM: { Driver: "default", Options: null, Config: subnets.map((Subnet) => ({ Subnet })) } });
    await t.engine.networks.create({ Name: "blue", EnableIPv6: true, ...ipam("10.90.1.0/24", "fd90::/64") });
    await t.engine.networks.create({ Name: "red", ...ipam("10.90.2.0/24") });
    await t.engine.networks.create({ Name: "dark", Internal: true, ...ipam("10.90.3.0/24") });
    const ports = Object.fromEntries(
      ["tcp", "udp"].map((protocol) => [
        `7000/${protocol}`,
        [
          { HostIp: "", HostPort: "8080" },
          { HostIp: "127.0.0.1", HostPort: "8081" },
        ],
      ]),
    );
    await container("aa", "blue", { ip: "10.90.1.10", ip6: "fd90::10", ports });
    await container("bb", "blue", { ip: "10.90.1.11", ip6: "fd90::11", alias: "bee" });
    await container("cc", "red", { ip: "10.90.2.10" });
    await container("dd", "dark", { ip: "10.90.3.10" });
    await container("ee", "dark", { ip: "10.90.3.11" });
    agents.set("out", await Agent.start(["ip", "netns", "exec", "out"]));
    agents.set("host", await Agent.start(["env"]));
    const plain = (address = "") => address.replace(/^::ffff:/, "");
    tcp = createServer((socket) => socket.on("error", () => undefined).end(plain(socket.remoteAddress))).listen(7001, "::");
    udp = createSocket("udp6", (_data, { address, port }) => udp?.send(plain(address), port, address)).bind(7001);
  }, 60_000);
  afterAll(async () => {
    for (const agent of agents.values()) agent.stop();
    tcp?.close();
    udp?.close();
    await t[Symbol.asyncDispose]();
  });

  describe.each(["tcp", "udp"])("%s", (protocol) => {
    test.concurrent.each(rows)("%s: %s → %s, port %i", async (_what, from, to, port, answer) => {
      const name = /^name:(.*)$/.exec(to)?.[1];
      const where = name === undefined ? { host: to } : { name };
      const unreachable = answer.test("nothing");
      expect(await agents.get(from)!.ask({ protocol, ...where, port, ms: unreachable ? 1000 : 10_000 })).toMatch(answer);
    });
  });
});
