/**
 * A layer that is a filesystem image: mounted straight from its file (Linux 6.12) or by way of loop devices, attached nowhere, for an overlay to lie on.
 * @module
 */
import { MOUNT_ATTR } from "./flags.ts";
import { loopSteps } from "./loop-device.ts";
import type { Step } from "./plan.ts";

export interface LayerImage {
  readonly fstype: "erofs";
  /** The image. Absolute. */
  readonly source: string;
  /** Files that hold what the image points to, in the order of its device table. */
  readonly devices: readonly string[];
  /** This kernel mounts block devices only: each file is made one. */
  readonly loop?: true;
}

/** How many slots {@link layerImageSteps} takes from `loops` on. */
export function loopSlots({ loop, devices }: Pick<LayerImage, "loop" | "devices">): number {
  return loop === true ? 1 + devices.length : 0;
}

/** Mounts the image into the slot `out`; `fs` and the slots from `loops` on are free afterwards. */
export function layerImageSteps(
  { fstype, source, devices, loop }: LayerImage,
  slots: { readonly fs: number; readonly out: number; readonly loops: number },
  why: string,
): Step[] {
  const host = { where: "host" } as const;
  const { fs, out } = slots;
  const attach = loop === true ? loopSteps([source, ...devices], slots.loops) : { steps: [], paths: [source, ...devices], release: [] };
  const [image = source, ...contents] = attach.paths;
  return [
    ...attach.steps,
    { op: "fsopen", fstype, out: fs, ...host, why },
    { op: "fsconfig_str", fs, key: "source", value: image, ...host, why: "its names, owners and times" },
    ...contents.map((value) => ({ op: "fsconfig_str", fs, key: "device", value, ...host, why: "the contents of its files" }) as const),
    ...(loop === true ? [{ op: "fsconfig_flag", fs, key: "ro", ...host, why: "the device can only be read" } as const] : []),
    { op: "fsmount", fs, attrs: MOUNT_ATTR.RDONLY, out, ...host, why: "mounted, but attached nowhere" },
    { op: "close", slot: fs, ...host, why: "the context has served" },
    ...attach.release,
  ];
}
