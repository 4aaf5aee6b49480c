/** Beside firewalld itself, with a system bus of its own: it is started, reloaded and ended while containers run. In network and mount namespaces of the test's own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { TestEngine, until } from "./engine-setup.ts";
import { inOwnHost, sh } from "./own-host.fixture.ts";

const SERVER = `require("net").createServer((s) => s.on("error", () => {}).end("outside")).listen(80, "10.78.0.2", () => console.log("up"));`;
/** It takes some seconds to start, more on a busy machine. */
const STARTED_MS = 60_000;

inOwnHost(import.meta.filename, { title: "beside firewalld", limitMs: 400_000 }, ["firewalld", "firewall-cmd", "dbus-daemon", "nft"], () => {
  let t: TestEngine;
  let server: ChildProcess;
  let bus: ChildProcess;
  let firewalld: ChildProcess | undefined;
  let id: string;

  const end = async (child: ChildProcess) => {
    child.kill("SIGTERM");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  };
  const start = async () => {
    firewalld = spawn("firewalld", ["--nofork", "--nopid"], { stdio: "ignore" });
    await until(() => sh("firewall-cmd --state 2>&1 || true").trim() === "running", STARTED_MS);
  };
  const inside = async (command: string) => (await t.exec(id, ["sh", "-c", command])).out.trim();
  const page = (address: string) => `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 ${address} | tail -n 1`;
  /** Everything that a user has of networks. */
  const works = async () =>
    (await inside("nc -w 1 10.78.0.2 80 </dev/null")) === "outside" &&
    (await inside(page("other 80"))) === "hi" &&
    (await inside("ping -c 1 -W 1 10.88.1.1 >/dev/null && echo yes")) === "yes" &&
    sh(`ip netns exec out busybox sh -c "${page("10.78.0.1 8077")}"`).trim() === "hi" &&
    sh(`busybox sh -c "${page("127.0.0.1 8077")}"`).trim() === "hi";
  const inZone = () => sh("firewall-cmd --zone=trusted --list-interfaces").trim();

  beforeAll(async () => {
    sh("mkdir -p /run/dbus; mount -t tmpfs none /run/dbus");
    bus = spawn("dbus-daemon", ["--system", "--nofork", "--nopidfile", "--print-address=1"], { stdio: ["ignore", "pipe", "ignore"] });
    await once(bus.stdout!, "data");
    sh("ip netns add out; ip link add wire0 type veth peer name wire1 netns out; ip link set wire0 up; ip -n out link set lo up; ip -n out link set wire1 up");
    sh("ip addr add 10.78.0.1/24 dev wire0; ip -n out addr add 10.78.0.2/24 dev wire1");
    server = spawn("ip", ["netns", "exec", "out", process.execPath, "-e", SERVER], { stdio: ["ignore", "pipe", "inherit"] });
    await once(server.stdout!, "data");
    t = await TestEngine.open();
  }, 60_000);
  beforeEach(async () => {
    await t.engine.networks.create({ Name: "blue", IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.88.1.0/24" }] } });
    const serve = ["sh", "-c", "echo hi >/tmp/index.html; httpd -f -p 80 -h /tmp"];
    id = await t.start(serve, {}, { NetworkMode: "blue", PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "8077" }] } });
    await t.start(serve, {}, { NetworkMode: "blue" }, "other");
  });
  afterEach(async () => {
    await t.removeAll();
    await t.engine.networks.remove("blue");
    if (firewalld !== undefined) await end(firewalld);
    firewalld = undefined;
  });
  afterAll(async () => {
    await t[Symbol.asyncDispose]();
    server.kill("SIGKILL");
    await end(bus);
  });

  test("it starts after the containers, is reloaded in both ways, ends, and starts again: they are reached, and reach others", {
    timeout: 300_000,
  }, async () => {
    await until(works);
    await start();
    await until(works, 20_000);
    for (const how of ["--reload", "--complete-reload"]) {
      sh(`firewall-cmd ${how}`);
      await until(works, 20_000);
    }
    await end(firewalld!);
    await until(works);
    await start();
    await until(works, 20_000);
  });

  test("it is there before the network is; a removed network is in no zone, and an administrator's choice of one stays", { timeout: 300_000 }, async () => {
    await start();
    const { Id } = t.engine.networks.get("blue");
    const bridge = `br-${Id.slice(0, 12)}`;
    await until(() => inZone().includes(bridge), 20_000);
    await t.engine.networks.create({ Name: "late" });
    const late = `br-${t.engine.networks.get("late").Id.slice(0, 12)}`;
    expect(inZone()).toContain(late);
    await t.engine.networks.remove("late");
    expect(inZone()).not.toContain(late);
    sh(`firewall-cmd --zone=drop --change-interface=${bridge}`);
    await t.reopen();
    expect(inZone()).not.toContain(bridge);
    expect(sh("firewall-cmd --zone=drop --list-interfaces")).toContain(bridge);
  });
});
