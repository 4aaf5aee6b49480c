/**
 * Words of a Dockerfile: quotes, escapes and variables, as the shell has them, in the subset that Dockerfiles know. Pure.
 * @module
 * @see https://docs.docker.com/reference/dockerfile/#environment-replacement
 */
import { EngineError } from "#core/errors.ts";
import { replaceMatches, trimPrefix, trimSuffix } from "./shell-pattern.ts";

/** A variable's value; undefined = not set. */
export type Lookup = (name: string) => string | undefined;

export interface WordOptions {
  /** The character that takes the next one's meaning away. */
  readonly escape: string;
  /** Quotes stay in the result. */
  readonly keepQuotes?: boolean;
  /** Escape characters stay in the result. */
  readonly keepEscapes?: boolean;
  /** `$name` of a variable that is not set stays as it is written. */
  readonly keepUnset?: boolean;
}

/** One word with quotes removed and variables replaced. @throws EngineError "invalid" */
export function expandWord(text: string, lookup: Lookup, options: WordOptions): string {
  return new WordReader(text, lookup, options).read().text;
}

/** The same, split at blanks that are neither quoted nor escaped; what a variable holds is split too. @throws EngineError "invalid" */
export function expandWords(text: string, lookup: Lookup, options: WordOptions): string[] {
  return new WordReader(text, lookup, options).read().words;
}

interface Result {
  readonly text: string;
  readonly words: string[];
}

function invalid(message: string): EngineError {
  return new EngineError("invalid", message);
}

/** The shell's own parameters, which a Dockerfile never has: `$@`, `$?` … */
const specialParameters = new Set(["@", "*", "#", "?", "-", "$", "!", "0"]);

class WordReader {
  readonly #characters: readonly string[];
  readonly #lookup: Lookup;
  readonly #options: WordOptions;
  #at = 0;

  constructor(text: string, lookup: Lookup, options: WordOptions) {
    this.#characters = [...text];
    this.#lookup = lookup;
    this.#options = options;
  }

  /** Up to `stop`, which is consumed, or the end. */
  read(stop?: string, keepEscapes = this.#options.keepEscapes === true): Result {
    let text = "";
    const words = new Words();
    for (let next = this.#peek(); next !== undefined; next = this.#peek()) {
      if (next === stop) {
        this.#at++;
        return { text, words: words.all() };
      }
      if (next === "'" || next === '"') {
        const quoted = next === "'" ? this.#singleQuoted() : this.#doubleQuoted(keepEscapes);
        text += quoted;
        words.addWhole(quoted);
      } else if (next === "$") {
        const value = this.#variable();
        text += value;
        words.addSplit(value);
      } else {
        this.#at++;
        if (next !== this.#options.escape) {
          text += next;
          words.addSplit(next);
          continue;
        }
        if (keepEscapes) {
          text += next;
          words.addWhole(next);
        }
        const escaped = this.#next();
        if (escaped === undefined) break;
        text += escaped;
        words.addWhole(escaped);
      }
    }
    if (stop !== undefined) throw invalid(`unexpected end of statement while looking for matching ${stop}`);
    return { text, words: words.all() };
  }

  #peek(): string | undefined {
    return this.#characters[this.#at];
  }

  #next(): string | undefined {
    return this.#characters[this.#at++];
  }

  #singleQuoted(): string {
    const end = this.#characters.indexOf("'", this.#at + 1);
    if (end < 0) throw invalid("unexpected end of statement while looking for matching single-quote");
    const inside = this.#characters.slice(this.#at + 1, end).join("");
    this.#at = end + 1;
    return this.#options.keepQuotes === true ? `'${inside}'` : inside;
  }

  /** Only the quote, `$` and the escape character can be escaped here; before others the escape character stands for itself. */
  #doubleQuoted(keepEscapes: boolean): string {
    const quote = this.#options.keepQuotes === true ? '"' : "";
    let text = quote;
    this.#at++;
    for (;;) {
      const next = this.#peek();
      if (next === undefined) throw invalid("unexpected end of statement while looking for matching double-quote");
      if (next === "$") {
        text += this.#variable();
        continue;
      }
      this.#at++;
      if (next === '"') return text + quote;
      if (next !== this.#options.escape) {
        text += next;
        continue;
      }
      const escaped = this.#peek();
      if (escaped === undefined) continue;
      const known = escaped === '"' || escaped === "$" || escaped === this.#options.escape;
      if (known) this.#at++;
      text += known ? (keepEscapes ? next + escaped : escaped) : next;
    }
  }

  #variable(): string {
    this.#at++;
    if (this.#peek() === "{") return this.#braced();
    const name = this.#name();
    if (name === "") return "$";
    const value = this.#lookup(name);
    if (value === undefined && this.#options.keepUnset === true) return `$${name}`;
    return value ?? "";
  }

  #braced(): string {
    this.#at++;
    if (this.#peek() === undefined) throw invalid("syntax error: missing '}'");
    const name = this.#name();
    if (name === "") throw invalid("syntax error: bad substitution");
    const value = this.#lookup(name);
    const operator = this.#next();
    switch (operator) {
      case "}":
        return value === undefined && this.#options.keepUnset === true ? `\${${name}}` : (value ?? "");
      case ":": {
        const second = this.#next();
        if (second === undefined || !["+", "-", "?"].includes(second)) throw unsupportedModifier(`:${second ?? ""}`);
        return this.#conditional(name, value === "" ? undefined : value, `:${second}`, value);
      }
      case "+":
      case "-":
      case "?":
        return this.#conditional(name, value, operator, value);
      case "#":
      case "%":
        return this.#trimmed(name, value, operator);
      case "/":
        return this.#replaced(name, value);
      case undefined:
        throw invalid("syntax error: missing '}'");
      default:
        throw unsupportedModifier(operator);
    }
  }

  /** `${name:-word}` and its kin. `value`: undefined also when it is empty and that counts as not set; `raw`: what it is. */
  #conditional(name: string, value: string | undefined, operator: string, raw: string | undefined): string {
    const word = this.#inBraces(false);
    if (raw === undefined && this.#options.keepUnset === true) return `\${${name}${operator}${word}}`;
    if (operator.endsWith("-")) return value ?? word;
    if (operator.endsWith("+")) return value === undefined ? "" : word;
    if (value !== undefined) return value;
    const fallback = raw === undefined ? "is not allowed to be unset" : "is not allowed to be empty";
    throw invalid(`${name}: ${word === "" ? fallback : word}`);
  }

  #trimmed(name: string, value: string | undefined, operator: "#" | "%"): string {
    const word = this.#inBraces(true);
    if (value === undefined && this.#options.keepUnset === true) return `\${${name}${operator}${word}}`;
    const longest = word.startsWith(operator);
    const pattern = longest ? word.slice(1) : word;
    return operator === "#" ? trimPrefix(value ?? "", pattern, longest) : trimSuffix(value ?? "", pattern, longest);
  }

  #replaced(name: string, value: string | undefined): string {
    const all = this.#peek() === "/";
    if (all) this.#at++;
    const pattern = this.read("/", true).text;
    const text = this.read("}", false).text;
    if (value === undefined && this.#options.keepUnset === true) return `\${${name}${all ? "//" : "/"}${pattern}/${text}}`;
    return replaceMatches(value ?? "", pattern, text, all);
  }

  /** Up to the closing brace. */
  #inBraces(keepEscapes: boolean): string {
    try {
      return this.read("}", keepEscapes || this.#options.keepEscapes === true).text;
    } catch (error) {
      if (this.#peek() === undefined) throw new EngineError("invalid", "syntax error: missing '}'", { cause: error });
      throw error;
    }
  }

  /** Letters, digits and underscores; or all digits; or one of the shell's own parameters. "" when none stands here. */
  #name(): string {
    const first = this.#peek() ?? "";
    if (specialParameters.has(first) && !/[0-9]/.test(first)) {
      this.#at++;
      return first;
    }
    const letters = /[0-9]/.test(first) ? /[0-9]/ : /[\p{L}\p{Nd}_]/u;
    let name = "";
    for (let next = this.#peek(); next !== undefined && letters.test(next); next = this.#peek()) {
      name += next;
      this.#at++;
    }
    return name;
  }
}

function unsupportedModifier(modifier: string): EngineError {
  return invalid(`unsupported modifier (${modifier}) in substitution`);
}

class Words {
  readonly #words: string[] = [];
  #word = "";
  #inWord = false;

  addWhole(text: string): void {
    this.#word += text;
    this.#inWord = true;
  }

  addSplit(text: string): void {
    for (const character of text) {
      if (!/\s/.test(character)) this.addWhole(character);
      else if (this.#inWord) this.#end();
    }
  }

  all(): string[] {
    this.#end();
    return this.#words;
  }

  /** An empty word, as of `""`, is none. */
  #end(): void {
    if (this.#word !== "") this.#words.push(this.#word);
    this.#word = "";
    this.#inWord = false;
  }
}
