/**
 * A layer that is a filesystem image: mounted straight from its file (Linux 6.12), attached nowhere, for an overlay to lie on.
 * @module
 */
import { MOUNT_ATTR } from "./flags.ts";
import type { Step } from "./plan.ts";

export interface LayerImage {
  readonly fstype: "erofs";
  /** The image. Absolute. */
  readonly source: string;
  /** Files that hold what the image points to, in the order of its device table. */
  readonly devices: readonly string[];
}

/** Mounts the image into the slot `out`; `fs` is free afterwards. */
export function layerImageSteps({ fstype, source, devices }: LayerImage, fs: number, out: number, why: string): Step[] {
  const host = { where: "host" } as const;
  return [
    { op: "fsopen", fstype, out: fs, ...host, why },
    { op: "fsconfig_str", fs, key: "source", value: source, ...host, why: "its names, owners and times" },
    ...devices.map((value) => ({ op: "fsconfig_str", fs, key: "device", value, ...host, why: "the contents of its files" }) as const),
    { op: "fsmount", fs, attrs: MOUNT_ATTR.RDONLY, out, ...host, why: "mounted, but attached nowhere" },
    { op: "close", slot: fs, ...host, why: "the context has served" },
  ];
}
