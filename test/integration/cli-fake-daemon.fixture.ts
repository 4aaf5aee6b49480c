/** A daemon that only remembers what it was asked and answers from a table: what a CLI sends and how it prints answers can be compared with docker's. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Recorded {
  readonly method: string;
  /** Without the version prefix, with query. */
  readonly url: string;
  readonly body: unknown;
}

/** Answers by "METHOD /path" (no query). A function may look at the request. Strings go out as they are, everything else as JSON. */
export type Answers = Readonly<Record<string, unknown>>;

export interface FakeDaemon extends AsyncDisposable {
  readonly host: string;
  readonly requests: Recorded[];
  answers: Answers;
}

/** Status and body, when 200 is not meant; headers where they matter. */
export class Reply {
  readonly status: number;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string>>;
  constructor(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}) {
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString("utf8");
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch {
    return text;
  }
}

function answer(response: ServerResponse, value: unknown): void {
  const reply = value instanceof Reply ? value : new Reply(value === undefined ? 404 : 200, value ?? { message: "page not found" });
  const bytes = Buffer.isBuffer(reply.body) ? reply.body : typeof reply.body === "string" ? reply.body : reply.status === 204 ? "" : JSON.stringify(reply.body);
  response.writeHead(reply.status, {
    "Api-Version": "1.51",
    Ostype: "linux",
    "Content-Type": typeof reply.body === "string" ? "text/plain" : "application/json",
    ...reply.headers,
  });
  response.end(bytes);
}

export async function startFakeDaemon(answers: Answers): Promise<FakeDaemon> {
  const directory = await mkdtemp(join(tmpdir(), "wherry-cli-"));
  const socket = join(directory, "x.sock");
  const daemon = { host: `unix://${socket}`, requests: [] as Recorded[], answers };
  const server: Server = createServer((request, response) => {
    void (async () => {
      const url = (request.url ?? "").replace(/^\/v1\.\d+/, "");
      const path = url.split("?")[0]!;
      if (path === "/_ping") return answer(response, "OK");
      const body = await bodyOf(request);
      daemon.requests.push({ method: request.method!, url, body });
      const found = daemon.answers[`${request.method} ${decodeURIComponent(path)}`];
      answer(response, typeof found === "function" ? (found as (url: string, body: unknown) => unknown)(url, body) : found);
    })();
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return Object.assign(daemon, {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(directory, { recursive: true });
    },
  });
}
