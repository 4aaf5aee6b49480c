import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { applyTar } from "../apply.ts";
import { chunked, pax, tar } from "../testing/tar-builder.ts";
import { NULL_BLOCK, SUPER_OFFSET } from "./format.ts";
import type { ErofsNode } from "./image.ts";
import { mergedDevices, mergeLayers } from "./merge-layers.ts";
import { type ErofsForm, inArchive, onPages } from "./metadata-tree.ts";
import { readImage } from "./read-image.ts";
import { ErofsReceiver, erofsFiles, erofsLayer } from "./receiver.ts";

const base = mkdtempSync(join(tmpdir(), "erofs-pages-"));
afterAll(() => rmSync(base, { recursive: true, force: true }));

async function receive(name: string, form: ErofsForm, archive: Buffer): Promise<string> {
  const directory = join(base, name);
  await mkdir(directory);
  const receiver = new ErofsReceiver({ directory: directory, form: form });
  await applyTar(receiver.keep(chunked(archive, 1000)), { tree: receiver.tree, whiteouts: "overlay" });
  await receiver.finish();
  await receiver.close();
  return directory;
}

function read(path: string): ErofsNode & { kind: "dir" } {
  const steps = readImage(readFileSync(path), path);
  for (let next = steps.next(); ; next = steps.next()) if (next.done === true) return next.value;
}

/** A file's content, out of the image's devices. */
function content(image: string, devices: readonly string[], ...path: string[]): Buffer {
  let node: ErofsNode | undefined = read(image);
  for (const name of path) node = node?.kind === "dir" ? node.children.get(name) : undefined;
  if (node?.kind !== "file") throw new Error(`no file ${path.join("/")}`);
  const { chunks, size } = node;
  const blockBytes = 2 ** readFileSync(image).readUInt8(SUPER_OFFSET + 12);
  const chunkBytes = blockBytes * 2 ** chunks.bits;
  const device = readFileSync(devices[chunks.device - 1] ?? "");
  const pieces = chunks.blocks.map((block, i) => {
    const length = Math.min(chunkBytes, size - i * chunkBytes);
    return block === NULL_BLOCK ? Buffer.alloc(length) : device.subarray(block * blockBytes, block * blockBytes + length);
  });
  return Buffer.concat(pieces);
}

const text = "line\n".repeat(3000);
const sparse = { map: pax({ "GNU.sparse.size": "90000", "GNU.sparse.map": "5,3,70000,700" }), data: Buffer.alloc(703, "s") };
const expectedSparse = Buffer.alloc(90_000);
expectedSparse.fill("s", 5, 8).fill("s", 70_000, 70_700);

it("contents are written to pages of a file, and nothing else is kept", async () => {
  const archive = tar({ name: "a", data: "short" }, { name: "d/b", data: text }, sparse.map, { name: "s", data: sparse.data }, { name: "empty", data: "" });
  const directory = await receive("pages", onPages, archive);
  expect(erofsFiles(directory)).toBe("contents");
  const { source, devices } = erofsLayer(directory, "contents", true);
  expect(devices.map((path) => path.slice(directory.length))).toEqual(["/layer.data"]);
  expect(statSync(devices[0]!).size % 4096).toBe(0);
  expect(content(source, devices, "a").toString()).toBe("short");
  expect(content(source, devices, "d", "b").toString()).toBe(text);
  expect(content(source, devices, "s").equals(expectedSparse)).toBe(true);
  const holes = (read(source).children.get("s") as Extract<ErofsNode, { kind: "file" }>).chunks.blocks.filter((block) => block === NULL_BLOCK);
  expect(holes.length).toBe(20);
  expect(content(source, devices, "empty").length).toBe(0);
});

it("a layer without contents has a device, too", async () => {
  const directory = await receive("nothing", onPages, tar({ name: "d/", typeflag: "5" }));
  expect(statSync(join(directory, "layer.data")).size).toBe(4096);
});

it("layers of both forms make one image", async () => {
  const below = await receive(
    "below",
    onPages,
    tar({ name: "old", data: text }, { name: "both", data: "below" }, sparse.map, { name: "s", data: sparse.data }),
  );
  const above = await receive("above", inArchive, tar({ name: "new", data: text }, { name: "both", data: "above" }));
  const layers = [erofsLayer(above, erofsFiles(above), false), erofsLayer(below, erofsFiles(below), false)];
  const merged = join(base, "merged.erofs");
  await mergeLayers(layers, merged, `${merged}.tmp`);
  const devices = mergedDevices(layers);
  for (const [name, expected] of [
    ["old", Buffer.from(text)],
    ["new", Buffer.from(text)],
    ["both", Buffer.from("above")],
    ["s", expectedSparse],
  ] as const)
    expect(content(merged, devices, name).equals(expected)).toBe(true);
  // Pages only, where there are no others: an older kernel is to mount it.
  await mergeLayers(layers.slice(1), merged, `${merged}.tmp`);
  expect(readFileSync(merged).readUInt8(SUPER_OFFSET + 12)).toBe(12);
});

it("files that look alike and files that do not keep what each of them has", async () => {
  const archive = tar(
    { name: "a", data: "a", mode: 0o644, mtime: 100 },
    { name: "alike", data: "b", mode: 0o644, mtime: 100 },
    { name: "later", data: "c", mode: 0o644, mtime: 101 },
    pax({ "SCHILY.xattr.user.one": "1" }),
    { name: "more", data: "d", mode: 0o644, mtime: 101 },
    { name: "suid", data: "e", mode: 0o4755, mtime: 100 },
    pax({ mtime: "-1.25" }),
    { name: "early", data: "f", mode: 0o4755, mtime: 100 },
    pax({ uid: String(0xfffffffe) }),
    { name: "late", data: "g", mode: 0o4755, mtime: 100 },
  );
  const tree = read(erofsLayer(await receive("alike", inArchive, archive), "archive", false).source);
  const seen = Array.from(tree.children, ([name, { meta }]) => {
    const { mode, uid, mtimeNs, xattrs } = meta;
    return [name, mode & 0o7777, uid, mtimeNs, xattrs.map((xattr) => xattr.name)];
  });
  expect(seen.sort()).toEqual([
    ["a", 0o644, 0, 100_000_000_000n, []],
    ["alike", 0o644, 0, 100_000_000_000n, []],
    ["early", 0o4755, 0, -1_250_000_000n, []],
    ["late", 0o4755, 0xfffffffe, 100_000_000_000n, []],
    ["later", 0o644, 0, 101_000_000_000n, []],
    ["more", 0o644, 0, 101_000_000_000n, ["user.one"]],
    ["suid", 0o4755, 0, 100_000_000_000n, []],
  ]);
});

it("what is changed of a file is not changed of those that look like it", async () => {
  const receiver = new ErofsReceiver({ directory: base, form: inArchive });
  const meta = { mode: 0o600, uid: 1, gid: 2, mtimeNs: 3n };
  const placed = { size: 0, offset: 0, sparse: undefined };
  for (const name of ["one", "two", "three"]) receiver.tree.placeFile("", name, placed, meta);
  await receiver.tree.setMeta("one", { ...meta, mode: 0o755 });
  await receiver.tree.setXattr("two", "user.two", Buffer.from("2"));
  const image = join(base, "changed.erofs");
  writeFileSync(image, await receiver.tree.image(0));
  const seen = Array.from(read(image).children, ([name, node]) => [name, node.meta.mode & 0o7777, node.meta.xattrs.length]);
  expect(seen.sort()).toEqual([
    ["one", 0o755, 0],
    ["three", 0o600, 0],
    ["two", 0o600, 1],
  ]);
});
