/**
 * `wherry` in a Node process of its own: what the stub executes when no daemon answers (or the host is not a unix socket). Starts the daemon when
 * the command needs one.
 * @module
 */
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { type ApiClient, ConnectionError } from "#api/client/mod.ts";
import { createHttpClient } from "#api/client/http.ts";
import { resolveConnection } from "#cli/contexts/connection.ts";
import type { CliIo } from "#cli/io.ts";
import { main } from "#cli/main.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { ensureDaemon } from "./ensure-daemon.ts";
import { processIo } from "./process-io.ts";

const defaultHost = "unix:///run/wherry/wherry.sock";

/** Beside this program in the package; in the checkout, in dist. */
function daemonProgram(): string {
  return fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "../../dist/bin/wherryd" : "./bin/wherryd", import.meta.url));
}

/** A client that starts the daemon at its first call, if there is none. */
function startingClient(host: string): ApiClient {
  const client = createHttpClient(host);
  let ready: Promise<void> | undefined;
  const started = () =>
    (ready ??= ensureDaemon({
      socketPath: host.slice("unix://".length),
      program: daemonProgram(),
      env: process.env,
      tell: (line) => process.stderr.write(`${line}\n`),
    }));
  return {
    direct: false,
    host,
    json: async (...args) => {
      await started();
      return client.json(...args);
    },
    stream: async (method, path, options) => {
      try {
        await started();
      } catch (error) {
        if (path === "/wherry/explain" && error instanceof ConnectionError) return explained(options?.body, options?.query?.["format"], error);
        throw error;
      }
      return client.stream(method, path, options);
    },
    hijack: async (...args) => {
      await started();
      return client.hijack(...args);
    },
    close: () => client.close(),
  };
}

/** A plan for a described host needs no daemon. Throws `refusal` when no host is described. */
async function explained(body: unknown, format: unknown, refusal: ConnectionError): ReturnType<ApiClient["stream"]> {
  const { facts, ...request } = body as { readonly facts?: HostFacts }; // made by explain.ts
  if (facts === undefined) throw refusal;
  const { explainOffline } = await import("./explain-offline.ts");
  process.stderr.write("wherry: no daemon answers: planned without the image's own settings\n");
  return {
    status: 200,
    headers: {},
    trailers: () => ({}),
    body: Readable.from([Buffer.from(await explainOffline(request, facts, format === "json" ? "json" : "text"))], { objectMode: false }),
  };
}

const serveCache: CliIo["serveCache"] = async (options) => (await import("./serve-cache.ts")).serveCache(options);

async function run(): Promise<number> {
  const io: CliIo = Object.assign(processIo(), { serveCache });
  // What is wrong with it is told by the command that needs a daemon.
  const connection = await resolveConnection(io).catch((error: Error) => error);
  const code = await main(io, () => {
    if (connection instanceof Error) throw connection;
    return connection.host === undefined ? startingClient(defaultHost) : createHttpClient(connection.host, connection.tls);
  });
  // A pipe that is full keeps the last piece in this process; exit would drop it. An empty write is answered after all others.
  for (const stream of [process.stdout, process.stderr]) await new Promise((resolve) => stream.write("", resolve));
  return code;
}

void run().then((code) => process.exit(code));
