import { join } from "node:path";
import type { Helper } from "#linux/helper.ts";
import { backingFilesystem } from "../../backing-filesystem.ts";
import type { StorageDriver } from "../../mod.ts";
import { readStorageOptions, type StorageOptions } from "../../storage-options.ts";
import { openOverlayDriver } from "../../overlay-driver.ts";
import { overlayOptions } from "../../overlay-probe.ts";

/**
 * Docker's first overlay driver: each layer is a whole tree that shares unchanged files with the one below by hard links, and a container has it as its one lower directory (below
 * that of the mount points). Costs an inode for each directory of each layer, and links run out (65,000 on ext4); for comparison.
 */
export async function openOverlay(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  readStorageOptions("overlay", given, { "overlay.override_kernel_check": true });
  return openOverlayDriver(dataRoot, helper, {
    name: "overlay",
    capabilities: { nativeDiff: true, quota: false, idmap: false },
    flat: true,
    mount: { options: overlayOptions },
    limit: { reason: "layers share inodes, whose owner a project quota would change" },
    status: async () => [
      ["Backing Filesystem", await backingFilesystem(join(dataRoot, "overlay"))],
      ["Supports d_type", "true"],
    ],
  });
}
