import { EngineError } from "#core/errors.ts";
import { filesystemSteps } from "#linux/filesystem-steps.ts";
import { findProgram } from "#linux/find-program.ts";
import { O } from "#linux/flags.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { runProgram } from "#linux/run-program.ts";
import { readFile } from "node:fs/promises";

export type BaseFilesystem = "xfs" | "ext4";

/** _IOW('f', 16, __u64): the new number of blocks. */
const EXT4_IOC_RESIZE_FS = 0x40086610;
/** _IOW('X', 110, struct xfs_growfs_data): blocks, and the percentage that inodes may take. */
const XFS_IOC_FSGROWFSDATA = 0x4010586e;
/** Both make blocks of this size on devices of these sizes. */
const blockBytes = 4096;

/** Snapshots have the UUID of what they are snapshots of, which xfs minds. */
export function mountOptions(filesystem: BaseFilesystem, readonly: boolean, further: readonly string[]): readonly string[] {
  return [...(filesystem === "xfs" ? ["nouuid"] : ["noinit_itable"]), ...further, ...(readonly ? ["ro"] : [])];
}

/** The first of Docker's two that this host can make and mount. */
export async function chooseFilesystem(wanted: BaseFilesystem | undefined): Promise<BaseFilesystem | { readonly reason: string }> {
  const known = await readFile("/proc/filesystems", "utf8");
  const reasons: string[] = [];
  for (const filesystem of wanted === undefined ? (["xfs", "ext4"] as const) : [wanted]) {
    if ((await findProgram(`mkfs.${filesystem}`)) === undefined) reasons.push(`the program mkfs.${filesystem} is not installed`);
    // A module may still come: xfs is one mostly.
    else if (wanted === undefined && !new RegExp(`\\t${filesystem}$`, "m").test(known)) reasons.push(`the kernel does not know ${filesystem} yet`);
    else return filesystem;
  }
  if (wanted === undefined && (await findProgram("mkfs.ext4")) !== undefined) return "ext4";
  return { reason: reasons.join(", ") };
}

/** Makes an empty filesystem on a device. */
export async function makeFilesystem(helper: Helper, device: string, filesystem: BaseFilesystem, further: readonly string[]): Promise<void> {
  const program = await findProgram(`mkfs.${filesystem}`);
  if (program === undefined) throw new EngineError("unsupported", `the program mkfs.${filesystem} is not installed`);
  // All of a new thin device reads as zeros: nothing has to be discarded or cleared.
  const quiet = filesystem === "xfs" ? ["-q", "-f", "-K"] : ["-q", "-F", "-E", "nodiscard,lazy_itable_init=1"];
  await runProgram(helper, [program, ...quiet, ...further, device], `making an ${filesystem} filesystem on ${device}`);
  await mounted(helper, device, filesystem, [
    { op: "rmdir", dir: 1, path: "lost+found", where: "host", why: "a container's root has no such directory", ignore: ["ENOENT"] },
  ]);
}

/** Makes a filesystem as large as its device has become. */
export async function growFilesystem(helper: Helper, device: string, filesystem: BaseFilesystem, sizeBytes: number): Promise<void> {
  const blocks = BigInt(Math.floor(sizeBytes / blockBytes));
  const arg = Buffer.alloc(filesystem === "xfs" ? 16 : 8);
  arg.writeBigUInt64LE(blocks, 0);
  if (filesystem === "xfs") arg.writeUInt32LE(25, 8);
  const request = filesystem === "xfs" ? XFS_IOC_FSGROWFSDATA : EXT4_IOC_RESIZE_FS;
  await mounted(helper, device, filesystem, [
    { op: "openat", dir: 1, path: ".", flags: O.DIRECTORY, mode: 0, out: 2, where: "host", why: "its root directory" },
    { op: "ioctl", fd: 2, request, arg, tag: 0, where: "host", why: "as large as its device", see: "xfs_growfs(8), resize2fs(8)" },
  ]);
}

/** With the filesystem mounted in slot 1. */
async function mounted(helper: Helper, device: string, filesystem: BaseFilesystem, steps: readonly Step[]): Promise<void> {
  const mount = filesystemSteps(
    { fstype: filesystem, source: device, options: mountOptions(filesystem, false, []), readonly: false },
    { fs: 0, out: 1, loops: NO_SLOT },
    "the new filesystem",
  );
  try {
    await helper.call({ steps: [...mount, ...steps] });
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    throw new EngineError("kernel", `setting up ${filesystem} on ${device}: ${error.message}`, { cause: error, details: { errno: error.errno } });
  }
}
