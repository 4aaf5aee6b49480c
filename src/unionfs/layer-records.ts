import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { type ChainID, type DiffID, hexOf, isDigest } from "#core/digest.ts";
import { errnoOf } from "#core/errors.ts";
import { asStorageError, syncDirectory, writeDurably } from "./layer-directory.ts";

/** `layer.json`: what a layer is, beyond the files that the driver keeps. */
export interface LayerRecord {
  readonly version: 1;
  readonly chainId: ChainID;
  readonly diffId: DiffID;
  readonly parent: ChainID | null;
  /** Bytes as Docker counts them. */
  readonly size: number;
}

/** `<dataRoot>/layerdb/<driver>/<chain hex>/{layer.json,tar-index.gz,superseded/}`; written under a `tmp-` name and renamed. */
export class LayerRecords {
  readonly #root: string;
  readonly #records = new Map<ChainID, LayerRecord>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Reads all records; sweeps what a crash left. */
  async load(): Promise<void> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 });
    await Promise.all(
      (await readdir(this.#root)).map(async (name) => {
        const chain = `sha256:${name}`;
        const record = isDigest(chain) ? await this.#read(chain) : undefined;
        if (record === undefined) await rm(join(this.#root, name), { recursive: true, force: true });
        else this.#records.set(record.chainId, record);
      }),
    );
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

  async add(directory: string, record: LayerRecord): Promise<void> {
    await writeDurably(join(directory, "layer.json"), `${JSON.stringify(record)}\n`);
    try {
      await rename(directory, this.directory(record.chainId));
    } catch (error) {
      if (!["ENOTEMPTY", "EEXIST"].includes(errnoOf(error) ?? "")) throw asStorageError(error, `recording layer ${record.chainId}`);
      // The same layer was recorded meanwhile: its index says the same.
      await this.drop(directory);
    }
    await syncDirectory(this.#root);
    this.#records.set(record.chainId, record);
  }

  async drop(directory: string): Promise<void> {
    await rm(directory, { recursive: true, force: true });
  }

  async remove(chain: ChainID): Promise<void> {
    this.#records.delete(chain);
    const gone = join(this.#root, `tmp-${randomBytes(8).toString("hex")}`);
    try {
      await rename(this.directory(chain), gone);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw asStorageError(error, `removing the record of layer ${chain}`);
      return;
    }
    await this.drop(gone);
  }

  async #read(chain: ChainID): Promise<LayerRecord | undefined> {
    try {
      // Our own file, written whole before the rename that gave the directory its name.
      return JSON.parse(await readFile(join(this.directory(chain), "layer.json"), "utf8")) as LayerRecord;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw asStorageError(error, `reading the record of layer ${chain}`);
    }
  }
}
