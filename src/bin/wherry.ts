/**
 * `wherry` in a Node process of its own: what the stub executes when no daemon answers (or the host is not a unix socket). Starts the daemon when
 * the command needs one.
 * @module
 */
import { fileURLToPath } from "node:url";
import type { ApiClient } from "#api/client/mod.ts";
import { createHttpClient } from "#api/client/http.ts";
import { programFlags } from "#cli/commands.ts";
import { parseFlags } from "#cli/flags.ts";
import { main } from "#cli/main.ts";
import { ensureDaemon } from "./ensure-daemon.ts";
import { processIo } from "./process-io.ts";

const defaultHost = "unix:///run/wherry/wherry.sock";

/** Where `-H` or the environment points; undefined = the default. A wrong command line is main's to explain. */
function namedHost(argv: readonly string[], env: NodeJS.ProcessEnv): string | undefined {
  try {
    const given = parseFlags(programFlags, argv, false).values.list("host").at(-1);
    if (given !== undefined) return given;
  } catch {
    return undefined;
  }
  return env["WHERRY_HOST"] || env["DOCKER_HOST"] || undefined;
}

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
    stream: async (...args) => {
      await started();
      return client.stream(...args);
    },
    hijack: async (...args) => {
      await started();
      return client.hijack(...args);
    },
    close: () => client.close(),
  };
}

const io = processIo();
const host = namedHost(io.argv, process.env);
const code = await main(io, () => (host === undefined ? startingClient(defaultHost) : createHttpClient(host)));
process.exit(code);
