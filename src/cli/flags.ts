/**
 * Command-line flags as docker's users know them (spf13/pflag): `--name value`, `--name=value`, `-abc`, `-n5`, `-it`, `--`, repeated flags,
 * flags after arguments (unless a command forbids it), `--bool=false`.
 * @module
 */
import { parseGoBool } from "#core/go-bool.ts";
import { suggest } from "#core/suggest.ts";

/** One flag. Made by the functions below, so that a command's list reads like its help. */
export interface Flag {
  readonly name: string;
  readonly short: string;
  /** Word for the value in the help; "" for a switch. */
  readonly metavar: string;
  readonly help: string;
  /** Value when the flag is not given. Lists start from `[]`. */
  readonly initial: unknown;
  /** Collects every occurrence. */
  readonly many: boolean;
  /** The value of a bare `--name` (a switch: "true"). */
  readonly bare: string | undefined;
  readonly hidden: boolean;
  /** Parses one value; throws Error with the reason, without the flag's name. */
  parse(value: string): unknown;
}

interface FlagOptions {
  readonly metavar?: string;
  readonly initial?: unknown;
  readonly bare?: string;
  readonly hidden?: boolean;
  readonly parse?: (value: string) => unknown;
}

function flag(names: string, help: string, options: FlagOptions & { readonly many?: boolean }): Flag {
  const [name, short = ""] = names.split(",") as [string, string?];
  return {
    name,
    short,
    help,
    metavar: options.metavar ?? "",
    initial: options.initial,
    many: options.many ?? false,
    bare: options.bare,
    hidden: options.hidden ?? false,
    parse: options.parse ?? ((value) => value),
  };
}

/** `--name` or `--name=false`. `names` is "name" or "name,n". */
export function onOff(names: string, help: string, initial = false): Flag {
  return flag(names, help, { initial, bare: "true", parse: parseBool });
}

/** A single value; the last one given wins. */
export function one(names: string, help: string, options: FlagOptions = {}): Flag {
  return flag(names, help, { metavar: "string", initial: "", ...options });
}

/** A value that may be given many times. */
export function many(names: string, help: string, options: FlagOptions = {}): Flag {
  return flag(names, help, { metavar: "list", ...options, many: true });
}

/** A whole number. */
export function int(names: string, help: string, initial = 0): Flag {
  return flag(names, help, { metavar: "int", initial, parse: parseInt64 });
}

/** The same flag, left out of the help (Windows' and deprecated flags, accepted for compatibility). */
export function hidden(f: Flag): Flag {
  return { ...f, hidden: true };
}

function syntaxError(kind: string, value: string, why = "invalid syntax"): Error {
  return new Error(`strconv.${kind}: parsing ${JSON.stringify(value)}: ${why}`);
}

/** Throws in Go's words what is neither true nor false. */
export function parseBool(value: string): boolean {
  const given = parseGoBool(value);
  if (given === undefined) throw syntaxError("ParseBool", value);
  return given;
}

/** Go's strconv.ParseInt with base 0, within the integers that JavaScript holds exactly. */
export function parseInt64(value: string): number {
  if (!/^[+-]?(0x[0-9a-f]+|0o?[0-7]+|0b[01]+|[1-9][0-9]*|0)$/i.test(value)) throw syntaxError("ParseInt", value);
  const digits = value.replace(/^[+-]/, "");
  const magnitude = Number(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
  if (!Number.isSafeInteger(magnitude)) throw syntaxError("ParseInt", value, "value out of range");
  return value.startsWith("-") && magnitude !== 0 ? -magnitude : magnitude;
}

/** Go's strconv.ParseUint: no sign, at most `max`. */
export function parseUint(value: string, max: number = Number.MAX_SAFE_INTEGER): number {
  if (!/^[0-9]+$/.test(value)) throw syntaxError("ParseUint", value);
  if (Number(value) > max) throw syntaxError("ParseUint", value, "value out of range");
  return Number(value);
}

/** A wrong command line: pflag's text. The caller adds the usage and exits 125. */
export class FlagError extends Error {}
/** `--help`. */
export class HelpWanted extends Error {}

/** Flags by name and letter; made once per command. */
export class FlagSet {
  readonly all: readonly Flag[];
  readonly #byName = new Map<string, Flag>();
  readonly #byShort = new Map<string, Flag>();

  constructor(all: readonly Flag[]) {
    this.all = all;
    for (const f of all) {
      this.#byName.set(f.name, f);
      if (f.short !== "") this.#byShort.set(f.short, f);
    }
  }

  named(name: string): Flag | undefined {
    return this.#byName.get(name);
  }

  lettered(letter: string): Flag | undefined {
    return this.#byShort.get(letter);
  }
}

/** pflag's text for a flag that is not there, and what may have been meant. */
function unknownFlag(set: FlagSet, name: string): string {
  const known = set.all.filter((flag) => !flag.hidden).map((flag) => flag.name);
  const near = suggest(name, known).map((meant) => `--${meant}`);
  return `unknown flag: --${name}${near.length === 0 ? "" : ` (did you mean ${near.join(" or ")}?)`}`;
}

/** What a command line set. */
export class FlagValues {
  readonly #set: FlagSet;
  readonly #values = new Map<string, unknown>();

  constructor(set: FlagSet) {
    this.#set = set;
  }

  /** Whether the flag was given at all. */
  changed(name: string): boolean {
    return this.#values.has(name);
  }

  /** Whether the command knows the flag. */
  has(name: string): boolean {
    return this.#set.named(name) !== undefined;
  }

  get anyChanged(): boolean {
    return this.#values.size > 0;
  }

  /** The parsed value: the caller names the type that the flag's `parse` gives. */
  get<T>(name: string): T {
    const flag = this.#set.named(name);
    if (flag === undefined) throw new TypeError(`no flag --${name} here`);
    const value = this.#values.get(name);
    return (value === undefined ? (flag.many ? [] : flag.initial) : value) as T; // as declared beside the flag
  }

  on(name: string): boolean {
    return this.get<boolean>(name);
  }

  text(name: string): string {
    return this.get<string>(name);
  }

  number(name: string): number {
    return this.get<number>(name);
  }

  list<T = string>(name: string): readonly T[] {
    return this.get<readonly T[]>(name);
  }

  /** Used by the parser. */
  put(flag: Flag, text: string): void {
    let value: unknown;
    try {
      value = flag.parse(text);
    } catch (error) {
      const names = flag.short === "" ? `--${flag.name}` : `-${flag.short}, --${flag.name}`;
      throw new FlagError(`invalid argument ${JSON.stringify(text)} for "${names}" flag: ${(error as Error).message}`);
    }
    if (!flag.many) this.#values.set(flag.name, value);
    else if (this.#values.has(flag.name)) (this.#values.get(flag.name) as unknown[]).push(value);
    else this.#values.set(flag.name, [value]);
  }
}

/** Parses `argv`. `interspersed` false: the first argument ends the flags (run, exec). Throws FlagError, HelpWanted. */
export function parseFlags(set: FlagSet, argv: readonly string[], interspersed = true): { readonly values: FlagValues; readonly args: string[] } {
  const values = new FlagValues(set);
  const args: string[] = [];
  let i = 0;
  while (i < argv.length) {
    const word = argv[i]!;
    i++;
    if (word === "--") {
      args.push(...argv.slice(i));
      break;
    }
    if (word.length < 2 || word[0] !== "-") {
      args.push(word);
      if (interspersed) continue;
      args.push(...argv.slice(i));
      break;
    }
    const usedNext = word[1] === "-" ? longFlag(set, values, word, argv[i]) : shortFlags(set, values, word, argv[i]);
    if (usedNext) i++;
  }
  return { values, args };
}

/** True when the next word was the flag's value. */
function longFlag(set: FlagSet, values: FlagValues, word: string, next: string | undefined): boolean {
  const equals = word.indexOf("=");
  const name = word.slice(2, equals < 0 ? undefined : equals);
  if (name === "" || name[0] === "-") throw new FlagError(`bad flag syntax: ${word}`);
  const flag = set.named(name);
  if (flag === undefined) {
    if (name === "help") throw new HelpWanted();
    throw new FlagError(unknownFlag(set, name));
  }
  if (equals >= 0) values.put(flag, word.slice(equals + 1));
  else if (flag.bare !== undefined) values.put(flag, flag.bare);
  else if (next === undefined) throw new FlagError(`flag needs an argument: --${name}`);
  else {
    values.put(flag, next);
    return true;
  }
  return false;
}

/** `-abc`, `-n5`, `-n=5`, `-n 5`. */
function shortFlags(set: FlagSet, values: FlagValues, word: string, next: string | undefined): boolean {
  for (let at = 1; at < word.length; at++) {
    const letter = word[at]!;
    const flag = set.lettered(letter);
    if (flag === undefined) {
      if (letter === "h") throw new HelpWanted();
      throw new FlagError(`unknown shorthand flag: '${letter}' in ${at === 1 ? word : `-${word.slice(at)}`}`);
    }
    const rest = word.slice(at + 1);
    if (rest[0] === "=") {
      values.put(flag, rest.slice(1));
      return false;
    }
    if (flag.bare !== undefined) {
      values.put(flag, flag.bare);
      continue;
    }
    if (rest !== "") {
      values.put(flag, rest);
      return false;
    }
    if (next === undefined) throw new FlagError(`flag needs an argument: '${letter}' in ${at === 1 ? word : `-${word.slice(at)}`}`);
    values.put(flag, next);
    return true;
  }
  return false;
}
