import { lstat, readdir, readFile } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { EngineError } from "#core/errors.ts";
import { O } from "#linux/flags.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { parseMountinfo } from "#linux/mountinfo.ts";
import { backingFilesystem } from "./backing-filesystem.ts";
import type { DirectoryLimit } from "./overlay-driver.ts";

/** linux/fs.h: struct fsxattr is u32 xflags, extsize, nextents, projid, cowextsize and 8 bytes more. */
const FSGETXATTR = 0x801c581f;
const FSSETXATTR = 0x401c5820;
const XFLAG_PROJINHERIT = 0x200;
/** linux/quota.h: QCMD(cmd, PRJQUOTA). xfs and ext4 both know xfs' commands. */
const command = (cmd: number) => (cmd << 8) | 2;
const Q_XGETQUOTA = command(0x5803);
const Q_XSETQLIM = command(0x5804);
/** struct fs_disk_quota (linux/dqblk_xfs.h): where its fields lie. */
const DQ_SIZE = 112;
const FS_DQ_BSOFT = 4;
const FS_DQ_BHARD = 8;

/**
 * Quotas of projects, as Docker has them for overlay2: a snapshot's directories get a project id of their own, which everything made in them inherits, and the filesystem bounds what the project
 * holds. Takes xfs or ext4 mounted with `prjquota`.
 */
export async function openProjectQuota(root: string, helper: Helper): Promise<DirectoryLimit | { readonly reason: string }> {
  const filesystem = await backingFilesystem(root);
  if (filesystem !== "xfs" && filesystem !== "extfs") return { reason: `project quotas take xfs or ext4 below ${root}, which is on ${filesystem}` };
  const quota = new ProjectQuota(helper, root, await specialOf(root));
  const failed = await quota.probe();
  if (failed !== undefined)
    return {
      reason: `the filesystem of ${root} (${filesystem}) answers ${failed} when asked for project quotas: it has to be mounted with the option prjquota`,
    };
  await quota.load();
  return quota;
}

/** Before quotactl_fd (Linux 5.14), a filesystem's quota is asked for by its block device. */
async function specialOf(root: string): Promise<string> {
  const [major = 0, minor = 0] = release().split(".").map(Number);
  if (major > 5 || (major === 5 && minor >= 14)) return "";
  const { dev } = await lstat(root);
  const [devMajor, devMinor] = [(dev >>> 8) & 0xfff, (dev & 0xff) | ((dev >>> 12) & 0xfff00)];
  return parseMountinfo(await readFile("/proc/self/mountinfo", "utf8")).find((mount) => mount.major === devMajor && mount.minor === devMinor)?.source ?? "";
}

class ProjectQuota implements DirectoryLimit {
  readonly #helper: Helper;
  readonly #root: string;
  readonly #special: string;
  readonly #taken = new Set<number>();
  #changing: Promise<unknown> = Promise.resolve();

  constructor(helper: Helper, root: string, special: string) {
    this.#helper = helper;
    this.#root = root;
    this.#special = special;
  }

  /** The errno of a first question. Unknown ids (ENOENT) are a good answer: then somebody keeps books. */
  async probe(): Promise<string | undefined> {
    try {
      await this.#read(1);
      return undefined;
    } catch (error) {
      if (!(error instanceof PlanError)) throw error;
      return error.errno;
    }
  }

  /** Ids of snapshots that are there. */
  async load(): Promise<void> {
    for (const path of await directoriesIn(this.#root)) {
      const id = await this.#projectOf(path);
      if (id !== 0) this.#taken.add(id);
    }
  }

  set(directory: string, sizeBytes: number): Promise<void> {
    const work = this.#changing.then(() => this.#set(directory, sizeBytes));
    this.#changing = work.catch(() => undefined);
    return work;
  }

  async #set(directory: string, sizeBytes: number): Promise<void> {
    const id = await this.#freeId();
    this.#taken.add(id);
    try {
      const limits = Buffer.alloc(DQ_SIZE);
      limits.writeInt8(1, 0);
      limits.writeInt8(2, 1);
      limits.writeUInt16LE(FS_DQ_BSOFT | FS_DQ_BHARD, 2);
      limits.writeUInt32LE(id, 4);
      // In blocks of 512 bytes.
      const blocks = BigInt(Math.ceil(sizeBytes / 512));
      limits.writeBigUInt64LE(blocks, 8);
      limits.writeBigUInt64LE(blocks, 16);
      const steps = [open(this.#root), this.#quotactl(Q_XSETQLIM, id, limits, 0, "how much the project may hold")];
      // Not what is no directory: it is small, and a link leads to somebody else's layer.
      for (const path of [directory, ...(await directoriesIn(directory))]) steps.push(...project(path, id));
      await this.#helper.call({ steps });
    } catch (error) {
      this.#taken.delete(id);
      if (!(error instanceof PlanError)) throw error;
      throw new EngineError("kernel", `limiting ${directory} to ${sizeBytes} bytes: ${error.message}`, { cause: error, details: { errno: error.errno } });
    }
  }

  /** One that neither we nor anybody else on this filesystem uses. */
  async #freeId(): Promise<number> {
    for (let id = 1 + Math.max(0x10000, ...this.#taken); ; id++) {
      const found = await this.#read(id);
      if (found === undefined || (found.readBigUInt64LE(16) === 0n && found.readBigUInt64LE(40) === 0n && found.readBigUInt64LE(48) === 0n)) return id;
    }
  }

  /** struct fs_disk_quota of a project; undefined = none. */
  async #read(id: number): Promise<Buffer | undefined> {
    const reports = await this.#helper.call({
      steps: [open(this.#root), { ...this.#quotactl(Q_XGETQUOTA, id, Buffer.alloc(DQ_SIZE), 1, "what the project holds"), ignore: ["ENOENT"] }],
    });
    const data = reports.get(1);
    return data === undefined ? undefined : Buffer.from(data);
  }

  async #projectOf(directory: string): Promise<number> {
    const reports = await this.#helper.call({
      steps: [open(directory), { op: "ioctl", fd: 0, request: FSGETXATTR, arg: Buffer.alloc(28), tag: 1, where: "host", why: "the directory's project" }],
    });
    return Buffer.from(reports.get(1) ?? Buffer.alloc(28)).readUInt32LE(12);
  }

  #quotactl(cmd: number, id: number, arg: Buffer, tag: number, why: string): Step {
    return { op: "quotactl", fd: 0, special: this.#special, cmd, id, arg, tag, where: "host", why, see: "quotactl(2)" };
  }
}

async function directoriesIn(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(directory, name));
}

function open(path: string): Step {
  return { op: "openat", dir: NO_SLOT, path, flags: O.DIRECTORY, mode: 0, out: 0, where: "host", why: "the directory" };
}

function project(path: string, id: number): Step[] {
  const attributes = Buffer.alloc(28);
  attributes.writeUInt32LE(XFLAG_PROJINHERIT, 0);
  attributes.writeUInt32LE(id, 12);
  return [
    open(path),
    {
      op: "ioctl",
      fd: 0,
      request: FSSETXATTR,
      arg: attributes,
      tag: 0,
      where: "host",
      why: "what is made in it belongs to this project",
      see: "ioctl_xfs_fsgetxattr(2)",
    },
  ];
}
