/**
 * A filesystem in a file, mounted for one test.
 * @module
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface LoopFilesystem {
  readonly directory: string;
  remove(): void;
}

const kinds: Readonly<
  Record<"xfs" | "btrfs" | "ext4" | "small", { readonly bytes: number; readonly mkfs: readonly [string, ...string[]]; readonly options: string }>
> = {
  xfs: { bytes: 2 * 1024 ** 3, mkfs: ["mkfs.xfs", "-q"], options: "prjquota" },
  btrfs: { bytes: 2 * 1024 ** 3, mkfs: ["mkfs.btrfs", "-q"], options: "" },
  /** Soon full. */
  small: { bytes: 256 * 1024 ** 2, mkfs: ["mkfs.ext4", "-q", "-m", "0"], options: "" },
  ext4: { bytes: 256 * 1024 ** 2, mkfs: ["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota"], options: "prjquota" },
};

/** Makes a (sparse) file below `base` with a filesystem and mounts it; project quotas are on where it has them. undefined = this kernel cannot. */
export function loopFilesystem(kind: keyof typeof kinds, base: string): LoopFilesystem | undefined {
  const place = mkdtempSync(join(base, `loop-${kind}-`));
  const image = join(place, "image");
  const directory = join(place, "mnt");
  mkdirSync(directory);
  const { bytes, mkfs, options } = kinds[kind];
  writeFileSync(image, "");
  truncateSync(image, bytes);
  execFileSync(mkfs[0], [...mkfs.slice(1), image]);
  // A kernel that keeps no quota refuses the option (xfs), or the filesystem (ext4).
  if ((options === "" || !mounts(`loop,${options}`, image, directory)) && !mounts("loop", image, directory)) {
    rmSync(place, { recursive: true });
    return undefined;
  }
  return {
    directory,
    remove: () => {
      execFileSync("umount", [directory]);
      rmSync(place, { recursive: true });
    },
  };
}

function mounts(options: string, image: string, directory: string): boolean {
  return spawnSync("mount", ["-o", options, image, directory], { stdio: "ignore" }).status === 0;
}
