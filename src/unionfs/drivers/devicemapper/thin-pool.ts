import { lstat, mkdir, open, readdir, realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import { O } from "#linux/flags.ts";
import type { Helper } from "#linux/helper.ts";
import { loopBacking, withLoopDevices } from "#linux/loop-device.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { readFile } from "node:fs/promises";
import type { DeviceMapper } from "./device-mapper.ts";
import type { DmDevice } from "./dm-ioctl.ts";
import type { DeviceMapperOptions } from "./options.ts";

const SECTOR = 512;
/** _IOR(0x12, 114, size_t): bytes of a block device. */
const BLKGETSIZE64 = 0x80081272;
/** Of free blocks: below this, the kernel says so in its log. */
const lowWaterBlocks = 32_768;

/** Where a pool lies. */
export interface PoolPlace {
  /** Its name as a device. */
  readonly name: string;
  /** As `info` tells. */
  readonly data: string;
  readonly metadata: string;
  /** The files behind loop devices. */
  readonly loop: { readonly data: string; readonly metadata: string } | undefined;
  /** Somebody else's pool, which may hold devices of others. */
  readonly shared: boolean;
}

export interface PoolUsage {
  readonly blockBytes: number;
  readonly dataUsed: number;
  readonly dataTotal: number;
  readonly metadataUsed: number;
  readonly metadataTotal: number;
}

/** The pool of this data root: found as it is in the kernel, or made. @param directory for the files that it lies in */
export async function openPool(mapper: DeviceMapper, helper: Helper, prefix: string, directory: string, options: DeviceMapperOptions): Promise<PoolPlace> {
  if (options.thinPool !== undefined) return foreignPool(options.thinPool);
  const name = `${prefix}pool`;
  if (options.dataDevice !== undefined && options.metadataDevice !== undefined) {
    const [data, metadata] = [options.dataDevice, options.metadataDevice];
    if ((await mapper.find(name)) === undefined) await createOnDevices(mapper, helper, name, data, metadata, options);
    return { name, data, metadata, loop: undefined, shared: false };
  }
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const loop = { data: join(directory, "data"), metadata: join(directory, "metadata") };
  const [dataBytes] = [await sparseFile(loop.data, options.loopDataBytes), await sparseFile(loop.metadata, options.loopMetadataBytes)];
  let device = await mapper.find(name);
  if (device !== undefined && !(await liesIn(device, loop.data))) {
    // Of a data root that had this inode number before, and went without its daemon.
    for (const thin of await mapper.names(prefix)) if (thin !== name) await mapper.remove(thin);
    await mapper.remove(name);
    device = undefined;
  }
  if (device === undefined) device = await createOnLoops(mapper, name, loop, dataBytes, options);
  const [data = "", metadata = ""] = await slavesOf(device);
  return { name, data, metadata, loop, shared: false };
}

async function createOnLoops(
  mapper: DeviceMapper,
  name: string,
  { data, metadata }: { readonly data: string; readonly metadata: string },
  dataBytes: number,
  { blockBytes }: DeviceMapperOptions,
): Promise<DmDevice> {
  return withLoopDevices([{ path: data }, { path: metadata }], 1, (attach, [dataDevice, metadataDevice]) =>
    mapper.create(name, poolTarget(dataBytes, metadataDevice!.number, dataDevice!.number, blockBytes), attach),
  );
}

async function createOnDevices(
  mapper: DeviceMapper,
  helper: Helper,
  name: string,
  data: string,
  metadata: string,
  { blockBytes }: DeviceMapperOptions,
): Promise<void> {
  const open: Step = { op: "openat", dir: NO_SLOT, path: data, flags: O.RDONLY, mode: 0, out: 0, where: "host", why: "the device for data" };
  const size: Step = {
    op: "ioctl",
    fd: 0,
    request: BLKGETSIZE64,
    arg: Buffer.alloc(8),
    tag: 1,
    where: "host",
    why: "how large it is",
    see: "ioctl(2), linux/fs.h",
  };
  const bytes = Number(Buffer.from((await helper.call({ steps: [open, size] })).get(1) ?? Buffer.alloc(8)).readBigUInt64LE(0));
  const [dataNumber, metadataNumber] = await Promise.all([data, metadata].map(blockNumber));
  await mapper.create(name, poolTarget(bytes, metadataNumber!, dataNumber!, blockBytes));
}

/** A full pool answers with an error at once: what waits for space would hold containers up for a minute. */
function poolTarget(
  dataBytes: number,
  metadata: string,
  data: string,
  blockBytes: number,
): { readonly sectors: number; readonly type: string; readonly params: string } {
  const params = `${metadata} ${data} ${blockBytes / SECTOR} ${lowWaterBlocks} 2 skip_block_zeroing error_if_no_space`;
  return { sectors: Math.floor(dataBytes / SECTOR), type: "thin-pool", params };
}

/** "major:minor" of a block device's node. */
async function blockNumber(path: string): Promise<string> {
  const found = await stat(path).catch((error: unknown) => {
    throw new EngineError("invalid", `devicemapper: ${path}: ${errnoOf(error) ?? String(error)}`, { cause: error });
  });
  if (!found.isBlockDevice()) throw new EngineError("invalid", `devicemapper: ${path} is no block device`);
  return `${(found.rdev >>> 8) & 0xfff}:${(found.rdev & 0xff) | ((found.rdev >>> 12) & 0xfff00)}`;
}

/** `dm.thinpooldev`: a path, or the name below /dev/mapper. */
async function foreignPool(given: string): Promise<PoolPlace> {
  const path = given.startsWith("/") ? given : join("/dev/mapper", given);
  const number = await blockNumber(path);
  const block = basename(await realpath(`/sys/dev/block/${number}`));
  const name = (await readFile(`/sys/block/${block}/dm/name`, "utf8").catch(() => "")).trim();
  if (name === "") throw new EngineError("invalid", `devicemapper: ${given} is no device of the device mapper`, { hint: "dm.thinpooldev names a thin pool" });
  return { name, data: "", metadata: "", loop: undefined, shared: true };
}

/** A file of at least this many bytes, none of them written. Its size. */
async function sparseFile(path: string, bytes: number): Promise<number> {
  await using file = await open(path, "a", 0o600);
  const { size } = await file.stat();
  if (size >= bytes) return size;
  await file.truncate(bytes);
  return bytes;
}

/** True when one of the loop devices below is on this file. */
async function liesIn(device: DmDevice, file: string): Promise<boolean> {
  for (const slave of await slavesOf(device)) {
    const number = /^\/dev\/loop(\d+)$/.exec(slave)?.[1];
    if (number !== undefined && (await loopBacking(Number(number))) === (await realpath(file))) return true;
  }
  return false;
}

/** The devices that a pool lies on: the larger one is for data. */
async function slavesOf({ minor }: DmDevice): Promise<readonly string[]> {
  const names = await readdir(`/sys/block/dm-${minor}/slaves`);
  const sized = await Promise.all(names.map(async (name) => ({ name, sectors: Number(await readFile(`/sys/class/block/${name}/size`, "utf8")) })));
  return sized.sort((a, b) => b.sectors - a.sectors).map(({ name }) => `/dev/${name}`);
}

/** "transaction used/total used/total …", in metadata blocks of 4 KiB and data blocks. @see device-mapper/thin-provisioning.rst */
export function readPoolStatus(line: string, blockBytes: number): PoolUsage & { readonly failed: string | undefined } {
  const [, metadataUsed, metadataTotal, dataUsed, dataTotal, rest = ""] = /^\d+ (\d+)\/(\d+) (\d+)\/(\d+) (.*)$/.exec(line) ?? [];
  const failed = dataTotal === undefined ? line : /(?:^| )(ro|needs_check)(?: |$)/.exec(rest)?.[1];
  return {
    blockBytes,
    dataUsed: Number(dataUsed ?? 0) * blockBytes,
    dataTotal: Number(dataTotal ?? 0) * blockBytes,
    metadataUsed: Number(metadataUsed ?? 0) * 4096,
    metadataTotal: Number(metadataTotal ?? 0) * 4096,
    failed,
  };
}

/** What names this data root's devices: Docker's way of doing it. */
export async function devicePrefix(root: string): Promise<string> {
  const { dev, ino } = await lstat(root, { bigint: true });
  const [major, minor] = [(dev >> 8n) & 0xfffn, (dev & 0xffn) | ((dev >> 12n) & 0xfff00n)];
  return `wherry-${major}:${minor}-${ino}-`;
}
