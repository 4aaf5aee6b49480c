/**
 * Large pieces of bytes whose memory is used again. A stream of them that allocates each has the kernel map and clear fresh memory for all that goes through it; and an allocator that
 * keeps what was freed is left with holes (ADR 97).
 *
 * Whoever passes a piece on passes on the right to give it back, to one alone. Only who has it last, and is done with it, does so: it has been written, or copied. To give back nothing is
 * always right (a program that keeps what it reads from a stream does not know of this): then the piece is garbage like any other.
 * @module
 */

/** Bytes of a whole piece. */
export const pieceBytes: number = 512 * 1024;

/** Pieces that are kept: as many as the connections of a pull and those who write for them have at a time. */
const mostKept = 24;
/** For how long nobody must have given one back until none are kept. */
const keptMs = 60_000;

let kept: Buffer[] = [];
let forgetting: NodeJS.Timeout | undefined;
/** The memory of pieces that are out. */
const out = new WeakSet<ArrayBufferLike>();

/** A piece; what it contains is undefined. */
export function takePiece(): Buffer {
  const piece = kept.pop() ?? Buffer.allocUnsafeSlow(pieceBytes);
  out.add(piece.buffer);
  return piece;
}

/** The memory of a piece, or of a part of one, may be used again. Bytes that never were a piece are left alone. */
export function giveBack({ buffer }: Uint8Array): void {
  if (!out.delete(buffer) || kept.length >= mostKept) return;
  kept.push(Buffer.from(buffer));
  if (forgetting === undefined) forgetting = setTimeout(forget, keptMs).unref();
  else forgetting.refresh();
}

function forget(): void {
  forgetting = undefined;
  kept = [];
}

/** Passes pieces on, to one who is done with each when it asks for the next but one. */
export async function* givingBack(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  let before: Uint8Array | undefined;
  for await (const piece of pieces) {
    yield piece;
    if (before !== undefined) giveBack(before);
    before = piece;
  }
}
