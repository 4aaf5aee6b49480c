import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { isEngineError } from "#core/errors.ts";
import { type FileMeta, type ListedTree, type TreeStat, wholeFileBytes } from "#linux/file-tree.ts";
import { Lab, until } from "./native-fixture.ts";

let lab: Lab;
let tree: ListedTree;
let at: string;
let count = 0;
beforeAll(async () => {
  lab = await Lab.open();
});
afterAll(() => lab.close());
beforeEach(async () => {
  await tree?.close();
  at = join(lab.directory, `tree${++count}`);
  mkdirSync(at);
  tree = await lab.helper.openTree(at);
});
afterAll(() => tree.close());

const NS = 1_234_567_890_123_456_789n;
const meta = (mode: number, more: Partial<FileMeta> = {}): FileMeta => ({ mode, uid: 0, gid: 0, mtimeNs: NS, ...more });
async function write(path: string | Uint8Array, text: string, its: FileMeta = meta(0o644)): Promise<void> {
  await tree.openFile(path, text.length);
  await tree.writeData(Buffer.from(text));
  await tree.closeFile(its);
}
const collect = async (path: string): Promise<TreeStat[]> => {
  const all: TreeStat[] = [];
  for await (const stat of tree.walk(path)) all.push(stat);
  return all;
};
const read = async (path: string): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of (await tree.readFile(path)).data) chunks.push(chunk);
  return Buffer.concat(chunks);
};
/** xattr support differs: trusted.* works on tmpfs and ext4 alike. */
const xattr = { name: "trusted.wherry", value: Buffer.from([0, 1, 255]) };

describe("a whole file at once", () => {
  it("has its content, owner, mode, time and attributes, whatever it replaces", async () => {
    await tree.mkdir("is/a", meta(0o700));
    const put = (path: string, bytes: number, its: FileMeta) => tree.wholeFile?.(path, Buffer.alloc(bytes, 7), its);
    expect(put("is", 10_000, meta(0o6755, { uid: 12, gid: 34, xattrs: [xattr] }))).toBe(true);
    expect(put("empty", 0, meta(0o4711))).toBe(true);
    expect(put("private", 3, meta(0))).toBe(true);
    expect(put("new/parents/f", 1, meta(0o644, { gid: 5 }))).toBe(true);
    await tree.flush();
    const found = await Promise.all(["is", "empty", "private", "new/parents/f"].map((path) => tree.lstat(path)));
    expect(found).toMatchObject([
      { type: "file", size: 10_000, mode: 0o6755, uid: 12, gid: 34, mtimeNs: NS, xattrs: [{ name: xattr.name }] },
      { size: 0, mode: 0o4711, uid: 0, gid: 0, mtimeNs: NS },
      { size: 3, mode: 0, mtimeNs: NS },
      { size: 1, mode: 0o644, uid: 0, gid: 5, mtimeNs: NS },
    ]);
    expect((await read("is")).equals(Buffer.alloc(10_000, 7))).toBe(true);
  });

  it("is done another way when it is too long, or something has failed before", async () => {
    expect(tree.wholeFile?.("f", Buffer.alloc(wholeFileBytes + 1), meta(0o644))).toBe(false);
    expect(tree.wholeFile?.("f", Buffer.alloc(wholeFileBytes), meta(0o644))).toBe(true);
    await tree.flush();
    expect(tree.wholeFile?.("../f", Buffer.alloc(1), meta(0o644))).toBe(true);
    await expect(tree.flush()).rejects.toMatchObject({ details: { op: "file", errno: "EXDEV", path: "../f" } });
    await tree.flush();
    expect(await tree.lstat("f")).toMatchObject({ size: wholeFileBytes });
  });
});

describe("making entries where something may be", () => {
  const failure = async (work: Promise<void>) => {
    const error: unknown = await work
      .then(
        () => tree.flush(),
        (reason: unknown) => reason,
      )
      .catch((reason: unknown) => reason);
    return isEngineError(error) ? { op: error.details["op"], errno: error.details.errno, path: error.details["path"] } : error;
  };

  it("makes a directory only where nothing is, and sets the metadata of directories only", async () => {
    await write("f", "text");
    await tree.mkdir("d", meta(0o700));
    await tree.ensureDirectory("f", meta(0o711));
    await tree.ensureDirectory("d", meta(0o711));
    await tree.ensureDirectory("new", meta(0o711, { uid: 9 }));
    await tree.symlink("l", "d", meta(0o777));
    for (const path of ["f", "l", "missing"]) await tree.setDirectoryMeta(path, meta(0o4755));
    await tree.setDirectoryMeta("new", meta(0o1755, { gid: 3 }));
    await tree.flush();
    expect(await tree.lstat("f")).toMatchObject({ type: "file", mode: 0o644 });
    expect(await tree.lstat("d")).toMatchObject({ type: "dir", mode: 0o700 });
    expect(await tree.lstat("l")).toMatchObject({ type: "symlink" });
    expect(await tree.lstat("new")).toMatchObject({ type: "dir", mode: 0o1755, uid: 0, gid: 3, mtimeNs: NS });
    expect(await tree.lstat("missing")).toBeUndefined();
  });

  it("says which of a directory and another thing is in the way", async () => {
    await write("d/f", "text");
    await tree.expect("d", true);
    await tree.expect("d/f", false);
    await tree.expect("missing/x", true);
    expect(await failure(tree.expect("d/f", true))).toEqual({ op: "expect", errno: "ENOTDIR", path: "d/f" });
    expect(await failure(tree.expect("d", false))).toEqual({ op: "expect", errno: "EISDIR", path: "d" });
  });
});

describe("reading files", () => {
  it("gives what a file is and what it holds from one look, many asked for together", async () => {
    for (let i = 0; i < 40; i++) await write(`r/f${i}`, "x".repeat(i * 1000));
    await tree.flush();
    const files = await Promise.all(Array.from({ length: 40 }, (_, i) => tree.readFile(`r/f${i}`)));
    for (const [i, file] of files.entries()) {
      expect(file.stat).toMatchObject({ type: "file", size: i * 1000, mode: 0o644, mtimeNs: NS });
      let bytes = 0;
      for await (const piece of file.data) bytes += piece.byteLength;
      expect(bytes).toBe(i * 1000);
    }
    await expect(tree.readFile("r")).rejects.toMatchObject({ details: { errno: "EISDIR" } });
    await tree.symlink("r/l", "f1", meta(0o777));
    await tree.flush();
    await expect(tree.readFile("r/l")).rejects.toMatchObject({ details: { errno: "ELOOP" } });
  });

  it("can be given up at any time", async () => {
    await tree.openFile("large", 0);
    for (let i = 0; i < 8; i++) await tree.writeData(Buffer.alloc(1 << 20));
    await tree.closeFile(meta(0o644));
    await tree.flush();
    for (let i = 0; i < 100; i++) {
      const file = await tree.readFile("large");
      if (i % 2 === 0) for await (const piece of file.data) if (piece.byteLength > 0) break;
      await file.close();
    }
    expect((await read("large")).length).toBe(8 << 20);
  });
});

describe("making entries", () => {
  it("sets owner, mode (with set-uid), nanosecond time and xattrs of every kind", async () => {
    await tree.mkdir("d", meta(0o1750, { uid: 1, gid: 2, xattrs: [xattr] }));
    await write("d/f", "hello", meta(0o6755, { uid: 3, gid: 4, xattrs: [xattr] }));
    await tree.symlink("d/s", "../nowhere", meta(0o777, { uid: 5, gid: 6, xattrs: [xattr] }));
    await tree.mknod("d/c", "char", 1, 3, meta(0o666, { gid: 5 }));
    await tree.mknod("d/b", "block", 7, 300, meta(0o660));
    await tree.mknod("d/p", "fifo", 0, 0, meta(0o600, { mtimeNs: -1n }));
    await tree.link("d/h", "d/f");
    await tree.flush();
    const seen = Object.fromEntries((await collect("d")).map((stat) => [Buffer.from(stat.path).toString(), stat]));
    expect(Object.keys(seen)).toEqual(["d", "d/b", "d/c", "d/f", "d/h", "d/p", "d/s"]);
    expect(seen["d"]).toMatchObject({ type: "dir", mode: 0o1750, uid: 1, gid: 2 });
    expect(seen["d/f"]).toMatchObject({ type: "file", mode: 0o6755, uid: 3, gid: 4, size: 5, mtimeNs: NS, nlink: 2, xattrs: [xattr] });
    expect(seen["d/h"]?.ino).toBe(seen["d/f"]?.ino);
    expect(seen["d/s"]).toMatchObject({ type: "symlink", uid: 5, gid: 6, mtimeNs: NS, target: Buffer.from("../nowhere"), xattrs: [xattr] });
    expect(seen["d/c"]).toMatchObject({ type: "char", mode: 0o666, gid: 5, major: 1, minor: 3 });
    expect(seen["d/b"]).toMatchObject({ type: "block", mode: 0o660, major: 7, minor: 300 });
    expect(seen["d/p"]).toMatchObject({ type: "fifo", mode: 0o600, mtimeNs: -1n });
    expect(seen["d"]?.dev).toBe(BigInt(statSync(join(at, "d"), { bigint: true }).dev));
    expect(await read("d/f")).toEqual(Buffer.from("hello"));
  });

  it("keeps a file capability, which a later chown would drop", async () => {
    const capability = { name: "security.capability", value: Buffer.from("0100000200200000000000000000000000000000", "hex") };
    await write("ping", "x", meta(0o755, { uid: 7, gid: 8, xattrs: [capability] }));
    await tree.flush();
    expect((await tree.lstat("ping"))?.xattrs).toEqual([capability]);
  });

  it("replaces what is there", async () => {
    await write("x", "old");
    await tree.mkdir("x", meta(0o755));
    await write("x/inside", "1");
    await tree.mkdir("x", meta(0o700)); // an existing directory stays
    await tree.flush();
    expect(readdirSync(join(at, "x"))).toEqual(["inside"]);
    expect(statSync(join(at, "x")).mode & 0o777).toBe(0o700);
    await tree.symlink("x", "target", meta(0o777));
    await write("x", "new");
    await tree.flush();
    expect(readFileSync(join(at, "x"), "utf8")).toBe("new");
    expect(existsSync(join(at, "target"))).toBe(false);
    await tree.mknod("x", "char", 0, 0, meta(0));
    await tree.link("y", "x");
    await tree.link("y", "x");
    await tree.flush();
    expect(lstatSync(join(at, "y")).isCharacterDevice()).toBe(true);
  });

  it("makes missing parents, and takes names of any bytes", async () => {
    const name = Buffer.concat([Buffer.from("deep/er/"), Buffer.from([0xff, 0xfe, 0x0a, 0x20])]);
    await write(name, "x");
    await tree.rename("deep/er", "other/place");
    await tree.flush();
    const [, , last] = await collect("other");
    expect(Buffer.from(last!.path)).toEqual(Buffer.concat([Buffer.from("other/place/"), Buffer.from([0xff, 0xfe, 0x0a, 0x20])]));
  });

  it("makes sparse files", async () => {
    await tree.openFile("sparse", 0);
    await tree.skip(10 << 20);
    await tree.writeData(Buffer.from("middle"));
    await tree.skip(10 << 20);
    await tree.closeFile(meta(0o644));
    await tree.sync();
    const stat = await tree.lstat("sparse");
    expect(stat?.size).toBe((20 << 20) + 6);
    expect(stat!.blocks * 512).toBeLessThan(1 << 20);
    const data = await read("sparse");
    expect(data.subarray(10 << 20, (10 << 20) + 6).toString()).toBe("middle");
    expect(data.length).toBe(stat?.size);
  });
});

describe("what leads out of the tree", () => {
  it.each(["../x", "a/../../x", "/x", "a/..", ".."])("%s is refused, and the error names it", async (path) => {
    await tree.mkdir(path, meta(0o755)).catch(() => {});
    await expect(tree.flush()).rejects.toMatchObject({
      code: "kernel",
      details: { errno: "EXDEV", op: "mkdir", path },
      message: expect.stringContaining(path),
    });
    await expect(tree.lstat(path)).rejects.toThrow("leads out of the tree");
    await expect(read(path)).rejects.toThrow("leads out of the tree");
    await expect(collect(path)).rejects.toThrow("leads out of the tree");
    expect(existsSync(join(lab.directory, "x"))).toBe(false);
  });

  it("a link to the outside leads nowhere outside", async () => {
    const outside = join(lab.directory, `outside${count}`);
    mkdirSync(outside);
    writeFileSync(join(outside, "secret"), "s");
    symlinkSync(outside, join(at, "abs"));
    symlinkSync("../../../../../../../..", join(at, "up"));
    for (const attempt of [
      () => write("abs/planted", "x"),
      () => write(`up${outside}/planted`, "x"),
      () => tree.remove("abs/secret"),
      () => tree.remove(`up${outside}/secret`),
      () => tree.link("stolen", "abs/secret"),
      () => tree.link("stolen", `up${outside}/secret`),
      () => tree.setMeta("abs", meta(0o777, { uid: 12 })),
      () => tree.rename("abs/secret", "stolen"),
    ]) {
      await attempt().catch(() => {});
      await tree.flush().catch(() => {});
    }
    await expect(read("abs/secret")).rejects.toThrow("no such file");
    await expect(read("abs")).rejects.toMatchObject({ details: { errno: "ELOOP" } });
    expect(readdirSync(outside)).toEqual(["secret"]);
    expect(existsSync(join(at, "stolen"))).toBe(false);
    expect(statSync(outside).uid).toBe(0);
    expect(lstatSync(join(at, "abs")).uid).toBe(12);
  });

  it("removing a tree follows no link and stops at nothing deep", async () => {
    const outside = join(lab.directory, `kept${count}`);
    mkdirSync(outside);
    writeFileSync(join(outside, "file"), "s");
    await tree.symlink("t/link", outside, meta(0o777));
    await tree.flush();
    // 3,000 levels of directories: no path of the kernel's can name the last.
    const script = `const fs = require("fs"); process.chdir("${at}/t"); for (let i = 0; i < 3000; i++) { fs.mkdirSync("d"); fs.writeFileSync("f", ""); process.chdir("d"); }`;
    execFileSync(process.execPath, ["-e", script]);
    await tree.remove("t");
    await tree.remove("t");
    await tree.flush();
    expect(readdirSync(at)).toEqual([]);
    expect(readFileSync(join(outside, "file"), "utf8")).toBe("s");
  });

  it("reading never opens a device or waits for a fifo", async () => {
    await tree.mknod("p", "fifo", 0, 0, meta(0o600));
    await tree.mkdir("d", meta(0o755));
    await tree.flush();
    await expect(read("p")).rejects.toMatchObject({ details: { errno: "EINVAL" } });
    await expect(read("d")).rejects.toMatchObject({ details: { errno: "EISDIR" } });
  });
});

describe("errors", () => {
  it("the first one is told at the flush, and nothing after it is done", async () => {
    await write("before", "1");
    await tree.setMeta("missing", meta(0o644));
    const later = await write("after", "2").catch((error: unknown) => error);
    await expect(tree.flush()).rejects.toMatchObject({ details: { op: "meta", path: "missing", errno: "ENOENT" } });
    if (later !== undefined) expect(later).toMatchObject({ details: { path: "missing" } });
    expect(existsSync(join(at, "before"))).toBe(true);
    expect(existsSync(join(at, "after"))).toBe(false);
    await write("after", "2"); // the flush has cleared it
    await tree.flush();
    expect(existsSync(join(at, "after"))).toBe(true);
  });

  it("a full disk is a storage error", async () => {
    const small = join(at, "small");
    mkdirSync(small);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "none", small]);
    try {
      const full = await lab.helper.openTree(small);
      const fill = async () => {
        await full.openFile("big", 0);
        for (let i = 0; i < 40; i++) await full.writeData(Buffer.alloc(100_000, 1));
        await full.closeFile(meta(0o644));
        await full.flush();
      };
      await expect(fill()).rejects.toMatchObject({ code: "storage", details: { errno: "ENOSPC", path: "big" } });
      await full.close();
    } finally {
      execFileSync("umount", [small]);
    }
  });

  it("a NUL in a name is refused before it is sent", async () => {
    await expect(tree.remove("a\0b")).rejects.toMatchObject({ code: "invalid" });
    await tree.flush();
  });

  it("a worker that dies is an error, not a hang", async () => {
    const pid = Number(
      execFileSync("sh", ["-c", `grep -l "wherry-tree ${at}" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3 | head -n1`], { encoding: "utf8" }),
    );
    expect(pid).toBeGreaterThan(1);
    process.kill(pid, "SIGKILL");
    await expect(tree.flush()).rejects.toThrow("file worker");
    await until("later calls fail too", () =>
      tree.remove("x").then(
        () => false,
        () => true,
      ),
    );
  });

  it("a directory that does not exist cannot be opened", async () => {
    await expect(lab.helper.openTree(join(at, "none"))).rejects.toMatchObject({ details: { errno: "ENOENT" } });
  });
});

describe("listing", () => {
  it("tells what is in one directory in brief, as a walk tells it", async () => {
    await tree.mkdir("d", meta(0o750, { uid: 7, gid: 8 }));
    await write("d/b", "text", meta(0o4711, { uid: 0xfffffffe, xattrs: [xattr] }));
    await tree.link("d/c", "d/b");
    await tree.symlink("d/a", "some/where", meta(0o777));
    await tree.mkdir("d/sub", meta(0o700));
    await write("d/sub/deeper", "x");
    await tree.mknod("d/z", "char", 1, 3, meta(0o600));
    await tree.flush();
    const told = (await tree.list("d")).flatMap((entries) => {
      const all = [];
      for (let at = entries.start; at < entries.data.length; at = entries.after(at)) {
        const number = (name: Parameters<typeof entries.number>[1]) => entries.number(at, name);
        all.push({
          path: entries.path(at),
          type: entries.type(at),
          size: entries.size(at),
          mtimeNs: entries.mtimeNs(at),
          target: entries.target(at),
          inode: entries.inode(at),
          ctimeMs: Math.round(entries.ctimeMs(at)),
          ids: [number("mode"), number("uid"), number("gid"), number("nlink"), number("major"), number("minor")],
        });
      }
      return all;
    });
    const walked = (await collect("d")).filter(({ path }) => /^d\/[^/]*$/.test(path.toString()));
    expect(told.map(({ path, type }) => `${type} ${path}`)).toEqual(["symlink d/a", "file d/b", "file d/c", "dir d/sub", "char d/z"]);
    expect(told).toMatchObject(
      walked.map((stat) => ({
        path: stat.path.toString(),
        type: stat.type,
        size: stat.size,
        mtimeNs: stat.mtimeNs,
        target: stat.target?.toString() ?? "",
        ctimeMs: Math.round(Number(stat.ctimeNs / 1000n) / 1000),
        ids: [stat.mode, stat.uid, stat.gid, stat.nlink, stat.major, stat.minor],
      })),
    );
    expect(told[1]!.inode).toBe(told[2]!.inode);
    expect(told[1]!.inode).not.toBe(told[0]!.inode);
  });

  it("tells the root, an empty directory, and nothing of what is none", async () => {
    await tree.mkdir("empty", meta(0o755));
    await write("file", "");
    await tree.symlink("link", "empty", meta(0o777));
    await tree.flush();
    const names = async (path: string) =>
      (await tree.list(path)).flatMap((entries) => {
        const all: string[] = [];
        for (let at = entries.start; at < entries.data.length; at = entries.after(at)) all.push(entries.path(at));
        return all;
      });
    expect(await names("")).toEqual(["empty", "file", "link"]);
    for (const path of ["empty", "file", "link"]) expect(await names(path)).toEqual([]);
    await expect(tree.list("missing")).rejects.toMatchObject({ details: { errno: "ENOENT", op: "list" } });
    await expect(tree.list("../x")).rejects.toMatchObject({ details: { errno: "EXDEV" } });
  });

  it("gives a directory of thousands in several pieces", async () => {
    const names = Array.from({ length: 3000 }, (_, i) => `file-${String(i).padStart(5, "0")}`);
    for (const name of names) writeFileSync(join(at, name), "");
    const lists = await tree.list("");
    expect(lists.length).toBeGreaterThan(1);
    const seen: string[] = [];
    for (const entries of lists) for (let each = entries.start; each < entries.data.length; each = entries.after(each)) seen.push(entries.path(each));
    expect(seen).toEqual(names);
  });
});

describe("walking", () => {
  it("goes in byte order, parents first, while others are looked at", async () => {
    for (const path of ["b/2", "b/10", "a!", "a/z/deep", "a0", "ä"]) await write(path, path);
    await tree.flush();
    const seen: string[] = [];
    for await (const stat of tree.walk("")) {
      const path = Buffer.from(stat.path).toString();
      seen.push(path);
      if (stat.type === "file") expect((await read(path)).toString()).toBe(path);
      expect((await tree.lstat(stat.path))?.ino).toBe(stat.ino);
    }
    expect(seen).toEqual(["", "a", "a/z", "a/z/deep", "a!", "a0", "b", "b/10", "b/2", "ä"].sort((x, y) => comparePaths(x, y)));
  });
  const comparePaths = (x: string, y: string) => {
    const [a, b] = [x.split("/"), y.split("/")];
    for (let i = 0; i < Math.max(a.length, b.length); i++) {
      const order = Buffer.compare(Buffer.from(a[i] ?? ""), Buffer.from(b[i] ?? ""));
      if (order !== 0) return order;
    }
    return 0;
  };

  it("may be left early, and does not cross mounts", async () => {
    for (let i = 0; i < 40; i++)
      for await (const stat of tree.walk("")) {
        expect(stat.type).toBe("dir");
        break;
      }
    await tree.mkdir("m/mounted", meta(0o755));
    await tree.flush();
    execFileSync("mount", ["-t", "tmpfs", "none", join(at, "m/mounted")]);
    try {
      writeFileSync(join(at, "m/mounted/file"), "");
      const other = await lab.helper.openTree(at);
      const seen: string[] = [];
      for await (const stat of other.walk("m")) seen.push(Buffer.from(stat.path).toString());
      expect(seen).toEqual(["m", "m/mounted"]);
      await expect(other.remove("m").then(() => other.flush())).rejects.toMatchObject({ details: { errno: "EBUSY" } });
      await other.close();
    } finally {
      execFileSync("umount", [join(at, "m/mounted")]);
    }
  });

  it("tells what is not there", async () => {
    expect(await tree.lstat("none")).toBeUndefined();
    expect(await tree.lstat("none/below")).toBeUndefined();
    await expect(collect("none")).rejects.toMatchObject({ details: { errno: "ENOENT" } });
    expect((await tree.lstat(""))?.type).toBe("dir");
  });
});

describe("speed", () => {
  it("writes, walks, reads and removes 10,000 files in seconds", async () => {
    const content = "x".repeat(2000);
    const started = performance.now();
    for (let i = 0; i < 10_000; i++) await write(`d${i % 100}/f${i}`, content);
    await tree.flush();
    const written = performance.now();
    const stats = await collect("");
    const walked = performance.now();
    await tree.remove("d0");
    for (let i = 1; i < 100; i++) await tree.remove(`d${i}`);
    await tree.flush();
    const removed = performance.now();
    expect(stats.filter((stat) => stat.type === "file" && stat.size === 2000)).toHaveLength(10_000);
    expect(readdirSync(at)).toEqual([]);
    console.log(
      `10,000 files: write ${(written - started).toFixed(0)} ms, walk ${(walked - written).toFixed(0)} ms, remove ${(removed - walked).toFixed(0)} ms`,
    );
    expect(removed - started).toBeLessThan(10_000);
  });

  it("moves 200 MB in bounded memory", async () => {
    const piece = Buffer.alloc(1 << 20, "0123456789abcdef");
    const started = performance.now();
    const before = process.memoryUsage().rss;
    await tree.openFile("big", 0);
    for (let i = 0; i < 200; i++) await tree.writeData(piece);
    await tree.closeFile(meta(0o644));
    await tree.flush();
    expect(process.memoryUsage().rss - before).toBeLessThan(128 << 20);
    const written = performance.now();
    let size = 0;
    for await (const chunk of (await tree.readFile("big")).data) size += chunk.length;
    expect(size).toBe(200 << 20);
    console.log(`200 MB: write ${(200_000 / (written - started)).toFixed(0)} MB/s, read ${(200_000 / (performance.now() - written)).toFixed(0)} MB/s`);
  });
});
