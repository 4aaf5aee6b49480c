import { createHmac, randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChainID, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf, isEngineError } from "#core/errors.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import { keyOf } from "./inputs.ts";
import { type CacheRecord, type FilePrints, Hidden, type Inputs, type StepInputs } from "./record.ts";

export interface BuildCacheOptions {
  /** Directory of the cache; made when it is not there. */
  readonly root: string;
  readonly log: (level: "warn" | "info", message: string) => void;
  /** What the layers of steps may take together, bytes; undefined = no bound. */
  readonly budgetBytes: number | undefined;
  /** Removes layers that neither an image nor the cache names. */
  readonly collect: () => Promise<void>;
}

/** Which records go: those that match and were not used since `untilMs`. */
export interface PruneOptions {
  readonly all: boolean;
  readonly untilMs?: number;
  /** The least recently used go until this much is left, bytes. */
  readonly keepBytes?: number;
  readonly match?: (record: CacheRecord) => boolean;
}

const recordSuffix = ".json";
/** Version 1 had every file among the inputs. */
const recordVersion = 2;
const printsSuffix = ".files";

/**
 * Results of steps by key: a file for each below `root`, all in memory; beside it what stands for each file that the step copies, which is read only to tell what has changed. A record is a promise about a layer of the layer store; {@link chains} names the layers that must stay for it.
 */
export class BuildCache {
  readonly #options: BuildCacheOptions;
  readonly #records = new Map<string, CacheRecord>();
  readonly #secret: Buffer;
  /** Writes are in order. */
  #writing: Promise<unknown> = Promise.resolve();
  /** Chains that builds in progress count on. */
  readonly #inUse = new Map<ChainID, number>();

  private constructor(options: BuildCacheOptions, secret: Buffer) {
    this.#options = options;
    this.#secret = secret;
  }

  static async open(options: BuildCacheOptions): Promise<BuildCache> {
    const records = join(options.root, "records");
    await mkdir(records, { recursive: true, mode: 0o700 });
    const cache = new BuildCache(options, await secretOf(options.root));
    const names = await readdir(records);
    for (const name of names.filter((each) => each.endsWith(recordSuffix))) {
      const path = join(records, name);
      const record = await readRecord(path).catch((error: unknown) => cache.#broken(path, error));
      if (record !== undefined) cache.#records.set(record.key, record);
    }
    // What is of no record, or half-written, a crash has left.
    const known = new Set([...cache.#records.keys()].flatMap((key) => [`${key}${recordSuffix}`, `${key}${printsSuffix}`]));
    for (const name of names) if (!known.has(name)) await rm(join(records, name), { force: true });
    return cache;
  }

  /** As a record has them. What stands for a value that must not be told can be tried by nobody who has not this data root. */
  concealed(inputs: StepInputs): Inputs {
    const conceal = (value: string | Uint8Array) => createHmac("sha256", this.#secret).update(value).digest("hex").slice(0, 32);
    return Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, value instanceof Hidden ? conceal(value.value) : value]));
  }

  find(inputs: Inputs): CacheRecord | undefined {
    return this.#records.get(keyOf(inputs));
  }

  /** The record of the same instruction that was used last. */
  nearest(text: string): CacheRecord | undefined {
    let found: CacheRecord | undefined;
    for (const record of this.#records.values()) if (record.text === text && (found === undefined || record.usedAtMs >= found.usedAtMs)) found = record;
    return found;
  }

  /** `prints`: what its input `files` stands for. */
  async store(record: Omit<CacheRecord, "key" | "usedAtMs" | "uses">, prints?: FilePrints): Promise<void> {
    const key = keyOf(record.inputs);
    // Without them one is only told less: first they, then the record.
    if (prints !== undefined) await this.#inOrder(() => this.#write(this.#path(key, printsSuffix), Object.fromEntries(prints)));
    await this.#save({ ...record, key, usedAtMs: Date.now(), uses: 0 });
  }

  /** undefined: they were not kept. */
  async printsOf({ key }: CacheRecord): Promise<FilePrints | undefined> {
    const path = this.#path(key, printsSuffix);
    try {
      return new Map(Object.entries(new JsonFields({ prints: parseJson(await readFile(path), path) }, path).map("prints") ?? {}));
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || isEngineError(error, "corrupt")) return undefined;
      throw error;
    }
  }

  /** A step was answered with it. */
  noteUse(record: CacheRecord): void {
    const used = { ...record, usedAtMs: Date.now(), uses: record.uses + 1 };
    this.#records.set(record.key, used);
    // Only for the order in which records go: losing it loses nothing else. That it was used at all is written down once, when is the file's time.
    const noted = record.uses === 0 ? this.#save(used) : this.#inOrder(() => utimes(this.#path(record.key), used.usedAtMs / 1000, used.usedAtMs / 1000));
    noted.catch((error: Error) => {
      if (errnoOf(error) !== "ENOENT") this.#options.log("warn", `noting the use of a build step: ${error.message}`);
    });
  }

  async forget(record: CacheRecord): Promise<void> {
    this.#records.delete(record.key);
    await this.#inOrder(async () => {
      await rm(this.#path(record.key), { force: true });
      await rm(this.#path(record.key, printsSuffix), { force: true });
    });
  }

  records(): readonly CacheRecord[] {
    return [...this.#records.values()];
  }

  /** Layers that the records name. */
  chains(): Set<ChainID> {
    return new Set([...this.#records.values()].flatMap(({ layer }) => layer?.chainId ?? []));
  }

  inUse(record: CacheRecord): boolean {
    return record.layer !== undefined && this.#inUse.has(record.layer.chainId);
  }

  /** Until it is released, the record of a layer stays. */
  hold(chain: ChainID): { release(): void } {
    this.#inUse.set(chain, (this.#inUse.get(chain) ?? 0) + 1);
    let released = false;
    return {
      release: () => {
        if (released) return;
        released = true;
        const left = (this.#inUse.get(chain) ?? 1) - 1;
        if (left === 0) this.#inUse.delete(chain);
        else this.#inUse.set(chain, left);
      },
    };
  }

  /** Bytes of all layers of steps, each counted once. */
  bytes(): number {
    return sizeOf(this.#records.values());
  }

  /** Before so many bytes are added: the least recently used records go until they fit into the budget. */
  async makeRoom(bytes: number): Promise<void> {
    const { budgetBytes } = this.#options;
    if (budgetBytes === undefined || this.bytes() + bytes <= budgetBytes) return;
    await this.prune({ all: true, keepBytes: Math.max(0, budgetBytes - bytes) });
  }

  /** Removes records and what only they needed. @returns those that went */
  async prune({ all, untilMs, keepBytes, match }: PruneOptions): Promise<CacheRecord[]> {
    const oldestFirst = this.records().toSorted((a, b) => a.usedAtMs - b.usedAtMs);
    const removed: CacheRecord[] = [];
    for (const record of oldestFirst) {
      if (keepBytes !== undefined && this.bytes() <= keepBytes) break;
      if (this.inUse(record) || (untilMs !== undefined && record.usedAtMs >= untilMs) || match?.(record) === false) continue;
      if (!all && record.uses > 0 && untilMs === undefined && keepBytes === undefined && this.#isNeeded(record)) continue;
      await this.forget(record);
      removed.push(record);
    }
    if (removed.length > 0) await this.#options.collect();
    return removed;
  }

  /** True when another record's step stands on its layer. */
  #isNeeded({ layer }: CacheRecord): boolean {
    return layer !== undefined && this.records().some(({ inputs }) => inputs["parent"] === layer.chainId);
  }

  #path(key: string, suffix = recordSuffix): string {
    return join(this.#options.root, "records", `${key}${suffix}`);
  }

  #save(record: CacheRecord): Promise<void> {
    this.#records.set(record.key, record);
    return this.#inOrder(() => this.#write(this.#path(record.key), { version: recordVersion, ...record }));
  }

  async #write(path: string, value: unknown): Promise<void> {
    await writeFile(`${path}.tmp`, JSON.stringify(value), { mode: 0o600 });
    await rename(`${path}.tmp`, path);
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#writing.then(work);
    this.#writing = result.catch(() => undefined);
    return result;
  }

  #broken(path: string, error: unknown): undefined {
    if (!isEngineError(error, "corrupt")) throw error;
    this.#options.log("warn", `${path} is damaged and left out: ${error.message}`);
  }
}

export function sizeOf(records: Iterable<CacheRecord>): number {
  const layers = new Map<ChainID, number>();
  for (const { layer } of records) if (layer !== undefined) layers.set(layer.chainId, layer.size);
  return [...layers.values()].reduce((sum, size) => sum + size, 0);
}

async function readRecord(path: string): Promise<CacheRecord> {
  const fields = new JsonFields(parseJson(await readFile(path), path), path);
  const layer = fields.object("layer");
  const [diffId, chainId] = [layer?.text("diffId") ?? "", layer?.text("chainId") ?? ""];
  if (fields.number("version") !== recordVersion || (layer !== undefined && (!isDigest(diffId) || !isDigest(chainId))))
    throw new EngineError("corrupt", "it is of another version");
  const inputs = fields.map("inputs") ?? {};
  return {
    key: keyOf(inputs),
    inputs,
    layer: layer === undefined || !isDigest(diffId) || !isDigest(chainId) ? undefined : { diffId, chainId, size: layer.number("size") ?? 0 },
    created: fields.text("created") ?? "",
    text: fields.text("text") ?? "",
    usedAtMs: Math.max(fields.number("usedAtMs") ?? 0, Math.floor((await stat(path)).mtimeMs)),
    uses: fields.number("uses") ?? 0,
  };
}

/** Made once for a data root. */
async function secretOf(root: string): Promise<Buffer> {
  const path = join(root, "secret");
  try {
    const secret = await readFile(path);
    if (secret.length === 32) return secret;
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
  const secret = randomBytes(32);
  {
    await using file = await open(`${path}.tmp`, "w", 0o600);
    await file.writeFile(secret);
    await file.sync();
  }
  await rename(`${path}.tmp`, path);
  return secret;
}
