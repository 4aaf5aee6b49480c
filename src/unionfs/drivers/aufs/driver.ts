import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { canOpenFuse } from "#linux/find-program.ts";
import type { Helper } from "#linux/helper.ts";
import { backingFilesystem } from "../../backing-filesystem.ts";
import type { DriverProbe, RootMount, StorageDriver } from "../../mod.ts";
import { type FuseLayers, openOverlayDriver } from "../../overlay-driver.ts";
import { readStorageOptions, type StorageOptions } from "../../storage-options.ts";

/** So many branches can be one tree. */
const maxBranches = 512;

/** What aufs does, a union of many branches with copy-up, by a program of ours in user space: no kernel that this engine runs on has aufs. */
export async function probeAufs(): Promise<DriverProbe> {
  const reason = await canOpenFuse();
  return reason === undefined ? { supported: true } : { supported: false, reason };
}

/** @see docs/adr/0052-aufs-in-user-space.md, native/union.h */
export async function openAufs(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  readStorageOptions("aufs", given, {});
  const root = join(dataRoot, "aufs");
  return openOverlayDriver(dataRoot, helper, {
    name: "aufs",
    capabilities: { nativeDiff: true, quota: false, idmap: false },
    flat: false,
    mount: (layers) => unionMount(helper.program, layers),
    limit: { reason: "it is a program in user space" },
    status: async () => [
      ["Root Dir", root],
      ["Backing Filesystem", await backingFilesystem(root)],
      ["Implementation", `wherry-union over FUSE, in user space; this kernel ${(await kernelHasAufs()) ? "has aufs, which is not used" : "has no aufs"}`],
      ["Branches", `at most ${maxBranches}`],
    ],
  });
}

async function kernelHasAufs(): Promise<boolean> {
  return /\taufs$/m.test(await readFile("/proc/filesystems", "utf8"));
}

function unionMount(program: string, { lower, upper, work, mountpoint }: FuseLayers): RootMount {
  const branches = upper === undefined ? lower : [upper, ...lower];
  return {
    kind: "fuse",
    argv: [program, "union", mountpoint, work ?? "", ...branches],
    mountpoint,
    readonly: upper === undefined,
    directories: branches,
  };
}
