/**
 * `storage ls` and `storage compare`: which drivers can run on this data root, and what each costs.
 * @module
 */
import { mkdir, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { ChainID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { FileTree } from "#linux/file-tree.ts";
import { planStoppedTree } from "#runtime/mod.ts";
import { openLayerStore } from "#unionfs/layer-store.ts";
import type { LayerStore, StorageDriver } from "#unionfs/mod.ts";
import { driverNames, openDriver, probeDriver, probeDrivers } from "#unionfs/open-driver.ts";
import { endBlocks, formatHeader, padding } from "#unionfs/tar/writer.ts";
import type { EngineContext } from "./context.ts";
import { makeLoopPlace, unmountBelow } from "./loop-place.ts";

/** A driver, and why it cannot run here. */
export interface DriverListing {
  readonly name: string;
  readonly inUse: boolean;
  /** undefined = it can. */
  readonly reason?: string;
}

/** What one driver took. Times in milliseconds. */
export interface StorageCosts {
  readonly driver: string;
  /** A snapshot on an image of one layer, and its mounts as data. */
  readonly createMs: number;
  /** Its root, opened by a process of its own. */
  readonly startMs: number;
  /** First change of a file of 1 KiB, and of one of `largeBytes`. */
  readonly copyUpSmallMs: number;
  readonly copyUpLargeMs: number;
  /** 500 new files of 100 bytes. */
  readonly smallWritesMs: number;
  /** Create and start on 1, on 20 and on 120 layers of one small file. */
  readonly chain1Ms: number;
  readonly chain20Ms: number;
  readonly chain120Ms: number;
  /** By how much the filesystem has filled up with ten containers, each of which has changed one small file. */
  readonly tenContainersBytes: number;
  /** Removing a container and its files. */
  readonly removeMs: number;
}

export async function listDrivers(ctx: EngineContext): Promise<DriverListing[]> {
  const probed = await probeDrivers(ctx.options.dataRoot, ctx.helper, ctx.options.storageOpts);
  return probed.map(({ name, probe }) => ({ name, inUse: name === ctx.layers.driver.name, ...(probe.supported ? {} : { reason: probe.reason }) }));
}

export interface CompareOptions {
  readonly largeBytes: number;
  readonly loop?: boolean;
  readonly drivers?: readonly string[];
  readonly signal?: AbortSignal;
  readonly onProgress?: (driver: string) => void;
}

const running = new WeakSet<EngineContext>();
const scratchName = "tmp-storage-compare";

/**
 * Measures every driver that can run (or those named in `drivers`, which then have to), in a directory beside the data root's own that goes again: on the data root's filesystem, or (`loop`) each on one of its own in a file, so that those
 * which ask for a filesystem of their own can be compared with the others.
 */
export async function compareStorage(
  ctx: EngineContext,
  { largeBytes, loop = false, drivers = [], signal, onProgress }: CompareOptions,
): Promise<StorageCosts[]> {
  if (running.has(ctx)) throw new EngineError("conflict", "a comparison of storage drivers runs already");
  running.add(ctx);
  const scratch = join(ctx.options.dataRoot, scratchName);
  const results: StorageCosts[] = [];
  try {
    // One that a crash has left is in the way.
    await unmountBelow(ctx.helper, scratch);
    await rm(scratch, { recursive: true, force: true });
    await mkdir(scratch, { mode: 0o700 });
    for (const name of drivers.length > 0 ? drivers : driverNames) {
      if (signal?.aborted === true) throw new EngineError("cancelled", "the comparison was cancelled");
      const place = loop ? await makeLoopPlace(ctx.helper, name, scratch) : { directory: scratch, remove: async () => undefined };
      if (place === undefined) {
        if (drivers.length === 0) continue;
        throw new EngineError("unsupported", `storage driver ${name}: the filesystem that it is at home on cannot be made and mounted here`);
      }
      try {
        if (drivers.length === 0 && !(await probeDriver(name, place.directory, ctx.helper)).supported) continue;
        onProgress?.(name);
        results.push(await measure(ctx, name, place.directory, largeBytes));
      } finally {
        await place.remove();
      }
    }
    return results;
  } finally {
    running.delete(ctx);
    await rm(scratch, { recursive: true, force: true });
  }
}

async function measure(ctx: EngineContext, name: string, scratch: string, largeBytes: number): Promise<StorageCosts> {
  const driver = await openDriver(name, { root: scratch, helper: ctx.helper });
  try {
    return await measureOpened(ctx, driver, scratch, largeBytes);
  } finally {
    await driver.close?.();
  }
}

async function measureOpened(ctx: EngineContext, driver: StorageDriver, scratch: string, largeBytes: number): Promise<StorageCosts> {
  const store = await openLayerStore({ root: scratch, driver, helper: ctx.helper });
  const bench = new Bench(ctx, driver, store, join(scratch, "at"));
  await mkdir(join(scratch, "at"), { recursive: true });
  const image = await bench.layer(undefined, [
    ["small", 1024],
    ["large", largeBytes],
    ...Array.from({ length: 200 }, (_, index) => [`files/${index}`, 100] as const),
  ]);
  const one = await bench.create("one", image);
  const { tree, ms: startMs } = await bench.open("one");
  const meta = { mode: 0o600, uid: 1, gid: 1, mtimeNs: 1n };
  const change = (path: string) =>
    timed(async () => {
      await tree.setMeta(path, meta);
      await tree.flush();
    });
  const [copyUpSmallMs, copyUpLargeMs] = [await change("small"), await change("large")];
  const smallWritesMs = await timed(async () => {
    for (let index = 0; index < 500; index++) {
      await tree.openFile(`new-${index}`, 100);
      await tree.writeData(Buffer.alloc(100, 1));
      await tree.closeFile(meta);
    }
    await tree.flush();
  });
  await tree.close();
  const removeMs = await timed(async () => {
    await driver.remove("one");
    await driver.idle();
  });
  const tenContainersBytes = await bench.tenContainers(image);
  const chains: number[] = [];
  let tip: ChainID | undefined;
  for (let depth = 1; depth <= 120; depth++) {
    tip = await bench.layer(tip, [[`layer-${depth}`, 100]]);
    if (depth === 1 || depth === 20 || depth === 120) chains.push(await bench.createAndOpen(`chain-${depth}`, tip));
  }
  await driver.sweep(new Set());
  await store.prune(new Set());
  await driver.idle();
  return {
    driver: driver.name,
    createMs: one,
    startMs,
    copyUpSmallMs,
    copyUpLargeMs,
    smallWritesMs,
    chain1Ms: chains[0] ?? 0,
    chain20Ms: chains[1] ?? 0,
    chain120Ms: chains[2] ?? 0,
    tenContainersBytes,
    removeMs,
  };
}

class Bench {
  readonly #ctx: EngineContext;
  readonly #driver: StorageDriver;
  readonly #store: LayerStore;
  readonly #at: string;

  constructor(ctx: EngineContext, driver: StorageDriver, store: LayerStore, at: string) {
    this.#ctx = ctx;
    this.#driver = driver;
    this.#store = store;
    this.#at = at;
  }

  async layer(parent: ChainID | undefined, files: readonly (readonly [name: string, bytes: number])[]): Promise<ChainID> {
    return (await this.#store.apply(parent, archive(files))).chainId;
  }

  create(key: string, chain: ChainID): Promise<number> {
    return timed(async () => {
      await this.#driver.prepare(key, chain);
      await this.#driver.mounts(key);
    });
  }

  async open(key: string): Promise<{ readonly tree: FileTree; readonly ms: number }> {
    const begun = performance.now();
    const root = await this.#driver.mounts(key);
    const tree = await this.#ctx.helper.openTree(key, planStoppedTree({ root, facts: this.#ctx.facts, mounts: [], at: this.#at }));
    return { tree, ms: performance.now() - begun };
  }

  async createAndOpen(key: string, chain: ChainID): Promise<number> {
    const created = await this.create(key, chain);
    const { tree, ms } = await this.open(key);
    await tree.close();
    await this.#driver.remove(key);
    return created + ms;
  }

  /** Bytes that the filesystem has given out; what is shared (hard links, reflinks, snapshots) counts once. */
  async #filled(): Promise<number> {
    const tree = await this.#ctx.helper.openTree(this.#at);
    try {
      await tree.sync();
    } finally {
      await tree.close();
    }
    const { blocks, bfree, bsize } = await statfs(this.#at);
    return (blocks - bfree) * bsize;
  }

  async tenContainers(chain: ChainID): Promise<number> {
    const keys = Array.from({ length: 10 }, (_, index) => `ten-${index}`);
    const before = await this.#filled();
    for (const key of keys) {
      await this.create(key, chain);
      const { tree } = await this.open(key);
      await tree.setMeta("small", { mode: 0o600, uid: 1, gid: 1, mtimeNs: 1n });
      await tree.flush();
      await tree.close();
    }
    const bytes = Math.max(0, (await this.#filled()) - before);
    for (const key of keys) await this.#driver.remove(key);
    await this.#driver.idle();
    return bytes;
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

const pieceBytes = 1 << 20;

async function* archive(files: readonly (readonly [name: string, bytes: number])[]): AsyncIterable<Uint8Array> {
  const piece = Buffer.alloc(pieceBytes, 0x77);
  for (const [name, size] of files) {
    yield formatHeader({ name, type: "file", linkname: "", mode: 0o644, uid: 0, gid: 0, size, mtimeNs: 0n, major: 0, minor: 0, xattrs: [] });
    for (let left = size; left > 0; left -= pieceBytes) yield piece.subarray(0, Math.min(left, pieceBytes));
    yield padding(size);
  }
  yield endBlocks();
}
