/**
 * Patterns of paths, as in `.dockerignore` and COPY: `*` and `?` within a name, `[a-z]`, `**` over any number of directories, `\` before a character that is meant. Matched state by
 * state: no pattern takes longer than its length times the path's.
 * @module
 * @see https://docs.docker.com/build/concepts/context/#dockerignore-files
 */
import { EngineError } from "#core/errors.ts";

type Token =
  | { readonly kind: "literal"; readonly character: string }
  /** One character that is no slash. */
  | { readonly kind: "one" }
  /** Any characters without slash. */
  | { readonly kind: "name" }
  /** Anything. */
  | { readonly kind: "all" }
  /** Nothing, or anything up to a slash: `**` and its slash. Two states: at its beginning, and within. */
  | { readonly kind: "directories" }
  | { readonly kind: "within" }
  | { readonly kind: "class"; readonly negated: boolean; readonly ranges: readonly (readonly [string, string])[] };

export interface Glob {
  readonly pattern: string;
  matches(path: string): boolean;
}

/** @throws EngineError "invalid" for an unclosed `[` or a `\` at the end */
export function compileGlob(pattern: string): Glob {
  const tokens = parse(pattern);
  const prefix = literalRun(tokens);
  const suffix = [...literalRun([...tokens].reverse())].reverse().join("");
  if (prefix.length === tokens.length) return { pattern, matches: (path) => path === prefix };
  return { pattern, matches: (path) => path.startsWith(prefix) && path.endsWith(suffix) && run(tokens, path) };
}

/** True when it holds anything but itself. */
export function isPattern(text: string): boolean {
  return /[*?[\\]/.test(text);
}

function literalRun(tokens: readonly Token[]): string {
  let text = "";
  for (const token of tokens) {
    if (token.kind !== "literal") break;
    text += token.character;
  }
  return text;
}

function parse(pattern: string): Token[] {
  const tokens: Token[] = [];
  const characters = [...pattern];
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i]!;
    if (character === "*" && characters[i + 1] === "*") {
      while (characters[i + 1] === "*") i++;
      if (characters[i + 1] === "/") {
        i++;
        tokens.push({ kind: "directories" }, { kind: "within" });
      } else tokens.push({ kind: "all" });
    } else if (character === "*") tokens.push({ kind: "name" });
    else if (character === "?") tokens.push({ kind: "one" });
    else if (character === "[") {
      const { token, end } = parseClass(characters, i, pattern);
      tokens.push(token);
      i = end;
    } else if (character === "\\") {
      const next = characters[++i];
      if (next === undefined) throw malformed(pattern);
      tokens.push({ kind: "literal", character: next });
    } else tokens.push({ kind: "literal", character });
  }
  return tokens;
}

function parseClass(characters: readonly string[], start: number, pattern: string): { token: Token; end: number } {
  let at = start + 1;
  const negated = characters[at] === "^" || characters[at] === "!";
  if (negated) at++;
  const ranges: [string, string][] = [];
  const one = (): string => {
    const character = characters[at] === "\\" ? characters[++at] : characters[at];
    if (character === undefined) throw malformed(pattern);
    at++;
    return character;
  };
  while (characters[at] !== "]" || ranges.length === 0) {
    const low = one();
    let high = low;
    if (characters[at] === "-" && characters[at + 1] !== "]") {
      at++;
      high = one();
    }
    ranges.push([low, high]);
  }
  return { token: { kind: "class", negated, ranges }, end: at };
}

function malformed(pattern: string): EngineError {
  return new EngineError("invalid", `syntax error in pattern: ${JSON.stringify(pattern.slice(0, 100))}`);
}

function run(tokens: readonly Token[], path: string): boolean {
  let states = closure(new Set([0]), tokens);
  for (const character of path) {
    const next = new Set<number>();
    for (const state of states) step(tokens[state], state, character, next);
    if (next.size === 0) return false;
    states = closure(next, tokens);
  }
  return states.has(tokens.length);
}

function step(token: Token | undefined, state: number, character: string, next: Set<number>): void {
  switch (token?.kind) {
    case "literal":
      if (token.character === character) next.add(state + 1);
      return;
    case "one":
      if (character !== "/") next.add(state + 1);
      return;
    case "name":
      if (character !== "/") next.add(state);
      return;
    case "all":
      next.add(state);
      return;
    case "within":
      next.add(state);
      if (character === "/") next.add(state + 1);
      return;
    case "class":
      if (character !== "/" && token.ranges.some(([low, high]) => low <= character && character <= high) !== token.negated) next.add(state + 1);
      return;
    case "directories":
    case undefined:
      return;
  }
}

/** States that are reached without a character. */
function closure(states: Set<number>, tokens: readonly Token[]): Set<number> {
  for (const state of states) {
    const kind = tokens[state]?.kind;
    if (kind === "name" || kind === "all") states.add(state + 1);
    if (kind === "directories") states.add(state + 1).add(state + 2);
  }
  return states;
}
