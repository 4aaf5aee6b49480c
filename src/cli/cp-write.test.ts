import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { chunked, collect, type Member, tar } from "../unionfs/testing/tar-builder.ts";
import { readTree } from "./cp-read.ts";
import { writeTree } from "./cp-write.ts";

let root: string;
let inside: string;
let outside: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "wherry-cp-"));
  [inside, outside] = [join(root, "in"), join(root, "out")];
  for (const directory of [inside, outside]) mkdirSync(directory);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const write = (...members: Member[]) => writeTree(chunked(tar(...members), 700), { directory: inside, rename: undefined });

describe("unpacking what a container gave", () => {
  it("makes files, directories and links, with mode and time", async () => {
    await write(
      { name: "d/", typeflag: "5", mode: 0o750, mtime: 1000 },
      { name: "d/f", data: "x".repeat(2000), mode: 0o4755, mtime: 2000 },
      { name: "d/l", typeflag: "1", linkname: "d/f" },
    );
    expect(statSync(join(inside, "d")).mtimeMs).toBe(1_000_000);
    expect(statSync(join(inside, "d")).mode & 0o7777).toBe(0o750);
    expect(statSync(join(inside, "d/f"))).toMatchObject({ size: 2000, mtimeMs: 2_000_000, nlink: 2 });
    expect(statSync(join(inside, "d/f")).mode & 0o7777).toBe(0o4755);
  });

  it("writes nothing through a link that came before", async () => {
    await expect(write({ name: "l", typeflag: "2", linkname: outside }, { name: "l/f", data: "owned" })).rejects.toThrow("is not a directory");
    await expect(write({ name: "d/", typeflag: "5" }, { name: "d/l", typeflag: "2", linkname: "../../out" }, { name: "d/l/x/f", data: "" })).rejects.toThrow(
      "is not a directory",
    );
    expect(readdirSync(outside)).toEqual([]);
  });

  it("replaces a link instead of writing to its target", async () => {
    writeFileSync(join(outside, "f"), "kept");
    symlinkSync(join(outside, "f"), join(inside, "f"));
    await write({ name: "f", data: "new" });
    expect(readFileSync(join(outside, "f"), "utf8")).toBe("kept");
    expect(readFileSync(join(inside, "f"), "utf8")).toBe("new");
  });

  it("refuses names and hard links that lead out, and what cannot be merged", async () => {
    await expect(write({ name: "../out/f", data: "" })).rejects.toThrow("is outside of");
    await expect(write({ name: "f", typeflag: "1", linkname: "../out/f" })).rejects.toThrow("is outside of");
    await write({ name: "/abs", data: "below" });
    expect(readFileSync(join(inside, "abs"), "utf8")).toBe("below");
    await expect(write({ name: "abs", typeflag: "5" })).rejects.toThrow("cannot overwrite non-directory");
    expect(readdirSync(outside)).toEqual([]);
  });

  it("gives back what it read", async () => {
    await write(
      { name: "d/", typeflag: "5" },
      { name: "d/a", data: "one" },
      { name: "d/b", typeflag: "1", linkname: "d/a" },
      { name: "d/c", typeflag: "2", linkname: "a" },
    );
    const archive = await collect(readTree(join(inside, "d"), "e"));
    await writeTree(chunked(archive), { directory: outside, rename: undefined });
    expect(readdirSync(join(outside, "e"))).toEqual(["a", "b", "c"]);
    expect(readFileSync(join(outside, "e/c"), "utf8")).toBe("one");
    expect(statSync(join(outside, "e/b")).nlink).toBe(2);
  });

  it("tells of a file that grows while it is read, and cuts it; one that shrinks is an error", async () => {
    const bytes = 1 << 20;
    const path = join(inside, "log");
    const read = async (change: () => void) => {
      writeFileSync(path, Buffer.alloc(bytes, 1));
      const [told, chunks]: [string[], Uint8Array[]] = [[], []];
      for await (const chunk of readTree(path, "log", undefined, (message) => told.push(message))) {
        chunks.push(chunk);
        // The header, and the first piece of the content.
        if (chunks.length === 2) change();
      }
      return { told, archive: Buffer.concat(chunks) };
    };
    expect((await read(() => undefined)).told).toEqual([]);
    const { told, archive } = await read(() => appendFileSync(path, "more"));
    expect(told).toEqual([`"${path}" has grown while it was read: it is cut to the ${bytes} bytes that it had`]);
    await writeTree(chunked(archive), { directory: outside, rename: undefined });
    expect(statSync(join(outside, "log")).size).toBe(bytes);
    expect((await read(() => rmSync(path))).told).toEqual([]);
    await expect(read(() => truncateSync(path, 300_000))).rejects.toThrow("file shrank while it was read");
  });
});
