import { suggest } from "#core/suggest.ts";
import { parseError, type Position } from "./parse-error.ts";

/** What an instruction takes: the name → "text", "flag" (true or false), or "list" (may be repeated). */
export type FlagTypes = Readonly<Record<string, "text" | "flag" | "list">>;

/** The `--flags` of one instruction, checked. */
export class Flags {
  readonly #values = new Map<string, string[]>();

  /** @throws EngineError "invalid" for one that is unknown, repeated, or lacks its value */
  constructor(given: readonly string[], types: FlagTypes, position: Position) {
    for (const flag of given) {
      const [, name = "", value] = /^--([^=]*)(?:=(.*))?$/s.exec(flag) ?? [];
      const type = Object.hasOwn(types, name) ? types[name] : undefined;
      if (type === undefined) throw parseError(position, `unknown flag: --${name}`, suggestion(name, Object.keys(types)));
      const before = this.#values.get(name);
      if (before !== undefined && type !== "list") throw parseError(position, `duplicate flag specified: --${name}`);
      if (value === undefined && type !== "flag") throw parseError(position, `missing a value on flag: --${name}`);
      if (type === "flag" && value !== undefined && !/^(true|false)$/i.test(value))
        throw parseError(position, `expecting boolean value for flag --${name}, not: ${value}`);
      this.#values.set(name, [...(before ?? []), value ?? "true"]);
    }
  }

  text(name: string): string | undefined {
    return this.#values.get(name)?.[0];
  }

  list(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  flag(name: string): boolean | undefined {
    const value = this.text(name);
    return value === undefined ? undefined : value.toLowerCase() === "true";
  }
}

function suggestion(name: string, known: readonly string[]): string | undefined {
  const [found] = suggest(name, known);
  return found === undefined ? undefined : `--${found}`;
}
