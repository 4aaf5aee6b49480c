/**
 * The Engine API from the caller's side. Two transports behind one interface: HTTP over a unix or TCP socket, and (inside the daemon)
 * the server's router called directly, without a socket or JSON text.
 * @module
 */
import type { Duplex, Readable } from "node:stream";

export interface ApiCallOptions {
  readonly query?: Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;
  /** JSON body, or a byte stream. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** In-process transport only ({@link ApiClient.direct}): hand the stub's descriptors to the monitor instead of attaching. */
  readonly direct?: unknown;
  /** In-process transport only: a build's context that the engine reads itself. */
  readonly directory?: unknown;
}

/** Status ≥ 400 (and 304). `message` is the server's. */
export class ApiError extends Error {
  readonly status: number;
  readonly hint: string | undefined;
  /** The engine's ErrorCode, where the server told it. */
  readonly code: string | undefined;
  /** What `run` should exit with (125, 126, 127), where the server told it. */
  readonly exitCode: number | undefined;
  constructor(status: number, message: string, hint?: string, more: { readonly code?: string; readonly exitCode?: number } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.hint = hint;
    this.code = more.code;
    this.exitCode = more.exitCode;
  }
}

/** No daemon answered. */
export class ConnectionError extends Error {}

/** A streamed answer. */
export interface Streamed {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readable;
  /** What is said behind the body, once it has ended; lower-case names. */
  trailers(): Readonly<Record<string, string>>;
}

export interface ApiClient {
  /** One JSON answer (undefined for 204). Throws ApiError. `path` has no version prefix: "/containers/json". */
  json<T>(method: string, path: string, options?: ApiCallOptions): Promise<T>;
  /** A streamed answer. */
  stream(method: string, path: string, options?: ApiCallOptions): Promise<Streamed>;
  /** attach, exec start. Half-open: end() is EOF on stdin. */
  hijack(method: string, path: string, options?: ApiCallOptions): Promise<{ readonly stream: Duplex; readonly framed: boolean }>;
  /** Whether `direct` is possible. */
  readonly direct: boolean;
  /** "unix:///run/wherry/wherry.sock", for messages. */
  readonly host: string;
  close(): Promise<void>;
}
