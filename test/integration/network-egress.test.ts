/**
 * Whom a container may call, on the real kernel: a machine outside with two addresses, a resolver on the host, containers with and without rules. All of it in
 * network namespaces of the test's own.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { promisify } from "node:util";
import dns from "dns-packet";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { EngineEvent } from "#engine/mod.ts";
import { eventually, TestEngine } from "./engine-setup.ts";
import { hostResolvConf, inOwnHost, sh } from "./own-host.fixture.ts";

/** Answers TCP and UDP on three ports of all addresses. */
const SERVER = `const net = require("net"), dgram = require("dgram");
for (const port of [80, 443, 53]) { net.createServer((s) => s.on("error", () => {}).end("hi")).listen(port, "::");
  const u = dgram.createSocket("udp6"); u.on("message", (m, r) => u.send("hi", r.port, r.address)); u.bind(port); }
console.log("up");`;

/** One call; what came of it. A source address of its own choice with `from`. */
const CLIENT = `const [protocol, host, port] = process.argv.slice(1); const done = (t) => { console.log(t); process.exit(); }; setTimeout(done, 1500, "nothing");
if (protocol === "tcp") { let t = ""; require("net").connect({ host, port: Number(port) }).on("data", (d) => (t += d)).on("error", (e) => done(e.code)).on("close", () => done(t)); }
else { const s = require("dgram").createSocket(host.includes(":") ? "udp6" : "udp4"); s.on("error", (e) => done(e.code)).on("message", (m) => done(String(m)));
  s.connect(Number(port), host, (e) => (e ? done(e.code) : s.send("x"))); }`;

inOwnHost(import.meta.filename, "egress rules", ["nsenter", "nft"], () => {
  let t: TestEngine;
  let server: ChildProcess;
  let resolver: Socket;
  let restoreResolvConf: () => void;
  let events: EngineEvent[] = [];
  const stop = new AbortController();
  const asked: string[] = [];
  const answers: Record<string, { type: "A" | "AAAA"; data: string }> = {
    "good.example": { type: "A", data: "10.78.0.2" },
    "short.example": { type: "A", data: "10.78.0.3" },
  };
  const ipam = (...subnets: string[]) => ({ IPAM: { Driver: "default", Options: null, Config: subnets.map((Subnet) => ({ Subnet })) } });
  const pidOf = (id: string) => String(t.engine.containers.get(id).state.pid);
  const node = async (id: string, script: string, ...args: string[]) =>
    (await promisify(execFile)("nsenter", ["-t", pidOf(id), "-n", process.execPath, "-e", script, ...args])).stdout.trim();
  const call = (id: string, protocol: string, host: string, port: number) => node(id, CLIENT, protocol, host, String(port));
  const start = (egress: string[], network = "bridge", name?: string) => t.start(["sleep", "1000"], {}, { NetworkMode: network, WherryEgress: egress }, name);
  const resolve = (id: string, name: string) =>
    node(
      id,
      `const { Resolver } = require("dns").promises; const r = new Resolver(); r.setServers(["127.0.0.11"]); r.resolve4(process.argv[1]).then((a) => console.log(a.join()), (e) => console.log(e.code))`,
      name,
    );
  const table = () => `wherry-${t.options.bridge?.name}`;
  const rulesets = () => sh("nft list ruleset");

  beforeAll(async () => {
    sh("ip netns add out; ip link add wire0 type veth peer name wire1 netns out; ip link set wire0 up; ip -n out link set lo up; ip -n out link set wire1 up");
    sh("ip addr add 10.78.0.1/24 dev wire0; ip addr add fd78::1/64 dev wire0 nodad; ip -n out addr add fd78::2/64 dev wire1 nodad");
    sh("ip -n out addr add 10.78.0.2/24 dev wire1; ip -n out addr add 10.78.0.3/24 dev wire1");
    server = spawn("ip", ["netns", "exec", "out", process.execPath, "-e", SERVER], { stdio: ["ignore", "pipe", "inherit"] });
    await once(server.stdout!, "data");
    resolver = createSocket("udp4", (message, { port, address }) => {
      const query = dns.decode(message);
      const [question] = query.questions ?? [];
      const found = answers[question?.name ?? ""];
      asked.push(question?.name ?? "");
      const records = found !== undefined && found.type === question?.type ? [{ ...found, name: question.name, ttl: 60 }] : [];
      resolver.send(dns.encode({ type: "response", id: query.id ?? 0, flags: 0x0180, questions: query.questions ?? [], answers: records }), port, address);
    });
    resolver.bind(53, "127.0.0.1");
    restoreResolvConf = hostResolvConf("nameserver 127.0.0.1\n");
    t = await TestEngine.open();
    await t.engine.networks.create({ Name: "blue", EnableIPv6: true, ...ipam("10.90.1.0/24", "fd90::/64") });
    void (async () => {
      for await (const event of t.engine.system.events({ sinceNs: undefined, untilNs: undefined, signal: stop.signal, filters: {} }))
        if (event.Action === "refuse") events.push(event);
    })().catch(() => undefined);
  }, 60_000);
  afterEach(async () => {
    await t.removeAll();
    events = [];
    asked.length = 0;
  });
  afterAll(async () => {
    stop.abort();
    server.kill("SIGKILL");
    resolver.close();
    await t[Symbol.asyncDispose]();
    restoreResolvConf();
    expect(rulesets()).not.toContain("wherry");
  });

  test("deny: nobody outside, not the host; neighbours, and who calls it, still; an event for each", async () => {
    const id = await start(["deny"], "blue", "shut");
    const near = await start(["deny"], "blue", "near");
    const free = await t.start(["sleep", "1000"], {}, { NetworkMode: "blue" });
    expect(await call(id, "tcp", "10.78.0.2", 80)).toBe("EHOSTUNREACH");
    expect(await call(id, "tcp", "fd78::2", 80)).toMatch(/^E(ACCES|HOSTUNREACH)$/);
    expect(await call(id, "udp", "10.78.0.2", 53)).toBe("EHOSTUNREACH"); // another name server
    expect(await call(id, "tcp", "10.90.1.1", 80)).toBe("EHOSTUNREACH"); // the host itself
    expect(await call(free, "tcp", "10.78.0.2", 80)).toBe("hi");
    expect((await t.exec(id, ["ping", "-c", "1", "-W", "2", "near"])).code).toBe(0);
    expect((await t.exec(near, ["ping", "-6", "-c", "1", "-W", "2", t.engine.containers.get(id).endpoints.blue!.GlobalIPv6Address])).code).toBe(0);
    sh(`busybox ping -c 1 -W 2 ${t.engine.containers.get(id).endpoints.blue!.IPAddress}`);
    expect(await resolve(id, "good.example")).toBe("EREFUSED");
    expect(asked).toEqual([]);
    await eventually(
      async () => events.length,
      (count) => count >= 5,
      5000,
    );
    expect(events.map(({ Type, Actor: { ID, Attributes } }) => ({ Type, ID, ...Attributes }))).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ Type: "container", ID: id, name: "shut", address: "10.78.0.2", protocol: "tcp", port: "80" }),
        expect.objectContaining({ ID: id, address: "fd78::2", protocol: "tcp", port: "80" }),
        expect.objectContaining({ ID: id, address: "10.78.0.2", protocol: "udp", port: "53" }),
        expect.objectContaining({ ID: id, name: "shut", host: "good.example" }),
      ]),
    );
    expect(t.engine.containers.get(id).hostConfig.WherryEgress).toEqual([]);
  });

  test("addresses and ports; on a network that is connected later, too; a packet with another's address gets nowhere", async () => {
    const id = await start(["allow=10.78.0.2:80,[fd78::2]:443/tcp"]);
    expect(await call(id, "tcp", "10.78.0.2", 80)).toBe("hi");
    expect(await call(id, "tcp", "10.78.0.2", 443)).toBe("EHOSTUNREACH");
    expect(await call(id, "tcp", "10.78.0.3", 80)).toBe("EHOSTUNREACH");
    await t.engine.networks.connect!("blue", id, undefined);
    expect(await call(id, "tcp", "fd78::2", 443)).toBe("hi");
    expect(await call(id, "udp", "fd78::2", 443)).toMatch(/^E(ACCES|HOSTUNREACH)$/);
    await start(["deny"], "blue", "free");
    const neighbour = t.engine.containers.get("free").endpoints.blue!.IPAddress;
    sh(`nsenter -t ${pidOf(id)} -n ip addr add 10.90.1.200/24 dev eth1`); // as CAP_NET_ADMIN could
    expect((await t.exec(id, ["ping", "-I", "10.90.1.200", "-c", "1", "-W", "1", neighbour])).code).not.toBe(0);
    await t.engine.networks.disconnect!("blue", id, false);
    expect(rulesets()).not.toMatch(/10\.90\.1\.2 \. 10\.78/);
  });

  test("names open what they lead to, before they are answered, until the answer has ended", async () => {
    const id = await start(["good.example:80"]);
    expect(await call(id, "tcp", "10.78.0.2", 80)).toBe("EHOSTUNREACH");
    const both = `const { Resolver } = require("dns"); const r = new Resolver(); r.setServers(["127.0.0.11"]);
      r.resolve4("good.example", (e, a) => e ? console.log(e.code) : require("net").connect(80, a[0]).on("data", (d) => { console.log(String(d)); process.exit(); }).on("error", (x) => console.log(x.code)))`;
    expect(await node(id, both)).toBe("hi");
    expect(await call(id, "tcp", "10.78.0.2", 443)).toBe("EHOSTUNREACH");
    expect(await resolve(id, "short.example")).toBe("EREFUSED");
    expect(asked).not.toContain("short.example");
    expect(sh(`nft list set inet ${table()} learned`)).toMatch(/10\.78\.0\.2 \. tcp \. 80 timeout 1m expires/);
  });

  test("a flush and a new engine: rules are there again, and with them what answers had opened; the next one at the address has none of it", async () => {
    const id = await start(["good.example:80", "10.78.0.3:80"]);
    expect(await resolve(id, "good.example")).toBe("10.78.0.2");
    const holds = async () => {
      expect(await call(id, "tcp", "10.78.0.2", 80)).toBe("hi");
      expect(await call(id, "tcp", "10.78.0.3", 80)).toBe("hi");
      expect(await call(id, "tcp", "10.78.0.3", 443)).toBe("EHOSTUNREACH");
    };
    await holds();
    sh("nft flush ruleset");
    await eventually(
      async () => rulesets(),
      (text) => text.includes("learned_any6") && text.includes("published"),
      5000,
    );
    await holds();
    await t.reopen();
    await holds();
    const { bridge } = t.engine.containers.get(id).endpoints;
    await t.engine.containers.remove(id, { force: true, volumes: true });
    await eventually(
      async () => rulesets(),
      (text) => !text.includes(`${bridge!.IPAddress} `),
      5000,
    );
    const next = await start(["deny"]);
    expect(t.engine.containers.get(next).endpoints.bridge?.IPAddress).toBe(bridge?.IPAddress);
    expect(await call(next, "tcp", "10.78.0.2", 80)).toBe("EHOSTUNREACH");
  });

  test("other rules while it runs: at once, on all of its networks, over a restart of the engine; what both sets of rules open by name stays open", async () => {
    const id = await t.start(["sleep", "1000"], {}, { NetworkMode: "bridge" });
    await t.engine.networks.connect!("blue", id, undefined);
    const rules = (...WherryEgress: string[]) => t.engine.containers.update(id, { WherryEgress }, undefined);
    const nameServers = async () => (await t.exec(id, ["cat", "/etc/resolv.conf"])).out;
    expect(await call(id, "tcp", "10.78.0.2", 443)).toBe("hi");
    await rules("deny");
    expect(await call(id, "tcp", "10.78.0.2", 443)).toBe("EHOSTUNREACH");
    expect(await call(id, "tcp", "fd78::2", 443)).toMatch(/^E(ACCES|HOSTUNREACH)$/);
    expect(t.engine.containers.get(id).hostConfig.WherryEgress).toEqual([]);
    await rules("allow=good.example:80,[fd78::2]:443");
    expect(await resolve(id, "good.example")).toBe("10.78.0.2");
    expect(await call(id, "tcp", "10.78.0.2", 80)).toBe("hi");
    expect(await call(id, "tcp", "fd78::2", 443)).toBe("hi");
    await rules("good.example:80", "10.78.0.3:80");
    expect(await call(id, "tcp", "10.78.0.2", 80)).toBe("hi");
    expect(await call(id, "tcp", "10.78.0.3", 80)).toBe("hi");
    expect(await call(id, "tcp", "fd78::2", 443)).toMatch(/^E(ACCES|HOSTUNREACH)$/);
    await t.reopen();
    expect(await call(id, "tcp", "10.78.0.3", 80)).toBe("hi");
    await expect(rules("a b")).rejects.toThrow('invalid egress rule "a b"');
    await rules("deny");
    expect(await call(id, "tcp", "10.78.0.3", 80)).toBe("EHOSTUNREACH");
    expect(await call(id, "tcp", "10.78.0.2", 80)).toBe("EHOSTUNREACH");
    expect(sh(`nft list set inet ${table()} learned`)).not.toContain("10.78");
    await rules("*");
    expect(await call(id, "tcp", "10.78.0.2", 443)).toBe("hi");
    expect(await resolve(id, "short.example")).toBe("10.78.0.3");
    expect(await nameServers()).toContain("127.0.0.11");
  });

  test("a container on the default network gets its name server together with its first rules", async () => {
    const id = await t.start(["sleep", "1000"], {}, { NetworkMode: "bridge", Dns: ["127.0.0.1"] });
    expect((await t.exec(id, ["cat", "/etc/resolv.conf"])).out).not.toContain("127.0.0.11");
    await t.engine.containers.update(id, { WherryEgress: ["good.example:80"] }, undefined);
    expect((await t.exec(id, ["cat", "/etc/resolv.conf"])).out).toContain("nameserver 127.0.0.11");
    await t.reopen();
    expect(await resolve(id, "good.example")).toBe("10.78.0.2");
    expect(await call(id, "tcp", "10.78.0.2", 80)).toBe("hi");
    expect(await call(id, "tcp", "10.78.0.2", 443)).toBe("EHOSTUNREACH");
    await t.engine.containers.restart(id, { timeout: 0, signal: undefined });
    expect(await call(id, "tcp", "10.78.0.2", 443)).toBe("EHOSTUNREACH");
    await expect(
      t.start(["sleep", "9"], {}, { NetworkMode: "host" }).then((host) => t.engine.containers.update(host, { WherryEgress: ["deny"] }, undefined)),
    ).rejects.toThrow("conflicting options: egress rules and the network mode host");
  });

  test("a label is as good; what cannot be is refused", async () => {
    const id = await t.start(["sleep", "1000"], { Labels: { "wherry.egress": "allow=10.78.0.3" } }, { NetworkMode: "bridge" });
    expect(await call(id, "tcp", "10.78.0.3", 443)).toBe("hi");
    expect(await call(id, "tcp", "10.78.0.2", 443)).toBe("EHOSTUNREACH");
    const create = (host: object) => t.create(["true"], {}, host);
    await expect(create({ NetworkMode: "host", WherryEgress: ["deny"] })).rejects.toThrow("conflicting options: egress rules and the network mode host");
    await expect(create({ NetworkMode: "bridge", WherryEgress: ["a b"] })).rejects.toThrow('invalid egress rule "a b"');
    expect(await create({ NetworkMode: "none", WherryEgress: ["deny"] })).toMatch(/^[0-9a-f]{64}$/);
  });
});
