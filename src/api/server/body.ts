/** Request bodies at the border: bounded in size and time. @module */
import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import { EngineError } from "#core/errors.ts";

/** Docker's own bound for JSON bodies is 4 MiB for most and none for some; create bodies of real programs stay below 1. */
export const maxJsonBytes: number = 8 * 1024 * 1024;
/** A client that trickles its JSON for longer than this is cut off. */
export const jsonTimeoutMs = 60_000;

const tooLarge = (): EngineError => new EngineError("invalid", `request body too large: more than ${maxJsonBytes} bytes of JSON`);

/** Docker's rule: a body needs `application/json`, no body needs nothing. */
export function checkJsonType(headers: IncomingHttpHeaders): void {
  const type = headers["content-type"];
  if (type === undefined || type === "") {
    if (hasBody(headers)) throw new EngineError("invalid", "unsupported Content-Type header (): must be 'application/json'");
    return;
  }
  const media = type.split(";", 1)[0]!.trim().toLowerCase();
  if (media !== "application/json") throw new EngineError("invalid", `unsupported Content-Type header (${type.slice(0, 80)}): must be 'application/json'`);
}

export function hasBody(headers: IncomingHttpHeaders): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

/** The text of a JSON body as a value; undefined for an empty one. */
export function parseJson(bytes: Uint8Array): unknown {
  if (bytes.length === 0) return undefined;
  checkDepth(bytes);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown;
  } catch (error) {
    throw new EngineError("invalid", `invalid JSON: ${(error as Error).message}`, { cause: error });
  }
}

/** Whoever walks a value recursively must come back: Docker's own bodies nest less than ten deep. */
const maxDepth = 200;

/** Brackets outside of strings. @throws EngineError "invalid" */
function checkDepth(bytes: Uint8Array): void {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (inString) {
      if (byte === 0x5c) i++;
      else if (byte === 0x22) inString = false;
    } else if (byte === 0x22) inString = true;
    else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > maxDepth) throw new EngineError("invalid", `invalid JSON: nested more than ${maxDepth} deep`);
    } else if (byte === 0x7d || byte === 0x5d) depth--;
  }
}

/** Reads a stream to its end, within the bounds. */
export async function readBounded(stream: Readable): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const late = setTimeout(() => stream.destroy(new EngineError("invalid", "request body did not arrive in time")), jsonTimeoutMs);
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxJsonBytes) throw tooLarge();
      chunks.push(chunk);
    }
  } finally {
    clearTimeout(late);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

/** Whatever the stream has next; undefined at its end. */
async function nextChunk(stream: Readable): Promise<Buffer | undefined> {
  for (;;) {
    const chunk = stream.read() as Buffer | null;
    if (chunk !== null) return chunk;
    if (stream.readableEnded || stream.destroyed) return undefined;
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        for (const name of ["readable", "end", "close", "error"]) stream.removeListener(name, settle);
        resolve();
      };
      for (const name of ["readable", "end", "close", "error"]) stream.on(name, settle);
    });
  }
}

/**
 * The body of a request whose connection will be hijacked: read exactly as far as it goes, because what follows belongs to the container's stdin.
 * @see RFC 9112 §6 (message body length), §7.1 (chunked)
 */
export async function readExact(stream: Readable, headers: IncomingHttpHeaders): Promise<Uint8Array> {
  let have: Buffer = Buffer.alloc(0);
  const more = async (): Promise<void> => {
    const chunk = await nextChunk(stream);
    if (chunk === undefined) throw new EngineError("invalid", "request body ended early");
    have = have.length === 0 ? chunk : Buffer.concat([have, chunk]);
  };
  const take = async (size: number): Promise<Buffer> => {
    while (have.length < size) await more();
    const part = have.subarray(0, size);
    have = have.subarray(size);
    return part;
  };
  const line = async (): Promise<string> => {
    for (;;) {
      const end = have.indexOf("\r\n");
      if (end >= 0) return (await take(end + 2)).toString("latin1", 0, end);
      if (have.length > 4096) throw new EngineError("invalid", "malformed chunked body");
      await more();
    }
  };
  const late = setTimeout(() => stream.destroy(new EngineError("invalid", "request body did not arrive in time")), jsonTimeoutMs);
  try {
    if (headers["transfer-encoding"] === undefined) {
      const size = Number(headers["content-length"] ?? 0);
      if (!Number.isSafeInteger(size) || size < 0) throw new EngineError("invalid", "malformed Content-Length");
      if (size > maxJsonBytes) throw tooLarge();
      return await take(size);
    }
    const parts: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const header = await line();
      const size = /^([0-9a-f]{1,8})(?:\s*;.*)?$/i.exec(header)?.[1];
      if (size === undefined) throw new EngineError("invalid", "malformed chunked body");
      const length = Number.parseInt(size, 16);
      if (length === 0) break;
      bytes += length;
      if (bytes > maxJsonBytes) throw tooLarge();
      parts.push(await take(length));
      if ((await line()) !== "") throw new EngineError("invalid", "malformed chunked body");
    }
    while ((await line()) !== ""); // trailers
    return Buffer.concat(parts);
  } finally {
    clearTimeout(late);
    if (have.length > 0) stream.unshift(have);
  }
}
