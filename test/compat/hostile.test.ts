/** Clients that mean harm, or know no better, against a real daemon: refused or bounded, and nobody else is slowed. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { httpCall, TestDaemon, whyNot } from "./daemon.ts";
import { busyboxArchive } from "./images.ts";
import { dataOf, framesOf, rawConnection } from "./raw.ts";
import { eventually } from "./run.ts";

const reason = whyNot();
if (reason) console.warn(`hostile: skipped: ${reason}`);

describe.skipIf(reason !== undefined)(`hostile clients${reason ? ` (skipped: ${reason})` : ""}`, () => {
  let daemon: TestDaemon;
  let pid: number;
  beforeAll(async () => {
    daemon = new TestDaemon({ checked: false }); // what some of these send is no HTTP
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
    expect(await eventually(done, (n) => n >= 3 * 140, 60_000)).toBeGreaterThanOrEqual(3 * 140);
    expect(rssMiB() - before).toBeLessThan(200);
    for (const { socket } of readers) socket.destroy();
    deaf.destroy();
    expect(await eventually(listening, (n) => n === 0)).toBe(0);
  });

  describe("hijacked connections", () => {
    const work = mkdtempSync(join(tmpdir(), "wt-hostile-"));
    beforeAll(async () => {
      expect((await daemon.api("POST", "/images/load", readFileSync(busyboxArchive(work).path))).status).toBe(200);
    });
    afterAll(() => rmSync(work, { recursive: true, force: true }));

    const make = async (Cmd: string[], more: object = {}): Promise<string> => {
      const reply = await daemon.api("POST", "/containers/create", { Image: "busybox", Cmd, OpenStdin: true, HostConfig: { NetworkMode: "none" }, ...more });
      return reply.json<{ Id: string }>().Id;
    };
    const start = async (id: string) => expect((await daemon.api("POST", `/containers/${id}/start`)).status).toBe(204);
    const remove = async (id: string) => expect((await daemon.api("DELETE", `/containers/${id}?force=1`)).status).toBe(204);
    const upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n";
    const attachTo = (id: string, headers = upgrade) => `POST /containers/${id}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\n${headers}\r\n`;
    const settled = async (before: number) =>
      expect(
        await eventually(
          async () => fds(),
          (n) => n <= before + 5,
          30_000, // a connection whose client has said no goodbye lingers for ten seconds
        ),
      ).toBeLessThanOrEqual(before + 5);

    test("data before the answer, and the end of input right behind it, are the program's; a further request in it is data too", async () => {
      const id = await make(["sh", "-c", "wc -c; echo done"], { StdinOnce: true });
      const raw = rawConnection(daemon.socket);
      const smuggled = "GET /version HTTP/1.1\r\nHost: x\r\n\r\n";
      raw.socket.write(attachTo(id) + smuggled + "x".repeat(300_000));
      raw.socket.end("y");
      await raw.until("101 UPGRADED");
      await start(id);
      const text = await raw.ended(20_000);
      expect(dataOf(framesOf(text), 1)).toBe(`${smuggled.length + 300_001}\ndone\n`);
      expect(text.match(/HTTP\/1\.1/g)).toHaveLength(1);
      await remove(id);
    });

    test("an exec's body that lies about its size or never ends is refused, and so is what is not there", async () => {
      const id = await make(["sleep", "1000"]);
      await start(id);
      const { Id } = (await daemon.api("POST", `/containers/${id}/exec`, { Cmd: ["cat"], AttachStdin: true, AttachStdout: true })).json<{ Id: string }>();
      const head = (headers: string) => `POST /exec/${Id}/start HTTP/1.1\r\n${upgrade}Content-Type: application/json\r\n${headers}\r\n\r\n`;
      for (const request of [
        `${head("Content-Length: 1073741824")}{`,
        head("Transfer-Encoding: chunked") + `10000\r\n${" ".repeat(0x10000)}\r\n`.repeat(130),
        `${head("Transfer-Encoding: chunked")}zz\r\n`,
        `${head("Content-Length: 3")}{x}`,
        attachTo("nobody"),
        `POST /exec/${"0".repeat(64)}/start HTTP/1.1\r\n${upgrade}Content-Length: 2\r\n\r\n{}`,
      ]) {
        const raw = rawConnection(daemon.socket);
        raw.socket.write(request, "latin1");
        expect(await raw.ended(20_000), request.slice(0, 60)).toMatch(/^HTTP\/1\.1 40[04] /);
        raw.socket.destroy();
      }
      // It is as good as before.
      const raw = rawConnection(daemon.socket);
      raw.socket.end(`${head("Content-Length: 2")}{}through`);
      expect(dataOf(framesOf(await raw.ended(20_000)), 1)).toBe("through");
      await remove(id);
    });

    test("a hundred that wait for a container that never starts, half of them half-closed, cost a descriptor each and no more", async () => {
      const id = await make(["cat"]);
      const [before, memory] = [fds(), rssMiB()];
      const waiting = Array.from({ length: 100 }, (_, i) => {
        const raw = rawConnection(daemon.socket);
        if (i % 2 === 0) raw.socket.end(attachTo(id));
        else raw.socket.write(attachTo(id, "Host: x\r\n") + "z".repeat(100_000)); // the old way, and input that nobody takes
        return raw;
      });
      await Promise.all(waiting.map((raw) => raw.until(/ (101|200) /, 20_000)));
      expect(rssMiB() - memory).toBeLessThan(100);
      for (const raw of waiting) raw.socket.destroy();
      // Who has ended his input, or is not read from, is not seen to go: it is the container's end that lets go of him.
      await remove(id);
      await settled(before);
    });

    test("one who attaches and never reads stops neither the program's log, nor other clients, nor eats memory", async () => {
      const id = await make(["sh", "-c", "yes 0123456789012345678901234567890 | head -n 500000; echo the end >&2"]);
      const [before, memory] = [fds(), rssMiB()];
      const deaf = Array.from({ length: 20 }, () => {
        const socket: Socket = connect({ path: daemon.socket, allowHalfOpen: true });
        socket.on("error", () => undefined);
        socket.pause().write(attachTo(id));
        return socket;
      });
      const reader = rawConnection(daemon.socket);
      reader.socket.write(attachTo(id));
      await reader.until("101 UPGRADED");
      await start(id);
      expect((await httpCall(daemon.socket, "GET", "/_ping")).text).toBe("OK");
      expect(rssMiB() - memory).toBeLessThan(200);
      // Those who do not read let go: then whatever they have held back must go on.
      for (const socket of deaf) socket.destroy();
      expect((await daemon.api("POST", `/containers/${id}/wait`)).json<{ StatusCode: number }>().StatusCode).toBe(0);
      expect(await reader.until("the end\n", 30_000)).toContain("the end\n");
      reader.socket.destroy();
      expect((await daemon.api("GET", `/containers/${id}/logs?stderr=1`)).text).toContain("the end\n");
      await settled(before);
      await remove(id);
    });
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
