import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync, gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { inflateSource } from "./inflate.gen.ts";
import { gunzip } from "./inflate.ts";

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
/** Keeps each piece until the next but one is asked for, as a reader may. */
async function plainOf(packed: Uint8Array, size = 1 << 18, hashed = false): Promise<Buffer> {
  const parts: Buffer[] = [];
  let before: Uint8Array | undefined;
  for await (const piece of gunzip(inPieces(packed, size), { hashed })) {
    if (before !== undefined) parts.push(Buffer.from(before));
    before = piece;
  }
  return Buffer.concat([...parts, ...(before === undefined ? [] : [before])]);
}
const text = Buffer.from(Array.from({ length: 120_000 }, (_, i) => `line ${(i * 7919) % 10_007} of a text\n`).join(""));
const noise = randomBytes(700_000);
/** Long matches at every distance, near and far. */
const mixed = Buffer.concat([text.subarray(0, 40_000), noise.subarray(0, 32_768), text.subarray(0, 40_000), Buffer.alloc(100_000, "ab"), Buffer.alloc(70_000)]);

describe("gunzip", () => {
  test("gives what was compressed, by any level, strategy and window, in pieces of any size", async () => {
    for (const data of [text, noise, mixed, Buffer.alloc(2_000_000), Buffer.alloc(0), Buffer.from("x")])
      for (const options of [
        { level: 0 },
        { level: 1 },
        { level: 6 },
        { level: 9, memLevel: 1 },
        { strategy: 2 },
        { strategy: 3 },
        { strategy: 4 },
        { windowBits: 9 },
      ])
        for (const size of [1 << 18, 4099]) expect((await plainOf(gzipSync(data, options), size)).equals(data)).toBe(true);
    expect((await plainOf(gzipSync(mixed), 1)).equals(mixed)).toBe(true);
  }, 60_000);

  test("takes members in a row, of which none refers to the one before, and zeros behind them", async () => {
    const members = [gzipSync(text), gzipSync(""), gzipSync(noise), gzipSync(text)];
    const whole = Buffer.concat([text, noise, text]);
    for (const end of [0, 1, 1000]) expect((await plainOf(Buffer.concat([...members, Buffer.alloc(end)]), 1000)).equals(whole)).toBe(true);
    // A match that reaches before its member: a dictionary that nobody has.
    const raw = deflateRawSync(text.subarray(0, 1000), { dictionary: text.subarray(0, 1000) });
    const header = gzipSync("").subarray(0, 10);
    await expect(plainOf(Buffer.concat([gzipSync(text), header, raw, Buffer.alloc(8)]))).rejects.toMatchObject({ code: "corrupt" });
  });

  test("reads headers with all that they may have", async () => {
    const plain = gzipSync(text);
    const head = Buffer.from(plain.subarray(0, 10));
    head[3] = 4 | 8 | 16 | 2;
    const named = Buffer.concat([head, Buffer.from([5, 0, 1, 2, 3, 4, 5]), Buffer.from("a name\0a comment\0"), Buffer.from([0, 0]), plain.subarray(10)]);
    for (const size of [1, 1000]) expect((await plainOf(named, size)).equals(text)).toBe(true);
    head[3] = 8;
    await expect(plainOf(Buffer.concat([head, Buffer.alloc(300_000, "x"), Buffer.alloc(1)]))).rejects.toMatchObject({ code: "corrupt" });
    for (const [at, byte] of [
      [0, 0],
      [2, 7],
      [3, 0x20],
    ] as const) {
      const wrong = Buffer.from(plain);
      wrong[at] = byte;
      await expect(plainOf(wrong)).rejects.toMatchObject({ code: "corrupt" });
    }
  });

  test("says of what is cut off that it is, wherever that is, and of a wrong checksum or length", async () => {
    const packed = gzipSync(text.subarray(0, 30_000));
    for (let length = 1; length < packed.length; length += length < 20 || length > packed.length - 20 ? 1 : 97)
      await expect(plainOf(packed.subarray(0, length)), `${length}`).rejects.toMatchObject({ code: "corrupt", message: "gzip data is truncated" });
    for (const at of [-8, -1]) {
      const wrong = Buffer.from(packed);
      wrong[wrong.length + at]! ^= 1;
      await expect(plainOf(wrong)).rejects.toMatchObject({ code: "corrupt", message: expect.stringMatching(at === -8 ? "data check" : "length check") });
    }
  });

  test("looks at the length alone where the caller compares a digest", async () => {
    const packed = gzipSync(text);
    packed[packed.length - 8]! ^= 1;
    expect((await plainOf(packed, 1 << 18, true)).equals(text)).toBe(true);
    packed[packed.length - 1]! ^= 1;
    await expect(plainOf(packed, 1 << 18, true)).rejects.toMatchObject({ code: "corrupt", message: expect.stringMatching("length check") });
  });

  test("is of zlib's opinion about what is damaged, and goes on to work", async () => {
    const packed = gzipSync(mixed);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(packed.length - 1), fc.nat(7)), { minLength: 1, maxLength: 3 }), fc.nat(5000), async (flips, size) => {
        const damaged = Buffer.from(packed);
        for (const [at, bit] of flips) damaged[at]! ^= 1 << bit;
        let expected: Buffer | undefined;
        try {
          expected = gunzipSync(damaged);
        } catch {
          expected = undefined;
        }
        const found = await plainOf(damaged, size + 1).catch((error: unknown) => {
          expect(error).toMatchObject({ code: "corrupt" });
          return undefined;
        });
        expect(found === undefined).toBe(expected === undefined);
        if (found !== undefined && expected !== undefined) expect(found.equals(expected)).toBe(true);
      }),
      { numRuns: 150 },
    );
    expect((await plainOf(packed)).equals(mixed)).toBe(true);
  });

  test("several streams at once do not see each other", async () => {
    const results = await Promise.all([text, noise, mixed].map((data) => plainOf(gzipSync(data), 1000)));
    expect(results.map((result, i) => result.equals([text, noise, mixed][i]!))).toEqual([true, true, true]);
  });

  test("is made by what native/inflate.ts says now", () => {
    const source = readFileSync(join(import.meta.dirname, "../../../native/inflate.ts"));
    expect(createHash("sha256").update(source).digest("hex"), "run scripts/gen-wasm.mjs").toBe(inflateSource);
  });
});
