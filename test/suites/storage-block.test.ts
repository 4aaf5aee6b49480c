/** The drivers that put each tree on a filesystem of its own: where the kernel has what they take (npm run test:vm). */
import { existsSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findProgram } from "#linux/find-program.ts";
import type { Helper } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import { nativeHelper } from "./native-helper.ts";
import { mountRoot, storageDriverSuite } from "./storage-driver.suite.ts";
import { whyNoZfs, type ZfsPool, zfsPool } from "./zfs-pool.ts";

describe.runIf(process.getuid?.() === 0)("storage drivers on devices (as root)", () => {
  const base = mkdtempSync(join(tmpdir(), "storage-block-"));
  let helper: Helper;
  beforeAll(async () => {
    helper = await startHelper({ helperPath: nativeHelper(), execRoot: base, log: () => undefined });
  });
  afterAll(async () => {
    await helper.close();
    rmSync(base, { recursive: true, force: true });
  });

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
    storageDriverSuite("zfs", { helper: () => helper, base: () => pool.directory });
  });
});
