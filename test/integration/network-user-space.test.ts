/** A container's network by a program in user space: what it reaches, who reaches it, and that the program ends with the container. In a network namespace of the test's own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { TestEngine, until } from "./engine-setup.ts";
import { hostResolvConf, inOwnHost, sh } from "./own-host.fixture.ts";

/** Tells a caller its address, and ends. */
const SERVER = `require("net").createServer((s) => s.on("error", () => {}).end(s.remoteAddress.replace(/^::ffff:/, ""))).listen(80, "::", () => console.log("up"));`;
const ECHO = `require("dgram").createSocket("udp4").on("message", function (m, r) { this.send(m, r.port, r.address); }).bind(81, () => console.log("up"))`;
/** The server's half ends first: to a client whose half did, Debian 12's pasta repeats the answer for ever. */
const CALL = "sleep 1 | nc -w 5 10.78.0.2 80";
/** Programs that are not there are passed over, with a word. */
const INSTALLED = ["pasta", "slirp4netns"].filter((name) => spawnSync("sh", ["-c", `command -v ${name}`]).status === 0);

/** Asks until there is an answer. */
const ASK = `const s = require("dgram").createSocket("udp4"); setInterval(() => s.send("ping", 8078, "10.78.0.1"), 100); s.on("message", (m) => { console.log(String(m)); process.exit(); }); setTimeout(process.exit, 5000);`;

inOwnHost(import.meta.filename, "a network in user space", INSTALLED.length === 0 ? ["pasta"] : [], () => {
  let t: TestEngine;
  let server: ChildProcess;
  let resolver: Socket;
  let restoreResolvConf: () => void;

  /** The programs beside this engine's containers: they are in this network namespace, and have its containers' as descriptor 0. */
  const programs = () =>
    readdirSync("/proc").filter((pid) => {
      if (!/^\d+$/.test(pid)) return false;
      try {
        return readlinkSync(`/proc/${pid}/fd/0`).startsWith("net:") && readlinkSync(`/proc/${pid}/ns/net`) === readlinkSync("/proc/self/ns/net");
      } catch {
        return false; // it has ended, or has no descriptor 0
      }
    });
  const start = (mode: string, host: object = {}, name?: string, cmd: readonly string[] = ["sleep", "1000"]) =>
    t.start(cmd, {}, { NetworkMode: mode, ...host }, name);
  const inside = async (id: string, command: string) => (await t.exec(id, ["sh", "-c", command])).out.trim();
  const nothing = () => sh("ip -o link; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward");

  beforeAll(async () => {
    sh("ip netns add out; ip link add wire0 type veth peer name wire1 netns out; ip link set wire0 up; ip -n out link set lo up; ip -n out link set wire1 up");
    sh("ip addr add 10.78.0.1/24 dev wire0; ip -n out addr add 10.78.0.2/24 dev wire1");
    server = spawn("ip", ["netns", "exec", "out", process.execPath, "-e", SERVER], { stdio: ["ignore", "pipe", "inherit"] });
    await once(server.stdout!, "data");
    restoreResolvConf = hostResolvConf("nameserver 127.0.0.1\nsearch host.example\n");
    // answers every question with 192.0.2.7
    resolver = createSocket("udp4");
    resolver.on("message", (question, { port, address }) => {
      const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
      const head = Buffer.concat([question.subarray(0, 2), Buffer.from([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])]);
      const end = question.indexOf(0, 12) + 5;
      resolver.send(Buffer.concat([head, question.subarray(12, end), answer]), port, address);
    });
    await new Promise<void>((bound) => resolver.bind(53, "127.0.0.1", bound));
    t = await TestEngine.open();
  }, 60_000);
  afterEach(() => t.removeAll());
  afterAll(async () => {
    server.kill("SIGKILL");
    resolver.close();
    restoreResolvConf();
    await t[Symbol.asyncDispose]();
    expect(programs()).toEqual([]);
  });

  const cases = INSTALLED.flatMap((mode) => [
    [mode, "with the host's users", {}],
    [mode, "in a user namespace of its own", { UsernsMode: "private" }],
  ]) as [string, string, object][];
  test.each(cases)("%s, %s: calls go out as the host's, nothing of the host changes, the program goes with the container", async (mode, _, host) => {
    const before = nothing();
    const id = await start(mode, host, "alone");
    expect(await inside(id, CALL)).toBe("10.78.0.1");
    expect(await inside(id, "ip -o -4 addr show eth0; ip route; cat /etc/resolv.conf; hostname -i")).toMatch(
      /10\.0\.2\.100\/24[\s\S]*default via 10\.0\.2\.2 dev eth0[\s\S]*\nnameserver 10\.0\.2\.3\nsearch host\.example\n10\.0\.2\.100$/,
    );
    expect(await inside(id, "nslookup -type=a some.example.")).toContain("192.0.2.7");
    expect((await t.exec(id, ["nc", "-w", "2", "10.0.2.2", "80"])).code).not.toBe(0); // the host's loopback is closed
    expect(nothing()).toBe(before);
    expect(t.engine.containers.get(id).endpoints).toMatchObject({ [mode]: { IPAddress: "10.0.2.100", Gateway: "10.0.2.2" } });
    const other = await start(mode, host);
    expect(programs()).toHaveLength(2);
    await t.engine.containers.remove(other, { force: true, volumes: true });
    await until(() => programs().length === 1);
    await t.reopen();
    expect(await inside(id, CALL)).toBe("10.78.0.1");
    await t.engine.containers.restart(id, { timeout: 0 });
    expect(await inside(id, CALL)).toBe("10.78.0.1");
    await t.engine.containers.stop(id, { timeout: 0 });
    await until(() => programs().length === 0);
  });

  test.each(INSTALLED)("%s: the program does not outlive a monitor that is killed", async (mode) => {
    const id = await start(mode);
    expect(programs()).toHaveLength(1);
    const monitor = /^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${programs()[0]}/status`, "utf8"))?.[1];
    process.kill(Number(monitor), "SIGKILL");
    await until(() => programs().length === 0);
    await t.engine.containers.remove(id, { force: true, volumes: true });
  });

  test.each(INSTALLED)("%s: published ports, by TCP and UDP, also those that it chooses; free again with the container", async (mode) => {
    const before = nothing();
    const page = "echo hi >/tmp/index.html; httpd -f -p 80 -h /tmp";
    const PortBindings = {
      "80/tcp": [
        { HostIp: "127.0.0.1", HostPort: "8077" },
        { HostIp: "", HostPort: "" },
      ],
      "81/udp": [{ HostIp: "10.78.0.1", HostPort: "8078" }],
    };
    const id = await start(mode, { PortBindings }, undefined, ["sh", "-c", page]);
    // One that the program had to learn from what the container sends would be learnt late: some ports led nowhere.
    expect(await inside(id, "cat /sys/class/net/eth0/address")).toBe(t.engine.containers.get(id).endpoints[mode]?.MacAddress);
    const { ports } = t.engine.containers.get(id);
    const chosen = ports["80/tcp"]?.[1];
    expect(ports).toEqual({
      "80/tcp": [PortBindings["80/tcp"][0], { HostIp: "0.0.0.0", HostPort: expect.stringMatching(/^\d+$/) }],
      "81/udp": PortBindings["81/udp"],
    });
    const get = (url: string) => fetch(url, { headers: { connection: "close" }, signal: AbortSignal.timeout(2000) }).then((reply) => reply.text(), String);
    await until(async () => (await get("http://127.0.0.1:8077/")) === "hi\n");
    const outside = (port: string | undefined) =>
      sh(`(printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 1) | ip netns exec out busybox nc -w 2 10.78.0.1 ${port} || true`);
    await until(() => outside(chosen?.HostPort).endsWith("\nhi\n"));
    expect(outside("8077")).toBe("");
    const enter = ["-t", String(t.engine.containers.get(id).state.pid), "-n"];
    const echo = spawn("nsenter", [...enter, process.execPath, "-e", ECHO], { stdio: ["ignore", "pipe", "inherit"] });
    await once(echo.stdout, "data");
    expect(sh(`ip netns exec out ${process.execPath} -e '${ASK}'`)).toBe("ping\n");
    echo.kill("SIGKILL");
    const second = await t.create(["true"], {}, { NetworkMode: mode, PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "8077" }] } });
    await expect(t.engine.containers.start(second)).rejects.toThrow("Bind for 127.0.0.1:8077 failed: port is already allocated");
    await t.engine.containers.restart(id, { timeout: 0 });
    await until(async () => (await get("http://127.0.0.1:8077/")) === "hi\n");
    expect(nothing()).toBe(before);
    await t.engine.containers.stop(id, { timeout: 0 });
    await until(() => programs().length === 0);
    await t.engine.containers.start(second);
  });

  test.each(INSTALLED)("%s: what it cannot be is refused with a reason", async (mode) => {
    const create = (host: object) => t.create(["true"], {}, { NetworkMode: mode, ...host });
    await expect(create({ PortBindings: { "80/tcp": [{ HostIp: "::1", HostPort: "8080" }] } })).rejects.toThrow(
      `a port published on an IPv6 address cannot be had with the network mode ${mode}`,
    );
    await expect(create({ PortBindings: { "80/sctp": [{ HostIp: "", HostPort: "8080" }] } })).rejects.toMatchObject({ code: "unsupported" });
    await expect(create({ PortBindings: { "80/udp": [{ HostIp: "", HostPort: "8080" }] }, WherryPublishHost: "127.0.0.1" })).rejects.toThrow(
      `a UDP port published on a loopback address cannot be had with the network mode ${mode}`,
    );
    await expect(create({ WherryEgress: ["deny"] })).rejects.toThrow(`conflicting options: egress rules and the network mode ${mode}`);
    await expect(create({ WherryNetworkRate: { rate: "1mbit" } })).rejects.toThrow(`conflicting options: a network rate and the network mode ${mode}`);
    const id = await start(mode);
    await expect(t.engine.networks.connect!("bridge", id, undefined)).rejects.toThrow(
      `a container in the network mode ${mode} cannot be connected to other networks`,
    );
    const joined = await t.run(["sh", "-c", CALL], {}, { NetworkMode: `container:${id}` });
    expect(joined.out).toBe("10.78.0.1");
  });
});
