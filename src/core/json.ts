/** JSON from outside, at the border: what does not parse, or is not of the shape asked for, is an EngineError "corrupt" that names it. @module */
import { EngineError } from "./errors.ts";

export type JsonObject = { readonly [key: string]: unknown };

/** Parses UTF-8 JSON. `what` names it for people: "the image's config". */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new EngineError("corrupt", `${what} is not valid JSON: ${(error as Error).message}`, { cause: error });
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The fields of an object, each taken with the check for its type. Absent and null count as the same: Go writes both for "not set". */
export class JsonFields {
  readonly #object: JsonObject;
  readonly #what: string;

  constructor(value: unknown, what: string) {
    if (!isObject(value)) throw new EngineError("corrupt", `${what} is not a JSON object`);
    this.#object = value;
    this.#what = what;
  }

  /** The object itself. */
  get raw(): JsonObject {
    return this.#object;
  }

  text(key: string): string | undefined {
    return this.#take(key, "a string", (value): value is string => typeof value === "string");
  }

  flag(key: string): boolean | undefined {
    return this.#take(key, "true or false", (value): value is boolean => typeof value === "boolean");
  }

  number(key: string): number | undefined {
    return this.#take(key, "a number", (value): value is number => typeof value === "number" && Number.isFinite(value));
  }

  texts(key: string): string[] | undefined {
    return this.#take(key, "a list of strings", isTexts);
  }

  list(key: string): unknown[] | undefined {
    return this.#take(key, "a list", (value): value is unknown[] => Array.isArray(value));
  }

  /** String to string. */
  map(key: string): Record<string, string> | undefined {
    return this.#take(
      key,
      "an object of strings",
      (value): value is Record<string, string> => isObject(value) && Object.values(value).every((v) => typeof v === "string"),
    );
  }

  /** A set as Go writes it: keys of an object with empty objects in it. */
  set(key: string): Record<string, Record<string, never>> | undefined {
    const value = this.#take(key, "an object", isObject);
    return value === undefined ? undefined : Object.fromEntries(Object.keys(value).map((name) => [name, {}]));
  }

  object(key: string): JsonFields | undefined {
    const value = this.#take(key, "an object", isObject);
    return value === undefined ? undefined : new JsonFields(value, `${key} of ${this.#what}`);
  }

  #take<T>(key: string, kind: string, matches: (value: unknown) => value is T): T | undefined {
    const value = Object.hasOwn(this.#object, key) ? this.#object[key] : undefined;
    if (value === undefined || value === null) return undefined;
    if (!matches(value)) throw new EngineError("corrupt", `${this.#what} is malformed: "${key}" is not ${kind}`);
    return value;
  }
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}
