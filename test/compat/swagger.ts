/**
 * Docker's own description of its API (Swagger 2.0) as a check of our replies. Only what the description uses: $ref, allOf, type, properties, required, items,
 * additionalProperties, enum, x-nullable.
 * @module
 * @see https://swagger.io/specification/v2/
 */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";

interface Schema {
  readonly $ref?: string;
  readonly allOf?: readonly Schema[];
  readonly type?: string;
  readonly format?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly additionalProperties?: Schema | boolean;
  readonly enum?: readonly unknown[];
  readonly "x-nullable"?: boolean;
}

interface Operation {
  readonly responses: Readonly<Record<string, { readonly schema?: Schema }>>;
}

interface Description {
  readonly definitions: Readonly<Record<string, Schema>>;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

/** How many parts of a path are open. */
const open = (path: string): number => path.split("{").length;

const folder = new URL("../../../shared/spec/docker-api/", import.meta.url);

/** Where a version's description would lie; it is data beside the repository, not in it. */
export function descriptionPath(minor: number): string {
  return fileURLToPath(new URL(`v1.${minor}.yaml`, folder));
}

/** Pointers in Docker's own structs: it sends null for "not set" and the description does not say so. */
const sentAsNull: readonly string[] = [".HostConfig.MemorySwappiness", ".HostConfig.OomKillDisable", ".ExitCode"];

/** Read once for each version in a process. */
const loaded = new Map<number, Swagger | undefined>();

/** Docker sends most fields that are new to clients of older versions too: what the newest description has is no surprise in an older reply. */
const newest = (): Swagger | undefined => Swagger.shared(50);

export class Swagger {
  readonly #description: Description;
  readonly #paths: readonly (readonly [path: string, expression: RegExp])[];
  /** `definition.property` that some reply has carried. */
  readonly seen: Set<string> = new Set<string>();

  constructor(description: Description) {
    this.#description = description;
    // Fixed segments before open ones; only an image's name may hold slashes.
    this.#paths = Object.keys(description.paths)
      .sort((a, b) => open(a) - open(b))
      .map((path) => {
        const source = path.replace(/\{[a-z]+\}/g, /^\/(images|distribution|plugins)\//.test(path) ? "(.+)" : "([^/]+)");
        return [path, new RegExp(`^${source}$`)] as const;
      });
  }

  /** Undefined when the description is not there. */
  static shared(minor: number): Swagger | undefined {
    if (!loaded.has(minor)) loaded.set(minor, Swagger.load(minor));
    return loaded.get(minor);
  }

  /** The path as it is described: `/containers/{id}/json`. Undefined when the description has none for it. */
  pathOf(method: string, path: string): string | undefined {
    return this.#paths.find(
      ([described, expression]) => expression.test(path) && this.#description.paths[described]?.[method.toLowerCase()] !== undefined,
    )?.[0];
  }

  /** Undefined when the description is not there. */
  static load(minor: number): Swagger | undefined {
    const path = descriptionPath(minor);
    return existsSync(path) ? new Swagger(parse(readFileSync(path, "utf8")) as Description) : undefined;
  }

  /** What is wrong with a reply's body, each with its path; empty when it conforms. `path` as in the description: `/containers/{id}/json`. */
  check(method: string, path: string, status: number, body: unknown): string[] {
    const operation = this.#description.paths[path]?.[method.toLowerCase()];
    if (!operation) return [`${method} ${path} is not described`];
    const response = operation.responses[String(status)];
    if (!response) return [`status ${status} is not described`, ...(status >= 400 ? this.checkDefinition("ErrorResponse", body) : [])];
    if (!response.schema) return body === undefined ? [] : ["a body is not described"];
    const problems: string[] = [];
    this.#value(response.schema, body, "", problems, path);
    return problems;
  }

  /** Only whether such a status is described. */
  checkStatus(method: string, path: string, status: number): string[] {
    return this.#description.paths[path]?.[method.toLowerCase()]?.responses[String(status)] ? [] : [`status ${status} is not described`];
  }

  /** Checks against one definition. */
  checkDefinition(name: string, body: unknown): string[] {
    const problems: string[] = [];
    this.#value({ $ref: `#/definitions/${name}` }, body, "", problems, name);
    return problems;
  }

  /** Properties of a definition that no reply has carried yet. */
  unseen(name: string): string[] {
    const schema = this.#flatten({ $ref: `#/definitions/${name}` });
    return Object.keys(schema.properties ?? {}).filter((property) => !this.seen.has(`${name}.${property}`));
  }

  /** Whether a definition has a property. */
  describes(definition: string, property: string): boolean {
    return (
      this.#description.definitions[definition] !== undefined && this.#flatten({ $ref: `#/definitions/${definition}` }).properties?.[property] !== undefined
    );
  }

  /** Follows $ref and merges allOf. */
  #flatten(schema: Schema): Schema {
    if (schema.$ref) {
      const found = this.#description.definitions[schema.$ref.replace("#/definitions/", "")];
      if (!found) throw new Error(`${schema.$ref} is not in the description`);
      return this.#flatten({ ...found, ...(schema["x-nullable"] === undefined ? {} : { "x-nullable": schema["x-nullable"] }) });
    }
    if (!schema.allOf) return schema;
    const parts = [...schema.allOf.map((part) => this.#flatten(part)), schema];
    const type = parts.map((part) => part.type).find((one) => one !== undefined && one !== "object");
    if (type !== undefined) return Object.assign({}, ...parts, { allOf: undefined }) as Schema;
    return {
      ...schema,
      type: "object",
      properties: Object.assign({}, ...parts.map((part) => part.properties ?? {})) as Record<string, Schema>,
      required: parts.flatMap((part) => part.required ?? []),
    };
  }

  #value(given: Schema, value: unknown, at: string, problems: string[], owner: string): void {
    const name = given.$ref?.replace("#/definitions/", "") ?? owner;
    const schema = this.#flatten(given);
    const where = at === "" ? "body" : at;
    if (value === null || value === undefined) {
      // Go writes nil lists and maps as null, and the description mostly forgets to say so.
      if (schema["x-nullable"] || schema.type === "array" || schema.type === "object" || schema.properties || schema.type === undefined) return;
      if (sentAsNull.some((field) => at.endsWith(field))) return;
      problems.push(`${where}: ${value === null ? "null" : "missing"}, expected ${schema.type}`);
      return;
    }
    if (schema.enum && !schema.enum.some((one) => JSON.stringify(one) === JSON.stringify(value)))
      problems.push(`${where}: ${JSON.stringify(value)} is not one of ${JSON.stringify(schema.enum)}`);
    switch (schema.type) {
      case "string":
        if (typeof value !== "string") problems.push(`${where}: expected a string, got ${JSON.stringify(value)}`);
        return;
      case "boolean":
        if (typeof value !== "boolean") problems.push(`${where}: expected a boolean, got ${JSON.stringify(value)}`);
        return;
      case "integer":
        if (!Number.isInteger(value)) problems.push(`${where}: expected an integer, got ${JSON.stringify(value)}`);
        return;
      case "number":
        if (typeof value !== "number") problems.push(`${where}: expected a number, got ${JSON.stringify(value)}`);
        return;
      case "array":
        if (!Array.isArray(value)) problems.push(`${where}: expected a list, got ${JSON.stringify(value)}`);
        else if (schema.items) for (const [i, item] of value.entries()) this.#value(schema.items, item, `${at}[${i}]`, problems, name);
        return;
      default:
        if (schema.properties || schema.additionalProperties || schema.type === "object") this.#object(schema, value, at, problems, name);
    }
  }

  #object(schema: Schema, value: unknown, at: string, problems: string[], name: string): void {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      problems.push(`${at === "" ? "body" : at}: expected an object, got ${JSON.stringify(value)}`);
      return;
    }
    for (const required of schema.required ?? []) if (!(required in value)) problems.push(`${at}.${required}: missing`);
    for (const [key, item] of Object.entries(value)) {
      const property = schema.properties?.[key];
      this.seen.add(`${name}.${key}`);
      if (property) this.#value(property, item, `${at}.${key}`, problems, `${name}.${key}`);
      else if (typeof schema.additionalProperties === "object") this.#value(schema.additionalProperties, item, `${at}.${key}`, problems, `${name}.*`);
      else if (schema.properties && schema.additionalProperties !== true && !newest()?.describes(name, key)) problems.push(`${at}.${key}: not described`);
    }
  }
}
