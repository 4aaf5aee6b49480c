/** The cache in this process, before a registry that does what it is told. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Digest, digestOf, hexOf } from "#core/digest.ts";
import { HostileRegistry } from "../../../test/integration/hostile-registry.fixture.ts";
import { defaultRegistryConfig } from "../config.ts";
import { Downloads } from "../downloads.ts";
import { Registries } from "../registries.ts";
import { CacheServer } from "./cache-server.ts";
import { CacheStore } from "./cache-store.ts";
import { SharedSessions } from "./shared-sessions.ts";
import { Upstreams } from "./upstreams.ts";

const layer = randomBytes(300_000);

interface Cache extends AsyncDisposable {
  readonly base: string;
  readonly store: CacheStore;
}

let upstream: HostileRegistry;
let directory: string;

beforeEach(async () => {
  upstream = await HostileRegistry.start();
  upstream.image("1", [{ blob: layer, diffId: digestOf(layer) }]);
  directory = await mkdtemp(join(tmpdir(), "wherry-cache-"));
});
afterEach(async () => {
  await upstream[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

async function startCache({ push = false, tagMs = 0, maxBytes = 1e9 } = {}): Promise<Cache> {
  const store = await CacheStore.open({ directory, maxBytes });
  const sessions = new SharedSessions(new Registries(defaultRegistryConfig()), async () => undefined);
  const cache = new CacheServer({
    store,
    downloads: await Downloads.open(store.partialDirectory, 4, store),
    sessions,
    upstreams: new Upstreams([upstream.host]),
    push,
    tagMs,
    log: () => undefined,
  });
  const server: Server = createServer(cache.listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    store,
    base: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
      await cache.close();
      await sessions[Symbol.asyncDispose]();
    },
  };
}

/** A trick that has answered. */
const answers = (_response: unknown) => true;
const blobs = (kind = "blobs") => readdir(join(directory, kind, "sha256"));
const asked = (method: string, part: string) => upstream.seen.filter((one) => one.method === method && one.path.includes(part)).length;

describe("a pull-through cache", () => {
  it("fetches each manifest and blob once, also for many at a time", async () => {
    await using cache = await startCache({ tagMs: 60_000 });
    const digest = digestOf(layer);
    const url = `${cache.base}/v2/x/blobs/${digest}`;
    for (let round = 0; round < 2; round++) {
      const answers = await Promise.all(Array.from({ length: 8 }, async () => Buffer.from(await (await fetch(url)).arrayBuffer())));
      for (const bytes of answers) expect(bytes.equals(layer)).toBe(true);
      const manifests = await Promise.all(Array.from({ length: 8 }, () => fetch(`${cache.base}/v2/x/manifests/1`)));
      for (const manifest of manifests) {
        expect(manifest.status).toBe(200);
        const bytes = Buffer.from(await manifest.arrayBuffer());
        expect(manifest.headers.get("docker-content-digest")).toBe(digestOf(bytes));
        expect(manifest.headers.get("content-type")).toBe("application/vnd.docker.distribution.manifest.v2+json");
      }
    }
    expect(asked("GET", digest)).toBe(1);
    expect(asked("GET", "/manifests/")).toBe(1);
    expect(await readdir(join(directory, "partial"))).toEqual([]);
  });

  it("names repositories with their registry as well, and knows no others", async () => {
    await using cache = await startCache();
    for (const path of [`/v2/${upstream.host}/x/manifests/1`, `/${upstream.host}/v2/x/manifests/1`, `/v2/x/manifests/1?ns=${upstream.host}`])
      expect((await fetch(`${cache.base}${path}`)).status, path).toBe(200);
    for (const path of ["/v2/x/manifests/1?ns=127.0.0.1:1", "/127.0.0.1:1/v2/x/manifests/1", "/evil.example/v2/x/tags/list"])
      expect((await fetch(`${cache.base}${path}`)).status, path).toBe(404);
    expect(upstream.seen.every(({ path }) => path === "/v2/" || path.startsWith("/v2/x/"))).toBe(true);
  });

  it("answers ranges, of what it has and of what it fetches", async () => {
    await using cache = await startCache();
    const url = `${cache.base}/v2/x/blobs/${digestOf(layer)}`;
    const ranges = [
      ["bytes=0-9", 0, 10],
      ["bytes=100000-", 100_000, layer.length],
      ["bytes=-5", layer.length - 5, layer.length],
      ["bytes=299999-400000", 299_999, layer.length],
    ] as const;
    for (let round = 0; round < 2; round++) {
      for (const [range, start, end] of ranges) {
        const answer = await fetch(url, { headers: { range } });
        expect(answer.status).toBe(206);
        expect(answer.headers.get("content-range")).toBe(`bytes ${start}-${end - 1}/${layer.length}`);
        expect(Buffer.from(await answer.arrayBuffer()).equals(layer.subarray(start, end))).toBe(true);
      }
    }
    const beyond = await fetch(url, { headers: { range: `bytes=${layer.length}-` } });
    expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, `bytes */${layer.length}`]);
    const head = await fetch(url, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length"), head.headers.get("accept-ranges")]).toEqual([200, String(layer.length), "bytes"]);
    expect(asked("GET", digestOf(layer))).toBe(1);
  });

  it("follows a tag that moves, and keeps to what it knows while the registry is down", async () => {
    await using cache = await startCache();
    const tag = async () => (await fetch(`${cache.base}/v2/x/manifests/1`)).headers.get("docker-content-digest");
    const first = await tag();
    const second = upstream.image("1", [{ blob: layer, diffId: digestOf(layer) }], (manifest) => (manifest["annotations"] = { a: "b" }));
    expect(second).not.toBe(first);
    expect(await tag()).toBe(second);
    upstream.tricks.push((_request, response) => answers(response.writeHead(403).end()));
    expect(await tag()).toBe(second);
    upstream.reset();
    upstream.manifests.delete("1");
    expect((await fetch(`${cache.base}/v2/x/manifests/1`)).status).toBe(404);
  });

  it("keeps nothing of what is not what it should be", async () => {
    await using cache = await startCache();
    const other = digestOf("something else");
    upstream.blobs.set(other, layer);
    // The bytes are on their way before they are known to be wrong: the answer is cut short.
    await expect(fetch(`${cache.base}/v2/x/blobs/${other}`).then(async (answer) => (await answer.arrayBuffer()).byteLength)).rejects.toThrow();
    expect(await blobs()).toEqual([]);
    upstream.manifests.set("bad", { bytes: Buffer.from('{"schemaVersion":2'), mediaType: "application/json" });
    expect((await fetch(`${cache.base}/v2/x/manifests/bad`)).status).toBe(502);
    expect(await readdir(join(directory, "repositories"))).toEqual([]);
  });

  it("lists what is there", async () => {
    await using cache = await startCache({ push: true });
    await fetch(`${cache.base}/v2/x/manifests/1`);
    upstream.tricks.push((_request, response, path) => path.endsWith("/tags/list") && answers(response.end('{"name":"x","tags":["1","2","3"]}')));
    expect(await (await fetch(`${cache.base}/v2/_catalog`)).json()).toEqual({ repositories: ["x"] });
    const page = await fetch(`${cache.base}/v2/x/tags/list?n=2`);
    expect(await page.json()).toEqual({ name: "x", tags: ["1", "2"] });
    expect(page.headers.get("link")).toBe('</v2/x/tags/list?last=2&n=2>; rel="next"');
    expect(await (await fetch(`${cache.base}/v2/x/tags/list?n=2&last=2`)).json()).toEqual({ name: "x", tags: ["3"] });
    upstream.tricks.unshift((_request, response) => answers(response.writeHead(404).end()));
    expect(await (await fetch(`${cache.base}/v2/x/tags/list`)).json()).toEqual({ name: "x", tags: ["1"] });
  });

  it("lets the least recently used go, and fetches them again", async () => {
    const second = randomBytes(300_000);
    upstream.blobs.set(digestOf(second), second);
    await using cache = await startCache({ maxBytes: 400_000 });
    const get = async (digest: Digest) => (await (await fetch(`${cache.base}/v2/x/blobs/${digest}`)).arrayBuffer()).byteLength;
    await get(digestOf(layer));
    await utimes(join(directory, "blobs/sha256", hexOf(digestOf(layer))), 1, 1);
    await get(digestOf(second));
    expect(await blobs()).toEqual([hexOf(digestOf(second))]);
    expect(await get(digestOf(layer))).toBe(layer.length);
    expect(asked("GET", digestOf(layer))).toBe(2);
  });

  it("throws away what a crash left, in time, and what it kept damaged", async () => {
    await startCache().then((cache) => cache[Symbol.asyncDispose]());
    await writeFile(join(directory, "ingest", "old"), "x");
    await utimes(join(directory, "ingest", "old"), 1, 1);
    await writeFile(join(directory, "ingest", "new"), "x");
    await using cache = await startCache();
    expect(await readdir(join(directory, "ingest"))).toEqual(["new"]);
    await fetch(`${cache.base}/v2/x/manifests/1`);
    for (const name of await blobs()) await writeFile(join(directory, "blobs/sha256", name), "damaged");
    expect((await fetch(`${cache.base}/v2/x/manifests/1`)).status).toBe(200);
  });
});

describe("pushing to a cache", () => {
  const put = (base: string, path: string, body: Uint8Array | string, headers: Record<string, string> = {}) =>
    fetch(`${base}${path}`, { method: "PUT", body, headers });
  const config = Buffer.from('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}');
  const type = "application/vnd.oci.image.manifest.v1+json";
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: type,
    config: { mediaType: "application/vnd.oci.image.config.v1+json", size: config.length, digest: digestOf(config) },
    layers: [],
  });

  it("is refused unless it is allowed", async () => {
    await using cache = await startCache();
    for (const [method, path] of [
      ["POST", "/v2/x/blobs/uploads/"],
      ["PUT", "/v2/x/manifests/2"],
      ["DELETE", "/v2/x/manifests/1"],
      ["PATCH", "/v2/x/blobs/uploads/0"],
    ])
      expect((await fetch(`${cache.base}${path}`, { method: method!, ...(method === "DELETE" ? {} : { body: "x" }) })).status, `${method} ${path}`).toBe(405);
    expect(await readdir(join(directory, "ingest"))).toEqual([]);
  });

  it("takes blobs in pieces, goes on after a broken one, and verifies", async () => {
    await using cache = await startCache({ push: true });
    const begun = await fetch(`${cache.base}/v2/mine/blobs/uploads/`, { method: "POST" });
    expect(begun.status).toBe(202);
    const location = begun.headers.get("location")!;
    await fetch(`${cache.base}${location}`, { method: "PATCH", body: config.subarray(0, 10) });
    const wrong = await fetch(`${cache.base}${location}`, { method: "PATCH", body: config, headers: { "content-range": "5-20" } });
    expect(wrong.status).toBe(416);
    expect((await fetch(`${cache.base}${location}`)).headers.get("range")).toBe("0-9");
    await fetch(`${cache.base}${location}`, { method: "PATCH", body: config.subarray(10), headers: { "content-range": `10-${config.length - 1}` } });
    const unknown = await put(cache.base, "/v2/mine/manifests/1", manifest, { "content-type": type });
    expect([unknown.status, await unknown.text()]).toEqual([400, expect.stringContaining("MANIFEST_BLOB_UNKNOWN")]);
    expect((await put(cache.base, `${location}?digest=${digestOf(config)}`, "")).status).toBe(201);
    const stored = await put(cache.base, "/v2/mine/manifests/1", manifest, { "content-type": type });
    expect([stored.status, stored.headers.get("docker-content-digest")]).toEqual([201, digestOf(manifest)]);
    // Nobody else is asked for what was pushed here.
    upstream.reset();
    expect(await (await fetch(`${cache.base}/v2/mine/manifests/1`)).text()).toBe(manifest);
    expect(await (await fetch(`${cache.base}/v2/mine/blobs/${digestOf(config)}`)).text()).toBe(config.toString());
    expect(upstream.seen).toEqual([]);
  });

  it("stores nothing of what is wrong", async () => {
    await using cache = await startCache({ push: true });
    const digest = digestOf("other");
    const post = await fetch(`${cache.base}/v2/mine/blobs/uploads/?digest=${digest}`, { method: "POST", body: "bytes" });
    expect([post.status, await post.text()]).toEqual([400, expect.stringContaining("DIGEST_INVALID")]);
    expect((await put(cache.base, "/v2/mine/manifests/..%2f..%2fescape", manifest, { "content-type": type })).status).toBe(400);
    expect((await put(cache.base, "/v2/mine/manifests/1", "{", { "content-type": type })).status).toBe(400);
    expect((await put(cache.base, `/v2/mine/manifests/${digest}`, manifest, { "content-type": type })).status).toBe(400);
    expect((await put(cache.base, "/v2/mine/blobs/uploads/unknown?digest=x", "x")).status).toBe(404);
    expect(await blobs("pushed")).toEqual([]);
    expect(await readdir(join(directory, "ingest"))).toEqual([]);
  });

  it("bounds what a client can hold", async () => {
    await using cache = await startCache({ push: true });
    const large = await put(cache.base, "/v2/mine/manifests/1", Buffer.alloc(5 * 2 ** 20, 32), { "content-type": type }).then(
      ({ status }) => status,
      // The connection may go while the body is still being sent.
      () => 413,
    );
    expect(large).toBe(413);
    const begin = () => fetch(`${cache.base}/v2/mine/blobs/uploads/`, { method: "POST" }).then(({ status }) => status);
    const answers = await Promise.all(Array.from({ length: 70 }, begin));
    expect(answers.filter((status) => status === 202).length).toBe(64);
    expect(answers.filter((status) => status === 429).length).toBe(6);
  });
});

describe("hostile requests to a cache", () => {
  it("are refused, and lead nowhere", async () => {
    await using cache = await startCache();
    const raw = async (target: string) => {
      const { hostname, port } = new URL(cache.base);
      const socket = connect(Number(port), hostname);
      socket.write(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      let text = "";
      for await (const chunk of socket) text += String(chunk);
      return Number(text.split(" ")[1]);
    };
    const targets = [
      "/",
      "/etc/passwd",
      "/v2/../../etc/passwd",
      "/v2/x/blobs/../../../../etc/passwd",
      "/v2/x/blobs/sha256:..%2f..%2fetc",
      "/v2/x/blobs/sha256:abc",
      "/v2/X/manifests/1",
      "/v2/x/manifests/..%2f..%2fname",
      "/v2/x/manifests/%zz",
      "/v2/x%00/manifests/1",
      "/v2/@evil.example/x/manifests/1",
      `/v2/x/manifests/${"a".repeat(200)}`,
      `/v2/${"a/".repeat(200)}a/manifests/1`,
      "http://evil.example/v2/x/manifests/1",
      "//evil.example/v2/x/manifests/1",
    ];
    for (const target of targets) expect([400, 404, 200], target).toContain(await raw(target));
    // An absolute form and a doubled slash name nobody else: only this cache's upstream was asked, and only for what it may be asked.
    expect(upstream.seen.filter(({ path }) => !/^\/v2\/($|x\/)/.test(path))).toEqual([]);
    expect((await readdir(directory)).sort()).toEqual(["blobs", "ingest", "partial", "pushed", "repositories"]);
  });

  it("do not keep a client's blob from others when it goes away", async () => {
    await using cache = await startCache();
    let held: (() => void) | undefined;
    upstream.tricks.push((request, response, path) => {
      if (request.method !== "GET" || !path.includes("/blobs/") || request.headers.range !== undefined) return false;
      response.writeHead(200, { "content-length": layer.length });
      // The last piece that has come is held back until it is known whether it was the end: there are two.
      response.write(layer.subarray(0, 50_000));
      setTimeout(() => response.write(layer.subarray(50_000, 100_000)), 50);
      held = () => response.end(layer.subarray(100_000));
      return true;
    });
    const abort = new AbortController();
    const url = `${cache.base}/v2/x/blobs/${digestOf(layer)}`;
    const first = await fetch(url, { signal: abort.signal });
    const reader = first.body!.getReader();
    await reader.read();
    const second = fetch(url).then((answer) => answer.arrayBuffer());
    abort.abort();
    await reader.closed.catch(() => undefined);
    held!();
    expect(Buffer.from(await second).equals(layer)).toBe(true);
  });
});
