import { describe, expect, test } from "vitest";
import type { LogEntry } from "#container/mod.ts";
import { logFrames } from "./log-frames.ts";

const plain = { framed: false, timestamps: false, details: false };
const entry = (log: string, stream: "stdout" | "stderr" = "stdout", timeNs = 1n): LogEntry => ({ stream, timeNs, log: Buffer.from(log) });

async function collect(source: AsyncIterable<Uint8Array>): Promise<{ readonly bytes: Buffer; readonly chunks: number }> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return { bytes: Buffer.concat(chunks), chunks: chunks.length };
}

describe("log frames", () => {
  test("the log is not read ahead of the consumer, and a batch is one piece", async () => {
    let read = 0;
    const batches = (async function* () {
      for (let i = 0; i < 100; i++) {
        read++;
        yield [entry(`line ${2 * i}\n`), entry(`line ${2 * i + 1}\n`)];
      }
    })();
    const frames = logFrames(batches, plain);
    const first = await frames.next();
    expect(Buffer.from(first.value!).toString()).toBe("line 0\nline 1\n");
    expect(read).toBe(1);
    const rest = await collect(frames);
    expect(rest.chunks).toBe(99);
    expect(rest.bytes.toString().split("\n").length).toBe(199);
    expect(rest.bytes.toString().endsWith("line 199\n")).toBe(true);
  });

  test("frames tell the stream and the length; entries of any size go through whole", async () => {
    const big = "x".repeat(300_000);
    const { bytes } = await collect(
      logFrames(
        (async function* () {
          yield [entry("a\n", "stderr"), entry(big)];
          yield [];
          yield [entry("")];
        })(),
        { ...plain, framed: true },
      ),
    );
    const frames: [number, number][] = [];
    for (let at = 0; at < bytes.length; ) {
      const size = bytes.readUInt32BE(at + 4);
      frames.push([bytes[at]!, size]);
      at += 8 + size;
    }
    expect(frames).toEqual([
      [2, 2],
      [1, big.length],
      [1, 0],
    ]);
  });

  test("an error of the log comes after what was read", async () => {
    const broken = (async function* () {
      yield [entry("good\n")];
      throw new Error("bad sector");
    })();
    const frames = logFrames(broken, plain);
    expect(Buffer.from((await frames.next()).value!).toString()).toBe("good\n");
    await expect(frames.next()).rejects.toThrow("bad sector");
  });

  test("timestamps have nine digits across the turn of a second", async () => {
    const { bytes } = await collect(
      logFrames(
        (async function* () {
          yield [entry("a\n", "stdout", 1_700_000_000_999_999_999n), entry("b\n", "stdout", 1_700_000_001_000_000_000n)];
        })(),
        { ...plain, timestamps: true },
      ),
    );
    expect(bytes.toString()).toBe("2023-11-14T22:13:20.999999999Z a\n2023-11-14T22:13:21.000000000Z b\n");
  });
});
