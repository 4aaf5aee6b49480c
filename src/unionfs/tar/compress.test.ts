import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compress } from "./compress.ts";
import { deflateSource } from "./deflate.gen.ts";
import { Deflater, memberBytes } from "./deflate.ts";

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
const collect = async (source: AsyncIterable<Uint8Array>) => {
  const all: Uint8Array[] = [];
  // A piece's memory is used again.
  for await (const one of source) all.push(Buffer.from(one));
  return Buffer.concat(all);
};
const deflater = new Deflater();
const member = (bytes: Uint8Array) => {
  deflater.input.set(bytes);
  return Buffer.from(deflater.member(bytes.byteLength));
};

describe("a gzip stream", () => {
  test.each([0, 1, memberBytes - 1, memberBytes, memberBytes + 1, 3_500_000])("of %i bytes: the same however they come", async (length) => {
    const bytes = Buffer.from(
      randomBytes(Math.ceil(length / 2))
        .toString("hex")
        .slice(0, length),
    );
    const one = await collect(compress(inPieces(bytes, 100_001), deflater));
    expect(gunzipSync(one).equals(bytes)).toBe(true);
    expect((await collect(compress(inPieces(bytes, 2_000_000), new Deflater()))).equals(one)).toBe(true);
    expect((await collect(compress(inPieces(bytes, 4096), deflater))).equals(one)).toBe(true);
  });

  // Somebody who changes the compressor changes the digests of all layers that are pushed: this is where he notices.
  test("has the bytes that it had in earlier versions", () => {
    const lines = Array.from({ length: 20_000 }, (_, i) => `${i} ${(i * 7919) % 1000} usr/lib/package-${(i * 31) % 97}/file.js\n`).join("");
    expect(
      createHash("sha256")
        .update(member(Buffer.from(lines)))
        .digest("hex"),
    ).toBe("784f5dad984e5c29b2a7455e2ffd22523549e31fc7f93b8a7d0eadd9086e1bbe");
  });

  test("is made by what native/deflate.ts says now", () => {
    const source = readFileSync(join(import.meta.dirname, "../../../native/deflate.ts"));
    expect(createHash("sha256").update(source).digest("hex"), "run scripts/gen-wasm.mjs").toBe(deflateSource);
  });
});

describe("a member", () => {
  const repeated = (unit: Buffer, length: number) => Buffer.alloc(length, unit);
  const noise = randomBytes(memberBytes);
  const skewed = Buffer.alloc(121_392);
  // Counts as Fibonacci's numbers are what makes the longest codes.
  for (let at = 0, symbol = 0, [few, many] = [1, 1]; at < skewed.length; symbol++) {
    skewed.fill(symbol, at, (at += few));
    [few, many] = [many, few + many];
  }
  const shuffled = Buffer.from(skewed);
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = (i * 7_654_321) % (i + 1);
    [shuffled[i], shuffled[j]] = [shuffled[j]!, shuffled[i]!];
  }
  test.each<[string, Buffer]>([
    ["zeros", Buffer.alloc(memberBytes)],
    ["one byte of each", Buffer.from(Array.from({ length: 256 }, (_, i) => i))],
    ["noise", noise],
    ["noise that comes again as far back as the window reaches", repeated(noise.subarray(0, 32_768), memberBytes)],
    ["noise that comes again one byte beyond the window", repeated(noise.subarray(0, 32_769), memberBytes)],
    ["matches longer than the longest", repeated(noise.subarray(0, 300), 100_000)],
    [
      "every distance",
      Buffer.concat(Array.from({ length: 400 }, (_, i) => Buffer.concat([noise.subarray(0, 6), noise.subarray(1000, 1000 + i * 5)]))).subarray(0, memberBytes),
    ],
    ["skewed counts", skewed],
    ["skewed counts in disorder", shuffled],
    ["noise behind text", Buffer.concat([repeated(Buffer.from("all work and no play "), 140_000), noise.subarray(0, 200_000)])],
    ["a program", readFileSync(process.execPath).subarray(4 << 20, 5 << 20)],
  ])("of %s", (_, bytes) => {
    const compressed = member(bytes);
    expect(gunzipSync(compressed).equals(bytes)).toBe(true);
    expect(compressed.byteLength).toBeLessThanOrEqual(bytes.byteLength + 18 + 5 * (2 * Math.ceil(bytes.byteLength / 65_536) + 1));
    // What was compressed before has no part in it.
    expect(Buffer.from(new Deflater().member(0)).byteLength).toBeGreaterThan(18);
    const fresh = new Deflater();
    fresh.input.set(bytes);
    expect(compressed.equals(fresh.member(bytes.byteLength))).toBe(true);
  });

  test("of anything", () => {
    const unit = fc.uint8Array({ minLength: 1, maxLength: 40 });
    const bytes = fc
      .array(fc.tuple(unit, fc.integer({ min: 1, max: 400 })), { maxLength: 60 })
      .map((parts) => Buffer.concat(parts.map(([piece, times]) => Buffer.alloc(piece.byteLength * times, piece))));
    fc.assert(
      fc.property(bytes, (all) => gunzipSync(member(all.subarray(0, memberBytes))).equals(all.subarray(0, memberBytes))),
      { numRuns: 300 },
    );
  });
});
