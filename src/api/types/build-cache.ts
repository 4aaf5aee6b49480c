/** Caches of builds elsewhere, as clients name them: a type and attributes. `docker buildx build` and `wherry build` write them alike. @module */
import { EngineError } from "#core/errors.ts";
import { parseGoBool } from "#core/go-bool.ts";
import type { BuildOptions, CacheFrom, CacheTo } from "#engine/mod.ts";
import { type Field, list, map, object, text } from "./fields.ts";

/** As BuildKit's wire and its JSON have it. */
export interface CacheEntry {
  readonly Type: string;
  readonly Attrs: Readonly<Record<string, string>>;
}

const entry: Field<CacheEntry> = object<CacheEntry>({ Type: text, Attrs: map(text) });

/** A list of entries. What is a name only is an image, as docker's classic wire has it. */
export const cacheEntries: Field<CacheEntry[]> = list((value, path) =>
  typeof value === "string" ? { Type: "registry", Attrs: { ref: text(value, path) } } : entry(value, path),
);

/** `name` is the flag that said it. Throws EngineError invalid, or unsupported for the types of services. */
export function cacheFrom({ Type, Attrs }: CacheEntry, name = "cache-from"): CacheFrom {
  switch (Type) {
    case "registry":
      return { kind: "registry", reference: needed(Attrs, "ref", name, Type) };
    case "local":
      return { kind: "directory", path: needed(Attrs, name === "cache-to" ? "dest" : "src", name, Type), wanted: Attrs["digest"] || Attrs["tag"] || "latest" };
    default:
      throw new EngineError("unsupported", `--${name}: caches of type ${JSON.stringify(Type.slice(0, 40))} are not supported: registry, local or inline`, {
        hint: "the others are services of their own (GitHub's, Amazon's, Azure's), whose protocols this engine does not speak",
      });
  }
}

/** Throws EngineError as {@link cacheFrom}. */
export function cacheTo(given: CacheEntry): CacheTo {
  const { Attrs } = given;
  const mode = Attrs["mode"] || "min";
  if (mode !== "min" && mode !== "max") throw new EngineError("invalid", `--cache-to: invalid mode ${JSON.stringify(mode.slice(0, 40))}: min or max`);
  const compression = Attrs["compression"] || "gzip";
  if (compression !== "gzip")
    throw new EngineError("unsupported", `--cache-to: compression ${JSON.stringify(compression.slice(0, 40))} is not supported: gzip`);
  return { ...cacheFrom(given, "cache-to"), mode, mayFail: parseGoBool(Attrs["ignore-error"] ?? "") === true };
}

/** All that is said of where a build's cache goes; it lies in the image as well when `BUILDKIT_INLINE_CACHE` says so. */
export function cachesTo(given: readonly CacheEntry[], buildArgs: BuildOptions["buildArgs"]): Pick<BuildOptions, "cacheTo" | "inlineCache"> {
  const asked = parseGoBool(buildArgs["BUILDKIT_INLINE_CACHE"] ?? "") === true;
  return { inlineCache: asked || given.some(({ Type }) => Type === "inline"), cacheTo: given.filter(({ Type }) => Type !== "inline").map(cacheTo) };
}

function needed(attributes: CacheEntry["Attrs"], attribute: string, name: string, type: string): string {
  const value = Object.hasOwn(attributes, attribute) ? attributes[attribute] : undefined;
  if (value === undefined || value === "") throw new EngineError("invalid", `--${name}: type=${type} needs ${attribute}=`);
  return value;
}
