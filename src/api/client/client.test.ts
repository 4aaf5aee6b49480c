import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createFakeEngine, type FakeEngine } from "../../../test/compat/fake-engine.ts";
import { type ApiServer, createApiServer } from "../server/mod.ts";
import { decodeLines } from "../types/ndjson.ts";
import { createHttpClient } from "./http.ts";
import { createInProcessClient } from "./in-process.ts";
import { type ApiClient, ApiError, ConnectionError } from "./mod.ts";

let dir: string;
let engine: FakeEngine;
let server: ApiServer;
const clients: Record<string, ApiClient> = {};

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "wherry-client-"));
  engine = createFakeEngine();
  server = createApiServer(engine, { version: "0.1.0", log: () => undefined });
  const unix = `unix://${join(dir, "api.sock")}`;
  const { addresses } = await server.listen([unix, "tcp://127.0.0.1:0"]);
  clients.unix = createHttpClient(unix);
  clients.tcp = createHttpClient(addresses[1]!);
  clients["in process"] = createInProcessClient({ dispatch: server.dispatch, host: unix });
});

afterAll(async () => {
  for (const client of Object.values(clients)) await client.close();
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

/** The same behaviour, whatever the transport. */
describe.each(["unix", "tcp", "in process"])("%s", (transport) => {
  const name = transport.replace(" ", "-");
  const client = () => clients[transport]!;

  test("JSON both ways, and nothing for an empty answer", async () => {
    const { Id } = await client().json<{ Id: string }>("POST", "/containers/create", { query: { name }, body: { Image: "busybox", Labels: { ü: "✓" } } });
    const inspected = await client().json<{ Name: string; Config: { Labels: Record<string, string> } }>("GET", `/containers/${Id}/json`);
    expect(inspected.Name).toBe(`/${name}`);
    expect(inspected.Config.Labels).toEqual({ ü: "✓" });
    expect(await client().json("POST", `/containers/${Id}/start`)).toBeUndefined();
    const filters = JSON.stringify({ label: ["a"] });
    expect(await client().json("GET", "/containers/json", { query: { all: true, filters } })).toContainEqual(expect.objectContaining({ Id }));
  });

  test("errors are ApiError with the server's words", async () => {
    const failure = client().json("GET", "/containers/none/json");
    await expect(failure).rejects.toThrow(ApiError);
    await expect(failure).rejects.toMatchObject({ status: 404, message: "No such container: none", code: "not-found" });
    await expect(client().json("POST", `/containers/${name}/start`)).rejects.toMatchObject({ status: 304 });
    await expect(client().stream("GET", "/nowhere")).rejects.toMatchObject({ status: 404, message: "page not found" });
    await expect(client().hijack("POST", "/containers/none/attach")).rejects.toMatchObject({ status: 404 });
  });

  test("a streamed body and a streamed answer", async () => {
    const { body } = await client().stream("POST", "/images/load", { query: { quiet: false }, body: Readable.from([Buffer.from("arch"), Buffer.from("ive")]) });
    const lines: unknown[] = [];
    for await (const line of decodeLines(body)) lines.push(line);
    expect(lines).toEqual([
      expect.objectContaining({ status: "Loading layer", progressDetail: { current: 7, total: 7 } }),
      { stream: "Loaded image: busybox:latest\n" },
    ]);
  });

  test("hijack: both directions, half-closed", async () => {
    const { stream, framed } = await client().hijack("POST", `/containers/${name}/attach`, { query: { stream: true, stdin: true, stdout: true } });
    expect(framed).toBe(true);
    const container = engine.attached.at(-1)!;
    let stdin = "";
    container.on("data", (chunk) => {
      stdin += String(chunk);
    });
    const eof = new Promise((resolve) => container.once("end", resolve));
    stream.write("typed");
    stream.end();
    await eof;
    expect(stdin).toBe("typed");
    container.end("answer");
    let answer = "";
    for await (const chunk of stream) answer += String(chunk);
    expect(answer).toBe("answer");
  });

  test("an aborted wait reaches the engine", async () => {
    const controller = new AbortController();
    const before = engine.calls.filter((call) => call === "wait aborted").length;
    const waiting = client().json("POST", `/containers/${name}/wait`, { signal: controller.signal });
    const outcome = waiting.then(
      () => "settled",
      () => "rejected",
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    controller.abort();
    await expect.poll(() => engine.calls.filter((call) => call === "wait aborted").length).toBe(before + 1);
    expect(["settled", "rejected"]).toContain(await outcome);
  });

  test("explain, facts and bootstrap", async () => {
    const { body } = await client().stream("POST", "/wherry/explain", { query: { format: "text" }, body: { Image: "busybox", Cmd: ["true"] } });
    let text = "";
    for await (const chunk of body) text += String(chunk);
    expect(text).toBe("1. clone\n");
    expect(engine.lastConfig?.Cmd).toEqual(["true"]);
    const facts = await client().json<{ capabilities: string }>("GET", "/wherry/facts");
    expect(facts.capabilities).toBe("1ffffffffff");
    await client().json("POST", "/wherry/explain", { query: { format: "json" }, body: { Image: "busybox", facts } });
    await expect(client().json("POST", "/wherry/explain", { body: { Image: "busybox", facts: { kernel: 1 } } })).rejects.toMatchObject({
      status: 400,
      message: "invalid request: facts.kernel: expected an object, got 1",
    });
    const { body: progress } = await client().stream("POST", "/wherry/images/bootstrap", { query: { what: "busybox" } });
    const lines: unknown[] = [];
    for await (const line of decodeLines(progress)) lines.push(line);
    expect(lines).toMatchObject([{ status: "unpacking" }, { aux: { RepoTags: ["busybox:latest"] } }]);
  });
});

test("direct descriptors go through in process only", async () => {
  const client = clients["in process"]!;
  expect([client.direct, clients.unix!.direct]).toEqual([true, false]);
  const { Id } = await client.json<{ Id: string }>("POST", "/containers/create", { body: { Image: "busybox" } });
  await client.json("POST", `/containers/${Id}/start`, {
    direct: { token: "t", stdin: true, stdout: true, stderr: true, detachKeys: new Uint8Array(0), rows: 0, columns: 0 },
  });
  expect(engine.calls.at(-1)).toBe("start direct");
});

test("no daemon is a ConnectionError that says where", async () => {
  const client = createHttpClient(`unix://${join(dir, "none.sock")}`);
  await expect(client.json("GET", "/info")).rejects.toThrow(ConnectionError);
  await expect(client.json("GET", "/info")).rejects.toThrow(`Cannot connect to the daemon at unix://${join(dir, "none.sock")}`);
  expect(() => createHttpClient("ftp://x")).toThrow(ConnectionError);
});
