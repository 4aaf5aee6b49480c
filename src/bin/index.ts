/**
 * wherry as a library: containers from a Node program.
 *
 *     import { openEngine } from "wherry";
 *     await using engine = await openEngine({ dataRoot: "/var/lib/mine", execRoot: "/run/mine" });
 *     await using pg = await engine.run("postgres:16", { ports: [5432], wait: "healthy" });
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ClientTls, createHttpClient } from "#api/client/http.ts";
import { createInProcessClient } from "#api/client/in-process.ts";
import { createApiServer } from "#api/server/mod.ts";
import { isEngineError } from "#core/errors.ts";
import type { Engine as UseCases, EngineOptions } from "#engine/mod.ts";
import { openEngine as open } from "#engine/open-engine.ts";
import { version } from "#engine/version.ts";
import { Calls } from "#library/calls.ts";
import { Engine } from "#library/mod.ts";

/** An engine in this process. Only the two roots must be said. */
export interface LocalOptions extends Partial<Omit<EngineOptions, "dataRoot" | "execRoot">>, Pick<EngineOptions, "dataRoot" | "execRoot"> {
  /** Where other clients may reach it, as `wherryd --host`: `unix:///run/mine/engine.sock`. Default: nowhere. */
  readonly hosts?: readonly string[];
}

/** A daemon. */
export interface DaemonOptions {
  /** `unix:///path`, `tcp://address:port`, `ssh://user@host`. Default: WHERRY_HOST, then `unix:///run/wherry/wherry.sock`. */
  readonly host?: string;
  /** For tcp. */
  readonly tls?: ClientTls;
}

export type OpenOptions = LocalOptions | DaemonOptions;

const defaultHost = "unix:///run/wherry/wherry.sock";

/**
 * Opens an engine over a data root in this process, or connects to a daemon. One process owns a data root at a time: when a daemon has it (with its socket at
 * `execRoot/wherry.sock`), that daemon is connected to.
 * @throws EngineError "unavailable" when no daemon answers, "conflict" when another process has the data root and listens nowhere
 */
export async function openEngine(options: OpenOptions = {}): Promise<Engine> {
  if (!("dataRoot" in options)) return connect(options.host ?? process.env["WHERRY_HOST"] ?? defaultHost, options.tls);
  const { hosts = [], ...rest } = options;
  const log = options.log ?? (() => undefined);
  let useCases: UseCases;
  try {
    useCases = await openUseCases(rest);
  } catch (error) {
    if (!isEngineError(error, "conflict")) throw error;
    try {
      return await connect(`unix://${join(options.execRoot, "wherry.sock")}`, undefined);
    } catch {
      throw error; // its owner is no daemon: that it is taken says more than that nobody answers
    }
  }
  const server = createApiServer(useCases, { version, log });
  const end = async (): Promise<void> => {
    await server.close();
    await useCases.close();
  };
  try {
    if (hosts.length > 0) await server.listen(hosts);
  } catch (error) {
    await end();
    throw error;
  }
  return new Engine(new Calls(createInProcessClient({ dispatch: server.dispatch, host: "" })), end);
}

async function connect(host: string, tls: ClientTls | undefined): Promise<Engine> {
  const calls = new Calls(createHttpClient(host, tls));
  await calls.json("GET", "/version");
  return new Engine(calls, () => calls.close());
}

/**
 * The use cases beneath {@link openEngine}, without Docker's API around them: for our own measurements.
 * @internal
 */
export function openUseCases(options: Pick<EngineOptions, "dataRoot" | "execRoot"> & Partial<EngineOptions>): Promise<UseCases> {
  const helperPath = fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "../../dist/bin/wherry-helper" : "./bin/wherry-helper", import.meta.url));
  return open({ helperPath, log: () => undefined, ...options });
}

export { type BuildWith, type CopyWith, image, ImageBuilder } from "./image-builder.ts";
export { EngineError, type ErrorCode, isEngineError } from "#core/errors.ts";
export type {
  ChangeItem,
  ContainerInspect,
  ContainerSummary,
  DeleteItem,
  EventJson,
  ImageInspect,
  ImageSummary,
  NetworkJson,
  ProgressLine,
  StatsJson,
  SystemInfoJson,
  TopResult,
  VersionJson,
  VolumeJson,
} from "#api/types/mod.ts";
export * from "#library/mod.ts";
export type { ClientTls, EngineOptions };
