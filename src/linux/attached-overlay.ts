/**
 * An overlay on images for kernels whose overlay takes layers by their paths only (before Linux 6.15): each image is mounted where a path leads to it, in a mount namespace that is left again
 * at once. The overlay is taken out of it, attached nowhere, and holds the layers; the host never sees any of it.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { CLONE, MS, OPEN_TREE_CLONE } from "./flags.ts";
import { type LayerImage, layerImageSteps, loopSlots } from "./layer-image.ts";
import { NO_SLOT, type Step } from "./plan.ts";

export interface ImageOverlay {
  /** Top-most first. Absolute directories, or the image's file where `images` has one. */
  readonly lower: readonly string[];
  readonly images: readonly (LayerImage | undefined)[];
  readonly upper?: string | undefined;
  readonly work?: string | undefined;
  readonly options: readonly string[];
  /** An empty directory below which they are mounted. Absolute. */
  readonly attachAt: string;
}

/** mount(2) takes one page of options. */
const MOUNT_DATA_MAX = 4095;

/** How many slots {@link attachedOverlaySteps} takes from `free` on. */
export function attachedOverlaySlots({ images }: Pick<ImageOverlay, "images">): number {
  return 3 + Math.max(0, ...images.map((image) => (image === undefined ? 0 : loopSlots(image))));
}

/**
 * Mounts the overlay into the slot `out`; read-only without an upper directory. The slots from `free` on are free afterwards.
 * @throws EngineError "unsupported" where the layers' names do not fit
 */
export function attachedOverlaySteps(overlay: ImageOverlay, out: number, free: number): Step[] {
  const host = { where: "host" } as const;
  const { attachAt: at, images, upper, work } = overlay;
  const [before, fs, layer, loops] = [free, free + 1, free + 2, free + 3];
  const root = `${at}/root`;
  const data = [
    `lowerdir=${overlay.lower.map((directory, i) => (images[i] === undefined ? escapePath(directory) : String(i))).join(":")}`,
    ...(upper === undefined || work === undefined ? [] : [`upperdir=${escapePath(upper)}`, `workdir=${escapePath(work)}`]),
    ...overlay.options.map(quotedOption),
  ].join(",");
  if (Buffer.byteLength(data) > MOUNT_DATA_MAX)
    throw new EngineError("unsupported", `${overlay.lower.length} layers are more than this kernel can mount (Linux 6.15 has no such limit)`);
  const mkdir = (path: string): Step => ({ op: "mkdir", dir: NO_SLOT, path, mode: 0o700, uid: 0, gid: 0, parents: 0, ...host, why: "something to mount on" });
  return [
    { op: "openat", dir: NO_SLOT, path: "/proc/self/ns/mnt", flags: 0n, mode: 0, out: before, ...host, why: "the mount namespace to come back to" },
    { op: "unshare", flags: CLONE.NEWNS, ...host, why: "this kernel's overlay takes layers by their paths: those are for this mount only" },
    { op: "mount", source: "none", dir: NO_SLOT, path: "/", fstype: "", flags: MS.SLAVE | MS.REC, data: "", ...host, why: "what is mounted here stays here" },
    { op: "mount", source: "tmpfs", dir: NO_SLOT, path: at, fstype: "tmpfs", flags: 0n, data: "mode=0700,size=4m", ...host, why: "a place for the layers" },
    mkdir(root),
    ...images.flatMap((image, i): Step[] => {
      if (image === undefined) return [];
      return [
        mkdir(`${at}/${i}`),
        ...layerImageSteps(image, { fs, out: layer, loops }, "a layer"),
        { op: "move_mount", mnt: layer, dir: NO_SLOT, path: `${at}/${i}`, ...host, why: "a path leads to it" },
        { op: "close", slot: layer, ...host, why: "it is mounted" },
      ];
    }),
    { op: "chdir", path: at, ...host, why: "the layers have short names here: mount(2) takes at most one page of options" },
    {
      op: "mount",
      source: "overlay",
      dir: NO_SLOT,
      path: root,
      fstype: "overlay",
      flags: upper === undefined ? MS.RDONLY : 0n,
      data,
      ...host,
      why: "the layers seen as one tree",
      see: "https://docs.kernel.org/filesystems/overlayfs.html",
    },
    { op: "open_tree", dir: NO_SLOT, path: root, flags: OPEN_TREE_CLONE, out, ...host, why: "taken out of here, attached nowhere" },
    { op: "setns", fd: before, flags: CLONE.NEWNS, ...host, why: "back; the overlay holds what it needs" },
    { op: "close", slot: before, ...host, why: "it has served" },
  ];
}

/** As one of mount(2)'s options: a value with commas (a security label) stands in quotes. */
export function quotedOption(option: string): string {
  return option.includes(",") ? option.replace(/=(.*)$/s, '="$1"') : option;
}

/** ":" separates layers and "," options; "\" escapes. */
function escapePath(path: string): string {
  return path.replace(/[\\:,]/g, (c) => `\\${c}`);
}
