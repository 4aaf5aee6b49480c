/** What users of the command line see of networks: where ports are published, who answers for a name, whom a container may call. With a daemon, in a network namespace of the test's own. */
import { createSocket, type Socket } from "node:dgram";
import dns from "dns-packet";
import { afterAll, beforeAll, expect, test } from "vitest";
import { hostResolvConf, inOwnHost } from "../integration/own-host.fixture.ts";
import { TestDaemon, wherryPath } from "./daemon.ts";
import { eventually, ok, run, terminal } from "./run.ts";

inOwnHost(import.meta.filename, "networks on the command line", ["nsenter"], () => {
  const daemon = new TestDaemon();
  let resolver: Socket;
  let restoreResolvConf: () => void;
  const env = { WHERRY_HOST: daemon.host };
  const wherry = (...args: string[]) => ok([wherryPath, ...args], { env });
  const said = (...args: string[]) => run([wherryPath, ...args], { env });

  beforeAll(async () => {
    resolver = createSocket("udp4", (message, { port, address }) => {
      const { id = 0, questions = [] } = dns.decode(message);
      const name = questions[0]?.name ?? "";
      const answers = name === "outside.example" ? [{ type: "A" as const, name, ttl: 5, data: "192.0.2.1" }] : [];
      resolver.send(dns.encode({ type: "response", id, flags: answers.length > 0 ? 0x0180 : 0x0183, questions, answers }), port, address);
    });
    resolver.bind(53, "127.0.0.1");
    restoreResolvConf = hostResolvConf("nameserver 127.0.0.1\n");
    await daemon.start();
    await wherry("image", "bootstrap", "busybox");
  }, 60_000);
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
    resolver.close();
    restoreResolvConf();
  });

  test("published on 127.0.0.1 unless told otherwise; by the API on all addresses; ps marks what is open to the world", async () => {
    await wherry("run", "-d", "--name", "mine", "-p", "8123:80", "-p", "8125-8126:81-82", "busybox", "sleep", "1000");
    await wherry("run", "-d", "--name", "all", "-p", "0.0.0.0:8124:80", "busybox", "sleep", "1000");
    await wherry("run", "-d", "--name", "flag", "--publish-host", "0.0.0.0", "-P", "--expose", "90", "busybox", "sleep", "1000");
    const HostConfig = { PortBindings: { "80/tcp": [{ HostPort: "8127" }] } };
    const { Id } = (await daemon.api("POST", "/containers/create?name=client", { Image: "busybox", Cmd: ["sleep", "1000"], HostConfig })).json<{
      Id: string;
    }>();
    expect((await daemon.api("POST", `/containers/${Id}/start`)).status).toBe(204);
    expect(await wherry("port", "mine")).toBe("80/tcp -> 127.0.0.1:8123\n81/tcp -> 127.0.0.1:8125\n82/tcp -> 127.0.0.1:8126");
    expect(await wherry("port", "all")).toBe("80/tcp -> 0.0.0.0:8124");
    expect(await wherry("port", "flag")).toMatch(/^90\/tcp -> 0\.0\.0\.0:\d+/);
    expect(await wherry("port", "client")).toBe("80/tcp -> 0.0.0.0:8127\n80/tcp -> [::]:8127");
    const rows = (text: string, name: string) => text.split("\n").find((line) => line.includes(` ${name} `) || line.trimEnd().endsWith(name)) ?? "";
    const plain = await wherry("ps");
    expect(plain).not.toContain("open to the world");
    const marked = terminal([wherryPath, "ps"], { rows: 30, columns: 300, env });
    expect(await marked.exited).toBe(0);
    expect(rows(marked.shown(), "client")).toContain("0.0.0.0:8127->80/tcp (open to the world)");
    expect(rows(marked.shown(), "all")).toContain("(open to the world)");
    expect(rows(marked.shown(), "mine")).not.toContain("(open to the world)");
    await wherry("rm", "-f", "mine", "all", "flag", "client");
  });

  test("dns trace: which network, which server, and why nobody is asked", async () => {
    await wherry("network", "create", "--subnet", "10.77.5.0/24", "blue");
    await wherry("network", "create", "--internal", "dark");
    await wherry("run", "-d", "--name", "web", "--network", "blue", "--network-alias", "www", "busybox", "sleep", "1000");
    await wherry("run", "-d", "--name", "alone", "--network", "dark", "busybox", "sleep", "1000");
    await wherry("run", "-d", "--name", "shut", "--network", "blue", "--egress", "allow=outside.example:443", "busybox", "sleep", "1000");
    expect(await wherry("dns", "trace", "www")).toBe("network blue: web at 10.77.5.2");
    expect(await wherry("dns", "trace", "--from", "web", "shut")).toBe("network blue: shut at 10.77.5.3");
    expect(await wherry("dns", "trace", "--from", "web", "outside.example")).toMatch(
      /^no network of web knows it\nserver 127\.0\.0\.1: A 192\.0\.2\.1 \(5 s\) \(\d+\.\d ms\)$/,
    );
    const unknown = await said("dns", "trace", "nowhere.example");
    expect([unknown.code, unknown.stdout]).toEqual([0, expect.stringMatching(/^no network knows it\nserver 127\.0\.0\.1: NXDOMAIN/)]);
    const alone = await said("dns", "trace", "--from", "alone", "outside.example");
    expect([alone.code, alone.stdout]).toEqual([1, "no network of alone knows it\nnobody is asked: alone is on internal networks only\n"]);
    expect(await wherry("dns", "trace", "--from", "shut", "outside.example")).toContain("server 127.0.0.1: A 192.0.2.1");
    const shut = await said("dns", "trace", "--from", "shut", "evil.example");
    expect([shut.code, shut.stdout]).toEqual([1, "no network of shut knows it\nnobody is asked: the egress rules of shut do not name it\n"]);
    expect((await said("dns", "trace", "--from", "nobody", "x")).stderr).toContain("No such container: nobody");
    await wherry("rm", "-f", "web", "alone", "shut");
    await wherry("network", "rm", "blue", "dark");
  });

  test("egress rules: inspect has them, events tell of refusals", async () => {
    const from = new Date(Date.now() - 1000).toISOString();
    await wherry("run", "-d", "--name", "shut", "--egress", "deny", "busybox", "sleep", "1000");
    expect(await wherry("inspect", "-f", "{{json .HostConfig.WherryEgress}}", "shut")).toBe("[]");
    const refused = await said("exec", "shut", "nc", "-w", "2", "192.0.2.9", "443");
    expect(refused.code).not.toBe(0);
    const events = () => wherry("events", "--since", from, "--until", new Date().toISOString(), "--filter", "event=refuse", "--format", "{{json .}}");
    const told = await eventually(events, (text) => text !== "", 5000);
    expect(JSON.parse(told.split("\n")[0] ?? "")).toMatchObject({
      Type: "container",
      Action: "refuse",
      Actor: { Attributes: { name: "shut", address: "192.0.2.9", protocol: "tcp", port: "443" } },
    });
    await wherry("update", "--egress", "allow=192.0.2.9:443", "shut");
    expect(await wherry("inspect", "-f", "{{json .HostConfig.WherryEgress}}", "shut")).toBe('["192.0.2.9:443"]');
    expect((await said("update", "--egress", "x:0", "shut")).stderr).toContain('invalid egress rule "x:0": ports are 1 to 65535');
    expect((await said("run", "--egress", "x:0", "busybox", "true")).stderr).toContain('invalid egress rule "x:0": ports are 1 to 65535');
    await wherry("rm", "-f", "shut");
  });

  test("limits of the bandwidth: stats shows them, of containers that have some", async () => {
    await wherry("run", "-d", "--name", "free", "busybox", "sleep", "1000");
    expect(await wherry("stats", "--no-stream", "free")).not.toContain("NET LIMIT");
    await wherry("run", "-d", "--name", "slow", "--network-rate", "20mbit", "--network-rate-egress", "5mbit", "busybox", "sleep", "1000");
    const shown = async () => (await wherry("stats", "--no-stream", "--format", "{{.Name}} {{.NetLimit}}")).split("\n").sort();
    expect(await shown()).toEqual(["free --", "slow 20mbit / 5mbit"]);
    expect(await wherry("stats", "--no-stream", "slow")).toMatch(/NET I\/O +NET LIMIT +BLOCK I\/O/);
    await wherry("update", "--network-rate-ingress", "1mbit", "slow");
    expect(await shown()).toEqual(["free --", "slow 1mbit / 5mbit"]);
    await wherry("rm", "-f", "free", "slow");
  });
});
