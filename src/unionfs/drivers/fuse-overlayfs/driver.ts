import { join } from "node:path";
import type { Helper } from "#linux/helper.ts";
import { backingFilesystem } from "../../backing-filesystem.ts";
import type { DriverProbe, RootMount, StorageDriver } from "../../mod.ts";
import { readStorageOptions, type StorageOptions } from "../../storage-options.ts";
import { type FuseLayers, openOverlayDriver } from "../../overlay-driver.ts";
import { canOpenFuse, findProgram } from "#linux/find-program.ts";

const program = "fuse-overlayfs";

/** Where the kernel's overlay is refused (an old kernel in a user namespace, an overlay as the backing filesystem): its directories by a program in user space. */
export async function probeFuseOverlayfs(): Promise<DriverProbe> {
  const fuse = await canOpenFuse();
  if (fuse !== undefined) return { supported: false, reason: fuse };
  if ((await findProgram(program)) === undefined)
    return { supported: false, reason: `the program ${program} is not installed (Debian: apt-get install ${program})` };
  return { supported: true };
}

export async function openFuseOverlayfs(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  readStorageOptions("fuse-overlayfs", given, {});
  const path = (await findProgram(program)) ?? program;
  return openOverlayDriver(dataRoot, helper, {
    name: "fuse-overlayfs",
    capabilities: { nativeDiff: true, quota: false, idmap: false },
    flat: false,
    mount: (layers) => fuseMount(path, layers),
    limit: { reason: "it is a program in user space" },
    status: async () => [
      ["Backing Filesystem", await backingFilesystem(join(dataRoot, "fuse-overlayfs"))],
      ["Program", path],
    ],
  });
}

function fuseMount(path: string, { lower, upper, work, mountpoint }: FuseLayers): RootMount {
  const escaped = (directory: string) => directory.replace(/[\\:,]/g, (c) => `\\${c}`);
  const options = [
    `lowerdir=${lower.map(escaped).join(":")}`,
    ...(upper === undefined || work === undefined ? [] : [`upperdir=${escaped(upper)}`, `workdir=${escaped(work)}`]),
    // With the kernel's write-back cache, times on disk lag behind those that the container sees.
    "writeback=0",
    "allow_other",
    "default_permissions",
    "suid",
    "dev",
  ];
  return {
    kind: "fuse",
    argv: [path, "-f", "-o", options.join(","), mountpoint],
    mountpoint,
    readonly: upper === undefined,
    directories: upper === undefined ? lower : [upper, ...lower],
  };
}
