import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { giveBack, givingBack, pieceBytes, takePiece } from "./pieces.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  // What one test has given back is not the next one's.
  vi.runAllTimers();
  vi.useRealTimers();
});

test("a piece that is given back, whole or in part, is taken again; once", () => {
  const first = takePiece();
  expect(first.length).toBe(pieceBytes);
  expect(takePiece().buffer === first.buffer).toBe(false);
  giveBack(first.subarray(10, 20));
  giveBack(first);
  const again = takePiece();
  expect(again.buffer === first.buffer).toBe(true);
  expect(again.length).toBe(pieceBytes);
  expect(takePiece().buffer === first.buffer).toBe(false);
});

test("bytes that never were a piece are left alone", () => {
  const bytes = Buffer.allocUnsafeSlow(pieceBytes);
  giveBack(bytes);
  expect(takePiece().buffer === bytes.buffer).toBe(false);
});

test("nothing is kept for long", () => {
  const piece = takePiece();
  giveBack(piece);
  vi.runAllTimers();
  expect(takePiece().buffer === piece.buffer).toBe(false);
});

test("a stream's pieces are given back when the next but one is asked for", async () => {
  const used: ArrayBufferLike[] = [];
  const source = async function* () {
    for (let number = 0; number < 6; number++) {
      const piece = takePiece();
      used.push(piece.buffer);
      piece[0] = number;
      yield piece.subarray(0, 1);
    }
  };
  let before: Uint8Array | undefined;
  let number = 0;
  for await (const piece of givingBack(source())) {
    expect(piece[0]).toBe(number);
    if (before !== undefined) expect(before[0]).toBe(number - 1);
    before = piece;
    number++;
  }
  expect(number).toBe(6);
  expect(new Set(used).size).toBeLessThan(6);
});
