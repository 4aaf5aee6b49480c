/** A conversation with one registry, with one set of credentials. @module */
import { createHash } from "node:crypto";
import type { Clock } from "#core/clock.ts";
import { type Digest, digestOf, isDigest } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import { maxManifestBytes, mediaTypes } from "#core/manifest.ts";
import type { RegistryConfig } from "./config.ts";
import type { Credentials } from "./credentials.ts";
import { type Endpoint, endpointsOf } from "./endpoints.ts";
import { Exchange, type RegistryRequest } from "./exchange.ts";
import { type HttpAnswer, isUnreachable, Network, readSmall } from "./network.ts";
import { type RetryOptions, withRetries } from "./retry.ts";
import type { BlobSource } from "./blob-source.ts";

export interface SessionOptions {
  /** `docker.io`, `localhost:5000` */
  readonly domain: string;
  readonly credentials?: Credentials | undefined;
  readonly config: RegistryConfig;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly onWait?: RetryOptions["onWait"];
  /** Mirrors are not for writing, nor for logging in. */
  readonly withoutMirrors?: boolean;
}

/** A manifest or index as it lies in the registry. */
export interface FetchedManifest {
  readonly bytes: Buffer;
  /** Of {@link bytes}, computed here. */
  readonly digest: Digest;
  /** As the registry declares it, without parameters. */
  readonly mediaType: string | undefined;
}

const acceptManifests = [mediaTypes.ociIndex, mediaTypes.dockerList, mediaTypes.ociManifest, mediaTypes.dockerManifest].join(", ");
const maxListBytes = 16 * 1024 * 1024;
const maxPages = 1000;

export class RegistrySession implements AsyncDisposable {
  readonly domain: string;
  readonly #options: SessionOptions;
  readonly #network: Network;
  readonly #exchanges: readonly Exchange[];

  private constructor(options: SessionOptions, network: Network, exchanges: readonly Exchange[]) {
    this.domain = options.domain;
    this.#options = options;
    this.#network = network;
    this.#exchanges = exchanges;
  }

  /** Finds out how the registry is reached. EngineError "unavailable" when it is not at all. */
  static async open(options: SessionOptions): Promise<RegistrySession> {
    const network = new Network(options.config);
    try {
      const exchanges = await reach(await endpointsOf(options.domain, options.config), { ...options, network });
      return new RegistrySession(options, network, exchanges);
    } catch (error) {
      await network[Symbol.asyncDispose]();
      throw error;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#network[Symbol.asyncDispose]();
  }

  /** A manifest by tag or digest, verified when it is a digest. EngineError not-found in docker's words. */
  async manifest(path: string, reference: string, accept: string = acceptManifests): Promise<FetchedManifest> {
    const what = `manifest for ${this.#name(path)}${isDigest(reference) ? "@" : ":"}${reference}`;
    return this.#read(path, async (send) => {
      const answer = await send({ method: "GET", target: `/v2/${path}/manifests/${reference}`, headers: { accept }, expect: [200, 404], what });
      if (answer.status === 404) {
        answer.body.destroy();
        throw new EngineError("not-found", `${what} not found: manifest unknown: manifest unknown`);
      }
      const bytes = await readSmall(answer, maxManifestBytes);
      const digest = digestOf(bytes);
      const promised = isDigest(reference) ? reference : answer.header("docker-content-digest");
      if (promised !== undefined && isDigest(promised) && promised !== digest) {
        throw new EngineError("corrupt", `manifest verification failed for digest ${promised}: its content has the digest ${digest}`);
      }
      return { bytes, digest, mediaType: answer.header("content-type")?.split(";")[0]?.trim() };
    });
  }

  /** Digest and size of what a tag means, when the registry has it and says so. */
  async headManifest(path: string, reference: string): Promise<Descriptor | undefined> {
    return this.#read(path, async (send) => {
      const answer = await send({
        method: "HEAD",
        target: `/v2/${path}/manifests/${reference}`,
        headers: { accept: acceptManifests },
        expect: [200, 404],
        what: `manifest for ${this.#name(path)}`,
      });
      answer.body.destroy();
      const digest = answer.header("docker-content-digest") ?? "";
      if (answer.status === 404 || !isDigest(digest)) return undefined;
      return { mediaType: answer.header("content-type")?.split(";")[0]?.trim() ?? "", digest, size: Number(answer.header("content-length") ?? "0") };
    });
  }

  /** A small blob (an image's config), whole and verified. */
  async smallBlob(path: string, { digest, size }: Descriptor, maxBytes: number): Promise<Buffer> {
    if (size > maxBytes) throw new EngineError("corrupt", `blob ${digest} has ${size} bytes; at most ${maxBytes} are accepted`);
    return this.#read(path, async (send) => {
      const bytes = await readSmall(await send({ method: "GET", target: `/v2/${path}/blobs/${digest}`, expect: [200], what: `blob ${digest}` }), size);
      const actual = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      if (actual !== digest) throw new EngineError("corrupt", `blob verification failed for digest ${digest}: its content has the digest ${actual}`);
      return bytes;
    });
  }

  /** A blob's size; undefined: the registry has no such blob, or does not say. */
  async blobSize(path: string, digest: Digest): Promise<number | undefined> {
    return this.#read(path, async (send) => {
      const answer = await send({ method: "HEAD", target: `/v2/${path}/blobs/${digest}`, expect: [200, 404], what: `blob ${digest}` });
      answer.body.destroy();
      const length = answer.header("content-length") ?? "";
      return answer.status === 200 && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
    });
  }

  /** Where a blob's bytes come from, for {@link Downloads}. */
  blobSource(path: string): BlobSource {
    return {
      fetch: (digest, offset, signal) =>
        this.#once(path, (send) =>
          send({
            method: "GET",
            target: `/v2/${path}/blobs/${digest}`,
            // A partial answer of a compressed representation would be of no use.
            headers: { "accept-encoding": "identity", ...(offset === 0 ? {} : { range: `bytes=${offset}-` }) },
            expect: offset === 0 ? [200] : [200, 206, 416],
            what: `blob ${digest}`,
            signal,
          }),
        ),
      clock: this.#options.clock,
      slowest: this.#options.config.slowest,
      onWait: this.#options.onWait,
    };
  }

  /** What refers to a manifest (signatures, SBOMs), as an index; undefined where the registry does not keep account of it. @see distribution-spec "Listing Referrers" */
  async referrers(path: string, digest: Digest): Promise<FetchedManifest | undefined> {
    return this.#read(path, async (send) => {
      const answer = await send({ method: "GET", target: `/v2/${path}/referrers/${digest}`, expect: [200, 400, 404, 405], what: `referrers of ${digest}` });
      if (answer.status !== 200) {
        answer.body.destroy();
        return undefined;
      }
      const bytes = await readSmall(answer, maxManifestBytes);
      return { bytes, digest: digestOf(bytes), mediaType: mediaTypes.ociIndex };
    });
  }

  /** Tags of a repository, all of them, sorted as the registry sorts them. */
  async tags(path: string): Promise<string[]> {
    return this.#pages(`/v2/${path}/tags/list`, "tags", path, `tags of ${this.#name(path)}`);
  }

  /** Repositories, as far as the registry tells. */
  async catalog(max: number): Promise<string[]> {
    return this.#pages("/v2/_catalog", "repositories", undefined, `catalog of ${this.domain}`, max);
  }

  /** Docker's v1 search, or undefined where the registry has none. */
  async searchV1(term: string, limit: number): Promise<JsonFields | undefined> {
    return this.#read(undefined, async (send) => {
      const target = `/v1/search?q=${encodeURIComponent(term)}&n=${limit}`;
      const answer = await send({ method: "GET", target, expect: [200, 401, 403, 404, 405], what: `search of ${this.domain}` });
      if (answer.status !== 200) {
        answer.body.destroy();
        return undefined;
      }
      return new JsonFields(parseJson(await readSmall(answer, maxListBytes), "the search's answer"), "the search's answer");
    });
  }

  /** Whether the credentials are good; for `login` with the refresh token that the registry gives instead of a password. EngineError unauthorized. */
  async login(): Promise<{ readonly identityToken: string | undefined }> {
    const own = this.#own();
    const answer = await withRetries(() => own.send({ method: "GET", target: "/v2/", scopes: [], expect: [200], what: "login" }), this.#options);
    answer.body.destroy();
    return { identityToken: await own.authorizer.refreshToken() };
  }

  /** A request to the registry itself, which may change it. Tried again when `retry`. */
  write(request: RegistryRequest, retry: boolean): Promise<HttpAnswer> {
    const send = () => this.#own().send(request);
    return retry ? withRetries(send, this.#options) : send();
  }

  #own(): Exchange {
    const own = this.#exchanges.find(({ endpoint }) => !endpoint.mirror);
    if (own === undefined) throw new EngineError("unavailable", `the registry ${this.domain} does not answer, only a mirror of it`);
    return own;
  }

  async #pages(first: string, key: string, path: string | undefined, what: string, max = Number.POSITIVE_INFINITY): Promise<string[]> {
    const items: string[] = [];
    let target: string | undefined = first;
    for (let page = 0; target !== undefined && items.length < max; page++) {
      if (page >= maxPages) throw new EngineError("corrupt", `${what}: more than ${maxPages} pages`);
      const at: string = target;
      const scopes = path === undefined ? ["registry:catalog:*"] : [pullScope(path)];
      target = await this.#readWith(scopes, async (send) => {
        const answer = await send({ method: "GET", target: at, expect: [200], what });
        const fields = new JsonFields(parseJson(await readSmall(answer, maxListBytes), what), what);
        items.push(...(fields.texts(key) ?? []));
        return nextPage(answer.header("link"), answer.url);
      });
    }
    return items;
  }

  #name(path: string): string {
    return this.domain === "docker.io" ? path : `${this.domain}/${path}`;
  }

  #read<T>(path: string | undefined, work: (send: Send) => Promise<T>): Promise<T> {
    return this.#readWith(path === undefined ? [] : [pullScope(path)], work);
  }

  /** Asks mirrors first, then the registry; what a mirror refuses or has not, the registry may have. */
  #readWith<T>(scopes: readonly string[], work: (send: Send) => Promise<T>): Promise<T> {
    return this.#each(scopes, (send) => withRetries(() => work(send), this.#options));
  }

  /** As {@link #read}, without trying again: for who does that himself. */
  #once<T>(path: string, work: (send: Send) => Promise<T>): Promise<T> {
    return this.#each([pullScope(path)], work);
  }

  async #each<T>(scopes: readonly string[], work: (send: Send) => Promise<T>): Promise<T> {
    let last: unknown;
    for (const exchange of this.#exchanges) {
      try {
        return await work((request) => exchange.send({ ...request, scopes }));
      } catch (error) {
        if (!exchange.endpoint.mirror || isEngineError(error, "cancelled")) throw error;
        last = error;
      }
    }
    throw last;
  }
}

type Send = (request: Omit<RegistryRequest, "scopes">) => Promise<HttpAnswer>;

export function pullScope(path: string): string {
  return `repository:${path}:pull`;
}

/** Those mirrors that answer, and the registry itself, with TLS or, where that is allowed and there is none, without. */
async function reach(endpoints: readonly Endpoint[], options: SessionOptions & { readonly network: Network }): Promise<Exchange[]> {
  const mirrors: Exchange[] = [];
  let problem: unknown;
  for (const endpoint of endpoints) {
    if (endpoint.mirror && options.withoutMirrors === true) continue;
    const exchange = new Exchange(endpoint, options);
    try {
      await (endpoint.mirror ? exchange.ping() : withRetries(() => exchange.ping(), options));
      if (!endpoint.mirror) return [...mirrors, exchange];
      mirrors.push(exchange);
    } catch (error) {
      if (isEngineError(error, "cancelled") || (!endpoint.mirror && !isUnreachable(error) && mirrors.length === 0)) throw error;
      if (endpoint.mirror) options.onWait?.(`mirror ${endpoint.host} is left out: ${(error as Error).message}`, 0);
      problem = error;
    }
  }
  if (mirrors.length === 0) throw problem;
  return mirrors;
}

/** `Link: </v2/_catalog?last=x&n=100>; rel="next"`, below this endpoint only. */
function nextPage(link: string | undefined, from: URL): string | undefined {
  const target = /<([^>]+)>\s*;[^,]*rel="?next"?/i.exec(link ?? "")?.[1];
  if (target === undefined) return undefined;
  const url = new URL(target, from);
  if (url.origin !== from.origin) throw new EngineError("denied", `the next page of ${from.origin} is at ${url.origin}, which is not trusted`);
  return `${url.pathname}${url.search}`;
}
