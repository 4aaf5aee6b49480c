/** The API's calls with one kind of error, whichever way they go. @module */
import type { Duplex, Readable } from "node:stream";
import { type ApiCallOptions, type ApiClient, ApiError, ConnectionError } from "#api/client/mod.ts";
import { decodeLines } from "#api/types/ndjson.ts";
import { EngineError, type ErrorCode } from "#core/errors.ts";

/** What a status means where the server (docker's, say) gives no code of its own. */
const codeOf: Readonly<Record<number, ErrorCode>> = {
  304: "not-modified",
  400: "invalid",
  401: "unauthorized",
  403: "denied",
  404: "not-found",
  409: "conflict",
  501: "unsupported",
  503: "unavailable",
};

const codes: readonly string[] = [
  "not-found",
  "conflict",
  "not-modified",
  "invalid",
  "unsupported",
  "denied",
  "unauthorized",
  "unavailable",
  "cancelled",
  "kernel",
  "storage",
  "corrupt",
  "internal",
] satisfies ErrorCode[];

/** Any failure of a call as an {@link EngineError}; what a signal was aborted with stays what it is. */
export function asEngineError(error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted) return signal.reason;
  if (error instanceof ApiError) {
    // Checked against the list: a server may say anything.
    const code = codes.includes(error.code ?? "") ? (error.code as ErrorCode) : (codeOf[error.status] ?? "internal");
    return new EngineError(code, error.message, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      details: { status: error.status, ...(error.exitCode === undefined ? {} : { exitCode: error.exitCode }) },
    });
  }
  if (error instanceof ConnectionError) return new EngineError("unavailable", error.message, { cause: error });
  return error;
}

/** Settles with the work, or rejects with the signal's reason as soon as it is aborted: the work is then nobody's any more. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  signal.throwIfAborted();
  let stop: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    stop = () => reject(signal.reason as Error);
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** Ends a stream when the signal is aborted. */
function tie<S extends Readable | Duplex>(stream: S, signal: AbortSignal | undefined): S {
  if (signal === undefined) return stream;
  const stop = (): void => void stream.destroy(signal.reason as Error);
  signal.addEventListener("abort", stop, { once: true });
  stream.once("close", () => signal.removeEventListener("abort", stop));
  return stream;
}

export class Calls {
  readonly #client: ApiClient;

  constructor(client: ApiClient) {
    this.#client = client;
  }

  get host(): string {
    return this.#client.host;
  }

  /** @throws EngineError */
  async json<T>(method: string, path: string, options: ApiCallOptions = {}): Promise<T> {
    return this.#try(options.signal, () => this.#client.json<T>(method, path, options));
  }

  async stream(method: string, path: string, options: ApiCallOptions = {}): Promise<Readable> {
    const { body } = await this.#try(options.signal, () => this.#client.stream(method, path, options));
    return tie(body, options.signal);
  }

  async hijack(method: string, path: string, options: ApiCallOptions = {}): Promise<{ readonly stream: Duplex; readonly framed: boolean }> {
    const { stream, framed } = await this.#try(options.signal, () => this.#client.hijack(method, path, options));
    return { stream: tie(stream, options.signal), framed };
  }

  /** Objects of a reply that has one on each line. A line that is an error is thrown. */
  async *lines<T>(method: string, path: string, options: ApiCallOptions = {}): AsyncGenerator<T, void, undefined> {
    const body = await this.stream(method, path, options);
    try {
      for await (const value of decodeLines(body as AsyncIterable<Uint8Array>)) yield checkedLine<T>(value);
    } catch (error) {
      throw asEngineError(error, options.signal);
    } finally {
      body.destroy();
    }
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  async #try<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    try {
      return await orAborted(call(), signal);
    } catch (error) {
      throw asEngineError(error, signal);
    }
  }
}

function checkedLine<T>(line: unknown): T {
  const value = line as T & { readonly error?: string };
  if (typeof value.error === "string") throw new EngineError("internal", value.error);
  return value; // the caller names the line's type
}
