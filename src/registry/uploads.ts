/** Blobs and manifests to a registry. @module @see https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push */
import { createHash } from "node:crypto";
import type { BlobDigest, Digest } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { type HttpAnswer, isTransient } from "./network.ts";
import { maxAttempts, type RetryOptions, waitBefore } from "./retry.ts";
import { pullScope, type RegistrySession } from "./session.ts";

/** What is to be sent. It is opened anew, from the first byte on, when the connection breaks, and must give the same bytes each time. */
export interface BlobContent {
  /**
   * A piece must stay as it is until the next but one is asked for, and the last ones for good: undici asks for the next when the system has taken a piece of 64 KiB or more (the socket's
   * high-water mark), and may hold what is smaller.
   */
  open(): AsyncIterable<Uint8Array>;
  /** Where it is known already; else it is computed on the way. */
  readonly digest?: BlobDigest;
}

export interface UploadOptions extends RetryOptions {
  /** Bytes that the registry has got. */
  readonly onProgress?: (sent: number) => void;
}

export interface Uploaded {
  readonly digest: BlobDigest;
  readonly size: number;
}

/** Writing to one repository of a registry. */
export class RepositoryWriter {
  readonly #session: RegistrySession;
  readonly #path: string;

  constructor(session: RegistrySession, path: string) {
    this.#session = session;
    this.#path = path;
  }

  /** The size of a blob that the repository has. */
  async has(digest: Digest): Promise<number | undefined> {
    const request = { method: "HEAD", target: `/v2/${this.#path}/blobs/${digest}`, scopes: [this.#scope], expect: [200, 404], what: `blob ${digest}` } as const;
    const answer = await this.#session.write(request, true);
    answer.body.destroy();
    return answer.status === 200 ? Number(answer.header("content-length") ?? "0") : undefined;
  }

  /** Takes a blob over from another repository of the same registry; false when the registry does not. */
  async mount(digest: Digest, from: string): Promise<boolean> {
    const target = `/v2/${this.#path}/blobs/uploads/?mount=${digest}&from=${encodeURIComponent(from)}`;
    const request = {
      method: "POST",
      target,
      scopes: [this.#scope, pullScope(from)],
      expect: [201, 202, 400, 401, 403, 404, 405],
      what: `mounting blob ${digest}`,
    } as const;
    const answer = await this.#session.write({ ...request, headers: { "content-length": "0" } }, true);
    answer.body.destroy();
    // It has opened an upload instead, which nobody will use.
    if (answer.status === 202) await this.#cancel(answer);
    return answer.status === 201;
  }

  /** Sends a small blob in one request. */
  async putSmall(bytes: Uint8Array, digest: Digest): Promise<void> {
    if ((await this.has(digest)) !== undefined) return;
    const location = await this.#begin(true);
    const headers = { "content-type": "application/octet-stream", "content-length": String(bytes.byteLength) };
    const request = {
      method: "PUT",
      target: withDigest(location, digest),
      headers,
      body: bytes,
      scopes: [this.#scope],
      expect: [201, 202, 204],
      what: `blob ${digest}`,
    } as const;
    (await this.#session.write(request, true)).body.destroy();
  }

  /** Sends a blob as a stream. When the connection breaks, the registry is asked how much it has, and gets the rest. */
  async put(content: BlobContent, options: UploadOptions): Promise<Uploaded> {
    let location = await this.#begin(true);
    let offset = 0;
    for (let attempt = 1; ; attempt++) {
      try {
        const { uploaded, next } = await this.#stream(location, content, offset, options);
        if (content.digest !== undefined && uploaded.digest !== content.digest)
          throw new EngineError("corrupt", `blob ${content.digest} was read as ${uploaded.digest}: it has changed while it was pushed`);
        const request = {
          method: "PUT",
          target: withDigest(next, uploaded.digest),
          headers: { "content-length": "0" },
          scopes: [this.#scope],
          expect: [201, 202, 204],
          what: `blob ${uploaded.digest}`,
        } as const;
        (await this.#session.write(request, true)).body.destroy();
        return uploaded;
      } catch (error) {
        if (attempt >= maxAttempts || !isTransient(error)) throw error;
        await waitBefore(attempt, error, options);
        const state = await this.#state(location);
        if (state === undefined) location = await this.#begin(true);
        else location = state.location;
        offset = state?.received ?? 0;
      }
    }
  }

  /** A manifest under a tag or its digest; the registry must name it as we do. */
  async putManifest(bytes: Uint8Array, mediaType: string, reference: string, digest: Digest): Promise<void> {
    const headers = { "content-type": mediaType, "content-length": String(bytes.byteLength) };
    const what = `manifest ${reference}`;
    const request = {
      method: "PUT",
      target: `/v2/${this.#path}/manifests/${reference}`,
      headers,
      body: bytes,
      scopes: [this.#scope],
      expect: [200, 201, 202],
      what,
    } as const;
    const answer = await this.#session.write(request, true);
    answer.body.destroy();
    const theirs = answer.header("docker-content-digest");
    if (theirs !== undefined && theirs !== digest)
      throw new EngineError("corrupt", `the registry has stored ${what} as ${theirs.slice(0, 100)}; it was sent as ${digest}`);
  }

  get #scope(): string {
    return `repository:${this.#path}:pull,push`;
  }

  async #begin(retry: boolean): Promise<URL> {
    const request = {
      method: "POST",
      target: `/v2/${this.#path}/blobs/uploads/`,
      headers: { "content-length": "0" },
      scopes: [this.#scope],
      expect: [202],
      what: "beginning an upload",
    } as const;
    const answer = await this.#session.write(request, retry);
    answer.body.destroy();
    return locationOf(answer);
  }

  /** How far an upload is; undefined when the registry has forgotten it. */
  async #state(location: URL): Promise<{ readonly location: URL; readonly received: number } | undefined> {
    const answer = await this.#session.write(
      { method: "GET", target: location, scopes: [this.#scope], expect: [200, 202, 204, 400, 404, 405], what: "asking after an upload" },
      true,
    );
    answer.body.destroy();
    if (answer.status >= 400) return undefined;
    const end = Number(/^(?:bytes=)?0-(\d+)$/.exec(answer.header("range") ?? "")?.[1] ?? Number.NaN);
    // "0-0" says nothing as well as one byte.
    const received = Number.isNaN(end) || end === 0 ? 0 : end + 1;
    return received === 0 ? undefined : { location: answer.header("location") === undefined ? location : locationOf(answer), received };
  }

  async #stream(location: URL, content: BlobContent, offset: number, options: UploadOptions): Promise<{ readonly uploaded: Uploaded; readonly next: URL }> {
    const hash = createHash("sha256");
    let size = 0;
    // Not a stream: it would ask for a piece while the one before is still to be written, and join those that wait into memory that is new each time.
    const body = (async function* () {
      for await (const chunk of content.open()) {
        hash.update(chunk);
        const fresh = chunk.subarray(Math.min(chunk.byteLength, Math.max(0, offset - size)));
        size += chunk.byteLength;
        if (fresh.byteLength > 0) yield fresh;
        options.onProgress?.(size);
      }
    })();
    try {
      const headers = { "content-type": "application/octet-stream", ...(offset === 0 ? {} : { "content-range": `${offset}-` }) };
      const answer = await this.#session.write(
        { method: "PATCH", target: location, headers, body, scopes: [this.#scope], expect: [201, 202, 204], what: "uploading a layer" },
        false,
      );
      answer.body.destroy();
      const digest: Digest = `sha256:${hash.digest("hex")}`;
      return { uploaded: { digest, size }, next: locationOf(answer) };
    } finally {
      // Where it stands when the registry has not wanted all of it. What it fails with then is nobody's any more.
      void body.return().catch(() => undefined);
    }
  }

  async #cancel(answer: HttpAnswer): Promise<void> {
    const location = answer.header("location");
    if (location === undefined) return;
    try {
      const gone = await this.#session.write(
        { method: "DELETE", target: locationOf(answer), scopes: [this.#scope], expect: [200, 202, 204, 404, 405], what: "cancelling an upload" },
        false,
      );
      gone.body.destroy();
    } catch (error) {
      // Registries forget uploads by themselves; this one may not let itself be told.
      if (!(error instanceof EngineError) || error.code === "cancelled") throw error;
    }
  }
}

/** Where an upload goes on. It may be another host's: then without credentials. */
function locationOf(answer: HttpAnswer): URL {
  const location = answer.header("location");
  try {
    return new URL(location ?? "", answer.url);
  } catch (error) {
    throw new EngineError("corrupt", "the registry names a place for the upload that is no URL", { cause: error });
  }
}

function withDigest(location: URL, digest: Digest): URL {
  const url = new URL(location);
  url.searchParams.set("digest", digest);
  return url;
}
