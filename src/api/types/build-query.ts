/** The query of `POST /build`. @module */
import type { ResourceConfig, Ulimit } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { familiarString, parseReference, withDefaultTag } from "#core/reference.ts";
import type { BuildOptions } from "#engine/mod.ts";
import { cacheEntries, cacheFrom, cachesTo } from "./build-cache.ts";
import { type Field, int, list, map, object, orNull, text } from "./fields.ts";
import type { Query } from "./query.ts";

export type BuildQuery = Omit<BuildOptions, "context" | "namedContexts" | "secret" | "sshAgent" | "credentials">;

/** What a build is asked for, apart from its files. Throws EngineError invalid, or unsupported for what is not done. */
export function parseBuildQuery(query: Query): BuildQuery {
  refuse(query);
  const remove = query.flag("rm", true);
  const force = query.flag("forcerm");
  const buildArgs = Object.fromEntries(Object.entries(json(query, "buildargs", map(orNull(text)), {})).map(([name, value]) => [name, value ?? undefined]));
  const squash = query.flag("squash");
  const caches = cachesTo(json(query, "cacheto", cacheEntries, []), buildArgs);
  if (squash && caches.inlineCache) throw new EngineError("invalid", "a squashed image has no layers of its steps: its cache cannot lie in it");
  return {
    dockerfile: query.text("dockerfile") || "Dockerfile",
    tags: query
      .all("t")
      .filter((tag) => tag !== "")
      .map(tagOf),
    target: query.text("target"),
    buildArgs,
    labels: json(query, "labels", map(text), {}),
    platform: query.text("platform"),
    noCache: query.flag("nocache"),
    noCacheStages: query.all("nocachefilter").filter((name) => name !== ""),
    pull: query.flag("pull"),
    limits: {
      resources: resourcesOf(query),
      ulimits: json(query, "ulimits", list(object<Ulimit>({ Name: text, Soft: int, Hard: int })), []),
      shmSizeBytes: query.int("shmsize") ?? 0,
      extraHosts: query.all("extrahosts").filter((host) => host !== ""),
      networkMode: query.text("networkmode") || "default",
    },
    cacheFrom: json(query, "cachefrom", cacheEntries, []).map((entry) => cacheFrom(entry)),
    ...caches,
    squash,
    // Ours.
    leaveFailed: query.flag("leavefailed"),
    keepContainers: { succeeded: !remove && !force, failed: !force },
  };
}

/** Ours: name → where its files are. Throws EngineError invalid. */
export function parseBuildContexts(query: Query): Record<string, string> {
  return json(query, "buildcontexts", map(text), {});
}

function tagOf(text: string): string {
  try {
    const name = withDefaultTag(parseReference(text));
    if (name.digest !== undefined) throw new EngineError("invalid", "refusing to create a tag with a digest reference");
    return familiarString(name);
  } catch (error) {
    throw new EngineError("invalid", `invalid reference format: ${(error as Error).message}`.replace(/^(invalid reference format: )+/, "$1"), { cause: error });
  }
}

/** Options that would give another image than was asked for, were they left out. */
function refuse(query: Query): void {
  const outputs = query.text("outputs");
  if (outputs !== "" && outputs !== "[]") throw new EngineError("unsupported", "outputs need BuildKit: they are not part of the classic build");
}

function resourcesOf(query: Query): Partial<ResourceConfig> {
  const resources: Partial<ResourceConfig> = {};
  const numbers = { memory: "Memory", memswap: "MemorySwap", cpushares: "CpuShares", cpuperiod: "CpuPeriod", cpuquota: "CpuQuota" } as const;
  for (const [name, field] of Object.entries(numbers)) {
    const value = query.int(name);
    if (value !== undefined && value !== 0) resources[field] = value;
  }
  const texts = { cpusetcpus: "CpusetCpus", cpusetmems: "CpusetMems", cgroupparent: "CgroupParent" } as const;
  for (const [name, field] of Object.entries(texts)) if (query.text(name) !== "") resources[field] = query.text(name);
  return resources;
}

function json<T>(query: Query, name: string, field: Field<T>, whenMissing: T): T {
  const given = query.text(name);
  if (given === "" || given === "null") return whenMissing;
  let value: unknown;
  try {
    value = JSON.parse(given);
  } catch (error) {
    throw new EngineError("invalid", `error reading build ${name}: ${(error as Error).message}`, { cause: error });
  }
  return field(value, name);
}
