/** Requests to one endpoint of a registry: authorized, redirected, refused in docker's words. @module */
import { EngineError } from "#core/errors.ts";
import { Authorizer, type AuthorizerOptions } from "./authorizer.ts";
import { type Endpoint, isInsecure } from "./endpoints.ts";
import { refusal } from "./errors.ts";
import type { HttpAnswer, HttpRequest } from "./network.ts";

export interface RegistryRequest {
  readonly method: HttpRequest["method"];
  /** Below the endpoint (`/v2/…`), or where the registry has sent us. */
  readonly target: string | URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | AsyncIterable<Uint8Array> | undefined;
  /** `repository:library/busybox:pull` */
  readonly scopes: readonly string[];
  /** Statuses that are answers; others are thrown. */
  readonly expect: readonly number[];
  /** What is asked for, for people. */
  readonly what: string;
  readonly signal?: AbortSignal | undefined;
}

/** As many as Go's client follows. */
const maxRedirects = 10;
const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export class Exchange {
  readonly endpoint: Endpoint;
  readonly authorizer: Authorizer;
  readonly #options: AuthorizerOptions;
  readonly #origin: string;

  constructor(endpoint: Endpoint, options: AuthorizerOptions) {
    this.endpoint = endpoint;
    // A mirror is somebody else: the registry's credentials are not for it.
    this.#options = endpoint.mirror ? { ...options, credentials: undefined } : options;
    this.authorizer = new Authorizer(this.#options);
    this.#origin = new URL(endpoint.base).origin;
  }

  /** Asks whether somebody is there, and learns how to say who asks. */
  async ping(): Promise<void> {
    const answer = await this.#follow(new URL(`${this.endpoint.base}/v2/`), { method: "GET", scopes: [], what: `registry ${this.endpoint.host}` });
    if (answer.status >= 500 || answer.status === 429) throw await refusal(answer, `registry ${this.endpoint.host}`, this.#options.clock.now());
    if (answer.status === 401 && answer.url.origin === this.#origin) this.authorizer.learn(answer, []);
    answer.body.destroy();
  }

  async send(request: RegistryRequest): Promise<HttpAnswer> {
    const url = typeof request.target === "string" ? new URL(`${this.endpoint.base}${request.target}`) : request.target;
    let answer = await this.#follow(url, request);
    // A challenge of somebody whom the registry has sent us to is none of ours: credentials are for the registry.
    if (answer.status === 401 && answer.url.origin === this.#origin && isReplayable(request) && this.authorizer.learn(answer, request.scopes)) {
      answer.body.destroy();
      answer = await this.#follow(url, request);
    }
    if (request.expect.includes(answer.status)) return answer;
    throw await refusal(answer, request.what, this.#options.clock.now());
  }

  async #follow(first: URL, { method, headers, body, scopes, what, signal }: Omit<RegistryRequest, "target" | "expect">): Promise<HttpAnswer> {
    let url = first;
    for (let hop = 0; hop <= maxRedirects; hop++) {
      const authorization = url.origin === this.#origin ? await this.authorizer.header(scopes) : undefined;
      const answer = await this.#options.network.send(url, {
        method,
        headers: { "user-agent": "wherry", ...headers, ...(authorization === undefined ? {} : { authorization }) },
        body,
        signal: signal ?? this.#options.signal,
      });
      if (!redirects.has(answer.status) || (method !== "GET" && method !== "HEAD")) return answer;
      answer.body.destroy();
      url = await this.#redirected(url, answer.header("location"), what);
    }
    throw new EngineError("unavailable", `${what}: stopped after ${maxRedirects} redirects`);
  }

  /** Where an answer leads; from TLS never to somewhere without. */
  async #redirected(from: URL, location: string | undefined, what: string): Promise<URL> {
    let url: URL;
    try {
      url = new URL(location ?? "", from);
    } catch (error) {
      throw new EngineError("corrupt", `${what}: redirected to what is no URL`, { cause: error });
    }
    const allowed =
      url.protocol === "https:" || (url.protocol === "http:" && (from.protocol === "http:" || (await isInsecure(url.host, this.#options.config))));
    if (!allowed || url.username !== "" || url.password !== "")
      throw new EngineError("denied", `${what}: ${from.origin} redirects to ${url.origin}, which is not trusted`);
    return url;
  }
}

function isReplayable({ body }: RegistryRequest): boolean {
  return body === undefined || body instanceof Uint8Array;
}
