import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Helper } from "#linux/helper.ts";
import { copyTree } from "../../copy-tree.ts";
import type { StorageDriver } from "../../mod.ts";
import { readStorageOptions, type StorageOptions } from "../../storage-options.ts";
import { hasReflinks } from "../../reflinks.ts";
import { openTreeDriver, treeDirectory } from "../../tree-driver.ts";

/** Whole copies: slow and large, and works on any filesystem. Where the filesystem has reflinks (xfs, btrfs), a copy shares the data until it is changed. */
export async function openVfs(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  readStorageOptions("vfs", given, {});
  return openTreeDriver(dataRoot, helper, {
    name: "vfs",
    capabilities: { nativeDiff: false, quota: false, idmap: false },
    status: async (layers) => {
      const name = `tmp-reflink-${randomBytes(8).toString("hex")}`;
      return [["Reflinks", String(await layers.making(name, () => hasReflinks(join(layers.root, name))))]];
    },
    limit: { reason: "a plain directory has no bound of its own" },
    create: async (below, directory) => {
      const to = treeDirectory(directory);
      await mkdir(to, { mode: 0o755 });
      if (below === undefined) return;
      const from = treeDirectory(below);
      const source = await helper.openTree(from);
      try {
        const target = await helper.openTree(to);
        try {
          await copyTree({ tree: source, directory: from }, { tree: target, directory: to });
        } finally {
          await target.close();
        }
      } finally {
        await source.close();
      }
    },
  });
}
