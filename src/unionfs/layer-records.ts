import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChainID, type DiffID, hexOf, isDigest } from "#core/digest.ts";
import { errnoOf } from "#core/errors.ts";
import { bootId } from "./boot-id.ts";
import { asStorageError, writeDurably } from "./layer-directory.ts";

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

/** `<dataRoot>/layerdb/<driver>/<chain hex>/{layer.json,synced,tar-index.gz,superseded/}`; written under a `tmp-` name and renamed. */
export class LayerRecords {
  readonly #root: string;
  readonly #records = new Map<ChainID, LayerRecord>();

  /** Layers that may not be on disk yet. */
  readonly unsynced: Set<ChainID> = new Set();
  #boot = "";

  constructor(root: string) {
    this.#root = root;
  }

  /** Reads all records; sweeps what a crash left. Thousands of small files are read at a start, a tenth of the time when nobody is asked to wait for each. */
  async load(): Promise<void> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 });
    this.#boot = await bootId();
    await Promise.all((await readdir(this.#root)).map((name) => this.#load(name)));
  }

  async #load(name: string): Promise<void> {
    const chain = `sha256:${name}`;
    const record = isDigest(chain) ? this.#read(chain) : undefined;
    const synced = record !== undefined && existsSync(join(this.#root, name, syncedFile));
    if (record === undefined || (!synced && record.boot !== this.#boot)) {
      await rm(join(this.#root, name), { recursive: true, force: true });
      return;
    }
    this.#records.set(record.chainId, record);
    if (synced) return;
    this.unsynced.add(record.chainId);
    // What a crash has left of saying so.
    await rm(join(this.#root, name, `${syncedFile}.tmp`), { force: true });
  }

  get(chain: ChainID): LayerRecord | undefined {
    return this.#records.get(chain);
  }

  all(): Iterable<LayerRecord> {
    return this.#records.values();
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
    for (const chain of chains) {
      if (this.#records.has(chain)) await writeDurably(join(this.directory(chain), syncedFile), "");
      this.unsynced.delete(chain);
    }
  }

  async drop(directory: string): Promise<void> {
    await rm(directory, { recursive: true, force: true });
  }

  async remove(chain: ChainID): Promise<void> {
    this.#records.delete(chain);
    this.unsynced.delete(chain);
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
