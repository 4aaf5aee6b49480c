/**
 * A filesystem of its own (on a block device, a dataset), mounted attached nowhere.
 * @module
 */
import { MOUNT_ATTR } from "./flags.ts";
import type { Step } from "./plan.ts";

export interface FilesystemMount {
  readonly fstype: string;
  readonly source: string;
  /** "key=value", or a flag: "ro" makes the filesystem itself read-only, not only this mount of it. */
  readonly options: readonly string[];
  readonly readonly: boolean;
}

/** Mounts it into the slot `out`; `fs` is free afterwards. */
export function filesystemSteps({ fstype, source, options, readonly }: FilesystemMount, fs: number, out: number, why: string): Step[] {
  const host = { where: "host" } as const;
  return [
    { op: "fsopen", fstype, out: fs, ...host, why },
    { op: "fsconfig_str", fs, key: "source", value: source, ...host, why: "where it is stored" },
    ...options.map((option): Step => {
      const [key = "", value] = option.split(/=(.*)/s);
      const asked = "as the storage driver asks";
      return value === undefined ? { op: "fsconfig_flag", fs, key, ...host, why: asked } : { op: "fsconfig_str", fs, key, value, ...host, why: asked };
    }),
    { op: "fsmount", fs, attrs: readonly ? MOUNT_ATTR.RDONLY : 0n, out, ...host, why: "mounted, but attached nowhere" },
    { op: "close", slot: fs, ...host, why: "the context has served" },
  ];
}
