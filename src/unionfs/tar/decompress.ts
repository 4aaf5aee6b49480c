import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { EngineError } from "#core/errors.ts";
import { corrupt } from "../bytes.ts";
import { unzstd } from "./zstd.ts";

export type Compression = "none" | "gzip" | "zstd";

/** Recognizes a compression by its first bytes (6 suffice). Those that are known and not read are an EngineError "unsupported". */
export function detectCompression(head: Uint8Array): Compression {
  const starts = (...bytes: number[]) => head.length >= bytes.length && bytes.every((byte, i) => head[i] === byte);
  if (starts(0x1f, 0x8b)) return "gzip";
  // A zstd frame, or a skippable one (0x184D2A50 to 5F) as pzstd puts in front.
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return "zstd";
  if (head.length >= 4 && (head[0]! & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18) return "zstd";
  if (starts(0x42, 0x5a, 0x68)) throw unsupported("bzip2", "bunzip2");
  if (starts(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) throw unsupported("xz", "xz -d");
  return "none";
}

function unsupported(name: string, command: string): EngineError {
  return new EngineError("unsupported", `the archive is compressed with ${name}, which is not supported: only gzip and zstd are`, {
    hint: `decompress it first: ${command}`,
  });
}

/** A tar stream that may be compressed with gzip or zstd → the plain one. Damaged data is an EngineError "corrupt". */
export async function* decompress(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  let head: Buffer = Buffer.alloc(0);
  let ended = false;
  while (head.length < 6 && !ended) {
    const { done, value } = await iterator.next();
    if (done === true) ended = true;
    else head = head.length === 0 ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : Buffer.concat([head, value]);
  }
  const whole = withHead(head, ended ? undefined : iterator);
  let compression: Compression;
  try {
    compression = detectCompression(head);
  } catch (error) {
    await iterator.return?.();
    throw error;
  }
  if (compression === "none") yield* whole;
  else if (compression === "gzip") yield* gunzip(whole);
  else yield* unzstd(whole);
}

async function* withHead(head: Buffer, rest: AsyncIterator<Uint8Array> | undefined): AsyncIterable<Uint8Array> {
  try {
    if (head.length > 0) yield head;
    if (rest === undefined) return;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest?.return?.();
  }
}

/** gunzip in libuv's thread pool; several members in a row are one stream. */
async function* gunzip(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  // The loop below sees every error that the pipeline ends with.
  const plain = pipeline(Readable.from(source, { objectMode: false }), createGunzip({ chunkSize: 128 * 1024 }), () => undefined);
  try {
    for await (const chunk of plain) yield chunk as Buffer;
  } catch (error) {
    const code = String((error as { code?: unknown }).code);
    if (code.startsWith("Z_")) throw corrupt(code === "Z_BUF_ERROR" ? "gzip data is truncated" : `invalid gzip data: ${(error as Error).message}`, error);
    throw error;
  }
}
