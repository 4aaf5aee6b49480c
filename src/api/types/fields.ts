/**
 * A small validator for request bodies. It reads JSON as Docker's server does: `null` means the zero value, unknown fields are ignored, field names match
 * without regard to case when no exact match is there, and a wrong type is refused with the field's path.
 * @module
 */
import { EngineError } from "#core/errors.ts";

/** `value` is undefined when the field is missing. */
export type Field<T> = (value: unknown, path: string) => T;

/** What was expected at `path`, and what came. */
export function wrongType(path: string, expected: string, got: unknown): EngineError {
  const shown = got === undefined ? "nothing" : (JSON.stringify(got) ?? typeof got);
  return new EngineError(
    "invalid",
    `invalid request: ${path === "" ? "body" : path}: expected ${expected}, got ${shown.length > 80 ? `${shown.slice(0, 77)}...` : shown}`,
  );
}

const absent = (value: unknown): value is null | undefined => value === undefined || value === null;

/** Text, "" when missing. */
export const text: Field<string> = (value, path) => {
  if (absent(value)) return "";
  if (typeof value !== "string") throw wrongType(path, "a string", value);
  if (value.includes("\0")) throw wrongType(path, "a string without NUL bytes", value);
  return value;
};

/** true or false, false when missing. */
export const flag: Field<boolean> = (value, path) => {
  if (absent(value)) return false;
  if (typeof value !== "boolean") throw wrongType(path, "true or false", value);
  return value;
};

/** A whole number, 0 when missing. Numbers beyond 2^53 lose their last digits; none of Docker's limits depends on them. */
export const int: Field<number> = (value, path) => {
  if (absent(value)) return 0;
  if (typeof value !== "number" || !Number.isInteger(value) || Math.abs(value) > 2 ** 64) throw wrongType(path, "a number", value);
  return value;
};

/** `null` stays null, missing is null. */
export function orNull<T>(field: Field<T>): Field<T | null> {
  return (value, path) => (absent(value) ? null : field(value, path));
}

/** Missing and `null` are undefined. */
export function optional<T>(field: Field<T>): Field<T | undefined> {
  return (value, path) => (absent(value) ? undefined : field(value, path));
}

/** Missing and `null` give a default. */
export function orElse<T>(field: Field<T>, whenMissing: T): Field<T> {
  return (value, path) => (absent(value) ? whenMissing : field(value, path));
}

/** A list; use with {@link orNull}, {@link optional} or {@link orElse}. */
export function list<T>(item: Field<T>): Field<T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) throw wrongType(path, "a list", value);
    return value.map((one, i) => item(one, `${path}[${i}]`));
  };
}

/** Docker's `strslice`: a list of strings, or one string. */
export const strings: Field<string[]> = (value, path) => (typeof value === "string" ? [text(value, path)] : list(text)(value, path));

/** An object with free keys. */
export function map<T>(item: Field<T>): Field<Record<string, T>> {
  return (value, path) => {
    const source = asObject(value, path);
    const result: Record<string, T> = Object.create(null) as Record<string, T>;
    for (const key of Object.keys(source)) result[key] = item(source[key], path === "" ? key : `${path}.${key}`);
    // A plain prototype again, so that the result compares and prints as any object; "__proto__" stays an own key.
    return Object.defineProperties({}, Object.getOwnPropertyDescriptors(result)) as Record<string, T>;
  };
}

/** A set as Go writes it: keys with empty objects. */
export const setOf: Field<Record<string, Record<string, never>>> = map((value, path) => {
  if (!absent(value)) asObject(value, path);
  return {};
});

/** An object with known fields. A field that yields undefined is left out. */
export function object<T extends object>(fields: { readonly [K in keyof T]-?: Field<T[K]> }): Field<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  const known = new Set<string>(names);
  return (value, path) => {
    const source = absent(value) ? {} : asObject(value, path);
    const other = Object.keys(source).filter((key) => !known.has(key));
    const byFold = other.length === 0 ? undefined : new Map(other.map((key) => [key.toLowerCase(), source[key]]));
    const result: Record<string, unknown> = {};
    for (const name of names) {
      const given = Object.hasOwn(source, name) ? source[name] : byFold?.get(name.toLowerCase());
      const parsed = fields[name](given, path === "" ? name : `${path}.${name}`);
      if (parsed !== undefined) result[name] = parsed;
    }
    return result as T; // every field of T was parsed; those that are undefined are optional in T
  };
}

/** A JSON object, not null and not a list. */
export function asObject(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrongType(path, "an object", value);
  return value as Record<string, unknown>; // any object can be read by its keys
}
