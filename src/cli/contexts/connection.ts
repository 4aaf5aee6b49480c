/** Which daemon a command line speaks to: flags, environment, contexts, in docker's order. @module */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ClientTls } from "#api/client/http.ts";
import { errnoOf } from "#core/errors.ts";
import { programFlags } from "../program-flags.ts";
import { type FlagValues, parseFlags } from "../flags.ts";
import type { CliIo } from "../io.ts";
import { warn } from "../output.ts";
import { configDirectory, readDockerConfig } from "../registry/docker-config.ts";
import { knownContext, readTls } from "./store.ts";

export interface Connection {
  /** Of the context; "default" when a host is named. */
  readonly context: string;
  /** undefined: the default daemon, which is started when there is none. */
  readonly host: string | undefined;
  readonly tls: ClientTls | undefined;
}

type Caller = Pick<CliIo, "argv" | "env" | "cwd" | "stderr">;

/** Throws Error with docker's reason. A wrong command line is main's to explain: it is answered with the default. */
export async function resolveConnection(io: Caller): Promise<Connection> {
  const flags = globalFlags(io.argv);
  if (flags === undefined) return { context: "default", host: undefined, tls: undefined };
  const caller = flags.text("config") === "" ? io : { ...io, env: { ...io.env, DOCKER_CONFIG: flags.text("config") } };
  const context = await contextName(caller, flags);
  if (context === "default") {
    const host = flags.list("host").at(-1) ?? (io.env["WHERRY_HOST"] || io.env["DOCKER_HOST"] || undefined);
    return { context, host: host === "" ? undefined : host, tls: host?.startsWith("tcp://") === true ? await tlsOf(caller, flags) : undefined };
  }
  const found = await knownContext(caller, context).catch((error: unknown) => {
    throw new Error(`Failed to initialize: unable to resolve docker endpoint: ${(error as Error).message}`, { cause: error });
  });
  const files = await readTls(caller, context);
  const [ca, cert, key] = [files.get("ca.pem"), files.get("cert.pem"), files.get("key.pem")];
  const tls =
    files.size === 0 && !found.skipTlsVerify ? undefined : { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }), verify: !found.skipTlsVerify };
  return { context, host: found.host === "" ? undefined : found.host, tls: found.host.startsWith("tcp://") ? tls : undefined };
}

function globalFlags(argv: readonly string[]): FlagValues | undefined {
  try {
    return parseFlags(programFlags, argv, false).values;
  } catch {
    return undefined;
  }
}

/** As docker chooses: a named host wins over the environment's context, that over the one in use. */
export async function contextName(io: Pick<CliIo, "env" | "cwd" | "stderr">, flags: FlagValues): Promise<string> {
  const named = flags.text("context");
  if (named !== "" && flags.list("host").length > 0) throw new Error("conflicting options: cannot specify both --host and --context");
  if (named !== "") return named;
  if (flags.list("host").length > 0) return "default";
  return currentContext(io);
}

/** Without flags. A configuration that cannot be read is none, as for docker's client. */
export async function currentContext(io: Pick<CliIo, "env" | "cwd" | "stderr">): Promise<string> {
  if (io.env["WHERRY_HOST"] || io.env["DOCKER_HOST"]) return "default";
  if (io.env["DOCKER_CONTEXT"]) return io.env["DOCKER_CONTEXT"];
  const config = await readDockerConfig(io).catch((error: unknown) => warn(io, `WARNING: Error loading config file: ${(error as Error).message}`));
  const used = config?.raw["currentContext"];
  return typeof used === "string" && used !== "" ? used : "default";
}

/** `--tls…` and DOCKER_TLS_VERIFY, DOCKER_CERT_PATH. Files that nobody named need not be there. */
async function tlsOf(io: Caller, flags: FlagValues): Promise<ClientTls | undefined> {
  const verify = flags.changed("tlsverify") ? flags.on("tlsverify") : (io.env["DOCKER_TLS_VERIFY"] ?? "") !== "";
  if (!verify && !flags.on("tls")) return undefined;
  const directory = io.env["DOCKER_CERT_PATH"] || configDirectory(io);
  const read = async (flag: string, name: string) => {
    const given = flags.text(flag);
    return readFile(given === "" ? join(directory, name) : given).catch((error: unknown) => {
      if (given === "" && errnoOf(error) === "ENOENT") return undefined;
      throw new Error(`could not read ${given === "" ? join(directory, name) : given}: ${(error as Error).message}`, { cause: error });
    });
  };
  const [ca, cert, key] = await Promise.all([read("tlscacert", "ca.pem"), read("tlscert", "cert.pem"), read("tlskey", "key.pem")]);
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }), verify };
}
