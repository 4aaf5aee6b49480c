/** Query parameters, read as Docker reads them. @module */
import { EngineError } from "#core/errors.ts";

export type QueryValue = string | number | boolean | readonly string[] | undefined;

/** Parsed query; a parameter may repeat. */
export class Query {
  readonly #values: ReadonlyMap<string, readonly string[]>;

  constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values;
  }

  /** From the part of a URL behind the question mark. */
  static parse(text: string): Query {
    const values = new Map<string, string[]>();
    if (text !== "") {
      for (const [name, value] of new URLSearchParams(text)) {
        const list = values.get(name);
        if (list) list.push(value);
        else values.set(name, [value]);
      }
    }
    return new Query(values);
  }

  /** From what a caller in this process gave. */
  static of(record: Readonly<Record<string, QueryValue>> | undefined): Query {
    const values = new Map<string, readonly string[]>();
    for (const [name, value] of Object.entries(record ?? {})) {
      if (value === undefined) continue;
      values.set(name, typeof value === "object" ? value : [String(value)]);
    }
    return new Query(values);
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The first value, "" when missing. */
  text(name: string): string {
    return this.#values.get(name)?.[0] ?? "";
  }

  all(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** Docker's truth: everything but "", 0, no, false, none. `whenMissing` only if the parameter is absent. */
  flag(name: string, whenMissing = false): boolean {
    if (!this.has(name)) return whenMissing;
    return !["", "0", "no", "false", "none"].includes(this.text(name).trim().toLowerCase());
  }

  /** A whole number; undefined when missing or empty. */
  int(name: string): number | undefined {
    const text = this.text(name).trim();
    if (text === "") return undefined;
    if (!/^[+-]?\d{1,15}$/.test(text))
      throw new EngineError("invalid", `invalid value for query parameter ${name}: "${text.slice(0, 60)}" is not a whole number`);
    return Number(text);
  }

  /** A moment as `seconds[.nanoseconds]`; undefined when missing, empty or 0. */
  timeNs(name: string): bigint | undefined {
    const text = this.text(name).trim();
    if (text === "" || text === "0") return undefined;
    const match = /^(-?)(\d{1,12})(?:\.(\d{1,18}))?$/.exec(text);
    if (!match)
      throw new EngineError("invalid", `invalid value for query parameter ${name}: "${text.slice(0, 60)}" is not a unix time (seconds[.nanoseconds])`);
    const ns = BigInt(match[2]!) * 1_000_000_000n + BigInt((match[3] ?? "").slice(0, 9).padEnd(9, "0"));
    return match[1] === "-" ? -ns : ns;
  }
}

/** Text of a query, with the leading question mark, or "". */
export function encodeQuery(record: Readonly<Record<string, QueryValue>> | undefined): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(record ?? {})) {
    if (value === undefined) continue;
    for (const one of typeof value === "object" ? value : [String(value)]) params.append(name, one);
  }
  const text = params.toString();
  return text === "" ? "" : `?${text}`;
}
