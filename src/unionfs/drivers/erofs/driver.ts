import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "#core/errors.ts";
import { attachedOverlaySteps } from "#linux/attached-overlay.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { layerImageSteps } from "#linux/layer-image.ts";
import type { Step } from "#linux/plan.ts";
import { backingFilesystem } from "../../backing-filesystem.ts";
import { inArchive, onPages } from "../../erofs/metadata-tree.ts";
import { ErofsReceiver, erofsFiles, erofsLayer, imageFile } from "../../erofs/receiver.ts";
import type { DriverProbe, StorageDriver } from "../../mod.ts";
import { type ImageKind, openOverlayDriver } from "../../overlay-driver.ts";
import { overlayOptions, overlaySteps, probeOverlay } from "../../overlay-probe.ts";
import { readStorageOptions, type StorageOptions } from "../../storage-options.ts";

/**
 * Snapshots are overlay's; a layer is no directory but an EROFS image that points into its archive, which the overlay is laid on: no file of a layer is ever made on the
 * host's filesystem. @see docs/adr/0014-erofs-layers.md, docs/adr/0058-erofs-on-loop-devices.md
 */
export async function openErofs(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  readStorageOptions("erofs", given, {});
  const images = await findImageKind(dataRoot, helper);
  if ("reason" in images) throw new EngineError("unsupported", `storage driver erofs: ${images.reason}`);
  return openErofsAs(dataRoot, helper, images);
}

/** With layers of this kind, whether or not there is a better one here. */
export function openErofsAs(dataRoot: string, helper: Helper, images: ImageKind): Promise<StorageDriver> {
  return openOverlayDriver(dataRoot, helper, {
    name: "erofs",
    capabilities: { nativeDiff: true, quota: false, idmap: !images.attach },
    flat: false,
    images,
    mount: { options: overlayOptions },
    limit: { reason: "a layer's upper directory has no bound of its own" },
    status: async (root) => [
      ["Backing Filesystem", await backingFilesystem(root)],
      ["Supports d_type", "true"],
      ["Using metacopy", "false"],
      ["Native Overlay Diff", "true"],
      ["userxattr", "false"],
      ["Images Mounted From", images.loop ? "loop devices" : "files"],
    ],
  });
}

/** Whether, and if so how, a layer of one file can be mounted below `root` with an overlay on it. */
export async function probeErofs(root: string, helper: Helper): Promise<DriverProbe> {
  const overlay = await probeOverlay(root, helper);
  if (!overlay.supported) return overlay;
  const kind = await findImageKind(root, helper);
  return "reason" in kind ? { supported: false, reason: kind.reason } : { supported: true };
}

/** The best first; what each takes of the kernel. */
export const imageKinds: readonly ImageKind[] = [
  { form: inArchive, loop: false, attach: false }, // 6.15
  { form: inArchive, loop: false, attach: true }, // 6.12
  { form: inArchive, loop: true, attach: true }, // 6.4
  { form: onPages, loop: true, attach: true }, // 5.16
];

async function findImageKind(root: string, helper: Helper): Promise<ImageKind | { readonly reason: string }> {
  // A layer's image is named in one fsconfig(2) value.
  const longest = join(root, "erofs", "f".repeat(64), imageFile);
  if (Buffer.byteLength(longest) > 255)
    return { reason: `the path of the data root is too long for its layers to be mounted (${longest.length} bytes with a layer's, of 255)` };
  let errno = "";
  for (const kind of imageKinds) {
    const failed = await tryImage(root, helper, kind);
    if (failed === undefined) return kind;
    const step = failed.plan.steps[failed.step];
    if (step?.op === "fsopen" && step.fstype === "erofs") return { reason: `this kernel has no EROFS filesystem (${failed.errno})` };
    if (step?.op === "loop")
      return { reason: `this kernel does not mount an EROFS image from a file (Linux 6.12 does), and there are no loop devices (${failed.errno})` };
    errno = failed.errno;
  }
  return { reason: `this kernel does not mount an EROFS image whose contents lie on another device (Linux 5.16 does; ${errno})` };
}

/** Mounts a layer of one file in this way, with an overlay on it; the error of what the kernel refused. */
export async function tryImage(root: string, helper: Helper, { form, loop, attach }: ImageKind): Promise<PlanError | undefined> {
  const directory = await mkdtemp(join(root, "tmp-probe-"));
  const layer = new ErofsReceiver({ directory, form });
  try {
    for (const name of ["lower", "upper", "work", "mnt"]) await mkdir(join(directory, name));
    for await (const _chunk of layer.keep(oneBlock())) {
      // Only kept.
    }
    const path = "file";
    const meta = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n };
    if (!layer.tree.placeFile("", path, { size: 512, offset: 0, sparse: undefined }, meta)) {
      await layer.tree.openFile(path);
      await layer.tree.writeData(Buffer.alloc(512));
      await layer.tree.closeFile(meta);
    }
    await layer.finish();
    await helper.call({ steps: overlayOn(directory, loop, attach) });
    return undefined;
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    return error;
  } finally {
    await layer.close();
    await rm(directory, { recursive: true, force: true });
  }
}

function overlayOn(directory: string, loop: boolean, attach: boolean): Step[] {
  const image = erofsLayer(directory, erofsFiles(directory), loop);
  const step = { where: "host", why: "to learn whether a layer's image works here" } as const;
  if (attach) {
    const [upper, work, attachAt] = [join(directory, "upper"), join(directory, "work"), join(directory, "mnt")];
    return attachedOverlaySteps({ lower: [image.source], images: [image], upper, work, options: overlayOptions, attachAt }, 1, 2);
  }
  const [open, ...rest] = overlaySteps(directory).filter((each) => !("key" in each && each.key === "lowerdir"));
  return [open!, ...layerImageSteps(image, { fs: 2, out: 3, loops: 4 }, step.why), { op: "fsconfig_fd", fs: 0, key: "lowerdir+", fd: 3, ...step }, ...rest];
}

async function* oneBlock(): AsyncIterable<Uint8Array> {
  yield Buffer.alloc(512);
}
