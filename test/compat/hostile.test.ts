/** Clients that mean harm, or know no better, against a real daemon: refused or bounded, and nobody else is slowed. */
import { readdirSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { httpCall, TestDaemon, whyNot } from "./daemon.ts";
import { rawConnection } from "./raw.ts";
import { eventually } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`hostile: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`hostile clients${reason ? ` (skipped: ${reason})` : ""}`, () => {
  let daemon: TestDaemon;
  let pid: number;
  beforeAll(async () => {
    daemon = new TestDaemon();
    await daemon.start();
    pid = daemon.pid;
  });
  afterEach(async () => {
    expect((await httpCall(daemon.socket, "GET", "/_ping")).text).toBe("OK");
  });
  afterAll(async () => {
    expect(await daemon.stop()).toEqual([]);
  });

  const rssMiB = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
  const fds = () => readdirSync(`/proc/${pid}/fd`).length;
  const create = (body: string | Buffer) => httpCall(daemon.socket, "POST", "/containers/create", Buffer.from(body), { "Content-Type": "application/json" });

  test("a gigabyte of JSON, declared or endless, is cut off after a few megabytes", async () => {
    const before = rssMiB();
    for (const headers of [{ "Content-Length": String(1 << 30) }, { "Transfer-Encoding": "chunked" }]) {
      let sent = 0;
      const outcome = await new Promise<number | string>((resolve) => {
        const req = request({
          socketPath: daemon.socket,
          method: "POST",
          path: "/containers/create",
          headers: { "Content-Type": "application/json", ...headers },
        });
        const block = Buffer.alloc(1 << 20, 0x20);
        const more = () => {
          while (sent < 1 << 30 && !req.destroyed) {
            sent += block.length;
            if (!req.write(block)) return void req.once("drain", more);
          }
        };
        req.on("response", (response) => {
          resolve(response.statusCode ?? 0);
          req.destroy();
        });
        req.on("error", (error) => resolve(error.message));
        more();
      });
      expect(outcome === 400 || /EPIPE|ECONNRESET|hang up/.test(String(outcome)), String(outcome)).toBe(true);
      expect(sent).toBeLessThan(100 << 20);
    }
    expect(rssMiB() - before).toBeLessThan(150);
  });

  test("deep JSON, wrong JSON, bytes that are no text", async () => {
    const deep = (n: number) => "[".repeat(n) + "]".repeat(n);
    for (const body of [
      deep(1_000_000),
      `{"Labels":${deep(100_000)}}`,
      `{"HostConfig":${deep(100_000)}}`,
      `{"Image":"x","Env":${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}}`,
      "{",
      "[1,",
      Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]),
      '{"Image":"a\\u0000b"}',
      `{"Image":"x","__proto__":{"Cmd":["sh"]},"constructor":1}`,
    ]) {
      const { status, text } = await create(body);
      expect([400, 404], text.slice(0, 200)).toContain(status);
    }
  });

  test("names that are paths lead nowhere", async () => {
    for (const name of ["..%2f..%2f..%2fetc%2fpasswd", "%2e%2e", "%00", "a%00b", "%ff%fe", ".", "x".repeat(100_000), "%E2%80%AE", "a%0d%0aX:%20y"]) {
      for (const path of [`/containers/${name}/json`, `/images/${name}/json`, `/volumes/${name}`, `/networks/${name}`, `/exec/${name}/json`]) {
        const { status } = await httpCall(daemon.socket, "GET", path);
        expect([301, 400, 404, 431], path.slice(0, 80)).toContain(status);
      }
    }
    for (const Name of ["../x", "/x", "a/b", "", "x".repeat(300), "a\u0000b"]) {
      const { status } = await httpCall(daemon.socket, "POST", "/volumes/create", { Name });
      expect(Name === "" ? [201] : [400], Name.slice(0, 20)).toContain(status);
    }
    for (const { Name } of (await httpCall(daemon.socket, "GET", "/volumes")).json<{ Volumes: { Name: string }[] }>().Volumes)
      await httpCall(daemon.socket, "DELETE", `/volumes/${Name}`);
  });

  test("headers that contradict each other, and floods of them", async () => {
    for (const head of [
      "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
      "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
      "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
      `GET /_ping HTTP/1.1\r\nHost: x\r\n${"X-Flood: y\r\n".repeat(20_000)}\r\n`,
      "GET /_ping HTTP/9.9\r\n\r\n",
      "\0\0\0\0\r\n\r\n",
    ]) {
      const raw = rawConnection(daemon.socket);
      raw.socket.write(head, "latin1");
      expect((await raw.ended()).slice(0, 12)).toMatch(/^(HTTP\/1\.1 4\d\d|)/);
      raw.socket.destroy();
    }
  });

  test("a hundred requests in one write are answered in their order", async () => {
    const raw = rawConnection(daemon.socket);
    raw.socket.write(Array.from({ length: 100 }, (_, i) => `GET /containers/none${i}/json HTTP/1.1\r\nHost: x\r\n\r\n`).join(""));
    const text = await raw.until("none99", 20_000);
    expect([...text.matchAll(/No such container: none(\d+)/g)].map((m) => Number(m[1]))).toEqual(Array.from({ length: 100 }, (_, i) => i));
    raw.socket.destroy();
  });

  test("hundreds of connections that say half a request, or hijack and go, cost nobody anything and are forgotten", async () => {
    const before = fds();
    const half = Array.from({ length: 300 }, () => {
      const socket: Socket = connect({ path: daemon.socket });
      socket.on("error", () => undefined);
      socket.write("GET /info HTTP/1.1\r\nHost: x\r\nX-Slow");
      return socket;
    });
    expect((await httpCall(daemon.socket, "GET", "/_ping")).text).toBe("OK");
    for (const socket of half) socket.destroy();
    const hijacked = Array.from({ length: 100 }, () => {
      const socket: Socket = connect({ path: daemon.socket, allowHalfOpen: true });
      socket.on("error", () => undefined);
      socket.write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
      socket.end();
      return socket;
    });
    await eventually(
      async () => (await httpCall(daemon.socket, "GET", "/info")).json<{ NEventsListener: number }>().NEventsListener,
      (n) => n >= 0,
    );
    for (const socket of hijacked) socket.destroy();
    expect(
      await eventually(
        async () => fds(),
        (n) => n <= before + 5,
      ),
    ).toBeLessThanOrEqual(before + 5);
    expect(
      await eventually(
        async () => (await httpCall(daemon.socket, "GET", "/info")).json<{ NEventsListener: number }>().NEventsListener,
        (n) => n === 0,
      ),
    ).toBe(0);
  });

  test("200 subscribers, one of whom does not read: the others get every event, and memory is bounded", async () => {
    const before = rssMiB();
    const reader = () => {
      const socket: Socket = connect({ path: daemon.socket });
      const state = { socket, seen: 0 };
      socket.on("data", (data: Buffer) => {
        for (const byte of data) if (byte === 0x0a) state.seen++;
      });
      socket.write('GET /events?filters={"type":["volume"]} HTTP/1.1\r\nHost: x\r\n\r\n');
      return state;
    };
    const readers = Array.from({ length: 199 }, reader);
    const deaf: Socket = connect({ path: daemon.socket });
    deaf.pause().write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
    const listening = async () => (await httpCall(daemon.socket, "GET", "/info")).json<{ NEventsListener: number }>().NEventsListener;
    expect(await eventually(listening, (n) => n === 200)).toBe(200);
    const label = "x".repeat(20_000); // each event is 20 KB: what the deaf one does not take waits on disk
    const heads = readers.map(({ seen }) => seen);
    for (let i = 0; i < 70; i++) {
      const { status } = await httpCall(daemon.socket, "POST", "/volumes/create", { Name: `load${i}`, Labels: { label } });
      expect(status).toBe(201);
      await httpCall(daemon.socket, "DELETE", `/volumes/load${i}`);
    }
    // Chunked: three line ends for each event (its size, itself, and the chunk's end).
    const done = async () => Math.min(...readers.map(({ seen }, i) => seen - (heads[i] ?? 0)));
    expect(await eventually(done, (n) => n >= 3 * 140)).toBeGreaterThanOrEqual(3 * 140);
    expect(rssMiB() - before).toBeLessThan(200);
    for (const { socket } of readers) socket.destroy();
    deaf.destroy();
    expect(await eventually(listening, (n) => n === 0)).toBe(0);
  });

  test("any method, path, query and body: an answer that is no fault of ours", { timeout: 60_000 }, async () => {
    const word = fc.oneof(
      fc.constantFrom(
        "containers",
        "images",
        "volumes",
        "networks",
        "exec",
        "json",
        "create",
        "prune",
        "start",
        "logs",
        "v1.41",
        "v1.99",
        "events",
        "info",
        "system",
        "df",
        "search",
        "get",
      ),
      fc.string({ maxLength: 12 }).map(encodeURIComponent),
    );
    const query = fc.dictionary(
      fc.constantFrom("filters", "all", "limit", "size", "since", "until", "t", "h", "w", "signal", "name", "fromImage", "tail", "stdout"),
      fc.oneof(fc.string({ maxLength: 20 }), fc.json({ maxDepth: 2 })),
      { maxKeys: 3 },
    );
    const call = fc.record({
      method: fc.constantFrom("GET", "POST", "DELETE", "PUT", "HEAD", "PATCH"),
      path: fc.array(word, { minLength: 1, maxLength: 4 }),
      query,
      body: fc.option(fc.jsonValue({ maxDepth: 3 }), { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(call, async ({ method, path, query: given, body }) => {
        const text = new URLSearchParams(given).toString();
        const target = `/${path.join("/")}${text === "" ? "" : `?${text}&until=1`}`;
        // Streams without an end are other tests' matter; a pull asks the world.
        if (/events|fromImage|search|build/.test(target)) return;
        const reply = await httpCall(daemon.socket, method, target, body);
        expect(reply.status, `${method} ${target} ${JSON.stringify(body)}: ${reply.text}`).not.toBe(500);
      }),
      { numRuns: 400 },
    );
  });
});
