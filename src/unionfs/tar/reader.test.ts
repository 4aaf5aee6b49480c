import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync, writeSync, openSync, closeSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isEngineError } from "#core/errors.ts";
import { chunked, end, header, type Member, member, pax, paxRecord, tar, withChecksum } from "../testing/tar-builder.ts";
import type { TarEntry } from "./entry.ts";
import { TarReader, type TarReaderOptions } from "./reader.ts";
import { formatHeader, padding } from "./writer.ts";

type Read = TarEntry & { data: Buffer };

/** All members: as they come when each is waited for, which is what they must be too where those that are here are not. */
async function readTar(bytes: Uint8Array, chunk?: number, options: TarReaderOptions = {}): Promise<Read[]> {
  const waited = await readAll(bytes, chunk, options, false);
  const passed: Uint8Array[] = [];
  const onMeta = (meta: Uint8Array) => void passed.push(Buffer.from(meta));
  const ready = await readAll(bytes, chunk, { ...options, onMeta }, true);
  // As text: vitest compares buffers byte by byte.
  const texts = (entries: readonly Read[]) => entries.map((entry) => ({ ...entry, data: entry.data.toString("latin1") }));
  expect(texts(ready)).toEqual(texts(waited));
  // What is no member's data is passed on, whole and in order.
  if (waited.every(({ type }) => type === "file")) expect(passed.reduce((sum, { length }) => sum + length, 0)).toBe(bytes.length - dataIn(waited));
  return waited;
}

function dataIn(entries: readonly Read[]): number {
  return entries.reduce((sum, { data }) => sum + data.length, 0);
}

async function readAll(bytes: Uint8Array, chunk: number | undefined, options: TarReaderOptions, ready: boolean): Promise<Read[]> {
  const reader = new TarReader(chunked(bytes, chunk), options);
  const entries: Read[] = [];
  for (;;) {
    const entry = (ready ? reader.nextReady() : undefined) ?? (await reader.next());
    if (entry === undefined) return entries;
    const here = ready ? reader.peekReady() : undefined;
    const parts: Uint8Array[] = here === undefined ? [] : [here];
    if (here !== undefined) reader.takeReady();
    for (let part = await reader.read(); part !== undefined; part = await reader.read()) parts.push(part);
    entries.push({ ...entry, data: Buffer.concat(parts) });
  }
}
const one = async (...members: (Member | Buffer)[]) => (await readTar(tar(...members)))[0]!;
const failure = (bytes: Uint8Array, options?: TarReaderOptions) => expect(readTar(bytes, undefined, options)).rejects;

describe("what one header says", () => {
  it("ustar: all fields, the prefix, and no prefix under GNU's magic", async () => {
    expect(await one({ name: "b", prefix: "some/dir", mode: 0o4755, uid: 7, gid: 8, mtime: 9, data: "abc" })).toMatchObject({
      name: "some/dir/b",
      type: "file",
      mode: 0o4755,
      uid: 7,
      gid: 8,
      size: 3,
      mtimeNs: 9_000_000_000n,
      data: Buffer.from("abc"),
    });
    expect(await one({ name: "b", magic: "ustar  \0", tail: Buffer.from("00000000001\x0000000000002\0") })).toMatchObject({ name: "b" });
    expect(await one({ name: "b", magic: "ustar  \0", prefix: "written/by/old/go" })).toMatchObject({ name: "written/by/old/go/b" });
    expect(await one({ name: "b", magic: "", prefix: "no" })).toMatchObject({ name: "b" });
  });

  it("types", async () => {
    expect(await one({ name: "d", typeflag: "5", size: 99 })).toMatchObject({ type: "dir", size: 0 });
    expect(await one({ name: "d/", typeflag: "0" })).toMatchObject({ type: "dir" });
    expect(await one({ name: "d/", typeflag: "\0", magic: "" })).toMatchObject({ type: "dir" });
    expect(await one({ name: "f", typeflag: "7", data: "x" })).toMatchObject({ type: "file", size: 1 });
    expect(await one({ name: "l", typeflag: "2", linkname: "to", size: 5 })).toMatchObject({ type: "symlink", linkname: "to", size: 0, storedSize: 0 });
    expect(await one({ name: "h", typeflag: "1", linkname: "f" })).toMatchObject({ type: "link", linkname: "f" });
    expect(await one({ name: "c", typeflag: "3", major: 5, minor: 1 })).toMatchObject({ type: "char", major: 5, minor: 1 });
    expect(await one({ name: "b", typeflag: "4", major: 8, minor: 17 })).toMatchObject({ type: "block", major: 8, minor: 17 });
    expect(await one({ name: "p", typeflag: "6" })).toMatchObject({ type: "fifo" });
    await failure(tar({ name: "m", typeflag: "M" })).toMatchObject({ code: "corrupt", message: 'archive entry "m" has the unknown type "M"' });
  });

  it("GNU dump directories have data, which is passed over", async () => {
    expect((await readTar(tar({ name: "d/", typeflag: "D", data: "Yfile\0" }, { name: "f", data: "x" }))).map(({ name, type }) => [name, type])).toEqual([
      ["d/", "dir"],
      ["f", "file"],
    ]);
  });

  it("numbers in base 256, with spaces, negative", async () => {
    expect(await one({ name: "f", data: "abc", base256: true })).toMatchObject({ size: 3 });
    const old = header({ name: "f" });
    old.write(" 644 \0  ", 100, "latin1");
    Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf6]).copy(old, 136);
    expect(await one(withChecksum(old))).toMatchObject({ mode: 0o644, mtimeNs: -10_000_000_000n });
    const wrong = header({ name: "f" });
    wrong.write("zz", 100, "latin1");
    await failure(tar(withChecksum(wrong))).toMatchObject({ code: "corrupt", message: 'archive entry "f" has an invalid mode' });
    const negative = header({ name: "f" });
    Buffer.alloc(12, 0xff).copy(negative, 124);
    await failure(tar(withChecksum(negative))).toMatchObject({ code: "corrupt", message: 'archive entry "f" has a negative size' });
  });

  it("sums of signed bytes, as old tars have them", async () => {
    const block = header({ name: "caf\xe9" });
    const sum = block.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte > 127 ? byte - 256 : byte), 0);
    block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    expect(await one(block)).toMatchObject({ name: "caf\xe9" });
    block[0]! ^= 1;
    await failure(tar(block)).toMatchObject({ code: "corrupt", message: "archive header at the start of the archive has a wrong checksum" });
  });
});

describe("extended headers", () => {
  it("GNU long names and links", async () => {
    const long = `${"d".repeat(200)}/${"f".repeat(200)}`;
    const entry = await one(
      member({ name: "././@LongLink", typeflag: "L", data: `${long}\0` }),
      member({ name: "././@LongLink", typeflag: "K", data: `${long}2\0` }),
      { name: "cut", typeflag: "2", linkname: "cut" },
    );
    expect(entry).toMatchObject({ name: long, linkname: `${long}2` });
  });

  it("pax: names as bytes, times to the nanosecond, owners, sizes, xattrs of both kinds", async () => {
    const entry = await one(
      pax({
        path: "a/\xff\xfe",
        uid: "3000000000",
        gid: "4",
        mtime: "1700000000.123456789123",
        size: "3",
        "SCHILY.xattr.user.a": "x\ny\0z",
        "LIBARCHIVE.xattr.user.%62": "YmFzZTY0",
        "LIBARCHIVE.xattr.user.a": "aWdub3JlZA==",
        comment: "ignored",
      }),
      { name: "f", data: "abc", size: 0 },
    );
    expect(entry).toMatchObject({ name: "a/\xff\xfe", uid: 3_000_000_000, gid: 4, mtimeNs: 1_700_000_000_123_456_789n, size: 3 });
    expect(Object.fromEntries(entry.xattrs.map(({ name, value }) => [name, Buffer.from(value).toString()]))).toEqual({
      "user.a": "x\ny\0z",
      "user.b": "base64",
    });
    expect(await one(pax({ mtime: "-1.5" }), { name: "f" })).toMatchObject({ mtimeNs: -1_500_000_000n });
  });

  it("global headers hold until they are changed; empty values take them back", async () => {
    const entries = await readTar(
      tar(pax({ uid: "5", mtime: "1" }, "g"), { name: "a" }, pax({ uid: "" }), { name: "b", uid: 2 }, pax({ mtime: "7" }, "g"), { name: "c" }),
    );
    expect(entries.map(({ uid, mtimeNs }) => [uid, mtimeNs])).toEqual([
      [5, 1_000_000_000n],
      [2, 1_000_000_000n],
      [5, 7_000_000_000n],
    ]);
  });

  it.each([
    ["a record without a length", "path=x\n"],
    ["a length that is too long", "99 path=x\n"],
    ["a length that is too short", "4 path=x\n"],
    ["no newline", "9 path=xy"],
    ["no equals sign", "7 path\n"],
    ["a negative owner", paxRecord("uid", "-1")],
    ["a size that is none", paxRecord("size", "1e3")],
    ["a time that is none", paxRecord("mtime", "yesterday")],
    ["a NUL in a name", paxRecord("path", "a\0b")],
    ["a name longer than the system allows", paxRecord("path", "x/".repeat(2050))],
  ])("refused: %s", async (_what, body) => {
    await failure(tar(member({ name: "x", typeflag: "x", data: body }), { name: "f" })).toMatchObject({ code: "corrupt" });
  });

  it("are bounded in size and number, and need a member", async () => {
    await failure(tar(member({ name: "x", typeflag: "x", data: paxRecord("comment", "x".repeat(2_000_000)) }), { name: "f" })).toMatchObject({
      code: "corrupt",
      message: /at most 1048576/,
    });
    await failure(tar(member({ name: "L", typeflag: "L", data: "x".repeat(5000) }), { name: "f" })).toMatchObject({ code: "corrupt", message: /at most 4096/ });
    await failure(tar(...Array.from({ length: 20 }, () => pax({ comment: "x" })), { name: "f" })).toMatchObject({ code: "corrupt", message: /more than 16/ });
    await failure(tar(pax({ comment: "x" }))).toMatchObject({ code: "corrupt", message: /not followed by an entry/ });
    const globals = Array.from({ length: 8 }, (_, i) => [pax({ [`k${i}`]: "x".repeat(200_000) }, "g"), { name: "f" }]).flat();
    await failure(tar(...globals)).toMatchObject({ code: "corrupt", message: /global headers amount to more/ });
  });
});

describe("sparse files", () => {
  const extents = [
    { offset: 0, length: 512 },
    { offset: 4096, length: 3 },
  ];
  const data = Buffer.alloc(515, "d");

  it("pax 0.0, 0.1 and 1.0", async () => {
    const common = { "GNU.sparse.size": "10000", "GNU.sparse.name": "real" };
    const v00 = Buffer.from(
      [
        paxRecord("GNU.sparse.size", "10000"),
        paxRecord("GNU.sparse.numblocks", "2"),
        ...extents.flatMap(({ offset, length }) => [paxRecord("GNU.sparse.offset", `${offset}`), paxRecord("GNU.sparse.numbytes", `${length}`)]),
      ].join(""),
      "latin1",
    );
    expect(await one(member({ name: "x", typeflag: "x", data: v00 }), { name: "real", data })).toMatchObject({
      name: "real",
      size: 10_000,
      storedSize: 515,
      sparse: extents,
      data,
    });
    expect(await one(pax({ ...common, "GNU.sparse.map": "0,512,4096,3" }), { name: "GNUSparseFile.0/real", data })).toMatchObject({
      name: "real",
      size: 10_000,
      sparse: extents,
      data,
    });
    const map = Buffer.alloc(512);
    map.write("2\n0\n512\n4096\n3\n");
    const v10 = { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "real", "GNU.sparse.realsize": "10000" };
    expect(await one(pax(v10), { name: "x", data: Buffer.concat([map, data]) })).toMatchObject({
      name: "real",
      size: 10_000,
      storedSize: 515,
      sparse: extents,
      data,
    });
    const unfinished = Buffer.alloc(512, "9");
    await failure(tar(pax(v10), { name: "x", data: Buffer.concat([unfinished, data]) })).toMatchObject({
      code: "corrupt",
      message: 'archive entry "real" has an invalid sparse map',
    });
  });

  it.each(["0,512,100,3", "0,512,9998,3", "0,512,4096,4", "0,512,4096", "0,512,-1,3", "4096,3,0,512", "x"])("refused: a map %s", async (map) => {
    await failure(tar(pax({ "GNU.sparse.size": "10000", "GNU.sparse.map": map }), { name: "f", data })).toMatchObject({ code: "corrupt" });
  });
});

describe("files of more than 8 GB", () => {
  const size = 2 ** 33 + 700;
  const piece = Buffer.alloc(1 << 20);
  async function* archive(head: Buffer): AsyncGenerator<Uint8Array> {
    yield head;
    for (let left = size; left > 0; left -= piece.length) yield piece.subarray(0, left);
    yield Buffer.concat([Buffer.alloc(512 - (size % 512)), member({ name: "next", data: "x" }), Buffer.alloc(1024)]);
  }

  it.each([
    ["base 256", header({ name: "big", size, base256: true })],
    ["pax", Buffer.concat([pax({ size: String(size) }), header({ name: "big", size: 0 })])],
  ])("by %s: every byte is passed on, and the next member found", async (_form, head) => {
    const reader = new TarReader(archive(head));
    expect(await reader.next()).toMatchObject({ name: "big", size, storedSize: size });
    let bytes = 0;
    for (let data = await reader.read(); data !== undefined; data = await reader.read()) bytes += data.length;
    expect(bytes).toBe(size);
    expect(await reader.next()).toMatchObject({ name: "next", size: 1 });
    expect(await reader.next()).toBeUndefined();
  });
});

describe("the end", () => {
  const archive = Buffer.concat([member({ name: "a", data: "x".repeat(2000) }), pax({ path: "b" }), member({ name: "cut", data: "y" }), member({ name: "c" })]);

  it("needs its two blocks; what follows is read to the end of the stream", async () => {
    let meta = 0;
    expect(await readTar(Buffer.concat([archive, end, Buffer.alloc(9000, 1)]), 1000, { onMeta: (bytes) => (meta += bytes.length) })).toHaveLength(3);
    expect(meta).toBe(archive.length + end.length + 9000 - 2001);
    await failure(archive).toMatchObject({ code: "corrupt", message: 'archive is truncated: it ends after entry "c" without its end blocks' });
    await failure(Buffer.concat([archive, end.subarray(0, 512)])).toMatchObject({
      code: "corrupt",
      message: 'archive is truncated: it ends after entry "c" with one end block',
    });
    await failure(Buffer.concat([archive, end.subarray(0, 512), header({ name: "d" })])).toMatchObject({ code: "corrupt", message: /lone zero block/ });
    await failure(Buffer.alloc(0)).toMatchObject({ code: "corrupt", message: "archive is empty" });
  });

  it("may be missing where the digest is known", async () => {
    for (const bytes of [archive, Buffer.concat([archive, end.subarray(0, 512)])])
      expect(await readTar(bytes, undefined, { allowMissingEnd: true })).toHaveLength(3);
    expect(await readTar(Buffer.alloc(0), undefined, { allowMissingEnd: true })).toHaveLength(0);
    await failure(archive.subarray(0, 1024), { allowMissingEnd: true }).toMatchObject({
      code: "corrupt",
      message: 'archive is truncated: it ends within entry "a"',
    });
  });

  it("is missed at every block and in between", async () => {
    const whole = Buffer.concat([archive, end]);
    for (let length = 0; length < whole.length; length += 256) await failure(whole.subarray(0, length)).toMatchObject({ code: "corrupt" });
  });
});

describe("any bytes", () => {
  const sample = Buffer.concat([
    pax({ path: "some/name", mtime: "5.5", "SCHILY.xattr.user.x": "y" }),
    member({ name: "x", data: "some data" }),
    member({ name: "L", typeflag: "L", data: `${"n".repeat(150)}\0` }),
    member({ name: "x", typeflag: "2", linkname: "y" }),
    member({ name: "s", typeflag: "S", magic: "ustar  \0", data: "abc", tail: sparseTail() }),
    end,
  ]);

  function sparseTail(): Buffer {
    const tail = Buffer.alloc(512 - 345);
    tail.write("00000000000\x0000000000003\0", 386 - 345, "latin1");
    tail.write("00000000003\0", 483 - 345, "latin1");
    return tail;
  }
  /** Reads whatever it is; resolves to its members or to the refusal, and to nothing else. */
  async function outcome(bytes: Uint8Array): Promise<number | "corrupt"> {
    try {
      return (await readTar(bytes, 700)).length;
    } catch (error) {
      if (isEngineError(error, "corrupt")) return "corrupt";
      throw error;
    }
  }

  it("give members or a refusal, never anything else", async () => {
    expect(await outcome(sample)).toBe(3);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), async (bytes) => void (await outcome(bytes))),
      { numRuns: 100 },
    );
    const changes = fc.array(fc.tuple(fc.nat(sample.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 });
    const property = fc.asyncProperty(changes, fc.boolean(), async (list, repair) => {
      const bytes = Buffer.from(sample);
      for (const [at, value] of list) {
        bytes[at] = value;
        // Half the time past the checksum, where the interesting mistakes are.
        if (repair) withChecksum(bytes.subarray(at - (at % 512), at - (at % 512) + 512));
      }
      await outcome(bytes);
    });
    await fc.assert(property, { numRuns: 500 });
  });

  it("come back from what the writer wrote", async () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 200 }).map((array) => Buffer.from(array).toString("latin1").replace(/[\0]/g, "x"));
    const name = fc
      .oneof(
        bytes,
        fc.array(fc.stringMatching(/^[a-z.]{1,60}$/), { minLength: 1, maxLength: 6 }).map((parts) => parts.join("/")),
      )
      .filter((text) => !text.endsWith("/"));
    const entry = fc.record({
      name,
      type: fc.constantFrom("file", "dir", "symlink", "link", "char", "block", "fifo" as const),
      linkname: name,
      mode: fc.nat(0o7777),
      uid: fc.oneof(fc.nat(3_000_000), fc.constant(4_294_967_294)),
      gid: fc.nat(),
      mtimeNs: fc.bigInt(-(10n ** 18n), 10n ** 20n),
      major: fc.nat(0xfffff),
      minor: fc.oneof(fc.nat(0xff), fc.nat(0xfffff)),
      data: fc.uint8Array({ maxLength: 1100 }),
      xattrs: fc.dictionary(fc.stringMatching(/^user\.[a-z]{1,5}$/), fc.uint8Array({ maxLength: 30 }), { maxKeys: 3 }),
    });
    const property = fc.asyncProperty(fc.array(entry, { maxLength: 5 }), fc.integer({ min: 1, max: 3000 }), async (entries, chunk) => {
      const expected = entries.map((given) => ({
        ...given,
        size: given.type === "file" ? given.data.length : 0,
        linkname: given.type === "link" || given.type === "symlink" ? given.linkname : "",
        xattrs: Object.entries(given.xattrs).map(([key, value]) => ({ name: key, value: Buffer.from(value) })),
      }));
      const archive = Buffer.concat([
        ...expected.flatMap((given) => [formatHeader(given), ...(given.type === "file" ? [given.data, padding(given.size)] : [])]),
        end,
      ]);
      const read = await readTar(archive, chunk);
      expect(read.map(({ name: path, type, linkname, mode, uid, gid, size, mtimeNs }) => ({ path, type, linkname, mode, uid, gid, size, mtimeNs }))).toEqual(
        expected.map(({ name: path, type, linkname, mode, uid, gid, size, mtimeNs }) => ({
          path: type === "dir" ? `${path}/` : path,
          type,
          linkname,
          mode,
          uid,
          gid,
          size,
          mtimeNs,
        })),
      );
      read.forEach((got, i) => {
        const given = expected[i]!;
        expect(got.data.equals(given.type === "file" ? given.data : Buffer.alloc(0))).toBe(true);
        expect([...got.xattrs].sort((a, b) => (a.name < b.name ? -1 : 1))).toEqual(given.xattrs.sort((a, b) => (a.name < b.name ? -1 : 1)));
        if (given.type === "char" || given.type === "block") expect([got.major, got.minor]).toEqual([given.major, given.minor]);
      });
    });
    await fc.assert(property, { numRuns: 150 });
  });
});

describe("what GNU tar writes", () => {
  let directory: string;
  const long = `${"long-directory-name/".repeat(8)}`;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "gnu-tar-"));
    mkdirSync(join(directory, "t/empty"), { recursive: true });
    mkdirSync(join(directory, "t", long), { recursive: true });
    writeFileSync(join(directory, "t/plain"), "content");
    writeFileSync(join(directory, "t", long, "f".repeat(120)), "deep");
    writeFileSync(Buffer.concat([Buffer.from(`${directory}/t/bytes-`), Buffer.from([0xff, 0xfe])]), "x");
    symlinkSync("x".repeat(150), join(directory, "t/link"));
    const sparse = openSync(join(directory, "t/sparse"), "w");
    for (let at = 0; at < 60; at++) writeSync(sparse, `data ${at}`, at * 65_536);
    closeSync(sparse);
    truncateSync(join(directory, "t/sparse"), 5_000_000);
    utimesSync(join(directory, "t/plain"), 1_700_000_000.25, 1_700_000_000.25);
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  it.each([
    ["gnu", ["--format=gnu"]],
    ["oldgnu", ["--format=oldgnu", "-S"]],
    ["gnu sparse", ["--format=gnu", "-S"]],
    ["posix", ["--format=posix"]],
    ["posix sparse 0.0", ["--format=posix", "-S", "--sparse-version=0.0"]],
    ["posix sparse 0.1", ["--format=posix", "-S", "--sparse-version=0.1"]],
    ["posix sparse 1.0", ["--format=posix", "-S", "--sparse-version=1.0"]],
  ])("%s", async (_name, options) => {
    const archive = execFileSync("tar", ["-C", directory, "-c", ...options, "t"], { maxBuffer: 1 << 28 });
    const entries = new Map((await readTar(archive, 4096)).map((entry) => [entry.name, entry]));
    expect(entries.get("t/plain")).toMatchObject({
      type: "file",
      data: Buffer.from("content"),
      mtimeNs: options[0] === "--format=posix" ? 1_700_000_000_250_000_000n : 1_700_000_000_000_000_000n,
    });
    expect(entries.get("t/empty/")).toMatchObject({ type: "dir" });
    expect(entries.get(`t/${long}${"f".repeat(120)}`)?.data.toString()).toBe("deep");
    expect(entries.get("t/bytes-\xff\xfe")?.data.toString()).toBe("x");
    expect(entries.get("t/link")).toMatchObject({ type: "symlink", linkname: "x".repeat(150) });
    const sparse = entries.get("t/sparse")!;
    expect(sparse.size).toBe(5_000_000);
    const whole = Buffer.alloc(sparse.size);
    let at = 0;
    for (const { offset, length } of sparse.sparse ?? [{ offset: 0, length: sparse.size }]) at += sparse.data.copy(whole, offset, at, at + length);
    expect(at).toBe(sparse.storedSize);
    expect(whole.toString("latin1", 59 * 65_536, 59 * 65_536 + 7)).toBe("data 59");
    expect(whole.toString("latin1", 0, 6)).toBe("data 0");
    if (options.includes("-S")) expect(sparse.sparse?.length).toBeGreaterThan(50);
  });
});
