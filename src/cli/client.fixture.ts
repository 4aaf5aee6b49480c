/** An API client for tests: answers come from a table, and what was called is kept, in order. */
import { type PassThrough, Readable } from "node:stream";
import type { ApiCallOptions, ApiClient } from "#api/client/mod.ts";

export interface Called {
  readonly kind: "json" | "stream" | "hijack";
  /** "POST /containers/create". */
  readonly route: string;
  readonly options: ApiCallOptions;
}

export interface TestClient extends ApiClient {
  readonly calls: Called[];
  /** Routes in order. */
  routes(): string[];
}

/** An answer: a value (JSON, or a Readable for a stream), or a function of the call. */
export type TestAnswers = Readonly<Record<string, unknown>>;

export function testClient(answers: TestAnswers, { direct = false }: { readonly direct?: boolean } = {}): TestClient {
  const calls: Called[] = [];
  const answer = async (kind: Called["kind"], method: string, path: string, options: ApiCallOptions): Promise<unknown> => {
    const route = `${method} ${decodeURIComponent(path)}`;
    calls.push({ kind, route, options });
    if (!Object.hasOwn(answers, route)) throw new Error(`no answer for ${route}`);
    const value = answers[route];
    return typeof value === "function" ? (value as (o: ApiCallOptions) => unknown)(options) : value;
  };
  return {
    direct,
    host: "unix:///test.sock",
    calls,
    routes: () => calls.map((c) => c.route),
    json: async <T>(method: string, path: string, options: ApiCallOptions = {}) => (await answer("json", method, path, options)) as T,
    stream: async (method, path, options = {}) => {
      const value = await answer("stream", method, path, options);
      const body =
        value instanceof Readable ? value : Readable.from([Buffer.from(typeof value === "string" ? value : JSON.stringify(value))], { objectMode: false });
      return { status: 200, headers: {}, body, trailers: () => ({}) };
    },
    hijack: async (method, path, options = {}) => {
      const stream = await answer("hijack", method, path, options);
      return { stream: stream as PassThrough, framed: false };
    },
    close: async () => {},
  };
}
