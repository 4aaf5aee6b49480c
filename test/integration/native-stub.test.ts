/** The stub against a daemon made of a few lines, and the monitor on a stub's own descriptors. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Writer } from "#linux/wire.ts";
import { childrenOf, isAlive, Lab, nativeDirectory, root, until } from "./native-fixture.ts";

let lab: Lab;
let stub: string;
beforeAll(async () => {
  lab = await Lab.open();
  stub = join(await nativeDirectory(), "wherry");
});
afterAll(() => lab.close());

interface Hello {
  token: string;
  tty: number;
  rows: number;
  columns: number;
  umask: number;
  cwd: string;
  argv: string[];
  env: string[];
}

/** It has become its program, and its process group has the terminal. @see proc(5) stat: pid (comm) state ppid pgrp session tty_nr tpgid */
function isForeground(pid: number): boolean {
  const [, name, pgrp, tpgid] = /^\d+ \((.*)\) \S+ -?\d+ (-?\d+) -?\d+ -?\d+ (-?\d+) /.exec(readFileSync(`/proc/${pid}/stat`, "utf8")) ?? [];
  return name === "sleep" && pgrp === tpgid;
}

function parseHello(data: Buffer): Hello {
  let at = 4;
  const u32 = () => {
    at += 4;
    return data.readUInt32LE(at - 4);
  };
  const str = () => {
    const n = u32();
    at += n;
    return data.toString("utf8", at - n, at);
  };
  const list = () => Array.from({ length: u32() }, str);
  expect(data.readUInt32LE(0)).toBe(1);
  const token = str();
  const tty = data[at] as number;
  const [rows, columns] = [data.readUInt16LE(at + 1), data.readUInt16LE(at + 3)];
  at += 5;
  const hello = { token, tty, rows, columns, umask: u32(), cwd: str(), argv: list(), env: list() };
  expect(at).toBe(data.length);
  return hello;
}

/** One conversation as the daemon sees it. */
class Session {
  readonly socket: Socket;
  readonly frames: { type: number; data: Buffer }[] = [];
  constructor(socket: Socket) {
    this.socket = socket;
    let rest = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32LE(1)) {
        const end = 5 + rest.readUInt32LE(1);
        this.frames.push({ type: rest[0] as number, data: rest.subarray(5, end) });
        rest = rest.subarray(end);
      }
    });
    socket.on("error", () => {});
  }
  send(type: number, data: Uint8Array = new Uint8Array()): void {
    const w = new Writer();
    w.u8(type);
    w.bytes(data);
    this.socket.write(Buffer.from(w.done()));
  }
  async hello(): Promise<Hello> {
    await until("the stub says hello", () => this.frames.length > 0);
    return parseHello(this.frames[0]!.data);
  }
  bytes(type: number): Buffer {
    return Buffer.concat(this.frames.filter((frame) => frame.type === type).map((frame) => frame.data));
  }
}

interface Run {
  readonly child: ChildProcess;
  readonly session: Session;
  readonly hello: Hello;
  readonly out: () => string;
  readonly err: () => string;
  readonly code: Promise<number | string>;
}

let server: Server;
async function run(args: string[], options: { env?: Record<string, string>; command?: [string, string[]] } = {}): Promise<Run> {
  const path = join(lab.directory, "cli.sock");
  server?.close();
  server = createServer();
  const session = new Promise<Session>((resolve) => server.on("connection", (socket) => resolve(new Session(socket))));
  server.listen(path);
  await once(server, "listening");
  const [command, argv] = options.command ?? [stub, args];
  const child = spawn(command, argv, {
    env: { PATH: process.env.PATH, WHERRY_HOST: `unix://${lab.directory}/wherry.sock`, ...options.env },
    cwd: lab.directory,
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk) => (out += chunk));
  child.stderr.on("data", (chunk) => (err += chunk));
  child.stdin.on("error", () => {});
  const code = once(child, "close").then(([number, signal]) => number ?? signal);
  const its = await session;
  return { child, session: its, hello: await its.hello(), out: () => out, err: () => err, code };
}
const u32 = (n: number) => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(n);
  return b;
};

describe("the stub", () => {
  it("tells the command line and its surroundings, and ends with the daemon's code", async () => {
    const { hello, session, code } = await run(["ps", "-a", "", "ä b"], { env: { X: "1", EMPTY: "" } });
    expect(hello).toMatchObject({ tty: 0, rows: 0, columns: 0, cwd: lab.directory, argv: [stub, "ps", "-a", "", "ä b"] });
    expect(hello.umask).toBe(process.umask());
    expect(hello.token).toMatch(/^[0-9a-f]{32}$/);
    expect(hello.env).toEqual(expect.arrayContaining(["X=1", "EMPTY="]));
    session.send(20, Buffer.from([42]));
    expect(await code).toBe(42);
  });

  it("writes what the daemon sends to the right descriptor, all of it before it ends", async () => {
    const { session, code, out, err } = await run(["x"]);
    const big = Buffer.alloc(3_000_000, "0123456789");
    session.send(16, Buffer.from("first "));
    session.send(17, Buffer.from("problem\n"));
    session.send(16, big);
    session.send(20, Buffer.from([0]));
    expect(await code).toBe(0);
    expect(out()).toBe(`first ${big.toString()}`);
    expect(err()).toBe("problem\n");
  });

  it("reads stdin only as far as it was asked to", async () => {
    const { child, session, code } = await run(["x"]);
    child.stdin!.end("abcdefgh");
    session.send(18, u32(3));
    await until("three bytes", () => session.bytes(2).toString() === "abc");
    session.send(18, u32(1000));
    await until("the rest and the end", () => session.frames.some((frame) => frame.type === 3));
    expect(session.bytes(2).toString()).toBe("abcdefgh");
    session.send(20, Buffer.from([0]));
    expect(await code).toBe(0);
  });

  it("forwards signals instead of dying of them", async () => {
    const { child, session, code } = await run(["x"]);
    for (const signal of ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"] as const) {
      child.kill(signal);
      await until(signal, () =>
        session.frames.some((frame) => frame.type === 4 && frame.data.readUInt32LE(0) === { SIGTERM: 15, SIGINT: 2, SIGUSR1: 10, SIGHUP: 1 }[signal]),
      );
    }
    session.send(20, Buffer.from([143]));
    expect(await code).toBe(143);
  });

  it("leaves ignored signals ignored", async () => {
    const { child, session, code } = await run([], { command: ["sh", ["-c", `trap '' HUP; exec "${stub}" x`]] });
    child.kill("SIGHUP");
    child.kill("SIGTERM");
    await until("the other signal", () => session.frames.some((frame) => frame.type === 4));
    expect(session.frames.filter((frame) => frame.type === 4).map((frame) => frame.data.readUInt32LE(0))).toEqual([15]);
    session.send(20, Buffer.from([0]));
    await code;
  });

  it("says so when the daemon is lost, with code 125", async () => {
    const { session, code, err } = await run(["x"]);
    session.socket.destroy();
    expect(await code).toBe(125);
    expect(err()).toContain("connection to the daemon was lost");
  });

  it("dies of SIGPIPE when nobody reads its output", async () => {
    const { child, session, code } = await run(["x"]);
    child.stdout!.destroy();
    session.send(16, Buffer.alloc(100_000));
    expect(await code).toBe("SIGPIPE");
  });

  it("works with descriptors closed", async () => {
    const { session, code } = await run([], { command: ["sh", ["-c", `exec "${stub}" x 0<&- 1>&-`]] });
    session.send(16, Buffer.from("nowhere"));
    session.send(20, Buffer.from([5]));
    expect(await code).toBe(5);
  });

  it("knows its terminal: size, raw mode, restored at the end", async () => {
    // script(1) gives it a terminal; stty tells what is left of its settings.
    const inner = `stty rows 41 cols 99; "${stub}" run; stty -a`;
    const { session, hello, code, out } = await run([], { command: ["script", ["-qec", `sh -c '${inner}'`, "/dev/null"]] });
    expect(hello).toMatchObject({ tty: 7, rows: 41, columns: 99 });
    session.send(19, Buffer.from([1]));
    session.send(16, Buffer.from("raw\n"));
    await until("raw output", () => out().includes("raw\n"));
    expect(out()).not.toContain("raw\r\n");
    session.send(20, Buffer.from([0]));
    await code;
    expect(out()).toMatch(/ icanon/m);
    expect(out()).toMatch(/^opost/m);
  });
});

describe("without a daemon", () => {
  /** A copy of the program beside a cli.cjs that tells what it got. */
  function install(): string {
    const bin = join(lab.directory, "install/bin");
    mkdirSync(bin, { recursive: true });
    copyFileSync(stub, join(bin, "wherry"));
    chmodSync(join(bin, "wherry"), 0o755);
    writeFileSync(
      join(bin, "../cli.cjs"),
      `const e = process.env; console.log(JSON.stringify({ args: process.argv.slice(2), ca: e.NODE_EXTRA_CA_CERTS ?? null, handed: e.WHERRY_EXTRA_CA_CERTS ?? null })); process.exit(7);`,
    );
    return join(bin, "wherry");
  }
  const execute = async (args: string[], env: Record<string, string>) => {
    const child = spawn(install(), args, { env: { PATH: process.env.PATH, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk) => (out += chunk));
    child.stderr.on("data", (chunk) => (err += chunk));
    const [code] = await once(child, "close");
    return { code, out, err };
  };

  it.each([
    ["no socket", ["ps"], { WHERRY_HOST: "unix:///no/such/dir/x.sock" }],
    ["another kind of host", ["ps"], { DOCKER_HOST: "tcp://127.0.0.1:1" }],
    ["a host on the command line", ["-H", "tcp://127.0.0.1:1", "ps"], { WHERRY_HOST: "unix:///no/such/dir/x.sock" }],
  ])("runs the command in Node: %s", async (_, args, env) => {
    const { code, out } = await execute(args, { ...env, NODE_EXTRA_CA_CERTS: "/no/such/ca.pem" } as Record<string, string>);
    expect(JSON.parse(out)).toEqual({ args, ca: null, handed: "/no/such/ca.pem" });
    expect(code).toBe(7);
  });

  it("says what is missing", async () => {
    expect(await execute(["ps"], { WHERRY_HOST: "unix:///no/such/x.sock", WHERRY_NODE: "/no/such/node" })).toMatchObject({
      code: 125,
      err: expect.stringContaining("cannot run /no/such/node"),
    });
  });

  it("does so too when the daemon asks for it", async () => {
    const path = install();
    const { session, out, code } = await run([], { command: [path, ["version"]] });
    session.send(21);
    expect(await code).toBe(7);
    expect(JSON.parse(out())).toMatchObject({ args: ["version"] });
  });
});

describe("a container on a stub's own descriptors", () => {
  const noLog: object = { log: undefined };
  const direct = (hello: Hello, more: object = {}) => ({
    direct: { token: hello.token, stdin: true, stdout: true, stderr: true, detachKeys: new Uint8Array(), ...more },
  });

  it("reads and writes them without any byte through the daemon", async () => {
    const { child, session, hello, out, err, code } = await run(["run"]);
    const container = await lab.launch({ argv: ["sh", "-c", "cat; echo err >&2; exit 8"], stdio: { openStdin: true, stdinOnce: true, ...direct(hello) } });
    child.stdin!.end("from the caller\n");
    expect((await container.link.exited).code).toBe(8);
    expect(await container.link.direct).toBe("delivered");
    session.send(20, Buffer.from([8]));
    expect(await code).toBe(8);
    expect(out()).toBe("from the caller\n");
    expect(err()).toBe("err\n");
    expect(container.output()).toEqual({ stdout: "from the caller\n", stderr: "err\n" });
  });

  it("passes 50 MB through pipes, byte for byte, and leaves their flags alone", async () => {
    const source = join(lab.directory, "source");
    const target = join(lab.directory, "target");
    const data = Buffer.alloc(50 << 20);
    for (let i = 0; i < data.length; i += 4) data.writeUInt32LE((i * 2654435761) % 2 ** 32, i);
    writeFileSync(source, data);
    const { session, hello, code } = await run([], { command: ["sh", ["-c", `cat "${source}" | "${stub}" run | cat > "${target}"`]] });
    const container = await lab.launch({ argv: ["cat"], stdio: { openStdin: true, stdinOnce: true, ...direct(hello), ...noLog } });
    await container.link.exited;
    expect(await container.link.direct).toBe("delivered");
    session.send(20, Buffer.from([0]));
    await code;
    expect(readFileSync(target).equals(data)).toBe(true);
  });

  it("works on plain files and sockets too", async () => {
    const source = join(lab.directory, "source.txt");
    writeFileSync(source, "a file\n");
    const { session, hello, code } = await run([], { command: ["sh", ["-c", `exec "${stub}" run < "${source}" > "${source}.out"`]] });
    const container = await lab.launch({ argv: ["cat"], stdio: { openStdin: true, stdinOnce: true, ...direct(hello) } });
    expect((await container.link.exited).code).toBe(0);
    session.send(20, Buffer.from([0]));
    await code;
    expect(readFileSync(`${source}.out`, "utf8")).toBe("a file\n");
  });

  it("delivers all after the container's end, to a reader that is slow", async () => {
    const target = join(lab.directory, "late");
    // 64 KiB in the reader's pipe, one chunk queued, 64 KiB in the container's own pipe: it can end while nobody reads.
    const { session, hello, code } = await run([], { command: ["sh", ["-c", `"${stub}" run | (sleep 0.4; cat > "${target}")`]] });
    const container = await lab.launch({ argv: ["sh", "-c", "head -c 100000 /bin/busybox"], stdio: direct(hello) });
    let delivered = false;
    void container.link.direct?.then(() => (delivered = true));
    await container.link.exited;
    expect(delivered).toBe(false);
    expect(await container.link.direct).toBe("delivered");
    session.send(20, Buffer.from([0]));
    await code;
    expect(readFileSync(target).equals(readFileSync("/bin/busybox").subarray(0, 100_000))).toBe(true);
  });

  it("detaches on the keys", async () => {
    const { child, session, hello, code } = await run(["run"]);
    const container = await lab.launch({
      argv: ["cat"],
      stdio: { openStdin: true, stdinOnce: false, ...direct(hello, { detachKeys: Buffer.from("\x10\x11") }) },
    });
    child.stdin!.write("x\x10\x11");
    expect(await container.link.direct).toBe("detached");
    session.send(20, Buffer.from([0]));
    await code;
    expect(isAlive(container.link.pid)).toBe(true);
    await container.link.kill(9);
    await container.link.exited;
  });

  it("lets go of them when the stub is killed; stdin ends, the container goes on", async () => {
    const { child, hello } = await run(["run"]);
    const container = await lab.launch({ argv: ["sh", "-c", "cat; echo after; sleep 0.1"], stdio: { openStdin: true, stdinOnce: true, ...direct(hello) } });
    child.kill("SIGKILL");
    expect(await container.link.direct).toBe("gone");
    expect((await container.link.exited).code).toBe(0);
    expect(container.output().stdout).toBe("after\n");
  });

  it("tells that its output is closed", async () => {
    const { child, session, hello } = await run(["run"]);
    child.stdout!.destroy();
    const container = await lab.launch({ argv: ["sh", "-c", "echo; sleep 0.05; echo; sleep 0.1; exit 4"], stdio: direct(hello) });
    expect(await container.link.direct).toBe("broken");
    expect((await container.link.exited).code).toBe(4);
    session.send(20, Buffer.from([0]));
  });

  it("refuses a token that nobody has given", async () => {
    await expect(
      lab.launch({ argv: ["true"], stdio: { direct: { token: "0".repeat(32), stdin: true, stdout: true, stderr: true, detachKeys: new Uint8Array() } } }),
    ).rejects.toMatchObject({
      code: "unavailable",
    });
  });

  it("gives a terminal to a terminal, with job control of the container's own", async () => {
    const inner = `stty rows 24 cols 80; "${stub}" run`;
    const { child, session, hello, out, code } = await run([], { command: ["script", ["-qec", `sh -c '${inner}'`, "/dev/null"]] });
    session.send(19, Buffer.from([1]));
    const container = await lab.launch({
      argv: ["sh"],
      stdio: { tty: true, rows: hello.rows, columns: hello.columns, openStdin: true, stdinOnce: true, ...direct(hello) },
    });
    child.stdin!.write("stty size; sleep 50\r");
    // Not before it is the terminal's foreground: until then ^C is the shell's, which reads on when sleep has ended.
    await until("sleep is in the foreground", async () => (await childrenOf(container.link.pid)).some(isForeground));
    child.stdin!.write("\x03");
    child.stdin!.write("echo code $?\r");
    await until("the shell goes on", () => out().includes("code 130"));
    child.stdin!.write("exit 3\r");
    expect((await container.link.exited).code).toBe(3);
    session.send(20, Buffer.from([3]));
    expect(await code).toBe(3);
    expect(out()).toContain("24 80");
  });
});

describe("the init role", () => {
  it("forwards signals, reaps orphans and ends with its child's code", async () => {
    copyFileSync(lab.helperPath, join(lab.rootfs, "bin/docker-init"));
    const init = (script: string) => ["/bin/docker-init", "--", "sh", "-c", script];
    expect((await (await lab.launch({ argv: init("exit 11") })).link.exited).code).toBe(11);
    expect((await (await lab.launch({ argv: init("kill -9 $$") })).link.exited).code).toBe(137);
    expect((await (await lab.launch({ argv: ["/bin/docker-init", "--", "nosuch"] })).link.exited).code).toBe(127);
    const container = await lab.launch({ argv: init("echo $$; (sleep 0.05 &); trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.05; done") });
    await until("it is ready", () => container.output().stdout.includes("ready"));
    expect(container.output().stdout).toMatch(/^2\n/);
    await until("orphans are reaped", async () => (await childrenOf(container.link.pid)).length === 1);
    expect(await container.link.kill(15)).toBe(true);
    expect((await container.link.exited).code).toBe(5);
    expect(container.output().stdout).toContain("term");
  });

  it("gives its terminal to the child", async () => {
    const container = await lab.launch({
      argv: ["/bin/docker-init", "--", "sh", "-c", "echo $(ps -o pid,stat | grep -c '+')"],
      stdio: { tty: true, rows: 24, columns: 80, openStdin: false },
    });
    expect((await container.link.exited).code).toBe(0);
  });

  it("is the same program", () => {
    expect(existsSync(join(root, "dist/bin/wherry"))).toBe(true);
    expect(readFileSync(stub).equals(readFileSync(lab.helperPath))).toBe(true);
  });
});
