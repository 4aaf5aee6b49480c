/** Layers are decompressed and hashed in threads, while their files grow, and compressed. */
import { appendFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { digestOf } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { TreeStat } from "#linux/file-tree.ts";
import { startHelper } from "#linux/helper-client.ts";
import type { Helper } from "#linux/helper.ts";
import { inArchive } from "#unionfs/erofs/metadata-tree.ts";
import { archiveFile, ErofsReceiver, imageFile } from "#unionfs/erofs/receiver.ts";
import { takeIntoImage } from "#unionfs/take-layer.ts";
import { readLayer } from "#unionfs/layer-tar.ts";
import { chunked, pax, tar } from "#unionfs/testing/tar-builder.ts";
import { type GrowingFile, LayerThreads, type TakeTurn } from "#unionfs/threads/layer-threads.ts";
import { slotBytes, slotCount } from "#unionfs/threads/shared-ring.ts";

const program = join(import.meta.dirname, "../../dist/layer-thread.cjs");
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

  it("read a layer's archive as it is, whoever takes it however slowly; one that has changed is found out in the end", async () => {
    const archive = join(directory, "read.tar");
    await writeFile(archive, plain);
    const [slow, ...others] = Array.from({ length: 3 }, () => threads.read({ archive, diffId: expected }));
    const first = Buffer.from((await slow!.next()).value ?? []);
    for (const other of others) expect((await collect(other)).equals(plain)).toBe(true);
    // Those who take turns at threads do not wait for it.
    expect(gunzipSync(await collect(threads.turn().compress({ archive, diffId: expected }, {}))).equals(plain)).toBe(true);
    expect(Buffer.concat([first, await collect(slow!)]).equals(plain)).toBe(true);
    await expect(collect(threads.read({ archive, diffId: digestOf("other") }))).rejects.toMatchObject({ code: "corrupt" });
    for await (const piece of threads.read({ archive, diffId: expected })) {
      expect(piece.byteLength).toBe(slotBytes);
      break;
    }
    expect((await collect(threads.read({ archive, diffId: expected }))).equals(plain)).toBe(true);
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

/** Files shorter and longer than a piece that is passed on, links, a directory that is only implied, and an attribute. */
const layer = tar(
  { name: "d/", typeflag: "5", mode: 0o750 },
  ...Array.from({ length: 300 }, (_, i) => ({ name: `d/f${i}`, data: randomBytes(i * 37), mode: 0o4755, uid: i, mtime: 1_000_000 + i })),
  { name: "d/large", data: randomBytes(1_500_000) },
  { name: "d/link", typeflag: "1", linkname: "d/large" },
  { name: "d/soft", typeflag: "2", linkname: "large" },
  pax({ "SCHILY.xattr.user.x": "y" }),
  { name: "implied/below/file", data: "text" },
  // What a later member replaces is kept for the archive to be made again.
  { name: "d/f7", data: "replaced" },
);
const digest = digestOf(layer);

describe("layers taken in by threads", () => {
  let helper: Helper;
  beforeAll(async () => {
    helper = await startHelper({ helperPath: join(import.meta.dirname, "../../dist/bin/wherry-helper"), execRoot: directory, log: () => undefined });
  });
  afterAll(() => helper.close());

  const below: TreeStat = {
    path: Buffer.from("implied"),
    type: "dir",
    mode: 0o700,
    uid: 7,
    gid: 8,
    size: 0,
    mtimeNs: 5n,
    ctimeNs: 5n,
    ino: 1n,
    dev: 1n,
    nlink: 2,
    major: 0,
    minor: 0,
    blocks: 0,
    xattrs: [],
  };
  /** Its asked-for names are noted. */
  async function places(options: Partial<TakeTurn> = {}) {
    const [image, record] = [join(directory, randomBytes(6).toString("hex")), join(directory, randomBytes(6).toString("hex"))];
    await mkdir(image);
    await mkdir(record);
    const asked: string[] = [];
    const lower = async (path: string) => {
      asked.push(path);
      return path === "implied" ? below : undefined;
    };
    const asImage: TakeTurn = {
      record,
      lower,
      expected: digest,
      signal: undefined,
      place: async () => ({ kind: "image", directory: image, form: inArchive }),
      ...options,
    };
    const asTree: TakeTurn = {
      ...asImage,
      place: async () => ({ kind: "tree", worker: await helper.startTree(image), directory: image, whiteouts: "overlay" }),
    };
    return { image, record, asked, asImage, asTree };
  }

  it("are the archive, and the image that one thread would have made of it", async () => {
    const own = await places();
    const receiver = new ErofsReceiver({ directory: own.image, form: inArchive });
    const lower = async (path: string) => (path === "implied" ? below : undefined);
    const applied = await takeIntoImage(receiver, receiver.keep(chunked(layer, 10_000)), { record: own.record, lower });
    const image = await readFile(join(own.image, imageFile));
    for (const bytes of [layer, gzipSync(layer)]) {
      const { image: at, asked, asImage } = await places();
      const consumed: number[] = [];
      const archive = { file: await there(bytes), plain: false, onConsumed: (count: number) => void consumed.push(count) };
      expect(await threads.turn().take(archive, asImage)).toEqual(applied);
      expect(asked).toEqual(["implied", "implied/below"]);
      expect(consumed.at(-1)).toBe(bytes.length);
      expect((await readFile(join(at, archiveFile))).equals(layer)).toBe(true);
      expect((await readFile(join(at, imageFile))).equals(image)).toBe(true);
    }
    const { image: at, asImage } = await places();
    const adopted = await there(layer);
    expect(await threads.turn().take({ file: adopted, plain: true }, asImage)).toEqual(applied);
    expect((await stat(join(at, archiveFile))).ino).toBe((await stat(adopted.path)).ino);
    expect((await readFile(join(at, imageFile))).equals(image)).toBe(true);
  });

  it("are files, from which the archive can be made again", async () => {
    const { image, record, asTree } = await places();
    const file = new Arriving();
    const taking = threads.turn().take({ file, plain: false }, asTree);
    const packed = gzipSync(layer);
    for (let at = 0; at < packed.length; at += 300_000) await file.append(packed.subarray(at, at + 300_000));
    file.settle.resolve();
    expect(await taking).toMatchObject({ diffId: digest, tarBytes: layer.length });
    expect(await stat(join(image, "d/f299"))).toMatchObject({ mode: 0o104755, uid: 299, gid: 0, size: 299 * 37, mtimeMs: 1_000_299_000 });
    expect(await stat(join(image, "implied"))).toMatchObject({ mode: 0o40700, uid: 7, gid: 8 });
    expect((await readFile(join(image, "d/f7"))).toString()).toBe("replaced");
    expect((await stat(join(image, "d/large"))).nlink).toBe(2);
    expect((await collect(readLayer({ diffId: digest, record, directory: image }))).equals(layer)).toBe(true);
  });

  it("are refused when they are not what was expected, or more than is allowed", async () => {
    for (const kind of ["asImage", "asTree"] as const) {
      const other = digestOf("other");
      const wrong = (await places({ expected: other }))[kind];
      await expect(threads.turn().take({ file: await there(gzipSync(layer)), plain: false }, wrong)).rejects.toMatchObject({
        code: "corrupt",
        message: `layer has the digest ${digest}, expected ${other}`,
      });
      const archive = { file: await there(gzipSync(layer)), plain: false, limit: { bytes: layer.length - 1, message: "too much" } };
      await expect(threads.turn().take(archive, (await places())[kind])).rejects.toMatchObject({ code: "storage", message: "too much" });
      const cut = { file: await there(layer.subarray(0, 100_000)), plain: false };
      await expect(threads.turn().take(cut, (await places())[kind])).rejects.toMatchObject({ code: "corrupt", message: expect.stringContaining("truncated") });
      const exact = { file: await there(gzipSync(layer)), plain: false, limit: { bytes: layer.length, message: "too much" } };
      expect(await threads.turn().take(exact, (await places())[kind])).toMatchObject({ diffId: digest });
    }
    const wrong = (await places({ expected: digestOf("other") })).asImage;
    await expect(threads.turn().take({ file: await there(layer), plain: true }, wrong)).rejects.toMatchObject({ code: "corrupt" });
  });

  it("fail with what looking below failed with, and stop when they are called off while they wait for it", async () => {
    const failing = async () => {
      throw new EngineError("storage", "the layer below cannot be read", { details: { errno: "EIO" } });
    };
    const { asImage } = await places({ lower: failing });
    await expect(threads.turn().take({ file: await there(layer), plain: true }, asImage)).rejects.toMatchObject({
      code: "storage",
      message: expect.stringContaining("the layer below cannot be read"),
      details: { errno: "EIO" },
    });
    const abort = new AbortController();
    let asked!: () => void;
    const waiting = new Promise<void>((resolve) => (asked = resolve));
    const never = (await places({ signal: abort.signal, lower: () => new Promise(() => void asked()) })).asTree;
    const taking = threads.turn().take({ file: await there(layer), plain: false }, never);
    taking.catch(() => undefined);
    await waiting;
    abort.abort();
    await expect(taking).rejects.toMatchObject({ code: "cancelled" });
    // While the file grows; and before the turn has come.
    const growing = new AbortController();
    const file = new Arriving();
    const arriving = threads.turn().take({ file, plain: false }, (await places({ signal: growing.signal })).asImage);
    arriving.catch(() => undefined);
    await file.append(gzipSync(layer).subarray(0, 50_000));
    growing.abort();
    await expect(arriving).rejects.toMatchObject({ code: "cancelled" });
    const early = (await places({ signal: AbortSignal.abort() })).asTree;
    await expect(threads.turn().take({ file: await there(layer), plain: false }, early)).rejects.toMatchObject({ code: "cancelled" });
    expect(await threads.turn().take({ file: await there(layer), plain: true }, (await places()).asImage)).toMatchObject({ diffId: digest });
  });
});
