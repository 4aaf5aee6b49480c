/** The check of replies finds what is wrong with them, and passes on every byte: against a server that answers as it is told. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CheckedSocket } from "./checked-socket.ts";
import { httpCall } from "./daemon.ts";
import { rawConnection } from "./raw.ts";

const reason = CheckedSocket.missing;
if (reason) console.warn(`checked replies: skipped: ${reason}`);

const volume = { Name: "v", Driver: "local", Mountpoint: "/m", Labels: null, Options: null, Scope: "local" };

/** What the server says to which path (without version). */
const replies: Readonly<Record<string, readonly [status: number, body: string, type?: string]>> = {
  "/volumes/good": [200, JSON.stringify(volume)],
  "/volumes/wrong": [200, JSON.stringify({ ...volume, Name: 7, Extra: 1 })],
  "/volumes/short": [200, JSON.stringify({ Name: "v" })],
  "/volumes/torn": [200, "{"],
  "/volumes/teapot": [418, JSON.stringify({ message: "short and stout" })],
  "/volumes/silent": [404, JSON.stringify({ text: "no message" })],
  "/events": [200, `${JSON.stringify({ Type: "volume", Action: "create" })}\n${JSON.stringify({ Type: "nothing", Action: 1 })}\n`],
  "/images/create": [200, `${JSON.stringify({ status: "Pulling" })}\r\n${JSON.stringify({ status: 5 })}\r\n`],
  "/wherry/facts": [200, "anything"],
};

describe.skipIf(reason !== undefined)(`checked replies${reason ? ` (skipped: ${reason})` : ""}`, () => {
  const work = mkdtempSync(join(tmpdir(), "wt-checked-"));
  const path = join(work, "checked.sock");
  let server: Server;
  let checked: CheckedSocket;

  beforeAll(async () => {
    server = createServer((request, response) => {
      const [status, body, type = "application/json"] = replies[(request.url ?? "").replace(/^\/v[\d.]+/, "").replace(/\?.*/, "")] ?? [500, "{}"];
      response.writeHead(status, { "Content-Type": type });
      // In two pieces, so that no line and no chunk is whole.
      response.write(body.slice(0, 3));
      setImmediate(() => response.end(body.slice(3)));
    });
    server.on("upgrade", (_request, socket, head) => {
      socket.end(`HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nHTTP/1.1 999 not a reply\r\n\r\n${head.toString()}`);
    });
    await new Promise<void>((resolve) => server.listen(join(work, "server.sock"), resolve));
    checked = await CheckedSocket.open(path, join(work, "server.sock"));
  });
  afterAll(async () => {
    await checked.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    rmSync(work, { recursive: true, force: true });
  });

  test("what is described passes unseen, and is counted", async () => {
    expect((await httpCall(path, "GET", "/v1.44/volumes/good")).json()).toEqual(volume);
    expect((await httpCall(path, "GET", "/wherry/facts")).text).toBe("anything");
    const raw = rawConnection(path);
    raw.socket.write("GET /volumes/good HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20));
    raw.socket.end();
    expect((await raw.ended()).match(/HTTP\/1.1 200/g)).toHaveLength(20);
    expect([...checked.problems]).toEqual([]);
    expect(Object.fromEntries(checked.checked)).toEqual({ "GET /volumes/{name} 200": 21 });
  });

  test("a connection that becomes a stream is left alone", async () => {
    const raw = rawConnection(path);
    raw.socket.write("POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nGET /volumes/wrong HTTP/1.1\r\n\r\n");
    expect(await raw.ended()).toContain("999 not a reply\r\n\r\nGET /volumes/wrong");
    expect([...checked.problems]).toEqual([]);
  });

  test("everything else is told: types, fields, status, lines of a stream", async () => {
    for (const name of ["wrong", "short", "torn", "teapot", "silent"]) await httpCall(path, "GET", `/v1.44/volumes/${name}`);
    await httpCall(path, "GET", "/v1.44/events");
    await httpCall(path, "POST", "/v1.44/images/create?fromImage=x");
    expect([...checked.problems]).toEqual([
      "1.44 GET /volumes/{name} 200: .Name: expected a string, got 7",
      "1.44 GET /volumes/{name} 200: .Extra: not described",
      ...["Driver", "Mountpoint", "Labels", "Scope", "Options"].map((field) => `1.44 GET /volumes/{name} 200: .${field}: missing`),
      expect.stringMatching(/^1\.44 GET \/volumes\/\{name\} 200: the body is no JSON: /),
      "1.44 GET /volumes/{name} 418: status 418 is not described",
      "1.44 GET /volumes/{name} 404: .message: missing",
      "1.44 GET /volumes/{name} 404: .text: not described",
      expect.stringMatching(/^1\.44 GET \/events 200: \.Type: "nothing" is not one of /),
      "1.44 GET /events 200: .Action: expected a string, got 1",
      "1.44 POST /images/create 200: .status: expected a string, got 5",
    ]);
  });
});
