/** The erofs driver in each way that some kernel needs: from files, or on loop devices; with the archive kept, or blocks of a page; given to the overlay detached, or by a path. */
import { readdirSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { imageKinds, openErofsAs, tryImage } from "#unionfs/drivers/erofs/driver.ts";
import { storageDriverSuite } from "./storage-driver.suite.ts";
import { storagePlace } from "./storage-place.ts";

const root = process.getuid?.() === 0;

/** Loop devices of files below a directory. */
function loopDevices(directory: string): string[] {
  return readdirSync("/sys/block").filter((name) => {
    if (!name.startsWith("loop")) return false;
    try {
      return readFileSync(`/sys/block/${name}/loop/backing_file`, "utf8").startsWith(directory);
    } catch {
      return false; // It has none, or let go of it just now.
    }
  });
}

describe.runIf(root)("erofs (as root)", async () => {
  const { base, helper } = await storagePlace("storage-erofs");
  const refused = await Promise.all(imageKinds.map((kind) => tryImage(base, helper, kind)));
  const best = refused.indexOf(undefined);

  for (const [i, kind] of imageKinds.entries()) {
    const what = [kind.form.archive ? "archives" : "contents on pages", kind.loop ? "loop devices" : "files", kind.attach ? "by path" : "detached"].join(", ");
    describe(what, () => {
      const error = refused[i];
      if (error !== undefined) {
        it(`skipped: ${error.message}`, (context) => context.skip(error.message));
        return;
      }
      // The whole suite for what is used here, and for what needs the most of the kernel and of us; the ways between differ from them in parts that both have seen.
      if (i === best || i === imageKinds.length - 1)
        storageDriverSuite("erofs", { helper: () => helper, base: () => base, open: (dataRoot) => openErofsAs(dataRoot, helper, kind) });
      it("leaves no loop device", async () => {
        expect(await tryImage(base, helper, kind)).toBeUndefined();
        for (let waited = 0; loopDevices(base).length > 0 && waited < 200; waited++) await sleep(50);
        expect(loopDevices(base)).toEqual([]);
      });
    });
  }

  it("works from Linux 5.16 on", () => {
    const [major = 0, minor = 0] = release().split(".").map(Number);
    expect(best !== -1).toBe(major > 5 || (major === 5 && minor >= 16));
  });
});
