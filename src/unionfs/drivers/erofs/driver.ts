import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Helper, PlanError } from "#linux/helper.ts";
import { layerImageSteps } from "#linux/layer-image.ts";
import { backingFilesystem } from "../../backing-filesystem.ts";
import { ErofsReceiver, erofsLayer, imageFile } from "../../erofs/receiver.ts";
import type { DriverProbe, StorageDriver } from "../../mod.ts";
import { readStorageOptions, type StorageOptions } from "../../storage-options.ts";
import { openOverlayDriver } from "../../overlay-driver.ts";
import { overlayOptions, overlaySteps, probeOverlay } from "../../overlay-probe.ts";

/**
 * Snapshots are overlay's; a layer is no directory but its archive and an EROFS image that points into it, which the overlay is laid on: no file of a layer is ever made on the
 * host's filesystem. @see docs/adr/0014-erofs-layers.md
 */
export async function openErofs(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  readStorageOptions("erofs", given, {});
  return openOverlayDriver(dataRoot, helper, {
    name: "erofs",
    capabilities: { nativeDiff: true, quota: false, idmap: true },
    flat: false,
    images: true,
    mount: { options: overlayOptions },
    limit: { reason: "a layer's upper directory has no bound of its own" },
    status: async (root) => [
      ["Backing Filesystem", await backingFilesystem(root)],
      ["Supports d_type", "true"],
      ["Using metacopy", "false"],
      ["Native Overlay Diff", "true"],
      ["userxattr", "false"],
    ],
  });
}

/** Tries a layer of one file: its image and archive below `root`, mounted from their files, with an overlay on it. */
export async function probeErofs(root: string, helper: Helper): Promise<DriverProbe> {
  const overlay = await probeOverlay(root, helper);
  if (!overlay.supported) return overlay;
  // A layer's image is named in one fsconfig(2) value.
  const longest = join(root, "erofs", "f".repeat(64), imageFile);
  if (Buffer.byteLength(longest) > 255)
    return { supported: false, reason: `the path of the data root is too long for its layers to be mounted (${longest.length} bytes with a layer's, of 255)` };
  const directory = await mkdtemp(join(root, "tmp-probe-"));
  const layer = new ErofsReceiver(directory);
  try {
    for (const name of ["lower", "upper", "work"]) await mkdir(join(directory, name));
    for await (const _chunk of layer.keep(oneBlock())) {
      // Only kept.
    }
    layer.tree.placeFile(Buffer.from("file"), { size: 512, offset: 0, sparse: undefined }, { mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n });
    await layer.finish();
    const step = { where: "host" } as const;
    const why = "to learn whether a layer's image works here";
    const [open, ...rest] = overlaySteps(directory).filter((each) => !("key" in each && each.key === "lowerdir"));
    await helper.call({
      steps: [open!, ...layerImageSteps(erofsLayer(directory, false), 2, 3, why), { op: "fsconfig_fd", fs: 0, key: "lowerdir+", fd: 3, ...step, why }, ...rest],
    });
    return { supported: true };
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    const failed = error.plan.steps[error.step];
    const what =
      failed?.op === "fsopen" && failed.fstype === "erofs"
        ? "this kernel has no EROFS filesystem"
        : failed?.op === "fsmount" && failed.fs === 2
          ? "this kernel does not mount an EROFS image from a file (Linux 6.12 does)"
          : "this kernel's overlay does not take a mount that is attached nowhere as a layer (Linux 6.15 does)";
    return { supported: false, reason: `${what} (${error.errno})` };
  } finally {
    await layer.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function* oneBlock(): AsyncIterable<Uint8Array> {
  yield Buffer.alloc(512);
}
