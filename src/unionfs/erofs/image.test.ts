import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync, lstatSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import type { ByteString } from "../bytes.ts";
import { crc32c } from "./format.ts";
import { buildImage, type ErofsNode } from "./image.ts";
import { readImage } from "./read-image.ts";

const has = (program: string) => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;
const meta = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 1_000_000_001n, xattrs: [] };

/** Contents on a device of its own, in blocks of 4 KiB: what fsck.erofs 1.5 can read. */
class Device {
  readonly blocks: Buffer[] = [];

  file(content: Buffer): ErofsNode {
    const first = this.blocks.length;
    for (let at = 0; at < content.length; at += 4096) this.blocks.push(Buffer.concat([content.subarray(at, at + 4096), Buffer.alloc(4096)]).subarray(0, 4096));
    let bits = 0;
    while (4096 << bits < content.length) bits++;
    return { kind: "file", meta, size: content.length, chunks: { bits, device: 1, blocks: content.length === 0 ? [] : [first] } };
  }
}

type Shape = { readonly [name: string]: Shape | Buffer | string };
const name = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => Buffer.from(bytes).toString("latin1").replaceAll(/[/\0]/g, "_"))
  .filter((text) => text !== "." && text !== "..");
const { tree } = fc.letrec<{ tree: Shape; leaf: Buffer | string }>((tie) => ({
  leaf: fc.oneof(
    fc.uint8Array({ maxLength: 20_000 }).map((bytes) => Buffer.from(bytes)),
    fc.string({ unit: fc.constantFrom("a", "/", "."), minLength: 1, maxLength: 4000 }),
  ),
  tree: fc.dictionary(name, fc.oneof({ depthSize: "small" }, tie("leaf"), tie("tree")), { maxKeys: 40, noNullPrototype: true }),
}));

function nodeOf(shape: Shape | Buffer | string, device: Device): ErofsNode {
  if (Buffer.isBuffer(shape)) return device.file(shape);
  if (typeof shape === "string") return { kind: "symlink", meta: { ...meta, mode: 0o777 }, target: shape };
  return {
    kind: "dir",
    meta: { ...meta, mode: 0o755 },
    children: new Map<ByteString, ErofsNode>(Object.entries(shape).map(([key, child]) => [key, nodeOf(child, device)])),
  };
}

function expectTree(shape: Shape, at: Buffer): void {
  for (const [key, child] of Object.entries(shape)) {
    const path = Buffer.concat([at, Buffer.from("/"), Buffer.from(key, "latin1")]);
    if (Buffer.isBuffer(child)) expect(readFileSync(path).equals(child)).toBe(true);
    else if (typeof child === "string") expect(readlinkSync(path)).toBe(child);
    else {
      expect(lstatSync(path).isDirectory()).toBe(true);
      expectTree(child, path);
    }
  }
}

function wholly<T>(work: Generator<void, T>): T {
  for (;;) {
    const next = work.next();
    if (next.done === true) return next.value;
  }
}

describe("EROFS image", () => {
  const base = mkdtempSync(join(tmpdir(), "erofs-image-"));
  afterAll(() => rmSync(base, { recursive: true, force: true }));

  it("has the CRC-32C of RFC 3720", () => {
    expect((crc32c(Buffer.alloc(32)) ^ 0xffffffff) >>> 0).toBe(0x8a9136aa);
    expect((crc32c(Buffer.from("123456789")) ^ 0xffffffff) >>> 0).toBe(0xe3069283);
  });

  it("holds directories of many names in order, over as many blocks as they take", () => {
    const children = new Map<ByteString, ErofsNode>(Array.from({ length: 100_000 }, (_, i) => [`entry-${i}`, { kind: "fifo", meta }]));
    const image = buildImage({ kind: "dir", meta, children }, { blockBits: 9, deviceBlocks: [1] });
    const root = image.readUInt16LE(1024 + 14) * 32;
    const size = Number(image.readBigUInt64LE(root + 8));
    const start = image.readUInt32LE(root + 16) * 512;
    const names: string[] = [];
    for (let at = start; at < start + size; at += 512) {
      // The last block stands behind the inode when its layout says so.
      const inline = image.readUInt16LE(root) === 5 && at + 512 > start + size;
      const block = inline ? image.subarray(root + 64, root + 64 + (size % 512)) : image.subarray(at, at + 512);
      const count = block.readUInt16LE(8) / 12;
      for (let i = 0; i < count; i++) {
        const from = block.readUInt16LE(i * 12 + 8);
        const to = i + 1 < count ? block.readUInt16LE(i * 12 + 20) : block.length;
        names.push(block.toString("latin1", from, to).replaceAll("\0", ""));
      }
    }
    expect(names).toEqual([".", "..", ...children.keys()].sort());
  });

  it("can be read back", () => {
    fc.assert(
      fc.property(tree, fc.constantFrom(9, 12), (shape, blockBits) => {
        const root = nodeOf(shape, new Device());
        if (root.kind !== "dir") return;
        const link: ErofsNode = { kind: "file", meta: { ...meta, mtimeNs: -1n }, size: 1_000_000, chunks: { bits: 3, device: 7, blocks: [5, 0xffffffff] } };
        const big: ErofsNode = { ...link, size: 2 * (8 << blockBits) };
        root.children.set("hard", big);
        root.children.set("linked", big);
        const xattrs = [
          { name: "security.capability", value: Buffer.from([1, 0, 255]) },
          { name: "system.posix_acl_access", value: Buffer.from("x") },
        ];
        root.children.set("device", { kind: "char", meta: { mode: 0o666, uid: 2 ** 31, gid: 5, mtimeNs: 7n, xattrs }, major: 511, minor: 300_000 });
        const image = buildImage(root, { blockBits, deviceBlocks: Array.from({ length: 130 }, (_, i) => i) });
        const read = wholly(readImage(image, "it"));
        expect(read).toEqual(root);
        expect(read.children.get("hard")).toBe(read.children.get("linked"));
      }),
      { numRuns: 30 },
    );
  });

  it("that is damaged is refused", () => {
    const image = buildImage({ kind: "dir", meta, children: new Map([["f", { kind: "symlink", meta, target: "t" }]]) }, { blockBits: 9, deviceBlocks: [1] });
    for (let at = 0; at < image.length; at++) {
      const damaged = Buffer.from(image);
      damaged[at] = damaged[at]! ^ 0xff;
      try {
        wholly(readImage(damaged, "it"));
      } catch (error) {
        expect(error).toMatchObject({ code: "corrupt" });
      }
    }
  });

  it.skipIf(!has("fsck.erofs"))("is what fsck.erofs accepts and extracts (package erofs-utils)", () => {
    let run = 0;
    fc.assert(
      fc.property(tree, (shape) => {
        const device = new Device();
        const root = nodeOf(shape, device);
        if (root.kind !== "dir") return;
        const [image, data, out] = ["image", "data", "out"].map((file) => join(base, `${file}-${run}`)) as [string, string, string];
        run++;
        writeFileSync(data, Buffer.concat([...device.blocks, Buffer.alloc(4096)]));
        writeFileSync(image, buildImage(root, { blockBits: 12, deviceBlocks: [device.blocks.length + 1] }));
        execFileSync("fsck.erofs", [`--device=${data}`, `--extract=${out}`, "--no-preserve", image], { stdio: "pipe" });
        expectTree(shape, Buffer.from(out));
        for (const path of [image, data, out]) rmSync(path, { recursive: true });
      }),
      { numRuns: 40 },
    );
  });
});
