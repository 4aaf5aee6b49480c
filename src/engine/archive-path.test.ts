import { describe, expect, it } from "vitest";
import type { FileTree, TreeStat } from "#linux/file-tree.ts";
import { archivePath, followLinks } from "./archive-path.ts";

describe("paths of cp", () => {
  it("are absolute and clean, and keep their end", () => {
    expect(archivePath("d/file")).toEqual({ absolute: "/d/file", base: "file", inTree: "d/file" });
    expect(archivePath("../../etc/./x")).toEqual({ absolute: "/etc/x", base: "x", inTree: "etc/x" });
    expect(archivePath("/d/")).toEqual({ absolute: "/d/", base: "d", inTree: "d/." });
    expect(archivePath("/d/.")).toEqual({ absolute: "/d/.", base: ".", inTree: "d/." });
    expect(archivePath("/")).toEqual({ absolute: "/", base: "/", inTree: "" });
    expect(archivePath("/.")).toEqual({ absolute: "/.", base: ".", inTree: "" });
  });

  const links: Readonly<Record<string, string>> = { a: "/b", "b/up": "../../../c", "b/loop": "loop", dangling: "nowhere/x" };
  const tree = {
    lstat: async (path: string) => {
      const target = links[path];
      if (target !== undefined) return { type: "symlink", target: Buffer.from(target) } as unknown as TreeStat;
      return ["b", "c", "c/f"].includes(path) ? ({ type: "dir" } as unknown as TreeStat) : undefined;
    },
  } as unknown as FileTree;

  it("show where links lead, never above the root", async () => {
    expect((await followLinks(tree, "a/up/f")).path).toBe("/c/f");
    expect((await followLinks(tree, "dangling")).path).toBe("/nowhere/x");
    expect((await followLinks(tree, "dangling")).stat).toBeUndefined();
    expect((await followLinks(tree, "a/loop")).path).toBe("/b/loop");
  });
});
