/**
 * Loop devices: a file as a block device. They let go of the file by themselves (LO_FLAGS_AUTOCLEAR) when nobody has them open any more, so none is left behind by a crash.
 * @module
 * @see loop(4)
 */
import { readFile } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";
import { O } from "./flags.ts";
import { PlanError } from "./helper.ts";
import { NO_SLOT, SLOT_BASE, type Step } from "./plan.ts";

/** Linux 5.8. */
const LOOP_CONFIGURE = 0x4c0a;
const LO_FLAGS = { READ_ONLY: 1, AUTOCLEAR: 4 };
const LOOP_MAJOR = 7;
const S_IFBLK = 0o60000;
const attempts = 64;

export interface LoopFile {
  readonly path: string;
  readonly readonly?: boolean;
}

/** Where a file has become a device. */
export interface LoopDevice {
  readonly path: string;
  /** "major:minor", as device-mapper's tables name it. */
  readonly number: string;
}

/**
 * Makes devices of the files and performs the steps that `use` makes of them, which must open the devices for good: whatever nobody has open afterwards is gone.
 * Slots from `firstSlot` on, two for a file, are taken.
 */
export async function withLoopDevices<T>(
  files: readonly LoopFile[],
  firstSlot: number,
  perform: (attach: readonly Step[], devices: readonly LoopDevice[]) => Promise<T>,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    const devices = (await freeLoops(files.length, attempt)).map((number): LoopDevice => ({ path: `/dev/loop${number}`, number: `${LOOP_MAJOR}:${number}` }));
    const attach = files.flatMap((file, index) => attachSteps(file, devices[index]!, firstSlot + 2 * index));
    try {
      return await perform(attach, devices);
    } catch (error) {
      // Somebody else was faster.
      if (error instanceof PlanError && error.errno === "EBUSY" && attempt < attempts) {
        const failed = error.plan.steps[error.step];
        if (failed?.op === "ioctl" && failed.request === LOOP_CONFIGURE) continue;
      }
      throw error;
    }
  }
}

/** struct loop_config: the file's descriptor, the block size (0 = the file's filesystem decides), then loop_info64 with its flags. */
function attachSteps({ path, readonly = false }: LoopFile, device: LoopDevice, slot: number): Step[] {
  const config = Buffer.alloc(304);
  config.writeUInt32LE(SLOT_BASE + slot, 0);
  config.writeUInt32LE(LO_FLAGS.AUTOCLEAR | (readonly ? LO_FLAGS.READ_ONLY : 0), 8 + 52);
  const flags = readonly ? O.RDONLY : O.RDWR;
  const host = { where: "host", dir: NO_SLOT } as const;
  const minor = Number(device.number.split(":")[1]);
  return [
    { op: "openat", path, flags, mode: 0, out: slot, ...host, why: "the file" },
    // The kernel makes the device when its node is opened for the first time.
    {
      op: "mknod",
      path: device.path,
      mode: S_IFBLK | 0o660,
      major: LOOP_MAJOR,
      minor,
      uid: 0,
      gid: 0,
      ...host,
      why: "there may be fewer so far",
      ignore: ["EEXIST"],
    },
    { op: "openat", path: device.path, flags, mode: 0, out: slot + 1, ...host, why: "a free loop device" },
    {
      op: "ioctl",
      fd: slot + 1,
      request: LOOP_CONFIGURE,
      arg: config,
      tag: 0,
      where: "host",
      why: "the file as a block device, until nobody has it open",
      see: "loop(4)",
    },
  ];
}

/**
 * Steps that make read-only devices of files, for the mount that comes next: their paths (of descriptors in the slots from `first` on), and how they are let go when that has been
 * made and holds them. Which devices they are is seen to when the steps are performed.
 */
export function loopSteps(
  files: readonly string[],
  first: number,
): { readonly steps: readonly Step[]; readonly paths: readonly string[]; readonly release: readonly Step[] } {
  const host = { where: "host" } as const;
  return {
    steps: files.map((path, i) => ({ op: "loop", path, out: first + i, ...host, why: "the file as a block device, until nobody has it open", see: "loop(4)" })),
    paths: files.map((_, i) => `/proc/self/fd/${SLOT_BASE + first + i}`),
    release: files.map((_, i) => ({ op: "close", slot: first + i, ...host, why: "the mount holds the device" })),
  };
}

/** Numbers of devices that have no file; not all who ask at the same time get the same ones. */
async function freeLoops(count: number, attempt: number): Promise<readonly number[]> {
  const free: number[] = [];
  const skip = attempt === 0 ? 0 : Math.floor(Math.random() * 8);
  for (let number = 0; free.length < count + skip; number++) if ((await loopBacking(number)) === undefined) free.push(number);
  return free.slice(skip);
}

/** The file behind a loop device, as the kernel names it (" (deleted)" behind one that is); undefined = none. */
export async function loopBacking(number: number): Promise<string | undefined> {
  try {
    return (await readFile(`/sys/block/loop${number}/loop/backing_file`, "utf8")).replace(/\n$/, "");
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ENXIO"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}
