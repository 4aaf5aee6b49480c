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
  readonly method: string;
  readonly pattern: string;
  readonly expression: RegExp;
  readonly handler: Handler;
}

/** Routes by their first segment, so that a request is matched against a handful. Earlier routes win. */
export function compileRoutes(routes: readonly Route[]): ReadonlyMap<string, readonly Compiled[]> {
  const table = new Map<string, Compiled[]>();
  for (const [method, pattern, handler] of routes) {
    const source = pattern.replace(/\{[a-z]+(:\.\*)?\}/g, (_m, rest: string | undefined) => (rest ? "(.+)" : "([^/]+)"));
    const entry = { method, pattern, expression: new RegExp(`^${source}$`), handler };
    const key = firstSegment(pattern);
    const list = table.get(key);
    if (list) list.push(entry);
    else table.set(key, [entry]);
  }
  return table;
}

function firstSegment(path: string): string {
  const end = path.indexOf("/", 1);
  return end < 0 ? path : path.slice(0, end);
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
  const table = compileRoutes(routes);
  return async (request) => {
    try {
      for (const route of table.get(firstSegment(request.path)) ?? []) {
        if (route.method !== request.method) continue;
        const match = route.expression.exec(request.path);
        if (match === null) continue;
        context.guard?.(route.method, route.pattern);
        return await firstLine(await route.handler(request, context, ...match.slice(1).map(decode)), context.log);
      }
      return { kind: "json", status: 404, value: { message: "page not found" } };
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
 * Event-like streams (`eager`) answer at once and just end when they fail.
 */
async function firstLine(response: ApiResponse, log: Log): Promise<ApiResponse> {
  if (response.kind !== "lines" || response.eager) return response;
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
