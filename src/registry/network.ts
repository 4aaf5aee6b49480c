/** HTTP to registries, token servers and where they redirect to: TLS by host, proxies, timeouts; connections live as long as their session. @module */
import { finished, type Readable } from "node:stream";
import type { Dispatcher } from "undici";
import { EngineError, errnoOf } from "#core/errors.ts";
import { giveBack } from "#core/pieces.ts";
import { tlsOptionsOf } from "./certificates.ts";
import type { RegistryConfig } from "./config.ts";
import { connector } from "./connections.ts";
import { isInsecure } from "./endpoints.ts";
import { Pace, type SlowestPace } from "./pace.ts";
import { proxyFor } from "./proxy.ts";

/** Time until a connection stands, until an answer begins, and between two pieces of it. */
const timeouts = { connectMs: 15_000, headersMs: 60_000, bodyMs: 60_000 } as const;

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | AsyncIterable<Uint8Array> | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An answer whose body must be read or destroyed. */
export interface HttpAnswer {
  readonly url: URL;
  readonly status: number;
  header(name: string): string | undefined;
  readonly body: Readable;
  readonly slowest: SlowestPace;
}

export class Network implements AsyncDisposable {
  readonly #config: RegistryConfig;
  readonly #dispatchers = new Map<string, Promise<Dispatcher>>();

  constructor(config: RegistryConfig) {
    this.#config = config;
  }

  /** One request; redirects are not followed. EngineError "unavailable" when there is no answer ({@link isTransient} tells whether asking again may help). */
  async send(url: URL, { method, headers, body, signal }: HttpRequest): Promise<HttpAnswer> {
    try {
      const { request } = await import("undici");
      const answer = await request(url, {
        method,
        headers: { ...headers },
        dispatcher: await this.#dispatcher(url),
        ...(body === undefined ? {} : { body: body as Uint8Array | Readable }), // undici's types leave out what can be iterated; its documentation does not
        ...(signal === undefined ? {} : { signal }),
        headersTimeout: timeouts.headersMs,
        bodyTimeout: timeouts.bodyMs,
      });
      // Its errors reach whoever reads it; nobody reads what is destroyed.
      answer.body.on("error", () => undefined);
      return {
        url,
        status: answer.statusCode,
        header: (name) => {
          const value = answer.headers[name];
          return Array.isArray(value) ? value.join(", ") : value;
        },
        body: answer.body,
        slowest: this.#config.slowest,
      };
    } catch (error) {
      throw connectionError(method, url, error, signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const dispatcher of this.#dispatchers.values()) await dispatcher.then((one) => one.destroy()).catch(() => undefined); // its error was told when it was used
  }

  #dispatcher(url: URL): Promise<Dispatcher> {
    const known = this.#dispatchers.get(url.origin);
    if (known !== undefined) return known;
    const made = this.#makeDispatcher(url);
    this.#dispatchers.set(url.origin, made);
    return made;
  }

  async #makeDispatcher(url: URL): Promise<Dispatcher> {
    const { Agent, buildConnector, ProxyAgent } = await import("undici");
    const tls =
      url.protocol === "https:" ? { ...(await tlsOptionsOf(url.host, this.#config)), rejectUnauthorized: !(await isInsecure(url.host, this.#config)) } : {};
    const proxy = proxyFor(url, this.#config.proxy);
    if (proxy === undefined) return new Agent({ connect: connector(buildConnector, { ...tls, timeout: timeouts.connectMs }) });
    const { username, password, href } = new URL(proxy);
    const token =
      username === "" ? {} : { token: `Basic ${Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString("base64")}` };
    return new ProxyAgent({ uri: href, requestTls: { ...tls, timeout: timeouts.connectMs }, ...token });
  }
}

/** Whether the same request may succeed a little later. */
export function isTransient(error: unknown): boolean {
  return error instanceof EngineError && error.details["transient"] === true;
}

/** Whether there was no conversation at all: nobody listens, or not in this way. Another endpoint may do. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof EngineError && error.details["unreachable"] === true;
}

const tlsProblems: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: "x509: certificate signed by unknown authority",
  SELF_SIGNED_CERT_IN_CHAIN: "x509: certificate signed by unknown authority",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "x509: certificate signed by unknown authority",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "x509: certificate signed by unknown authority",
  CERT_HAS_EXPIRED: "x509: certificate has expired or is not yet valid",
  CERT_NOT_YET_VALID: "x509: certificate has expired or is not yet valid",
  ERR_TLS_CERT_ALTNAME_INVALID: "x509: certificate is valid for other names than this host's",
};

/** What came between a request and its answer, in docker's (that is, Go's) words. */
export function connectionError(method: string, url: URL, error: unknown, signal?: AbortSignal): EngineError {
  if (error instanceof EngineError) return error;
  if (signal?.aborted) return new EngineError("cancelled", "context canceled", { cause: error });
  const code = codeOf(error);
  const what = `${method === "GET" ? "Get" : method === "HEAD" ? "Head" : method} "${url.origin}${url.pathname}"`;
  const fail = (why: string, details: { readonly transient?: boolean; readonly unreachable?: boolean }, hint?: string) =>
    new EngineError("unavailable", `${what}: ${why}`, { cause: error, details, ...(hint === undefined ? {} : { hint }) });
  const tls = tlsProblems[code];
  if (tls !== undefined) {
    const hint = `put the authority's certificate into /etc/docker/certs.d/${url.host}/ca.crt, or start wherryd with --insecure-registry ${url.host}`;
    return fail(`tls: failed to verify certificate: ${tls}`, { unreachable: true }, hint);
  }
  switch (code) {
    case "ECONNREFUSED":
      return fail(`dial tcp ${url.host}: connect: connection refused`, { unreachable: true });
    case "ENOTFOUND":
      return fail(`dial tcp: lookup ${url.hostname}: no such host`, { unreachable: true });
    case "EAI_AGAIN":
      return fail(`dial tcp: lookup ${url.hostname}: temporary failure in name resolution`, { unreachable: true, transient: true });
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return fail(`dial tcp ${url.host}: connect: ${code === "ENETUNREACH" ? "network is unreachable" : "no route to host"}`, { unreachable: true });
    case "UND_ERR_CONNECT_TIMEOUT":
      return fail(`dial tcp ${url.host}: i/o timeout`, { unreachable: true, transient: true });
    case "UND_ERR_HEADERS_TIMEOUT":
    case "UND_ERR_BODY_TIMEOUT":
      return fail("the registry stopped answering: timeout", { transient: true });
    case "EPROTO":
    case "ERR_SSL_WRONG_VERSION_NUMBER":
    case "ERR_SSL_PACKET_LENGTH_TOO_LONG":
      return fail(
        "http: server gave HTTP response to HTTPS client",
        { unreachable: true },
        `if it has no TLS on purpose: wherryd --insecure-registry ${url.host}`,
      );
    case "ECONNRESET":
    case "EPIPE":
    case "UND_ERR_SOCKET":
      return fail(`the connection was closed: ${messageOf(error)}`, { transient: true });
    default:
      return fail(messageOf(error), { unreachable: code.startsWith("ERR_SSL") || code.startsWith("ERR_TLS"), transient: code.startsWith("UND_ERR_RE") });
  }
}

/** undici wraps what the socket said. */
function codeOf(error: unknown): string {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const own = errnoOf(at);
    if (own !== undefined && own !== "UND_ERR_ABORTED")
      return own === "UND_ERR_SOCKET" && at.cause instanceof Error && errnoOf(at.cause) !== undefined ? errnoOf(at.cause)! : own;
    if (at instanceof AggregateError && at.errors[0] instanceof Error) return codeOf(at.errors[0]);
  }
  return "";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The body of an answer, in the pieces in which it was read. (To iterate over a stream makes one new piece of those that wait.) They are the caller's to give back. */
export async function* piecesOf({ body }: HttpAnswer): AsyncGenerator<Buffer, void> {
  const waiting: Buffer[] = [];
  let over: { readonly error: Error | undefined | null } | undefined;
  let wake: (() => void) | undefined;
  const stop = finished(body, { writable: false }, (error) => {
    over = { error };
    wake?.();
  });
  const take = (piece: Buffer) => {
    waiting.push(piece);
    body.pause();
    wake?.();
  };
  body.on("data", take).pause();
  try {
    for (;;) {
      const piece = waiting.shift();
      if (piece !== undefined) yield piece;
      else if (over?.error) throw over.error;
      else if (over !== undefined) return;
      else {
        const woken = new Promise<void>((resolve) => (wake = resolve));
        body.resume();
        await woken;
      }
    }
  } finally {
    stop();
    body.off("data", take);
  }
}

/** The body of an answer that must be small. EngineError corrupt when it is not. */
export async function readSmall(answer: HttpAnswer, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const pace = new Pace(answer.slowest);
  let bytes = 0;
  try {
    for await (const chunk of piecesOf(answer)) {
      bytes += chunk.length;
      if (pace.tooSlow(chunk.length)) {
        const message = `the answer of ${answer.url.origin}${answer.url.pathname}: the registry sends ${pace.toString()}`;
        throw new EngineError("unavailable", message, { details: { transient: true } });
      }
      if (bytes > maxBytes) throw new EngineError("corrupt", `the answer of ${answer.url.origin}${answer.url.pathname} has more than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw connectionError("GET", answer.url, error);
  } finally {
    answer.body.destroy();
  }
  const whole = Buffer.concat(chunks);
  for (const chunk of chunks) giveBack(chunk);
  return whole;
}
