import { randomBytes } from "node:crypto";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { compress, memberInPool, memberNow } from "./compress.ts";

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
const collect = async (source: AsyncIterable<Uint8Array>) => {
  const all: Uint8Array[] = [];
  for await (const one of source) all.push(one);
  return Buffer.concat(all);
};

test.each([0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 3_500_000])(
  "%i bytes: the same stream however they come, and whoever compresses",
  async (length) => {
    const bytes = Buffer.from(
      randomBytes(Math.ceil(length / 2))
        .toString("hex")
        .slice(0, length),
    );
    const now = await collect(compress(inPieces(bytes, 100_001), memberNow));
    expect(gunzipSync(now).equals(bytes)).toBe(true);
    expect((await collect(compress(inPieces(bytes, 2_000_000), memberNow))).equals(now)).toBe(true);
    expect((await collect(compress(inPieces(bytes, 4096), memberInPool))).equals(now)).toBe(true);
  },
);
