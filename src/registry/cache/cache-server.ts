/**
 * A pull-through cache: the distribution protocol over what {@link CacheStore} holds; what it has not is fetched from the registry that the name means, once, and kept. Read-only, unless
 * pushing is allowed. Whoever may connect may read, so it is for networks where that is meant.
 * @module
 */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Digest, isDigest } from "#core/digest.ts";
import { isEngineError } from "#core/errors.ts";
import { maxManifestBytes, parseManifest } from "#core/manifest.ts";
import { Slots } from "#core/slots.ts";
import type { Downloads } from "../downloads.ts";
import { SharedWork } from "../shared-work.ts";
import { rangeOf, Refusal, refusalOf, sendJson, sendRefusal } from "./answers.ts";
import { CacheUploads } from "./cache-uploads.ts";
import type { CacheStore } from "./cache-store.ts";
import type { SharedSessions } from "./shared-sessions.ts";
import type { Repository, Upstreams } from "./upstreams.ts";

export interface CacheServerOptions {
  readonly store: CacheStore;
  /** Into the store's partial directory, with the store as keeper. */
  readonly downloads: Downloads;
  readonly sessions: SharedSessions;
  readonly upstreams: Upstreams;
  /** Whether clients may push. */
  readonly push: boolean;
  /** For so long a tag means what it meant; then its registry is asked. Milliseconds. */
  readonly tagMs: number;
  readonly log: (level: "info" | "warn", message: string) => void;
}

interface Manifest {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: string;
}

/** What one request is about. */
interface Asked {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** In front of `/v2/`: "" or "/ghcr.io". */
  readonly prefix: string;
  readonly signal: AbortSignal;
}

/** Questions to registries at the same time; blobs have slots of their own. */
const maxQuestions = 16;
const maxPageLength = 1000;

export class CacheServer {
  readonly #options: CacheServerOptions;
  readonly #uploads: CacheUploads;
  readonly #questions = new Slots(maxQuestions);
  readonly #manifests = new SharedWork<Manifest>();

  constructor(options: CacheServerOptions) {
    this.#options = options;
    this.#uploads = new CacheUploads(options.store);
  }

  readonly listener: RequestListener = (request, response) => {
    const abort = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished) abort.abort(new Error("the client has gone"));
    });
    response.setHeader("docker-distribution-api-version", "registry/2.0");
    this.#answer(request, response, abort.signal).catch((error: unknown) => {
      if (abort.signal.aborted) return;
      const refusal = refusalOf(error);
      if (refusal.status >= 500) this.#options.log("warn", `${request.method} ${request.url?.slice(0, 300)}: ${(error as Error).message}`);
      // Half an answer cannot be taken back: the client sees that it is cut short.
      if (response.headersSent) response.destroy();
      else sendRefusal(response, refusal);
      // A body that nobody wants is not read.
      if (!request.complete) response.once("finish", () => request.destroy());
    });
  };

  /** Gives up uploads that were not finished. */
  async close(): Promise<void> {
    await this.#uploads.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
    const url = parseUrl(request.url ?? "");
    const [, registry, rest = ""] = /^(?:\/([^/]+))?\/v2(?:\/(.*))?$/.exec(url.pathname) ?? [];
    if (!/\/v2(\/|$)/.test(url.pathname)) throw new Refusal(404, "NAME_UNKNOWN", "there is nothing but /v2/ here");
    const asked: Asked = { request, response, url, prefix: registry === undefined ? "" : `/${registry}`, signal };
    const reading = request.method === "GET" || request.method === "HEAD";
    if (rest === "") return reading ? sendJson(response, 200, {}) : unsupported();
    if (rest === "_catalog") return reading ? this.#catalog(asked) : unsupported();
    const [, path = "", kind = "", what = ""] = /^(.+)\/(tags|manifests|blobs)\/(.*)$/.exec(rest.replace(/\/blobs\/uploads\//, "/blobs/uploads:")) ?? [];
    const repository = this.#options.upstreams.resolve(decoded(path), registry ?? url.searchParams.get("ns") ?? undefined);
    if (repository === undefined) throw new Refusal(404, "NAME_UNKNOWN", `this cache is for ${this.#options.upstreams.domains.join(", ")}`);
    if (kind === "tags" && what === "list" && reading) return this.#tags(asked, repository);
    if (kind === "manifests" && reading) return this.#manifest(asked, repository, decoded(what));
    if (kind === "blobs" && reading && isDigest(decoded(what))) return this.#blob(asked, repository, decoded(what) as Digest);
    if (kind === "blobs" && reading && !what.startsWith("uploads:")) throw new Refusal(400, "DIGEST_INVALID", "a blob is named by its sha256 digest");
    if (!this.#options.push) unsupported();
    if (kind === "manifests" && request.method === "PUT") return this.#uploads.putManifest(request, response, repository, decoded(what), locationOf(asked));
    if (kind === "blobs" && what.startsWith("uploads:"))
      return this.#uploads.answer(request, response, url.searchParams, what.slice("uploads:".length), locationOf(asked));
    unsupported();
  }

  async #catalog({ response, url }: Asked): Promise<void> {
    const { store, upstreams } = this.#options;
    const names = (await store.repositories()).flatMap((name) => {
      const at = name.indexOf("/");
      const domain = name.slice(0, at);
      return upstreams.domains.includes(domain) ? [upstreams.nameOf({ domain, path: name.slice(at + 1) })] : [];
    });
    sendPage(response, url, "repositories", names.sort());
  }

  /** The registry's, and those that were pushed here; when it does not answer, those that are known. */
  async #tags({ response, url }: Asked, { domain, path, name }: Repository): Promise<void> {
    const { store, sessions, log } = this.#options;
    const tags = new Set(await store.tags(name));
    try {
      for (const tag of await this.#questions.run(() => sessions.use(domain, (session) => session.tags(path)))) tags.add(tag);
    } catch (error) {
      if (tags.size === 0) throw error;
      log("warn", `tags of ${name}, from the cache only: ${(error as Error).message}`);
    }
    sendPage(response, url, "tags", [...tags].sort(), { name: path });
  }

  async #manifest({ request, response, signal }: Asked, repository: Repository, reference: string): Promise<void> {
    if (!isDigest(reference) && !/^\w[\w.-]{0,127}$/.test(reference)) throw new Refusal(400, "TAG_INVALID", "this is neither a tag nor a sha256 digest");
    const { bytes, digest, mediaType } = await this.#manifests.run(`${repository.name}:${reference}`, signal, () => this.#findManifest(repository, reference));
    response.writeHead(200, { "content-type": mediaType, "content-length": String(bytes.length), "docker-content-digest": digest, etag: `"${digest}"` });
    response.end(request.method === "HEAD" ? undefined : bytes);
  }

  async #findManifest(repository: Repository, reference: string): Promise<Manifest> {
    const { store, tagMs, log } = this.#options;
    const tag = isDigest(reference) ? undefined : await store.tag(repository.name, reference);
    const known = await this.#keptManifest(repository, isDigest(reference) ? reference : tag?.digest);
    if (known !== undefined && (tag === undefined || tag.pushed || Date.now() - tag.checkedAt < tagMs)) return known;
    try {
      return await this.#questions.run(() => this.#askManifest(repository, reference, known));
    } catch (error) {
      if (isEngineError(error, "not-found")) {
        if (!isDigest(reference)) await store.removeTag(repository.name, reference);
        throw new Refusal(404, "MANIFEST_UNKNOWN", error.message);
      }
      if (known === undefined) throw error;
      log("warn", `${repository.name}:${reference}, as it was: ${(error as Error).message}`);
      return known;
    }
  }

  async #keptManifest({ name }: Repository, digest: Digest | undefined): Promise<Manifest | undefined> {
    const { store } = this.#options;
    const mediaType = digest === undefined ? undefined : await store.manifestType(name, digest);
    const bytes = mediaType === undefined || digest === undefined ? undefined : await store.readBlob(digest, maxManifestBytes);
    return digest === undefined || mediaType === undefined || bytes === undefined ? undefined : { bytes, digest, mediaType };
  }

  #askManifest({ domain, path, name }: Repository, reference: string, known: Manifest | undefined): Promise<Manifest> {
    const { store, sessions } = this.#options;
    return sessions.use(domain, async (session) => {
      const remember = (digest: Digest) =>
        isDigest(reference) ? Promise.resolve() : store.setTag(name, reference, { digest, checkedAt: Date.now(), pushed: false });
      if (known !== undefined && (await session.headManifest(path, reference))?.digest === known.digest) {
        await remember(known.digest);
        return known;
      }
      const { bytes, digest, mediaType: declared } = await session.manifest(path, reference);
      const { mediaType } = parseManifest(bytes, declared, `manifest for ${name}`);
      await store.writeBlob(bytes, digest, { pushed: false });
      await store.setManifestType(name, digest, mediaType);
      await remember(digest);
      return { bytes, digest, mediaType };
    });
  }

  async #blob(asked: Asked, repository: Repository, digest: Digest): Promise<void> {
    const { request, response, signal } = asked;
    const kept = await this.#options.store.openBlob(digest);
    if (kept !== undefined) {
      await using file = kept.file;
      const range = sendBlobHead(request, response, digest, kept.size);
      if (range === undefined) return;
      if (range.start > range.end) return void response.end();
      // The file is closed by its owner, above.
      await pipeline(file.createReadStream({ start: range.start, end: range.end, highWaterMark: 256 * 1024, autoClose: false }), response, { signal });
      return;
    }
    // Who pushes asks whether a blob is here; that its registry has it would not help him.
    if (request.method === "HEAD" && this.#options.push) throw unknownBlob(digest);
    await this.#options.sessions.use(repository.domain, async (session) => {
      const size = await this.#questions.run(() => session.blobSize(repository.path, digest));
      if (size === undefined) throw unknownBlob(digest);
      const range = sendBlobHead(request, response, digest, size);
      if (range === undefined) return;
      const download = this.#options.downloads.begin({ mediaType: "", digest, size }, session.blobSource(repository.path));
      try {
        await pipeline(Readable.from(part(download.read(signal), range), { objectMode: false }), response, { signal });
        await download.whole;
        await download.close({ keep: false });
      } finally {
        // What has arrived is taken up by the next who asks.
        await download.close({ keep: true });
      }
    });
  }
}

/** Writes the head of the answer; undefined when there is nothing to follow. */
function sendBlobHead(
  request: IncomingMessage,
  response: ServerResponse,
  digest: Digest,
  size: number,
): { readonly start: number; readonly end: number } | undefined {
  const range = rangeOf(request.headers.range, size);
  const head = { "content-type": "application/octet-stream", "accept-ranges": "bytes", "docker-content-digest": digest, etag: `"${digest}"` };
  if (range === "none") {
    response.writeHead(416, { "content-range": `bytes */${size}`, "content-length": "0" }).end();
    return undefined;
  }
  const { start, end } = range ?? { start: 0, end: size - 1 };
  const partial = range === undefined ? {} : { "content-range": `bytes ${start}-${end}/${size}` };
  response.writeHead(range === undefined ? 200 : 206, { ...head, ...partial, "content-length": String(end - start + 1) });
  if (request.method !== "HEAD") return { start, end };
  response.end();
  return undefined;
}

/** Bytes `start` to `end` of a stream; the rest is read as well, so that all of it is kept. The last piece waits until the stream has ended well: nobody gets all of a wrong blob. */
async function* part(bytes: AsyncIterable<Uint8Array>, { start, end }: { readonly start: number; readonly end: number }): AsyncIterable<Uint8Array> {
  let at = 0;
  let last: Uint8Array | undefined;
  for await (const chunk of bytes) {
    const wanted = chunk.subarray(Math.max(0, start - at), Math.max(0, end + 1 - at));
    at += chunk.byteLength;
    if (wanted.byteLength === 0) continue;
    if (last !== undefined) yield last;
    last = wanted;
  }
  if (last !== undefined) yield last;
}

/** Pages by docker's `n` and `last`. */
function sendPage(response: ServerResponse, url: URL, key: string, names: readonly string[], more: object = {}): void {
  const last = url.searchParams.get("last") ?? "";
  const asked = Number(url.searchParams.get("n") ?? maxPageLength);
  const length = Number.isInteger(asked) && asked > 0 ? Math.min(asked, maxPageLength) : maxPageLength;
  const rest = names.filter((name) => name > last);
  const page = rest.slice(0, length);
  const next = new URLSearchParams({ last: page.at(-1) ?? "", n: String(length) });
  sendJson(response, 200, { ...more, [key]: page }, rest.length > length ? { link: `<${url.pathname}?${next}>; rel="next"` } : {});
}

function locationOf({ prefix, url }: Asked): (rest: string) => string {
  const base = url.pathname
    .slice(prefix.length)
    .replace(/^\/v2\//, "")
    .replace(/\/(?:manifests|blobs)\/.*$/, "");
  return (rest) => `${prefix}/v2/${base}/${rest}`;
}

function unknownBlob(digest: Digest): Refusal {
  return new Refusal(404, "BLOB_UNKNOWN", `blob ${digest} unknown to registry`);
}

function unsupported(): never {
  throw new Refusal(405, "UNSUPPORTED", "this cache does not take that");
}

function parseUrl(text: string): URL {
  try {
    return new URL(text, "http://cache");
  } catch (error) {
    throw new Refusal(400, "UNSUPPORTED", `bad request: ${(error as Error).message}`);
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Refusal(400, "NAME_INVALID", "the name is not encoded as a URL has it");
  }
}
