import { EngineError } from "#core/errors.ts";
import { O } from "#linux/flags.ts";
import type { Helper } from "#linux/helper.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { type DeviceMapper, nodeOf } from "./device-mapper.ts";
import type { DmDevice } from "./dm-ioctl.ts";
import { type PoolPlace, type PoolUsage, readPoolStatus } from "./thin-pool.ts";

const SECTOR = 512;
/** _IO(0x12, 119): bytes from … to … */
const BLKDISCARD = 0x1277;
/** Device ids in a pool have 24 bits. */
const maxId = 2 ** 24 - 1;
/** So many devices stay in the kernel that nobody has asked for lately: looking for idle ones takes a call each. */
const maxIdle = 64;
const idleMs = 60_000;

/** A thin device: its number in the pool, and how large it seems. */
export interface Thin {
  readonly id: number;
  readonly sizeBytes: number;
}

/** The thin devices of one pool. What changes the pool is done one at a time. */
export class ThinDevices {
  readonly #mapper: DeviceMapper;
  readonly #helper: Helper;
  readonly #pool: PoolPlace;
  readonly #prefix: string;
  readonly #blockBytes: number;
  readonly #minFreePercent: number;
  readonly #discard: boolean;
  readonly #deferredRemoval: boolean;
  /** Ids that something on disk names. */
  readonly #taken = new Set<number>();
  /** By id, when each was asked for last; the order is that of asking. */
  readonly #active = new Map<number, { readonly device: DmDevice; readonly atMs: number }>();
  #lastId = 0;
  #changing: Promise<unknown> = Promise.resolve();

  constructor(
    mapper: DeviceMapper,
    helper: Helper,
    pool: PoolPlace,
    options: {
      readonly prefix: string;
      readonly blockBytes: number;
      readonly minFreePercent: number;
      readonly discard: boolean;
      readonly deferredRemoval: boolean;
    },
  ) {
    this.#mapper = mapper;
    this.#helper = helper;
    this.#pool = pool;
    this.#prefix = options.prefix;
    this.#blockBytes = options.blockBytes;
    this.#minFreePercent = options.minFreePercent;
    this.#discard = options.discard;
    this.#deferredRemoval = options.deferredRemoval;
  }

  /** Something on disk names this id. */
  claim(id: number): void {
    this.#taken.add(id);
    this.#lastId = Math.max(this.#lastId, id);
  }

  /** An id that is free, claimed. */
  newId(): number {
    for (let tried = 0; tried <= maxId; tried++) {
      this.#lastId = (this.#lastId % maxId) + 1;
      if (this.#taken.has(this.#lastId)) continue;
      this.#taken.add(this.#lastId);
      return this.#lastId;
    }
    throw new EngineError("storage", "the thin pool has no free device ids");
  }

  async usage(): Promise<PoolUsage & { readonly failed: string | undefined }> {
    return readPoolStatus(await this.#mapper.status(this.#pool.name), this.#blockBytes);
  }

  /** An empty device. */
  create(id: number): Promise<void> {
    return this.#exclusive(async () => this.#make(id, `create_thin ${id}`));
  }

  /** One that shares everything with another, until it is changed. */
  snapshot(id: number, origin: Thin): Promise<void> {
    return this.#exclusive(async () => {
      const make = () => this.#make(id, `create_snap ${id} ${origin.id}`);
      // Of a mounted filesystem, what is in memory only would be missing.
      if ((await this.#mapper.find(this.#name(origin.id))) === undefined) await make();
      else await this.#mapper.suspended(this.#name(origin.id), make);
    });
  }

  async #make(id: number, message: string): Promise<void> {
    const { dataUsed, dataTotal, metadataUsed, metadataTotal, failed } = await this.usage();
    if (failed !== undefined)
      throw new EngineError("storage", `the thin pool ${this.#pool.name} has failed: ${failed}`, { hint: "thin_check(8) and lvconvert --repair may help" });
    const full = (used: number, total: number) => this.#minFreePercent > 0 && total - used < (total * this.#minFreePercent) / 100;
    if (full(dataUsed, dataTotal) || full(metadataUsed, metadataTotal))
      throw new EngineError("storage", `the thin pool ${this.#pool.name} has less than ${this.#minFreePercent}% free`, {
        hint: "remove what is not needed, make the pool larger, or lower dm.min_free_space",
      });
    try {
      await this.#mapper.message(this.#pool.name, message);
    } catch (error) {
      // A crash of the machine has lost who had it; in a pool of our own that can only have been one of our files.
      if (!(error instanceof EngineError) || error.details.errno !== "EEXIST" || this.#pool.shared) throw error;
      await this.#mapper.message(this.#pool.name, `delete ${id}`);
      await this.#mapper.message(this.#pool.name, message);
    }
  }

  /** The node of the device, which the kernel has from now on. */
  async activate({ id, sizeBytes }: Thin): Promise<string> {
    return this.#exclusive(async () => {
      const known = this.#active.get(id)?.device;
      const device = known ?? (await this.#mapper.find(this.#name(id))) ?? (await this.#bring(id, sizeBytes));
      this.#active.delete(id);
      this.#active.set(id, { device, atMs: Date.now() });
      await this.#letIdleGo();
      return nodeOf(device);
    });
  }

  async #bring(id: number, sizeBytes: number): Promise<DmDevice> {
    const pool = await this.#mapper.find(this.#pool.name);
    if (pool === undefined) throw new EngineError("storage", `the thin pool ${this.#pool.name} is gone`, { hint: "restart the daemon" });
    return this.#mapper.create(this.#name(id), { sectors: Math.floor(sizeBytes / SECTOR), type: "thin", params: `${pool.major}:${pool.minor} ${id}` });
  }

  async #letIdleGo(): Promise<void> {
    for (const [id, { atMs }] of this.#active) {
      if (this.#active.size <= maxIdle || Date.now() - atMs < idleMs) return;
      const device = await this.#mapper.find(this.#name(id));
      if (device === undefined || device.openCount === 0) await this.#deactivate(id, 0);
      // Of a running container; it is looked at again when all others have been.
      else {
        this.#active.delete(id);
        this.#active.set(id, { device, atMs: Date.now() });
      }
    }
  }

  /** Takes it out of the kernel: when that is done, its filesystem is unmounted and on disk. @throws EngineError "kernel" when it stays in use */
  deactivate(id: number): Promise<void> {
    return this.#exclusive(() => this.#deactivate(id));
  }

  async #deactivate(id: number, waitMs?: number): Promise<void> {
    await this.#mapper.remove(this.#name(id), { deferred: this.#deferredRemoval, ...(waitMs === undefined ? {} : { waitMs }) });
    this.#active.delete(id);
  }

  /** Deletes it for good, `forget` what names it on disk, and only then the id is free for another. */
  async delete(thin: Thin, forget: () => Promise<void>): Promise<void> {
    await this.deactivate(thin.id);
    // The pool alone would keep the blocks of its file for itself.
    if (this.#discard) await this.#discardAll(thin);
    await this.#exclusive(async () => {
      try {
        await this.#mapper.message(this.#pool.name, `delete ${thin.id}`);
      } catch (error) {
        // It was never made, or the message got through before a crash.
        if (!(error instanceof EngineError) || error.details.errno !== "ENODATA") throw error;
      }
      await forget();
      this.#taken.delete(thin.id);
    });
  }

  async #discardAll(thin: Thin): Promise<void> {
    const range = Buffer.alloc(16);
    range.writeBigUInt64LE(BigInt(thin.sizeBytes), 8);
    let path: string;
    try {
      path = await this.activate(thin);
    } catch (error) {
      // There is no such device in the pool.
      if (error instanceof EngineError && error.details.errno === "ENODATA") return;
      throw error;
    }
    await this.#helper.call({
      steps: [
        { op: "openat", dir: NO_SLOT, path, flags: O.RDWR, mode: 0, out: 0, where: "host", why: "the device" },
        {
          op: "ioctl",
          fd: 0,
          request: BLKDISCARD,
          arg: range,
          tag: 0,
          where: "host",
          why: "what it held is free",
          see: "ioctl(2), linux/fs.h",
          ignore: ["EOPNOTSUPP"],
        },
      ],
    });
    await this.deactivate(thin.id);
  }

  /** Takes all devices out of the kernel that nobody has open; those of an earlier daemon, too. True = none is left. */
  deactivateAll(): Promise<boolean> {
    return this.#exclusive(async () => {
      let all = true;
      for (const name of await this.#mapper.names(this.#prefix)) {
        if (name === this.#pool.name) continue;
        const device = await this.#mapper.find(name);
        if (device !== undefined && device.openCount > 0) all = false;
        else await this.#mapper.remove(name);
      }
      this.#active.clear();
      return all;
    });
  }

  #name(id: number): string {
    return `${this.#prefix}${id}`;
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#changing.then(work);
    this.#changing = result.catch(() => undefined);
    return result;
  }
}
