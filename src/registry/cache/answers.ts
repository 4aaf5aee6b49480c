/** What a cache says, in the protocol's words. @module @see https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes */
import type { IncomingMessage, ServerResponse } from "node:http";
import { type EngineError, isEngineError } from "#core/errors.ts";

/** A refusal, thrown on the way and answered at the end. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (!isEngineError(error)) return new Refusal(500, "UNKNOWN", "internal error");
  return new Refusal(...statusOf(error), error.message);
}

function statusOf(error: EngineError): [number, string] {
  switch (error.code) {
    case "not-found":
      return [404, "NAME_UNKNOWN"];
    case "invalid":
      return [400, "UNSUPPORTED"];
    // This cache's credentials, not the client's: asking the client for some would not help.
    case "unauthorized":
    case "denied":
      return [403, "DENIED"];
    case "unavailable":
      return error.details["status"] === 429 ? [429, "TOOMANYREQUESTS"] : [502, "UNKNOWN"];
    case "corrupt":
    case "unsupported":
      return [502, "UNKNOWN"];
    default:
      return [500, "UNKNOWN"];
  }
}

export function sendJson(response: ServerResponse, status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): void {
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(status, { "content-type": "application/json", "content-length": String(body.length), ...headers }).end(body);
}

export function sendRefusal(response: ServerResponse, { status, code, message }: Refusal): void {
  sendJson(response, status, { errors: [{ code, message: message.slice(0, 1000) }] });
}

/** The body of a request that must be small. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Refusal(413, "SIZE_INVALID", `the body has more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** `bytes=0-99`, `bytes=100-`, `bytes=-100` of so many; undefined: the whole (also for what is no single range); "none": there is nothing there. Ends are inclusive. */
export function rangeOf(header: string | undefined, size: number): { readonly start: number; readonly end: number } | "none" | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "");
  if (match === null || (match[1] === "" && match[2] === "")) return undefined;
  if (match[1] === "") {
    const last = Math.min(Number(match[2]), size);
    return last === 0 ? "none" : { start: size - last, end: size - 1 };
  }
  const start = Number(match[1]);
  const end = match[2] === "" ? size - 1 : Math.min(Number(match[2]), size - 1);
  if (start >= size) return "none";
  return start > end ? undefined : { start, end };
}
