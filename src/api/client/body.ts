/** What a caller may give as a body: a stream, bytes, or a value that becomes JSON. @module */
import { Readable } from "node:stream";

export function isByteStream(body: unknown): body is AsyncIterable<Uint8Array> {
  return typeof body === "object" && body !== null && Symbol.asyncIterator in body;
}

/** The body as bytes. */
export function toReadable(body: unknown): Readable {
  if (body === undefined) return Readable.from([], { objectMode: false });
  if (body instanceof Readable) return body;
  if (isByteStream(body)) return Readable.from(body, { objectMode: false });
  return Readable.from([body instanceof Uint8Array ? Buffer.from(body) : Buffer.from(JSON.stringify(body))], { objectMode: false });
}

/** The body as the value that it stands for. */
export async function parseJsonBody(body: unknown): Promise<unknown> {
  if (body instanceof Uint8Array) return JSON.parse(new TextDecoder().decode(body)) as unknown;
  if (!isByteStream(body)) return body;
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString("utf8")) as unknown;
}
