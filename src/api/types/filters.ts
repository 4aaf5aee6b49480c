/** The `filters` parameter, in its two JSON forms: `{"label":["a=b"]}` and the older `{"label":{"a=b":true}}`. @module */
import { EngineError } from "#core/errors.ts";

export type Filters = Readonly<Record<string, readonly string[]>>;

/** Which keys each route knows; Docker refuses others. */
export const filterKeys: Readonly<
  Record<
    | "containers"
    | "images"
    | "networks"
    | "volumes"
    | "events"
    | "pruneContainers"
    | "pruneImages"
    | "pruneNetworks"
    | "pruneVolumes"
    | "search"
    | "pruneBuilds",
    readonly string[]
  >
> = {
  search: ["is-automated", "is-official", "stars"],
  containers: [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
  ],
  images: ["before", "dangling", "label", "label!", "reference", "since", "until"],
  networks: ["dangling", "driver", "id", "label", "name", "scope", "type"],
  volumes: ["dangling", "driver", "label", "name"],
  events: ["config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type", "volume"],
  pruneContainers: ["label", "label!", "until"],
  pruneImages: ["dangling", "label", "label!", "until"],
  pruneNetworks: ["label", "label!", "until"],
  pruneVolumes: ["all", "label", "label!"],
  // `system prune` of docker's CLI hands its filters on to all prunes.
  pruneBuilds: ["description", "id", "inuse", "label", "label!", "parent", "private", "shared", "type", "until", "unused-for"],
};

/** Filters whose values are yes or no. */
const truths = ["dangling", "is-task"];

/** Throws EngineError invalid for JSON that is neither form, for keys outside `known`, and for a truth value that is none. */
export function parseFilters(text: string, known: readonly string[]): Filters {
  if (text === "") return {};
  const bad = (why: string) => new EngineError("invalid", `invalid filter: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new EngineError("invalid", `invalid filter: not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw bad(`expected an object, got ${text.slice(0, 60)}`);
  const result: Record<string, readonly string[]> = {};
  for (const [key, given] of Object.entries(value)) {
    if (!known.includes(key)) throw new EngineError("invalid", `invalid filter '${key}'`);
    const values = filterValues(key, given, bad);
    if (truths.includes(key) && !values.every((v) => isYes(v) || isNo(v))) throw notTrueNorFalse(key, values);
    result[key] = values;
  }
  return result;
}

function filterValues(key: string, given: unknown, bad: (why: string) => Error): string[] {
  const list = Array.isArray(given) ? given : typeof given === "object" && given !== null ? Object.keys(given) : undefined;
  if (!list?.every((v): v is string => typeof v === "string")) throw bad(`${key}: expected a list of strings`);
  return list;
}

/** A filter that is a truth value; undefined when it is not given. */
export function filterFlag(filters: Filters, key: string): boolean | undefined {
  const values = filters[key];
  if (values === undefined || values.length === 0) return undefined;
  const yes = values.some(isYes);
  if (yes === values.some(isNo)) throw notTrueNorFalse(key, values);
  return yes;
}

const isYes = (value: string): boolean => value === "1" || value.toLowerCase() === "true";
const isNo = (value: string): boolean => value === "0" || value.toLowerCase() === "false";

const notTrueNorFalse = (key: string, values: readonly string[]): EngineError => new EngineError("invalid", `invalid filter '${key}=[${values.join(" ")}]'`);
