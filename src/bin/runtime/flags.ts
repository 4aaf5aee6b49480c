/** Command lines as runc takes them: Go's flag syntax, `-bundle` and `--bundle` alike. @module */
import { EngineError } from "#core/errors.ts";

/** Flag → "bool" or "value"; a second name after a comma: "bundle,b". */
export type FlagTable = Readonly<Record<string, "bool" | "value">>;

export interface Parsed {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly rest: readonly string[];
}

/** Reads flags up to the first argument that is none. EngineError "invalid" for an unknown flag or a missing value. */
export function parseFlags(table: FlagTable, argv: readonly string[]): Parsed {
  const kinds = new Map<string, { readonly name: string; readonly kind: "bool" | "value" }>();
  for (const [names, kind] of Object.entries(table)) {
    const [name = "", ...aliases] = names.split(",");
    for (const each of [name, ...aliases]) kinds.set(each, { name, kind });
  }
  const values = new Map<string, string[]>();
  let at = 0;
  for (; at < argv.length; at++) {
    const word = argv[at] ?? "";
    if (word === "--") {
      at++;
      break;
    }
    const [, given, equals, attached] = /^--?([A-Za-z][\w-]*)(=)?(.*)$/s.exec(word) ?? [];
    if (given === undefined) break;
    const flag = kinds.get(given);
    if (flag === undefined) throw new EngineError("invalid", `flag provided but not defined: -${given}`);
    let value = equals === undefined ? undefined : attached;
    if (value === undefined && flag.kind === "value") {
      value = argv[++at];
      if (value === undefined) throw new EngineError("invalid", `flag needs an argument: -${given}`);
    }
    values.set(flag.name, [...(values.get(flag.name) ?? []), value ?? "true"]);
  }
  return { values, rest: argv.slice(at) };
}

/** The last value given. */
export function flagValue(parsed: Parsed, name: string): string | undefined {
  return parsed.values.get(name)?.at(-1);
}

export function isSet(parsed: Parsed, name: string): boolean {
  const value = flagValue(parsed, name);
  return value !== undefined && value !== "false";
}

/** The container's id: the first argument. */
export function idOf(parsed: Parsed): string {
  const id = parsed.rest[0];
  if (id === undefined || id === "") throw new EngineError("invalid", "container id cannot be empty");
  return id;
}
