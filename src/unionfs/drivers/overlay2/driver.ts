import { mkdir } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { EngineError } from "#core/errors.ts";
import type { Helper } from "#linux/helper.ts";
import { backingFilesystem } from "../../backing-filesystem.ts";
import type { StorageDriver } from "../../mod.ts";
import { readStorageOptions, sizeOption, type StorageOptions } from "../../storage-options.ts";
import { openOverlayDriver } from "../../overlay-driver.ts";
import { overlayOptions } from "../../overlay-probe.ts";
import { openProjectQuota } from "../../project-quota.ts";

/** The second is of old kernels, which overlay2 was once refused on; it changes nothing in Docker either. */
const known = { "overlay2.size": true, "overlay2.override_kernel_check": true } as const;

/** fs.overlay: a directory for each layer, all of an image's layers side by side as lower directories. */
export async function openOverlay2(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  const size = sizeOption(readStorageOptions("overlay2", given, known), "overlay2.size");
  const root = join(dataRoot, "overlay2");
  await mkdir(root, { recursive: true, mode: 0o710 });
  const limit = await openProjectQuota(root, helper);
  if (size !== undefined && "reason" in limit)
    throw new EngineError("unsupported", `Storage option overlay2.size not supported. Filesystem does not support Project Quota: ${limit.reason}`);
  return openOverlayDriver(dataRoot, helper, {
    name: "overlay2",
    capabilities: { nativeDiff: true, quota: "set" in limit, idmap: kernelAtLeast(5, 19) },
    flat: false,
    mount: { options: overlayOptions },
    limit,
    ...(size === undefined ? {} : { defaultSizeBytes: size }),
    // d_type, metacopy and native diff are so because the mount's own options say so, whatever the module's defaults are.
    status: async () => [
      ["Backing Filesystem", await backingFilesystem(root)],
      ["Supports d_type", "true"],
      ["Using metacopy", "false"],
      ["Native Overlay Diff", "true"],
      ["userxattr", "false"],
    ],
  });
}

function kernelAtLeast(major: number, minor: number): boolean {
  const [a = 0, b = 0] = release().split(".").map(Number);
  return a > major || (a === major && b >= minor);
}
