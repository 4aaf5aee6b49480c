/**
 * A Dockerfile's lines as instructions with words: comments gone, lines joined, heredocs taken in, flags set apart. What the words mean is not looked at yet.
 * @module
 */
import { type Directives, parseDirectives } from "./directives.ts";
import { type Heredoc, heredocsOf } from "./heredoc.ts";
import { parseError, type Position } from "./parse-error.ts";
import { splitWords, takeFlags } from "./split-line.ts";

/** One instruction. */
export interface ParseNode {
  /** Lower case. */
  readonly command: string;
  /** `--name=value` in front of the arguments, quotes removed. */
  readonly flags: readonly string[];
  /** ENV and LABEL: name, value and "=" or "" (for the form with a blank) for each. */
  readonly args: readonly string[];
  /** The arguments were a JSON list. */
  readonly json: boolean;
  /** ONBUILD: the instruction for later. */
  readonly child?: ParseNode;
  readonly heredocs: readonly Heredoc[];
  /** The whole instruction on one line, as written but for comments and joints. */
  readonly text: string;
  readonly position: Position;
  /** Last line of the instruction with its heredocs. */
  readonly endLine: number;
}

export interface ParseTree {
  readonly directives: Directives;
  readonly nodes: readonly ParseNode[];
  readonly warnings: readonly { readonly line: number; readonly message: string }[];
  /** The lines of the file, for messages. */
  readonly lines: readonly string[];
}

/** Dockerfiles are small; what is larger is none. Characters. */
const maxLength = 8 * 1024 * 1024;

/** @throws EngineError "invalid" with file, line and column in its details */
export function parseTree(text: string, file = "Dockerfile"): ParseTree {
  if (text.length > maxLength) throw parseError({ file, line: 1, column: 1 }, `the file has ${text.length} characters; at most ${maxLength} are accepted`);
  const lines = text.replace(/^\uFEFF/, "").split("\n");
  if (lines.at(-1) === "") lines.pop();
  const reader = new LineReader(
    lines.map((line) => line.replace(/\r$/, "")),
    file,
  );
  const nodes = reader.all();
  if (nodes.length === 0) throw parseError({ file, line: 1, column: 1 }, "file with no instructions");
  return { directives: reader.directives, nodes, warnings: reader.warnings, lines };
}

class LineReader {
  readonly directives: Directives;
  readonly warnings: { line: number; message: string }[] = [];
  readonly #lines: readonly string[];
  readonly #file: string;
  readonly #continued: RegExp;
  #at = 0;

  constructor(lines: readonly string[], file: string) {
    this.#lines = lines;
    this.#file = file;
    this.directives = parseDirectives(lines, file);
    const mark = this.directives.escape === "\\" ? "\\\\" : "`";
    // An escaped escape character continues nothing.
    this.#continued = new RegExp(`(^|[^${mark}])${mark}[ \\t]*$`);
  }

  all(): ParseNode[] {
    const nodes: ParseNode[] = [];
    while (this.#at < this.#lines.length) {
      const node = this.#instruction();
      if (node !== undefined) nodes.push(node);
    }
    return nodes;
  }

  #instruction(): ParseNode | undefined {
    const start = this.#at;
    const first = this.#lines[this.#at++]!;
    const trimmed = first.trimStart();
    if (trimmed === "" || trimmed.startsWith("#")) return undefined;
    let { text, more } = this.#joint(trimmed);
    let emptyAt: number | undefined;
    while (more && this.#at < this.#lines.length) {
      const line = this.#lines[this.#at++]!;
      if (/^\s*#/.test(line)) continue;
      if (line.trim() === "") {
        emptyAt ??= this.#at;
        continue;
      }
      const next = this.#joint(line);
      text += next.text;
      more = next.more;
    }
    if (text.trim() === "") return undefined;
    if (emptyAt !== undefined) this.warnings.push({ line: emptyAt, message: "Empty continuation line: it will be an error in a future release" });
    const position = { file: this.#file, line: start + 1, column: first.length - trimmed.length + 1 };
    const node = parseNode(text, this.directives.escape, position);
    const heredocs = takesHeredocs(node)
      ? heredocsOf(text, this.directives.escape).map((begin) => ({ ...begin, content: this.#content(begin, position) }))
      : [];
    const whole = heredocs.length === 0 ? {} : node.child === undefined ? { heredocs } : { heredocs, child: { ...node.child, heredocs } };
    return { ...node, ...whole, endLine: this.#at };
  }

  /** A line without the mark that continues it. */
  #joint(line: string): { text: string; more: boolean } {
    const match = this.#continued.exec(line);
    return match === null ? { text: line, more: false } : { text: line.slice(0, match.index) + match[1], more: true };
  }

  #content({ name, chomp }: Omit<Heredoc, "content">, position: Position): string {
    let content = "";
    while (this.#at < this.#lines.length) {
      const line = this.#lines[this.#at++]!;
      if ((chomp ? line.replace(/^\t+/, "") : line) === name) return content;
      content += `${line}\n`;
    }
    throw parseError(position, `unterminated heredoc`, undefined);
  }
}

function takesHeredocs({ command, json, child }: ParseNode): boolean {
  if (command === "onbuild") return child !== undefined && takesHeredocs(child);
  return !json && (command === "run" || command === "copy" || command === "add");
}

type Shape = "json-or-words" | "json-or-text" | "words" | "quoted-words" | "pairs" | "text" | "health" | "instruction";

/** How an instruction's arguments are taken apart. */
const shapes: Readonly<Record<string, Shape>> = {
  add: "json-or-words",
  arg: "quoted-words",
  cmd: "json-or-text",
  copy: "json-or-words",
  entrypoint: "json-or-text",
  env: "pairs",
  expose: "words",
  from: "words",
  healthcheck: "health",
  label: "pairs",
  maintainer: "text",
  onbuild: "instruction",
  run: "json-or-text",
  shell: "json-or-text",
  stopsignal: "text",
  user: "text",
  volume: "json-or-words",
  workdir: "text",
};

/** Names of all instructions, in capitals. */
export const instructionNames: readonly string[] = Object.keys(shapes).map((name) => name.toUpperCase());

/** One instruction of its joined line. @throws EngineError "invalid" */
export function parseNode(text: string, escapeWith: string, position: Position): ParseNode {
  const [, name = "", rest = ""] = /^(\S+)\s*(.*)$/s.exec(text.trim()) ?? [];
  const command = name.toLowerCase();
  const { flags, rest: words } = takeFlags(rest);
  const base = { command, flags, text: text.trimEnd(), position, endLine: position.line, heredocs: [], json: false };
  switch (Object.hasOwn(shapes, command) ? shapes[command] : undefined) {
    case undefined:
      return { ...base, args: words === "" ? [] : [words] };
    case "words":
      return { ...base, args: plainWords(words) };
    case "quoted-words":
      return { ...base, args: splitWords(words, escapeWith) };
    case "text":
      return { ...base, args: words === "" ? [] : [words] };
    case "pairs":
      return { ...base, args: pairs(words, command, escapeWith, position) };
    case "json-or-words":
      return { ...base, ...(jsonList(words, position) ?? { args: plainWords(words) }) };
    case "json-or-text":
      return { ...base, ...jsonOrText(words, position) };
    case "health": {
      const [, type = "", test = ""] = /^(\S+)\s*(.*)$/s.exec(words) ?? [];
      const parsed = jsonOrText(test, position);
      return { ...base, json: parsed.json, args: type === "" ? [] : [type, ...parsed.args] };
    }
    case "instruction":
      return words === "" ? { ...base, args: [] } : { ...base, args: [], child: parseNode(words, escapeWith, position) };
  }
}

function plainWords(text: string): string[] {
  return text === "" ? [] : text.split(/\s+/);
}

function jsonOrText(text: string, position: Position): { json: boolean; args: string[] } {
  return jsonList(text, position) ?? { json: false, args: text === "" ? [] : [text] };
}

/** A JSON list of strings; undefined for what is no JSON list: then it is words. */
function jsonList(text: string, position: Position): { json: true; args: string[] } | undefined {
  if (!text.startsWith("[")) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const list = value as unknown[];
  if (!list.every((item) => typeof item === "string")) throw parseError(position, "when using JSON array syntax, arrays must be comprised of strings only.");
  return { json: true, args: list as string[] };
}

function pairs(text: string, command: string, escapeWith: string, position: Position): string[] {
  const words = splitWords(text, escapeWith);
  const [first] = words;
  if (first === undefined) return [];
  if (!first.includes("=")) {
    const match = /^(\S+)\s+(.+)$/s.exec(text);
    if (match === null) throw parseError(position, `${command.toUpperCase()} must have two arguments`);
    return [match[1]!, match[2]!, ""];
  }
  return words.flatMap((word) => {
    const equals = word.indexOf("=");
    if (equals < 0) throw parseError(position, `Syntax error - can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`);
    return [word.slice(0, equals), word.slice(equals + 1), "="];
  });
}
