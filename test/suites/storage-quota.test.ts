/** `--storage-opt size=`: a bound on what a snapshot holds, where the filesystem can keep it. */
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hexOf } from "#core/digest.ts";
import { findProgram } from "#linux/find-program.ts";
import type { StorageDriver } from "#unionfs/mod.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import { loopFilesystem } from "./loop-filesystem.ts";
import { mountRoot } from "./storage-driver.suite.ts";
import { storagePlace } from "./storage-place.ts";

describe.runIf(process.getuid?.() === 0)("storage quotas (as root)", async () => {
  const { base, helper } = await storagePlace("quota");

  for (const [driverName, filesystem] of [
    ["overlay2", "xfs"],
    ["overlay2", "ext4"],
    ["btrfs", "btrfs"],
  ] as const)
    it(`${driverName} on ${filesystem}: a snapshot with a size holds so much and no more, and others are not bounded`, async (context) => {
      if ((await findProgram(`mkfs.${filesystem}`)) === undefined) context.skip(`mkfs.${filesystem} is not installed`);
      const made = loopFilesystem(filesystem, base);
      if (made === undefined) return context.skip(`this kernel mounts no ${filesystem} with project quotas`);
      const root = mkdtempSync(join(made.directory, "quota-"));
      const unmount: (() => void)[] = [];
      let driver: StorageDriver = await openDriver(driverName, { root, helper: helper });
      try {
        if (!driver.capabilities.quota) {
          await expect(driver.prepare("bounded", undefined, { sizeBytes: 20 << 20 })).rejects.toMatchObject({
            code: "unsupported",
            message: expect.stringContaining("prjquota"),
          });
          context.skip(`this kernel keeps no project quota on ${filesystem}`);
        }
        await driver.prepare("bounded", undefined, { sizeBytes: 20 << 20 });
        await driver.prepare("other", undefined, { sizeBytes: 40 << 20 });
        // Ids are found again at the next start.
        driver = await openDriver(driverName, { root, helper: helper });
        await driver.prepare("third", undefined, { sizeBytes: 20 << 20 });
        await driver.prepare("free", undefined);
        // What lies on a layer is bounded by itself: the layer is everybody's.
        const layer = `sha256:${"5".repeat(64)}` as const;
        await driver.prepare("below", undefined);
        await driver.commit("below", layer);
        await driver.prepare("upon", layer, { sizeBytes: 20 << 20 });
        if (driverName === "overlay2") expect(execFileSync("lsattr", ["-pd", join(root, driverName, hexOf(layer))], { encoding: "utf8" })).toMatch(/^\s*0 /);
        const fill = async (key: string, megabytes: number): Promise<boolean> => {
          const target = join(root, "mnt", key);
          unmount.push(await mountRoot(await driver.mounts(key), target, helper));
          try {
            execFileSync("dd", ["if=/dev/zero", `of=${target}/file`, "bs=1M", `count=${megabytes}`, "conv=fsync"], { stdio: "ignore" });
            return true;
          } catch {
            return false;
          }
        };
        expect(await fill("bounded", 30)).toBe(false);
        expect(await fill("other", 30)).toBe(true);
        expect(await fill("third", 15)).toBe(true);
        expect(await fill("free", 60)).toBe(true);
        expect(await fill("upon", 30)).toBe(false);
      } finally {
        for (const step of unmount.reverse()) step();
        for (const key of ["bounded", "other", "third", "free", "upon"]) await driver.remove(key);
        await driver.idle();
        execFileSync("rm", ["-rf", root]);
        made.remove();
      }
    });
});
