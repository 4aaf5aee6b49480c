import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { TreePath } from "#linux/file-tree.ts";
import { applyTar } from "./apply.ts";
import { compareWalkOrder, printable } from "./bytes.ts";
import { MemoryTree } from "./testing/memory-tree.ts";
import { TarReader } from "./tar/reader.ts";
import { chunked, collect, type Member, tar } from "./testing/tar-builder.ts";
import { comparedChanges, layerEntries, listChanges, type TreeChange, treeEntries, upperChanges } from "./tree-changes.ts";
import { UnionView } from "./union-view.ts";
import { walkUnion } from "./union-walk.ts";
import { writeTar } from "./write-tree.ts";

/** A layer's directory as overlay has it. "-name" = whiteout, "name!" = opaque directory, "name/" = directory, "name=text" = file, "name->x" = link. */
async function layer(...entries: string[]): Promise<MemoryTree> {
  const tree = new MemoryTree();
  const meta = { mode: 0o755, uid: 0, gid: 0, mtimeNs: 0n };
  for (const entry of entries) {
    const [name = "", value] = entry.split("=");
    const [from = "", to] = name.split("->");
    if (entry.startsWith("-")) await tree.mknod(name.slice(1), "char", 0, 0, meta);
    else if (to !== undefined) await tree.symlink(from, to, meta);
    else if (/[/!]$/.test(name))
      await tree.mkdir(name.slice(0, -1), {
        ...meta,
        ...(name.endsWith("!") ? { xattrs: [{ name: "trusted.overlay.opaque", value: Buffer.from("y") }] } : {}),
      });
    else {
      await tree.openFile(name, 0);
      await tree.writeData(Buffer.from(value ?? ""));
      await tree.closeFile({ ...meta, mode: 0o644 });
    }
  }
  for await (const { path, type } of tree.walk("")) if (type === "dir") await tree.setMeta(path, meta);
  return tree;
}

async function union(...layers: MemoryTree[]): Promise<string[]> {
  const lines: string[] = [];
  for await (const { path, stat, layer: from } of walkUnion(layers)) lines.push(`${from} ${stat.type} ${printable(path)}`);
  return lines;
}

describe("the union of layers", () => {
  it("shows the top-most of each name, and directories merged", async () => {
    expect(await union(await layer("a=1", "d/", "d/x"), await layer("a=2", "b", "d/", "d/y"))).toEqual([
      "0 file a",
      "1 file b",
      "0 dir d",
      "0 file d/x",
      "1 file d/y",
    ]);
  });

  it("hides what whiteouts, opaque directories and other kinds hide", async () => {
    const bottom = await layer("a", "d/", "d/sub/", "d/sub/x", "e/", "e/x", "f=file", "g/", "g/x");
    expect(await union(await layer("-a", "d!", "d/sub/", "e=file", "f/", "f/new", "-g"), bottom)).toEqual([
      "0 dir d",
      "0 dir d/sub",
      "0 file e",
      "0 dir f",
      "0 file f/new",
    ]);
  });

  it("judges each layer by those above it only", async () => {
    // The middle whiteout ends what is below; the top begins anew.
    expect(await union(await layer("d/", "d/top"), await layer("-d"), await layer("d/", "d/old"))).toEqual(["0 dir d", "0 file d/top"]);
    expect(await union(await layer("d/", "d/top"), await layer("d!", "d/mid"), await layer("d/", "d/old"))).toEqual([
      "0 dir d",
      "1 file d/mid",
      "0 file d/top",
    ]);
    expect(await union(await layer("d/"), await layer("d=file"), await layer("d/", "d/old"))).toEqual(["0 dir d"]);
  });

  it("looked up path by path says the same as walked", async () => {
    const entry = fc.constantFrom("a", "-a", "a/", "a!", "a/b", "-a/b", "a/b/", "a/b!", "a/b/c", "-a/b/c", "a->b", "d/", "d!", "d/e", "-d/e");
    const anyLayer = fc.uniqueArray(entry, { selector: (text) => text.replace(/^-|[/!]$|->.*/g, ""), maxLength: 6 }).map((list) => {
      const sorted = list.sort((x, y) => x.replace(/^-/, "").length - y.replace(/^-/, "").length);
      // Only what has its directory above it.
      return sorted.filter((text) => {
        const name = text.replace(/^-|[/!]$|->.*/g, "");
        const parent = name.slice(0, Math.max(0, name.lastIndexOf("/")));
        return (
          parent === "" ||
          (sorted.some((other) => other === `${parent}/` || other === `${parent}!`) &&
            (parent === "a" || parent === "d" || sorted.some((other) => other === "a/" || other === "a!")))
        );
      });
    });
    const property = fc.asyncProperty(fc.array(anyLayer, { minLength: 1, maxLength: 4 }), async (layers) => {
      const trees = await Promise.all(layers.map((entries) => layer(...entries)));
      const walked = new Map<string, string>();
      for await (const { path, stat } of walkUnion(trees)) walked.set(path, stat.type);
      const all = new MemoryTree();
      const meta = { mode: 0o755, uid: 0, gid: 0, mtimeNs: 0n };
      for (const [i, tree] of trees.entries()) {
        await all.mkdir(`l${i}`, meta);
        for await (const stat of tree.walk("")) {
          if (stat.path.length === 0) continue;
          const at = Buffer.concat([Buffer.from(`l${i}/`), stat.path]);
          if (stat.type === "dir") await all.mkdir(at, { ...meta, xattrs: stat.xattrs });
          else if (stat.type === "char") await all.mknod(at, "char", 0, 0, meta);
          else if (stat.type === "symlink") await all.symlink(at, stat.target!, meta);
          else {
            await all.openFile(at, 0);
            await all.closeFile(meta);
          }
        }
      }
      const view = new UnionView(
        all,
        trees.map((_, i) => `l${i}`),
      );
      for (const path of ["a", "a/b", "a/b/c", "d", "d/e"]) expect((await view.lookup(path))?.type, path).toBe(walked.get(path));
      const top = new Set([...walked.keys()].filter((path) => !path.includes("/")));
      expect(await view.names("")).toEqual([...top].sort());
      expect([...walked.keys()]).toEqual([...walked.keys()].sort(compareWalkOrder));
    });
    await fc.assert(property, { numRuns: 300 });
  });
});

async function upper(changes: MemoryTree, lower: MemoryTree | undefined) {
  return upperChanges(changes, lower === undefined ? undefined : new UnionView(lower, [""]));
}
const printed = async (changes: AsyncIterable<TreeChange>) =>
  (await listChanges(changes)).map(({ kind, path }) => `${{ modify: "C", add: "A", delete: "D" }[kind]} ${path}`);

describe("changes as docker diff prints them", () => {
  it("of an upper directory: added, modified, deleted, and the directories above", async () => {
    const lower = await layer("etc/", "etc/passwd", "etc/group", "bin/", "bin/sh", "var/", "var/log/", "var/log/x", "srv/");
    const changed = await layer("etc/", "etc/passwd=new", "-etc/group", "new/", "new/f", "-bin", "var/", "var/log/", "var/log/y", "srv/", "-never");
    expect(await printed(await upper(changed, lower))).toEqual([
      "D /bin",
      "C /etc",
      "D /etc/group",
      "C /etc/passwd",
      "A /new",
      "A /new/f",
      "C /var",
      "C /var/log",
      "A /var/log/y",
    ]);
  });

  it("of an opaque directory: what it lacks is deleted", async () => {
    const lower = await layer("d/", "d/kept", "d/gone", "d/sub/", "d/sub/x");
    expect(await printed(await upper(await layer("d!", "d/kept=2", "d/new"), lower))).toEqual(["C /d", "D /d/gone", "C /d/kept", "A /d/new", "D /d/sub"]);
    expect(await printed(await upper(await layer("d!"), undefined))).toEqual(["A /d"]);
  });

  it("of a copy", async () => {
    const old = await layer("a=1", "b=1", "d/", "d/x", "d/sub/", "d/sub/y", "e/", "e/z", "f=file", "same/", "same/x");
    const now = await layer("a=22", "d/", "d/new", "d/sub/", "d/sub/y", "e=file", "f/", "f/new", "same/", "same/x");
    expect(await printed(comparedChanges(treeEntries(now), treeEntries(old)))).toEqual([
      "C /a",
      "D /b",
      "C /d",
      "A /d/new",
      "D /d/x",
      "C /e",
      "C /f",
      "A /f/new",
    ]);
    expect(await printed(comparedChanges(treeEntries(now), treeEntries(now)))).toEqual([]);
    expect(await printed(comparedChanges(treeEntries(await layer("n")), undefined))).toEqual(["A /n"]);
  });
});

describe("a diff, applied again, gives the same tree", () => {
  const contents = async (tree: MemoryTree) => {
    const lines: string[] = [];
    for await (const { path, stat } of walkUnion([tree]))
      lines.push(
        `${stat.type} ${printable(path)} ${stat.mode.toString(8)} ${stat.type === "file" ? await collect((await tree.readFile(stat.path)).data) : ""}`,
      );
    return lines;
  };

  it("from a copy to a copy", async () => {
    const kinds = fc.constantFrom<Partial<Member>>(
      { typeflag: "5" },
      { data: "one" },
      { data: "another" },
      { typeflag: "2", linkname: "x" },
      { mode: 0o600, data: "one" },
    );
    const anyTree = fc.dictionary(fc.constantFrom("a", "a/b", "a/b/c", "a/d", "e", "e/f", "g"), kinds, { maxKeys: 6 }).map((entries) => {
      const names = Object.keys(entries).sort();
      return names
        .filter((name) => names.every((other) => !name.startsWith(`${other}/`) || entries[other]?.typeflag === "5"))
        .map((name): Member => ({ name, ...entries[name]! }));
    });
    const property = fc.asyncProperty(anyTree, anyTree, async (before, after) => {
      const [old, now, again] = [new MemoryTree(), new MemoryTree(), new MemoryTree()];
      for (const tree of [old, again]) await applyTar(chunked(tar(...before)), { tree, whiteouts: "delete" });
      await applyTar(chunked(tar(...after)), { tree: now, whiteouts: "delete" });
      const diff = await collect(writeTar(layerEntries(comparedChanges(treeEntries(now), treeEntries(old)), now)));
      await applyTar(chunked(diff), { tree: again, whiteouts: "delete" });
      expect(await contents(again)).toEqual(await contents(now));
      // The same changes once more are the same bytes.
      expect((await collect(writeTar(layerEntries(comparedChanges(treeEntries(now), treeEntries(old)), now)))).equals(diff)).toBe(true);
    });
    await fc.assert(property, { numRuns: 300 });
  });

  it("names the directories above what has changed, and no others", async () => {
    const old = await layer("d/", "d/e/", "d/e/f=1", "same/", "same/x");
    const now = await layer("d/", "d/e/", "d/e/f=22", "same/", "same/x");
    const diff = await collect(writeTar(layerEntries(comparedChanges(treeEntries(now), treeEntries(old)), now)));
    const names: string[] = [];
    const reader = new TarReader(chunked(diff));
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) names.push(entry.name);
    expect(names).toEqual(["d/", "d/e/", "d/e/f"]);
  });

  it("from an upper directory to another, with whiteouts and opaque directories", async () => {
    const lower = await layer("d/", "d/kept", "d/gone", "e/", "e/x", "f=1");
    const changed = await layer("d!", "d/new=2", "e/", "-e/x", "-f", "g->h");
    const diff = await collect(writeTar(layerEntries(await upper(changed, lower), changed)));
    const again = new MemoryTree();
    const view = new UnionView(lower, [""]);
    await applyTar(chunked(diff), { tree: again, whiteouts: "overlay", lower: (path) => view.lookup(path) });
    expect(await union(again, lower)).toEqual(await union(changed, lower));
  });

  it("hard links stay links, sockets are left out, a file that changes meanwhile keeps its length", async () => {
    const tree = await layer("a=same", "g=01", "r=", "z=0123456789");
    await tree.link("b", "a");
    const now = await layer("a=same", "g=01234", "r/", "z=012");
    const out = new MemoryTree();
    const told: string[] = [];
    // What is opened has the size that it had; its content comes from later.
    const reader = { readFile: async (path: TreePath) => ({ ...(await tree.readFile(path)), data: (await now.readFile(path)).data }) };
    const archive = await collect(
      writeTar(layerEntries(comparedChanges(treeEntries(tree), undefined), reader), (what) => {
        told.push(what);
      }),
    );
    await applyTar(chunked(archive), { tree: out, whiteouts: "delete" });
    expect(await out.lstat("a")).toMatchObject({ nlink: 2 });
    expect(await collect((await out.readFile("b")).data)).toEqual(Buffer.from("same"));
    expect(await collect((await out.readFile("g")).data)).toEqual(Buffer.from("01"));
    expect(await out.lstat("r")).toBeUndefined();
    expect(await collect((await out.readFile("z")).data)).toEqual(Buffer.from("012\0\0\0\0\0\0\0"));
    expect(told).toEqual([
      '"g" has grown while it was read: it is cut to the 2 bytes that it had',
      '"r" was removed or replaced before it was read',
      '"z" has shrunk by 7 bytes while it was read: it is padded with zeros',
    ]);
  });
});
