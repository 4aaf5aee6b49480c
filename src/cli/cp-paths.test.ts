import { describe, expect, it } from "vitest";
import { followed, localPath, place, renamed, splitArgument, splitEntry } from "./cp-paths.ts";

describe("cp: arguments", () => {
  it("names a container, or a path here", () => {
    expect(splitArgument("web:/etc")).toEqual({ container: "web", path: "/etc" });
    for (const path of ["./web:/etc", "/web:/etc", "web", "-", ":x"]) expect(splitArgument(path)).toEqual({ container: undefined, path });
  });

  it("keeps what stands at the end of a path here", () => {
    expect(localPath("/home", "a/../b/")).toBe("/home/b/");
    expect(localPath("/home", "b/.")).toBe("/home/b/.");
    expect(localPath("/home", ".")).toBe("/home/.");
    expect(localPath("/", "x")).toBe("/x");
  });

  it("splits a path as docker does", () => {
    expect(splitEntry("/d/.")).toEqual({ directory: "/d", base: "." });
    expect(splitEntry("/d/")).toEqual({ directory: "/", base: "d" });
    expect(splitEntry("/")).toEqual({ directory: "/", base: "/" });
    expect(splitEntry("")).toEqual({ directory: ".", base: "." });
  });

  it("remembers the name of a link that was followed", () => {
    expect(followed("/d/link", "/d/sub")).toEqual({ path: "/d/sub", rebase: "link" });
    expect(followed("/d/link/.", "/d/sub")).toEqual({ path: "/d/sub/.", rebase: undefined });
  });
});

describe("cp: where things go", () => {
  const file = { path: "/s/f", exists: true, isDir: false };
  const dir = { path: "/s/d", exists: true, isDir: true };
  const end = (path: string, exists: boolean, isDir = false) => ({ path, exists, isDir });

  it("puts both into a directory that is there", () => {
    for (const source of [file, dir]) expect(place(source, end("/t", true, true))).toEqual({ directory: "/t", rename: undefined });
  });

  it("gives what is new its name", () => {
    expect(place(file, end("/t/new", false))).toEqual({ directory: "/t", rename: { from: "f", to: "new" } });
    expect(place(dir, end("/t/new/", false))).toEqual({ directory: "/t", rename: { from: "d", to: "new" } });
    expect(place({ ...dir, path: "/s/d/." }, end("/t/new", false))).toEqual({ directory: "/t", rename: { from: ".", to: "new" } });
    expect(place(file, end("/t/old", true))).toEqual({ directory: "/t", rename: { from: "f", to: "old" } });
  });

  it("refuses a directory over a file, and a file in a directory that is not there", () => {
    expect(() => place(dir, end("/t/old", true))).toThrow("cannot copy directory");
    expect(() => place(file, end("/t/new/", false))).toThrow("no such directory");
    expect(() => place(file, end("", false))).toThrow("no such directory");
  });

  it("renames the first part of entries only", () => {
    const rename = { from: "d", to: "new" };
    expect(renamed("d", rename)).toBe("new");
    expect(renamed("d/d/x", rename)).toBe("new/d/x");
    expect(renamed("data", rename)).toBe("data");
    expect(renamed("/etc/x", { from: "/", to: "root" })).toBe("root/etc/x");
    expect(renamed("./x", { from: ".", to: "n" })).toBe("n/x");
  });
});
