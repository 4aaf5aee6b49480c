/** Names on networks of the user, on the real kernel: asked from inside containers. */
import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import dns from "dns-packet";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { networkingConfig } from "#api/types/host-config.ts";
import type { EndpointConfig, HostConfig } from "#core/container-config.ts";
import { TestEngine } from "./engine-setup.ts";
import { hostResolvConf, inOwnHost, sh } from "./own-host.fixture.ts";

/** Standard output of a program; this process goes on meanwhile. */
function outputOf([program = "", ...args]: readonly string[]): Promise<string> {
  return promisify(execFile)(program, args, { encoding: "utf8" }).then(({ stdout }) => stdout);
}

inOwnHost(import.meta.filename, "names", ["nsenter"], () => {
  let t: TestEngine;
  const asked = (fields: Partial<EndpointConfig>): EndpointConfig => ({ IPAMConfig: null, Links: null, Aliases: null, DriverOpts: null, ...fields });
  const subnet = (cidr: string) => ({ IPAM: { Driver: "default", Options: null, Config: [{ Subnet: cidr }] } });
  const inside = async (id: string, command: string) => (await t.exec(id, ["sh", "-c", command])).out;
  const connect = (name: string, id: string, endpoint?: EndpointConfig) => t.engine.networks.connect!(name, id, endpoint);

  async function start(
    name: string,
    network: string,
    endpoint: Partial<EndpointConfig> = {},
    host: Partial<HostConfig> = {},
    cmd = ["sleep", "100"],
  ): Promise<string> {
    const request = t.request("busybox", cmd, {}, { NetworkMode: network, ...host }, name);
    const { id } = await t.engine.containers.create({
      ...request,
      networkingConfig: networkingConfig({ EndpointsConfig: { [network]: asked(endpoint) } }, ""),
    });
    await t.engine.containers.start(id);
    return id;
  }

  /** Asks 127.0.0.11 from inside a container, with a process of its own: this one is to answer. */
  async function ask(id: string, name: string, type = "A", transport = "udp"): Promise<readonly [code: string, data: readonly unknown[]]> {
    const { pid } = t.engine.containers.get(id).state;
    const query = `{ type: "query", id: 9, flags: 0x0100, questions: [{ name: "${name}", type: "${type}" }] }`;
    const send =
      transport === "tcp"
        ? `const s = require("net").connect(53, "127.0.0.11"); s.write(dns.streamEncode(${query})); s.on("data", (d) => done(d.subarray(2)))`
        : `const s = require("dgram").createSocket("udp4"); s.connect(53, "127.0.0.11", () => s.send(dns.encode(${query}))); s.on("message", done)`;
    const script = `const dns = require("dns-packet");
      const done = (m) => { const p = dns.decode(m); console.log(JSON.stringify([p.rcode, p.answers.map((a) => a.data)])); process.exit() };
      setTimeout(() => { console.log('["TIMEOUT",[]]'); process.exit() }, 4000); ${send}`;
    return JSON.parse(await outputOf(["nsenter", "-t", String(pid), "-n", process.execPath, "-e", script]));
  }
  const codeOf = async (id: string, name: string) => (await ask(id, name))[0];

  beforeAll(async () => {
    sh("mount --bind /dev/null /etc/resolv.conf"); // this namespace's own
    t = await TestEngine.open();
    await t.engine.networks.create({ Name: "blue", ...subnet("10.90.1.0/24") });
    await t.engine.networks.create({ Name: "red", ...subnet("10.90.2.0/24") });
    await t.engine.networks.create({ Name: "dark", Internal: true, ...subnet("10.90.3.0/24") });
  }, 60_000);
  afterEach(() => t.removeAll());
  afterAll(() => t[Symbol.asyncDispose]());

  test("names, aliases, short ids, links, the other way round, by both transports", async () => {
    const db = await start("db", "blue", { Aliases: ["data", "both"] });
    const web = await start("web", "blue", { Aliases: ["both"], Links: ["db:store"] });
    const { blue } = t.engine.containers.get(db).endpoints;
    const address = blue!.IPAddress;
    for (const name of ["db", "DATA", db.slice(0, 12), "store", "db.blue"]) expect(await ask(web, name)).toEqual(["NOERROR", [address]]);
    expect(await ask(web, "db", "A", "tcp")).toEqual(["NOERROR", [address]]);
    expect((await ask(web, "both"))[1]).toHaveLength(2);
    expect(await ask(web, "db", "AAAA")).toEqual(["NOERROR", []]);
    expect(await codeOf(db, "store")).toBe("SERVFAIL"); // the link is web's
    expect(await ask(web, `${address.split(".").reverse().join(".")}.in-addr.arpa`, "PTR")).toEqual(["NOERROR", ["db.blue"]]);
    expect(await inside(web, "cat /etc/resolv.conf")).toBe("nameserver 127.0.0.11\noptions ndots:0\n");
    expect(await inside(web, "ping -c 1 -W 1 db")).toContain(`(${address})`);
  });

  test("the first thing a program does is answered; a server of its own may have port 53", async () => {
    await start("db", "blue");
    const request = t.request("busybox", ["sh", "-c", "nslookup db && (nc -l -p 53 & sleep 0.2; netstat -ltn)"], {}, { NetworkMode: "blue" });
    const { id } = await t.engine.containers.create(request);
    const ended = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    await ended;
    const { out, err } = await t.logs(id);
    expect(out + err).toMatch(/Name:\s+db\nAddress: 10\.90\.1\./);
    expect(out + err).toMatch(/:::53 |0\.0\.0\.0:53 /);
  });

  test("names come and go with their containers and connections, and follow a new name", async () => {
    const web = await start("web", "blue");
    const other = await start("other", "red");
    expect(await codeOf(web, "other")).toBe("SERVFAIL");
    await connect("red", web);
    expect(await codeOf(web, "other")).toBe("NOERROR");
    await t.engine.containers.rename(other, "renamed");
    expect(await codeOf(web, "other")).toBe("SERVFAIL");
    expect(await codeOf(web, "renamed")).toBe("NOERROR");
    await t.engine.containers.remove(other, { force: true, volumes: true });
    expect(await codeOf(web, "renamed")).toBe("SERVFAIL");
    const late = await start("late", "bridge");
    await inside(late, "true");
    await connect("blue", late);
    expect(await codeOf(late, "web")).toBe("NOERROR");
    expect(await inside(late, "cat /etc/resolv.conf")).toContain("nameserver 127.0.0.11");
  });

  test("a new engine answers those who went on", async () => {
    const web = await start("web", "blue");
    await t.engine.close();
    const waiting = ask(web, "web"); // gets its answer when there is somebody to give it
    await sleep(300);
    await t.reopen();
    expect(await waiting).toEqual(["NOERROR", [t.engine.containers.get(web).endpoints.blue?.IPAddress]]);
    expect(await codeOf(web, "web")).toBe("NOERROR");
    expect((await ask(web, "web", "A", "tcp"))[0]).toBe("NOERROR");
  });

  test("other names are asked of the host's resolvers, of --dns, or of nobody", async () => {
    const seen: string[] = [];
    const reply = (message: Buffer, data: string) => {
      const query = dns.decode(message);
      seen.push(`${data} ${query.questions?.[0]?.name}`);
      return dns.encode({
        type: "response",
        id: query.id ?? 0,
        flags: 0x0180,
        questions: query.questions ?? [],
        answers: [{ name: query.questions?.[0]?.name ?? "", type: "A", ttl: 5, data }],
      });
    };
    const udp = ["127.0.0.1", "127.0.0.2"].map((at, i) => {
      const socket = createSocket("udp4");
      socket.on("message", (message, { port, address }) => socket.send(reply(message, `192.0.2.${i + 1}`), port, address));
      socket.bind(53, at);
      return socket;
    });
    const tcp = createServer((socket) =>
      socket.on("data", (data) => {
        const answer = reply(data.subarray(2), "192.0.2.9");
        socket.write(Buffer.concat([Buffer.of(answer.length >> 8, answer.length), answer]));
      }),
    ).listen(53, "127.0.0.1");
    const restoreResolvConf = hostResolvConf("nameserver 127.0.0.1\nsearch host.example\n");
    try {
      const outside = (id: string) => ask(id, "outside.example");
      const web = await start("web", "blue");
      const own = await start("own", "blue", {}, { Dns: ["127.0.0.2"], DnsSearch: ["corp.example"], DnsOptions: ["timeout:3"] });
      const dark = await start("dark", "dark");
      expect(await outside(web)).toEqual(["NOERROR", ["192.0.2.1"]]);
      expect(await outside(own)).toEqual(["NOERROR", ["192.0.2.2"]]);
      expect(await outside(dark)).toEqual(["SERVFAIL", []]);
      expect(await ask(web, "outside.example", "A", "tcp")).toEqual(["NOERROR", ["192.0.2.9"]]);
      expect(await inside(own, "cat /etc/resolv.conf")).toBe("nameserver 127.0.0.11\nsearch corp.example\noptions timeout:3 ndots:0\n");
      expect((await t.engine.networks.traceName("outside.example", "A", "web")).asked).toMatchObject([{ server: "127.0.0.1", result: "A 192.0.2.1 (5 s)" }]);
      // the default network's containers, too, when the host's resolver listens on its loopback only
      const plain = await start("plain", "bridge");
      expect(await inside(plain, "cat /etc/resolv.conf")).toContain("nameserver 127.0.0.11");
      expect(await outside(plain)).toEqual(["NOERROR", ["192.0.2.1"]]);
      expect(await ask(plain, "web")).toEqual(["NOERROR", ["192.0.2.1"]]); // names of networks are not for it
    } finally {
      for (const socket of udp) socket.close();
      tcp.close();
      restoreResolvConf();
    }
  });

  test("nobody else is answered: the name server is its container's alone", async () => {
    const web = await start("web", "blue");
    const other = await start("other", "blue");
    const { IPAddress: address, Gateway: gateway } = t.engine.containers.get(web).endpoints.blue!;
    const script = `const s = require("dgram").createSocket("udp4"), all = []; const [message, ...to] = process.argv.slice(1);
      s.on("message", (m, r) => all.push(r.address)); s.on("error", () => {});
      for (const at of to) for (const port of [53, 64053]) s.send(Buffer.from(message, "hex"), port, at);
      setTimeout(() => { console.log(JSON.stringify(all)); process.exit(); }, 700);`;
    const question = dns.encode({ type: "query", id: 9, flags: 0x0100, questions: [{ name: "web", type: "A" }] }).toString("hex");
    const asked = (enter: readonly string[], ...to: string[]) => outputOf([...enter, process.execPath, "-e", script, question, ...to]);
    const inside = (id: string) => ["nsenter", "-t", String(t.engine.containers.get(id).state.pid), "-n"];
    expect(JSON.parse(await asked(inside(other), address, gateway))).toEqual([]);
    expect(JSON.parse(await asked(["env"], address, gateway, "127.0.0.11", "127.0.0.1"))).toEqual([]);
    expect(JSON.parse(await asked(inside(web), "127.0.0.11"))).not.toEqual([]); // the same question, where it may be asked
  });

  test("a flood is slowed down, and nobody else feels it", async () => {
    const noisy = await start("noisy", "blue");
    const quiet = await start("quiet", "blue");
    const { pid } = t.engine.containers.get(noisy).state;
    const flood = `const s = require("dgram").createSocket("udp4"); const m = Buffer.from("000901000001000000000000056e6f6973790000010001", "hex");
      let n = 0; s.on("message", () => n++); const end = Date.now() + 1500;
      (function more() { for (let i = 0; i < 500; i++) s.send(m, 53, "127.0.0.11"); if (Date.now() < end) setImmediate(more); else { console.log(n); process.exit() } })()`;
    const flooding = outputOf(["nsenter", "-t", String(pid), "-n", process.execPath, "-e", flood]);
    await sleep(300);
    for (let i = 0; i < 3; i++) expect(await codeOf(quiet, "noisy")).toBe("NOERROR");
    expect(Number(await flooding)).toBeLessThan(20_000);
  });
});
