import { type Deflater, memberBytes } from "./deflate.ts";

/**
 * gzip without name and time, in members of equal length (RFC 1952: a stream is one member after the other): the same bytes for the same archive, however its pieces come. The compressor and
 * the members' length are part of a layer's digest: a change changes digests (ADR 86). A piece is valid until the next one is asked for.
 */
export async function* compress(tar: AsyncIterable<Uint8Array>, deflater: Deflater): AsyncGenerator<Uint8Array> {
  let used = 0;
  let empty = true;
  for await (const piece of tar) {
    for (let at = 0; at < piece.byteLength; ) {
      const part = piece.subarray(at, at + memberBytes - used);
      deflater.input.set(part, used);
      used += part.byteLength;
      at += part.byteLength;
      if (used < memberBytes) continue;
      yield deflater.member(used);
      used = 0;
      empty = false;
    }
  }
  if (used > 0 || empty) yield deflater.member(used);
}
