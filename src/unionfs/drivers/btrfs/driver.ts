import { chmod, stat, statfs } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { EngineError } from "#core/errors.ts";
import { O } from "#linux/flags.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { NO_SLOT, type Plan, SLOT_BASE, type Step } from "#linux/plan.ts";
import { backingFilesystem } from "../../backing-filesystem.ts";
import type { DriverProbe, StorageDriver } from "../../mod.ts";
import { readStorageOptions, sizeOption, type StorageOptions } from "../../storage-options.ts";
import { openTreeDriver, treeDirectory } from "../../tree-driver.ts";

/** linux/btrfs.h: _IOW/_IOWR/_IOR(0x94, …) with the sizes of their arguments. */
const SNAP_CREATE_V2 = 0x50009417;
const SUBVOL_CREATE_V2 = 0x50009418;
const SNAP_DESTROY = 0x5000940f;
const QUOTA_CTL = 0xc0109428;
const QGROUP_LIMIT = 0x8030942b;
const QUOTA_RESCAN_WAIT = 0x942e;

const BTRFS_MAGIC = 0x9123683e;
/** A subvolume's root always has this inode number. */
const SUBVOLUME_INODE = 256;
const MAX_RFER = 1n;

/** Layers and snapshots are subvolumes: a snapshot of one is made in no time, whatever is in it. */
export async function probeBtrfs(root: string): Promise<DriverProbe> {
  const { type } = await statfs(root);
  if (type >>> 0 === BTRFS_MAGIC) return { supported: true };
  return { supported: false, reason: `${root} is on ${await backingFilesystem(root)}, not on btrfs` };
}

export async function openBtrfs(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  const minimum = sizeOption(readStorageOptions("btrfs", given, { "btrfs.min_space": true }), "btrfs.min_space") ?? 0;
  const calls = new BtrfsCalls(helper);
  return openTreeDriver(dataRoot, helper, {
    name: "btrfs",
    capabilities: { nativeDiff: false, quota: true, idmap: true },
    status: async () => [["Btrfs", ""]],
    create: (from, to) => (from === undefined ? calls.create(treeDirectory(to)) : calls.snapshot(treeDirectory(from), treeDirectory(to))),
    destroy: (directory) => calls.destroy(treeDirectory(directory)),
    limit: async (directory, sizeBytes) => {
      if (sizeBytes < minimum) throw new EngineError("invalid", `btrfs: storage size cannot be less than ${minimum} bytes (btrfs.min_space)`);
      await calls.limit(treeDirectory(directory), sizeBytes);
    },
  });
}

class BtrfsCalls {
  readonly #helper: Helper;
  #quota: Promise<void> | undefined;

  constructor(helper: Helper) {
    this.#helper = helper;
  }

  async create(path: string): Promise<void> {
    await this.#call(`making the subvolume ${path}`, [
      openDirectory(dirname(path), 0),
      ioctl(SUBVOL_CREATE_V2, volArgsV2(basename(path)), "an empty subvolume"),
    ]);
    await chmod(path, 0o755);
  }

  snapshot(from: string, to: string): Promise<void> {
    return this.#call(`making a snapshot of ${from}`, [
      openDirectory(dirname(to), 0),
      openDirectory(from, 1),
      ioctl(SNAP_CREATE_V2, volArgsV2(basename(to), SLOT_BASE + 1), "a snapshot shares everything until it is changed"),
    ]);
  }

  /** What the container has made subvolumes in is left to the removal file by file. */
  async destroy(path: string): Promise<void> {
    const found = await stat(path).catch(() => undefined);
    if (found?.ino !== SUBVOLUME_INODE) return;
    const args = Buffer.alloc(4096);
    args.write(basename(path), 8, "utf8");
    await this.#call(`deleting the subvolume ${path}`, [
      openDirectory(dirname(path), 0),
      { ...ioctl(SNAP_DESTROY, args, "the subvolume goes as a whole"), ignore: ["ENOTEMPTY"] },
    ]);
  }

  async limit(path: string, sizeBytes: number): Promise<void> {
    this.#quota ??= this.#enableQuota(path);
    await this.#quota;
    const args = Buffer.alloc(48);
    args.writeBigUInt64LE(MAX_RFER, 8);
    args.writeBigUInt64LE(BigInt(sizeBytes), 16);
    await this.#call(`limiting ${path}`, [openDirectory(path, 0), ioctl(QGROUP_LIMIT, args, "the quota group of this subvolume")]);
  }

  async #enableQuota(path: string): Promise<void> {
    const args = Buffer.alloc(16);
    args.writeBigUInt64LE(1n, 0);
    await this.#call("turning on btrfs' quota groups", [
      openDirectory(path, 0),
      ioctl(QUOTA_CTL, args, "quota groups count what each subvolume refers to"),
      ioctl(QUOTA_RESCAN_WAIT, Buffer.alloc(8), "until what is there has been counted"),
    ]);
  }

  async #call(what: string, steps: Plan["steps"]): Promise<void> {
    try {
      await this.#helper.call({ steps });
    } catch (error) {
      if (!(error instanceof PlanError)) throw error;
      const full = error.errno === "ENOSPC" || error.errno === "EDQUOT";
      throw new EngineError(full ? "storage" : "kernel", `${what}: ${full ? "no space left on device" : error.errno}`, {
        cause: error,
        details: { errno: error.errno },
      });
    }
  }
}

/** struct btrfs_ioctl_vol_args_v2: fd, transid, flags, 32 bytes of qgroups, then the name. */
function volArgsV2(name: string, descriptor = 0): Buffer {
  const args = Buffer.alloc(4096);
  args.writeBigInt64LE(BigInt(descriptor), 0);
  args.write(name, 56, "utf8");
  return args;
}

function openDirectory(path: string, out: number): Step {
  return { op: "openat", dir: NO_SLOT, path, flags: O.DIRECTORY, mode: 0, out, where: "host", why: "the directory" };
}

function ioctl(request: number, arg: Buffer, why: string): Step {
  return { op: "ioctl", fd: 0, request, arg, tag: 0, where: "host", why, see: "ioctl(2), linux/btrfs.h" };
}
