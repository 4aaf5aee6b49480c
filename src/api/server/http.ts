/**
 * The HTTP transport: node:http in front of the router.
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type ServerOptions as TlsServerOptions } from "node:https";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Query } from "#api/types/query.ts";
import type { ApiRequest, ApiResponse, Dispatch } from "#api/types/transport.ts";
import { apiVersion, maxMinor, minApiVersion, minMinor, splitVersion } from "#api/types/version.ts";
import { checkJsonType, hasBody, parseJson, readBounded, readExact } from "./body.ts";
import { giveAway, isHijack, joinStreams, letHeaderBeRead, writePlain } from "./hijack.ts";
import { detachFromHttp1, prefaceCode } from "./prior-knowledge.ts";
import { respond } from "./respond.ts";
import { type Log, logFault } from "./router.ts";
import { errorResponse, messageOf } from "./status.ts";
import { joinWebSocket } from "./websocket.ts";

export interface HttpOptions {
  readonly dispatch: Dispatch;
  readonly version: string;
  readonly log: Log;
  readonly tls?: TlsSecrets;
  /** Takes connections that speak HTTP/2 from their first byte on; without it they are refused. */
  readonly onHttp2?: (connection: Duplex) => void;
}

/** PEM. `ca`: who has no certificate signed by it is refused in the handshake. */
export interface TlsSecrets {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca?: Buffer;
}

/** node:http hands a connection over ("upgrade") when its parser says so. This is where it is told. */
interface ParserOfSocket {
  onIncoming?: ((request: IncomingMessage, keepAlive: boolean) => unknown) | null;
}

/** A version that we do not speak, as the error that Docker gives. */
function versionError(major: number, minor: number): ApiResponse | undefined {
  const asked = `${major}.${minor}`;
  if (major > 1 || minor > maxMinor) return refuse(`client version ${asked} is too new. Maximum supported API version is ${apiVersion}`);
  if (major < 1 || minor < minMinor)
    return refuse(`client version ${asked} is too old. Minimum supported API version is ${minApiVersion}, please upgrade your client to a newer version`);
  return undefined;
}

function refuse(message: string): ApiResponse {
  return { kind: "json", status: 400, value: { message } };
}

function splitUrl(url: string): { readonly path: string; readonly query: string } {
  const at = url.indexOf("?");
  return at < 0 ? { path: url, query: "" } : { path: url.slice(0, at), query: url.slice(at + 1) };
}

function pathOf(request: IncomingMessage): string {
  return splitVersion(splitUrl(request.url ?? "/").path).path;
}

/**
 * Aborts when the client has gone. For a client that only half-closes this is early, and Go's server does the same: with nothing to write, a closed and a
 * half-closed connection look alike. Made on first use, because most requests never ask. With the response it has served: the connection may bring many more.
 */
function clientSignal(socket: Socket, response: ServerResponse | undefined): () => AbortSignal {
  let controller: AbortController | undefined;
  return () => {
    if (controller) return controller.signal;
    const made = new AbortController();
    controller = made;
    const gone = (): void => made.abort();
    if (socket.destroyed || socket.readableEnded) gone();
    socket.once("close", gone);
    socket.once("end", gone);
    response?.once("close", () => {
      socket.off("close", gone);
      socket.off("end", gone);
      if (!response.writableFinished) gone();
    });
    return made.signal;
  };
}

/** `readJson` reads the body in the way that the connection's fate asks for. `response`: undefined where the connection is the client's own from now on. */
function apiRequest(
  request: IncomingMessage,
  readJson: () => Promise<Uint8Array>,
  response?: ServerResponse,
): ApiRequest & { readonly refused: ApiResponse | undefined } {
  const { path: raw, query } = splitUrl(request.url ?? "/");
  const { major, minor, path } = splitVersion(raw);
  const signal = clientSignal(request.socket, response);
  return {
    method: request.method ?? "GET",
    path,
    minor,
    query: Query.parse(query),
    headers: request.headers,
    json: async () => {
      checkJsonType(request.headers);
      return parseJson(await readJson());
    },
    body: request,
    get signal() {
      return signal();
    },
    refused: path === "/_ping" ? undefined : versionError(major, minor),
  };
}

/** The HTTP server, not listening yet. `closeHijacked` ends the connections that it no longer counts as its own. */
export function createHttpServer(options: HttpOptions): { readonly server: Server; readonly closeHijacked: () => void } {
  const { dispatch, log } = options;
  const common = ["Api-Version", apiVersion, "Docker-Experimental", "false", "Ostype", "linux", "Server", `wherry/${options.version} (linux)`];
  const hijacked = new Set<Socket>();
  const http = {
    // Slow headers are cut off; how long a body or a reply takes is up to the route (JSON bodies have their own limit).
    headersTimeout: 30_000,
    requestTimeout: 0,
    keepAliveTimeout: 75_000,
    maxHeaderSize: 128 * 1024,
    noDelay: true,
  };
  const { tls } = options;
  const server: Server =
    tls === undefined
      ? createServer(http)
      : (createTlsServer({
          ...http,
          ...tls,
          allowHalfOpen: true,
          minVersion: "TLSv1.2",
          ...(tls.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: true }),
        } as TlsServerOptions) as unknown as Server); // both have what is used here: events of requests, listen, close, closeAllConnections
  // A client may send its request, shut down its writing side and still want the answer.
  (server as Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;

  const answer = async (request: ApiRequest & { readonly refused: ApiResponse | undefined }): Promise<ApiResponse> => request.refused ?? dispatch(request);

  const onRequest = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const request = apiRequest(req, () => readBounded(req), res);
    try {
      const response = await answer(request);
      if (response.kind === "hijack" || response.kind === "upgrade")
        throw new Error(`${req.method} ${req.url} answered with a stream on a connection that was not handed over`);
      await respond(res, response, common);
    } catch (error) {
      // The header may be out: the only honest end of a broken stream is a broken connection.
      if (!res.destroyed) logFault(error, `${req.method} ${req.url}`, log);
      if (res.headersSent) res.destroy();
      else await respond(res, errorResponse(error) as Exclude<ApiResponse, { kind: "hijack" | "upgrade" }>, common); // errors are JSON or empty
    }
  };

  const onHijack = async (req: IncomingMessage, socket: Socket, head: Buffer): Promise<void> => {
    hijacked.add(socket);
    socket.once("close", () => hijacked.delete(socket));
    socket.on("error", (error) => log("debug", `${req.url}: ${messageOf(error)}`));
    // Bytes that came with the header are the body, or the container's stdin.
    if (head.length > 0) socket.unshift(head);
    const upgraded = req.headers.upgrade !== undefined && /\bupgrade\b/i.test(req.headers.connection ?? "");
    let response: ApiResponse;
    try {
      // Also where nobody asks for it: dockerode tells attach its options a second time, and they are no input of the program.
      const body = hasBody(req.headers) ? await readExact(socket, req.headers) : new Uint8Array(0);
      response = await answer(apiRequest(req, async () => body));
    } catch (error) {
      logFault(error, `${req.method} ${req.url}`, log);
      response = errorResponse(error);
    }
    if (response.kind === "hijack") {
      if (socket.destroyed) response.stream.destroy();
      else if (response.webSocket === true) joinWebSocket(req, socket, response, common);
      else joinStreams(socket, response, upgraded, common, letHeaderBeRead(req.headers["user-agent"], splitUrl(req.url ?? "").query));
    } else if (response.kind === "upgrade") giveAway(socket, response);
    else if (response.kind === "json" || response.kind === "empty") writePlain(socket, response, common);
    else throw new Error(`${req.method} ${req.url}: a ${response.kind} reply on a connection that was handed over`);
  };

  const crash = (what: string) => (error: unknown) => log("error", `${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  server.on("request", (req, res) => void onRequest(req, res).catch(crash(`${req.method} ${req.url}`)));
  server.on("upgrade", (req: IncomingMessage, socket: Socket, head: Buffer) => void onHijack(req, socket, head).catch(crash(`${req.method} ${req.url}`)));
  server.on(tls === undefined ? "connection" : "secureConnection", (socket: Socket) => steerParser(socket));
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
    const received = (error as { rawPacket?: Buffer }).rawPacket; // node:http adds it
    if (error.code === prefaceCode && options.onHttp2 !== undefined && received !== undefined) {
      hijacked.add(socket);
      const connection = detachFromHttp1(socket, received);
      socket.once("close", () => hijacked.delete(socket));
      return options.onHttp2(connection);
    }
    const status =
      error.code === "HPE_HEADER_OVERFLOW"
        ? "431 Request Header Fields Too Large"
        : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
          ? "408 Request Timeout"
          : "400 Bad Request";
    socket.end(`HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n${status}`, () => socket.destroy());
  });
  return {
    server,
    closeHijacked: () => {
      for (const socket of hijacked) socket.destroy();
    },
  };
}

/**
 * Which requests take the connection over is decided by the route, not by the `Upgrade` header: old clients (docker-py's plain path, curl) hijack without it,
 * and Java's client offers `Upgrade: h2c` on every request. Setting `request.upgrade` before node looks at it makes its parser stop right behind the header
 * and emit "upgrade" with the bytes that follow.
 */
function steerParser(socket: Socket): void {
  const parser = (socket as Socket & { parser?: ParserOfSocket | null }).parser;
  const original = parser?.onIncoming;
  if (!parser || !original) throw new Error("node:http no longer shows a connection's parser");
  parser.onIncoming = (request, keepAlive) => {
    (request as IncomingMessage & { upgrade: boolean }).upgrade = isHijack(request.method ?? "", pathOf(request));
    return original(request, keepAlive);
  };
}
