/**
 * What stands between a transport and the router: a request and a response that know nothing of HTTP's sockets. The HTTP server and the in-process
 * client both speak it, so a route is written once.
 * @module
 */
import type { Duplex, Readable } from "node:stream";
import type { DirectStdio, LocalContext } from "#engine/mod.ts";
import type { Query } from "./query.ts";

export type { DirectStdio, LocalContext };

export interface ApiRequest {
  /** Upper case. */
  readonly method: string;
  /** Without version prefix and query, still percent-encoded. */
  readonly path: string;
  /** API version asked for: 44 for /v1.44. */
  readonly minor: number;
  readonly query: Query;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The body as JSON, bounded in size and time; undefined when there is none. EngineError invalid for anything else. */
  json(): Promise<unknown>;
  /** The body as bytes (then {@link json} must not be called). */
  readonly body: Readable;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
  /** In-process only. */
  readonly direct?: DirectStdio | undefined;
  /** In-process only: where the body of a build would come from. */
  readonly directory?: LocalContext | undefined;
}

export type Headers = Readonly<Record<string, string>>;

export type ApiResponse =
  | { readonly kind: "empty"; readonly status: number; readonly headers?: Headers }
  /** `value` must be plain JSON data and is never changed by either side. `lasting`: an object that is answered with again, so its text is worth keeping. */
  | { readonly kind: "json"; readonly status: number; readonly value: unknown; readonly lasting?: boolean; readonly headers?: Headers }
  /** Header at once, JSON when it settles (`wait`). A rejection after the header can only end the connection, so `value` should not reject. */
  | { readonly kind: "pending"; readonly status: number; readonly value: Promise<unknown> }
  | { readonly kind: "text"; readonly status: number; readonly contentType: string; readonly text: string; readonly headers?: Headers }
  /** `trailers`: what is to be said when the body has ended. */
  | {
      readonly kind: "bytes";
      readonly status: number;
      readonly contentType: string;
      readonly body: AsyncIterable<Uint8Array>;
      readonly headers?: Headers;
      readonly trailers?: () => Headers;
    }
  /**
   * NDJSON. `eager`: the header goes out before the first line (events); else the first line is awaited, so that an error before it becomes a status. An error
   * behind the first line becomes an `{"errorDetail","error"}` line.
   */
  | { readonly kind: "lines"; readonly status: number; readonly lines: AsyncIterable<unknown>; readonly eager: boolean; readonly contentType?: string }
  /** Both directions raw. `stdin` false: what the client sends is dropped. `framed`: Docker's 8-byte-header frames. `webSocket`: within messages of a WebSocket, never framed. */
  | {
      readonly kind: "hijack";
      readonly stream: Duplex;
      readonly framed: boolean;
      readonly stdin: boolean;
      readonly contentType: string;
      readonly webSocket?: boolean;
    }
  /** The connection leaves HTTP/1.1 (101, `Upgrade: h2c`) for whoever takes it. */
  | { readonly kind: "upgrade"; readonly protocol: string; readonly take: (socket: Duplex) => void };

/** The router as a function. Never rejects: errors are responses. */
export type Dispatch = (request: ApiRequest) => Promise<ApiResponse>;

/** Body of every error reply. `hint`, `code` and `exitCode` are ours. */
export interface ErrorBody {
  readonly message: string;
  readonly hint?: string;
  readonly code?: string;
  /** What `run` should exit with: 125, 126, 127. */
  readonly exitCode?: number;
}

/** Media types of hijacked and log streams (since 1.42 framed streams have their own). */
export function streamType(framed: boolean, minor: number): string {
  return framed && minor >= 42 ? "application/vnd.docker.multiplexed-stream" : "application/vnd.docker.raw-stream";
}
