import { randomBytes } from "node:crypto";
import { type BigIntStats, existsSync, lstatSync, readFileSync } from "node:fs";
import { lstat, mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { allDone } from "#core/all-done.ts";
import { type ChainID, type DiffID, hexOf, isDigest } from "#core/digest.ts";
import { errnoOf } from "#core/errors.ts";
import { bootId } from "./boot-id.ts";
import { LayerIndex } from "./layer-index.ts";
import { writeDurably } from "./layer-directory.ts";
import { asStorageError } from "#core/storage-error.ts";

const syncedFile = "synced";

/** `layer.json`: what a layer is, beyond the files that the driver keeps. */
export interface LayerRecord {
  readonly version: 1;
  readonly chainId: ChainID;
  readonly diffId: DiffID;
  readonly parent: ChainID | null;
  /** Bytes as Docker counts them. */
  readonly size: number;
  /** Length of its archive; missing where an older version has recorded the layer. */
  readonly tarBytes?: number;
  /** The boot that it was applied in. Without a file `synced` beside it, the layer is good in this boot only. */
  readonly boot: string;
}

/** A record of a layer that is on disk, and which directory it was read in: what was put there by anybody else, or in another life, is read anew. */
interface IndexedRecord {
  readonly record: LayerRecord;
  /** Decimal. */
  readonly inode: string;
  readonly mtimeNs: string;
}

/** `<dataRoot>/layerdb/<driver>/<chain hex>/{layer.json,synced,tar-index.gz,superseded/}`; written under a `tmp-` name and renamed. */
export class LayerRecords {
  readonly #root: string;
  readonly #records = new Map<ChainID, LayerRecord>();

  /** Layers that may not be on disk yet. */
  readonly unsynced: Set<ChainID> = new Set();
  #boot = "";
  readonly #index: LayerIndex<IndexedRecord>;

  private constructor(root: string, index: LayerIndex<IndexedRecord>) {
    this.#root = root;
    this.#index = index;
  }

  /** Reads all records; sweeps what a crash left. */
  static async open(root: string): Promise<LayerRecords> {
    const records = new LayerRecords(root, await LayerIndex.open(`${root}.records`, parseIndexed));
    await records.#load();
    return records;
  }

  async #load(): Promise<void> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 });
    this.#boot = await bootId();
    const synced = new Map<string, IndexedRecord>();
    // Thousands of small files, at a start: a tenth of the time when nobody is asked to wait for each.
    for (const name of await readdir(this.#root)) {
      const indexed = this.#indexed(name);
      if (indexed === undefined) {
        await this.#readOne(name, synced);
        continue;
      }
      this.#records.set(indexed.record.chainId, indexed.record);
      synced.set(name, indexed);
    }
    await this.#index.replace(synced);
  }

  /** What the index says of a directory that has not changed since. */
  #indexed(name: string): IndexedRecord | undefined {
    const indexed = this.#index.get(name);
    if (indexed === undefined || indexed.record.chainId !== `sha256:${name}`) return undefined;
    return isOf(indexed, lstatSync(join(this.#root, name), { bigint: true })) ? indexed : undefined;
  }

  async #readOne(name: string, synced: Map<string, IndexedRecord>): Promise<void> {
    const chain = `sha256:${name}`;
    const directory = join(this.#root, name);
    const record = isDigest(chain) ? this.#read(chain) : undefined;
    const isSynced = record !== undefined && existsSync(join(directory, syncedFile));
    if (record === undefined || (!isSynced && record.boot !== this.#boot)) {
      await rm(directory, { recursive: true, force: true });
      return;
    }
    this.#records.set(record.chainId, record);
    if (!isSynced) this.unsynced.add(record.chainId);
    // What a crash has left of saying so.
    await rm(join(directory, `${syncedFile}.tmp`), { force: true });
    if (isSynced) synced.set(name, indexedAs(record, lstatSync(directory, { bigint: true })));
  }

  get(chain: ChainID): LayerRecord | undefined {
    return this.#records.get(chain);
  }

  all(): Iterable<LayerRecord> {
    return this.#records.values();
  }

  /** Whether another driver has a record of a layer. */
  async elsewhere(chain: ChainID): Promise<boolean> {
    const all = dirname(this.#root);
    return (await readdir(all)).some((driver) => driver !== basename(this.#root) && existsSync(join(all, driver, hexOf(chain), "layer.json")));
  }

  directory(chain: ChainID): string {
    return join(this.#root, hexOf(chain));
  }

  /** A directory to collect a layer's index in, until {@link add} or {@link drop}. */
  async begin(): Promise<string> {
    const directory = join(this.#root, `tmp-${randomBytes(8).toString("hex")}`);
    await mkdir(directory, { mode: 0o700 });
    return directory;
  }

  async add(directory: string, layer: Omit<LayerRecord, "version" | "boot">): Promise<void> {
    const record: LayerRecord = { version: 1, ...layer, boot: this.#boot };
    try {
      await writeFile(join(directory, "layer.json"), `${JSON.stringify(record)}\n`);
      await rename(directory, this.directory(record.chainId));
    } catch (error) {
      throw asStorageError(error, `recording layer ${record.chainId}`);
    }
    this.#records.set(record.chainId, record);
    this.unsynced.add(record.chainId);
  }

  /** Says of layers whose bytes are on disk that they are. */
  async markSynced(chains: readonly ChainID[]): Promise<void> {
    // At once: the filesystem's log is written once for all of them.
    await allDone(chains.map((chain) => this.#markSynced(chain)));
  }

  async #markSynced(chain: ChainID): Promise<void> {
    const record = this.#records.get(chain);
    if (record === undefined) return;
    try {
      await writeDurably(join(this.directory(chain), syncedFile), "");
      await this.#index.set(hexOf(chain), indexedAs(record, await lstat(this.directory(chain), { bigint: true })));
    } catch (error) {
      // Removed meanwhile: nobody needs the mark.
      if (this.#records.get(chain) === record) throw error;
      return;
    }
    if (this.#records.get(chain) === record) this.unsynced.delete(chain);
  }

  async drop(directory: string): Promise<void> {
    await rm(directory, { recursive: true, force: true });
  }

  async remove(chain: ChainID): Promise<void> {
    this.#records.delete(chain);
    this.unsynced.delete(chain);
    await this.#index.set(hexOf(chain), undefined);
    const gone = join(this.#root, `tmp-${randomBytes(8).toString("hex")}`);
    try {
      await rename(this.directory(chain), gone);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw asStorageError(error, `removing the record of layer ${chain}`);
      return;
    }
    await this.drop(gone);
  }

  #read(chain: ChainID): LayerRecord | undefined {
    let text: string;
    try {
      text = readFileSync(join(this.directory(chain), "layer.json"), "utf8");
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw asStorageError(error, `reading the record of layer ${chain}`);
    }
    try {
      // Our own file; empty or in part only when the machine crashed before it was on disk.
      return JSON.parse(text) as LayerRecord;
    } catch {
      return undefined;
    }
  }
}

function indexedAs(record: LayerRecord, { ino, mtimeNs }: BigIntStats): IndexedRecord {
  return { record, inode: String(ino), mtimeNs: String(mtimeNs) };
}

function isOf({ inode, mtimeNs }: IndexedRecord, stat: BigIntStats): boolean {
  return inode === String(stat.ino) && mtimeNs === String(stat.mtimeNs);
}

/** Our own file; a line that is not of this form is none. */
function parseIndexed(value: unknown): IndexedRecord | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { record, inode, mtimeNs } = value as Partial<IndexedRecord>;
  if (typeof inode !== "string" || typeof mtimeNs !== "string" || typeof record !== "object" || record === null) return undefined;
  return record.version === 1 && isDigest(record.chainId) && isDigest(record.diffId) && typeof record.size === "number"
    ? { record, inode, mtimeNs }
    : undefined;
}
