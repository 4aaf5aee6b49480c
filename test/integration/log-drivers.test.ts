/** Log drivers on real containers, against services of the test: lines arrive in order, survive the engine, hold the container back or are dropped, and `logs` reads them all. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Journald } from "#container/logs/services/journald.ts";
import { startHelper } from "#linux/helper-client.ts";
import { helperPath, TestEngine, until } from "./engine-setup.ts";

/** A TCP service that keeps what it gets. */
class Receiver implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  bytes = Buffer.alloc(0);
  /** Called with what has come on a connection. */
  answer: ((data: Buffer, socket: Socket) => void) | undefined;

  constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on("data", (data) => {
        this.bytes = Buffer.concat([this.bytes, data]);
        this.answer?.(data, socket);
      });
      socket.on("error", () => undefined);
    });
  }
  async listen(port = 0): Promise<number> {
    await once(this.#server.listen(port, "127.0.0.1"), "listening");
    return (this.#server.address() as { port: number }).port;
  }
  get text(): string {
    return this.bytes.toString();
  }
  get lines(): string[] {
    return this.text.split("\n").slice(0, -1);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Datagrams to a unix socket, which Node cannot receive: one line of JSON (latin1) for each. */
async function datagrams(path: string): Promise<{ readonly got: string[]; readonly close: () => void }> {
  const program = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("ready", flush=True)
while True: print(json.dumps(s.recv(1 << 20).decode("latin1")), flush=True)`;
  const python = spawn("python3", ["-c", program, path], { stdio: ["ignore", "pipe", "inherit"] });
  const got: string[] = [];
  let rest = "";
  const ready = new Promise<void>((resolve) =>
    python.stdout.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) line === "ready" ? resolve() : got.push(JSON.parse(line) as string);
    }),
  );
  await ready;
  return { got, close: () => void python.kill("SIGKILL") };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe.skipIf(process.getuid?.() !== 0)("log drivers", () => {
  let t: TestEngine;
  let directory: string;
  beforeAll(async () => {
    t = await TestEngine.open();
    directory = await mkdtemp(join(tmpdir(), "wherry-log-"));
  });
  afterEach(() => t.removeAll(), 20_000);
  afterAll(async () => {
    await t[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  const sh = (script: string, Type: string, Config: Record<string, string>, config: object = {}) =>
    t.create(["sh", "-c", script], config, { LogConfig: { Type, Config } }, undefined);
  const ended = async (id: string) => {
    const end = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    return end;
  };
  const filesOf = (id: string) => readdirSync(join(t.options.dataRoot, "containers", id)).filter((name) => name.includes("-json.log"));

  test("syslog over TCP: every line once, in order, with tag, priority and time; logs reads them too", async () => {
    await using service = new Receiver();
    const port = await service.listen();
    const options = { "syslog-address": `tcp://127.0.0.1:${port}`, "syslog-format": "rfc5424micro", "syslog-facility": "local3", tag: "{{.Name}}/{{.ID}}" };
    const id = await sh("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo bad >&2", "syslog", options);
    const { name } = t.engine.containers.get(id);
    expect((await ended(id)).exitCode).toBe(0);
    await until(() => service.lines.length >= 3001);
    const out = service.lines.filter((line) => line.startsWith("<158>")); // local3 (19) · 8 + info (6)
    expect(out.map((line) => line.replace(/^.* - /, ""))).toEqual(Array.from({ length: 3000 }, (_, i) => `line ${i}`));
    expect(out[0]).toMatch(
      new RegExp(`^<158>1 \\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z \\S+ ${name}/${id.slice(0, 12)} \\d+ ${name}/${id.slice(0, 12)} - line 0$`),
    );
    expect(service.lines.filter((line) => line.startsWith("<155>")).map((line) => line.replace(/^.* - /, ""))).toEqual(["bad"]);
    expect((await t.logs(id)).out.split("\n")).toHaveLength(3001);
  });

  test("syslog to a unix socket of datagrams", async () => {
    const path = join(directory, "log");
    const service = await datagrams(path);
    try {
      const id = await sh("echo one; echo two", "syslog", { "syslog-address": `unixgram://${path}` });
      await ended(id);
      await until(() => service.got.length === 2);
      expect(service.got.map((text) => text.replace(/^<30>\w{3} [ \d]\d \d\d:\d\d:\d\d /, ""))).toEqual([
        `${id.slice(0, 12)}[${process.pid}]: one`,
        `${id.slice(0, 12)}[${process.pid}]: two`,
      ]);
    } finally {
      service.close();
    }
  });

  test("journald: the fields of a line, a value with a newline by its length, a part of a line as such", async () => {
    const path = join(directory, "journal");
    const service = await datagrams(path);
    const helper = await startHelper({ helperPath, execRoot: directory, log: () => undefined });
    try {
      const source = { id: "a".repeat(64), name: "web", imageName: "busybox", tag: "t", options: {}, extra: { "com.x.y": "1\n2" } };
      const journald = new Journald(source, helper, path);
      await journald.check();
      await journald.send([
        { stream: "stderr", timeNs: 1n, log: Buffer.from("hello\n") },
        { stream: "stdout", timeNs: 1n, log: Buffer.from("part") },
      ]);
      await until(() => service.got.length === 2);
      expect(service.got[0]?.replace(/(?<=EPOCH=)[0-9a-f]{64}/, "<random>")).toBe(
        "MESSAGE=hello\nPRIORITY=3\nSYSLOG_TIMESTAMP=1970-01-01T00:00:00.000000001Z\nCONTAINER_LOG_ORDINAL=1\nCONTAINER_ID=aaaaaaaaaaaa\n" +
          `CONTAINER_ID_FULL=${source.id}\nCONTAINER_NAME=web\nCONTAINER_TAG=t\nIMAGE_NAME=busybox\nSYSLOG_IDENTIFIER=t\nCONTAINER_LOG_EPOCH=<random>\n` +
          "COM_X_Y\n\x03\0\0\0\0\0\0\x001\n2\n",
      );
      expect(service.got[1]).toContain("MESSAGE=part\nPRIORITY=6\n");
      expect(service.got[1]).toContain("CONTAINER_PARTIAL_MESSAGE=true\n");
      await expect(new Journald(source, helper, `${path}-none`).check()).rejects.toThrow("journald is not enabled on this host");
    } finally {
      await helper.close();
      service.close();
    }
  });

  const noRsyslog = spawnSync("sh", ["-c", "command -v rsyslogd"]).status === 0 ? undefined : "no rsyslogd";
  if (noRsyslog) console.warn(`log drivers: rsyslog: skipped: ${noRsyslog}`);
  test.skipIf(noRsyslog !== undefined)("a real rsyslogd, by datagrams and by TCP: tag, facility, severity and text as it understands them", async () => {
    const out = join(directory, "rsyslog.out");
    const socket = join(directory, "rsyslog.sock");
    const port = await freePort();
    const config = [
      `module(load="imuxsock" SysSock.Use="off")`,
      `module(load="imtcp")`,
      `input(type="imuxsock" Socket="${socket}")`,
      `input(type="imtcp" address="127.0.0.1" port="${port}")`,
      `template(name="seen" type="string" string="%syslogfacility-text% %syslogseverity-text% %programname% %msg%\\n")`,
      `action(type="omfile" file="${out}" template="seen")`,
    ];
    await writeFile(join(directory, "rsyslog.conf"), `${config.join("\n")}\n`);
    const daemon = spawn("rsyslogd", ["-n", "-f", join(directory, "rsyslog.conf"), "-i", join(directory, "rsyslog.pid")], { stdio: "ignore" });
    try {
      await until(() => existsSync(socket));
      const lines = () =>
        existsSync(out)
          ? readFileSync(out, "utf8")
              .split("\n")
              .filter((line) => line.includes("cats"))
          : [];
      const options = { "syslog-facility": "local5", tag: "cats" };
      const unix = await sh("echo by unix; echo wrong >&2", "syslog", { ...options, "syslog-address": `unixgram://${socket}` });
      await ended(unix);
      const tcp = await sh("echo by tcp", "syslog", { ...options, "syslog-address": `tcp://127.0.0.1:${port}`, "syslog-format": "rfc5424" });
      await ended(tcp);
      await until(() => lines().length >= 3);
      expect(
        lines()
          .map((line) => line.replace(/ +/g, " ").trim())
          .sort(),
      ).toEqual(["local5 err cats wrong", "local5 info cats by tcp", "local5 info cats by unix"]);
    } finally {
      const gone = once(daemon, "exit");
      daemon.kill("SIGTERM");
      await gone;
    }
  });

  test("fluentd: records with labels and env, acknowledged; a lost connection loses nothing", async () => {
    await using service = new Receiver();
    let connections = 0;
    service.answer = (data, socket) => {
      const chunk = /\xa5chunk\xb8(.{24})/s.exec(data.toString("latin1"))?.[1];
      if (chunk === undefined) return;
      if (connections++ === 0)
        socket.destroy(); // the first batch is never acknowledged
      else socket.write(Buffer.concat([Buffer.of(0x81, 0xa3), Buffer.from("ack"), Buffer.of(0xb8), Buffer.from(chunk, "latin1")]));
    };
    const port = await service.listen();
    const options = {
      "fluentd-address": `127.0.0.1:${port}`,
      "fluentd-request-ack": "true",
      "fluentd-retry-wait": "50ms",
      labels: "team",
      env: "STAGE",
      tag: "app.{{.Name}}",
    };
    const id = await sh("echo hello", "fluentd", options, { Labels: { team: "sea", other: "no" }, Env: ["STAGE=prod"] });
    await ended(id);
    await until(() => connections === 2);
    const text = service.bytes.toString("latin1");
    expect(text.split("hello")).toHaveLength(3); // sent again
    const { name } = t.engine.containers.get(id);
    for (const part of [`app.${name}`, `container_name`, `/${name}`, "\xa4team\xa3sea", "\xa5STAGE\xa4prod", "\xa6source\xa6stdout", `container_id\xd9@${id}`])
      expect(text.includes(part) || text.includes(part.replace("\xd9@", "\xda\0@"))).toBe(true);
    expect(text).not.toContain("other");
  });

  test("fluentd: the parts of a long line tell which they are; bytes that are no text arrive as they were", async () => {
    await using service = new Receiver();
    const port = await service.listen();
    const id = await sh("head -c 20000 /dev/zero | tr '\\0' x; printf '\\377\\n'; echo short", "fluentd", {
      "fluentd-address": `127.0.0.1:${port}`,
      tag: "<tag>",
    });
    await ended(id);
    await until(() => service.text.includes("short"));
    const messages = service.bytes.toString("latin1").split("<tag>").slice(1);
    const said = (key: string) => messages.map((message) => new RegExp(`${key}(?:[\\xa0-\\xbf]|\\xda\\0@)([0-9a-z]+)`).exec(message)?.[1]);
    expect(said("partial_ordinal")).toEqual(["1", "2", undefined]);
    expect(said("partial_last")).toEqual(["false", "true", undefined]);
    expect(said("partial_message")).toEqual(["true", "true", undefined]);
    const [first, second, none] = said("partial_id");
    expect(second).toBe(first);
    expect([first?.length, none]).toEqual([64, undefined]);
    expect(messages[1]).toContain("x\xff");
  });

  test("fluentd: after so many tries a batch is given up, where that is asked for", async () => {
    await using service = new Receiver();
    let batches = 0;
    service.answer = (_data, socket) => {
      batches++;
      socket.destroy(); // never acknowledged
    };
    const port = await service.listen();
    const options = { "fluentd-address": `127.0.0.1:${port}`, "fluentd-request-ack": "true", "fluentd-max-retries": "2", "fluentd-retry-wait": "10ms" };
    const id = await sh("echo given up", "fluentd", options);
    await ended(id);
    await until(() => batches === 3);
    await new Promise((resolve) => setTimeout(resolve, 300)); // a fourth would have come by now
    expect(batches).toBe(3);
    expect((await t.logs(id)).out).toContain("given up"); // the local log has it all the same
  });

  test("a service that is not there refuses the start, in docker's words; unknown drivers and options the creation", async () => {
    const id = await sh("true", "fluentd", { "fluentd-address": "127.0.0.1:1" });
    await expect(t.engine.containers.start(id)).rejects.toThrow(
      "failed to create task for container: failed to initialize logging driver: dial tcp 127.0.0.1:1: connect: connection refused",
    );
    await expect(sh("true", "gelf", {})).rejects.toThrow("logger: no log driver named 'gelf' is registered");
    await expect(sh("true", "syslog", { "max-size": "1m" })).rejects.toThrow("unknown log opt 'max-size' for syslog log driver");
    await expect(sh("true", "syslog", { mode: "sometimes" })).rejects.toThrow("logger: logging mode not supported: sometimes");
    await expect(sh("true", "syslog", { "syslog-facility": "pub" })).rejects.toThrow("invalid syslog facility");
    const hidden = await sh("echo x", "syslog", { "syslog-address": "udp://127.0.0.1:9", "cache-disabled": "true" });
    await ended(hidden);
    await expect(t.logs(hidden)).rejects.toThrow("configured logging driver does not support reading");
  });

  test("blocking: a container waits while nobody takes its lines, over a restart of the engine, and none is lost", async () => {
    const first = new Receiver();
    const port = await first.listen();
    const options = { "syslog-address": `tcp://127.0.0.1:${port}`, "cache-max-size": "200k", "cache-max-file": "2" };
    const id = await sh("while [ ! -e /go ]; do sleep 0.05; done; seq 1 40000; touch /done", "syslog", options);
    await t.engine.containers.start(id);
    await first[Symbol.asyncDispose]();
    await t.exec(id, ["touch", "/go"]);
    await until(() => filesOf(id).length === 2 && statSync(t.engine.containers.get(id).logPath).size >= 200 * 1024);
    await t.reopen();
    expect((await t.exec(id, ["test", "-e", "/done"])).code).toBe(1);
    await using again = new Receiver();
    await again.listen(port);
    await until(() => again.lines.length >= 40_000, 20_000);
    expect([...new Set(again.lines.map((line) => Number(line.replace(/^.*: /, ""))))]).toEqual(Array.from({ length: 40_000 }, (_, i) => i + 1));
  });

  test("non-blocking: a container goes on; what is too far behind is dropped, and the engine says so", async () => {
    const first = new Receiver();
    const port = await first.listen();
    const options = { "syslog-address": `tcp://127.0.0.1:${port}`, mode: "non-blocking", "max-buffer-size": "10k" };
    const id = await sh("while [ ! -e /go ]; do sleep 0.05; done; seq 1 20000", "syslog", options);
    const end = t.engine.containers.wait(id, "next-exit");
    await t.engine.containers.start(id);
    await first[Symbol.asyncDispose]();
    await t.exec(id, ["touch", "/go"]);
    expect((await end).exitCode).toBe(0);
    await using again = new Receiver();
    await again.listen(port);
    await until(() => again.text.includes(": 20000\n"), 20_000);
    expect(again.lines.length).toBeLessThan(1000);
    expect(t.warnings.some((line) => /bytes of log are not delivered: the service is too slow/.test(line))).toBe(true);
    expect((await t.logs(id)).out.split("\n")).toHaveLength(20_001);
  });

  test("json-file with compress, labels, env and tag: rotated files are gzip, read whole, by tail and followed; details", async () => {
    const options = { "max-size": "8k", "max-file": "4", compress: "true", labels: "a", "env-regex": "^X", tag: "{{.ImageName}}" };
    const id = await sh("seq 1 250; touch /half; while [ ! -e /go ]; do sleep 0.05; done; seq 251 300", "json-file", options, {
      Labels: { a: "b c" },
      Env: ["XY=1"],
    });
    await t.engine.containers.start(id);
    const attrs = { a: "b c", XY: "1", tag: "busybox" };
    const follow = (async () => {
      const seen: number[] = [];
      for await (const entries of t.engine.containers.logs(id, {
        stdout: true,
        stderr: true,
        follow: true,
        tail: undefined,
        sinceNs: undefined,
        untilNs: undefined,
      }))
        for (const { log, attrs: got } of entries) {
          expect(got).toEqual(attrs);
          seen.push(Number(Buffer.from(log).toString()));
        }
      return seen;
    })();
    await until(() => filesOf(id).filter((name) => name.endsWith(".gz")).length === 3);
    await t.exec(id, ["touch", "/go"]);
    const seen = await follow;
    expect(seen.at(-1)).toBe(300);
    expect(seen).toEqual(seen.map((_, i) => seen[0]! + i));
    const whole = (await t.logs(id)).out.trim().split("\n").map(Number);
    expect(whole.at(-1)).toBe(300);
    expect(whole).toEqual(whole.map((_, i) => whole[0]! + i));
    expect(whole.length).toBeGreaterThan(200);
    const tail: number[] = [];
    for await (const entries of t.engine.containers.logs(id, { stdout: true, stderr: true, follow: false, tail: 150, sinceNs: undefined, untilNs: undefined }))
      for (const { log } of entries) tail.push(Number(Buffer.from(log).toString()));
    expect(tail).toEqual(Array.from({ length: 150 }, (_, i) => 151 + i));
    await until(() => filesOf(id).every((name) => /log(\.[123]\.gz)?$/.test(name)));
  });

  test("local keeps 5 files of 20 MB, compressed, and shows no path", async () => {
    const id = await sh("echo x", "local", {});
    await ended(id);
    expect((await t.logs(id)).out).toBe("x\n");
    await expect(sh("true", "local", { labels: "x" })).rejects.toThrow("unknown log opt 'labels' for local log driver");
  });
});
