/** Go text/template as far as docker's `--format` needs it. @module @see https://docs.docker.com/engine/cli/formatting/ */
import { functions, shortCircuit, truth } from "./functions.ts";
import { keyOf } from "./go-names.ts";
import { position, TemplateError } from "./lexer.ts";
import { type Call, type Node, type Operand, parseTemplate, type ParsedTemplate, type Pipeline } from "./parser.ts";
import { goText, isFielded, isMap } from "./print.ts";

export { TemplateError } from "./lexer.ts";

export interface TemplateOptions {
  /** Replaces the functions (a table's header has its own). */
  readonly functions?: Readonly<Record<string, (...args: readonly unknown[]) => unknown>>;
  /** What a null field prints as; default `<no value>`. */
  readonly nullText?: (field: string) => string;
  /** What objects with fixed fields are, for errors: a field that they do not have is one. Not given: whatever is missing is no value. */
  readonly strict?: Strict;
}

/** How docker's typed objects read: which of their fields are maps, whose keys may be missing, and which are left out when they are empty. */
export interface Strict {
  /** The reason why there is no such field. */
  readonly missing: (name: string) => string;
  /** What is written for a field that there is, but not in this object; undefined: there is none of this name. */
  readonly absent: (name: string) => string | undefined;
  readonly isMap: (name: string) => boolean;
}

/** A parsed template. */
export interface Template {
  execute(data: unknown, options?: TemplateOptions): string;
}

/** Throws TemplateError with Go's words. */
export function compileTemplate(source: string): Template {
  const parsed = parseTemplate(source, (name) => Object.hasOwn(functions, name) || shortCircuit.includes(name));
  return { execute: (data, options = {}) => new Execution(parsed, data, options).run() };
}

class LoopControl extends Error {
  readonly kind: "break" | "continue";
  constructor(kind: "break" | "continue") {
    super(kind);
    this.kind = kind;
  }
}

interface Variable {
  readonly name: string;
  value: unknown;
}

/** A JSON null that came from a field: prints as that field's empty value would. */
class NullField {
  readonly text: string;
  /** Why it has no fields, and where it is in the template, when the object does not have it at all. */
  readonly missing: { readonly why: string; readonly at: number } | undefined;
  constructor(text: string, missing?: NullField["missing"]) {
    this.text = text;
    this.missing = missing;
  }
}

class Execution {
  readonly #template: ParsedTemplate;
  readonly #options: TemplateOptions;
  readonly #functions: Readonly<Record<string, (...args: readonly unknown[]) => unknown>>;
  readonly #root: unknown;
  /** Objects that are maps: a key that they lack is no error. */
  readonly #maps = new WeakSet<object>();
  #variables: Variable[];

  constructor(template: ParsedTemplate, data: unknown, options: TemplateOptions) {
    this.#template = template;
    this.#options = options;
    this.#functions = options.functions ?? functions;
    this.#root = data;
    this.#variables = [{ name: "$", value: data }];
  }

  run(): string {
    return this.#list(this.#template.nodes, this.#root);
  }

  #fail({ text, at: start }: Pick<Operand, "text" | "at">, message: string, at: number = start): never {
    throw new TemplateError(`template: :${position(this.#template.source, at)}: executing "" at <${text}>: ${message}`);
  }

  #list(nodes: readonly Node[], dot: unknown): string {
    let text = "";
    for (const node of nodes) text += this.#node(node, dot);
    return text;
  }

  #node(node: Node, dot: unknown): string {
    switch (node.kind) {
      case "text":
        return node.text;
      case "output": {
        const value = this.#pipeline(node.pipeline, dot);
        return node.pipeline.variables.length > 0 ? "" : printed(value);
      }
      case "if":
      case "with":
        return this.#scoped(() => {
          const value = this.#pipeline(node.pipeline, dot);
          if (truth(plain(value))) return this.#list(node.body, node.kind === "with" ? plain(value) : dot);
          return this.#list(node.otherwise, dot);
        });
      case "range":
        return this.#scoped(() => this.#range(node, dot));
      case "template":
        return this.#named(node, dot);
      default:
        throw new LoopControl(node.kind);
    }
  }

  #scoped(work: () => string): string {
    const depth = this.#variables.length;
    try {
      return work();
    } finally {
      this.#variables.length = depth;
    }
  }

  /** `{{template "name" pipeline}}`: what was defined under a name, with variables of its own. */
  #named(node: Extract<Node, { readonly kind: "template" }>, dot: unknown): string {
    const body = this.#template.named.get(node.name);
    if (body === undefined) this.#fail(node, `template ${JSON.stringify(node.name)} not defined`);
    const data = node.pipeline === undefined ? null : plain(this.#evaluate(node.pipeline, dot));
    const outer = this.#variables;
    this.#variables = [{ name: "$", value: data }];
    try {
      return this.#list(body, data);
    } finally {
      this.#variables = outer;
    }
  }

  #range(node: Extract<Node, { readonly body: unknown }>, dot: unknown): string {
    const value = plain(this.#evaluate(node.pipeline, dot));
    const items = itemsOf(value);
    if (items === undefined) this.#fail(node.pipeline.calls[0]![0]!, `range can't iterate over ${goText(value)}`);
    if (items.length === 0) return this.#list(node.otherwise, dot);
    const { variables, declare } = node.pipeline;
    let text = "";
    for (const [key, item] of items) {
      const depth = this.#variables.length;
      const values = variables.length === 1 ? [item] : [key, item];
      for (const [i, name] of variables.entries()) this.#assign(name, values[i], declare);
      try {
        // Output so far must survive a break, so each node is added as it comes.
        for (const child of node.body) text += this.#node(child, item);
      } catch (error) {
        if (!(error instanceof LoopControl)) throw error;
        if (error.kind === "break") break;
      } finally {
        this.#variables.length = depth;
      }
    }
    return text;
  }

  #assign(name: string, value: unknown, declare: boolean): void {
    if (declare) {
      this.#variables.push({ name, value });
      return;
    }
    this.#lookup(name).value = value;
  }

  #lookup(name: string): Variable {
    const found = this.#variables.findLast((v) => v.name === name);
    if (found === undefined) throw new TemplateError(`undefined variable: ${name}`);
    return found;
  }

  /** Value of a pipeline, with its variables set. */
  #pipeline(pipeline: Pipeline, dot: unknown): unknown {
    const value = this.#evaluate(pipeline, dot);
    for (const name of pipeline.variables) this.#assign(name, plain(value), pipeline.declare);
    return value;
  }

  #evaluate(pipeline: Pipeline, dot: unknown): unknown {
    let value: unknown;
    for (const [stage, call] of pipeline.calls.entries()) value = this.#call(call, dot, stage > 0 ? [plain(value)] : []);
    return value;
  }

  #call(call: Call, dot: unknown, piped: readonly unknown[]): unknown {
    const [head, ...rest] = call as [Operand, ...Operand[]];
    if (head.kind === "function") return this.#function(head, rest, dot, piped);
    if (head.kind === "literal" && head.value === null) this.#fail(head, "nil is not a command");
    const args = rest.map((operand) => plain(this.#operand(operand, dot)));
    const value = this.#operand(head, dot, [...args, ...piped]);
    return value;
  }

  #function(head: Extract<Operand, { kind: "function" }>, rest: readonly Operand[], dot: unknown, piped: readonly unknown[]): unknown {
    const lazy = [...rest.map((operand) => () => plain(this.#operand(operand, dot))), ...piped.map((value) => () => value)];
    if (shortCircuit.includes(head.name)) {
      if (lazy.length === 0) this.#fail(head, `wrong number of args for ${head.name}: want at least 1 got 0`);
      let value: unknown;
      for (const next of lazy) {
        value = next();
        if (truth(value) === (head.name === "or")) break;
      }
      return value;
    }
    const work = this.#functions[head.name]!; // the parser let only known names through
    const args = lazy.map((next) => next());
    if (work.length > args.length) this.#fail(head, `wrong number of args for ${head.name}: want ${work.length} got ${args.length}`);
    try {
      return work(...args);
    } catch (error) {
      const { message } = error as Error;
      const last = rest.at(-1) ?? head;
      const whole = { at: head.at, text: this.#template.source.slice(head.at, last.at + last.text.length) };
      return this.#fail(whole, message.startsWith("error calling") || message.startsWith("wrong type") ? message : `error calling ${head.name}: ${message}`);
    }
  }

  /** `args`: what follows the operand, for fields that take arguments. */
  #operand(operand: Operand, dot: unknown, args: readonly unknown[] = []): unknown {
    switch (operand.kind) {
      case "chain": {
        const base = operand.base === undefined ? dot : plain(this.#operand(operand.base, dot));
        return this.#fields(operand, base, args);
      }
      case "function":
        return this.#function(operand, [], dot, []);
      case "pipeline":
        return this.#evaluate(operand.pipeline, dot);
    }
    if (args.length > 0) this.#fail(operand, `can't give argument to non-function ${operand.text}`);
    if (operand.kind === "dot") return dot;
    return operand.kind === "variable" ? this.#lookup(operand.name).value : operand.value;
  }

  #fields(operand: Extract<Operand, { kind: "chain" }>, base: unknown, args: readonly unknown[]): unknown {
    let value = base;
    // Errors point at the field that failed.
    let at = operand.at + operand.text.length - operand.fields.reduce((length, name) => length + name.length + 1, 0);
    for (const [i, name] of operand.fields.entries()) {
      const last = i === operand.fields.length - 1;
      if (value instanceof NullField && value.missing !== undefined) this.#fail(operand, value.missing.why, value.missing.at);
      value = this.#field({ operand, at }, plain(value), name, last ? args : []);
      at += name.length + 1;
    }
    return value;
  }

  #field({ operand, at }: { readonly operand: Operand; readonly at: number }, value: unknown, name: string, args: readonly unknown[]): unknown {
    let found: unknown;
    if (isFielded(value)) {
      found = value.field(name);
      if (found === undefined) this.#fail(operand, `can't evaluate field ${name} in type *formatter.Context`, at);
      if (found === null) return new NullField("<nil>");
    } else if (isMap(value)) {
      const key = keyOf(value, name);
      found = key === undefined ? undefined : value[key];
      const { strict } = this.#options;
      if (found === undefined && strict !== undefined && !this.#maps.has(value)) {
        const text = strict.absent(name);
        if (text === undefined) this.#fail(operand, strict.missing(name), at);
        return new NullField(text, { why: strict.missing(name), at });
      }
      if (isMap(found) && strict?.isMap(name) === true) this.#maps.add(found);
      if (found === null) return new NullField(this.#options.nullText?.(name) ?? "<no value>");
    } else if (value === null || value === undefined) {
      this.#fail(operand, `nil data; no entry for key ${JSON.stringify(name)}`, at);
    } else {
      const type = this.#options.strict !== undefined ? "interface {}" : Array.isArray(value) ? "[]interface {}" : typeof value;
      this.#fail(operand, `can't evaluate field ${name} in type ${type}`, at);
    }
    if (typeof found === "function") return (found as (...a: readonly unknown[]) => unknown)(...args);
    if (args.length > 0) this.#fail(operand, `${name} has arguments but cannot be invoked as function`, at);
    return found;
  }
}

/** Without the memory of which field a null came from. */
function plain(value: unknown): unknown {
  return value instanceof NullField ? null : value;
}

function printed(value: unknown): string {
  if (value instanceof NullField) return value.text;
  return value === undefined || value === null ? "<no value>" : goText(value);
}

/** Key and item of what can be ranged over; undefined for what cannot. */
function itemsOf(value: unknown): readonly (readonly [unknown, unknown])[] | undefined {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value.map((item, i) => [i, item] as const);
  if (typeof value === "number") return Array.from({ length: Math.max(0, value) }, (_, i) => [i, i] as const);
  if (isMap(value))
    return Object.keys(value)
      .sort()
      .map((key) => [key, value[key]] as const);
  return undefined;
}
