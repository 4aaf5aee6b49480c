/**
 * From method and path to a handler. Routes are data; the same table serves every transport.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { Engine } from "#engine/mod.ts";
import { errorLine } from "#api/types/progress.ts";
import type { ApiRequest, ApiResponse, Dispatch } from "#api/types/transport.ts";
import type { ScopedSockets } from "./scoped-sockets.ts";
import { errorResponse, messageOf } from "./status.ts";

export type Log = (level: "debug" | "info" | "warn" | "error", message: string) => void;

/** What handlers may use. */
export interface Context {
  readonly engine: Engine;
  /** wherry's version. */
  readonly version: string;
  readonly log: Log;
  /** Missing: there are none here. */
  readonly sockets?: ScopedSockets;
  /** Throws for a route (`METHOD`, pattern) that is not to be had. */
  readonly guard?: (method: string, pattern: string) => void;
}

export type Handler = (request: ApiRequest, context: Context, ...params: string[]) => ApiResponse | Promise<ApiResponse>;

/** `[method, pattern, handler]`. `{x}` is one path segment, `{x:.*}` may hold slashes (image names). */
export type Route = readonly [method: string, pattern: string, handler: Handler];

interface Compiled {
  readonly pattern: string;
  readonly handler: Handler;
  /** What is between slashes; undefined where anything may stand. */
  readonly segments: readonly (string | undefined)[];
  /** In place of {@link segments}, where a parameter may hold slashes. */
  readonly expression?: RegExp;
}

/** By method and first segment, so that a request is compared with a handful. Earlier routes win. */
export class RouteTable {
  readonly #lists = new Map<string, Compiled[]>();

  constructor(routes: readonly Route[]) {
    for (const [method, pattern, handler] of routes) {
      const segments = pattern.split("/").map((text) => (text.startsWith("{") ? undefined : text));
      const rest = pattern.includes(":.*}");
      const source = pattern.replace(/\{[a-z]+(:\.\*)?\}/g, (_m, any: string | undefined) => (any ? "(.+)" : "([^/]+)"));
      const entry = { pattern, handler, segments, ...(rest ? { expression: new RegExp(`^${source}$`) } : {}) };
      const key = `${method} ${segments[1]}`;
      const list = this.#lists.get(key);
      if (list) list.push(entry);
      else this.#lists.set(key, [entry]);
    }
  }

  /** `params` as they are in the path, still encoded. Undefined: there is no such route. */
  find(method: string, path: string): { readonly route: Compiled; readonly params: readonly string[] } | undefined {
    const segments = path.split("/");
    for (const route of this.#lists.get(`${method} ${segments[1]}`) ?? []) {
      const params = route.expression ? route.expression.exec(path)?.slice(1) : paramsOf(route.segments, segments);
      if (params) return { route, params };
    }
    return undefined;
  }
}

function paramsOf(pattern: readonly (string | undefined)[], segments: readonly string[]): string[] | undefined {
  if (pattern.length !== segments.length) return undefined;
  const params: string[] = [];
  for (let i = 0; i < segments.length; i++) {
    const [expected, found] = [pattern[i], segments[i]!]; // of one length
    if (expected === undefined && found !== "") params.push(found);
    else if (expected !== found) return undefined;
  }
  return params;
}

function decode(param: string): string {
  try {
    return decodeURIComponent(param);
  } catch (error) {
    throw new EngineError("invalid", `invalid path: ${param.slice(0, 80)}`, { cause: error });
  }
}

/** The router as a function that never rejects. */
export function createDispatch(routes: readonly Route[], context: Context): Dispatch {
  const table = new RouteTable(routes);
  return async (request) => {
    try {
      const found = table.find(request.method, request.path);
      if (found === undefined) return { kind: "json", status: 404, value: { message: "page not found" } };
      context.guard?.(request.method, found.route.pattern);
      const response = await found.route.handler(request, context, ...found.params.map(decode));
      return response.kind === "lines" && !response.eager ? await firstLine(response, context.log) : response;
    } catch (error) {
      logFault(error, `${request.method} ${request.path}`, context.log);
      return errorResponse(error);
    }
  };
}

/** Our own faults are logged with their stack; refusals are the client's business. */
export function logFault(error: unknown, what: string, log: Log): void {
  if (!(error instanceof EngineError)) log("error", `${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  else if (error.code === "internal" || error.code === "storage" || error.code === "kernel") log("warn", `${what}: ${error.message}`);
  else log("debug", `${what}: ${error.message}`);
}

/**
 * Awaits the first line of a progress stream, so that a failure before it still becomes a status; a later failure becomes a line.
 * Event-like streams (`eager`) answer at once and just end when they fail; they do not come here.
 */
async function firstLine(response: Extract<ApiResponse, { kind: "lines" }>, log: Log): Promise<ApiResponse> {
  const iterator = response.lines[Symbol.asyncIterator]();
  const first = await iterator.next();
  return { ...response, lines: rest(first, iterator, log) };
}

async function* rest(first: IteratorResult<unknown>, iterator: AsyncIterator<unknown>, log: Log): AsyncGenerator<unknown, void, undefined> {
  try {
    for (let item = first; !item.done; item = await iterator.next()) yield item.value;
  } catch (error) {
    logFault(error, "progress stream", log);
    yield errorLine(messageOf(error));
  } finally {
    await iterator.return?.();
  }
}
