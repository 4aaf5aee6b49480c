/**
 * Patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`: `*`, `?` and `\x`. Matched state by state, so that no pattern takes
 * longer than its length times the value's: a regular expression made of a stranger's `*a*a*a*b` could keep the daemon busy for hours.
 * @module
 * @see POSIX.1-2024 Shell Command Language, 2.14
 */
import { EngineError } from "#core/errors.ts";

const any = Symbol("*");
const one = Symbol("?");
type Token = string | typeof any | typeof one;

/** Steps that a replacement may take; what people write takes some hundreds. */
const maxSteps = 50_000_000;

function parse(pattern: string): Token[] {
  const tokens: Token[] = [];
  const characters = [...pattern];
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i]!;
    if (character === "*") {
      if (tokens.at(-1) !== any) tokens.push(any);
    } else if (character === "?") tokens.push(one);
    // A lone backslash at the end is one.
    else tokens.push(character === "\\" ? (characters[++i] ?? "\\") : character);
  }
  return tokens;
}

/** Where a match that begins at `start` can end: the nearest and the farthest; undefined when there is none. */
function matchEnds(tokens: readonly Token[], text: readonly string[], start: number): { readonly first: number; readonly last: number } | undefined {
  let states = closure(new Set([0]), tokens);
  let found: { first: number; last: number } | undefined;
  for (let at = start; states.size > 0; at++) {
    if (states.has(tokens.length)) found = { first: found?.first ?? at, last: at };
    const character = text[at];
    if (character === undefined) break;
    const next = new Set<number>();
    for (const state of states) {
      const token = tokens[state];
      if (token === any) next.add(state);
      else if (token === one || token === character) next.add(state + 1);
    }
    states = closure(next, tokens);
  }
  return found;
}

/** A `*` may also stand for nothing. */
function closure(states: Set<number>, tokens: readonly Token[]): Set<number> {
  for (const state of states) if (tokens[state] === any) states.add(state + 1);
  return states;
}

/** Without the shortest or longest beginning that matches. */
export function trimPrefix(value: string, pattern: string, longest: boolean): string {
  const text = [...value];
  const ends = matchEnds(parse(pattern), text, 0);
  return ends === undefined ? value : text.slice(longest ? ends.last : ends.first).join("");
}

/** Without the shortest or longest end that matches. */
export function trimSuffix(value: string, pattern: string, longest: boolean): string {
  const text = [...value].reverse();
  const ends = matchEnds(parse(pattern).reverse(), text, 0);
  return ends === undefined
    ? value
    : text
        .slice(longest ? ends.last : ends.first)
        .reverse()
        .join("");
}

/** The first match, or every one, becomes `by` (taken as it is); each match is as long as it can be. @throws EngineError "invalid" when it would take too long */
export function replaceMatches(value: string, pattern: string, by: string, all: boolean): string {
  const tokens = parse(pattern);
  if (tokens.length === 0) return value;
  const text = [...value];
  if (text.length * text.length * tokens.length > maxSteps) throw new EngineError("invalid", `the value is too long for a pattern: ${text.length} characters`);
  let result = "";
  for (let at = 0; at < text.length; ) {
    const end = matchEnds(tokens, text, at)?.last ?? at;
    if (end === at) {
      result += text[at++];
      continue;
    }
    result += by;
    if (!all) return result + text.slice(end).join("");
    at = end;
  }
  return result;
}
