/**
 * A socket between stock clients and the daemon: bytes pass untouched, and every reply is checked against docker's description of the version that was asked
 * for. So each test that drives a client checks the wire too, without saying so.
 * @module
 */
import { chmodSync } from "node:fs";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { type Exchange, ExchangeReader } from "./http-exchanges.ts";
import { knownDeviation } from "./deviations.ts";
import { Swagger } from "./swagger.ts";

/** Versions whose description may lie beside the repository. A version between two is held to the older one's. */
const describedMinors = [50, 47, 44, 41, 40] as const;
/** Of requests without a version: the engine's newest. */
const defaultMinor = 51;
/** A larger body is not kept: an archive, or a list that nobody sends. */
const maxBodyBytes = 64 * 1024 * 1024;

/** Replies that are one JSON object a line, and what each line is; the description says it for some only. */
const lineDefinitions: readonly (readonly [route: string, definition: string | undefined])[] = [
  ["POST /images/create", "CreateImageInfo"],
  ["POST /images/{name}/push", "PushImageInfo"],
  ["POST /build", "BuildInfo"],
  ["GET /events", undefined],
  ["GET /containers/{id}/stats", undefined],
];

interface Body {
  readonly parts: Buffer[];
  bytes: number;
}

export class CheckedSocket {
  /** Why nothing is checked; undefined when it is. */
  static readonly missing: string | undefined = describedMinors.every((minor) => Swagger.shared(minor) !== undefined)
    ? undefined
    : "no ../shared/spec/docker-api";

  /** What replies did otherwise than described, without repetition. */
  readonly problems: Set<string> = new Set<string>();
  /** Replies that were held against a description, by `METHOD /path/{id} status`. */
  readonly checked: Map<string, number> = new Map<string, number>();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(upstream: string) {
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#join(client, upstream));
  }

  /** Listens at `path` for clients of the daemon at `upstream`. */
  static async open(path: string, upstream: string): Promise<CheckedSocket> {
    const checked = new CheckedSocket(upstream);
    checked.#server.listen(path);
    await once(checked.#server, "listening");
    chmodSync(path, 0o660);
    return checked;
  }

  /** Ends listener and connections; the socket's file goes. */
  async close(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #join(client: Socket, upstream: string): void {
    const server = connect({ path: upstream, allowHalfOpen: true });
    const bodies = new Map<Exchange, Body>();
    const reader = new ExchangeReader({
      begin: (exchange) => void bodies.set(exchange, { parts: [], bytes: 0 }),
      chunk: (exchange, data) => this.#chunk(exchange, bodies.get(exchange)!, data),
      end: (exchange) => {
        const body = bodies.get(exchange)!;
        bodies.delete(exchange);
        this.#end(exchange, body);
      },
    });
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        // What has been written still goes out; a side that has not ended has broken.
        if (from.readableEnded) to.destroySoon();
        else to.destroy();
      });
    }
    client.on("data", (data: Buffer) => reader.fromClient(data));
    server.on("data", (data: Buffer) => reader.fromServer(data));
    server.on("end", () => reader.serverEnded());
  }

  #chunk(exchange: Exchange, body: Body, data: Buffer): void {
    if (!isJson(exchange)) return;
    const route = routeOf(exchange);
    body.bytes += data.length;
    if (body.bytes > maxBodyBytes && route?.lines === undefined) return;
    if (route?.lines === undefined) {
      body.parts.push(data);
      return;
    }
    const text = Buffer.concat([...body.parts.splice(0), data]);
    const end = text.lastIndexOf(0x0a);
    if (end + 1 < text.length) body.parts.push(text.subarray(end + 1));
    for (const line of text.toString("utf8", 0, end + 1).split("\n")) if (line.trim() !== "") this.#line(exchange, route, line);
  }

  #line(exchange: Exchange, route: DescribedRoute, line: string): void {
    const value = JSON.parse(line) as unknown;
    const { swagger, method, path, lines } = route;
    const problems = lines === "reply" ? swagger.check(method, path, exchange.status, value) : swagger.checkDefinition(lines!, value);
    this.#note(exchange, route, problems);
  }

  #end(exchange: Exchange, body: Body): void {
    const route = routeOf(exchange);
    if (route === undefined || body.bytes > maxBodyBytes) return;
    this.#note(exchange, route, route.lines === undefined ? problemsOf(exchange, route, Buffer.concat(body.parts).toString("utf8")) : []);
  }

  #note(exchange: Exchange, { method, path, minor }: DescribedRoute, problems: readonly string[]): void {
    const what = `${method} ${path} ${exchange.status}`;
    this.checked.set(what, (this.checked.get(what) ?? 0) + 1);
    for (const problem of problems) {
      if (knownDeviation(what, problem) === undefined) this.problems.add(`1.${minor} ${what}: ${problem}`);
    }
  }
}

interface DescribedRoute {
  readonly swagger: Swagger;
  readonly minor: number;
  readonly method: string;
  /** As in the description. */
  readonly path: string;
  /** A definition, or `reply` for what the description says of the whole; undefined: not by lines. */
  readonly lines: string | undefined;
}

/** Where a request's reply is described; undefined for our own routes and for versions before the oldest description. */
function routeOf({ method, target, status }: Exchange): DescribedRoute | undefined {
  const [, version, path = ""] = /^(?:\/v1\.(\d+))?(\/[^?]*)/.exec(target) ?? [];
  const minor = version === undefined ? defaultMinor : Number(version);
  const described = describedMinors.find((one) => one <= minor);
  const swagger = described === undefined || minor > defaultMinor ? undefined : Swagger.shared(described);
  const found = swagger?.pathOf(method, path);
  if (swagger === undefined || found === undefined) return undefined;
  const line = status < 400 ? lineDefinitions.find(([route]) => route === `${method} ${found}`) : undefined;
  return { swagger, minor, method, path: found, lines: line && (line[1] ?? "reply") };
}

function problemsOf(exchange: Exchange, { swagger, method, path }: DescribedRoute, text: string): string[] {
  // Archives and logs are bytes: what is described is that they come.
  if (!isJson(exchange) && exchange.status < 400) return swagger.checkStatus(method, path, exchange.status);
  try {
    return swagger.check(method, path, exchange.status, text === "" ? undefined : JSON.parse(text));
  } catch (error) {
    return [`the body is no JSON: ${(error as Error).message}`];
  }
}

function isJson({ headers }: Exchange): boolean {
  return /^application\/(json|x-ndjson)\b/.test(headers["content-type"] ?? "");
}
