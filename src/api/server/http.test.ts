import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { tmpdir } from "node:os";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createFakeEngine, type FakeEngine } from "../../../test/compat/fake-engine.ts";
import { rawConnection } from "../../../test/compat/raw.ts";
import { EngineError } from "#core/errors.ts";
import { createHttpServer } from "./http.ts";
import { type ApiServer, createApiServer } from "./mod.ts";

let dir: string;
let engine: FakeEngine;
let server: ApiServer;
let socketPath: string;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "wherry-api-"));
  socketPath = join(dir, "api.sock");
  engine = createFakeEngine();
  server = createApiServer(engine, { version: "0.1.0", log: () => undefined });
  await server.listen([`unix://${socketPath}`]);
});

afterEach(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

const raw = () => rawConnection(socketPath);

/** What a container reads on its stdin, up to EOF; its output stays open. */
function readAll(container: Duplex): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    container.on("data", (chunk) => (text += String(chunk)));
    container.once("end", () => resolve(text));
  });
}

async function exchange(request: string): Promise<string> {
  const connection = raw();
  connection.socket.write(request.replace("\r\n\r\n", "\r\nHost: x\r\nConnection: close\r\n\r\n"));
  return connection.ended();
}

const get = (path: string) => exchange(`GET ${path} HTTP/1.1\r\n\r\n`);
const post = (path: string, body?: unknown, type = "application/json") => {
  const text = typeof body === "string" ? body : body === undefined ? "" : JSON.stringify(body);
  return exchange(`POST ${path} HTTP/1.1\r\nContent-Length: ${Buffer.byteLength(text)}${body === undefined ? "" : `\r\nContent-Type: ${type}`}\r\n\r\n${text}`);
};
const bodyOf = (reply: string): unknown => JSON.parse(reply.slice(reply.indexOf("\r\n\r\n") + 4));

async function newContainer(config: Record<string, unknown> = {}): Promise<string> {
  const reply = await post("/containers/create?name=web", { Image: "busybox", ...config });
  return (bodyOf(reply) as { Id: string }).Id;
}

describe("ping and versions", () => {
  test("GET and HEAD carry the headers by which a client negotiates", async () => {
    for (const method of ["GET", "HEAD"]) {
      const reply = await exchange(`${method} /_ping HTTP/1.1\r\n\r\n`);
      expect(reply).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
      for (const header of [
        "Api-Version: 1.51",
        "Docker-Experimental: false",
        "Ostype: linux",
        "Builder-Version: 1",
        "Swarm: inactive",
        "Cache-Control: no-cache, no-store, must-revalidate",
        "Pragma: no-cache",
      ]) {
        expect(reply).toContain(`\r\n${header}\r\n`);
      }
      expect(reply).toMatch(/\r\nServer: wherry\/0\.1\.0 \(linux\)\r\n/);
      expect(reply).toMatch(method === "GET" ? /\r\n\r\nOK$/ : /\r\nContent-Length: 0\r\n[\s\S]*\r\n\r\n$/);
    }
  });

  test("every version from 1.24 to 1.51 and none is accepted, others are refused with docker's words", async () => {
    for (const prefix of ["", "/v1.24", "/v1.51"]) expect(await get(`${prefix}/containers/json`)).toMatch(/^HTTP\/1\.1 200/);
    const tooNew = await get("/v1.99/containers/json");
    expect(tooNew).toMatch(/^HTTP\/1\.1 400/);
    expect(bodyOf(tooNew)).toEqual({ message: "client version 1.99 is too new. Maximum supported API version is 1.51" });
    expect((bodyOf(await get("/v1.12/info")) as { message: string }).message).toContain(
      "client version 1.12 is too old. Minimum supported API version is 1.24",
    );
  });

  test("the common headers are on errors too, and an unknown route is docker's 404", async () => {
    const reply = await get("/nothing/here");
    expect(reply).toMatch(/^HTTP\/1\.1 404/);
    expect(reply).toContain("Api-Version: 1.51");
    expect(bodyOf(reply)).toEqual({ message: "page not found" });
  });

  test("a wrong method on a known path is the same 404", async () => {
    expect(await exchange("PATCH /containers/json HTTP/1.1\r\n\r\n")).toMatch(/^HTTP\/1\.1 404/);
  });
});

test("inspect answers for the record that there is now, and for the network that has its name now", async () => {
  const id = await newContainer({ HostConfig: { NetworkMode: "bridge" } });
  const inspect = async () =>
    bodyOf(await get(`/v1.44/containers/${id}/json`)) as { Name: string; NetworkSettings: { Networks: { bridge: { NetworkID: string } } } };
  const first = await inspect();
  expect(await inspect()).toEqual(first);
  const [network] = engine.networks.list({});
  engine.networks.list = () => [{ ...network!, Id: "d".repeat(64) }];
  expect((await inspect()).NetworkSettings.Networks.bridge.NetworkID).toBe("d".repeat(64));
  await post(`/containers/${id}/rename?name=other`);
  expect(await inspect()).toMatchObject({ Name: "/other", NetworkSettings: { Networks: { bridge: { NetworkID: "d".repeat(64) } } } });
});

describe("request bodies", () => {
  test("malformed JSON, a wrong content type, an empty body and a wrong type are 400 and say why", async () => {
    const messageOf = (reply: string) => {
      expect(reply).toMatch(/^HTTP\/1\.1 400/);
      return (bodyOf(reply) as { message: string }).message;
    };
    expect(messageOf(await post("/containers/create", '{"Image":'))).toMatch(/^invalid JSON: /);
    expect(messageOf(await post("/containers/create", "{}", "text/plain"))).toBe("unsupported Content-Type header (text/plain): must be 'application/json'");
    expect(messageOf(await post("/containers/create"))).toBe("config cannot be empty in order to create a container");
    expect(messageOf(await post("/containers/create", { Image: "busybox", HostConfig: { Memory: "x" } }))).toBe(
      'invalid request: HostConfig.Memory: expected a number, got "x"',
    );
  });

  test("more JSON than the bound is refused without being kept", async () => {
    const connection = raw();
    connection.socket.write("POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    const chunk = "x".repeat(1024 * 1024);
    for (let i = 0; i < 9; i++) connection.socket.write(`${chunk.length.toString(16)}\r\n${chunk}\r\n`);
    expect(await connection.until("too large")).toMatch(/^HTTP\/1\.1 400/);
    connection.socket.destroy();
  });
});

describe("connections", () => {
  test("the socket is for its owner and group only", () => {
    expect(statSync(socketPath).mode & 0o777).toBe(0o660);
  });

  test("two pipelined requests get two answers in order", async () => {
    const connection = raw();
    connection.socket.write("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    const text = await connection.until("page not found");
    expect(text.indexOf("200 OK")).toBeLessThan(text.indexOf("404 Not Found"));
    connection.socket.destroy();
  });

  test("a client that half-closes behind its request still gets the answer", async () => {
    const connection = raw();
    connection.socket.end("GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    const text = await connection.ended();
    expect((bodyOf(text) as { ApiVersion: string }).ApiVersion).toBe("1.51");
  });

  test("garbage is answered with 400 and the connection closed", async () => {
    const connection = raw();
    connection.socket.write("this is not HTTP\r\n\r\n");
    expect(await connection.ended()).toMatch(/^HTTP\/1\.1 400 Bad Request/);
  });

  test("an offer to upgrade on an ordinary route is ignored", async () => {
    const connection = raw();
    connection.socket.write("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n");
    expect(await connection.until("OK")).toMatch(/^HTTP\/1\.1 200 OK/);
    connection.socket.destroy();
  });
});

describe("wait", () => {
  test("sends its header before the container has ended", async () => {
    const id = await newContainer();
    const connection = raw();
    connection.socket.write(`POST /containers/${id}/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n`);
    const header = await connection.until("\r\n\r\n");
    expect(header).toMatch(/^HTTP\/1\.1 200 OK/);
    expect(header).not.toContain("StatusCode");
    engine.exit(id, 3);
    expect(await connection.until("StatusCode")).toContain('{"StatusCode":3}');
    connection.socket.destroy();
  });

  test("an unknown container and an unknown condition are statuses", async () => {
    expect(await post("/containers/nope/wait")).toMatch(/^HTTP\/1\.1 404/);
    const id = await newContainer();
    expect(await post(`/containers/${id}/wait?condition=later`)).toMatch(/^HTTP\/1\.1 400/);
  });

  test("ends when the client goes", async () => {
    const id = await newContainer();
    const connection = raw();
    connection.socket.write(`POST /containers/${id}/wait HTTP/1.1\r\nHost: x\r\n\r\n`);
    await connection.until("\r\n\r\n");
    connection.socket.destroy();
    await expect.poll(() => engine.calls).toContain("wait aborted");
  });
});

test("a connection that brings many requests is not left with a listener of each", async () => {
  const told: string[] = [];
  const { server: http } = createHttpServer({
    version: "0.1.0",
    log: () => undefined,
    dispatch: async ({ signal }) => {
      signal.addEventListener("abort", () => told.push("gone"));
      return { kind: "json", status: 200, value: {} };
    },
  });
  const sockets: Socket[] = [];
  http.on("connection", (socket) => sockets.push(socket));
  const path = join(dir, "many.sock");
  await new Promise<void>((resolve) => http.listen(path, resolve));
  const connection = rawConnection(path);
  const counts: number[] = [];
  for (let i = 0; i < 3; i++) {
    connection.socket.write(`GET /containers/${i}/json HTTP/1.1\r\nHost: x\r\n\r\n`);
    await connection.until(new RegExp(`(\\{\\}[^]*){${i + 1}}`));
    counts.push(sockets[0]!.listenerCount("close") + sockets[0]!.listenerCount("end"));
  }
  expect(sockets).toHaveLength(1);
  expect(new Set(counts).size).toBe(1);
  expect(told).toEqual([]); // they had their answers
  connection.socket.destroy();
  await new Promise((resolve) => http.close(resolve));
});

describe("hijack", () => {
  const upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

  for (const [name, extra, status] of [
    ["with Upgrade", upgrade, "HTTP/1.1 101 UPGRADED\r\n"],
    ["without Upgrade", "", "HTTP/1.1 200 OK\r\n"],
  ] as const) {
    test(`${name}: bytes that came with the header reach stdin, half-close is EOF, output still flows`, async () => {
      const id = await newContainer({ OpenStdin: true });
      const connection = raw();
      connection.socket.write(`POST /v1.51/containers/${id}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n${extra}\r\nGET / early bytes`);
      const header = await connection.until("\r\n\r\n");
      expect(header.startsWith(status)).toBe(true);
      expect(header).toContain("Content-Type: application/vnd.docker.multiplexed-stream");
      if (extra) expect(header).toMatch(/Connection: Upgrade\r\nUpgrade: tcp\r\n/);
      const container = engine.attached[0]!;
      connection.socket.write(" and late ones");
      connection.socket.end();
      const stdin = await readAll(container);
      expect(stdin).toBe("GET / early bytes and late ones");
      container.end("output after EOF");
      expect((await connection.ended()).endsWith("\r\n\r\noutput after EOF")).toBe(true);
    });
  }

  test("exec start reads exactly its JSON, counted or chunked; the rest is stdin", async () => {
    const id = await newContainer();
    await post(`/containers/${id}/start`);
    for (const framing of ["counted", "chunked"]) {
      const { Id } = bodyOf(await post(`/containers/${id}/exec`, { Cmd: ["cat"], AttachStdin: true, AttachStdout: true })) as { Id: string };
      const json = '{"Detach":false,"Tty":false}';
      const body =
        framing === "counted"
          ? `Content-Length: ${json.length}\r\n\r\n${json}`
          : `Transfer-Encoding: chunked\r\n\r\n5\r\n${json.slice(0, 5)}\r\n${(json.length - 5).toString(16)}\r\n${json.slice(5)}\r\n0\r\n\r\n`;
      const connection = raw();
      connection.socket.write(`POST /v1.41/exec/${Id}/start HTTP/1.1\r\nHost: x\r\n${upgrade}Content-Type: application/json\r\n${body}hello`);
      const header = await connection.until("\r\n\r\n");
      expect(header).toContain("101 UPGRADED");
      expect(header).toContain("application/vnd.docker.raw-stream");
      const container = engine.attached.at(-1)!;
      connection.socket.end(" there");
      const stdin = await readAll(container);
      expect(stdin).toBe("hello there");
      container.end();
      await connection.ended();
    }
  });

  test("a detached exec and an error are ordinary replies", async () => {
    const id = await newContainer();
    const { Id } = bodyOf(await post(`/containers/${id}/exec`, { Cmd: ["true"] })) as { Id: string };
    expect(await post(`/exec/${Id}/start`, { Detach: true })).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*Content-Length: 0/);
    const missing = await exchange(`POST /containers/nope/attach?stream=1 HTTP/1.1\r\n${upgrade.trimEnd()}\r\n\r\n`);
    expect(missing).toMatch(/^HTTP\/1\.1 404 Not Found/);
    expect(bodyOf(missing)).toMatchObject({ message: "No such container: nope" });
  });

  test("hijacking works on a connection that has served a request before", async () => {
    const id = await newContainer();
    const connection = raw();
    connection.socket.write("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n");
    await connection.until("OK");
    connection.socket.write(`POST /containers/${id}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n\r\n`);
    await connection.until("raw-stream\r\n\r\n".replace("raw", "multiplexed"));
    engine.attached[0]!.end("out");
    expect((await connection.ended()).endsWith("out")).toBe(true);
  });

  // Until then a closed connection looks like a half-closed one.
  test("a client that goes is detached with the next output", async () => {
    const id = await newContainer();
    const connection = raw();
    connection.socket.write(`POST /containers/${id}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`);
    await connection.until("UPGRADED");
    connection.socket.destroy();
    const container = engine.attached[0]!;
    await expect
      .poll(() => {
        if (!container.destroyed) container.write("output");
        return container.destroyed;
      })
      .toBe(true);
  });
});

describe("streams", () => {
  test("events: header at once, one object a line with all digits of timeNano, and the end when the client goes", async () => {
    engine.eventList = [
      { Type: "container", Action: "start", Actor: { ID: "abc", Attributes: { image: "busybox", name: "web" } }, timeNano: 1_700_000_000_123_456_789n },
    ];
    const connection = raw();
    connection.socket.write("GET /v1.51/events HTTP/1.1\r\nHost: x\r\n\r\n");
    const text = await connection.until("timeNano");
    const line = text.split("\n").find((l) => l.startsWith("{"))!;
    expect(line).toContain('"timeNano":1700000000123456789}');
    expect(JSON.parse(line)).toMatchObject({
      status: "start",
      id: "abc",
      from: "busybox",
      Type: "container",
      Action: "start",
      scope: "local",
      time: 1_700_000_000,
    });
    connection.socket.destroy();
    await expect.poll(() => engine.calls).toContain("events ended");
  });

  test("logs: frames with timestamps, and a follower that ends with its client", async () => {
    const id = await newContainer();
    engine.logEntries = [
      { stream: "stdout", timeNs: 1_700_000_000_000_000_001n, log: Buffer.from("one\n") },
      { stream: "stderr", timeNs: 1_700_000_000_000_000_002n, log: Buffer.from("two\n") },
    ];
    const connection = raw();
    connection.socket.write(`GET /containers/${id}/logs?stdout=1&stderr=1&follow=1&timestamps=1 HTTP/1.1\r\nHost: x\r\n\r\n`);
    const text = await connection.until("two\n");
    expect(text).toContain(
      "\u0001\u0000\u0000\u0000\u0000\u0000\u0000\u00232023-11-14T22:13:20.000000001Z one\n\u0002\u0000\u0000\u0000\u0000\u0000\u0000\u0023",
    );
    connection.socket.destroy();
    await expect.poll(() => engine.calls).toContain("logs ended");
    expect((await get(`/containers/${id}/logs`)).split("\r\n")[0]).toBe("HTTP/1.1 400 Bad Request");
  });

  test("load: progress lines; an error before the first is a status, later a line", async () => {
    const good = await post("/images/load?quiet=0", "archive", "application/x-tar");
    expect(good).toMatch(/^HTTP\/1\.1 200/);
    expect(good).toContain('{"stream":"Loaded image: busybox:latest\\n"}\r\n');
    expect(good).toContain('"status":"Loading layer"');
    const empty = await post("/images/load", "", "application/x-tar");
    expect(empty).toMatch(/^HTTP\/1\.1 400/);
    expect(bodyOf(empty)).toMatchObject({ message: "unexpected EOF" });
    const late = await post("/images/load?quiet=0", "bad", "application/x-tar");
    expect(late).toMatch(/^HTTP\/1\.1 200/);
    expect(late).toContain('{"errorDetail":{"message":"bad layer"},"error":"bad layer"}');
  });
});

describe("errors", () => {
  test("unknown image 404, name conflict 409, already started 304 without a body, our own fault 500", async () => {
    const missing = await post("/containers/create", { Image: "nope" });
    expect(missing).toMatch(/^HTTP\/1\.1 404/);
    expect(bodyOf(missing)).toMatchObject({ message: "No such image: nope:latest" });
    const id = await newContainer();
    const conflict = await post("/containers/create?name=web", { Image: "busybox" });
    expect(conflict).toMatch(/^HTTP\/1\.1 409/);
    expect((bodyOf(conflict) as { message: string }).message).toContain('The container name "/web" is already in use by container');
    expect(await post(`/containers/${id}/start`)).toMatch(/^HTTP\/1\.1 204/);
    const again = await post(`/containers/${id}/start`);
    expect(again).toMatch(/^HTTP\/1\.1 304/);
    expect(again.endsWith("\r\n\r\n")).toBe(true);
    engine.containers.top = async () => {
      throw new TypeError("boom");
    };
    expect(await get(`/containers/${id}/top`)).toMatch(/^HTTP\/1\.1 500/);
  });

  test("a pull is docker's progress; what fails before it is a status, what fails later a line", async () => {
    engine.images.pull = async ({ reference, allTags, credentials }, onEvent) => {
      expect(allTags).toBe(false);
      if (reference === "nope:latest") throw new EngineError("not-found", "manifest for nope:latest not found: manifest unknown: manifest unknown");
      expect(credentials).toEqual({ username: "me", password: "pw" });
      const id = `sha256:${"a".repeat(64)}` as const;
      onEvent({ kind: "begin", path: "library/busybox", tag: "1" });
      onEvent({ kind: "layer", id, state: "downloading", current: 5, total: 10 });
      throw new EngineError("corrupt", "filesystem layer verification failed");
    };
    expect(await post("/images/create?fromImage=nope&tag=latest")).toMatch(/^HTTP\/1\.1 404/);
    const header = Buffer.from(JSON.stringify({ username: "me", password: "pw" })).toString("base64url");
    const reply = await post("/images/create?fromImage=busybox&tag=1", "", `application/json\r\nX-Registry-Auth: ${header}`);
    expect(reply).toContain('{"status":"Pulling from library/busybox","id":"1"}');
    expect(reply).toContain(
      '{"status":"Downloading","progressDetail":{"current":5,"total":10},"progress":"[=========================>                        ]      5B/10B","id":"aaaaaaaaaaaa"}',
    );
    expect(reply).toContain('"error":"filesystem layer verification failed"');
    expect(await post("/images/create?fromImage=busybox&tag=1", "", "application/json\r\nX-Registry-Auth: %%%")).toMatch(/^HTTP\/1\.1 400/);
  });

  test("a path with a broken escape is 400", async () => {
    expect(await get("/containers/%zz/json")).toMatch(/^HTTP\/1\.1 400/);
  });
});

test("a second daemon on the same socket is refused, a stale socket is replaced", async () => {
  const second = createApiServer(createFakeEngine(), { version: "0.1.0", log: () => undefined });
  await expect(second.listen([`unix://${socketPath}`])).rejects.toThrow("another daemon listens");
  await expect(second.listen(["ftp://x"])).rejects.toThrow("invalid host");
});

test("tcp listens where it is told, with a real port", async () => {
  const listening = await server.listen(["tcp://127.0.0.1:0"]);
  expect(listening.addresses[0]).toMatch(/^tcp:\/\/127\.0\.0\.1:[1-9]\d*$/);
  const port = Number(listening.addresses[0]!.split(":").pop());
  const socket = connect({ port, host: "127.0.0.1" });
  socket.write("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  expect(text.endsWith("OK")).toBe(true);
  await listening.close();
});
