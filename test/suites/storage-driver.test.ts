import { afterAll, beforeAll, describe } from "vitest";
import { findProgram } from "#linux/find-program.ts";
import { loopFilesystem, type LoopFilesystem } from "./loop-filesystem.ts";
import { storageDriverSuite } from "./storage-driver.suite.ts";
import { storagePlace } from "./storage-place.ts";

/** Where each driver is tested: on the filesystem of the temporary directory, or on one made for it. */
const places: readonly { readonly driver: string; readonly filesystem?: "xfs" | "btrfs"; readonly program?: string }[] = [
  { driver: "overlay2" },
  { driver: "overlay" },
  { driver: "vfs" },
  { driver: "btrfs", filesystem: "btrfs" },
  { driver: "fuse-overlayfs", program: "fuse-overlayfs" },
  { driver: "aufs" },
  { driver: "overlay2", filesystem: "xfs" },
  { driver: "overlay2", filesystem: "btrfs" },
];

describe.runIf(process.getuid?.() === 0)("storage drivers (as root)", async () => {
  const { base, helper } = await storagePlace("storage");

  for (const { driver, filesystem, program } of places) {
    describe(`${driver} on ${filesystem ?? "the temporary directory's filesystem"}`, async () => {
      const missing = await lacking([program, filesystem === undefined ? undefined : `mkfs.${filesystem}`]);
      if (missing !== undefined) {
        console.log(`skipped: ${driver} on ${filesystem ?? "tmp"}: ${missing} is not installed`);
        return;
      }
      let made: LoopFilesystem | undefined;
      beforeAll(() => {
        if (filesystem !== undefined) made = loopFilesystem(filesystem, base);
      });
      afterAll(() => made?.remove());
      const host = { helper: () => helper, base: () => made?.directory ?? base };
      storageDriverSuite(driver, host);
    });
  }
});

async function lacking(programs: readonly (string | undefined)[]): Promise<string | undefined> {
  for (const program of programs) if (program !== undefined && (await findProgram(program)) === undefined) return program;
  return undefined;
}
