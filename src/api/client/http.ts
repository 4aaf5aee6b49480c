/** The API over HTTP: a unix socket or TCP. @module */
import { Agent, type IncomingMessage, request as httpRequest, type RequestOptions } from "node:http";
import { Agent as TlsAgent, request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import { encodeQuery } from "#api/types/query.ts";
import type { ErrorBody } from "#api/types/transport.ts";
import { apiVersion } from "#api/types/version.ts";
import { isByteStream, toReadable } from "./body.ts";
import { connectSsh, sshArguments } from "./ssh.ts";
import { type ApiCallOptions, type ApiClient, ApiError, ConnectionError } from "./mod.ts";

/** Where to connect. Throws ConnectionError for a host that is neither unix nor tcp (ssh is a program's work). */
function target(host: string): RequestOptions {
  const unix = /^unix:\/\/(\/.+)$/.exec(host)?.[1];
  if (unix !== undefined) return { socketPath: unix, host: "wherry" };
  const tcp = /^(?:tcp|http):\/\/(?:\[([0-9a-fA-F:.]+)\]|([^:/]+)):(\d+)\/?$/.exec(host);
  if (!tcp) throw new ConnectionError(`unable to parse docker host "${host}": expected unix:///path, tcp://address:port or ssh://user@host`);
  return { host: tcp[1] ?? tcp[2]!, port: Number(tcp[3]) };
}

/** PEM; `verify`: the daemon's certificate. */
export interface ClientTls {
  readonly ca?: Uint8Array;
  readonly cert?: Uint8Array;
  readonly key?: Uint8Array;
  readonly verify: boolean;
}

const maxErrorBytes = 1024 * 1024;

async function errorOf(response: IncomingMessage): Promise<ApiError> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxErrorBytes) break;
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8").trim();
  const status = response.statusCode ?? 0;
  try {
    const body = JSON.parse(text) as Partial<ErrorBody>;
    if (typeof body.message === "string") return new ApiError(status, body.message, body.hint, body);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return new ApiError(status, text === "" ? `the daemon answered ${status}` : text.slice(0, 500));
}

/** An {@link ApiClient} over HTTP. Connections are kept and reused; a streamed or hijacked call has one of its own. */
export function createHttpClient(host: string, tls?: ClientTls): ApiClient {
  const ssh = host.startsWith("ssh://");
  const secure =
    tls === undefined
      ? {}
      : { ...(tls.ca && { ca: tls.ca }), ...(tls.cert && { cert: tls.cert }), ...(tls.key && { key: tls.key }), rejectUnauthorized: tls.verify };
  if (ssh) sshArguments(host);
  const where: RequestOptions = ssh ? { host: "wherry", createConnection: () => connectSsh(host) } : target(host);
  // Over ssh each connection is a process: it ends with its call.
  const agent = ssh
    ? undefined
    : tls === undefined
      ? new Agent({ keepAlive: true, maxFreeSockets: 4 })
      : new TlsAgent({ keepAlive: true, maxFreeSockets: 4, ...secure });

  const send = (
    method: string,
    path: string,
    options: ApiCallOptions,
    upgrade: boolean,
  ): Promise<{ readonly response: IncomingMessage; readonly socket?: Socket; readonly head?: Buffer }> =>
    new Promise((resolve, reject) => {
      const { body } = options;
      const bytes = body === undefined ? undefined : body instanceof Uint8Array ? body : isByteStream(body) ? undefined : Buffer.from(JSON.stringify(body));
      const request = (tls === undefined ? httpRequest : httpsRequest)({
        ...where,
        ...secure,
        method,
        path: `/v${apiVersion}${path}${encodeQuery(options.query)}`,
        // A stub-like client has no use for a pool: a hijacked connection is never given back.
        // Without an agent (and only then) it is `createConnection` that connects.
        agent: agent === undefined ? undefined : upgrade ? false : agent,
        headers: {
          ...(bytes === undefined ? {} : { "Content-Length": bytes.length, "Content-Type": "application/json" }),
          ...(bytes === undefined && body !== undefined ? { "Content-Type": "application/x-tar" } : {}),
          ...(upgrade ? { Connection: "Upgrade", Upgrade: "tcp" } : {}),
          ...options.headers,
        },
        ...(options.signal ? { signal: options.signal } : {}),
      });
      request.once("error", (error: NodeJS.ErrnoException) => {
        if (options.signal?.aborted) return reject(options.signal.reason as Error);
        if (error instanceof ConnectionError) return reject(error);
        if (error.syscall === "connect") {
          return reject(new ConnectionError(`Cannot connect to the daemon at ${host}. Is wherryd running? (${error.code ?? error.message})`, { cause: error }));
        }
        reject(new ConnectionError(`error during connect: ${method} ${path}: ${error.message}`, { cause: error }));
      });
      request.once("response", (response) => resolve({ response }));
      request.once("upgrade", (response: IncomingMessage, socket: Socket, head: Buffer) => resolve({ response, socket, head }));
      if (bytes !== undefined) request.end(bytes);
      else if (body === undefined) request.end();
      else
        toReadable(body)
          .on("error", (error) => request.destroy(error))
          .pipe(request);
    });

  const ok = async (method: string, path: string, options: ApiCallOptions): Promise<IncomingMessage> => {
    const { response } = await send(method, path, options, false);
    const status = response.statusCode ?? 0;
    if (status >= 400 || status === 304) throw await errorOf(response);
    return response;
  };

  return {
    direct: false,
    host,
    async json<T>(method: string, path: string, options: ApiCallOptions = {}): Promise<T> {
      const response = await ok(method, path, options);
      const chunks: Buffer[] = [];
      for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString("utf8");
      return (text.trim() === "" ? undefined : JSON.parse(text)) as T; // the caller names the reply's type
    },
    async stream(method, path, options = {}) {
      const response = await ok(method, path, options);
      const texts = (all: NodeJS.Dict<string | string[]>) =>
        Object.fromEntries(Object.entries(all).flatMap(([name, value]) => (typeof value === "string" ? [[name, value]] : [])));
      return { status: response.statusCode ?? 0, headers: texts(response.headers), body: response, trailers: () => texts(response.trailers) };
    },
    async hijack(method, path, options = {}) {
      const { response, socket, head } = await send(method, path, options, true);
      if (!socket) {
        if ((response.statusCode ?? 0) < 400)
          throw new Error(`${method} ${path}: the daemon answered ${response.statusCode} without handing the connection over`);
        throw await errorOf(response);
      }
      if (head && head.length > 0) socket.unshift(head);
      const type = response.headers["content-type"] ?? "";
      return { stream: socket, framed: type.includes("multiplexed-stream") };
    },
    async close() {
      agent?.destroy();
    },
  };
}
