/** _ping, version, info, events, system/df, auth. @module */
import { readFile } from "node:fs/promises";
import { nowNs } from "#core/clock.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { filterKeys, parseFilters } from "#api/types/filters.ts";
import type { ImageBranch } from "#image/mod.ts";
import type { BuildCacheJson, DiskUsage, EventJson } from "#api/types/system-json.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import type { Context, Route } from "../router.ts";
import { eventJson, volumeJson } from "../shape/resources.ts";
import { infoJson, versionJson } from "../shape/system.ts";
import { summaries } from "./containers.ts";
import { imageSummaries } from "./images.ts";

const runtime = `node ${process.version}`;

/** What `_ping` adds to the headers of every reply. `Builder-Version: 1`: docker's CLI need not look for BuildKit here. */
const pingHeaders = { "Builder-Version": "1", Swarm: "inactive", "Cache-Control": "no-cache, no-store, must-revalidate", Pragma: "no-cache" };

async function ipv4Forwarding(): Promise<boolean> {
  try {
    return (await readFile("/proc/sys/net/ipv4/ip_forward", "utf8")).trim() === "1";
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false; // a kernel without IPv4
    throw error;
  }
}

async function* events(request: ApiRequest, { engine }: Context): AsyncGenerator<unknown, void, undefined> {
  const { query, minor } = request;
  const filters = parseFilters(query.text("filters"), filterKeys.events);
  for await (const event of engine.system.events({ sinceNs: query.timeNs("since"), untilNs: query.timeNs("until"), filters, signal: request.signal })) {
    const json = eventJson(event, minor);
    if (json) yield json;
  }
}

function eventsResponse(request: ApiRequest, context: Context): ApiResponse {
  const { query } = request;
  parseFilters(query.text("filters"), filterKeys.events); // a bad filter must be a 400, before the header of the stream
  const since = query.timeNs("since");
  const until = query.timeNs("until");
  if (since !== undefined && until !== undefined && until < since) {
    throw new EngineError("invalid", `\`since\` time (${query.text("since")}) cannot be after \`until\` time (${query.text("until")})`);
  }
  return { kind: "lines", status: 200, lines: events(request, context) as AsyncIterable<EventJson>, eager: true };
}

/** By image id: bytes of its layers that other images have as well. */
function sharedSizes(branches: readonly ImageBranch[]): ReadonlyMap<string, number> {
  const users = new Map<string, number>();
  for (const { layers } of branches) for (const { chainId } of layers) users.set(chainId, (users.get(chainId) ?? 0) + 1);
  const sum = (layers: ImageBranch["layers"]) => layers.reduce((bytes, { chainId, size }) => bytes + ((users.get(chainId) ?? 0) > 1 ? size : 0), 0);
  return new Map(branches.map(({ id, layers }) => [id, sum(layers)]));
}

/** Sizes of everything, or of the kinds that `type` names. */
async function diskUsage(request: ApiRequest, context: Context): Promise<DiskUsage> {
  const { engine } = context;
  const types = request.query.all("type");
  for (const type of types) {
    if (!["container", "image", "volume", "build-cache"].includes(type)) throw new EngineError("invalid", `unknown object type: ${type}`);
  }
  const wanted = (type: string): boolean => types.length === 0 || types.includes(type);
  const usage = await engine.system.diskUsage();
  const result: DiskUsage = {};
  if (wanted("image")) {
    result.LayersSize = usage.layersBytes;
    const shared = sharedSizes(await engine.images.tree());
    result.Images = (await imageSummaries(request, context)).map((image) => ({
      ...image,
      SharedSize: shared.get(image.Id) ?? -1,
      Containers: engine.images.users(image.Id as `sha256:${string}`).length,
    }));
  }
  if (wanted("container")) {
    result.Containers = await summaries(engine.containers.list({ all: true, limit: undefined, filters: {} }), request, context, (id) =>
      Promise.resolve(usage.containers[id] ?? { rw: 0, rootFs: 0 }),
    );
  }
  if (wanted("volume")) {
    const users = new Map<string, number>();
    for (const record of engine.containers.list({ all: true, limit: undefined, filters: {} })) {
      for (const name of new Set(record.mounts.flatMap((mount) => (mount.Name === undefined ? [] : [mount.Name])))) users.set(name, (users.get(name) ?? 0) + 1);
    }
    result.Volumes = engine.volumes
      .list({})
      .map((volume) => volumeJson(volume, { bytes: usage.volumes[volume.Name] ?? -1, users: users.get(volume.Name) ?? 0 }));
  }
  if (wanted("build-cache")) result.BuildCache = buildCache(engine);
  return result;
}

/** What steps came to; those that only touch settings take no space and are left out. A layer that an image has too counts there. */
function buildCache(engine: Context["engine"]): BuildCacheJson[] {
  return engine.builds
    .records()
    .filter(({ layer }) => layer !== undefined)
    .map(({ key, text, layer, created, usedAtMs, uses, inUse, shared }) => ({
      ID: key.slice(0, 25),
      Type: "regular",
      Description: text,
      InUse: inUse,
      Shared: shared,
      Size: layer?.size ?? 0,
      CreatedAt: created,
      LastUsedAt: new Date(usedAtMs).toISOString(),
      UsageCount: uses,
    }));
}

export const systemRoutes: readonly Route[] = [
  ["GET", "/_ping", () => ({ kind: "text", status: 200, contentType: "text/plain; charset=utf-8", text: "OK", headers: pingHeaders })],
  ["HEAD", "/_ping", () => ({ kind: "text", status: 200, contentType: "text/plain; charset=utf-8", text: "", headers: pingHeaders })],
  [
    "GET",
    "/version",
    async (_request, { engine, version }) => ({ kind: "json", status: 200, value: versionJson(await engine.system.info(), version, runtime) }),
  ],
  [
    "GET",
    "/info",
    async (request, { engine, version }) => {
      const [info, forwarding] = await Promise.all([engine.system.info(), ipv4Forwarding()]);
      return { kind: "json", status: 200, value: infoJson(info, version, { nowNs: nowNs(), ipv4Forwarding: forwarding, runtime }, request.minor) };
    },
  ],
  ["GET", "/events", eventsResponse],
  ["GET", "/system/df", async (request, context) => ({ kind: "json", status: 200, value: await diskUsage(request, context) })],
];
