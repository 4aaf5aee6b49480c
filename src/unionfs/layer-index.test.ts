import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LayerIndex } from "./layer-index.ts";

describe("the index of layers", () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "layer-index-"));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));
  const path = () => join(root, "sub/index");
  const open = () => LayerIndex.open(path(), (value) => (typeof value === "number" ? value : undefined));

  it("says what was put down last, also after a crash that has cut a line", async () => {
    const index = await open();
    await Promise.all([index.set("a", 1), index.set("b", 2), index.set("c", 3)]);
    await index.set("a", 4);
    await index.set("b", undefined);
    await index.set("never", undefined);
    appendFileSync(path(), '["d",5');
    const again = await open();
    expect(["a", "b", "c", "d", "never"].map((name) => again.get(name))).toEqual([4, undefined, 3, undefined, undefined]);
  });

  it("takes what it has not written for nothing", async () => {
    await (await open()).set("a", 1);
    writeFileSync(path(), `${readFileSync(path(), "utf8")}null\n{}\n["b","text"]\n[7,8]\n["a"]\n`);
    const index = await open();
    expect(["a", "b"].map((name) => index.get(name))).toEqual([undefined, undefined]);
  });

  it("is written anew when it says something else, or says it in far too many lines", async () => {
    const index = await open();
    for (const name of ["a", "b", "c"]) await index.set(name, 1);
    await index.replace(new Map([["a", 1]]));
    expect(readFileSync(path(), "utf8")).toBe('["a",1]\n');
    appendFileSync(path(), '["a",2]\n'.repeat(2000));
    await (await open()).replace(new Map([["a", 2]]));
    expect(readFileSync(path(), "utf8")).toBe('["a",2]\n');
    await index.set("z", 9);
    expect((await open()).get("z")).toBe(9);
  });

  it("is written anew before it has grown far beyond what it says", async () => {
    const index = await open();
    for (let n = 0; n < 2000; n++) await index.set("a", n);
    expect(readFileSync(path(), "utf8").split("\n").length).toBeLessThan(1100);
    expect((await open()).get("a")).toBe(1999);
  });

  it("goes when it cannot be written: what it said may be true no more", async () => {
    const index = await open();
    await index.set("a", 1);
    rmSync(path());
    symlinkSync("/dev/full", path()); // a disk without room
    await index.set("a", 3);
    expect(existsSync(path())).toBe(false);
    await index.set("b", 4);
    const again = await open();
    expect(["a", "b"].map((name) => again.get(name))).toEqual([undefined, 4]);
  });
});
