/**
 * Registries that lie, stall, break and attack: each gives an error that says what was wrong, nothing is half stored, memory does not grow, and credentials go nowhere else.
 * @module
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Clock } from "#core/clock.ts";
import { EngineError } from "#core/errors.ts";
import type { Engine, EngineOptions, PullEvent } from "#engine/mod.ts";
import { openEngine } from "#engine/open-engine.ts";
import { defaultRegistryConfig } from "#registry/mod.ts";
import { slotBytes, slotCount } from "#unionfs/threads/shared-ring.ts";
import { tarOf } from "../fixtures.ts";
import { helperPath } from "./engine-setup.ts";
import { HostileRegistry, sha256 } from "./hostile-registry.fixture.ts";

const isRoot = process.getuid?.() === 0 && existsSync(helperPath);
if (!isRoot) console.warn("hostile-registry: skipped: not root, or not built");

/** Waits are over at once, and are counted. */
const waits: number[] = [];
const quickClock: Clock = {
  now: () => Date.now(),
  sleep: async (ms, signal) => {
    signal?.throwIfAborted();
    waits.push(ms);
    await new Promise((resolve) => setImmediate(resolve));
  },
};

/** A trick that has answered. */
const done = (_answered: unknown): true => true;

const layerOf = (text: string) => {
  const tar = tarOf([{ name: "f", data: text }]);
  return { blob: gzipSync(tar), diffId: sha256(tar) };
};

describe.runIf(isRoot)("a registry that", () => {
  let root: string;
  let engine: Engine;
  let registry: HostileRegistry;
  let name: string;
  let tag = 0;
  const good = layerOf("good");

  beforeAll(async () => {
    root = mkdtempSync("/var/tmp/wherry-hostile-");
    const id = root.slice(-6).toLowerCase();
    const options: EngineOptions = {
      dataRoot: join(root, "data"),
      execRoot: join(root, "run"),
      helperPath,
      cgroupParent: `/wherry-test-${id}`,
      bridge: { name: `wt${id}` },
      registry: { ...defaultRegistryConfig(), maxUnpackedBytes: 64 * 1024 * 1024, slowest: { bytes: 1024, ms: 200 } },
      clock: quickClock,
      log: () => undefined,
    };
    engine = await openEngine(options);
    registry = await HostileRegistry.start();
    name = `${registry.host}/x`;
  });
  afterAll(async () => {
    await engine.close();
    await registry[Symbol.asyncDispose]();
    rmSync(root, { recursive: true, force: true });
  });
  afterEach(async () => {
    registry.reset();
    waits.length = 0;
    // Nothing of a pull that failed is an image, a layer, or an orphan.
    expect((await engine.images.list()).flatMap(({ repoTags }) => repoTags)).toEqual([]);
    expect(readdirSync(join(root, "data/content/blobs/sha256"))).toEqual([]);
    expect(readdirSync(join(root, "data/layerdb/overlay2"))).toEqual([]);
    expect(readdirSync(join(root, "data/content/ingest"))).toEqual([]);
  });

  const pull = async (reference: string, more: Partial<Parameters<Engine["images"]["pull"]>[0]> = {}): Promise<PullEvent[]> => {
    const events: PullEvent[] = [];
    await engine.images.pull({ reference, ...more }, (event) => events.push(event));
    return events;
  };
  const failure = async (reference: string, more: Parameters<typeof pull>[1] = {}): Promise<EngineError> => {
    const error: unknown = await pull(reference, more).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (!(error instanceof EngineError)) throw new Error("the pull did not fail as it should", { cause: error });
    return error;
  };
  const next = () => `t${++tag}`;
  const blobPath = (blob: Buffer) => `/v2/x/blobs/${sha256(blob)}`;
  const partials = () => readdirSync(join(root, "data/registry/partial"));

  test("sends a layer with another digest is found out; the wrong bytes are not kept", async () => {
    const at = next();
    registry.image(at, [good]);
    const wrong = Buffer.from(good.blob);
    wrong[wrong.length - 10]! ^= 1;
    registry.tricks.push((_q, response, path) => path === blobPath(good.blob) && done(response.end(wrong)));
    expect((await failure(`${name}:${at}`)).message).toMatch(/filesystem layer verification failed for digest sha256:/);
    expect(partials()).toEqual([]);
  });

  test("sends a manifest, an index's entry or a configuration with another digest is found out", async () => {
    const at = next();
    const digest = registry.image(at, [good]);
    registry.manifest(at, `${registry.manifests.get(at)!.bytes.toString()} `);
    registry.manifests.set(digest, registry.manifests.get(at)!);
    expect((await failure(`${name}@${digest}`)).message).toContain(`manifest verification failed for digest ${digest}`);
    const other = next();
    registry.image(other, [good]);
    const config = (JSON.parse(registry.manifests.get(other)!.bytes.toString()) as { config: { digest: string; size: number } }).config;
    registry.tricks.push((_q, response, path) => path.endsWith(config.digest) && done(response.end("x".repeat(config.size))));
    expect((await failure(`${name}:${other}`)).message).toContain(`blob verification failed for digest ${config.digest}`);
  });

  test("has a layer that is not the one of the configuration, and is no tar", async () => {
    const at = next();
    registry.image(at, [{ blob: good.blob, diffId: layerOf("other").diffId }]);
    expect((await failure(`${name}:${at}`)).message).toMatch(/failed to register layer .*: layer has the digest sha256:[0-9a-f]{64}, expected sha256:/);
    const broken = next();
    registry.image(broken, [{ blob: gzipSync(Buffer.alloc(2048, "not a tar ")), diffId: sha256("x") }]);
    expect((await failure(`${name}:${broken}`)).message).toContain("failed to register layer");
    expect((await failure(`${name}:${broken}`)).code).toBe("corrupt");
  });

  test("closes after half of a body is asked for the rest; one that always does gives an error after some tries", async () => {
    const at = next();
    const big = layerOf(Array.from({ length: 40_000 }, () => Math.random().toString(36)).join(""));
    registry.image(at, [big]);
    let broken = 0;
    registry.tricks.push((request, response, path) => {
      if (path !== blobPath(big.blob) || request.headers.range !== undefined) return false;
      broken++;
      response.writeHead(200, { "content-length": big.blob.length });
      response.write(big.blob.subarray(0, big.blob.length / 2), () => response.destroy());
      return true;
    });
    await pull(`${name}:${at}`);
    expect(broken).toBe(1);
    expect(registry.seen.filter(({ path, range }) => path === blobPath(big.blob) && range !== undefined)).toHaveLength(1);
    expect(waits).toHaveLength(1);
    await engine.images.remove(`${name}:${at}`, { force: true, prune: true });
    registry.tricks.unshift((_q, response, path) => {
      if (path !== blobPath(big.blob)) return false;
      response.writeHead(200, { "content-length": 10 });
      response.end("0123456789");
      return true;
    });
    expect((await failure(`${name}:${at}`)).message).toMatch(/the answer ended after \d+ of \d+ bytes: unexpected EOF/);
    registry.tricks.shift();
    expect(partials()).toHaveLength(1);
    registry.reset();
    // What was kept is not right, which is found out, and it is fetched anew.
    await pull(`${name}:${at}`);
    expect(registry.seen.filter(({ path }) => path === blobPath(big.blob)).map(({ range }) => range)).toEqual(["bytes=10-", undefined]);
    expect(partials()).toEqual([]);
    await engine.images.remove(`${name}:${at}`, { force: true, prune: true });
  });

  test("drips is asked again, and given up", async () => {
    const drip = (response: ServerResponse, length: number) => {
      response.writeHead(200, { "content-type": "application/vnd.docker.distribution.manifest.v2+json", "content-length": length });
      const timer = setInterval(() => response.write("{"), 20);
      response.once("close", () => clearInterval(timer));
      return true;
    };
    for (const stage of ["/manifests/", "/blobs/"]) {
      registry.reset();
      const [at, big] = [next(), layerOf(randomBytes(100_000).toString("hex"))];
      registry.image(at, [big]);
      registry.tricks.push((_request, response, path) => path.includes(stage) && drip(response, 100_000));
      const error = await failure(`${name}:${at}`);
      expect([error.code, error.message]).toEqual(["unavailable", expect.stringContaining("the registry sends less than 1024 bytes in 0.2 s")]);
      expect(registry.seen.filter(({ path }) => path.includes(stage)).length).toBeGreaterThan(1);
    }
  });

  test("sends without end is cut off at what was announced", async () => {
    const at = next();
    registry.image(at, [good]);
    registry.tricks.push((_q, response, path) => {
      if (path !== blobPath(good.blob)) return false;
      const more = () => response.write(Buffer.alloc(256 * 1024), () => void setImmediate(() => response.destroyed || more()));
      more();
      return true;
    });
    expect((await failure(`${name}:${at}`)).message).toContain(`has more than the ${good.blob.length} bytes that were announced`);
    expect(partials()).toEqual([]);
  });

  test("sends a manifest, a configuration or a list of tags without end", async () => {
    const before = process.memoryUsage().rss;
    const endless = (response: import("node:http").ServerResponse) => {
      const more = () => response.write(Buffer.alloc(256 * 1024, " "), () => void setImmediate(() => response.destroyed || more()));
      more();
      return true;
    };
    const at = next();
    registry.image(at, [good]);
    registry.tricks.push((_q, response, path) => path.includes("/manifests/") && endless(response));
    expect((await failure(`${name}:${at}`)).message).toMatch(/has more than 4194304 bytes/);
    registry.reset();
    registry.tricks.push((_q, response, path) => path.includes("/blobs/") && endless(response));
    expect((await failure(`${name}:${at}`)).message).toMatch(/has more than \d+ bytes/);
    registry.reset();
    registry.tricks.push((_q, response, path) => path.endsWith("/tags/list") && endless(response));
    expect((await failure(name, { allTags: true })).message).toMatch(/has more than \d+ bytes/);
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
  });

  test("redirects in circles, to what is no URL, to another scheme", async () => {
    const at = next();
    registry.image(at, [good]);
    const lead = (location: string) => {
      registry.reset();
      registry.tricks.push((_q, response, path) => path.includes("/manifests/") && done(response.writeHead(307, { location }).end()));
    };
    lead(`/v2/x/manifests/${at}`);
    expect((await failure(`${name}:${at}`)).message).toContain("stopped after 10 redirects");
    lead("http://[");
    expect((await failure(`${name}:${at}`)).message).toContain("redirected to what is no URL");
    lead("file:///etc/passwd");
    expect((await failure(`${name}:${at}`)).message).toContain("which is not trusted");
    lead("http://me:pw@127.0.0.1/");
    expect((await failure(`${name}:${at}`)).message).toContain("which is not trusted");
  });

  test("redirects to another host: the credentials do not go there, and its challenge is not answered", async () => {
    await using other = await HostileRegistry.start();
    const at = next();
    registry.image(at, [good]);
    other.blobs.set(sha256(good.blob), good.blob);
    registry.tricks.push((request, response, path) => {
      if (request.headers.authorization === undefined) return done(response.writeHead(401, { "www-authenticate": 'Basic realm="r"' }).end());
      return path === blobPath(good.blob) && done(response.writeHead(307, { location: `http://${other.host}${path}?signed=1` }).end());
    });
    const credentials = { username: "me", password: "secret" };
    await pull(`${name}:${at}`, { credentials });
    expect(registry.seen.some(({ authorization }) => authorization !== undefined)).toBe(true);
    expect(other.seen.map(({ authorization }) => authorization)).toEqual([undefined]);
    await engine.images.remove(`${name}:${at}`, { force: true, prune: true });
    other.tricks.push((_q, response) => done(response.writeHead(401, { "www-authenticate": 'Basic realm="phish"' }).end()));
    expect((await failure(`${name}:${at}`, { credentials })).message).toContain("unauthorized: authentication required");
    expect(other.seen.every(({ authorization }) => authorization === undefined)).toBe(true);
  });

  test("asks again and again who is there, or names a token server that is none", async () => {
    const at = next();
    registry.image(at, [good]);
    const challenge = (header: string) => {
      registry.reset();
      registry.tricks.push((_q, response, path) => path.startsWith("/v2/") && done(response.writeHead(401, { "www-authenticate": header }).end()));
    };
    challenge('Basic realm="r"');
    expect((await failure(`${name}:${at}`, { credentials: { username: "me", password: "x" } })).message).toContain("unauthorized: authentication required");
    expect(registry.seen.length).toBeLessThan(5);
    challenge(`Bearer realm="http://${registry.host}/token",service="s"`);
    registry.tricks.unshift((_q, response, path) => path === "/token" && done(response.end('{"token":"t"}')));
    expect((await failure(`${name}:${at}`)).message).toContain("unauthorized");
    expect(registry.seen.length).toBeLessThan(8);
    challenge('Bearer realm="http://127.0.0.1:9/token",service="s"');
    expect((await failure(`${name}:${at}`)).message).toMatch(/127\.0\.0\.1:9.*connection refused/);
    challenge('Bearer realm="http://192.0.2.1/token",service="s"');
    expect((await failure(`${name}:${at}`, { credentials: { username: "me", password: "x" } })).message).toContain(
      "which has no TLS: no credentials are sent there",
    );
    challenge('Bearer realm="nonsense"');
    expect((await failure(`${name}:${at}`)).message).toContain("a token server that is no URL");
    challenge(`Bearer realm="http://${registry.host}/token"`);
    for (const answer of ["{}", "not json", '{"token":"a\\nb"}', '{"token":7}']) {
      registry.tricks.unshift((_q, response, path) => path === "/token" && done(response.end(answer)));
      expect((await failure(`${name}:${at}`)).code).toBe("corrupt");
    }
  });

  test.each([
    ["bad JSON", "{", undefined, /is not valid JSON/],
    ["a list", "[]", undefined, /is not a JSON object/],
    [
      "schema 1",
      { schemaVersion: 1, name: "x", fsLayers: [] },
      "application/vnd.docker.distribution.manifest.v1+prettyjws",
      /version 2, schema 1, which is not supported/,
    ],
    ["an unknown type", { schemaVersion: 2, mediaType: "application/x-nothing" }, "application/x-nothing", /neither a manifest nor an index/],
    ["HTML", "<html>", "text/html", /is not valid JSON/],
    [
      "two types at once",
      { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [] },
      "application/vnd.oci.image.manifest.v1+json",
      /calls itself .*index.*, but came as/,
    ],
    [
      "both at once",
      { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [], layers: [] },
      undefined,
      /an index and a manifest at once/,
    ],
    ["no platform", { schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [] }, undefined, /no matching manifest for linux\//],
    [
      "a strange algorithm",
      { schemaVersion: 2, config: { mediaType: "a", size: 1, digest: `blake3:${"a".repeat(64)}` }, layers: [] },
      undefined,
      /unsupported algorithm blake3/,
    ],
    [
      "a digest with a path",
      { schemaVersion: 2, config: { mediaType: "a", size: 1, digest: "sha256:../../../etc/passwd" }, layers: [] },
      undefined,
      /invalid digest/,
    ],
    ["a negative size", { schemaVersion: 2, config: { mediaType: "a", size: -1, digest: sha256("a") }, layers: [] }, undefined, /has no valid size/],
    ["a gigantic size", { schemaVersion: 2, config: { mediaType: "a", size: 2 ** 52, digest: sha256("a") }, layers: [] }, undefined, /has no valid size/],
    [
      "a chart",
      { schemaVersion: 2, config: { mediaType: "application/vnd.cncf.helm.config.v1+json", size: 1, digest: sha256("a") }, layers: [] },
      "application/vnd.oci.image.manifest.v1+json",
      /is not a container image/,
    ],
  ] as const)("has for a manifest %s", async (_what, value, mediaType, message) => {
    const at = next();
    registry.manifest(at, value, mediaType);
    expect((await failure(`${name}:${at}`)).message).toMatch(message);
  });

  test("has a huge number of layers, other numbers of layers, layers of unknown types", async () => {
    const many = next();
    registry.image(
      many,
      Array.from({ length: 600 }, () => good),
    );
    expect((await failure(`${name}:${many}`)).message).toContain("600 layers");
    const fewer = next();
    registry.image(fewer, [good], (manifest) => Object.assign(manifest, { layers: [] }));
    expect((await failure(`${name}:${fewer}`)).message).toContain("the manifest has 0 layers, the configuration 1");
    const strange = next();
    registry.image(strange, [{ ...good, mediaType: "application/vnd.oci.image.layer.v1.tar+encrypted" }]);
    expect((await failure(`${name}:${strange}`)).message).toContain("which cannot be unpacked");
  });

  test.each([500, 502, 503])("answers %i at every stage: tried again, then told", async (status) => {
    const at = next();
    registry.image(at, [good]);
    for (const stage of ["/v2/", "/manifests/", "/blobs/"]) {
      registry.reset();
      waits.length = 0;
      registry.tricks.push((_q, response, path) => (stage === "/v2/" ? path === stage : path.includes(stage)) && done(response.writeHead(status).end()));
      expect((await failure(`${name}:${at}`)).message).toContain(`received unexpected HTTP status: ${status}`);
      expect(waits).toHaveLength(4);
    }
  });

  test("resets the connection at every stage", async () => {
    const at = next();
    registry.image(at, [good]);
    for (const stage of ["/manifests/", "/blobs/"]) {
      registry.reset();
      registry.tricks.push((request, _r, path) => path.includes(stage) && done(request.socket.resetAndDestroy()));
      expect((await failure(`${name}:${at}`)).message).toContain("the connection was closed");
    }
  });

  test("has enough: 429 is waited for as long as it says, explained, and not waited for when it is too long", async () => {
    const at = next();
    registry.image(at, [good]);
    let refusals = 2;
    registry.tricks.push((_q, response, path) => path.includes("/manifests/") && refusals-- > 0 && done(response.writeHead(429, { "retry-after": "7" }).end()));
    const events = await pull(`${name}:${at}`);
    expect(waits).toEqual([7000, 7000]);
    expect(events).toContainEqual({ kind: "note", why: expect.stringMatching(/^toomanyrequests: .*; trying again in 7 s$/) as string });
    await engine.images.remove(`${name}:${at}`, { force: true, prune: true });
    registry.tricks.unshift(
      (_q, response, path) =>
        path.includes("/manifests/") &&
        done(
          response.writeHead(429, { "retry-after": "86400" }).end('{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}'),
        ),
    );
    const error = await failure(`${name}:${at}`);
    expect(error.message).toBe("toomanyrequests: You have reached your pull rate limit");
    expect(error.hint).toContain("wants to be left alone for 86400 s");
  });

  test("has a layer that is a bomb: it is stopped long before the disk is full", async () => {
    const zeros = tarOf([{ name: "zeros", data: Buffer.alloc(96 * 1024 * 1024) }]);
    const at = next();
    registry.image(at, [{ blob: gzipSync(zeros), diffId: sha256(zeros) }]);
    expect((await failure(`${name}:${at}`)).message).toMatch(/unpacks \d+ bytes to more than \d+/);
  });

  test("says bad things in its errors cannot write to the terminal", async () => {
    registry.tricks.push(
      (_q, response, path) =>
        path.includes("/manifests/") &&
        done(response.writeHead(403).end(JSON.stringify({ errors: [{ code: "DENIED", message: "\u001b[2Jgone\r\nfake: ok" }] }))),
    );
    const { message } = await failure(`${name}:any`);
    expect(message).toContain("denied:  [2Jgone fake: ok");
  });

  test("two pulls of the same layers fetch them once; one that is given up leaves the other alone", async () => {
    const at = next();
    const big = layerOf(Array.from({ length: 40_000 }, () => Math.random().toString(36)).join(""));
    registry.image(at, [good, big]);
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    registry.tricks.push(async (_q, _r, path) => {
      if (path === blobPath(big.blob)) await held;
      return false;
    });
    const first = pull(`${name}:${at}`);
    await expect.poll(() => registry.seen.filter(({ path }) => path === blobPath(big.blob)).length, { timeout: 20_000 }).toBe(1);
    const stop = new AbortController();
    const second = pull(`${name}:${at}`);
    const given = engine.images
      .pull({ reference: `${name}:${at}` }, () => undefined, stop.signal)
      .then(
        () => "done",
        (error: EngineError) => error.code,
      );
    await expect.poll(() => registry.seen.filter(({ path }) => path === `/v2/x/manifests/${at}`).length, { timeout: 20_000 }).toBe(3);
    stop.abort();
    expect(await given).toBe("cancelled");
    release();
    await Promise.all([first, second]);
    expect(registry.seen.filter(({ path }) => path.includes("/blobs/") && (path === blobPath(big.blob) || path === blobPath(good.blob)))).toHaveLength(2);
    await engine.images.remove(`${name}:${at}`, { force: true, prune: true });
  });

  test("layers are unpacked before the ones below have come; two pulls that share the lowest ones do not wait for each other in a circle", async () => {
    const [short, long] = [next(), next()];
    // More than a thread's ring holds follows what has to be looked up below.
    const layers = Array.from({ length: 6 }, (_, i) => {
      const files = [
        { name: `f${i}`, data: "" },
        ...(i === 0 ? [] : [{ name: `.wh.f${i - 1}`, data: "" }]),
        { name: `data${i}`, data: randomBytes(2 * slotBytes * slotCount).toString("latin1") },
      ];
      const tar = tarOf(files);
      return { blob: gzipSync(tar, { level: 1 }), diffId: sha256(tar) };
    });
    registry.image(short, layers.slice(0, 3));
    registry.image(long, layers);
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const [lowest] = layers;
    registry.tricks.push(async (_q, _r, path) => {
      if (path === blobPath(lowest!.blob)) await held;
      return false;
    });
    const [shortStates, states] = [new Map<string, string>(), new Map<string, string>()];
    const noting = (into: Map<string, string>) => (event: PullEvent) => {
      if (event.kind === "layer") into.set(event.id, event.state);
    };
    const stop = new AbortController();
    const given = engine.images.pull({ reference: `${name}:${short}` }, noting(shortStates), stop.signal).then(
      () => "done",
      (error: EngineError) => error.code,
    );
    // The others are being unpacked, as many at once as there are threads, while nothing of the first is there.
    await expect.poll(() => readdirSync(join(root, "data/layerdb/overlay2")).length, { timeout: 20_000 }).toBe(3);
    await expect.poll(() => shortStates.get(sha256(layers[2]!.blob)), { timeout: 20_000 }).toMatch(/downloaded|extracting/);
    const pulled = engine.images.pull({ reference: `${name}:${long}` }, noting(states));
    await expect.poll(() => states.get(sha256(layers[5]!.blob)), { timeout: 20_000 }).toMatch(/downloaded|extracting/);
    stop.abort();
    expect(await given).toBe("cancelled");
    expect(states.get(sha256(lowest!.blob))).not.toBe("complete");
    release();
    await pulled;
    expect([...states.values()]).toEqual(layers.map(() => "complete"));
    await engine.images.remove(`${name}:${long}`, { force: true, prune: true });
  });

  test("a pull that is given up leaves what it has; the next one asks for the rest only", async () => {
    const at = next();
    const big = layerOf(Array.from({ length: 40_000 }, () => Math.random().toString(36)).join(""));
    registry.image(at, [big]);
    const half = Math.floor(big.blob.length / 2);
    registry.tricks.push((request, response, path) => {
      if (path !== blobPath(big.blob) || request.headers.range !== undefined) return false;
      response.writeHead(200, { "content-length": big.blob.length });
      response.write(big.blob.subarray(0, half));
      return true;
    });
    const stop = new AbortController();
    const given = engine.images.pull({ reference: `${name}:${at}` }, () => undefined, stop.signal);
    const partial = join(root, "data/registry/partial", sha256(big.blob).slice(7));
    await expect.poll(() => existsSync(partial) && statSync(partial).size, { timeout: 20_000 }).toBe(half);
    stop.abort();
    await expect(given).rejects.toMatchObject({ code: "cancelled" });
    expect(statSync(partial).size).toBe(half);
    registry.seen.length = 0;
    await pull(`${name}:${at}`);
    expect(registry.seen.filter(({ path }) => path === blobPath(big.blob)).map(({ range }) => range)).toEqual([`bytes=${half}-`]);
    expect(existsSync(partial)).toBe(false);
    await engine.images.remove(`${name}:${at}`, { force: true, prune: true });
  });
});
