/** Go text/template, second step: tokens to a tree. @module */
import { syntaxError, tokenize, type Token } from "./lexer.ts";

export type Operand =
  | { readonly kind: "dot"; readonly at: number; readonly text: string }
  | { readonly kind: "literal"; readonly value: unknown; readonly at: number; readonly text: string }
  /** `.A.B` (base undefined), `$x.A`, `(…).A`. */
  | { readonly kind: "chain"; readonly base: Operand | undefined; readonly fields: readonly string[]; readonly at: number; readonly text: string }
  | { readonly kind: "variable"; readonly name: string; readonly at: number; readonly text: string }
  | { readonly kind: "function"; readonly name: string; readonly at: number; readonly text: string }
  | { readonly kind: "pipeline"; readonly pipeline: Pipeline; readonly at: number; readonly text: string };

/** Operand and its arguments. */
export type Call = readonly Operand[];

export interface Pipeline {
  readonly variables: readonly string[];
  readonly declare: boolean;
  readonly calls: readonly Call[];
}

export type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "output"; readonly pipeline: Pipeline }
  | { readonly kind: "if" | "with" | "range"; readonly pipeline: Pipeline; readonly body: readonly Node[]; readonly otherwise: readonly Node[] }
  /** `{{template "name" pipeline}}`; `at` and `text` as errors show it. */
  | { readonly kind: "template"; readonly name: string; readonly pipeline: Pipeline | undefined; readonly at: number; readonly text: string }
  | { readonly kind: "break" | "continue" };

export interface ParsedTemplate {
  readonly source: string;
  readonly nodes: readonly Node[];
  /** What `{{define}}` and `{{block}}` have named. */
  readonly named: ReadonlyMap<string, readonly Node[]>;
}

/** Parses a template; `known` are the functions' names. Throws TemplateError. */
export function parseTemplate(source: string, known: (name: string) => boolean): ParsedTemplate {
  const parser = new Parser(source, known);
  const { nodes, end } = parser.list();
  if (end !== "eof") throw syntaxError(source, parser.here, `unexpected {{${end}}}`);
  return { source, nodes, named: parser.named };
}

type End = "eof" | "end" | "else";

class Parser {
  readonly #source: string;
  readonly #tokens: readonly Token[];
  readonly #known: (name: string) => boolean;
  readonly named = new Map<string, readonly Node[]>();
  #next = 0;
  #loops = 0;
  #depth = 0;
  #variables: string[] = ["$"];

  constructor(source: string, known: (name: string) => boolean) {
    this.#source = source;
    this.#known = known;
    this.#tokens = tokenize(source);
  }

  get here(): number {
    return this.#tokens[this.#next]?.at ?? this.#source.length;
  }

  #fail(message: string, at = this.here): never {
    throw syntaxError(this.#source, at, message);
  }

  #peek(): Token | undefined {
    return this.#tokens[this.#next];
  }

  #take(): Token {
    const token = this.#tokens[this.#next];
    if (token === undefined) return this.#fail("unexpected EOF");
    this.#next++;
    return token;
  }

  #skipSpace(): void {
    while (this.#peek()?.kind === "space") this.#next++;
  }

  #close(context: string): void {
    this.#skipSpace();
    const token = this.#take();
    if (token.kind !== "close") this.#fail(`unexpected <${token.text}> in ${context}`, token.at);
  }

  /** Nodes up to the end of the input, of a block, or an else. */
  list(): { readonly nodes: Node[]; readonly end: End } {
    const nodes: Node[] = [];
    for (;;) {
      const token = this.#peek();
      if (token === undefined) return { nodes, end: "eof" };
      this.#next++;
      if (token.kind === "text") {
        nodes.push({ kind: "text", text: token.text });
        continue;
      }
      this.#skipSpace();
      const word = this.#peek();
      const keyword = word?.kind === "word" ? word.text : "";
      if (keyword === "end" || keyword === "else") {
        this.#next++;
        if (keyword === "end") this.#close("end");
        return { nodes, end: keyword };
      }
      if (keyword === "define") this.#define();
      else nodes.push(this.#action(keyword));
    }
  }

  /** `{{define "name"}}…{{end}}`, only outside of everything else. */
  #define(): void {
    this.#next++;
    if (this.#depth > 0) this.#fail("unexpected {{define}}");
    const { name } = this.#templateName("define clause");
    this.#close("define clause");
    this.named.set(name, this.#body());
  }

  /** A named template's nodes: it sees no variables but its own. */
  #body(): readonly Node[] {
    const variables = this.#variables;
    this.#variables = ["$"];
    this.#depth++;
    const { nodes, end } = this.list();
    this.#depth--;
    this.#variables = variables;
    if (end !== "end") this.#fail(end === "eof" ? "unexpected EOF" : "unexpected {{else}}");
    return nodes;
  }

  #templateName(context: string): { readonly name: string; readonly at: number; readonly text: string } {
    this.#skipSpace();
    const { kind, at, text } = this.#take();
    if (kind !== "string") this.#fail(`unexpected <${text}> in ${context}`, at);
    return { name: unquote(text), at, text };
  }

  /** `{{template "name" pipeline}}`, and `{{block "name" pipeline}}…{{end}}`, which defines it in the same place. */
  #template(keyword: "template" | "block"): Node {
    const { name, at, text } = this.#templateName(`${keyword} clause`);
    this.#skipSpace();
    const pipeline = this.#peek()?.kind === "close" ? undefined : this.#pipeline(`${keyword} clause`);
    if (keyword === "block" && pipeline === undefined) this.#fail("missing value for block clause");
    const end = this.here;
    this.#close(`${keyword} clause`);
    if (keyword === "block") this.named.set(name, this.#body());
    return { kind: "template", name, pipeline, at, text: `{{template ${text}${this.#source.slice(at + text.length, end).trimEnd()}}}` };
  }

  #action(keyword: string): Node {
    switch (keyword) {
      case "if":
      case "with":
      case "range":
        this.#next++;
        return this.#block(keyword);
      case "break":
      case "continue":
        this.#next++;
        if (this.#loops === 0) this.#fail(`{{${keyword}}} outside {{range}}`);
        this.#close(keyword);
        return { kind: keyword };
      case "template":
      case "block":
        this.#next++;
        return this.#template(keyword);
      default: {
        const pipeline = this.#pipeline("command");
        this.#close("command");
        return { kind: "output", pipeline };
      }
    }
  }

  #block(kind: "if" | "with" | "range"): Node {
    const scope = this.#variables.length;
    const pipeline = this.#pipeline(kind);
    this.#close(kind);
    if (kind === "range") this.#loops++;
    this.#depth++;
    const { nodes: body, end } = this.list();
    if (kind === "range") this.#loops--;
    this.#depth--;
    let otherwise: Node[] = [];
    if (end === "eof") this.#fail("unexpected EOF");
    if (end === "else") otherwise = this.#otherwise(kind);
    this.#variables.length = scope;
    return { kind, pipeline, body, otherwise };
  }

  /** What follows `{{else`: ` if …}}` (or with), else `}}` and a list. */
  #otherwise(kind: "if" | "with" | "range"): Node[] {
    this.#skipSpace();
    const word = this.#peek();
    if (word?.kind === "word" && word.text === kind && kind !== "range") {
      this.#next++;
      return [this.#block(kind)];
    }
    this.#close("else");
    const { nodes, end } = this.list();
    if (end !== "end") this.#fail(end === "eof" ? "unexpected EOF" : "expected end; found {{else}}");
    return nodes;
  }

  #pipeline(context: string): Pipeline {
    const { variables, declare } = this.#declarations(context);
    const calls: Call[] = [];
    for (;;) {
      this.#skipSpace();
      const token = this.#peek();
      if (token === undefined) this.#fail("unclosed action");
      if (token.kind === "close" || token.kind === "rightParen") break;
      if (token.kind === "pipe") {
        if (calls.length === 0) this.#fail(`missing value for ${context}`);
        this.#next++;
        this.#skipSpace();
        const after = this.#peek()?.kind;
        if (after === "close" || after === "rightParen" || after === undefined) this.#fail(`missing value for ${context}`);
      } else if (calls.length > 0) this.#fail(`unexpected <${token.text}> in ${context}`);
      const stage = calls.length + 1;
      const call = this.#call();
      if (stage > 1 && (call[0]!.kind === "literal" || call[0]!.kind === "dot")) this.#fail(`non executable command in pipeline stage ${stage}`, call[0]!.at);
      calls.push(call);
    }
    if (calls.length === 0) this.#fail(`missing value for ${context}`);
    if (declare) this.#variables.push(...variables);
    return { variables, declare, calls };
  }

  /** `$x :=`, `$i, $x :=`, `$x =`. */
  #declarations(context: string): { readonly variables: string[]; readonly declare: boolean } {
    const start = this.#next;
    const variables: string[] = [];
    for (;;) {
      this.#skipSpace();
      const token = this.#peek();
      if (token?.kind !== "variable") break;
      this.#next++;
      this.#skipSpace();
      const after = this.#peek();
      variables.push(token.text);
      if (after?.kind === "comma" && context === "range" && variables.length < 2) {
        this.#next++;
        continue;
      }
      if (after?.kind === "declare" || after?.kind === "assign") {
        this.#next++;
        if (after.kind === "assign") for (const name of variables) this.#checkVariable(name, token.at);
        return { variables, declare: after.kind === "declare" };
      }
      break;
    }
    this.#next = start;
    return { variables: [], declare: false };
  }

  #checkVariable(name: string, at: number): void {
    if (!this.#variables.includes(name)) this.#fail(`undefined variable "${name}"`, at);
  }

  #call(): Call {
    const operands: Operand[] = [];
    for (;;) {
      const token = this.#peek();
      if (token === undefined || token.kind === "close" || token.kind === "pipe" || token.kind === "rightParen") break;
      if (token.kind === "space") {
        this.#next++;
        continue;
      }
      operands.push(this.#operand());
    }
    if (operands.length === 0) this.#fail("empty command");
    if (operands.length > 1 && operands[0]!.kind === "literal") this.#fail(`can't give argument to non-function ${operands[0]!.text}`, operands[0]!.at);
    return operands;
  }

  #operand(): Operand {
    const start = this.here;
    let operand = this.#term();
    const fields: string[] = [];
    while (this.#peek()?.kind === "field") fields.push(this.#take().text.slice(1));
    if (fields.length > 0) {
      if (operand.kind === "literal") this.#fail(`unexpected . after term ${JSON.stringify(operand.text)}`, start);
      const text = this.#source.slice(start, this.here);
      if (operand.kind === "chain") operand = { ...operand, fields: [...operand.fields, ...fields], text };
      else operand = { kind: "chain", base: operand, fields, at: start, text };
    }
    return operand;
  }

  #term(): Operand {
    const token = this.#take();
    const { at, text } = token;
    switch (token.kind) {
      case "dot":
        return { kind: "dot", at, text };
      case "field":
        return { kind: "chain", base: undefined, fields: [text.slice(1)], at, text };
      case "variable":
        this.#checkVariable(text, at);
        return { kind: "variable", name: text, at, text };
      case "string":
        return { kind: "literal", value: unquote(text), at, text };
      case "char":
        return { kind: "literal", value: unquote(`"${text.slice(1, -1).replaceAll('"', '\\"')}"`).codePointAt(0), at, text };
      case "number":
        return { kind: "literal", value: Number(text.replace(/^\+/, "")), at, text };
      case "word":
        if (text === "true" || text === "false") return { kind: "literal", value: text === "true", at, text };
        if (text === "nil") return { kind: "literal", value: null, at, text };
        if (!this.#known(text)) this.#fail(`function "${text}" not defined`, at);
        return { kind: "function", name: text, at, text };
      case "leftParen": {
        const pipeline = this.#pipeline("parenthesized pipeline");
        this.#skipSpace();
        if (this.#take().kind !== "rightParen") this.#fail("unclosed left paren", at);
        return { kind: "pipeline", pipeline, at, text: this.#source.slice(at, this.here) };
      }
      default:
        return this.#fail(`unexpected <${text}> in operand`, at);
    }
  }
}

const escapes: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", "\\": "\\", '"': '"', "'": "'", a: "\u0007", b: "\b", f: "\f", v: "\v" };

/** The string that a Go string literal stands for. */
function unquote(literal: string): string {
  if (literal.startsWith("`")) return literal.slice(1, -1);
  return literal.slice(1, -1).replace(/\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)/g, (_all, code: string) => {
    if (/^[xuU]./.test(code)) return String.fromCodePoint(Number.parseInt(code.slice(1), 16));
    if (/^[0-7]{3}$/.test(code)) return String.fromCharCode(Number.parseInt(code, 8));
    return escapes[code] ?? code;
  });
}
