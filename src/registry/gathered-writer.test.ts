import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { giveBack, takePiece } from "#core/pieces.ts";
import { GatheredWriter } from "./gathered-writer.ts";

describe("gathered writes", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "gathered-"));
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  test("bytes are in the file in their order, all of them after a flush, and are counted once", async () => {
    const path = join(directory, "all");
    await using file = await open(path, "a");
    let written = 0;
    const writer = new GatheredWriter(file, (bytes) => (written += bytes));
    const pieces = Array.from({ length: 300 }, (_, i) => Buffer.alloc(1 + ((i * 7919) % 20_000), i));
    for (const piece of pieces) {
      await writer.add(piece);
      expect(written + writer.pending).toBe(pieces.slice(0, pieces.indexOf(piece) + 1).reduce((sum, { length }) => sum + length, 0));
    }
    await writer.flush();
    expect(writer.pending).toBe(0);
    expect((await readFile(path)).equals(Buffer.concat(pieces))).toBe(true);
  });

  test("a few bytes are written without more to come", async () => {
    const path = join(directory, "few");
    await using file = await open(path, "a");
    const written = new Promise<number>((resolve) => void new GatheredWriter(file, resolve).add(Buffer.from("few")));
    expect(await written).toBe(3);
    expect(await readFile(path, "utf8")).toBe("few");
  });

  test("what comes while a few bytes are written does not wait for more either", async () => {
    const path = join(directory, "drops");
    await using file = await open(path, "a");
    let written = 0;
    let more: (() => void) | undefined;
    const writer = new GatheredWriter(file, (bytes) => {
      written += bytes;
      more?.();
    });
    for (let drop = 1; drop <= 5; drop++) {
      // The next one comes right when the last one is in the file, before its write is over for whoever waits for it.
      const arrived = new Promise<void>((resolve) => (more = resolve));
      await writer.add(Buffer.from([drop]));
      await arrived;
      expect(written).toBe(drop);
    }
    expect([...(await readFile(path))]).toEqual([1, 2, 3, 4, 5]);
  });

  test("memory is given back when all that came of it is written", async () => {
    const path = join(directory, "lent");
    await using file = await open(path, "a");
    const writer = new GatheredWriter(file, () => undefined);
    const [first, second] = [takePiece().fill(1), takePiece().fill(2)];
    const isBack = (piece: Buffer) => {
      const taken = takePiece();
      giveBack(taken);
      return taken.buffer === piece.buffer;
    };
    await writer.add(first.subarray(0, 100_000));
    await writer.flush();
    expect(isBack(first)).toBe(false); // the rest of it may come
    await writer.add(first.subarray(100_000));
    await writer.flush();
    expect(isBack(first)).toBe(false);
    await writer.add(second);
    await writer.flush();
    expect(isBack(first)).toBe(true);
    expect(isBack(second)).toBe(false);
    await writer.end();
    expect(isBack(second)).toBe(true);
    expect((await readFile(path)).equals(Buffer.concat([Buffer.alloc(first.length, 1), Buffer.alloc(second.length, 2)]))).toBe(true);
  });

  test("a write that fails is told by the next call, as the disk's fault", async () => {
    const file = await open("/dev/full", "a");
    const writer = new GatheredWriter(file, () => undefined);
    await writer.add(Buffer.alloc(600_000));
    await expect(writer.flush()).rejects.toMatchObject({ code: "storage", message: expect.stringContaining("no space left") as string });
    await file.close();
  });
});
