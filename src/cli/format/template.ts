/** Go text/template as far as docker's `--format` needs it. @module @see https://docs.docker.com/engine/cli/formatting/ */
import { functions, shortCircuit, truth } from "./functions.ts";
import { keyOf } from "./go-names.ts";
import { position, TemplateError } from "./lexer.ts";
import { type Call, type Node, type Operand, parseTemplate, type Pipeline } from "./parser.ts";
import { goText, isFielded, isMap } from "./print.ts";

export { TemplateError } from "./lexer.ts";

export interface TemplateOptions {
  /** Replaces the functions (a table's header has its own). */
  readonly functions?: Readonly<Record<string, (...args: readonly unknown[]) => unknown>>;
  /** What a null field prints as; default `<no value>`. */
  readonly nullText?: (field: string) => string;
  /** A missing key of a map is an error (inspect). */
  readonly strict?: boolean;
}

/** A parsed template. */
export interface Template {
  execute(data: unknown, options?: TemplateOptions): string;
}

/** Throws TemplateError with Go's words. */
export function compileTemplate(source: string): Template {
  const nodes = parseTemplate(source, (name) => Object.hasOwn(functions, name) || shortCircuit.includes(name));
  return { execute: (data, options = {}) => new Execution(source, data, options).run(nodes) };
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
  constructor(text: string) {
    this.text = text;
  }
}

class Execution {
  readonly #source: string;
  readonly #options: TemplateOptions;
  readonly #functions: Readonly<Record<string, (...args: readonly unknown[]) => unknown>>;
  readonly #root: unknown;
  #variables: Variable[];

  constructor(source: string, data: unknown, options: TemplateOptions) {
    this.#source = source;
    this.#options = options;
    this.#functions = options.functions ?? functions;
    this.#root = data;
    this.#variables = [{ name: "$", value: data }];
  }

  run(nodes: readonly Node[]): string {
    return this.#list(nodes, this.#root);
  }

  #fail(operand: Operand, message: string, at: number = operand.at): never {
    throw new TemplateError(`template: :${position(this.#source, at)}: executing "" at <${operand.text}>: ${message}`);
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
      return this.#fail(head, message.startsWith("error calling") || message.startsWith("wrong type") ? message : `error calling ${head.name}: ${message}`);
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
    } else if (isMap(value)) {
      const key = keyOf(value, name);
      found = key === undefined ? undefined : value[key];
      if (found === undefined && this.#options.strict === true) this.#fail(operand, `map has no entry for key ${JSON.stringify(name)}`, at);
      if (found === null) return new NullField(this.#options.nullText?.(name) ?? "<no value>");
    } else if (value === null || value === undefined) {
      this.#fail(operand, `nil data; no entry for key ${JSON.stringify(name)}`, at);
    } else this.#fail(operand, `can't evaluate field ${name} in type ${Array.isArray(value) ? "[]interface {}" : typeof value}`, at);
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
