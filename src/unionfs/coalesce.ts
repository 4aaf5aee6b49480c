import { giveBack, pieceBytes, takePiece } from "#core/pieces.ts";

/** What is not copied. Bytes. */
const largeBytes = 128 * 1024;

/**
 * Joins small pieces of a stream: what comes of an archive of small files is headers, contents and padding in turn, and whoever takes it (a socket, a hash, a file) would pay for each.
 * A large piece is passed on as it is; what is joined are pieces that may be given back.
 */
export async function* coalesced(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void> {
  let joined: Buffer | undefined;
  let used = 0;
  for await (const piece of source) {
    const large = piece.byteLength >= largeBytes;
    if (joined !== undefined && (large || used + piece.byteLength > pieceBytes)) {
      yield joined.subarray(0, used);
      joined = undefined;
      used = 0;
    }
    if (large) {
      yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    } else {
      joined ??= takePiece();
      joined.set(piece, used);
      used += piece.byteLength;
      giveBack(piece);
    }
  }
  if (joined !== undefined) yield joined.subarray(0, used);
}
