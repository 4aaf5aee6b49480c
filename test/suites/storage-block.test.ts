/** The drivers that put each tree on a filesystem of its own: where the kernel has what they take (npm run test:vm). */
import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findProgram } from "#linux/find-program.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import { mountRoot, storageDriverSuite } from "./storage-driver.suite.ts";
import { storagePlace } from "./storage-place.ts";
import { whyNoZfs, type ZfsPool, zfsPool } from "./zfs-pool.ts";

describe.runIf(process.getuid?.() === 0)("storage drivers on devices (as root)", async () => {
  const { base, helper } = await storagePlace("storage-block");

  for (const filesystem of ["ext4", "xfs"])
    describe(`devicemapper with ${filesystem}`, async () => {
      const missing = !existsSync("/dev/mapper/control")
        ? "this kernel has no device mapper"
        : (await findProgram(`mkfs.${filesystem}`)) === undefined
          ? `mkfs.${filesystem} is not installed`
          : undefined;
      if (missing !== undefined) {
        it(`skipped: ${missing}`, (context) => context.skip(missing));
        return;
      }
      const options = [`dm.fs=${filesystem}`, "dm.basesize=1G", "dm.loopdatasize=4G", "dm.loopmetadatasize=64M"];
      it("a container may have a larger filesystem than the base, not a smaller one", async () => {
        const root = mkdtempSync(join(base, "size-"));
        const driver = await openDriver("devicemapper", { root, helper, options });
        try {
          await expect(driver.prepare("small", undefined, { sizeBytes: 512 * 1024 ** 2 })).rejects.toMatchObject({ code: "invalid" });
          await driver.prepare("large", undefined, { sizeBytes: 2 * 1024 ** 3 });
          const undo = await mountRoot(await driver.mounts("large"), join(root, "mnt"), helper);
          const { blocks, bsize } = statfsSync(join(root, "mnt"));
          undo();
          expect(blocks * bsize).toBeGreaterThan(1.8 * 1024 ** 3);
        } finally {
          await driver.sweep(new Set());
          await driver.idle();
          await driver.close?.();
          rmSync(root, { recursive: true });
        }
      });
      storageDriverSuite("devicemapper", { helper: () => helper, base: () => base, options });
    });

  describe("devicemapper with a pool that is there already (dm.thinpooldev)", () => {
    const missing = !existsSync("/dev/mapper/control") ? "this kernel has no device mapper" : undefined;
    it.skipIf(missing !== undefined)("takes devices of it, finds them again, and leaves the pool as it was", async () => {
      const place = mkdtempSync(join(base, "pool-"));
      const attach = (name: string, bytes: number) => {
        const file = join(place, name);
        writeFileSync(file, "");
        truncateSync(file, bytes);
        return execFileSync("losetup", ["-f", "--show", file], { encoding: "utf8" }).trim();
      };
      const [dataBytes, name] = [2 * 1024 ** 3, `wherrytest-${randomBytes(4).toString("hex")}`];
      const [metadata, data] = [attach("metadata", 64 * 1024 ** 2), attach("data", dataBytes)];
      try {
        execFileSync("dmsetup", ["create", name, "--table", `0 ${dataBytes / 512} thin-pool ${metadata} ${data} 128 0`]);
        const options = [`dm.thinpooldev=/dev/mapper/${name}`, "dm.basesize=512M", "dm.fs=ext4"];
        const open = () => openDriver("devicemapper", { root: place, helper, options });
        let driver = await open();
        expect(await driver.status()).toEqual(expect.arrayContaining([["Pool Name", name]]));
        await driver.prepare("one", undefined);
        const unmount = await mountRoot(await driver.mounts("one"), join(place, "mnt"), helper);
        writeFileSync(join(place, "mnt/file"), "kept");
        unmount();
        await driver.close?.();
        driver = await open();
        const again = await mountRoot(await driver.mounts("one"), join(place, "mnt"), helper);
        expect(readFileSync(join(place, "mnt/file"), "utf8")).toBe("kept");
        again();
        await driver.sweep(new Set());
        await driver.idle();
        await driver.close?.();
        // Nothing of it is in use any more, and it works.
        expect(execFileSync("dmsetup", ["status", name], { encoding: "utf8" })).toMatch(/thin-pool .* rw /);
        execFileSync("dmsetup", ["remove", name]);
      } finally {
        spawnSync("dmsetup", ["remove", "-f", name], { stdio: "ignore" });
        for (const device of [metadata, data]) execFileSync("losetup", ["-d", device]);
        rmSync(place, { recursive: true });
      }
    });
  });

  describe("zfs", () => {
    const reason = whyNoZfs();
    if (reason !== undefined) {
      it(`skipped: ${reason}`, (context) => context.skip(reason));
      return;
    }
    let pool: ZfsPool;
    beforeAll(async () => {
      pool = await zfsPool(base);
    });
    afterAll(() => pool.remove());

    it("a container's size is its dataset's quota", async () => {
      const root = mkdtempSync(join(pool.directory, "size-"));
      const driver = await openDriver("zfs", { root, helper });
      await driver.prepare("small", undefined, { sizeBytes: 8 * 1024 ** 2 });
      const unmount = await mountRoot(await driver.mounts("small"), join(root, "mnt"), helper);
      try {
        const write = (name: string, mib: number) =>
          spawnSync("dd", ["if=/dev/urandom", `of=${join(root, "mnt", name)}`, "bs=1M", `count=${mib}`, "oflag=sync"], { encoding: "utf8" });
        expect(write("fits", 2).status).toBe(0);
        expect(write("too-much", 32).stderr).toMatch(/quota exceeded|No space left/i);
      } finally {
        unmount();
        await driver.sweep(new Set());
        await driver.idle();
        await driver.close?.();
      }
    });

    it("zfs.fsname: datasets are below the one that is named, wherever the data root is", async () => {
      const root = mkdtempSync(join(base, "fsname-"));
      const fsname = `${pool.name}/named`;
      execFileSync("zfs", ["create", "-o", "mountpoint=none", fsname]);
      const datasets = () => execFileSync("zfs", ["list", "-H", "-r", "-o", "name", fsname], { encoding: "utf8" }).trim().split("\n").slice(1);
      const driver = await openDriver("zfs", { root, helper, options: [`zfs.fsname=${fsname}`] });
      await driver.prepare("one", undefined);
      expect(datasets()).toHaveLength(1);
      const unmount = await mountRoot(await driver.mounts("one"), join(root, "mnt"), helper);
      writeFileSync(join(root, "mnt/file"), "there");
      unmount();
      await driver.sweep(new Set());
      await driver.idle();
      await driver.close?.();
      expect(datasets()).toEqual([]);
      rmSync(root, { recursive: true });
    });

    storageDriverSuite("zfs", { helper: () => helper, base: () => pool.directory });
  });
});
