import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { endBlocks, formatHeader, padding, type WriteEntry } from "#unionfs/tar/writer.ts";
import { findDestination, layerTar, placeFiles } from "./copy-layer.ts";
import { parseChmod } from "./file-mode.ts";
import { selectFiles } from "./select-files.ts";
import { resolveWithin, type SourceTree } from "./source-tree.ts";
import { TarTree } from "./tar-tree.ts";
import { isArchive, unpackedEntries } from "./unpack.ts";

const work = mkdtempSync(join(tmpdir(), "wt-hostile-"));
afterAll(() => rmSync(work, { recursive: true, force: true }));

type Given = Partial<Omit<WriteEntry, "size">> & { readonly name: string; readonly content?: string };

async function* tarOf(...entries: readonly Given[]): AsyncIterable<Uint8Array> {
  for (const { content = "", ...given } of entries) {
    const type = given.type ?? "file";
    const size = type === "file" ? content.length : 0;
    yield formatHeader({ type, linkname: "", mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n, major: 0, minor: 0, xattrs: [], ...given, size });
    if (size > 0) yield Buffer.concat([Buffer.from(content), padding(size)]);
  }
  yield endBlocks();
}

let files = 0;
const receive = (...entries: readonly Given[]) => TarTree.receive(tarOf(...entries), join(work, `tar-${++files}`));
const missing = (pattern: string) => new Error(`missing ${pattern}`) as never;
const select = (tree: SourceTree, pattern: string, more: { parents?: boolean; exclude?: string[] } = {}) =>
  selectFiles(tree, pattern, { parents: false, exclude: [], missing, ...more });
const names = async (tree: SourceTree, pattern: string, more: { parents?: boolean; exclude?: string[] } = {}) =>
  (await select(tree, pattern, more)).flatMap(({ files: selected }) => selected.map(({ name, entry }) => `${name || "."} ${entry.type}`));

describe("a context made to do harm", () => {
  it.each(["../evil", "a/../../evil", "/../evil"])("the name %s is refused, and nothing is written but the archive", async (name) => {
    await expect(receive({ name, content: "x" })).rejects.toThrow("leads out of it");
    expect(readdirSync(work).every((file) => file.startsWith("tar-"))).toBe(true);
  });

  it("what is no archive is refused", async () => {
    const text = (async function* () {
      yield Buffer.from("FROM busybox\n".repeat(100));
    })();
    await expect(TarTree.receive(text, join(work, "tar-text"))).rejects.toThrow("the build context cannot be read");
  });

  it("links lead nowhere but into the context, and loops end", async () => {
    const tree = await receive(
      { name: "etc/passwd", content: "mine" },
      { name: "abs", type: "symlink", linkname: "/etc/passwd" },
      { name: "up", type: "symlink", linkname: "../../../../etc/passwd" },
      { name: "loop", type: "symlink", linkname: "loop2" },
      { name: "loop2", type: "symlink", linkname: "loop" },
      { name: "self", type: "symlink", linkname: "self/self" },
    );
    for (const link of ["abs", "up"]) {
      const [{ files: selected }] = (await select(tree, link)) as [Awaited<ReturnType<typeof select>>[number]];
      expect(selected[0]!.entry.path).toBe("etc/passwd");
    }
    for (const loop of ["loop", "self", "loop/x"]) await expect(select(tree, loop)).rejects.toThrow("too many levels of symbolic links");
    await expect(select(tree, "../../../../../proc/self/environ")).rejects.toThrow("missing");
  });

  it("a hard link to what is not there is refused; one that is there is the same file", async () => {
    await expect(receive({ name: "l", type: "link", linkname: "/etc/shadow" })).rejects.toThrow("which is not in the build context before it");
    const tree = await receive({ name: "a", content: "1" }, { name: "l", type: "link", linkname: "a" });
    expect((await tree.lstat("l"))?.inode).toBe((await tree.lstat("a"))?.inode);
  });

  it("a file below a file takes its place, and what was there is gone", async () => {
    const tree = await receive({ name: "a", content: "1" }, { name: "a/b", content: "2" }, { name: "d/x", content: "3" }, { name: "d", content: "4" });
    expect((await tree.lstat("a"))?.type).toBe("dir");
    expect(await tree.lstat("d/x")).toBeUndefined();
  });

  it("names that would remove something of the layers below are refused", async () => {
    const tree = await receive({ name: "d/.wh.etc", content: "" });
    const placed = placeFiles(await select(tree, "d"), { path: "", type: "dir", missing: [] }, true, { owner: undefined, mode: undefined, clampNs: undefined });
    await expect(collect(layerTar(placed))).rejects.toThrow("names that begin with .wh.");
  });
});

describe("an archive for ADD made to do harm", () => {
  const none = { owner: undefined, mode: undefined, clampNs: undefined };
  const unpack = async (entries: readonly Given[], root: Readonly<Record<string, string>> = {}) => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of tarOf(...entries)) chunks.push(chunk);
    const tree = await receive({ name: "x.tar", content: Buffer.concat(chunks).toString("latin1") });
    const entry = (await tree.lstat("x.tar"))!;
    expect(await isArchive(tree, entry)).toBe(true);
    const lstat = async (path: string) => (Object.hasOwn(root, path) ? { type: "symlink" as const, target: root[path]! } : undefined);
    async function* whole() {
      yield* unpackedEntries({ tree, entry }, "dest", lstat, none);
      yield endBlocks();
    }
    const made = await TarTree.receive(whole(), join(work, `tar-${++files}`));
    const all: string[] = [];
    for await (const { path, type } of made.walk("")) if (type !== "dir") all.push(path);
    return all;
  };

  it("names that lead out are refused", async () => {
    await expect(unpack([{ name: "../../etc/passwd", content: "x" }])).rejects.toThrow("leads out of the destination");
    await expect(unpack([{ name: "a", type: "link", linkname: "../../etc/shadow" }])).rejects.toThrow("leads out of the destination");
  });

  it("links on the way are followed within the root: those of the archive, and those that were there", async () => {
    expect(
      await unpack([
        { name: "l", type: "symlink", linkname: "/" },
        { name: "l/at-root", content: "x" },
      ]),
    ).toEqual(["at-root", "dest/l"]);
    expect(await unpack([{ name: "there/x", content: "x" }], { "dest/there": "/var/real" })).toEqual(["var/real/x"]);
  });

  it("whiteouts in it remove nothing", async () => {
    await expect(unpack([{ name: ".wh.etc", content: "" }])).rejects.toThrow("names that begin with .wh.");
  });
});

describe("which files COPY means", () => {
  const tree = receive(
    { name: "a/one.txt", content: "1" },
    { name: "a/b/two.txt", content: "2" },
    { name: "a/b/x.log", content: "3" },
    { name: "top.txt", content: "4" },
  );
  it.each<[string, { parents?: boolean; exclude?: string[] }, string[]]>([
    ["a", {}, ["b dir", "b/two.txt file", "b/x.log file", "one.txt file"]],
    ["a/*.txt", {}, ["one.txt file"]],
    ["a/b/two.txt", { parents: true }, ["a dir", "a/b dir", "a/b/two.txt file"]],
    ["a/./b/two.txt", { parents: true }, ["b dir", "b/two.txt file"]],
    ["a", { exclude: ["**/*.log"] }, ["b dir", "b/two.txt file", "one.txt file"]],
    ["a/**/*.txt", { parents: true }, ["a dir", "a/b dir", "a/b/two.txt file", "a dir", "a/one.txt file"]],
    ["../../top.txt", {}, ["top.txt file"]],
  ])("%s %j", async (pattern, more, expected) => {
    expect(await names(await tree, pattern, more)).toEqual(expected);
  });

  it("a destination follows links within the root", async () => {
    const links: Record<string, { type: "dir" | "symlink"; target: string }> = {
      lib: { type: "symlink", target: "usr/lib" },
      usr: { type: "dir", target: "" },
      "usr/lib": { type: "dir", target: "" },
    };
    const lstat = async (path: string) => links[path];
    expect(await findDestination(lstat, "/lib/x/y")).toEqual({ path: "usr/lib/x/y", type: undefined, missing: ["usr/lib/x"] });
    expect(await resolveWithin(lstat, "lib/../../..", true)).toBe("");
  });

  it.each([
    ["755", 0o600, false, 0o755],
    ["u=rwX,go=rX", 0o600, false, 0o644],
    ["u=rwX,go=rX", 0o600, true, 0o755],
    ["+x", 0o644, false, 0o755],
    ["o-rwx,g+s", 0o755, false, 0o2750],
  ])("--chmod=%s on %o", (text, mode, isDirectory, expected) => {
    expect(parseChmod(text)(mode, isDirectory)).toBe(expected);
  });
});

async function collect(source: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _chunk of source);
}
