/** Caches of builds elsewhere, as BuildKit's clients name them. @module */
import { type CacheEntry, cacheEntries, cacheFrom, cachesTo } from "#api/types/build-cache.ts";
import { EngineError } from "#core/errors.ts";
import type { BuildOptions, CacheFrom } from "#engine/mod.ts";
import { ClientStore } from "./client-store.ts";
import type { Attributes } from "./options.ts";
import type { Progress } from "./progress.ts";
import type { Session } from "./sessions.ts";

/** A type that is not known is told as a failure to read it, and the build goes on, as with BuildKit. */
export async function importsOf(attributes: Attributes, session: Session | undefined, progress: Progress): Promise<CacheFrom[]> {
  const older = (attributes["cache-from"] ?? "").split(",").filter(Boolean);
  const entries: CacheEntry[] = [...parseEntries(attributes["cache-imports"] ?? ""), ...older.map((ref) => ({ Type: "registry", Attrs: { ref } }))];
  const sources: CacheFrom[] = [];
  for (const entry of entries) {
    try {
      sources.push(atClient(cacheFrom(entry), session));
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      await progress
        .during(`importing cache manifest from ${entry.Attrs["ref"] ?? entry.Type}`, async () => {
          throw error.code === "unsupported" ? new EngineError("unsupported", `unknown cache importer: ${entry.Type}`) : error;
        })
        .catch(() => undefined); // the client is told by the status
    }
  }
  return sources;
}

/** @throws EngineError */
export function exportsOf(entries: readonly CacheEntry[]): Pick<BuildOptions, "cacheTo" | "inlineCache"> {
  const unknown = entries.find(({ Type }) => !["registry", "local", "inline"].includes(Type));
  if (unknown !== undefined) throw new EngineError("unsupported", `unknown cache exporter: ${JSON.stringify(unknown.Type)}`);
  return cachesTo(entries, {});
}

/** A directory is one of the client's. */
export function atClient<T extends CacheFrom>(place: T, session: Session | undefined): CacheFrom & Omit<T, keyof CacheFrom> {
  if (place.kind !== "directory") return place;
  if (session === undefined) throw new EngineError("invalid", `the cache in ${place.path} needs the client's session`);
  const { path, wanted, ...rest } = place;
  return { ...rest, kind: "place", place: new ClientStore(session, path, wanted) };
}

function parseEntries(json: string): CacheEntry[] {
  if (json === "" || json === "null") return [];
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new EngineError("invalid", `failed to unmarshal cache-imports: ${(error as Error).message}`, { cause: error });
  }
  return cacheEntries(value, "cache-imports");
}
