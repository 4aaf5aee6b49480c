import { promisify } from "node:util";
import { constants, gzip, gzipSync } from "node:zlib";

/** Bytes of the archive in one member of the gzip stream. */
const memberBytes = 1024 * 1024;
/** Level, strategy and the members' length are part of a layer's digest: a change changes digests (ADR 77). */
const options = { level: constants.Z_BEST_SPEED + 1, memLevel: 9, chunkSize: memberBytes };

/** One member of a gzip stream; the thread is busy with it for some 10 ms. */
export const memberNow = (bytes: Uint8Array): Uint8Array => gzipSync(bytes, options);
/** The same bytes, made in libuv's thread pool. */
export const memberInPool: (bytes: Uint8Array) => Promise<Uint8Array> = (bytes) => promisify(gzip)(bytes, options);

/**
 * gzip without name and time, in members of equal length (RFC 1952: a stream is one member after the other): the same bytes for the same archive, however its pieces come. One call for a member
 * costs less than a stream's hundred.
 */
export async function* compress(tar: AsyncIterable<Uint8Array>, member: (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>): AsyncGenerator<Uint8Array> {
  const gathered = Buffer.allocUnsafeSlow(memberBytes);
  let used = 0;
  let empty = true;
  for await (const piece of tar) {
    for (let at = 0; at < piece.byteLength; ) {
      const part = piece.subarray(at, at + memberBytes - used);
      gathered.set(part, used);
      used += part.byteLength;
      at += part.byteLength;
      if (used < memberBytes) continue;
      yield await member(gathered);
      used = 0;
      empty = false;
    }
  }
  if (used > 0 || empty) yield await member(gathered.subarray(0, used));
}
