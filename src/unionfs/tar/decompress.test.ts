import { gzipSync } from "node:zlib";
import { execFileSync, spawnSync } from "node:child_process";
import { describe, expect, it, vi } from "vitest";
import { decompress, detectCompression } from "./decompress.ts";
import { unzstd } from "./zstd.ts";

const zstd = (data: Buffer, ...options: string[]) => execFileSync("zstd", ["-q", "-c", ...options], { input: data, maxBuffer: 1 << 30 });
async function* pieces(data: Uint8Array, size: number) {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}
async function all(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}
const words = Buffer.from(Array.from({ length: 60_000 }, (_, i) => `line ${i * 7919} of a text\n`).join(""));

describe("compressions", () => {
  it("are recognized by their first bytes, also when these come one by one", async () => {
    expect(detectCompression(gzipSync("x"))).toBe("gzip");
    expect(detectCompression(zstd(Buffer.from("x")))).toBe("zstd");
    expect(detectCompression(Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 0, 0]))).toBe("zstd");
    expect(detectCompression(Buffer.from("etc/"))).toBe("none");
    expect(detectCompression(Buffer.alloc(0))).toBe("none");
    const few = words.subarray(0, 1000);
    for (const data of [few, gzipSync(few), zstd(few)]) expect((await all(decompress(pieces(data, 1)))).equals(few)).toBe(true);
    expect(await all(decompress(pieces(Buffer.from("ab"), 1)))).toEqual(Buffer.from("ab"));
    expect(await all(decompress(pieces(Buffer.alloc(0), 1)))).toEqual(Buffer.alloc(0));
  });

  it.each(["xz", "bzip2"])("%s is read by its program; damage and truncation are corrupt, a program that is missing is named", async (program) => {
    if (spawnSync(program, ["--version"]).error !== undefined) return console.warn(`decompress: skipped: no ${program}`);
    const packed = execFileSync(program, ["-c"], { input: words });
    expect(detectCompression(packed)).toBe(program);
    expect((await all(decompress(pieces(packed, 1000)))).equals(words)).toBe(true);
    await expect(all(decompress(pieces(packed.subarray(0, -20), 1000)))).rejects.toMatchObject({ code: "corrupt" });
    // A reader that stops leaves no program behind that waits for its input.
    for await (const _chunk of decompress(pieces(packed, 10))) break;
    vi.stubEnv("PATH", "/nowhere");
    await expect(all(decompress(pieces(packed, 1000)))).rejects.toMatchObject({ code: "unsupported", message: expect.stringContaining(program) });
    vi.unstubAllEnvs();
  });

  it("gzip: several members are one stream; truncation and damage are corrupt", async () => {
    const two = Buffer.concat([gzipSync(words), gzipSync("end")]);
    expect((await all(decompress(pieces(two, 1000)))).toString().slice(-10)).toBe("of a text\nend".slice(-10));
    await expect(all(decompress(pieces(two.subarray(0, -9), 1000)))).rejects.toMatchObject({ code: "corrupt", message: "gzip data is truncated" });
    const damaged = Buffer.from(two);
    damaged.fill(0xff, 2000, 2100);
    await expect(all(decompress(pieces(damaged, 1000)))).rejects.toMatchObject({ code: "corrupt" });
  });

  it("passes the source's own error on, and closes the source when the reader stops", async () => {
    let closed = false;
    async function* source() {
      try {
        yield gzipSync(words).subarray(0, 5000);
        throw new Error("connection lost");
      } finally {
        closed = true;
      }
    }
    await expect(all(decompress(source()))).rejects.toThrow("connection lost");
    for (const make of [gzipSync, zstd]) {
      closed = false;
      async function* endless() {
        try {
          const data = make(words);
          for (;;) yield data;
        } finally {
          closed = true;
        }
      }
      for await (const _ of decompress(endless())) break;
      await expect.poll(() => closed).toBe(true);
    }
  });

  it("zstd: frames in a row, long windows, checksums, truncation", async () => {
    const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    const frames = Buffer.concat([skippable, zstd(words, "-19"), skippable, zstd(Buffer.alloc(0)), zstd(words, "-1", "--long=27")]);
    for (const size of [777, 1 << 20]) expect((await all(unzstd(pieces(frames, size)))).equals(Buffer.concat([words, words]))).toBe(true);
    const one = zstd(words, "--check");
    for (const length of [1, 5, 100, one.length - 1])
      await expect(all(unzstd(pieces(one.subarray(0, length), 50_000)))).rejects.toMatchObject({ code: "corrupt" });
    const wrongSum = Buffer.from(one);
    wrongSum[one.length - 1]! ^= 1;
    await expect(all(unzstd(pieces(wrongSum, 4096)))).rejects.toMatchObject({ code: "corrupt" });
    await expect(all(unzstd(pieces(Buffer.from("not zstd at all, not at all"), 64)))).rejects.toMatchObject({ code: "corrupt" });
    // Window descriptor 2^31: would need two gigabytes.
    await expect(all(unzstd(pieces(Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]), 64)))).rejects.toMatchObject({ code: "corrupt" });
  });
});
