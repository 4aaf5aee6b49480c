/** The daemon's side of docs/stub-protocol.md, spoken to by a stub made of a socket. */
import { mkdtemp, rm, stat } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type TestAnswers, testClient } from "#cli/client.fixture.ts";
import { type Closer, serveCli } from "./cli-server.ts";
import { type Frame, FrameReader, frameTypes, parseHello } from "./stub-frames.ts";

const id = "c".repeat(64);

function u32(n: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(n);
  return bytes;
}
const u16 = (n: number) => u32(n).subarray(0, 2);
const text = (value: string) => Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)]);
const list = (values: readonly string[]) => Buffer.concat([u32(values.length), ...values.map(text)]);
const frame = (type: number, payload: Buffer = Buffer.alloc(0)) => Buffer.concat([Buffer.of(type), u32(payload.length), payload]);

interface HelloOptions {
  readonly version?: number;
  readonly token?: string;
  readonly tty?: number;
  readonly cwd?: string;
  readonly env?: readonly string[];
}

function hello(argv: readonly string[], { version = 1, token = "", tty = 0, cwd = "/", env = [] }: HelloOptions = {}): Buffer {
  return frame(
    frameTypes.hello,
    Buffer.concat([u32(version), text(token), Buffer.of(tty), u16(24), u16(80), u32(0o022), text(cwd), list(["wherry", ...argv]), list(env)]),
  );
}

describe("serveCli", () => {
  let directory: string;
  let server: Closer | undefined;
  const logged: string[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "wherry-stub-"));
    logged.length = 0;
  });
  afterEach(async () => {
    await server?.close();
    server = undefined;
    await rm(directory, { recursive: true });
  });

  /** A server over these answers, and a stub that has connected. */
  async function start(answers: TestAnswers) {
    const client = testClient(answers, { direct: true });
    server = await serveCli({ socketPath: join(directory, "cli.sock"), client, log: (_level, message) => logged.push(message) });
    return { client, stub: await dial() };
  }

  async function dial() {
    const socket: Socket = connect(join(directory, "cli.sock"));
    const frames: Frame[] = [];
    const reader = new FrameReader();
    socket.on("data", (chunk: Buffer) => frames.push(...reader.push(chunk).map((f) => ({ type: f.type, payload: Buffer.from(f.payload) }))));
    socket.on("error", () => {});
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    await new Promise((resolve) => socket.once("connect", resolve));
    const output = (type: number) => Buffer.concat(frames.filter((f) => f.type === type).map((f) => f.payload)).toString();
    return {
      socket,
      frames,
      closed,
      out: () => output(frameTypes.stdout),
      err: () => output(frameTypes.stderr),
      exit: () => frames.find((f) => f.type === frameTypes.exit)?.payload[0],
    };
  }

  async function until(condition: () => boolean): Promise<void> {
    const deadline = Date.now() + 5000;
    while (!condition()) {
      if (Date.now() > deadline) throw new Error("waited in vain");
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  it("is for its owner only", async () => {
    const { stub } = await start({});
    expect((await stat(join(directory, "cli.sock"))).mode & 0o777).toBe(0o600);
    stub.socket.destroy();
  });

  it("runs a command line and answers with output and code", async () => {
    const { stub } = await start({ "GET /containers/json": [] });
    stub.socket.write(hello(["ps", "-q"]));
    await stub.closed;
    expect([stub.out(), stub.err(), stub.exit()]).toEqual(["", "", 0]);
    const next = await dial();
    next.socket.write(hello(["nope"]));
    await next.closed;
    expect([next.exit(), next.err()]).toEqual([1, expect.stringContaining("unknown command: wherry nope")]);
  });

  it("understands a hello that arrives byte by byte", async () => {
    const { stub } = await start({ "GET /containers/json": [] });
    for (const byte of hello(["ps"])) stub.socket.write(Buffer.of(byte));
    await stub.closed;
    expect(stub.out()).toMatch(/^CONTAINER ID/);
  });

  it("gives directory, environment and token to the command", async () => {
    const { stub, client } = await start({
      "POST /containers/create": { Id: id, Warnings: [] },
      [`POST /containers/${id}/start`]: undefined,
      [`POST /containers/${id}/wait`]: { StatusCode: 5 },
    });
    stub.socket.write(hello(["run", "-v", "./d:/d", "-e", "X", "busybox"], { cwd: "/home/me", env: ["X=from there", "=odd", "Y"], token: "ab".repeat(16) }));
    await stub.closed;
    expect(stub.exit()).toBe(5);
    expect(client.calls[0]?.options.body).toMatchObject({ Env: ["X=from there"], HostConfig: { Binds: ["/home/me/d:/d"] } });
    expect(client.calls[2]?.options.direct).toMatchObject({ token: "ab".repeat(16) });
  });

  it("reads no input before a command wants it, and no more than was granted", async () => {
    const received: Buffer[] = [];
    const load = async (options: { body: AsyncIterable<Buffer> }) => {
      for await (const chunk of options.body) received.push(chunk);
      return `${JSON.stringify({ stream: "Loaded\n" })}\n`;
    };
    const { stub } = await start({ "POST /images/load": load, "GET /containers/json": [] });
    stub.socket.write(hello(["load", "-q"]));
    await until(() => stub.frames.length > 0);
    expect(stub.frames.map((f) => f.type)).toEqual([frameTypes.readStdin]);
    const credit = stub.frames[0]!.payload.readUInt32LE(0);
    for (let sent = 0; sent < credit; sent += 8192) stub.socket.write(frame(frameTypes.stdin, Buffer.alloc(8192, "x")));
    await until(() => stub.frames.filter((f) => f.type === frameTypes.readStdin).length === 2);
    stub.socket.write(Buffer.concat([frame(frameTypes.stdin, Buffer.from("end")), frame(frameTypes.stdinEof)]));
    await stub.closed;
    expect(Buffer.concat(received).toString()).toBe(`${"x".repeat(credit)}end`);
    expect([stub.out(), stub.exit()]).toEqual(["Loaded\n", 0]);
  });

  it("passes terminal, size and signals", async () => {
    const stream = new PassThrough();
    let finish: (code: { StatusCode: number }) => void = () => {};
    const { stub, client } = await start({
      "POST /containers/create": { Id: id, Warnings: [] },
      [`POST /containers/${id}/attach`]: stream,
      [`POST /containers/${id}/start`]: undefined,
      [`POST /containers/${id}/resize`]: undefined,
      [`POST /containers/${id}/kill`]: undefined,
      [`POST /containers/${id}/wait`]: () => new Promise((resolve) => (finish = resolve)),
    });
    stub.socket.write(hello(["run", "-it", "busybox"], { tty: 7 }));
    await until(() => client.routes().includes(`POST /containers/${id}/resize`) && stub.frames.length > 0);
    expect(stub.frames[0]).toEqual({ type: frameTypes.raw, payload: Buffer.of(1) });
    stub.socket.write(Buffer.concat([frame(frameTypes.winch, Buffer.concat([u16(50), u16(132)])), frame(frameTypes.signal, u32(15))]));
    await until(() => client.routes().includes(`POST /containers/${id}/kill`));
    expect(client.calls.filter((c) => c.route.endsWith("/resize")).map((c) => c.options.query)).toEqual([
      { h: 24, w: 80 },
      { h: 50, w: 132 },
    ]);
    expect(client.calls.at(-1)?.options.query).toEqual({ signal: "SIGTERM" });
    stream.end("typed\r\n");
    finish({ StatusCode: 143 });
    await stub.closed;
    expect([stub.out(), stub.exit()]).toEqual(["typed\r\n", 143]);
    expect(stub.frames.filter((f) => f.type === frameTypes.raw).map((f) => f.payload[0])).toEqual([1, 0]);
  });

  it("a signal that no command handles ends it as it would end a process", async () => {
    const { stub } = await start({ "GET /events": () => new Promise(() => {}) });
    stub.socket.write(hello(["events"]));
    await new Promise((resolve) => setTimeout(resolve, 10));
    stub.socket.write(frame(frameTypes.signal, u32(2)));
    await stub.closed;
    expect(stub.exit()).toBe(130);
  });

  it("a stub that is killed takes its command with it", async () => {
    const body = new PassThrough();
    let signal: AbortSignal | undefined;
    const { stub } = await start({
      "GET /containers/x/logs": (options: { signal: AbortSignal }) => {
        signal = options.signal;
        return body;
      },
    });
    stub.socket.write(hello(["logs", "-f", "x"]));
    await until(() => signal !== undefined);
    stub.socket.destroy();
    await until(() => signal!.aborted);
  });

  it("holds a command whose output is not read", async () => {
    let produced = 0;
    async function* endless() {
      for (;;) {
        produced++;
        yield Buffer.alloc(65536, "y");
      }
    }
    const { Readable } = await import("node:stream");
    const { stub } = await start({ "GET /containers/x/logs": () => Readable.from(endless(), { objectMode: false, highWaterMark: 65536 }) });
    stub.socket.pause();
    stub.socket.write(hello(["logs", "x"]));
    await new Promise((resolve) => setTimeout(resolve, 200));
    const held = produced;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(produced).toBe(held);
    expect(held).toBeLessThan(100);
    stub.socket.destroy();
  });

  it("sends a stub of another version to Node", async () => {
    const { stub } = await start({});
    stub.socket.write(hello(["ps"], { version: 2 }));
    await stub.closed;
    expect(stub.frames.map((f) => f.type)).toEqual([frameTypes.execNode]);
  });

  it.each([
    ["another frame first", frame(frameTypes.stdin, Buffer.from("x"))],
    ["a hello that is too long", Buffer.concat([Buffer.of(frameTypes.hello), u32(64 * 1024 * 1024)])],
    ["a list that is longer than its bytes", frame(frameTypes.hello, Buffer.concat([u32(1), text(""), Buffer.alloc(9), text("/"), u32(0xffffffff)]))],
    ["bytes behind the last field", Buffer.concat([Buffer.of(frameTypes.hello), u32(hello([]).length - 5 + 1), hello([]).subarray(5), Buffer.of(0)])],
  ])("drops %s", async (_name, bytes) => {
    const { stub } = await start({});
    stub.socket.write(bytes);
    await stub.closed;
    expect(stub.frames).toEqual([]);
    await until(() => logged.length > 0);
  });

  it("drops a stub that sends input nobody asked for", async () => {
    const { stub } = await start({ "GET /events": () => new Promise(() => {}) });
    stub.socket.write(Buffer.concat([hello(["events"]), frame(frameTypes.stdin, Buffer.from("x"))]));
    await stub.closed;
    expect(stub.exit()).toBeUndefined();
  });
});

describe("hello", () => {
  it("any hello comes back as it was", () => {
    const word = fc.string({ unit: "grapheme" });
    fc.assert(
      fc.property(fc.array(word), word, fc.dictionary(fc.stringMatching(/^[A-Z_]+$/), word), (argv, cwd, env) => {
        const frames = new FrameReader().push(hello(argv, { cwd, env: Object.entries(env).map(([k, v]) => `${k}=${v}`), tty: 5 }));
        const parsed = parseHello(frames[0]!)!;
        expect(parsed.argv).toEqual(argv);
        expect(parsed.cwd).toBe(cwd);
        expect(parsed.env).toEqual({ ...env });
        expect(parsed).toMatchObject({ isTty: { stdin: true, stdout: false, stderr: true }, rows: 24, columns: 80, umask: 0o022 });
      }),
    );
  });

  it("no bytes at all make it misbehave", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          parseHello({ type: 1, payload: Buffer.from(bytes) });
        } catch (error) {
          expect((error as Error).constructor.name).toBe("ProtocolError");
        }
      }),
    );
  });
});
