/** Layers are decompressed and hashed in threads, while their files grow, and compressed. */
import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { digestOf } from "#core/digest.ts";
import { type GrowingFile, LayerThreads } from "#unionfs/threads/layer-threads.ts";
import { slotBytes, slotCount } from "#unionfs/threads/shared-ring.ts";

const program = join(import.meta.dirname, "../../dist/layer-thread.js");
let directory: string;
let threads: LayerThreads;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-threads-"));
  threads = new LayerThreads(program, 2);
});
afterAll(async () => {
  await threads.close();
  await rm(directory, { recursive: true });
});

/** A file that grows when the test says so. */
class Arriving implements GrowingFile {
  readonly path = join(directory, randomBytes(6).toString("hex"));
  received = 0;
  readonly whole: Promise<void>;
  settle!: { readonly resolve: () => void; readonly reject: (error: Error) => void };
  readonly #listeners: ((received: number) => void)[] = [];

  constructor() {
    this.whole = new Promise((resolve, reject) => (this.settle = { resolve, reject }));
    this.whole.catch(() => undefined);
  }
  onProgress(listener: (received: number) => void): void {
    this.#listeners.push(listener);
  }
  async append(bytes: Uint8Array): Promise<void> {
    await appendFile(this.path, bytes);
    this.received += bytes.length;
    for (const listener of this.#listeners) listener(this.received);
  }
}

async function there(bytes: Uint8Array): Promise<Arriving> {
  const file = new Arriving();
  await writeFile(file.path, bytes);
  file.received = bytes.length;
  file.settle.resolve();
  return file;
}

/** Copied piece by piece: their memory is used again. */
async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = [];
  for await (const piece of pieces) copies.push(Buffer.from(piece));
  return Buffer.concat(copies);
}

/** More than fits into the ring. */
const plain = Buffer.concat([randomBytes(3 * slotBytes), Buffer.alloc((slotCount + 2) * slotBytes), randomBytes(1234)]);
const expected = digestOf(plain);

describe("layer threads", () => {
  it("compress a layer's archive; one that has changed is found out in the end", async () => {
    const archive = join(directory, "layer.tar");
    await writeFile(archive, plain);
    expect(gunzipSync(await collect(threads.turn().compress({ archive, diffId: expected }, {}))).equals(plain)).toBe(true);
    await expect(collect(threads.turn().compress({ archive, diffId: digestOf("other") }, {}))).rejects.toMatchObject({ code: "corrupt" });
    await expect(collect(threads.turn().compress({ archive: `${archive}.gone`, diffId: expected }, {}))).rejects.toThrow(/ENOENT/);
    const abort = new AbortController();
    const pieces = threads.turn().compress({ archive, diffId: expected }, { signal: abort.signal });
    await pieces.next();
    abort.abort();
    await expect(collect(pieces)).rejects.toMatchObject({ code: "cancelled" });
  });

  it("compress what they are sent, to the same bytes; its failure is the stream's", async () => {
    const archive = join(directory, "sent.tar");
    await writeFile(archive, plain);
    const read = await collect(threads.turn().compress({ archive, diffId: expected }, {}));
    const consumed: number[] = [];
    let ended = 0;
    async function* inPieces(failing = false) {
      try {
        // Parts of one buffer, and more of them than may be under way.
        for (let at = 0; at < plain.length; at += 100_000) yield plain.subarray(at, at + 100_000);
        if (failing) throw new Error("cannot be read");
      } finally {
        ended++;
      }
    }
    expect((await collect(threads.turn().compress(async () => inPieces(), { onConsumed: (bytes) => consumed.push(bytes) }))).equals(read)).toBe(true);
    expect(consumed.at(-1)).toBe(plain.length);
    expect(await collect(threads.turn().compress(async () => inPieces(true), {})).catch(String)).toBe("Error: cannot be read");
    const abort = new AbortController();
    const pieces = threads.turn().compress(async () => inPieces(), { signal: abort.signal });
    await pieces.next();
    abort.abort();
    await expect(collect(pieces)).rejects.toMatchObject({ code: "cancelled" });
    expect(ended).toBe(3);
    // What was left of that does not get into the next one's.
    expect((await collect(threads.turn().compress(async () => inPieces(), {}))).equals(read)).toBe(true);
  });

  it("give what a gzip'ed, and a plain file hold", async () => {
    const consumed: number[] = [];
    const packed = gzipSync(plain);
    const options = { expected, onConsumed: (bytes: number) => void consumed.push(bytes) };
    expect((await collect(threads.turn().inflate(await there(packed), options))).equals(plain)).toBe(true);
    expect(consumed.at(-1)).toBe(packed.length);
    expect((await collect(threads.turn().inflate(await there(plain), { expected }))).equals(plain)).toBe(true);
    expect((await collect(threads.turn().inflate(await there(Buffer.alloc(0)), { expected: digestOf("") }))).length).toBe(0);
  });

  it("keep up with a file that grows, several at once", async () => {
    const packed = gzipSync(plain);
    const files = [new Arriving(), new Arriving(), new Arriving()];
    const results = files.map((file) => collect(threads.turn().inflate(file, { expected })));
    for (let at = 0; at < packed.length; at += 100_000) for (const file of files) await file.append(packed.subarray(at, at + 100_000));
    for (const file of files) file.settle.resolve();
    for (const result of await Promise.all(results)) expect(result.equals(plain)).toBe(true);
  });

  it("end well only with the digest that was expected", async () => {
    const wrong = threads.turn().inflate(await there(gzipSync(plain)), { expected: digestOf("other") });
    await expect(collect(wrong)).rejects.toMatchObject({ code: "corrupt", message: `layer has the digest ${expected}, expected ${digestOf("other")}` });
    const short = threads.turn().inflate(await there(gzipSync(plain).subarray(0, -10)), { expected });
    await expect(collect(short)).rejects.toMatchObject({ code: "corrupt", message: "gzip data is truncated" });
    const other = threads.turn().inflate(await there(Buffer.from("BZh91AY&SY and so on")), { expected });
    await expect(collect(other)).rejects.toThrow("bzip2"); // it is none; or this machine has no program for it
  });

  it("fail with what the file's transfer failed with", async () => {
    const file = new Arriving();
    const result = collect(threads.turn().inflate(file, { expected }));
    await file.append(gzipSync(plain).subarray(0, 1000));
    file.settle.reject(new Error("the connection was closed"));
    await expect(result).rejects.toThrow("the connection was closed");
  });

  it("stop when they are called off, and go on with the next file", async () => {
    for (let round = 0; round < 3; round++) {
      const abort = new AbortController();
      const file = new Arriving();
      const result = collect(threads.turn().inflate(file, { expected, signal: abort.signal }));
      await file.append(gzipSync(plain).subarray(0, 50_000));
      abort.abort();
      await expect(result).rejects.toMatchObject({ code: "cancelled" });
    }
    // Somebody who has read enough.
    for (let round = 0; round < 3; round++)
      for await (const piece of threads.turn().inflate(await there(gzipSync(plain)), { expected })) if (piece.length > 0) break;
    expect((await collect(threads.turn().inflate(await there(gzipSync(plain)), { expected }))).equals(plain)).toBe(true);
  });
});
