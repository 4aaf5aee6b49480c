/** The API without a socket: the server's router is called directly, and JSON values pass by reference (neither side changes them). @module */
import { Readable } from "node:stream";
import { parseJsonBody, toReadable } from "./body.ts";
import { encodeJson } from "#api/types/ndjson.ts";
import { Query } from "#api/types/query.ts";
import type { ApiRequest, ApiResponse, DirectStdio, Dispatch, ErrorBody, Headers, LocalContext } from "#api/types/transport.ts";
import { maxMinor, splitVersion } from "#api/types/version.ts";
import { type ApiCallOptions, type ApiClient, ApiError } from "./mod.ts";

export interface InProcessOptions {
  readonly dispatch: Dispatch;
  /** For messages: where the daemon listens. */
  readonly host: string;
}

const never = new AbortController().signal;

function requestOf(method: string, path: string, options: ApiCallOptions): ApiRequest {
  const { body } = options;
  let stream: Readable | undefined;
  return {
    method,
    path: splitVersion(path).path,
    minor: maxMinor,
    query: Query.of(options.query),
    headers: Object.fromEntries(Object.entries(options.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value])),
    json: () => parseJsonBody(body),
    get body() {
      stream ??= toReadable(body);
      return stream;
    },
    signal: options.signal ?? never,
    direct: options.direct as DirectStdio | undefined, // in-process callers give exactly this
    directory: options.directory as LocalContext | undefined, // and this
  };
}

function failure(response: ApiResponse): ApiError | undefined {
  if (!("status" in response) || (response.status < 400 && response.status !== 304)) return undefined;
  const body = (response.kind === "json" ? response.value : { message: "" }) as ErrorBody; // every error reply has this body
  return new ApiError(response.status, body.message, body.hint, body);
}

async function* encoded(lines: AsyncIterable<unknown>): AsyncGenerator<Buffer, void, undefined> {
  for await (const line of lines) yield Buffer.from(`${encodeJson(line)}\n`);
}

/** An {@link ApiClient} over a dispatch function. */
export function createInProcessClient(options: InProcessOptions): ApiClient {
  const call = async (method: string, path: string, given: ApiCallOptions): Promise<ApiResponse> => {
    const response = await options.dispatch(requestOf(method, path, given));
    const failed = failure(response);
    if (failed) throw failed;
    return response;
  };
  return {
    direct: true,
    host: options.host,
    async json<T>(method: string, path: string, given: ApiCallOptions = {}): Promise<T> {
      const response = await call(method, path, given);
      switch (response.kind) {
        case "json":
          return response.value as T; // the caller names the reply's type
        case "pending":
          return (await response.value) as T;
        case "empty":
          return undefined as T;
        case "text":
          return JSON.parse(response.text) as T;
        default:
          throw new Error(`${method} ${path}: expected one JSON answer, got a ${response.kind} reply`);
      }
    },
    async stream(method, path, given = {}) {
      const response = await call(method, path, given);
      const { status, body, contentType } = streamOf(response, `${method} ${path}`);
      const lower = (all: Headers = {}) => Object.fromEntries(Object.entries(all).map(([name, value]) => [name.toLowerCase(), value]));
      return {
        status,
        headers: { ...("headers" in response ? lower(response.headers) : {}), "content-type": contentType },
        body,
        trailers: () => ("trailers" in response ? lower(response.trailers?.()) : {}),
      };
    },
    async hijack(method, path, given = {}) {
      const response = await call(method, path, given);
      if (response.kind !== "hijack") throw new Error(`${method} ${path}: expected a stream, got a ${response.kind} reply`);
      return { stream: response.stream, framed: response.framed };
    },
    async close() {},
  };
}

function streamOf(response: ApiResponse, what: string): { readonly status: number; readonly contentType: string; readonly body: Readable } {
  switch (response.kind) {
    case "bytes":
      return {
        status: response.status,
        contentType: response.contentType,
        body: response.body instanceof Readable ? response.body : Readable.from(response.body, { objectMode: false }),
      };
    case "lines":
      return { status: response.status, contentType: "application/json", body: Readable.from(encoded(response.lines), { objectMode: false }) };
    case "json":
      return {
        status: response.status,
        contentType: "application/json",
        body: Readable.from([Buffer.from(`${encodeJson(response.value)}\n`)], { objectMode: false }),
      };
    case "text":
      return { status: response.status, contentType: response.contentType, body: Readable.from([Buffer.from(response.text)], { objectMode: false }) };
    case "empty":
      return { status: response.status, contentType: "", body: Readable.from([], { objectMode: false }) };
    default:
      throw new Error(`${what}: expected a byte stream, got a ${response.kind} reply`);
  }
}
