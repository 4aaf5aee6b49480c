import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { digestOf } from "#core/digest.ts";
import { isEngineError } from "#core/errors.ts";
import type { TreePath } from "#linux/file-tree.ts";
import { type ApplyOptions, applyTar } from "./apply.ts";
import { printable, toBytes } from "./bytes.ts";
import { rebuildTar } from "./layer-tar.ts";
import { TarIndexWriter } from "./tar-index.ts";
import { MemoryTree } from "./testing/memory-tree.ts";
import { oddArchive } from "./testing/odd-archive.ts";
import { chunked, collect, end, type Member, member, pax, tar } from "./testing/tar-builder.ts";
import { UnionView } from "./union-view.ts";

type Given = readonly (Member | Buffer)[];

async function apply(tree: MemoryTree, members: Given, options: Partial<ApplyOptions> = {}) {
  return applyTar(chunked(tar(...members), 1000), { tree, whiteouts: "overlay", ...options });
}

/** "type path details" of everything in the tree, in walk order. */
async function list(tree: MemoryTree): Promise<string[]> {
  const lines: string[] = [];
  for await (const entry of tree.walk("")) {
    const path = printable(entry.path);
    if (path === "") continue;
    const details = entry.target === undefined ? "" : ` -> ${Buffer.from(entry.target)}`;
    const opaque = entry.xattrs.some(({ name }) => name === "trusted.overlay.opaque") ? " opaque" : "";
    const device = entry.type === "char" ? ` ${entry.major}:${entry.minor}` : "";
    const content = entry.type === "file" ? ` "${await collect((await tree.readFile(entry.path)).data)}"` : "";
    lines.push(`${entry.type} ${path}${details}${device}${content}${opaque}`);
  }
  return lines;
}

async function unpacked(members: Given, options: Partial<ApplyOptions> = {}): Promise<string[]> {
  const tree = new MemoryTree();
  await apply(tree, members, options);
  return list(tree);
}

/** A tree to lie below, as overlay sees it. */
async function lowerOf(members: Given): Promise<NonNullable<ApplyOptions["lower"]>> {
  const tree = new MemoryTree();
  await apply(tree, members);
  const view = new UnionView(tree, [""]);
  return (path) => view.lookup(path);
}

describe("unpacking", () => {
  it("makes every kind of entry, with what belongs to it", async () => {
    const tree = new MemoryTree();
    const { size, diffId } = await apply(tree, [
      { name: "./", typeflag: "5", mode: 0o700, uid: 9 },
      { name: "./d/", typeflag: "5", mode: 0o1777, uid: 1, gid: 2, mtime: 3 },
      pax({ mtime: "5.000000001", "SCHILY.xattr.security.capability": "\x01\0", "SCHILY.xattr.trusted.overlay.redirect": "/etc" }),
      { name: "d/f", data: "abc", mode: 0o4755, uid: 4 },
      { name: "d/h", typeflag: "1", linkname: "./d/f" },
      { name: "/l", typeflag: "2", linkname: "../../anywhere" },
      { name: "d/p", typeflag: "6" },
      { name: "d/c", typeflag: "3", major: 1, minor: 3 },
      { name: "d/b", typeflag: "4", major: 8, minor: 1 },
    ]);
    expect(await list(tree)).toEqual(["dir d", "block d/b", "char d/c 1:3", 'file d/f "abc"', 'file d/h "abc"', "fifo d/p", "symlink l -> ../../anywhere"]);
    expect(await tree.lstat("d")).toMatchObject({ mode: 0o1777, uid: 1, gid: 2, mtimeNs: 3_000_000_000n });
    expect(await tree.lstat("d/f")).toMatchObject({
      mode: 0o4755,
      uid: 4,
      nlink: 2,
      mtimeNs: 5_000_000_001n,
      xattrs: [{ name: "security.capability", value: new Uint8Array([1, 0]) }],
    });
    // An archive of a temporary directory does not make the container's root directory private.
    expect(await tree.lstat("")).toMatchObject({ mode: 0o755, uid: 0 });
    expect(size).toBe(3 + "../../anywhere".length);
    expect(diffId).toMatch(/^sha256:/);
  });

  it("counts what several names share once, also when the first of them is another file later", async () => {
    const tree = new MemoryTree();
    const { size } = await apply(tree, [
      { name: "a", data: "abc" },
      { name: "h", typeflag: "1", linkname: "a" },
      { name: "i", typeflag: "1", linkname: "h" },
      { name: "a", data: "xy" },
      { name: "d/b", data: "12345678" },
      { name: "d", typeflag: "2", linkname: "a" },
    ]);
    expect(await list(tree)).toEqual(['file a "xy"', "symlink d -> a", 'file h "abc"', 'file i "abc"']);
    expect(size).toBe(2 + 1 + 3);
  });

  it("writes the holes of sparse files", async () => {
    const tree = new MemoryTree();
    await apply(tree, [pax({ "GNU.sparse.size": "20", "GNU.sparse.map": "5,3,10,2" }), { name: "s", data: "abcde" }]);
    expect((await collect((await tree.readFile("s")).data)).toString("latin1")).toBe(`${"\0".repeat(5)}abc\0\0de${"\0".repeat(8)}`);
  });

  it("makes missing parents as they are below, or as root's", async () => {
    const lower = await lowerOf([{ name: "home", typeflag: "5", mode: 0o2750, uid: 7, gid: 8, mtime: 99 }]);
    const tree = new MemoryTree();
    await apply(tree, [{ name: "home/new/f", mtime: 5 }], { lower });
    expect(await tree.lstat("home")).toMatchObject({ mode: 0o2750, uid: 7, gid: 8, mtimeNs: 99_000_000_000n });
    expect(await tree.lstat("home/new")).toMatchObject({ mode: 0o755, uid: 0, mtimeNs: 5_000_000_000n });
  });

  it("gives a file that takes a directory's place its own mode and time", async () => {
    const tree = new MemoryTree();
    await apply(tree, [{ name: "b/", typeflag: "5", mode: 0o755, mtime: 1 }, { name: "b/x/y" }, { name: "b", mode: 0o600, mtime: 2 }]);
    expect(await tree.lstat("b")).toMatchObject({ type: "file", mode: 0o600, mtimeNs: 2_000_000_000n });
  });

  it("lets later entries replace earlier ones, of any kind", async () => {
    expect(
      await unpacked([
        { name: "a", data: "1" },
        { name: "a", data: "2" },
        { name: "b/x/y", data: "1" },
        { name: "b", data: "2" },
        { name: "c", typeflag: "2", linkname: "a" },
        { name: "c/", typeflag: "5" },
        { name: "c/f", data: "3" },
        { name: "d/", typeflag: "5", mode: 0o700 },
        { name: "d/f" },
        { name: "d/", typeflag: "5", mode: 0o711 },
        { name: "e", data: "4" },
        { name: "e", typeflag: "1", linkname: "e" },
      ]),
    ).toEqual(['file a "2"', 'file b "2"', "dir c", 'file c/f "3"', "dir d", 'file d/f ""', 'file e "4"']);
  });

  it("follows links of the archive that stay inside it", async () => {
    expect(
      await unpacked([
        { name: "usr/lib/", typeflag: "5" },
        { name: "lib", typeflag: "2", linkname: "usr/lib" },
        { name: "usr/up", typeflag: "2", linkname: "../usr/./lib" },
        { name: "lib/a", data: "1" },
        { name: "usr/up/b", data: "2" },
        { name: "hard", typeflag: "1", linkname: "lib/a" },
      ]),
    ).toEqual([
      'file hard "1"',
      "symlink lib -> usr/lib",
      "dir usr",
      "dir usr/lib",
      'file usr/lib/a "1"',
      'file usr/lib/b "2"',
      "symlink usr/up -> ../usr/./lib",
    ]);
  });

  it("puts a directory over a link that a layer below has, as overlay shows it", async () => {
    const lower = await lowerOf([{ name: "lib", typeflag: "2", linkname: "usr/lib" }]);
    expect(await unpacked([{ name: "lib/a" }], { lower })).toEqual(["dir lib", 'file lib/a ""']);
  });
});

describe("whiteouts in overlay's form", () => {
  const below: Given = [
    { name: "etc/", typeflag: "5", mode: 0o711 },
    { name: "etc/passwd", data: "root" },
    { name: "etc/group" },
    { name: "bin/", typeflag: "5" },
    { name: "bin/sh" },
  ];

  it("are devices 0:0 and opaque directories", async () => {
    const lower = await lowerOf(below);
    expect(await unpacked([{ name: "etc/.wh.passwd" }, { name: ".wh.bin" }], { lower })).toEqual(["char bin 0:0", "dir etc", "char etc/passwd 0:0"]);
    expect(await unpacked([{ name: "etc/", typeflag: "5" }, { name: "etc/.wh..wh..opq" }, { name: "etc/new" }], { lower })).toEqual([
      "dir etc opaque",
      'file etc/new ""',
    ]);
    expect(await unpacked([{ name: "etc/.wh..wh..opq" }], { lower })).toEqual(["dir etc opaque"]);
  });

  it("of what is not there are dropped: a directory that is not merged would show them", async () => {
    expect(
      await unpacked([{ name: "etc/.wh.nothing" }, { name: "a/.wh.b" }, { name: "etc/.wh..wh..opq" }, { name: "etc/.wh.passwd" }], {
        lower: await lowerOf(below),
      }),
    ).toEqual(["dir etc opaque"]);
    expect(await unpacked([{ name: ".wh.a" }, { name: "d/.wh..wh..opq" }])).toEqual(["dir d"]);
  });

  it("speak of the layers below only: what the archive adds at the name stays, in either order", async () => {
    const lower = await lowerOf(below);
    const expected = ["dir bin opaque", 'file bin/new ""', "dir etc", 'file etc/passwd "mine"'];
    const whiteouts: Given = [{ name: ".wh.bin" }, { name: "etc/.wh.passwd" }];
    const own: Given = [{ name: "bin/", typeflag: "5" }, { name: "bin/new" }, { name: "etc/passwd", data: "mine" }];
    expect(await unpacked([...whiteouts, ...own], { lower })).toEqual(expected);
    expect(await unpacked([...own, ...whiteouts], { lower })).toEqual(expected);
    expect(await unpacked([{ name: ".wh.bin" }, { name: "bin/new" }], { lower })).toEqual(["dir bin opaque", 'file bin/new ""']);
  });

  it("aufs' own files are left out", async () => {
    expect(await unpacked([{ name: ".wh..wh.plnk/12.3", data: "x" }, { name: ".wh..wh.orph/", typeflag: "5" }, { name: "a" }])).toEqual(['file a ""']);
  });
});

describe("whiteouts in a copy", () => {
  async function copy(members: Given): Promise<string[]> {
    const tree = new MemoryTree();
    await apply(tree, [
      { name: "d/", typeflag: "5", mode: 0o711, mtime: 7 },
      { name: "d/a", data: "1" },
      { name: "d/sub/x", data: "2" },
      { name: "d/sub/y", data: "3" },
      { name: "l", typeflag: "2", linkname: "d" },
    ]);
    await apply(tree, members, { whiteouts: "delete" });
    expect(await tree.lstat("d")).toMatchObject({ mode: 0o711, mtimeNs: 7_000_000_000n });
    return list(tree);
  }

  it("delete", async () => {
    expect(await copy([{ name: "d/.wh.a" }, { name: ".wh.l" }, { name: "d/.wh.nothing" }])).toEqual([
      "dir d",
      "dir d/sub",
      'file d/sub/x "2"',
      'file d/sub/y "3"',
    ]);
    expect(await copy([{ name: "d/.wh..wh..opq" }])).toEqual(["dir d", "symlink l -> d"]);
  });

  it("leave what the archive has made, in either order", async () => {
    const expected = ["dir d", "dir d/sub", 'file d/sub/x "new"', "symlink l -> d"];
    expect(await copy([{ name: "d/.wh..wh..opq" }, { name: "d/sub/x", data: "new" }])).toEqual(expected);
    expect(await copy([{ name: "d/sub/x", data: "new" }, { name: "d/.wh..wh..opq" }])).toEqual(expected);
    expect(await copy([{ name: "d/sub/x", data: "new" }, { name: "d/.wh.sub" }, { name: "d/.wh.a" }])).toEqual(expected);
  });

  it("and files replace what the copy has, of any kind", async () => {
    expect(
      await copy([
        { name: "d/sub", data: "file" },
        { name: "l/new", data: "below a directory" },
      ]),
    ).toEqual(["dir d", 'file d/a "1"', 'file d/sub "file"', "dir l", 'file l/new "below a directory"']);
  });
});

describe("what would land outside is refused by name", () => {
  const link: Member = { name: "link", typeflag: "2", linkname: "/etc" };
  it.each<[string, Given, string]>([
    ["..", [{ name: "../evil" }], 'archive entry "../evil" has a ".." in its name'],
    [".. in the middle", [{ name: "a/../../evil" }], 'archive entry "a/../../evil" has a ".." in its name'],
    ["an absolute link", [link, { name: "link/evil" }], 'archive entry "link/evil" leads out of the layer through the symbolic link "link" → "/etc"'],
    [
      "a link that climbs",
      [{ name: "a/link", typeflag: "2", linkname: "../../etc" }, { name: "a/link/evil" }],
      'archive entry "a/link/evil" leads out of the layer through a symbolic link',
    ],
    [
      "links in a circle",
      [{ name: "a", typeflag: "2", linkname: "b" }, { name: "b", typeflag: "2", linkname: "a" }, { name: "a/evil" }],
      'archive entry "a/evil" has more than 40 symbolic links on its way',
    ],
    ["a directory through a link", [link, { name: "link/evil/", typeflag: "5" }], 'archive entry "link/evil/" leads out'],
    [
      "a link's own replacement is no way out",
      [{ name: "d/", typeflag: "5" }, { name: "d", typeflag: "2", linkname: "../.." }, { name: "d/evil" }],
      'archive entry "d/evil" leads out of the layer',
    ],
    ["a whiteout through a link", [link, { name: "link/.wh.passwd" }], 'archive entry "link/.wh.passwd" leads out'],
    ["an opaque marker through a link", [link, { name: "link/.wh..wh..opq" }], 'archive entry "link/.wh..wh..opq" leads out'],
    ["a whiteout of ..", [{ name: "a/.wh..." }], 'archive entry "a/.wh..." is a whiteout of nothing'],
    ["a hard link outside", [{ name: "h", typeflag: "1", linkname: "../../etc/shadow" }], 'archive entry "h" has a ".." in its target "../../etc/shadow"'],
    [
      "a hard link to what the archive lacks",
      [{ name: "h", typeflag: "1", linkname: "/etc/shadow" }],
      'archive entry "h" is a hard link to "/etc/shadow", which is not in this layer',
    ],
    [
      "a hard link through a link",
      [link, { name: "h", typeflag: "1", linkname: "link/shadow" }],
      'archive entry "h" leads out of the layer through the symbolic link',
    ],
    [
      "a hard link to a directory",
      [
        { name: "d/", typeflag: "5" },
        { name: "h", typeflag: "1", linkname: "d" },
      ],
      'archive entry "h" is a hard link to the directory "d"',
    ],
    [
      "a hard link into what it replaces",
      [{ name: "d/f" }, { name: "d", typeflag: "1", linkname: "d/f" }],
      'archive entry "d" is a hard link to "d/f" in the directory that it replaces',
    ],
    ["a hard link to the root", [{ name: "h", typeflag: "1", linkname: "/" }], 'archive entry "h" is a hard link to "/"'],
    ["below a file", [{ name: "f" }, { name: "f/evil" }], 'archive entry "f/evil" lies below "f", which is not a directory'],
    ["the root itself", [{ name: "./", typeflag: "2", linkname: "x" }], 'archive entry "./" would replace the root directory'],
    ["a name that is too long", [pax({ path: "x".repeat(256) }), { name: "f" }], "has a component of 256 bytes"],
    ["below a whiteout", [{ name: ".wh.a/b" }], 'archive entry ".wh.a/b" lies below the whiteout'],
  ])("%s", async (_what, members, message) => {
    for (const whiteouts of ["overlay", "delete"] as const) {
      await expect(apply(new MemoryTree(), members, { whiteouts })).rejects.toMatchObject({ code: "corrupt", message: expect.stringContaining(message) });
    }
  });

  it("failures of the file tree name the entry too, and a full disk says so", async () => {
    const tree = new MemoryTree();
    tree.failOn = { op: "openFile", path: "b", errno: "ENOSPC" };
    await expect(apply(tree, [{ name: "a" }, { name: "b" }])).rejects.toMatchObject({ code: "storage", message: 'unpacking "b": no space left on device' });
    const stop = new AbortController();
    await expect(
      apply(new MemoryTree(), [{ name: "a", data: "x".repeat(5000) }], { signal: stop.signal, onProgress: ({ bytes }) => bytes > 2000 && stop.abort() }),
    ).rejects.toMatchObject({ code: "cancelled" });
  });
});

describe("the archive comes back byte for byte", () => {
  let directory: string;
  let count = 0;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "rebuild-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  /** Files on disk, as a tree reads them. */
  const filesIn = (record: string) => {
    const directory = join(record, "files");
    const readFile = async (path: TreePath) => {
      const bytes = readFileSync(Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(path)]));
      const data = async function* () {
        yield bytes;
      };
      const stat = await new MemoryTree().lstat("");
      return { stat: { ...stat!, type: "file" as const, size: bytes.length }, data: data(), close: async () => undefined };
    };
    return { directory, tree: { readFile } };
  };

  /** Applies, writes the files where a layer's files would be, and rebuilds. */
  async function rebuilt(archive: Buffer, chunk: number): Promise<Buffer> {
    const record = join(directory, String(count++));
    mkdirSync(join(record, "superseded"), { recursive: true });
    const tree = new MemoryTree();
    const index = new TarIndexWriter(join(record, "tar-index.gz"));
    const keep = async (path: string, number: number) =>
      writeFileSync(join(record, "superseded", String(number)), await collect((await tree.readFile(toBytes(path))).data));
    let applied: Awaited<ReturnType<typeof applyTar>>;
    try {
      applied = await applyTar(chunked(archive, chunk), { tree, whiteouts: "overlay", index, keep });
    } catch (error) {
      await index.discard();
      throw error;
    }
    await index.finish();
    expect(applied.diffId).toBe(digestOf(archive));
    for await (const entry of tree.walk("")) {
      const at = Buffer.concat([Buffer.from(`${record}/files/`), entry.path]);
      if (entry.type === "dir") mkdirSync(at, { recursive: true });
      else if (entry.type === "file") writeFileSync(at, await collect((await tree.readFile(entry.path)).data));
    }
    return collect(rebuildTar(record, filesIn(record), applied.diffId));
  }

  it("with odd padding, data after the end, replaced files, holes, and members that are no files", async () => {
    const archive = Buffer.concat([
      member({ name: "a", data: "first", paddingByte: 0x41 }),
      member({ name: "d/deep/x", data: "below" }),
      member({ name: "h", typeflag: "1", linkname: "a", size: 0 }),
      member({ name: "a", data: "second, longer", magic: "ustar  \0" }),
      member({ name: "d", data: "replaces a directory" }),
      pax({ "GNU.sparse.size": "90000", "GNU.sparse.map": "5,3,70000,700" }),
      member({ name: "s", data: Buffer.alloc(703, "s") }),
      member({ name: ".wh..wh.plnk/1.2", data: "left out" }),
      member({ name: "dump/", typeflag: "D", data: "Yx\0" }),
      member({ name: ".wh.gone", data: "whiteouts have no data, this one does" }),
      member({ name: "empty" }),
      end,
      Buffer.from("and something behind"),
      Buffer.alloc(3000),
    ]);
    for (const chunk of [97, 512, 100_000]) expect((await rebuilt(archive, chunk)).equals(archive)).toBe(true);
  });

  it("whatever it is, if it is accepted", async () => {
    let accepted = 0;
    const property = fc.asyncProperty(oddArchive, fc.integer({ min: 1, max: 4000 }), async (archive, chunk) => {
      try {
        expect((await rebuilt(archive, chunk)).equals(archive)).toBe(true);
        accepted++;
      } catch (error) {
        // Refusals are fine; that the tree was asked for something impossible is not.
        if (!isEngineError(error, "corrupt")) throw error;
      }
    });
    await fc.assert(property, { numRuns: 400 });
    expect(accepted).toBeGreaterThan(60);
  });

  it("and says so when the layer's files were changed", async () => {
    const record = join(directory, "changed");
    mkdirSync(join(record, "files"), { recursive: true });
    const archive = tar({ name: "f", data: "content" });
    const index = new TarIndexWriter(join(record, "tar-index.gz"));
    const { diffId } = await applyTar(chunked(archive), { tree: new MemoryTree(), whiteouts: "overlay", index });
    await index.finish();
    await expect(collect(rebuildTar(record, filesIn(record), diffId))).rejects.toMatchObject({
      code: "corrupt",
      message: 'file "f" of a layer cannot be read: ENOENT',
    });
    writeFileSync(join(record, "files/f"), "CONTENT");
    await expect(collect(rebuildTar(record, filesIn(record), diffId))).rejects.toMatchObject({
      code: "corrupt",
      message: expect.stringContaining("no longer has the content"),
    });
    writeFileSync(join(record, "files/f"), "con");
    await expect(collect(rebuildTar(record, filesIn(record), diffId))).rejects.toMatchObject({
      code: "corrupt",
      message: expect.stringContaining("shorter"),
    });
  });
});
