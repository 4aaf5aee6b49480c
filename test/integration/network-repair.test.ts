/** What others do to the host's firewall and bridges while containers run. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { EngineEvent } from "#engine/mod.ts";
import { eventually, TestEngine, until } from "./engine-setup.ts";
import { inOwnHost, sh } from "./own-host.fixture.ts";

inOwnHost(import.meta.filename, "repairs", ["nft"], () => {
  let t: TestEngine;
  let table: string;
  let id: string;
  let events: EngineEvent[];
  let stop: AbortController;
  const page = "echo hi >/tmp/index.html; httpd -f -p 80 -h /tmp";
  const get = (url: string) => fetch(url, { headers: { connection: "close" }, signal: AbortSignal.timeout(1000) }).then((reply) => reply.text(), String);
  const back = (url: string) =>
    eventually(
      () => get(url),
      (text) => text === "hi\n",
      5000,
    );
  const ruleset = () => sh("nft list ruleset");
  const address = () => t.engine.containers.get(id).endpoints.blue?.IPAddress;

  beforeAll(async () => {
    t = await TestEngine.open();
    table = `wherry-${t.options.bridge?.name}`;
  }, 60_000);
  beforeEach(async () => {
    events = [];
    stop = new AbortController();
    void (async () => {
      for await (const event of t.engine.system.events({ sinceNs: undefined, untilNs: undefined, signal: stop.signal, filters: {} }))
        if (event.Action === "repair") events.push(event);
    })().catch(() => undefined);
    await t.engine.networks.create({ Name: "blue", IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "10.88.1.0/24" }] } });
    id = await t.start(["sh", "-c", page], {}, { NetworkMode: "blue", PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "8077" }] } });
    expect(await back("http://127.0.0.1:8077/")).toBe("hi\n");
  });
  afterEach(async () => {
    stop.abort();
    await t.removeAll();
    await t.removeNetworks();
  });
  afterAll(() => t[Symbol.asyncDispose]());

  test.each([
    ["the whole ruleset", () => "flush ruleset"],
    ["our table's rules", () => `flush table inet ${table}`],
    ["our table", () => `delete table inet ${table}`],
    ["a chain's rules", () => `flush chain inet ${table} published`],
    ["the published ports", () => `flush map inet ${table} ports`],
  ])("%s is flushed: everything is there again, and an event says so", async (_what, command) => {
    sh(`nft '${command()}'`);
    await eventually(
      async () => events.length,
      (count) => count > 0,
      5000,
    );
    expect(ruleset()).toMatch(new RegExp(`tcp \\. 8077 : ${address()?.replaceAll(".", "\\.")} \\. 80`));
    expect(ruleset()).toContain("jump published");
    expect(await back("http://127.0.0.1:8077/")).toBe("hi\n");
    expect(events).toMatchObject([{ Type: "daemon", Action: "repair", Actor: { Attributes: { what: "rules" } } }]);
  });

  test("a network's bridge is removed", async () => {
    const { Id } = t.engine.networks.get("blue");
    sh(`ip link del br-${Id.slice(0, 12)}`);
    await eventually(
      async () => events.length,
      (count) => count > 0,
      5000,
    );
    expect(await back("http://127.0.0.1:8077/")).toBe("hi\n");
    expect((await t.exec(id, ["ping", "-c", "1", "-W", "2", "10.88.1.1"])).out).toContain("1 packets received");
    expect(events).toMatchObject([{ Type: "network", Action: "repair", Actor: { ID: Id, Attributes: { what: "bridge", name: "blue" } } }]);
  });

  test("our own changes, other tables, and rules of the administrator are nobody's loss", async () => {
    sh(`nft add rule inet ${table} user ip daddr ${address()} tcp dport 80 counter drop`);
    sh(
      "nft add table inet others; nft add chain inet others c; nft add rule inet others c counter; nft flush ruleset inet others 2>/dev/null; nft delete table inet others",
    );
    const other = await t.start(["sleep", "100"], {}, { NetworkMode: "blue", PortBindings: { "81/tcp": [{ HostIp: "", HostPort: "8078" }] } });
    await t.engine.containers.remove(other, { force: true, volumes: true });
    sh(`nft flush chain inet ${table} user`);
    sh(`nft add rule inet ${table} user meta mark 7 drop`);
    await sleep(300);
    expect(events).toEqual([]);
    sh(`nft flush chain inet ${table} forward`); // what is restored then leaves the administrator's rule alone
    await eventually(
      async () => events.length,
      (count) => count > 0,
      5000,
    );
    expect(ruleset()).toContain("meta mark 0x00000007 drop");
    await t.reopen();
    expect(ruleset()).toContain("meta mark 0x00000007 drop");
  });

  test("firewalls of others are reloaded: their own tables come and go, ours stays", async () => {
    // as firewalld does it (its table, replaced in one transaction) and ufw (all of the filter table by iptables-restore)
    const zones = "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept; ct state established accept; }; }";
    for (let i = 0; i < 2; i++) sh(`printf '%s' 'add table inet firewalld; delete table inet firewalld; ${zones}' | nft -f -`);
    if (sh("command -v iptables-restore || true") !== "")
      sh("printf '*filter\\n:INPUT ACCEPT\\n:FORWARD ACCEPT\\n:OUTPUT ACCEPT\\nCOMMIT\\n' | iptables-restore");
    expect(await get("http://127.0.0.1:8077/")).toBe("hi\n");
    expect(ruleset()).toContain(`table inet ${table}`);
    await sleep(200);
    expect(events).toEqual([]);
    // older ones flush everything and load their own
    sh(`printf '%s' 'flush ruleset; ${zones}' | nft -f -`);
    await eventually(
      async () => events.length,
      (count) => count > 0,
      5000,
    );
    expect(await back("http://127.0.0.1:8077/")).toBe("hi\n");
    expect(ruleset()).toContain("table inet firewalld");
    expect(events).toMatchObject([{ Action: "repair" }]);
    sh("nft delete table inet firewalld; nft delete table ip filter 2>/dev/null || true");
  });

  test.skipIf(sh("command -v iptables-nft || true") === "")(
    "beside Docker, whose policy drops what is not its own: our bridges are let through, again after its rules were made anew; iptables goes on reading them",
    async () => {
      const docker = () =>
        sh("iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -I FORWARD -j DOCKER-USER; iptables-nft -A DOCKER-USER -j RETURN");
      const pings = async () => (await t.exec(id, ["ping", "-c", "1", "-W", "1", "10.79.0.2"])).code;
      sh("ip netns add out; ip link add wire0 type veth peer name wire1 netns out; ip link set wire0 up; ip addr add 10.79.0.1/24 dev wire0");
      sh("ip -n out link set wire1 up; ip -n out addr add 10.79.0.2/24 dev wire1");
      try {
        docker();
        await eventually(pings, (code) => code === 0, 5000);
        const { Id } = t.engine.networks.get("blue");
        expect(sh("iptables-nft -S FORWARD")).toContain(`-A FORWARD -i br-${Id.slice(0, 12)}`);
        sh("iptables-nft -F FORWARD; iptables-nft -I FORWARD -j DOCKER-USER");
        await eventually(pings, (code) => code === 0, 5000);
        expect(sh("iptables-nft -S FORWARD").match(/-i br-/g)).toHaveLength(1);
        sh("iptables-nft -I DOCKER-USER -o wire0 -j DROP"); // what an administrator has there goes first
        expect(await pings()).not.toBe(0);
        await t.engine.networks.create({ Name: "other" });
        await t.engine.networks.remove("other");
        await until(() => sh("iptables-nft -S FORWARD").match(/-i br-/g)?.length === 1);
        expect(events).toEqual([]);
      } finally {
        sh("ip netns del out; nft delete table ip filter");
      }
    },
  );

  test("a second table drops: that holds; ours comes back when it was flushed with it", async () => {
    sh("nft add table inet guard; nft add chain inet guard f '{ type filter hook forward priority 10 ; }'; nft add rule inet guard f tcp dport 80 drop");
    const before = await t.exec(id, ["true"]);
    expect(before.code).toBe(0);
    sh("nft flush ruleset");
    expect(await back("http://127.0.0.1:8077/")).toBe("hi\n");
  });
});
