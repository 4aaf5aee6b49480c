import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statfsSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ChainID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Step } from "#linux/plan.ts";
import { openLayerStore } from "#unionfs/layer-store.ts";
import type { LayerStore, RootMount, StorageDriver } from "#unionfs/mod.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import { oddArchive } from "#unionfs/testing/odd-archive.ts";
import { chunked, collect, tar } from "#unionfs/testing/tar-builder.ts";
import { storagePlace } from "../suites/storage-place.ts";

describe.runIf(process.getuid?.() === 0)("the union filesystem (as root)", async () => {
  const { base, helper } = await storagePlace("unionfs");
  let root: string;
  let mounts: string[] = [];

  beforeEach(() => {
    root = mkdtempSync(join(base, "root-"));
  });
  afterEach(() => {
    for (const target of mounts.reverse()) execFileSync("umount", [target]);
    mounts = [];
    rmSync(root, { recursive: true, force: true });
  });

  async function open(at: string, name?: string): Promise<{ driver: StorageDriver; store: LayerStore }> {
    const driver = await openDriver(name, { root: at, helper });
    return { driver, store: await openLayerStore({ root: at, driver, helper }) };
  }
  function mount(target: string, ...args: string[]): string {
    mkdirSync(target, { recursive: true });
    execFileSync("mount", [...args, target]);
    mounts.push(target);
    return target;
  }
  /** A new filesystem of this size in a file. */
  function filesystem(megabytes: number, ...mkfs: [string, ...string[]]): string {
    const image = join(root, "image");
    execFileSync("truncate", ["-s", `${megabytes}M`, image]);
    execFileSync(mkfs[0], [...mkfs.slice(1), image], { stdio: "ignore" });
    return mount(join(root, "disk"), "-o", "loop", image);
  }
  function mountOverlay(data: RootMount): string {
    if (data.kind !== "overlay") throw new Error(`an overlay, not ${data.kind}`);
    const upper = data.upper === undefined ? [] : [`upperdir=${data.upper}`, `workdir=${data.work}`];
    const target = join(root, "mnt");
    mkdirSync(target, { recursive: true });
    execFileSync("mount", ["-t", "overlay", "overlay", "-o", [`lowerdir=${data.links.join(":")}`, ...upper, ...data.options].join(","), target], {
      cwd: data.linkDir,
    });
    mounts.push(target);
    return target;
  }
  function unmount(): void {
    execFileSync("umount", [mounts.pop()!]);
  }
  function commandLine(pid: string): string {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8");
    } catch {
      // It ended meanwhile.
      return "";
    }
  }
  const layer = (store: LayerStore, parent: ChainID | undefined, name: string, data: string | Uint8Array) =>
    store.apply(parent, chunked(tar({ name, data }), 100_000));

  it("vfs shares the data of its copies where the filesystem can, until they are changed", async () => {
    const disk = filesystem(400, "mkfs.xfs", "-q", "-m", "reflink=1");
    const { driver, store } = await open(disk, "vfs");
    expect(await driver.status()).toContainEqual(["Reflinks", "true"]);
    const bytes = 64 << 20;
    const { chainId } = await layer(store, undefined, "large", Buffer.alloc(bytes, "l"));
    const free = () => {
      execFileSync("sync", ["-f", disk]);
      const { bavail, bsize } = statfsSync(disk);
      return bavail * bsize;
    };
    const before = free();
    for (const name of ["a", "b", "c"]) await driver.prepare(name, chainId);
    expect(before - free()).toBeLessThan(bytes / 4);
    const sourceOf = async (name: string) => {
      const mounted = await driver.mounts(name);
      if (mounted.kind !== "bind") throw new Error("vfs gives a directory");
      return join(mounted.source, "large");
    };
    writeFileSync(await sourceOf("a"), Buffer.alloc(bytes, "n"));
    expect(before - free()).toBeGreaterThan(bytes / 2);
    expect(readFileSync(await sourceOf("b")).equals(Buffer.alloc(bytes, "l"))).toBe(true);
  });

  it("a full disk: the layer is refused, what was there stays, and there is room again", async () => {
    const disk = filesystem(24, "mkfs.ext4", "-q");
    const { driver, store } = await open(disk, "overlay2");
    const kept = await layer(store, undefined, "kept", Buffer.alloc(2 << 20, "k"));
    await expect(layer(store, kept.chainId, "large", Buffer.alloc(40 << 20, "l"))).rejects.toMatchObject({
      code: "storage",
      message: 'unpacking "large": no space left on device',
    });
    await driver.idle();
    expect(await driver.list()).toEqual({ layers: [kept.chainId], active: [] });
    expect(readdirSync(join(disk, "overlay2/trash"))).toEqual([]);
    expect(await collect(await store.tar(kept.chainId))).toEqual(tar({ name: "kept", data: Buffer.alloc(2 << 20, "k") }));
    const again = await layer(store, kept.chainId, "fits", Buffer.alloc(8 << 20, "f"));
    const reopened = await open(disk);
    expect(reopened.driver.name).toBe("overlay2");
    expect(await reopened.store.has(again.chainId)).toBe(true);
  });

  it("xfs carries overlay2 and is named", async () => {
    const disk = filesystem(400, "mkfs.xfs", "-q");
    const { driver, store } = await open(disk);
    expect(Object.fromEntries(await driver.status())).toEqual({
      "Backing Filesystem": "xfs",
      "Supports d_type": "true",
      "Using metacopy": "false",
      "Native Overlay Diff": "true",
      userxattr: "false",
    });
    const { chainId } = await layer(store, undefined, "f", "content");
    await driver.prepare("one", chainId);
    expect(readFileSync(join(mountOverlay(await driver.mounts("one")), "f"), "utf8")).toBe("content");
  });

  it("on an overlay, overlay2 is refused with the reason, and a driver that can is chosen", async () => {
    for (const name of ["lower", "upper", "work"]) mkdirSync(join(root, name));
    const over = mount(join(root, "over"), "-t", "overlay", "-o", `lowerdir=${root}/lower,upperdir=${root}/upper,workdir=${root}/work`, "overlay");
    await expect(openDriver("overlay2", { root: over, helper })).rejects.toMatchObject({
      code: "unsupported",
      message: expect.stringContaining("upper directory on overlayfs"),
    });
    const { driver, store } = await open(over);
    expect(["fuse-overlayfs", "vfs"]).toContain(driver.name); // the first where the program is installed
    const { chainId } = await layer(store, undefined, "f", "content");
    expect(readFileSync(join(over, driver.name, chainId.slice(7), "diff/f"), "utf8")).toBe("content");
    expect(readdirSync(over).sort()).toEqual([driver.name, "layerdb"].sort());
  });

  it("an unknown driver is refused; without a name, the one that has layers is chosen", async () => {
    await expect(openDriver("nosuch", { root, helper })).rejects.toMatchObject({ code: "invalid", message: expect.stringContaining('"nosuch"') });
    const { store } = await open(root, "vfs");
    await layer(store, undefined, "f", "x");
    expect((await open(root)).driver.name).toBe("vfs");
  });

  it("volatile snapshots are mounted again within a boot, and not after", async () => {
    const { driver, store } = await open(root, "overlay2");
    const { chainId } = await layer(store, undefined, "f", "x");
    await driver.prepare("one", chainId, { ephemeral: true });
    for (let round = 0; round < 3; round++) {
      const data = await driver.mounts("one");
      expect(data).toMatchObject({ options: expect.arrayContaining(["volatile"]) });
      writeFileSync(join(mountOverlay(data), `round-${round}`), "");
      unmount();
    }
    const later = (await open(root)).driver;
    expect(readdirSync(mountOverlay(await later.mounts("one"))).filter((name) => name.startsWith("round"))).toHaveLength(3);
    unmount();
    const link = join(root, "overlay2/one/volatile");
    expect(readlinkSync(link)).toBe(readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
    unlinkSync(link);
    symlinkSync("another-boot", link);
    const rebooted = (await open(root)).driver;
    await expect(rebooted.mounts("one")).rejects.toMatchObject({ code: "storage", message: expect.stringContaining("did not survive") });
    await rebooted.remove("one");
    await rebooted.idle();
  });

  it("an untouched volatile snapshot goes without a trace", async () => {
    const { driver, store } = await open(root, "overlay2");
    const { chainId } = await layer(store, undefined, "f", "x");
    await driver.prepare("one", chainId, { ephemeral: true });
    mountOverlay(await driver.mounts("one"));
    unmount();
    await driver.remove("one");
    await driver.idle();
    expect(readdirSync(join(root, "overlay2/trash"))).toEqual([]);
  });

  it("more layers than mount options can name are mounted one by one", async () => {
    const { driver, store } = await open(root, "overlay2");
    let parent: ChainID | undefined;
    for (let i = 0; i < 300; i++) parent = (await layer(store, parent, `f${i}`, `${i}`)).chainId;
    await driver.prepare("one", parent);
    const data = await driver.mounts("one");
    if (data.kind !== "overlay") throw new Error("an overlay");
    expect(data.lower).toHaveLength(301);
    const step = { where: "host", why: "test" } as const;
    const set = (key: string, value: string): Step => ({ op: "fsconfig_str", fs: 0, key, value, ...step });
    const target = join(root, "mnt");
    mkdirSync(target);
    const steps: Step[] = [
      { op: "fsopen", fstype: "overlay", out: 0, ...step },
      ...data.lower.map((lower) => set("lowerdir+", lower)),
      set("upperdir", data.upper!),
      set("workdir", data.work!),
      { op: "fsmount", fs: 0, attrs: 0n, out: 1, ...step },
      { op: "move_mount", mnt: 1, dir: 0xffffffff, path: target, ...step },
    ];
    await helper.call({ steps });
    mounts.push(target);
    expect(readdirSync(target).filter((name) => /^f[0-9]+$/.test(name))).toHaveLength(300);
    const out = await collect(store.exportTree("one"));
    expect(execFileSync("tar", ["-t"], { input: out, encoding: "utf8" }).match(/^f[0-9]+$/gm)).toHaveLength(300);
  });

  it("short links that are lost are made again", async () => {
    const { driver, store } = await open(root, "overlay2");
    const { chainId } = await layer(store, undefined, "f", "x");
    await driver.prepare("one", chainId);
    await driver.mounts("one");
    rmSync(join(root, "overlay2/l"), { recursive: true });
    mkdirSync(join(root, "overlay2/l"));
    symlinkSync("../gone/diff", join(root, "overlay2/l/STALE"));
    const again = (await open(root)).driver;
    expect(readdirSync(mountOverlay(await again.mounts("one")))).toContain("f");
    expect(existsSync(join(root, "overlay2/l/STALE"))).toBe(false);
    expect(readdirSync(join(root, "overlay2/l"))).toHaveLength(2);
  });

  it("what a crash of the machine has left of links and mount points is made again", async () => {
    const { driver, store } = await open(root, "overlay2");
    const { chainId } = await layer(store, undefined, "f", "x");
    await store.sync();
    await driver.prepare("one", chainId);
    await driver.mounts("one");
    const init = join(root, "overlay2", `${chainId.slice(7)}-init`);
    writeFileSync(join(root, "overlay2", chainId.slice(7), "link"), "");
    writeFileSync(join(init, "boot"), "another-boot");
    rmSync(join(init, "diff/etc"), { recursive: true });
    const again = (await open(root)).driver;
    expect(existsSync(init)).toBe(false);
    const mounted = mountOverlay(await again.mounts("one"));
    expect(readdirSync(mounted)).toContain("f");
    expect(existsSync(join(mounted, "etc/hosts"))).toBe(true);
    await again.idle();
  });

  describe("layers are written back while more of the image is taken in", () => {
    /** A layer store whose records cannot be written back once: their directory is not opened, or its disk is broken. */
    async function failing(how: "opening" | "writing"): Promise<LayerStore> {
      let failed = false;
      const driver = await openDriver("overlay2", { root, helper });
      const openTree: typeof helper.openTree = async (directory, options) => {
        const tree = await helper.openTree(directory, options);
        if (failed || !directory.includes("/layerdb/")) return tree;
        failed = true;
        if (how === "writing")
          return Object.assign(tree, { sync: () => Promise.reject(new EngineError("internal", "a broken disk", { details: { errno: "EIO", op: "sync" } })) });
        await tree.close();
        throw new EngineError("internal", "nobody there");
      };
      return openLayerStore({ root, driver, helper: Object.create(helper, { openTree: { value: openTree } }) as typeof helper });
    }
    const onDisk = (chain: ChainID) => existsSync(join(root, "layerdb/overlay2", chain.slice("sha256:".length), "synced"));

    it("nobody has to ask", async () => {
      const { store } = await open(root, "overlay2");
      const { release } = store.hold(); // as whoever makes an image has it
      const { chainId } = await layer(store, undefined, "a", "a");
      await expect.poll(() => onDisk(chainId)).toBe(true);
      release();
    });

    it("bytes that are lost are told of to who asks next; the one after tries again", async () => {
      const store = await failing("writing");
      const { release } = store.hold();
      const { chainId } = await layer(store, undefined, "a", "a");
      await expect(store.sync()).rejects.toThrow("a broken disk");
      expect(onDisk(chainId)).toBe(false);
      await store.sync();
      expect(onDisk(chainId)).toBe(true);
      release();
    });

    it("but not of those of a layer that is not there any more", async () => {
      const store = await failing("writing");
      const { release } = store.hold();
      const { chainId } = await layer(store, undefined, "a", "a");
      await expect.poll(() => existsSync(join(root, "layerdb/overlay2", chainId.slice("sha256:".length)))).toBe(true);
      release();
      await store.prune(new Set());
      await store.sync();
    });

    it("all else is tried again at once", async () => {
      const store = await failing("opening");
      const { release } = store.hold();
      const { chainId } = await layer(store, undefined, "a", "a");
      await store.sync();
      expect(onDisk(chainId)).toBe(true);
      release();
    });
  });

  it("cancelled, nothing is left", async () => {
    const { driver, store } = await open(root);
    const stop = new AbortController();
    const onProgress = ({ bytes }: { bytes: number }) => bytes > 1 << 20 && stop.abort();
    await expect(
      store.apply(undefined, chunked(tar({ name: "f", data: Buffer.alloc(5 << 20) }), 65_536), { signal: stop.signal, onProgress }),
    ).rejects.toMatchObject({ code: "cancelled" });
    await driver.idle();
    expect(await driver.list()).toEqual({ layers: [], active: [] });
    expect(readdirSync(join(root, "layerdb/overlay2"))).toEqual([]);
  });

  it("the file worker killed under way: the layer is refused, nothing is left, and the next one works", async () => {
    const { driver, store } = await open(root);
    const archive = tar({ name: "a", data: "1" }, { name: "f", data: Buffer.alloc(3 << 20, "f") });
    async function* interrupted() {
      yield archive.subarray(0, 1 << 20);
      // Ours alone: its title names the directory it works in, which is this test's own.
      const worker = readdirSync("/proc").find((pid) => /^[0-9]+$/.test(pid) && commandLine(pid).includes(root));
      expect(worker).toBeDefined();
      process.kill(Number(worker), "SIGKILL");
      yield* chunked(archive.subarray(1 << 20), 65_536);
    }
    await expect(store.apply(undefined, interrupted())).rejects.toMatchObject({ code: "internal" });
    await driver.idle();
    expect(await driver.list()).toEqual({ layers: [], active: [] });
    expect(readdirSync(join(root, "layerdb/overlay2"))).toEqual([]);
    const { chainId } = await store.apply(undefined, chunked(archive, 65_536));
    expect((await collect(await store.tar(chainId))).equals(archive)).toBe(true);
  });

  it("an escape writes nothing outside", async () => {
    const { driver, store } = await open(root);
    const outside = join(root, "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "secret"), "secret");
    const link = { name: "link", typeflag: "2", linkname: outside };
    for (const members of [
      [link, { name: "link/evil", data: "x" }],
      [{ name: "../../../../outside/evil", data: "x" }],
      [{ name: "hard", typeflag: "1", linkname: `../../..${outside}/secret` }],
      [link, { name: "hard", typeflag: "1", linkname: "link/secret" }],
      [link, { name: "link/.wh.secret" }],
    ]) {
      const entry = members.at(-1)!.name;
      await expect(store.apply(undefined, chunked(tar(...members)))).rejects.toMatchObject({
        code: "corrupt",
        message: expect.stringContaining(`archive entry "${entry}"`),
      });
    }
    await driver.idle();
    expect(readdirSync(outside)).toEqual(["secret"]);
    expect(await driver.list()).toEqual({ layers: [], active: [] });
  });

  it("odd archives are refused, or come back byte for byte from real files", async () => {
    const { driver, store } = await open(root);
    let accepted = 0;
    const property = fc.asyncProperty(oddArchive, async (archive) => {
      try {
        const { chainId } = await store.apply(undefined, chunked(archive, 3000));
        expect((await collect(await store.tar(chainId))).equals(archive)).toBe(true);
        accepted++;
      } catch (error) {
        if (!isEngineError(error, "corrupt")) throw error;
      }
    });
    await fc.assert(property, { numRuns: 150 });
    expect(accepted).toBeGreaterThan(20);
    await store.prune(new Set());
    await driver.idle();
    expect(await driver.list()).toEqual({ layers: [], active: [] });
  });
});
