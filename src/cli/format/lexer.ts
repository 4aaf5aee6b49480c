/** Go text/template, first step: text and the tokens of actions. @module @see https://pkg.go.dev/text/template */

export type TokenKind =
  | "text"
  | "open"
  | "close"
  | "field"
  | "variable"
  | "word"
  | "string"
  | "number"
  | "char"
  | "dot"
  | "pipe"
  | "declare"
  | "assign"
  | "comma"
  | "leftParen"
  | "rightParen"
  | "space";

export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  /** Offset in the source. */
  readonly at: number;
}

/** A template that cannot be read or run; the message is Go's. */
export class TemplateError extends Error {}

/** "1:5": line and column of an offset (Go counts columns from 0). */
export function position(source: string, at: number): string {
  const before = source.slice(0, at);
  const line = before.split("\n").length;
  return `${line}:${at - (before.lastIndexOf("\n") + 1)}`;
}

export function syntaxError(source: string, at: number, message: string): TemplateError {
  return new TemplateError(`template: :${position(source, at).split(":")[0]}: ${message}`);
}

const tokenPatterns: readonly (readonly [TokenKind | "bad-string", RegExp])[] = [
  ["space", /[ \t\r\n]+/y],
  ["declare", /:=/y],
  ["assign", /=/y],
  ["pipe", /\|/y],
  ["comma", /,/y],
  ["leftParen", /\(/y],
  ["rightParen", /\)/y],
  ["number", /[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)/y],
  ["field", /\.[\p{L}_][\p{L}\p{N}_]*/uy],
  ["dot", /\./y],
  ["variable", /\$(?:[\p{L}_][\p{L}\p{N}_]*)?/uy],
  ["word", /[\p{L}_][\p{L}\p{N}_]*/uy],
  ["string", /"(?:[^"\\\n]|\\.)*"|`[^`]*`/y],
  ["char", /'(?:[^'\\\n]|\\.)+'/y],
  ["bad-string", /["`']/y],
];

/** Tokens of a template. Throws {@link TemplateError}. */
export function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  let trim = false;
  while (at < source.length) {
    const open = source.indexOf("{{", at);
    let text = source.slice(at, open < 0 ? undefined : open);
    if (trim) text = text.replace(/^[ \t\r\n]+/, "");
    trim = false;
    if (open < 0) {
      if (text !== "") tokens.push({ kind: "text", text, at });
      break;
    }
    let inner = open + 2;
    if (/^-[ \t\r\n]/.test(source.slice(inner, inner + 2))) {
      text = text.replace(/[ \t\r\n]+$/, "");
      inner += 1;
    }
    if (text !== "") tokens.push({ kind: "text", text, at });
    const comment = /[ \t\r\n]*\/\*[\s\S]*?\*\/[ \t\r\n]*(-?)\}\}/y;
    comment.lastIndex = inner;
    const skipped = comment.exec(source);
    if (skipped !== null) {
      trim = skipped[1] === "-";
      at = comment.lastIndex;
      continue;
    }
    tokens.push({ kind: "open", text: "{{", at: open });
    [at, trim] = action(source, inner, tokens);
  }
  return tokens;
}

/** Tokens up to `}}`. Returns where the text goes on, and whether its leading space goes. */
function action(source: string, start: number, tokens: Token[]): [number, boolean] {
  let at = start;
  while (at < source.length) {
    const trimmed = /^[ \t\r\n]+-\}\}/.exec(source.slice(at));
    if (trimmed !== null || source.startsWith("}}", at)) {
      tokens.push({ kind: "close", text: "}}", at });
      return [at + (trimmed?.[0].length ?? 2), trimmed !== null];
    }
    at = oneToken(source, at, tokens);
  }
  throw syntaxError(source, start, "unclosed action");
}

function oneToken(source: string, at: number, tokens: Token[]): number {
  for (const [kind, pattern] of tokenPatterns) {
    pattern.lastIndex = at;
    const match = pattern.exec(source);
    if (match === null) continue;
    if (kind === "bad-string")
      throw syntaxError(
        source,
        at,
        match[0] === "`" ? "unterminated raw quoted string" : match[0] === '"' ? "unterminated quoted string" : "unterminated character constant",
      );
    tokens.push({ kind, text: match[0], at });
    return at + match[0].length;
  }
  const character = String.fromCodePoint(source.codePointAt(at)!);
  throw syntaxError(source, at, `unexpected ${JSON.stringify(character)} in operand`);
}
