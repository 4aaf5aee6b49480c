/**
 * A filesystem of its own (on a block device, a dataset, in a file), mounted attached nowhere.
 * @module
 */
import { MOUNT_ATTR } from "./flags.ts";
import { loopSteps } from "./loop-device.ts";
import type { Step } from "./plan.ts";

export interface FilesystemMount {
  readonly fstype: string;
  readonly source: string;
  /** "key=value", or a flag: "ro" makes the filesystem itself read-only, not only this mount of it. */
  readonly options: readonly string[];
  readonly readonly: boolean;
  /** The source, and what options name as `device=`, are files, and this kernel wants block devices. */
  readonly loop?: true;
}

/** How many slots {@link filesystemSteps} takes from `loops` on. */
export function filesystemLoops({ loop, options }: Pick<FilesystemMount, "loop" | "options">): number {
  return loop === true ? 1 + options.filter(isDevice).length : 0;
}

const isDevice = (option: string): boolean => option.startsWith("device=");

/** Mounts it into the slot `out`; `fs` and the slots from `loops` on (taken when it says `loop`) are free afterwards. */
export function filesystemSteps(mount: FilesystemMount, slots: { readonly fs: number; readonly out: number; readonly loops: number }, why: string): Step[] {
  const host = { where: "host" } as const;
  const { fs, out, loops } = slots;
  const { fstype, source, options, readonly } = mount;
  const files = [source, ...options.filter(isDevice).map((option) => option.slice("device=".length))];
  const attach = mount.loop === true ? loopSteps(files, loops) : { steps: [], paths: files, release: [] };
  const devices = attach.paths.slice(1).values();
  return [
    ...attach.steps,
    { op: "fsopen", fstype, out: fs, ...host, why },
    { op: "fsconfig_str", fs, key: "source", value: attach.paths[0] ?? source, ...host, why: "where it is stored" },
    ...options.map((option): Step => {
      const [key = "", value] = isDevice(option) ? ["device", devices.next().value ?? ""] : option.split(/=(.*)/s);
      const asked = "as the storage driver asks";
      return value === undefined ? { op: "fsconfig_flag", fs, key, ...host, why: asked } : { op: "fsconfig_str", fs, key, value, ...host, why: asked };
    }),
    ...(mount.loop === true ? [{ op: "fsconfig_flag", fs, key: "ro", ...host, why: "the device can only be read" } as const] : []),
    { op: "fsmount", fs, attrs: readonly ? MOUNT_ATTR.RDONLY : 0n, out, ...host, why: "mounted, but attached nowhere" },
    { op: "close", slot: fs, ...host, why: "the context has served" },
    ...attach.release,
  ];
}
