import { mkdir, open, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isEngineError } from "#core/errors.ts";
import { MNT_DETACH } from "#linux/flags.ts";
import { filesystemSteps } from "#linux/filesystem-steps.ts";
import { findProgram } from "#linux/find-program.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { withLoopDevices } from "#linux/loop-device.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { runProgram } from "#linux/run-program.ts";

/** Filesystems that a storage driver asks for; any other driver is measured on ext4. */
const filesystemOf: Readonly<Record<string, "btrfs" | "zfs">> = { btrfs: "btrfs", zfs: "zfs" };
const mkfs: Readonly<Record<"ext4" | "btrfs", readonly string[]>> = { ext4: ["-q", "-F"], btrfs: ["-q", "-f"] };
/** Sparse: what is not written takes no room. */
const imageBytes = 8 * 1024 ** 3;

/** A new filesystem in a file, mounted for one measurement. */
export interface LoopPlace {
  readonly directory: string;
  remove(): Promise<void>;
}

/** Makes the filesystem that this driver is at home on, in a file in `scratch`; undefined = it cannot be made here. */
export async function makeLoopPlace(helper: Helper, driver: string, scratch: string): Promise<LoopPlace | undefined> {
  const image = join(scratch, `${driver}.img`);
  const directory = join(scratch, `on-${driver}`);
  const filesystem = filesystemOf[driver] ?? "ext4";
  await mkdir(directory, { mode: 0o700 });
  await using file = await open(image, "w", 0o600);
  await file.truncate(imageBytes);
  if (filesystem === "zfs") return makePool(helper, image, directory);
  const program = await findProgram(`mkfs.${filesystem}`);
  if (program === undefined) return undefined;
  await runProgram(helper, [program, ...mkfs[filesystem], image], `making a ${filesystem} filesystem`);
  try {
    await withLoopDevices([{ path: image }], 2, (attach, [device]) =>
      helper.call({
        steps: [
          ...attach,
          ...filesystemSteps(
            { fstype: filesystem, source: device!.path, options: [], readonly: false },
            { fs: 0, out: 1, loops: NO_SLOT },
            "a filesystem to measure on",
          ),
          { op: "move_mount", mnt: 1, dir: NO_SLOT, path: directory, where: "host", why: "where the driver keeps its layers" },
        ],
      }),
    );
  } catch (error) {
    // A kernel without it.
    if (error instanceof PlanError) return undefined;
    throw error;
  }
  return { directory, remove: () => unmount(helper, directory, image) };
}

async function unmount(helper: Helper, directory: string, image: string): Promise<void> {
  await helper.call({ steps: [{ op: "umount", dir: NO_SLOT, path: directory, flags: MNT_DETACH, where: "host", why: "it has been measured" }] });
  await rm(image);
}

/** By the kernel's ZFS or a zfs-fuse that runs. */
async function makePool(helper: Helper, image: string, directory: string): Promise<LoopPlace | undefined> {
  const zfs = await findProgram("zfs");
  if (zfs === undefined) return undefined;
  const zpool = join(dirname(zfs), "zpool");
  const pool = `wherry-compare-${process.pid}`;
  try {
    await runProgram(helper, [zpool, "create", "-m", directory, pool, image], "making a zfs pool");
  } catch (error) {
    if (isEngineError(error, "kernel")) return undefined;
    throw error;
  }
  return {
    directory,
    remove: async () => {
      await runProgram(helper, [zpool, "destroy", "-f", pool], "destroying the zfs pool");
      await rm(image);
    },
  };
}

/** What a crash has left mounted below a scratch directory is taken away. */
export async function unmountBelow(helper: Helper, scratch: string): Promise<void> {
  const mounts = (await readFile("/proc/self/mountinfo", "utf8")).split("\n").flatMap((line) => line.split(" ")[4] ?? []);
  for (const path of mounts.filter((point) => point.startsWith(`${scratch}/`)).reverse())
    await helper.call({ steps: [{ op: "umount", dir: NO_SLOT, path, flags: MNT_DETACH, where: "host", why: "a comparison that did not end" }] });
}
