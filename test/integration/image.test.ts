/**
 * Images on the real layer store: archives as other engines write them, applied to disk, and what a refusal leaves behind.
 * @module
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openContentStore } from "#content/blob-store.ts";
import { digestOf, type ImageID } from "#core/digest.ts";
import { bootstrapImage, type ImageStore, type LoadEvent, openImageStore } from "#image/mod.ts";
import type { Helper } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import { openLayerStore } from "#unionfs/layer-store.ts";
import type { LayerStore, StorageDriver } from "#unionfs/mod.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import { LayerThreads } from "#unionfs/threads/layer-threads.ts";
import { directoriesOf } from "#unionfs/trees.ts";
import { configOf, dockerArchive, type FixtureImage, gzip, ociLayout, rootLayer, streamOf, tarOf } from "../fixtures.ts";
import { nativeHelper } from "../suites/native-helper.ts";

let root: string;
let helper: Helper;
let driver: StorageDriver;
let layers: LayerStore;
let store: ImageStore;

async function open(): Promise<void> {
  driver = await openDriver("overlay2", { root, helper });
  layers = await openLayerStore({ root, driver, helper });
  store = await openImageStore({ root, content: await openContentStore(root), layers, log: (level, message) => console.error(level, message) });
}

beforeEach(async () => {
  root = await mkdtemp("/tmp/wherry-image-");
  await mkdir(join(root, "run"), { mode: 0o700 });
  helper = await startHelper({ helperPath: nativeHelper(), execRoot: join(root, "run"), log: (line) => console.error(`helper: ${line}`) });
  await open();
});
afterEach(async () => {
  await driver.idle();
  await helper.close();
  await rm(root, { recursive: true });
});

async function load(archive: Buffer, cut = 64 * 1024): Promise<LoadEvent[]> {
  const events: LoadEvent[] = [];
  await store.load(streamOf(archive, cut), (event) => events.push(event));
  return events;
}

async function expectNothing(): Promise<void> {
  expect(await store.list()).toEqual([]);
  await driver.idle();
  expect(await driver.list()).toEqual({ layers: [], active: [] });
  const left = (await readdir(root, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
  expect(left.filter((path) => !/^(run\/|layerdb\/\w+\.(layers|records)$|image\/(images\.json|reserve)$)/.test(path))).toEqual([]);
}

/** The directory that a layer was unpacked into. */
async function topDirectory(name: string): Promise<string> {
  const { chainId } = await store.get(name);
  return directoriesOf(await driver.mounts(chainId!))[0]!;
}

const zstd = (bytes: Buffer): Buffer => execFileSync("zstd", ["-q", "-c"], { input: bytes, maxBuffer: 1 << 28 });
const hasZstd = existsSync("/usr/bin/zstd");
if (!hasZstd) console.warn("skipped: archives compressed with zstd (the program zstd is not installed)");

const base = rootLayer();
const upper = tarOf([
  { name: "etc/motd", data: "changed" },
  { name: "bin/.wh.tool" },
  { name: "dev", type: "dir" },
  { name: "dev/null", type: "char", major: 1, minor: 3, mode: 0o666 },
]);
const image: FixtureImage = { layers: [base, upper], tags: ["app:1"] };
const id: ImageID = digestOf(configOf(image));
const none = { force: false, prune: true, inUse: () => [] };

describe("an image that is loaded", () => {
  it.each<[string, () => Buffer]>([
    ["docker-archive", () => dockerArchive([image])],
    ["docker-archive in gzip, layers in gzip", () => gzip(dockerArchive([{ ...image, compress: gzip }]))],
    ["OCI layout", () => ociLayout([image], { refName: "app:1" })],
    ...(hasZstd
      ? ([
          ["docker-archive in zstd", () => zstd(dockerArchive([image]))],
          ["OCI layout, layers in zstd", () => ociLayout([{ ...image, compress: zstd }], { refName: "app:1" })],
        ] as [string, () => Buffer][])
      : []),
  ])("lies unpacked, layer on layer: %s", async (_name, archive) => {
    await load(archive());
    expect(await store.get("app:1")).toMatchObject({ id, diffIds: [digestOf(base), digestOf(upper)] });
    const top = await topDirectory("app:1");
    expect(execFileSync("cat", [join(top, "etc/motd")], { encoding: "utf8" })).toBe("changed");
    expect(execFileSync("stat", ["-c", "%F %t %T", join(top, "bin/tool")], { encoding: "utf8" })).toBe("character special file 0 0\n");
    await open();
    expect((await store.get("app:1")).id).toBe(id);
  });

  it("is saved as it came, and can be loaded by others", async () => {
    await load(dockerArchive([image]));
    const saved = Buffer.concat(await (await store.save(["app:1"])).toArray());
    await store.remove("app:1", none);
    await expectNothing();
    await load(saved);
    expect((await store.get("app:1")).id).toBe(id);
    const dir = join(root, "saved");
    await mkdir(dir);
    execFileSync("tar", ["-x", "-C", dir], { input: saved });
    expect(digestOf(execFileSync("cat", [join(dir, "blobs/sha256", digestOf(upper).slice(7))]))).toBe(digestOf(upper));
  });

  it("is saved by threads when it is large, and ends with an error when a file was changed", async () => {
    const threads = new LayerThreads(join(import.meta.dirname, "../../dist/layer-thread.cjs"), 2);
    try {
      store = await openImageStore({ root, content: await openContentStore(root), layers, log: (level, message) => console.error(level, message), threads });
      const noise = randomBytes(1 << 20);
      const large = tarOf([
        { name: "large", data: Buffer.concat(Array.from({ length: 9 }, () => noise)) },
        ...Array.from({ length: 500 }, (_, i) => ({ name: `small/${i}`, data: noise.subarray(i, 3 * i) })),
      ]);
      await load(dockerArchive([{ layers: [base, large], tags: ["large:1"] }]));
      const saved = Buffer.concat(await (await store.save(["large:1"])).toArray());
      const dir = join(root, "saved");
      await mkdir(dir);
      execFileSync("tar", ["-x", "-C", dir], { input: saved });
      for (const layer of [base, large]) expect((await readFile(join(dir, "blobs/sha256", digestOf(layer).slice(7)))).equals(layer)).toBe(true);
      await writeFile(join(await topDirectory("large:1"), "small/100"), noise.subarray(0, 200));
      await expect((await store.save(["large:1"])).toArray()).rejects.toMatchObject({ code: "corrupt" });
      await rm(join(await topDirectory("large:1"), "small/100"));
      await expect((await store.save(["large:1"])).toArray()).rejects.toMatchObject({
        code: "corrupt",
        message: 'file "small/100" of a layer cannot be read: ENOENT',
      });
    } finally {
      await threads.close();
    }
  });

  it("keeps its layers while a container lies on them", async () => {
    await load(dockerArchive([image]));
    await driver.prepare("c0ffee", (await store.get("app:1")).chainId);
    await store.remove("app:1", { ...none, force: true, inUse: () => [] });
    expect((await driver.list()).layers.length).toBe(2);
    await driver.remove("c0ffee");
    await store.sweep();
    await expectNothing();
  });

  it("may be loaded many times at once, and removed meanwhile", async () => {
    const archives = [dockerArchive([image]), ociLayout([image], { refName: "app:2" }), dockerArchive([{ layers: [base], tags: ["base:1"] }])];
    await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        await load(archives[i % 3]!);
        if (i % 4 === 0) await store.remove(id, { ...none, force: true }).catch((error: unknown) => expect(error).toMatchObject({ code: "not-found" }));
      }),
    );
    for (const { id: each, repoTags } of await store.list()) {
      expect(repoTags.length).toBeGreaterThan(0);
      for (const chain of (await store.get(each)).chainIds) expect(await layers.has(chain)).toBe(true);
    }
    for (const { id: each } of await store.list()) await store.remove(each, { ...none, force: true });
    await expectNothing();
  });
});

describe("an archive that is not right leaves nothing", () => {
  it("wherever it is cut off", async () => {
    for (const archive of [dockerArchive([image]), ociLayout([{ ...image, compress: gzip }])]) {
      for (let i = 0; i < 12; i++) {
        const at = Math.floor(((archive.length - 1024) * i) / 12);
        await expect(load(archive.subarray(0, at)), `cut at ${at} of ${archive.length}`).rejects.toMatchObject({
          code: expect.stringMatching(/^(corrupt|invalid)$/),
        });
      }
      await expectNothing();
    }
  });

  it.each<[string, Buffer, string]>([
    ["a path that leads out", tarOf([{ name: "../../etc/evil", data: "x" }]), "../../etc/evil"],
    ["an absolute hard link", tarOf([{ name: "a", type: "link", linkname: "/etc/passwd" }]), '"a"'],
    ["a hard link that leads out", tarOf([{ name: "a", type: "link", linkname: "../../etc/passwd" }]), '"a"'],
    [
      "a file through a link that leads out",
      tarOf([
        { name: "l", type: "symlink", linkname: "/etc" },
        { name: "l/evil", data: "x" },
      ]),
      "l/evil",
    ],
    ["a whiteout that leads out", tarOf([{ name: "../.wh.etc" }]), "../.wh.etc"],
  ])("with %s in its second layer", async (_name, layer, entry) => {
    await expect(load(dockerArchive([{ layers: [base, layer], tags: ["evil:1"] }]))).rejects.toMatchObject({ message: expect.stringContaining(entry) });
    await expectNothing();
    expect(existsSync("/etc/evil")).toBe(false);
  });

  it("with a second layer of another digest, while the first one is another image's", async () => {
    await load(dockerArchive([{ layers: [base], tags: ["base:1"] }]));
    const bad = tarOf([
      { name: "c.json", data: configOf(image) },
      { name: "1", data: base },
      { name: "2", data: base },
      { name: "manifest.json", data: JSON.stringify([{ Config: "c.json", Layers: ["1", "2"], RepoTags: ["app:1"] }]) },
    ]);
    await expect(load(bad)).rejects.toMatchObject({ code: "corrupt", message: expect.stringContaining(digestOf(upper)) });
    expect((await store.list()).map(({ repoTags }) => repoTags)).toEqual([["base:1"]]);
    expect((await driver.list()).layers.length).toBe(1);
    await store.remove("base:1", none);
    await expectNothing();
  });
});

describe("a disk that is full", () => {
  const small = "16m";
  beforeEach(async () => {
    await helper.close();
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${small},mode=700`, "wherry-test", root]);
    await mkdir(join(root, "run"), { mode: 0o700 });
    helper = await startHelper({ helperPath: nativeHelper(), execRoot: join(root, "run"), log: (line) => console.error(`helper: ${line}`) });
    await open();
  });
  afterEach(async () => {
    await driver.idle();
    await helper.close();
    execFileSync("umount", [root]);
    helper = await startHelper({ helperPath: nativeHelper(), execRoot: join(root, "run"), log: (line) => console.error(`helper: ${line}`) });
  });

  // Compressed it fits, unpacked it does not; and it does not even arrive.
  it.each<[string, (layer: Buffer) => Buffer]>([
    ["unpacking", gzip],
    ["receiving", (layer) => layer],
  ])("is said while %s, and nothing of before is lost", async (_name, compress) => {
    await load(dockerArchive([image]));
    const big = tarOf([{ name: "big", data: Buffer.alloc(20 << 20, "x") }]);
    for (let i = 0; i < 2; i++) {
      await expect(load(dockerArchive([{ layers: [base, big], tags: ["big:1"], compress }]))).rejects.toMatchObject({
        code: "storage",
        message: expect.stringContaining("no space left on device"),
      });
      await driver.idle();
      expect((await driver.list()).layers.length).toBe(2);
    }
    await open();
    expect((await store.get("app:1")).id).toBe(id);
    await store.remove("app:1", none);
    await expectNothing();
  });

  it("does not keep images from being removed", async () => {
    await load(dockerArchive([image]));
    await writeFile(join(root, "filler"), Buffer.alloc(20 << 20)).catch((error: NodeJS.ErrnoException) => expect(error.code).toBe("ENOSPC"));
    await expect(load(dockerArchive([{ layers: [upper], tags: ["more:1"] }]))).rejects.toMatchObject({ code: "storage" });
    expect((await store.remove("app:1", none)).length).toBe(4);
    await rm(join(root, "filler"));
    await expectNothing();
  });
});

describe("a base image", () => {
  it.skipIf(!existsSync("/bin/busybox"))("of busybox is the same each time", async () => {
    const lines: string[] = [];
    const options = { store, workDir: root, openTree: helper.openTree.bind(helper), onProgress: (line: string) => lines.push(line) };
    // What a crash has left goes.
    await mkdir(join(root, "bootstrap-left/debian"), { recursive: true });
    const made = await bootstrapImage({ ...options, what: "busybox" });
    expect(made.repoTags).toEqual(["busybox:latest"]);
    expect(made.config.config?.Cmd).toEqual(["sh"]);
    expect(lines[0]).toContain("busybox");
    const top = await topDirectory("busybox");
    expect(
      execFileSync("chroot", [top, "/bin/sh", "-c", "id root; ls -ld /root /tmp | cut -c1-10; test /bin/sh -ef /bin/busybox && echo linked"], {
        encoding: "utf8",
      }),
    ).toBe("uid=0(root) gid=0(root) groups=0(root),10(wheel)\ndrwx------\ndrwxrwxrwt\nlinked\n");
    await store.remove("busybox", none);
    await expectNothing();
    expect((await bootstrapImage({ ...options, what: "busybox:latest" })).id).toBe(made.id);
    expect((await readdir(root)).filter((name) => name.startsWith("bootstrap-"))).toEqual([]);
  });

  it("of something else is refused, and can be called off", async () => {
    const options = { store, workDir: root, openTree: helper.openTree.bind(helper), onProgress: () => {} };
    await expect(bootstrapImage({ ...options, what: "alpine" })).rejects.toMatchObject({ code: "invalid" });
    await expect(bootstrapImage({ ...options, what: "debian:../x" })).rejects.toMatchObject({ code: "invalid" });
    await expect(bootstrapImage({ ...options, what: "busybox", signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "cancelled" });
    await expectNothing();
  });
});
