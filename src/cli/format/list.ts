/** Lists of things: a table, a template for each, or JSON lines. @module */
import { compileTemplate, type Template, TemplateError, type TemplateOptions } from "./template.ts";
import { fielded, type Fielded } from "./print.ts";
import { functions as bodyFunctions, headerFunctions } from "./functions.ts";
import { alignColumns } from "./tabwriter.ts";

/** A field of an item: the header over it, and its value. */
export interface Column<T> {
  readonly header: string;
  readonly value: (item: T) => unknown;
}

export type Columns<T> = Readonly<Record<string, Column<T>>>;

/** `{{json .}}` gives all columns; `Label` is a function and is left out. */
export function row<T>(item: T, columns: Columns<T>, label?: (item: T, name: string) => string): Fielded {
  return {
    [fielded]: true,
    field: (name) => {
      if (name === "Label" && label !== undefined) return (key: string) => label(item, key);
      return Object.hasOwn(columns, name) ? columns[name]!.value(item) : undefined;
    },
    toJSON: () =>
      Object.fromEntries(
        Object.keys(columns)
          .sort()
          .map((name) => [name, columns[name]!.value(item)]),
      ),
  };
}

/** The header row: words instead of values. `.Label "com.example.my-key"` is headed by "my key". */
function headerRow<T>(columns: Columns<T>): Fielded {
  return {
    [fielded]: true,
    field: (name) => {
      if (name === "Label") return (key: string) => key.slice(key.lastIndexOf(".") + 1).replace(/[-_]/g, " ");
      return Object.hasOwn(columns, name) ? columns[name]!.header : "<no value>";
    },
    toJSON: () => ({}),
  };
}

export interface ListOptions<T> {
  readonly columns: Columns<T>;
  /** As given: "", "table", "table TEMPLATE", "json", TEMPLATE. */
  readonly format: string;
  /** Template of the plain table. */
  readonly table: string;
  /** Template of `-q`. */
  readonly quiet?: string | undefined;
  /** Template of docker's format "raw", a line for each field. */
  readonly raw?: string;
  readonly label?: (item: T, name: string) => string;
}

/** Go's encoding/json escapes these in what a row's own encoder wrote. */
function escapeHtml(json: string): string {
  return json.replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A row as one line of JSON. */
export function rowJson(value: Fielded): string {
  return escapeHtml(JSON.stringify(value.toJSON()));
}

/** Escapes in a `--format` on the command line: `\t` and `\n` mean tab and newline. */
function unescapeText(format: string): string {
  return format.trim().replaceAll("\\t", "\t").replaceAll("\\n", "\n");
}

/** What a format asks for. Throws Error with docker's words for a broken template. */
export function parseListFormat<T>({ format, table, quiet, raw }: Pick<ListOptions<T>, "format" | "table" | "quiet" | "raw">): {
  readonly table: boolean;
  readonly template: string;
} {
  if (quiet !== undefined && (format === "" || format === "table")) return { table: false, template: quiet };
  if (format === "" || format === "table") return { table: true, template: table };
  if (format === "json") return { table: false, template: "{{json .}}" };
  if (format === "raw" && raw !== undefined) return { table: false, template: raw };
  const isTable = format.startsWith("table");
  return { table: isTable, template: unescapeText(isTable ? format.slice(5) : format) };
}

/** The list as text, ready to print. */
export function formatList<T>(items: readonly T[], options: ListOptions<T>): string {
  const { table, template } = parseListFormat(options);
  const compiled = compile(template);
  const jsonOf = (value: unknown) =>
    typeof value === "object" && value !== null && fielded in value ? rowJson(value as Fielded) : JSON.stringify(value ?? null); // marked
  const lines: string[] = [];
  if (table) lines.push(compiled.execute(headerRow(options.columns), { functions: headerFunctions }));
  for (const item of items) {
    lines.push(compiled.execute(row(item, options.columns, options.label), { functions: { ...bodyFunctions, json: jsonOf } }));
  }
  const text = lines.map((line) => `${line}\n`).join("");
  return table ? alignColumns(text) : text;
}

/** A template whose errors are for who wrote it: Error in docker's words. */
export function compile(source: string): Template {
  const explained = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      if (error instanceof TemplateError) throw new Error(`template parsing error: ${error.message}`, { cause: error });
      throw error;
    }
  };
  const template = explained(() => compileTemplate(source));
  return { execute: (data, options?: TemplateOptions) => explained(() => template.execute(data, options)) };
}
