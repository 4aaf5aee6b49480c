/**
 * wherry as a library: an engine in your own process.
 *
 *     import { openEngine } from "wherry";
 *     const engine = await openEngine({ dataRoot: "/var/lib/mine", execRoot: "/run/mine" });
 *     const { id } = await engine.containers.create(containerRequest({ Image: "busybox", Cmd: ["echo", "hi"] }));
 *     await engine.containers.start(id);
 *
 * One process owns a data root at a time; use another than the daemon's, or talk to the daemon.
 * @module
 */
import { fileURLToPath } from "node:url";
import { parseCreateBody } from "#api/types/container-create.ts";
import type { Engine, EngineOptions } from "#engine/mod.ts";
import { openEngine as open } from "#engine/open-engine.ts";

/** Only the two roots must be said. */
export type OpenOptions = Pick<EngineOptions, "dataRoot" | "execRoot"> & Partial<EngineOptions>;

/** @see openEngine in engine/open-engine.ts */
export function openEngine(options: OpenOptions): Promise<Engine> {
  const helperPath = fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "../../dist/bin/wherry-helper" : "./bin/wherry-helper", import.meta.url));
  return open({ helperPath, log: () => undefined, ...options });
}

/** Docker's create body (what is left out gets Docker's defaults) as `engine.containers.create` wants it. @throws EngineError invalid */
export function containerRequest(body: object, name?: string): Parameters<Engine["containers"]["create"]>[0] {
  const { config, hostConfig, networkingConfig } = parseCreateBody(body, API_MINOR);
  return { name, config, hostConfig, networkingConfig };
}

/** The API's version 1.51. */
const API_MINOR = 51;

export { type BuildWith, type CopyWith, image, ImageBuilder } from "./image-builder.ts";
export { EngineError, type ErrorCode, isEngineError } from "#core/errors.ts";
export type { ContainerRecord, ExecRecord, LogEntry, LogQuery } from "#container/mod.ts";
export type { Engine, EngineEvent, EngineOptions } from "#engine/mod.ts";
