/**
 * Layers that are hard to unpack, on real drivers: the tree is what GNU tar makes of the same bytes as root (whiteouts taken into account), or the layer is
 * refused in words that say why; and whatever was taken comes back byte for byte.
 * @module
 */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, it } from "vitest";
import { isEngineError } from "#core/errors.ts";
import type { FileTree } from "#linux/file-tree.ts";
import { probeHost } from "#linux/probe-host.ts";
import { planStoppedTree } from "#runtime/mod.ts";
import { printable } from "#unionfs/bytes.ts";
import { openLayerStore } from "#unionfs/layer-store.ts";
import { readLayer } from "#unionfs/layer-tar.ts";
import type { LayerStore, RootMount, StorageDriver } from "#unionfs/mod.ts";
import { driverNames, openDriver } from "#unionfs/open-driver.ts";
import { chunked, collect } from "#unionfs/testing/tar-builder.ts";
import { decompress } from "#unionfs/tar/decompress.ts";
import { storagePlace } from "../suites/storage-place.ts";
import { hardArchives } from "./hard-archives.fixture.ts";

/** Drivers whose trees are looked at: those that need no filesystem of their own. */
const tested = driverNames.filter((name) => ["overlay2", "vfs", "erofs"].includes(name));

/** One line for each entry: all that a tree says of it. A directory that was written to after its time was set says "now". */
async function listing(tree: FileTree): Promise<string[]> {
  const lines: string[] = [];
  const inodes = new Map<bigint, number>();
  for await (const entry of tree.walk("")) {
    const path = Buffer.from(entry.path).toString("latin1");
    if (path === "") continue;
    const recent = entry.mtimeNs > 1_700_000_000_000_000_000n && entry.mtimeNs < 4_000_000_000_000_000_000n;
    const parts = [
      entry.type,
      printable(path),
      entry.mode.toString(8),
      `${entry.uid}:${entry.gid}`,
      entry.type === "dir" && recent ? "now" : String(entry.mtimeNs),
    ];
    if (entry.type === "file")
      parts.push(String(entry.size), await contentOf(tree, entry.path, entry.size), entry.size > 2 ** 24 && entry.blocks > 1000 ? "full" : "");
    if (entry.type === "symlink") parts.push(printable(entry.target ?? Buffer.alloc(0)));
    if (entry.type === "char" || entry.type === "block") parts.push(`${entry.major}:${entry.minor}`);
    if (entry.nlink > 1 && entry.type !== "dir") {
      if (!inodes.has(entry.ino)) inodes.set(entry.ino, inodes.size);
      parts.push(`link group ${inodes.get(entry.ino)}`);
    }
    // The union's own book-keeping is not shown in any union.
    const xattrs = entry.xattrs.filter(({ name }) => !/^(trusted|user)\.overlay\./.test(name));
    parts.push(...xattrs.map(({ name, value }) => `${name}=${Buffer.from(value).toString("hex")}`).sort());
    lines.push(parts.join(" "));
  }
  return lines;
}

/** GNU tar lets go of a directory's time when it comes back to the directory later; wherry keeps the archive's. Where the reference has lost it, nothing is compared. */
function withoutLostTimes(tree: readonly string[], expected: readonly string[]): string[] {
  return tree.map((line, i) => (line.startsWith("dir ") && expected[i]?.endsWith(" now") === true ? line.replace(/ -?\d+$/, " now") : line));
}

/** Of gigabytes of zeros only the two ends are read. */
async function contentOf(tree: FileTree, path: Uint8Array, size: number): Promise<string> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const piece of (await tree.readFile(path)).data) {
    hash.update(piece);
    bytes += piece.byteLength;
    if (size > 2 ** 24 && bytes >= 2 ** 20) break;
  }
  return hash.digest("hex").slice(0, 16);
}

/** Paths in it are as long as the kernel takes: only what goes by descriptors can remove them. */
function removeDeep(directory: string): void {
  execFileSync("rm", ["-rf", directory]);
}

describe.runIf(process.getuid?.() === 0)("hard archives", async () => {
  const { base, helper } = await storagePlace("hard-archives", "/var/tmp");
  const facts = await probeHost();
  mkdirSync(join(base, "empty"));

  /** GNU tar's tree. */
  async function reference(layers: readonly Buffer[], gone: readonly string[]): Promise<string[]> {
    const directory = mkdtempSync(join(base, "gnu-"));
    layers.forEach((layer, i) => {
      if (i === layers.length - 1) for (const path of gone) rmSync(join(directory, path), { recursive: true });
      const args = ["-x", "-p", "-C", directory, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--exclude=.wh.*", "-f", "-"];
      const { status, stderr } = spawnSync("tar", args, { input: layer, env: { ...process.env, LC_ALL: "C" } });
      if (status !== 0) throw new Error(`GNU tar: ${stderr.toString()}`);
    });
    const tree = await helper.openTree(directory);
    try {
      return await listing(tree);
    } finally {
      await tree.close();
      removeDeep(directory);
    }
  }

  /** The tree as a container sees it. */
  async function mounted(root: RootMount): Promise<string[]> {
    const tree = await helper.openTree("a layer", planStoppedTree({ root, facts, mounts: [], at: join(base, "empty") }));
    try {
      return await listing(tree);
    } finally {
      await tree.close();
    }
  }

  /** A piece is valid until the next. */
  async function* copies(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of pieces) yield Buffer.from(piece);
  }

  it.each(tested)("%s: every case is GNU tar's tree or a refusal, and comes back as it was", async (name) => {
    const root = mkdtempSync(join(base, `${name}-`));
    const driver = await openDriver(name, { root, helper });
    const store = await openLayerStore({ root, driver, helper });
    for (const { what, lower, layer, gone = [], refused } of hardArchives) {
      const parent = lower === undefined ? undefined : (await store.apply(undefined, chunked(lower))).chainId;
      if (refused !== undefined) {
        await expect(store.apply(parent, chunked(layer, 700)), what).rejects.toMatchObject({ code: "corrupt", message: expect.stringMatching(refused) });
        continue;
      }
      const { chainId } = await store.apply(parent, chunked(layer, 70_000)).catch((error: Error) => {
        throw new Error(`${what}: ${error.message}`, { cause: error });
      });
      const expected = await reference(lower === undefined ? [layer] : [lower, layer], gone);
      // EROFS counts no blocks: that a hole takes none is tested in the storage drivers' suite.
      const seen = (await mounted(await driver.mounts(chainId))).map((line) => (name === "erofs" ? line.replace(/ full$/, " ") : line));
      expect.soft({ what, tree: withoutLostTimes(seen, expected) }).toEqual({ what, tree: expected });
      expect((await collect(await store.tar(chainId))).equals(layer), `${what}: its tar`).toBe(true);
      const source = await store.source(chainId);
      expect(source === undefined || (await collect(copies(readLayer(source)))).equals(layer), `${what}: its tar, as a thread reads it`).toBe(true);
    }
    await store.prune(new Set());
    await driver.idle();
    expect(await driver.list()).toEqual({ layers: [], active: [] });
    removeDeep(root);
  });

  describe("cut off at every 512th byte", () => {
    let root: string;
    let driver: StorageDriver;
    let store: LayerStore;
    beforeAll(async () => {
      root = mkdtempSync(join(base, "cut-"));
      driver = await openDriver("overlay2", { root, helper });
      store = await openLayerStore({ root, driver, helper });
    });
    const zstd = (data: Buffer) => execFileSync("zstd", ["-q", "-c"], { input: data });
    const halves = (data: Buffer, pack: (half: Buffer) => Buffer) =>
      Buffer.concat([pack(data.subarray(0, data.length >> 1)), pack(data.subarray(data.length >> 1))]);
    const random = createHash("sha512").update("x").digest();
    const whole = Buffer.concat([
      ...hardArchives
        .filter(({ refused, lower }) => refused === undefined && lower === undefined)
        .slice(0, 14)
        .map(({ layer }) => layer.subarray(0, -1024)),
      Buffer.alloc(1024),
    ]);
    const forms: readonly (readonly [string, Buffer])[] = [
      ["plain", whole],
      ["gzip, two members", halves(Buffer.concat([whole, random]), (half) => gzipSync(half))],
      ["zstd, two frames", halves(Buffer.concat([whole, random]), zstd)],
    ];

    it.each(forms)("%s", async (_form, bytes) => {
      const { chainId } = await store.apply(undefined, decompress(chunked(bytes, 3000)));
      expect(await driver.has(chainId)).toBe(true);
      await store.prune(new Set());
      for (let length = 0; length < bytes.length; length += 512) {
        const cut = await store.apply(undefined, decompress(chunked(bytes.subarray(0, length), 3000))).catch((error: unknown) => error);
        // What a plain archive has behind its first end block is the second one.
        if (!isEngineError(cut, "corrupt")) throw new Error(`cut after ${length} of ${bytes.length} bytes: ${String(cut)}`);
        expect(cut.message).toMatch(/truncated|empty|extended header/);
      }
      await driver.idle();
      expect(await driver.list()).toEqual({ layers: [], active: [] });
    });

    it("and gzip and zstd with several members are one stream to GNU tar's eyes as well", async () => {
      const plain = hardArchives.find(({ what }) => what.startsWith("hard links, also"))!.layer;
      const expected = await reference([plain], []);
      for (const bytes of [halves(plain, (half) => gzipSync(half)), halves(plain, zstd)]) {
        const { chainId, diffId } = await store.apply(undefined, decompress(chunked(bytes, 100)));
        expect(diffId).toBe(`sha256:${createHash("sha256").update(plain).digest("hex")}`);
        expect(withoutLostTimes(await mounted(await driver.mounts(chainId)), expected)).toEqual(expected);
      }
    });
  });
});
