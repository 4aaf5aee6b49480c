import { mkdir, readdir, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { Helper } from "#linux/helper.ts";
import { writeDurably } from "../../layer-directory.ts";
import type { DriverProbe, RootMount, StorageDriver } from "../../mod.ts";
import type { StorageOptions } from "../../storage-options.ts";
import { openTreeDriver } from "../../tree-driver.ts";
import { DeviceMapper } from "./device-mapper.ts";
import { type BaseFilesystem, chooseFilesystem, growFilesystem, makeFilesystem, mountOptions } from "./filesystem.ts";
import { type DeviceMapperOptions, readDeviceMapperOptions } from "./options.ts";
import { poolStatus } from "./status.ts";
import { type Thin, ThinDevices } from "./thin-devices.ts";
import { devicePrefix, openPool, type PoolPlace } from "./thin-pool.ts";

const name = "devicemapper";
/** Below the driver's directory: the pool's files, and what its devices are made from. */
const poolDirectory = "pool";
/** In the directory of a layer or snapshot: its {@link Thin}. Written before the device is made, so that none is nobody's. */
const deviceFile = "device.json";
const defaultBaseBytes = 10 * 1024 ** 3;

/** What every layer that lies on none is a snapshot of: an empty filesystem. */
interface Base extends Thin {
  readonly filesystem: BaseFilesystem;
}

export async function probeDeviceMapper(_root: string, helper: Helper): Promise<DriverProbe> {
  for (const target of ["thin-pool", "thin"]) {
    const found = await new DeviceMapper(helper).probe(target);
    if ("reason" in found) return { supported: false, reason: found.reason };
  }
  const filesystem = await chooseFilesystem(undefined);
  return typeof filesystem === "string" ? { supported: true } : { supported: false, reason: filesystem.reason };
}

/**
 * A layer or snapshot is a filesystem of its own on a thin device, a snapshot of the one below: nothing is copied until blocks of it are changed. @see docs/adr/0051-devicemapper.md
 */
export async function openDeviceMapper(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  const options = readDeviceMapperOptions(given);
  const root = join(dataRoot, name);
  await mkdir(root, { recursive: true, mode: 0o710 });
  const mapper = new DeviceMapper(helper);
  const prefix = await devicePrefix(root);
  const pool = await openPool(mapper, helper, prefix, join(root, poolDirectory), options);
  const blockBytes = Number((await mapper.table(pool.name)).split(" ")[2] ?? 0) * 512;
  const devices = new ThinDevices(mapper, helper, pool, {
    prefix,
    blockBytes,
    minFreePercent: options.minFreePercent,
    discard: options.discard ?? pool.loop !== undefined,
    deferredRemoval: options.deferredRemoval,
  });
  await devices.deactivateAll();
  for (const directory of [root, join(root, "trash")]) for (const thin of await thinsBelow(directory)) devices.claim(thin.id);
  const trees = new ThinTrees(helper, devices, options, await openBase(helper, devices, join(root, poolDirectory), options));
  const library = await mapper.probe("thin");
  return openTreeDriver(dataRoot, helper, {
    name,
    capabilities: { nativeDiff: false, quota: true, idmap: true },
    keep: new Set([poolDirectory]),
    status: async () => poolStatus({ pool, usage: await devices.usage(), options, base: trees.base, version: "version" in library ? library.version : "" }),
    create: (from, to) => trees.create(from, to),
    root: (directory, readonly) => trees.root(directory, readonly),
    seal: (directory) => trees.seal(directory),
    destroy: (directory) => trees.destroy(directory),
    limit: (directory, sizeBytes) => trees.limit(directory, sizeBytes),
    close: () => closePool(mapper, devices, pool),
  });
}

class ThinTrees {
  readonly base: Base;
  readonly #helper: Helper;
  readonly #devices: ThinDevices;
  readonly #options: DeviceMapperOptions;

  constructor(helper: Helper, devices: ThinDevices, options: DeviceMapperOptions, base: Base) {
    this.#helper = helper;
    this.#devices = devices;
    this.#options = options;
    this.base = base;
  }

  async create(from: string | undefined, to: string): Promise<void> {
    const origin = from === undefined ? this.base : await readThin(from);
    if (origin === undefined) throw new EngineError("storage", `${from}: the file ${deviceFile}, which says where the layer lies, is gone`);
    const thin: Thin = { id: this.#devices.newId(), sizeBytes: origin.sizeBytes };
    await writeDurably(join(to, deviceFile), JSON.stringify(thin));
    await this.#devices.snapshot(thin.id, origin);
  }

  async root(directory: string, readonly: boolean): Promise<RootMount> {
    const { filesystem } = this.base;
    const source = await this.#devices.activate(await this.#thin(directory));
    return { kind: "fs", fstype: filesystem, source, options: mountOptions(filesystem, readonly, this.#options.mountOptions), readonly };
  }

  async seal(directory: string): Promise<void> {
    await this.#devices.deactivate((await this.#thin(directory)).id);
  }

  async destroy(directory: string): Promise<void> {
    const thin = await readThin(directory);
    if (thin !== undefined) await this.#devices.delete(thin, () => unlink(join(directory, deviceFile)));
  }

  async limit(directory: string, sizeBytes: number): Promise<void> {
    const thin = await this.#thin(directory);
    if (sizeBytes < thin.sizeBytes)
      throw new EngineError("invalid", `Container size cannot be smaller than ${thin.sizeBytes} bytes, the size of what it is made from`, {
        hint: "dm.basesize says how large that is",
      });
    const larger: Thin = { id: thin.id, sizeBytes };
    await writeDurably(join(directory, deviceFile), JSON.stringify(larger));
    await growFilesystem(this.#helper, await this.#devices.activate(larger), this.base.filesystem, sizeBytes);
  }

  async #thin(directory: string): Promise<Thin> {
    const thin = await readThin(directory);
    if (thin === undefined) throw new EngineError("storage", `${directory}: the file ${deviceFile}, which says where its content lies, is gone`);
    return thin;
  }
}

/** Makes the base, or takes the one that is there and makes it larger when that is asked for. */
async function openBase(helper: Helper, devices: ThinDevices, directory: string, options: DeviceMapperOptions): Promise<Base> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const file = join(directory, "base.json");
  const asked = options.baseSizeBytes;
  let base = await readJson<Base>(file);
  if (base === undefined) {
    const filesystem = await chooseFilesystem(options.filesystem);
    if (typeof filesystem !== "string") throw new EngineError("unsupported", `storage driver ${name}: ${filesystem.reason}`);
    base = { id: devices.newId(), sizeBytes: asked ?? defaultBaseBytes, filesystem };
    await devices.create(base.id);
    await makeFilesystem(helper, await devices.activate(base), filesystem, options.mkfsArguments);
    await devices.deactivate(base.id);
    await writeDurably(file, JSON.stringify(base));
    return base;
  }
  devices.claim(base.id);
  if (options.filesystem !== undefined && options.filesystem !== base.filesystem)
    throw new EngineError("invalid", `devicemapper: dm.fs=${options.filesystem}, but the layers that are there are on ${base.filesystem}`);
  if (asked === undefined || asked === base.sizeBytes) return base;
  if (asked < base.sizeBytes)
    throw new EngineError(
      "invalid",
      `devicemapper: Base device size cannot be smaller than ${base.sizeBytes} bytes, what it is already (dm.basesize=${asked})`,
    );
  const larger: Base = { ...base, sizeBytes: asked };
  await growFilesystem(helper, await devices.activate(larger), base.filesystem, asked);
  await devices.deactivate(base.id);
  await writeDurably(file, JSON.stringify(larger));
  return larger;
}

async function closePool(mapper: DeviceMapper, devices: ThinDevices, pool: PoolPlace): Promise<void> {
  if ((await devices.deactivateAll()) && !pool.shared) await mapper.remove(pool.name);
}

async function thinsBelow(directory: string): Promise<readonly Thin[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  });
  const thins = await Promise.all(names.map((entry) => readThin(join(directory, entry))));
  return thins.filter((thin) => thin !== undefined);
}

function readThin(directory: string): Promise<Thin | undefined> {
  return readJson<Thin>(join(directory, deviceFile));
}

/** A file of ours, written whole. */
async function readJson<T>(path: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as T;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}
