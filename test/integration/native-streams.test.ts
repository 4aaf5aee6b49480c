import { once } from "node:events";
import { existsSync, readFileSync, statSync } from "node:fs";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { AttachOptions, MonitorLink } from "#linux/helper.ts";
import { type Container, child, drain, host, isAlive, Lab, unframe, until } from "./native-fixture.ts";

let lab: Lab;
beforeAll(async () => {
  lab = await Lab.open();
});
afterAll(() => lab.close());

const everything: AttachOptions = { stdin: true, stdout: true, stderr: true, detachKeys: new Uint8Array() };
const watch: AttachOptions = { ...everything, stdin: false };
const openStdin = { openStdin: true, stdinOnce: true } as const;

/** Collects what a socket says, to wait for a text. */
function listen(socket: Socket, framed = true): { text(): string; said(text: string): Promise<void> } {
  let heard = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    heard = Buffer.concat([heard, chunk]);
  });
  const text = () => (framed ? unframe(heard).stdout : heard.toString("latin1"));
  return { text, said: (wanted) => until(`it says ${JSON.stringify(wanted)}`, () => text().includes(wanted)) };
}

/** Launches with attach connections made before the program runs. */
async function attached(
  argv: readonly string[],
  options: { stdio?: object; attach?: AttachOptions; count?: number; before?: [] } = {},
): Promise<{ container: Container; sockets: Socket[] }> {
  const sockets: Promise<Socket>[] = [];
  const count = options.count ?? 1;
  const container = await lab.launch({
    argv,
    stdio: { ...openStdin, ...options.stdio, attachGate: count },
    host: [host({ op: "attach_gate" })],
    onListening: (attach: MonitorLink["attach"]) => {
      for (let i = 0; i < count; i++) sockets.push(attach(options.attach ?? everything));
    },
  });
  return { container, sockets: await Promise.all(sockets) };
}

describe("attach without a terminal", () => {
  it("gets every byte from the start, in Docker's frames, and ends with the container", async () => {
    const { container, sockets } = await attached(["sh", "-c", "echo out; echo err >&2; cat; exit 4"]);
    const all = drain(sockets[0]!);
    sockets[0]!.end("typed");
    expect(unframe(await all)).toEqual({ stdout: "out\ntyped", stderr: "err\n" });
    expect((await container.link.exited).code).toBe(4);
    expect(container.output()).toEqual({ stdout: "out\ntyped", stderr: "err\n" });
  });

  it("loses no output when input comes after the end", async () => {
    const { container, sockets } = await attached(["sh", "-c", "head -c 150000 /bin/busybox"], { stdio: { log: undefined } });
    const [socket] = sockets as [Socket];
    socket.pause();
    await container.link.exited;
    const failures: Error[] = [];
    socket.on("error", (error) => failures.push(error));
    for (let i = 0; i < 20; i++) {
      socket.write("x".repeat(1000));
      await sleep(5);
    }
    expect(unframe(await drain(socket)).stdout).toHaveLength(150_000);
    expect(failures).toEqual([]);
    await until("the monitor has gone", () => !isAlive(container.link.monitorPid));
  });

  it("gives each watcher the streams that it asked for", async () => {
    const container = await lab.launch({ argv: ["sh", "-c", "cat; echo out; echo err >&2"], stdio: openStdin });
    const [both, onlyErr, feeder] = await Promise.all([
      container.link.attach(watch),
      container.link.attach({ ...watch, stdout: false }),
      container.link.attach({ ...everything, stdout: false, stderr: false }),
    ]);
    const heard = Promise.all([drain(both), drain(onlyErr)]);
    feeder.end("in\n");
    const [a, b] = (await heard).map(unframe);
    expect(a).toEqual({ stdout: "in\nout\n", stderr: "err\n" });
    expect(b).toEqual({ stdout: "", stderr: "err\n" });
  });

  it("goes on after a watcher has gone, and stdin ends with StdinOnce", async () => {
    const { container, sockets } = await attached(["sh", "-c", "cat; echo end"]);
    sockets[0]!.write("x\n");
    await once(sockets[0]!, "data");
    sockets[0]!.destroy();
    expect((await container.link.exited).code).toBe(0);
    expect(container.output().stdout).toBe("x\nend\n");
  });

  it("keeps stdin open for the next one without StdinOnce", async () => {
    const container = await lab.launch({ argv: ["cat"], stdio: { openStdin: true, stdinOnce: false } });
    for (const text of ["one\n", "two\n"]) {
      const socket = await container.link.attach(everything);
      const heard = listen(socket);
      socket.write(text);
      await heard.said(text);
      socket.end(); // as with Docker, the attach ends with its stdin
      await once(socket, "end");
    }
    expect(isAlive(container.link.pid)).toBe(true);
    await container.link.kill(9);
    expect((await container.link.exited).signal).toBe(9);
  });

  it("passes 20 MB both ways, byte for byte", async () => {
    const { container, sockets } = await attached(["cat"], { stdio: { log: undefined } });
    const data = Buffer.alloc(20 << 20);
    for (let i = 0; i < data.length; i += 4) data.writeUInt32LE((i * 2654435761) % 2 ** 32, i);
    const all = drain(sockets[0]!);
    sockets[0]!.end(data);
    const { stdout } = unframe(await all);
    expect(Buffer.from(stdout, "latin1").equals(data)).toBe(true);
    await container.link.exited;
  });

  it("holds the container back while a watcher is slow, in bounded memory", async () => {
    const { container, sockets } = await attached(["sh", "-c", "yes 0123456789 | head -c 60000000"], { stdio: { log: undefined } });
    sockets[0]!.pause();
    const rss = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${container.link.monitorPid}/status`, "utf8"))?.[1]);
    await sleep(300);
    const before = rss();
    expect(before).toBeLessThan(2048);
    expect(isAlive(container.link.pid)).toBe(true);
    const { stdout } = unframe(await drain(sockets[0]!));
    expect(stdout.length).toBe(60_000_000);
    expect((await container.link.exited).code).toBe(0);
  });

  it("does not let a stuck watcher delay the exit", async () => {
    const { container, sockets } = await attached(["sh", "-c", "head -c 200000 /bin/busybox; exit 5"], { stdio: { log: undefined } });
    sockets[0]!.pause();
    expect((await container.link.exited).code).toBe(5);
    expect(unframe(await drain(sockets[0]!)).stdout.length).toBe(200_000);
  });

  it("detaches on the keys, also typed byte by byte, and passes everything else on", async () => {
    const { container, sockets } = await attached(["cat"], { attach: { ...everything, detachKeys: Buffer.from("\x10\x11") }, stdio: { stdinOnce: false } });
    const heard = listen(sockets[0]!);
    const ended = once(sockets[0]!, "end");
    for (const text of ["a\x10", "b", "\x10", "\x10", "c\n"]) {
      sockets[0]!.write(text);
      await sleep(5);
    }
    await heard.said("a\x10b\x10\x10c\n");
    sockets[0]!.write("d\x10");
    await heard.said("d");
    sockets[0]!.write("\x11e");
    await ended;
    expect(heard.text()).not.toContain("e");
    expect(isAlive(container.link.pid)).toBe(true);
    await container.link.kill(9);
    await container.link.exited;
  });

  it("refuses an attach when the container has ended", async () => {
    const container = await lab.launch({ argv: ["true"] });
    await container.link.exited;
    await expect(container.link.attach(watch)).rejects.toThrow("the container is not running");
  });

  it("flushes what has been written so far to the log", async () => {
    const container = await lab.launch({ argv: ["sh", "-c", "echo first; cat"], stdio: openStdin });
    await until("it has written", async () => {
      await container.link.flush();
      return container.output().stdout === "first\n";
    });
    await container.link.kill(9);
    await container.link.exited;
  });
});

describe("a terminal", () => {
  const tty = { tty: true, rows: 33, columns: 77, openStdin: true, stdinOnce: true } as const;

  it("has the size that was asked for, is the controlling one, and /dev/console", async () => {
    const { container, sockets } = await attached(["sh", "-c", "stty size; ls -l /proc/self/fd/0; echo to-console > /dev/console; echo to-tty > /dev/tty"], {
      stdio: tty,
    });
    const out = (await drain(sockets[0]!)).toString();
    expect(out).toContain("33 77\r\n");
    expect(out).toContain("/proc/self/fd/0 -> /dev/pts/0");
    expect(out).toContain("to-console\r\nto-tty\r\n");
    expect((await container.link.exited).code).toBe(0);
  });

  it("echoes, resizes, and Ctrl-C interrupts", async () => {
    const { container, sockets } = await attached(["sh"], { stdio: tty });
    const heard = listen(sockets[0]!, false);
    sockets[0]!.write("trap 'echo RESIZED' WINCH; echo re''ady\n");
    await heard.said("ready");
    await container.link.resize(10, 20);
    sockets[0]!.write("stty size\n");
    await heard.said("10 20");
    await heard.said("RESIZED");
    sockets[0]!.write("sleep 100; echo after $?\n");
    await sleep(100);
    sockets[0]!.write("\x03");
    sockets[0]!.write("echo code $?\n");
    await heard.said("code 130");
    sockets[0]!.write("exit 6\n");
    expect((await container.link.exited).code).toBe(6);
  });

  it("logs as stdout", async () => {
    const container = await lab.launch({ argv: ["sh", "-c", "echo a; echo b >&2"], stdio: { ...tty, openStdin: false } });
    await container.link.exited;
    expect(container.output()).toEqual({ stdout: "a\r\nb\r\n", stderr: "" });
  });

  it("belongs to an unprivileged user", async () => {
    const container = await lab.launch({
      argv: ["sh", "-c", "echo mine > /dev/pts/0"],
      stdio: { ...tty, openStdin: false },
      after: [child({ op: "setgroups", gids: [] }), child({ op: "setresgid", gid: 1000 }), child({ op: "setresuid", uid: 1000 })],
    });
    await container.link.exited;
    expect(container.output().stdout).toBe("mine\r\n");
  });

  it("ends for everyone when init ends, whoever holds it open", async () => {
    const { container, sockets } = await attached(["sh", "-c", "sleep 1000 & echo started; exit 2"], { stdio: tty });
    expect((await drain(sockets[0]!)).toString()).toContain("started");
    expect((await container.link.exited).code).toBe(2);
  });
});

describe("the monitor", () => {
  it("stays small: at most 0.35 MiB, also after much output", async () => {
    const containers = await Promise.all([1, 2, 3].map(() => lab.launch({ argv: ["sh", "-c", "yes 0123456789 | head -c 3000000; sleep 100"] })));
    await until("output is written", () => containers.every((c) => existsSync(c.files.log) && statSync(c.files.log).size >= 3_000_000), 20_000);
    await sleep(1300); // buffers are given back after a second without work
    for (const { link } of containers) {
      const pss = Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${link.monitorPid}/smaps_rollup`, "utf8"))?.[1]);
      expect(pss).toBeLessThanOrEqual(358);
      await link.kill(9);
    }
    await Promise.all(containers.map((c) => c.link.exited));
  });

  it("ignores the signals that end others, and has a name", async () => {
    const container = await lab.launch({ argv: ["sleep", "100"] });
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE"]) process.kill(container.link.monitorPid, signal);
    expect(readFileSync(`/proc/${container.link.monitorPid}/comm`, "utf8")).toBe("wherry-monitor\n");
    expect(readFileSync(`/proc/${container.link.monitorPid}/cmdline`, "utf8")).toContain("wherry-monitor /dev/shm/");
    expect(await container.link.kill(15)).toBe(true); // pid 1 has no handler: the kernel does not deliver it
    expect(await container.link.kill(9)).toBe(true);
    expect((await container.link.exited).signal).toBe(9);
  });

  it("adopts and reaps orphans of a shared pid namespace", async () => {
    const container = await lab.launch({ argv: ["sh", "-c", "(sleep 0.2 & echo $!) ; sleep 0.5"], clone: 0x20000n });
    const orphan = Number(
      await (async () => {
        await until("it has written", () => container.output().stdout !== "");
        return container.output().stdout;
      })(),
    );
    await until("the orphan is reaped", () => !isAlive(orphan));
    await container.link.exited;
  });
});
