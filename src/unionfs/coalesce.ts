/** Bytes of a piece that is passed on. */
const pieceBytes = 256 * 1024;

/**
 * Joins small pieces of a stream: what comes of an archive of small files is headers, contents and padding in turn, and whoever takes it (a socket, a hash, a file) would pay for each.
 * A large piece is passed on as it is.
 */
export async function* coalesced(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void> {
  let joined = Buffer.allocUnsafe(pieceBytes);
  let used = 0;
  for await (const piece of source) {
    const large = piece.byteLength >= pieceBytes / 2;
    if (used > 0 && (large || used + piece.byteLength > pieceBytes)) {
      yield joined.subarray(0, used);
      // Whoever took it may hold it yet.
      joined = Buffer.allocUnsafe(pieceBytes);
      used = 0;
    }
    if (large) {
      yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    } else {
      joined.set(piece, used);
      used += piece.byteLength;
    }
  }
  if (used > 0) yield joined.subarray(0, used);
}
