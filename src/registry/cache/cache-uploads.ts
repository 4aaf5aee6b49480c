/** Pushing to a cache. @module @see https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push */
import { createHash, type Hash, randomBytes } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type Digest, digestOf, isDigest } from "#core/digest.ts";
import { isEngineError } from "#core/errors.ts";
import { isForeign, maxManifestBytes, parseManifest } from "#core/manifest.ts";
import { readBody, Refusal } from "./answers.ts";
import type { CacheStore } from "./cache-store.ts";
import type { Repository } from "./upstreams.ts";

interface Upload {
  readonly path: string;
  readonly file: FileHandle;
  readonly hash: Hash;
  size: number;
  /** A request is writing. */
  busy: boolean;
  expiry: NodeJS.Timeout;
}

const maxUploads = 64;
/** An upload that nobody goes on with. */
const expiryMs = 10 * 60_000;

export class CacheUploads {
  readonly #store: CacheStore;
  readonly #uploads = new Map<string, Upload>();
  /** How many uploads get their file just now. */
  #beginning = 0;

  constructor(store: CacheStore) {
    this.#store = store;
  }

  async close(): Promise<void> {
    for (const id of [...this.#uploads.keys()]) await this.#drop(id);
  }

  /** `…/blobs/uploads/<id>`; "" begins one. */
  async answer(request: IncomingMessage, response: ServerResponse, query: URLSearchParams, id: string, location: (rest: string) => string): Promise<void> {
    if (id === "" && request.method === "POST") return this.#begin(request, response, query, location);
    const upload = this.#uploads.get(id);
    if (upload === undefined) throw new Refusal(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    const state = { location: location(`blobs/uploads/${id}`), range: `0-${Math.max(0, upload.size - 1)}`, "docker-upload-uuid": id, "content-length": "0" };
    if (request.method === "GET") return void response.writeHead(204, state).end();
    if (upload.busy) throw new Refusal(409, "BLOB_UPLOAD_INVALID", "this upload is being written to");
    if (request.method === "DELETE") {
      await this.#drop(id);
      return void response.writeHead(204).end();
    }
    if (request.method === "PATCH") {
      await this.#append(request, id, upload);
      return void response.writeHead(202, { ...state, range: `0-${Math.max(0, upload.size - 1)}` }).end();
    }
    if (request.method !== "PUT") throw new Refusal(405, "UNSUPPORTED", "an upload takes PATCH, PUT, GET and DELETE");
    await this.#append(request, id, upload);
    await this.#finish(response, id, upload, digestIn(query), location);
  }

  /** A manifest whose blobs are here. */
  async putManifest(
    request: IncomingMessage,
    response: ServerResponse,
    { name }: Repository,
    reference: string,
    location: (rest: string) => string,
  ): Promise<void> {
    if (!isDigest(reference) && !/^\w[\w.-]{0,127}$/.test(reference)) throw new Refusal(400, "TAG_INVALID", "this is neither a tag nor a sha256 digest");
    const bytes = await readBody(request, maxManifestBytes);
    const digest = digestOf(bytes);
    if (isDigest(reference) && reference !== digest) throw new Refusal(400, "DIGEST_INVALID", `the manifest has the digest ${digest}`);
    const { mediaType, needs } = this.#parse(bytes, request.headers["content-type"]);
    for (const blob of needs) if (!(await this.#store.promote(blob))) throw new Refusal(400, "MANIFEST_BLOB_UNKNOWN", `blob ${blob} unknown to registry`);
    await this.#store.writeBlob(bytes, digest, { pushed: true });
    await this.#store.setManifestType(name, digest, mediaType);
    if (!isDigest(reference)) await this.#store.setTag(name, reference, { digest, checkedAt: Date.now(), pushed: true });
    response.writeHead(201, { location: location(`manifests/${digest}`), "docker-content-digest": digest, "content-length": "0" }).end();
  }

  #parse(bytes: Buffer, declared: string | undefined): { readonly mediaType: string; readonly needs: readonly Digest[] } {
    try {
      const parsed = parseManifest(bytes, declared?.split(";")[0]?.trim(), "the manifest");
      const blobs = parsed.kind === "index" ? parsed.manifests : [parsed.config, ...parsed.layers.filter((layer) => !isForeign(layer))];
      return { mediaType: parsed.mediaType, needs: blobs.map(({ digest }) => digest) };
    } catch (error) {
      throw isEngineError(error) ? new Refusal(400, "MANIFEST_INVALID", error.message) : error;
    }
  }

  async #begin(request: IncomingMessage, response: ServerResponse, query: URLSearchParams, location: (rest: string) => string): Promise<void> {
    const mount = query.get("mount") ?? "";
    if (isDigest(mount) && (await this.#store.promote(mount))) return created(response, mount, location);
    if (this.#uploads.size + this.#beginning >= maxUploads) throw new Refusal(429, "TOOMANYREQUESTS", `there are ${maxUploads} uploads already`);
    const id = randomBytes(16).toString("hex");
    this.#beginning++;
    const { path, file } = await this.#store.beginUpload().finally(() => {
      this.#beginning--;
    });
    const upload: Upload = { path, file, hash: createHash("sha256"), size: 0, busy: false, expiry: this.#expiry(id) };
    this.#uploads.set(id, upload);
    if (query.has("digest")) {
      await this.#append(request, id, upload);
      return this.#finish(response, id, upload, digestIn(query), location);
    }
    response.writeHead(202, { location: location(`blobs/uploads/${id}`), range: "0-0", "docker-upload-uuid": id, "content-length": "0" }).end();
  }

  /** What arrived before a connection broke stays; the client asks how much that is. */
  async #append(request: IncomingMessage, id: string, upload: Upload): Promise<void> {
    const [, start] = /^(?:bytes )?(\d{1,15})-/.exec(request.headers["content-range"] ?? "") ?? [];
    if (start !== undefined && Number(start) !== upload.size) throw new Refusal(416, "BLOB_UPLOAD_INVALID", `this upload goes on at ${upload.size}`);
    upload.busy = true;
    clearTimeout(upload.expiry);
    try {
      let room = await this.#store.roomForUploads();
      for await (const chunk of request as AsyncIterable<Buffer>) {
        room -= chunk.length;
        if (room < 0) throw new Refusal(507, "DENIED", "the cache's disk is full");
        for (let at = 0; at < chunk.length; ) at += (await upload.file.write(chunk, at, chunk.length - at, upload.size + at)).bytesWritten;
        upload.hash.update(chunk);
        upload.size += chunk.length;
      }
    } finally {
      upload.busy = false;
      if (this.#uploads.has(id)) upload.expiry = this.#expiry(id);
    }
  }

  async #finish(response: ServerResponse, id: string, upload: Upload, digest: Digest, location: (rest: string) => string): Promise<void> {
    const actual = `sha256:${upload.hash.copy().digest("hex")}`;
    if (actual !== digest) {
      await this.#drop(id);
      throw new Refusal(400, "DIGEST_INVALID", `what was sent has the digest ${actual}`);
    }
    this.#uploads.delete(id);
    clearTimeout(upload.expiry);
    try {
      await this.#store.finishUpload(upload.path, upload.file, digest);
    } finally {
      await upload.file.close();
    }
    created(response, digest, location);
  }

  #expiry(id: string): NodeJS.Timeout {
    return setTimeout(() => void this.#drop(id), expiryMs).unref();
  }

  async #drop(id: string): Promise<void> {
    const upload = this.#uploads.get(id);
    if (upload === undefined) return;
    this.#uploads.delete(id);
    clearTimeout(upload.expiry);
    await upload.file.close();
    await this.#store.dropUpload(upload.path);
  }
}

function digestIn(query: URLSearchParams): Digest {
  const digest = query.get("digest") ?? "";
  if (!isDigest(digest)) throw new Refusal(400, "DIGEST_INVALID", "an upload is finished with its sha256 digest");
  return digest;
}

function created(response: ServerResponse, digest: Digest, location: (rest: string) => string): void {
  response.writeHead(201, { location: location(`blobs/${digest}`), "docker-content-digest": digest, "content-length": "0" }).end();
}
