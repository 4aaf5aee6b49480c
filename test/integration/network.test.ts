/**
 * Bridge networks on the real kernel. The whole file runs again inside a network namespace of its own ("the host" of these tests), with a second one
 * ("outside") on the other end of a cable.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { PortBinding } from "#core/container-config.ts";
import { CLONE } from "#linux/flags.ts";
import type { Helper, MonitorLink } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import { linkUp } from "#linux/netlink/rtnetlink.ts";
import { encodeMessages } from "#linux/netlink/message.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { probeHost } from "#linux/probe-host.ts";
import { parseAddress, parseCidr } from "#network/ip-address.ts";
import { publishTransactions, removalTransaction, rulesTransaction } from "#network/bridge/rules.ts";
import { type JoinRequest, type JoinResult, type NetworkManager, openNetworks } from "#network/mod.ts";
import { nativeHelper } from "../suites/native-helper.ts";

const inside = process.env["WHERRY_TEST_NETNS"];
const tools = ["ip", "nft"].filter((tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0);
const reason = process.getuid?.() !== 0 ? "needs root" : tools.length > 0 ? `needs ${tools.join(" and ")}` : undefined;

const sh = (command: string): string => execFileSync("sh", ["-c", command], { encoding: "utf8" });

if (reason !== undefined) test.skip(`bridge networks: ${reason}`, () => undefined);
else if (inside === undefined) outer();
else inner(inside);

/** Runs this file in a namespace and passes its verdict on. */
function outer(): void {
  test("bridge networks, in a network namespace of their own", () => {
    const host = `wherry-t-${process.pid}`;
    sh(`ip netns add ${host} && ip -n ${host} link set lo up`);
    try {
      const vitest = join(import.meta.dirname, "../../node_modules/vitest/vitest.mjs");
      const args = ["netns", "exec", host, process.execPath, vitest, "run", "--project", "integration", import.meta.filename];
      const { status, stdout, stderr } = spawnSync("ip", args, {
        encoding: "utf8",
        env: { ...process.env, WHERRY_TEST_NETNS: host, WHERRY_HELPER: nativeHelper() },
      });
      console.log(stdout.slice(-20_000));
      expect(status, stderr.slice(-20_000)).toBe(0);
      expect(stdout).toMatch(/Tests .*[1-9][0-9]* passed/);
    } finally {
      sh(`ip netns del ${host}`);
    }
  });
}

function inner(host: string): void {
  const outside = `${host}-out`;
  const [HOST, OUTSIDE] = ["10.77.0.1", "10.77.0.2"];
  const bridge = { name: "wtest0", subnet: "172.30.0.0/24" };
  let folder: string;
  let helper: Helper;
  let networks: NetworkManager;
  let ids = 0;
  const running = new Map<string, MonitorLink>();
  const children: ChildProcess[] = [];
  const servers: Server[] = [];

  async function open(defaultBridge: { readonly name: string; readonly subnet?: string } = bridge): Promise<NetworkManager> {
    return await openNetworks({
      dataRoot: join(folder, "data"),
      helper,
      facts: await probeHost(),
      bridge: defaultBridge,
      log: (level, message) => level === "error" && console.error(message),
    });
  }

  const request = (name: string, options: Partial<JoinRequest> = {}): JoinRequest => ({
    containerId: `${name}${"0".repeat(64 - name.length)}`,
    containerName: name,
    hostname: name,
    networkName: "bridge",
    programSocket: "/nonexistent",
    endpoint: undefined,
    ports: {},
    ...options,
  });

  /** Node as the container's program, in a network namespace wired by `join`. */
  async function start(joins: readonly JoinResult[], id: string, script: string): Promise<MonitorLink> {
    const base = join(folder, String(++ids));
    const steps = joins.flatMap((each) => each.steps);
    const only = (where: Step["where"]) => steps.filter((step) => step.where === where);
    const plan: Step[] = [
      { op: "clone", where: "host", flags: CLONE.NEWNET, cgroup: NO_SLOT, why: "a process with a network of its own" },
      ...only("host"),
      { op: "signal", where: "host", id: 2, why: "wired" },
      { op: "await", where: "child", id: 2, why: "until it is wired" },
      { op: "netlink", where: "child", protocol: 0, messages: encodeMessages([linkUp(1)]), why: "loopback" },
      ...only("child"),
      { op: "setsid", where: "child", why: "a session" },
      { op: "stdio", where: "child", console: 0, why: "its output" },
      { op: "exec", where: "child", paths: [process.execPath], argv: ["node", "-e", script], envp: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], why: "the program" },
    ];
    const link = await helper.launch({
      plan: { steps: plan },
      stdio: { tty: false, rows: 0, columns: 0, openStdin: false, stdinOnce: false, attachGate: 0 },
      socketPath: `${base}.sock`,
      exitPath: `${base}.exit`,
      pidPath: `${base}.pid`,
      exitReports: [],
    });
    running.set(id, link);
    return link;
  }

  async function container(
    name: string,
    script: string,
    options: Partial<JoinRequest> = {},
  ): Promise<{ readonly id: string; readonly joined: JoinResult; readonly link: MonitorLink }> {
    const asked = request(name, options);
    const joined = await networks.join(asked, 4);
    return { id: asked.containerId, joined, link: await start([joined], asked.containerId, script) };
  }

  async function stop(id: string): Promise<void> {
    const link = running.get(id);
    running.delete(id);
    await link?.kill(9);
    await link?.exited;
    await networks.leave(id);
  }

  /** A server that says whom it sees. */
  const greeter = (port: number, at = "0.0.0.0") =>
    `require("net").createServer((c) => c.end("hello " + c.remoteAddress)).listen(${port}, "${at}"); setInterval(() => {}, 1e6)`;
  const echoUdp = (port: number) =>
    `const s = require("dgram").createSocket("udp4"); s.on("message", (m, r) => s.send("echo " + m, r.port, r.address)); s.bind(${port}); setInterval(() => {}, 1e6)`;

  /** What a server says, or the error's code. */
  async function ask(address: string, port: number, timeoutMs = 5000): Promise<string> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const answer = await askOnce(address, port, Math.min(1500, end - Date.now()));
      // the server may not be up yet
      if (answer !== "ECONNREFUSED" && answer !== "" && answer !== "ECONNRESET") return answer;
      if (Date.now() > end - 100) return answer;
      await sleep(50);
    }
  }

  function askOnce(host_: string, port: number, timeoutMs: number): Promise<string> {
    return new Promise((resolve) => {
      const socket = connect({ host: host_, port });
      let text = "";
      const timer = setTimeout(() => socket.destroy(Object.assign(new Error(), { code: "TIMEOUT" })), timeoutMs);
      socket.on("data", (data) => (text += data));
      socket.on("error", (error) => (text ||= (error as NodeJS.ErrnoException).code ?? "?"));
      socket.on("close", () => {
        clearTimeout(timer);
        resolve(text);
      });
    });
  }

  /** The same from another namespace: by pid, or "outside". */
  function askFrom(where: string | number, address: string, port: number): string {
    const client = `const s = require("net").connect(${port}, "${address}"); let t = ""; setTimeout(() => { console.log("TIMEOUT"); process.exit() }, 1200); s.on("data", (d) => t += d).on("error", (e) => t = e.code).on("close", () => { console.log(t); process.exit() })`;
    const enter = typeof where === "number" ? ["nsenter", "-t", String(where), "-n"] : ["ip", "netns", "exec", where];
    return execFileSync(enter[0]!, [...enter.slice(1), process.execPath, "-e", client], { encoding: "utf8" }).trim();
  }

  function listening(port: number, address: string, text: string): Promise<Server> {
    const server = createServer((socket) => socket.end(`${text} ${socket.remoteAddress}`));
    servers.push(server);
    return new Promise((resolve, reject) => server.once("error", reject).listen(port, address, () => resolve(server)));
  }

  const port = (text: string): PortBinding => ({ HostIp: "", HostPort: text });
  const ruleset = () => sh("nft list ruleset");
  const links = () =>
    sh("ip -o link")
      .split("\n")
      .filter(Boolean)
      .map((line) => line.split(": ")[1]?.split("@")[0] ?? "");

  beforeAll(async () => {
    sh(`ip netns add ${outside}; ip -n ${outside} link set lo up`);
    sh(`ip link add wire0 type veth peer name wire1 netns ${outside}; ip addr add ${HOST}/24 dev wire0; ip link set wire0 up`);
    sh(`ip -n ${outside} addr add ${OUTSIDE}/24 dev wire1; ip -n ${outside} link set wire1 up; ip -n ${outside} route add 172.16.0.0/12 via ${HOST}`);
    const server = spawn("ip", ["netns", "exec", outside, process.execPath, "-e", `${greeter(7000)}; console.log("up")`], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.push(server);
    await once(server.stdout!, "data");
  });

  afterAll(async () => {
    for (const child of children) child.kill("SIGKILL");
    sh(`ip netns del ${outside}`);
  });

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "wherry-network-"));
    helper = await startHelper({ helperPath: nativeHelper(), execRoot: folder, log: (line) => console.error(line) });
    networks = await open();
  });

  afterEach(async () => {
    for (const id of [...running.keys()]) await stop(id);
    await Promise.all(servers.splice(0).map((server) => new Promise((done) => server.close(done))));
    for (const { Name } of networks.list()) if (!["bridge", "host", "none"].includes(Name)) await networks.remove(Name);
    await networks.close();
    await helper.close();
    await rm(folder, { recursive: true, force: true });
    // whatever happened in a test, nothing of ours is left
    expect(ruleset()).not.toContain("wherry");
    expect(links().filter((name) => /^(veth|br-|wtest)/.test(name))).toEqual([]);
  });

  describe("bridge networks", () => {
    test("a container has an address, a gateway, and reaches the outside as the host", async () => {
      const { joined, link } = await container("one", greeter(80));
      expect(joined.endpoint).toMatchObject({
        NetworkName: "bridge",
        IPAddress: "172.30.0.2",
        IPPrefixLen: 24,
        Gateway: "172.30.0.1",
        MacAddress: "02:42:ac:1e:00:02",
      });
      expect(await ask("172.30.0.2", 80)).toBe("hello 172.30.0.1");
      const inner_ = sh(`nsenter -t ${link.pid} -n ip -o addr`);
      expect(inner_).toMatch(/eth0 +inet 172\.30\.0\.2\/24 brd 172\.30\.0\.255/);
      expect(inner_).not.toMatch(/eth0 +inet6/);
      expect(sh(`nsenter -t ${link.pid} -n ip route`)).toMatch(/^default via 172\.30\.0\.1 dev eth0/);
      expect(askFrom(link.pid, OUTSIDE, 7000)).toBe(`hello ${HOST}`);
      expect(askFrom(outside, "172.30.0.2", 80)).toBe("TIMEOUT"); // not published
    });

    test("a published port is reached from this host, from outside, by IPv6 and by the container itself", async () => {
      const { joined, link } = await container("web", greeter(80), { ports: { "80/tcp": [port("8080")], "81/tcp": [] } });
      expect(joined.ports).toEqual({
        "80/tcp": [
          { HostIp: "0.0.0.0", HostPort: "8080" },
          { HostIp: "::", HostPort: "8080" },
        ],
        "81/tcp": [],
      });
      expect(await ask("127.0.0.1", 8080)).toBe("hello 172.30.0.1");
      expect(await ask(HOST, 8080)).toMatch(/^hello /);
      expect(askFrom(outside, HOST, 8080)).toBe(`hello ${OUTSIDE}`); // the caller's address is kept
      expect(await ask("::1", 8080)).toBe("hello 172.30.0.1"); // relayed
      expect(askFrom(link.pid, HOST, 8080)).toMatch(/^hello /);
      expect(askFrom(link.pid, "172.30.0.1", 8080)).toMatch(/^hello /);
    });

    test("ports on one address, any free port, a range, and UDP", async () => {
      const { joined } = await container("many", `${greeter(80)}; ${echoUdp(53)}`, {
        ports: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "" }, port("9000-9002")], "53/udp": [port("5300")] },
      });
      const [local, ranged] = joined.ports["80/tcp"] ?? [];
      expect(local?.HostIp).toBe("127.0.0.1");
      expect(ranged).toEqual({ HostIp: "0.0.0.0", HostPort: "9000" });
      expect(await ask("127.0.0.1", Number(local?.HostPort))).toMatch(/^hello /);
      expect(askFrom(outside, HOST, Number(local?.HostPort))).toBe("ECONNREFUSED");
      const answer = async (address: string) => {
        const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
        socket.send("ping", 5300, address);
        const [data] = (await Promise.race([once(socket, "message"), sleep(2000).then(() => ["nothing"])])) as [Buffer | string];
        socket.close();
        return String(data);
      };
      expect(await answer("127.0.0.1")).toBe("echo ping");
      expect(await answer("::1")).toBe("echo ping");
    });

    test("containers that join at once are in one range, also when the default one has come into use elsewhere", async () => {
      await networks.close();
      networks = await open({ name: "wtest1" });
      const taken = networks.get("bridge").IPAM.Config[0]?.Subnet;
      sh(`ip route add ${taken} dev lo`);
      try {
        const joined = await Promise.all(["a", "b", "c", "d", "e", "f"].map((name) => networks.join(request(name), 4)));
        const { Subnet, Gateway } = networks.get("bridge").IPAM.Config[0]!;
        expect(Subnet).not.toBe(taken);
        for (const { endpoint } of joined) expect([endpoint.Gateway, endpoint.IPAddress.split(".", 2)]).toEqual([Gateway, Gateway!.split(".", 2)]);
        for (const name of ["a", "b", "c", "d", "e", "f"]) await networks.leave(request(name).containerId);
      } finally {
        sh(`ip route del ${taken} dev lo`);
      }
    });

    test("a taken port is refused in docker's words, whoever holds it, and nothing stays behind", async () => {
      await container("first", greeter(80), { ports: { "80/tcp": [port("8080")] } });
      const clash = networks.join(request("second", { ports: { "81/tcp": [port("8081")], "80/tcp": [port("8080")] } }), 4);
      await expect(clash).rejects.toThrow(
        /^driver failed programming external connectivity on endpoint second \([0-9a-f]{64}\): Bind for 0\.0\.0\.0:8080 failed: port is already allocated$/,
      );
      await listening(8081, "0.0.0.0", "free again");
      await expect(networks.join(request("third", { ports: { "80/tcp": [port("8081")] } }), 4)).rejects.toThrow(
        "Bind for 0.0.0.0:8081 failed: port is already allocated",
      );
      await expect(networks.join(request("fourth", { ports: { "80/tcp": [{ HostIp: "10.9.9.9", HostPort: "80" }] } }), 4)).rejects.toThrow(
        "cannot assign requested address",
      );
      expect((await container("fifth", greeter(80))).joined.endpoint.IPAddress).toBe("172.30.0.3"); // the refused ones hold no address
      expect(networks.members(networks.get("bridge").Id).map(({ name }) => name)).toEqual(["first", "fifth"]);
    });

    test("leaving frees the port, the rule and the address; it may be called twice, and for a container that never started", async () => {
      const { id, joined } = await container("web", greeter(80), { ports: { "80/tcp": [port("8080")] } });
      expect(ruleset()).toContain("tcp . 8080 : 172.30.0.2 . 80");
      await stop(id);
      await networks.leave(id);
      await expect.poll(ruleset).not.toContain("8080");
      await listening(8080, "0.0.0.0", "host");
      expect(await ask("127.0.0.1", 8080)).toBe("host 127.0.0.1");
      await expect.poll(() => existsSync(`/sys/class/net/${joined.endpoint.HostInterface}`)).toBe(false);
      const never = request("never", { ports: { "80/tcp": [port("8090")] } });
      await networks.join(never, 4);
      await networks.leave(never.containerId);
      await listening(8090, "0.0.0.0", "host");
      await expect
        .poll(async () => {
          const again = request("again");
          const { endpoint } = await networks.join(again, 4);
          await networks.leave(again.containerId);
          return endpoint.IPAddress;
        })
        .toBe("172.30.0.2");
    });

    test("a namespace that outlives its container loses the cable", async () => {
      const { id, link, joined } = await container("web", greeter(80));
      const other = spawn("nsenter", ["-t", String(link.pid), "-n", "sleep", "60"]);
      children.push(other);
      await expect.poll(() => sh(`readlink /proc/${other.pid}/ns/net`) !== sh("readlink /proc/self/ns/net")).toBe(true);
      await stop(id);
      expect(existsSync(`/sys/class/net/${joined.endpoint.HostInterface}`)).toBe(true);
      await expect.poll(() => existsSync(`/sys/class/net/${joined.endpoint.HostInterface}`), { timeout: 5000 }).toBe(false);
      other.kill("SIGKILL");
    });

    test("containers of one network see each other, those of two do not; internal ones see nobody else", async () => {
      await networks.create({ Name: "blue" });
      await networks.create({ Name: "inside", Internal: true });
      const a = await container("a", greeter(80));
      const b = await container("b", greeter(80));
      const c = await container("c", greeter(80), { networkName: "blue" });
      const d = await container("d", greeter(80), { networkName: "inside", ports: { "80/tcp": [port("8085")] } });
      expect(await ask(b.joined.endpoint.IPAddress, 80)).toMatch(/^hello /); // it is up
      expect(askFrom(a.link.pid, b.joined.endpoint.IPAddress, 80)).toBe(`hello ${a.joined.endpoint.IPAddress}`);
      expect(await ask(c.joined.endpoint.IPAddress, 80)).toMatch(/^hello /);
      expect(askFrom(a.link.pid, c.joined.endpoint.IPAddress, 80)).toBe("TIMEOUT");
      expect(askFrom(c.link.pid, OUTSIDE, 7000)).toBe(`hello ${HOST}`);
      expect(askFrom(d.link.pid, OUTSIDE, 7000)).toBe("ENETUNREACH");
      expect(d.joined.ports).toEqual({});
      expect(c.joined.endpoint.DNSNames).toContain("c");
    });

    test("a network without communication between containers", async () => {
      await networks.create({ Name: "apart", Options: { "com.docker.network.bridge.enable_icc": "false" } });
      const a = await container("a", greeter(80), { networkName: "apart" });
      const b = await container("b", greeter(80), { networkName: "apart" });
      expect(await ask(b.joined.endpoint.IPAddress, 80)).toMatch(/^hello /);
      expect(askFrom(a.link.pid, b.joined.endpoint.IPAddress, 80)).toMatch(/TIMEOUT|EHOSTUNREACH/);
      expect(askFrom(a.link.pid, OUTSIDE, 7000)).toBe(`hello ${HOST}`);
    });

    test("a container on two networks", async () => {
      await networks.create({ Name: "blue" });
      const first = await networks.join(request("two"), 4);
      const second = await networks.join(request("two", { networkName: "blue" }), 5);
      const link = await start([first, second], request("two").containerId, greeter(80));
      for (const { endpoint } of [first, second]) expect(await ask(endpoint.IPAddress, 80)).toMatch(/^hello /);
      expect(sh(`nsenter -t ${link.pid} -n ip -o -4 addr`)).toMatch(/eth0.*\n.*eth1/);
      expect(sh(`nsenter -t ${link.pid} -n ip route`).match(/^default/gm)).toHaveLength(1);
    });

    test("services of the host that listen on 127.0.0.1 stay out of reach for containers", async () => {
      await listening(7777, "127.0.0.1", "secret");
      const { link } = await container("evil", "setInterval(() => {}, 1e6)");
      // the container routes 127.0.0.1 to its gateway
      sh(
        `nsenter -t ${link.pid} -n sh -c 'sysctl -qw net.ipv4.conf.all.route_localnet=1; ip route del local 127.0.0.0/8 table local; ip route del local 127.0.0.1 table local; ip route add 127.0.0.1/32 via 172.30.0.1 dev eth0 src 172.30.0.2'`,
      );
      expect(askFrom(link.pid, "127.0.0.1", 7777)).toBe("TIMEOUT");
    });

    test("a new daemon takes running containers over and sweeps what nobody owns", async () => {
      const web = await container("web", greeter(80), { ports: { "80/tcp": [port("8080")] } });
      const lost = await container("lost", greeter(80), { ports: { "80/tcp": [port("8081")] } });
      const before = networks;
      networks = await open();
      const blocked = networks.join(request("early", { ports: { "80/tcp": [port("8080")] } }), 4); // the old daemon still holds it
      await expect(blocked).rejects.toThrow("port is already allocated");
      await before.close(); // its sockets close, its rules and interfaces stay, as when it is killed
      await networks.restore([{ containerId: web.id, containerName: "web", endpoints: [web.joined.endpoint], ports: web.joined.ports }]);
      expect(await ask("127.0.0.1", 8080)).toBe("hello 172.30.0.1");
      expect(await ask("::1", 8080)).toBe("hello 172.30.0.1");
      expect(ruleset()).not.toContain("8081");
      expect(existsSync(`/sys/class/net/${lost.joined.endpoint.HostInterface}`)).toBe(false);
      await expect(networks.join(request("late", { ports: { "80/tcp": [port("8080")] } }), 4)).rejects.toThrow("port is already allocated");
      const next = await container("next", greeter(80), { ports: { "80/tcp": [port("8081")] } });
      expect(next.joined.endpoint.IPAddress).toBe("172.30.0.3");
      expect(networks.members(networks.get("bridge").Id).map(({ name }) => name)).toEqual(["web", "next"]);
      await stop(lost.id);
    });

    test("the bridge and the rules are made again when they are gone", async () => {
      const one = await container("one", greeter(80));
      await stop(one.id);
      sh("ip link del wtest0; nft flush ruleset");
      const two = await container("two", greeter(80), { ports: { "80/tcp": [port("8080")] } });
      expect(await ask("127.0.0.1", 8080)).toMatch(/^hello /);
      expect(two.joined.endpoint.IPAddress).toMatch(/^172\.30\.0\.[23]$/);
    });

    test("ranges that the host routes are not given away", async () => {
      sh("ip link add busy type bridge; ip addr add 172.17.0.9/24 dev busy; ip link set busy up");
      try {
        const { id } = await networks.create({ Name: "next" });
        expect(networks.get(id).IPAM.Config[0]?.Subnet).toBe("172.17.1.0/24");
        await networks.create({ Name: "over" });
        expect(networks.get("over").IPAM.Config[0]?.Subnet).toBe("172.17.2.0/24");
      } finally {
        sh("ip link del busy");
      }
    });

    test("rules of hundreds of bridges and thousands of ports", async () => {
      const bridges = Array.from({ length: 200 }, (_, i) => ({
        networkName: `many${i}`,
        interfaceName: `br-${i}`,
        ipv4: {
          subnet: parseCidr(`10.${i}.0.0/24`)!,
          gateway: parseAddress(`10.${i}.0.1`)!,
          masquerade: true,
          source: undefined,
          mode: "nat" as const,
          onHost: true,
        },
        ipv6: undefined,
        macvlan: undefined,
        mtu: 1500,
        icc: true,
        internal: false,
        interfacePrefix: "eth",
        trusted: [],
        hostBinding: undefined,
      }));
      const ports = Array.from({ length: 5000 }, (_, i) => ({
        protocol: "tcp" as const,
        hostAddress: undefined,
        hostPort: 20_000 + i,
        address: parseAddress("10.0.0.2")!,
        port: 20_000 + i,
      }));
      const step = (messages: Parameters<typeof encodeMessages>[0]): Step => ({
        op: "netlink",
        where: "host",
        protocol: 12,
        messages: encodeMessages(messages),
        why: "rules",
      });
      await helper.call({
        steps: [step(rulesTransaction({ table: "wherry-many", bridges, closeForwarding: [] })), ...publishTransactions("wherry-many", ports).map(step)],
      });
      expect(ruleset().match(/oifname "br-\d+" drop/g)).toHaveLength(200);
      expect(ruleset().match(/tcp \. 2\d{4} :/g)).toHaveLength(5000);
      await helper.call({ steps: [step(removalTransaction("wherry-many"))] });
    });

    test("none has no interfaces, host no record of addresses", async () => {
      const none = await networks.join(request("n", { networkName: "none" }), 4);
      expect([none.steps, none.ports, none.endpoint.IPAddress]).toEqual([[], {}, ""]);
      const host_ = await networks.join(request("h", { networkName: "host" }), 4);
      expect(host_.endpoint.NetworkID).toBe(networks.get("host").Id);
      await networks.leave(none.endpoint.EndpointID);
    });

    test("forwarding that was off is turned on for bridges only", async () => {
      await writeFile("/proc/sys/net/ipv4/ip_forward", "0");
      const { link } = await container("one", greeter(80));
      expect((await readFile("/proc/sys/net/ipv4/ip_forward", "utf8")).trim()).toBe("1");
      expect(askFrom(link.pid, OUTSIDE, 7000)).toBe(`hello ${HOST}`);
      expect(ruleset()).toContain('iifkind != "bridge" meta oifkind != "bridge" drop');
    });
  });
}
