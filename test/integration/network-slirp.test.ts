/** A container's network by a program in user space: what it reaches, who reaches it, and that the program ends with the container. In a network namespace of the test's own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { TestEngine, until } from "./engine-setup.ts";
import { hostResolvConf, inOwnHost, sh } from "./own-host.fixture.ts";

const SERVER = `require("net").createServer((s) => s.on("error", () => {}).end(s.remoteAddress.replace(/^::ffff:/, ""))).listen(80, "::", () => console.log("up"));`;

inOwnHost(import.meta.filename, "a network in user space", ["slirp4netns"], () => {
  let t: TestEngine;
  let server: ChildProcess;
  let restoreResolvConf: () => void;

  /** The programs beside this engine's containers: their parents are monitors below its exec root. */
  const programs = () =>
    readdirSync("/proc")
      .filter((pid) => /^\d+$/.test(pid))
      .filter((pid) => {
        const text = spawnSync("cat", [`/proc/${pid}/cmdline`], { encoding: "utf8" }).stdout;
        return text.includes("slirp4netns\0") && !text.startsWith("unshare") && readNet(pid) === readNet("self");
      });
  const readNet = (pid: string) => spawnSync("readlink", [`/proc/${pid}/ns/net`], { encoding: "utf8" }).stdout;
  const start = (host: object = {}, name?: string) => t.start(["sleep", "1000"], {}, { NetworkMode: "slirp4netns", ...host }, name);
  const inside = async (id: string, command: string) => (await t.exec(id, ["sh", "-c", command])).out.trim();

  beforeAll(async () => {
    sh("ip netns add out; ip link add wire0 type veth peer name wire1 netns out; ip link set wire0 up; ip -n out link set lo up; ip -n out link set wire1 up");
    sh("ip addr add 10.78.0.1/24 dev wire0; ip -n out addr add 10.78.0.2/24 dev wire1");
    server = spawn("ip", ["netns", "exec", "out", process.execPath, "-e", SERVER], { stdio: ["ignore", "pipe", "inherit"] });
    await once(server.stdout!, "data");
    restoreResolvConf = hostResolvConf("nameserver 127.0.0.1\nsearch host.example\n");
    t = await TestEngine.open();
  }, 60_000);
  afterEach(() => t.removeAll());
  afterAll(async () => {
    server.kill("SIGKILL");
    restoreResolvConf();
    await t[Symbol.asyncDispose]();
    expect(programs()).toEqual([]);
  });

  test.each([
    ["with the host's users", {}],
    ["in a user namespace of its own", { UsernsMode: "private" }],
  ])("%s: calls go out as the host's, nothing of the host changes, the program goes with the container", async (_, host) => {
    const before = sh("ip -o link; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward");
    const id = await start(host, "alone");
    expect(await inside(id, "nc 10.78.0.2 80 </dev/null")).toBe("10.78.0.1");
    expect(await inside(id, "ip -o -4 addr show eth0; ip route; cat /etc/resolv.conf; hostname -i")).toMatch(
      /10\.0\.2\.100\/24.*\ndefault via 10\.0\.2\.2 dev eth0.*\n.*\nnameserver 10\.0\.2\.3\nsearch host\.example\n10\.0\.2\.100$/,
    );
    expect((await t.exec(id, ["nc", "-w", "2", "10.0.2.2", "53"])).code).not.toBe(0); // the host's loopback is closed
    expect(sh("ip -o link; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward")).toBe(before);
    expect(t.engine.containers.get(id).endpoints).toMatchObject({ slirp4netns: { IPAddress: "10.0.2.100", Gateway: "10.0.2.2" } });
    const other = await start(host);
    expect(programs()).toHaveLength(2);
    await t.engine.containers.remove(other, { force: true, volumes: true });
    await until(() => programs().length === 1);
    await t.reopen();
    expect(await inside(id, "nc 10.78.0.2 80 </dev/null")).toBe("10.78.0.1");
    await t.engine.containers.restart(id, { timeout: 0 });
    expect(await inside(id, "nc 10.78.0.2 80 </dev/null")).toBe("10.78.0.1");
    await t.engine.containers.stop(id, { timeout: 0 });
    await until(() => programs().length === 0);
  });

  test("what it cannot be is refused with a reason", async () => {
    const create = (host: object) => t.create(["true"], {}, { NetworkMode: "slirp4netns", ...host });
    await expect(create({ PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "8080" }] } })).rejects.toThrow(
      "published ports cannot be had with the network mode slirp4netns",
    );
    await expect(create({ PublishAllPorts: true })).rejects.toMatchObject({ code: "unsupported" });
    await expect(create({ WherryEgress: ["deny"] })).rejects.toThrow("conflicting options: egress rules and the network mode slirp4netns");
    await expect(create({ WherryNetworkRate: { rate: "1mbit" } })).rejects.toThrow("conflicting options: a network rate and the network mode slirp4netns");
    await expect(create({ NetworkMode: "pasta" })).rejects.toMatchObject({ code: "unsupported", hint: "use --network slirp4netns" });
    const id = await start();
    await expect(t.engine.networks.connect!("bridge", id, undefined)).rejects.toThrow(
      "a container in the network mode slirp4netns cannot be connected to other networks",
    );
    const joined = await t.run(["nc", "10.78.0.2", "80"], {}, { NetworkMode: `container:${id}` });
    expect(joined.out).toBe("10.78.0.1");
  });
});
