import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Clock } from "#core/clock.ts";
import { digestOf } from "#core/digest.ts";
import { defaultRegistryConfig } from "./config.ts";
import { Registries } from "./registries.ts";
import { type BlobContent, RepositoryWriter } from "./uploads.ts";

const content = randomBytes(3_000_000);
const digest = digestOf(content);

/** A registry's uploads, which break when `breakAfter` bytes of one have come. */
class Uploads {
  readonly server: Server = createServer((request, response) => void this.#answer(request, response));
  readonly received: Map<string, Buffer> = new Map();
  readonly stored: Map<string, Buffer> = new Map();
  /** `METHOD upload content-range`, in order. */
  readonly seen: string[] = [];
  /** For each PATCH in turn. */
  breakAfter: number[] = [];
  forgets = false;
  #count = 0;

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://x");
    const name = url.pathname.split("/uploads/")[1] ?? "";
    if (url.pathname === "/v2/") return void response.end("{}");
    this.seen.push([request.method, name, request.headers["content-range"] ?? ""].join(" ").trim());
    if (request.method === "POST") {
      const fresh = `u${++this.#count}`;
      this.received.set(fresh, Buffer.alloc(0));
      return void response.writeHead(202, { location: `/v2/x/blobs/uploads/${fresh}` }).end();
    }
    const before = this.received.get(name);
    if (before === undefined) return void response.writeHead(404).end();
    if (request.method === "PATCH") {
      const stop = this.breakAfter.shift() ?? Number.POSITIVE_INFINITY;
      let all = before;
      for await (const bytes of request as AsyncIterable<Buffer>) {
        all = Buffer.concat([all, bytes]);
        if (all.length < stop) continue;
        if (this.forgets) this.received.delete(name);
        else this.received.set(name, all.subarray(0, stop));
        return void request.socket.destroy();
      }
      this.received.set(name, all);
      return void response.writeHead(202, { location: `/v2/x/blobs/uploads/${name}` }).end();
    }
    if (request.method === "GET") return void response.writeHead(204, { range: `0-${Math.max(0, before.length - 1)}` }).end();
    this.stored.set(url.searchParams.get("digest") ?? "", before);
    response.writeHead(201).end();
  }
}

let uploads: Uploads;
const waits: number[] = [];
const clock: Clock = { now: () => Date.now(), sleep: async (ms) => void waits.push(ms) };

beforeEach(async () => {
  uploads = new Uploads();
  uploads.server.listen(0, "127.0.0.1");
  await once(uploads.server, "listening");
  waits.length = 0;
});
afterEach(async () => {
  uploads.server.closeAllConnections();
  uploads.server.close();
  await once(uploads.server, "close");
});

async function put(blob: Omit<BlobContent, "open">, bytes: Buffer = content): Promise<{ readonly opened: number; readonly result: unknown }> {
  const { port } = uploads.server.address() as AddressInfo;
  let opened = 0;
  async function* open() {
    opened++;
    for (let at = 0; at < bytes.length; at += 70_001) yield bytes.subarray(at, at + 70_001);
  }
  await using session = await new Registries(defaultRegistryConfig(), clock).open({
    domain: `127.0.0.1:${port}`,
    credentials: undefined,
    signal: undefined,
    withoutMirrors: true,
  });
  const result: unknown = await new RepositoryWriter(session, "x").put({ ...blob, open }, { clock }).catch((error: unknown) => error);
  return { opened, result };
}

describe("an upload", () => {
  test("is one stream, named by what came through", async () => {
    expect(await put({})).toEqual({ opened: 1, result: { digest, size: content.length } });
    expect(uploads.seen).toEqual(["POST", "PATCH u1", "PUT u1"]);
    expect(uploads.stored.get(digest)?.equals(content)).toBe(true);
  });

  test("that breaks is gone on with where the registry is, twice if need be, without a byte twice", async () => {
    uploads.breakAfter = [1_000_000, 2_345_678];
    expect(await put({})).toEqual({ opened: 3, result: { digest, size: content.length } });
    expect(uploads.seen).toEqual(["POST", "PATCH u1", "GET u1", "PATCH u1 1000000-", "GET u1", "PATCH u1 2345678-", "PUT u1"]);
    expect(uploads.stored.get(digest)?.equals(content)).toBe(true);
    expect(waits).toEqual([500, 1000]);
  });

  test("that the registry has forgotten, or has nothing of, is begun anew", async () => {
    uploads.breakAfter = [500_000];
    uploads.forgets = true;
    expect(await put({})).toMatchObject({ opened: 2, result: { digest } });
    expect(uploads.seen).toEqual(["POST", "PATCH u1", "GET u1", "POST", "PATCH u2", "PUT u2"]);
    uploads.seen.length = 0;
    uploads.forgets = false;
    uploads.breakAfter = [0];
    expect(await put({})).toMatchObject({ result: { digest } });
    expect(uploads.seen).toEqual(["POST", "PATCH u3", "GET u3", "POST", "PATCH u4", "PUT u4"]);
    expect(uploads.stored.get(digest)?.equals(content)).toBe(true);
  });

  test("that always breaks is given up", async () => {
    uploads.breakAfter = [1, 2, 3, 4, 5].map((n) => n * 100_000);
    const { opened, result } = await put({});
    expect(opened).toBe(5);
    expect(result).toMatchObject({ code: "unavailable", message: expect.stringMatching(/connection was closed/) });
    expect(uploads.stored.size).toBe(0);
  });

  test("of a blob that is not what it was is not finished", async () => {
    const { result } = await put({ digest: digestOf("other") });
    expect(result).toMatchObject({ code: "corrupt", message: `blob ${digestOf("other")} was read as ${digest}: it has changed while it was pushed` });
    expect(uploads.seen.at(-1)).toBe("PATCH u1");
  });

  test("of which all has come, and only the answer has not, sends nothing again", async () => {
    uploads.breakAfter = [content.length];
    expect(await put({ digest })).toEqual({ opened: 2, result: { digest, size: content.length } });
    expect(uploads.seen.slice(-2)).toEqual([`PATCH u1 ${content.length}-`, "PUT u1"]);
  });
});
