/** The functions of docker's templates: Go's own and `json`, `join`, `split`, `upper` … @module */
import { goText, isMap, sprintf } from "./print.ts";

type TemplateFunction = (...args: readonly unknown[]) => unknown;

/** Go's truth: not empty, not zero, not nil. */
export function truth(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === 0 || value === "") return false;
  if (Array.isArray(value)) return value.length > 0;
  if (isMap(value)) return Object.keys(value).length > 0;
  return true;
}

function asText(value: unknown): string {
  if (typeof value !== "string") throw new Error(`wrong type for value; expected string; got ${kindOf(value)}`);
  return value;
}

function asCount(value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value)) throw new Error(`wrong type for value; expected int; got ${kindOf(value)}`);
  return value;
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return "nil";
  if (typeof value === "number") return Number.isInteger(value) ? "int" : "float64";
  if (typeof value === "boolean") return "bool";
  if (Array.isArray(value)) return "[]interface {}";
  return typeof value === "string" ? "string" : "map[string]interface {}";
}

function comparable(a: unknown, b: unknown): void {
  const plain = (v: unknown) => v === null || v === undefined || ["string", "number", "boolean", "bigint"].includes(typeof v);
  if (!plain(a) || !plain(b)) throw new Error(`error calling eq: non-comparable type`);
  if (a !== null && a !== undefined && b !== null && b !== undefined && typeof a !== typeof b)
    throw new Error("error calling eq: incompatible types for comparison");
}

function equal(a: unknown, b: unknown): boolean {
  comparable(a, b);
  return (a ?? null) === (b ?? null);
}

function less(name: string, a: unknown, b: unknown): boolean {
  if (typeof a === "number" && typeof b === "number") return a < b;
  if (typeof a === "string" && typeof b === "string") return a < b;
  throw new Error(`error calling ${name}: ${typeof a === typeof b ? "invalid type for comparison" : "incompatible types for comparison"}`);
}

function index(container: unknown, ...keys: readonly unknown[]): unknown {
  let value = container;
  for (const key of keys) {
    if (value === null || value === undefined) throw new Error("error calling index: index of untyped nil");
    if (Array.isArray(value) || typeof value === "string") {
      if (typeof key !== "number") throw new Error(`error calling index: cannot index slice/array with type ${kindOf(key)}`);
      if (key < 0 || key >= value.length) throw new Error(`error calling index: index out of range: ${key}`);
      value = typeof value === "string" ? value.charCodeAt(key) : (value[key] as unknown);
    } else if (isMap(value)) {
      if (typeof key !== "string") throw new Error("error calling index: value has type int; should be string");
      value = Object.hasOwn(value, key) ? value[key] : undefined;
    } else throw new Error(`error calling index: can't index item of type ${kindOf(value)}`);
  }
  return value;
}

function slice(value: unknown, from: unknown = 0, to?: unknown): unknown {
  if (typeof value !== "string" && !Array.isArray(value)) throw new Error(`error calling slice: can't slice item of type ${kindOf(value)}`);
  const end = to ?? value.length;
  for (const bound of [from, end]) {
    if (typeof bound !== "number" || bound < 0 || bound > value.length) throw new Error(`error calling slice: index out of range: ${goText(bound)}`);
  }
  if ((from as number) > (end as number)) throw new Error(`error calling slice: invalid slice index: ${goText(from)} > ${goText(end)}`);
  return value.slice(from as number, end as number); // both checked above
}

/** Go's fmt.Sprint: a space between operands when neither is a string. */
function sprint(args: readonly unknown[]): string {
  return args.map((arg, i) => (i > 0 && typeof arg !== "string" && typeof args[i - 1] !== "string" ? " " : "") + goText(arg)).join("");
}

function length(value: unknown): number {
  if (value === null || value === undefined) return 0; // the API's empty lists and maps are null
  if (typeof value === "string") return Buffer.byteLength(value);
  if (Array.isArray(value)) return value.length;
  if (isMap(value)) return Object.keys(value).length;
  throw new Error(`error calling len: len of type ${kindOf(value)}`);
}

const html: Readonly<Record<string, string>> = { "<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&#34;", "'": "&#39;" };

/** JSON as docker's `json` prints it. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value ?? null);
}

export const functions: Readonly<Record<string, TemplateFunction>> = {
  not: (value) => !truth(value),
  eq: (a, ...others) => {
    if (others.length === 0) throw new Error("error calling eq: missing argument for comparison");
    return others.some((b) => equal(a, b));
  },
  ne: (a, b) => !equal(a, b),
  lt: (a, b) => less("lt", a, b),
  le: (a, b) => !less("le", b, a),
  gt: (a, b) => less("gt", b, a),
  ge: (a, b) => !less("ge", a, b),
  index,
  slice,
  len: length,
  print: (...args) => sprint(args),
  println: (...args) => `${args.map(goText).join(" ")}\n`,
  printf: (format, ...args) => sprintf(asText(format), args),
  html: (...args) => sprint(args).replace(/[<>&"']/g, (c) => html[c]!),
  urlquery: (...args) => encodeURIComponent(sprint(args)).replace(/%20/g, "+"),
  js: (...args) => JSON.stringify(sprint(args)).slice(1, -1),
  json: jsonText,
  split: (text, separator) => asText(text).split(asText(separator)),
  join: (list, separator) => {
    if (!Array.isArray(list)) throw new Error(`wrong type for value; expected []string; got ${kindOf(list)}`);
    return list.map(goText).join(asText(separator));
  },
  title: (text) => asText(text).replace(/(^|[^\p{L}\p{N}_'])(\p{Ll})/gu, (_all, before: string, letter: string) => before + letter.toUpperCase()),
  lower: (text) => asText(text).toLowerCase(),
  upper: (text) => asText(text).toUpperCase(),
  pad: (text, before, after) => {
    const value = asText(text);
    return value === "" ? value : " ".repeat(asCount(before)) + value + " ".repeat(asCount(after));
  },
  truncate: (text, width) => asText(text).slice(0, asCount(width)),
};

/** Functions while a table's header is made: those that change a value leave the header's word as it is. */
export const headerFunctions: Readonly<Record<string, TemplateFunction>> = {
  ...functions,
  ...Object.fromEntries(["json", "split", "join", "title", "lower", "upper", "pad", "truncate"].map((name) => [name, (value: unknown) => value])),
};

/** `and` and `or` decide by their arguments' order and stop early. */
export const shortCircuit: readonly string[] = ["and", "or"];
