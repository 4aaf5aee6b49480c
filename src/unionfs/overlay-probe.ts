import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Helper, PlanError } from "#linux/helper.ts";
import type { Step } from "#linux/plan.ts";
import { backingFilesystem } from "./backing-filesystem.ts";
import type { DriverProbe } from "./mod.ts";

/** Mounts of ours never follow these, so that an upper directory says by itself what changed. @see Documentation/filesystems/overlayfs.rst */
export const overlayOptions: readonly string[] = ["index=off", "redirect_dir=off", "metacopy=off"];

/**
 * Tries an overlay below `root` (an existing directory) and tells whether this kernel and this filesystem can. The mount is never attached anywhere.
 * overlay's own demands on the upper filesystem (trusted.* xattrs, d_type, RENAME_WHITEOUT; not itself an overlay) are the kernel's to judge.
 */
export async function probeOverlay(root: string, helper: Helper): Promise<DriverProbe> {
  const directory = await mkdtemp(join(root, "tmp-probe-"));
  try {
    for (const name of ["lower", "upper", "work"]) await mkdir(join(directory, name));
    await helper.call({ steps: overlaySteps(directory) });
    return { supported: true };
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    const filesystem = await backingFilesystem(root);
    const reason =
      error.plan.steps[error.step]?.op === "fsopen"
        ? `this kernel has no overlay filesystem (${error.errno})`
        : `overlay cannot be mounted with its upper directory on ${filesystem} at ${root} (${error.errno})`;
    return { supported: false, reason };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** A detached overlay in slot 1 of `lower`, `upper` and `work` in this directory. */
export function overlaySteps(directory: string): Step[] {
  const step = { where: "host", why: "to learn whether overlay works on this filesystem" } as const;
  const set = (key: string, value: string): Step => ({ op: "fsconfig_str", fs: 0, key, value, ...step });
  return [
    { op: "fsopen", fstype: "overlay", out: 0, ...step },
    set("source", "overlay"),
    set("lowerdir", join(directory, "lower")),
    set("upperdir", join(directory, "upper")),
    set("workdir", join(directory, "work")),
    ...overlayOptions.map((option) => set(...(option.split("=") as [string, string]))),
    { op: "fsmount", fs: 0, attrs: 0n, out: 1, ...step },
  ];
}
