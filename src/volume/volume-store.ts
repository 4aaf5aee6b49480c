/**
 * Volumes on disk: `volumes/<name>/_data` is the directory that is mounted, `volumes/<name>/volume.json` says what it is. A directory without that file is a creation (or removal) that a
 * crash has cut off.
 * @module
 */
import { mkdir, open, readFile, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { rfc3339Nano } from "#core/clock.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { newId } from "#core/ids.ts";
import type { VolumeRecord, VolumeStore } from "./mod.ts";

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
/** Docker's mark of volumes that nobody named. */
const ANONYMOUS_LABEL = "com.docker.volume.anonymous";

/** Opens `<dataRoot>/volumes`. */
export async function openVolumeStore(dataRoot: string): Promise<VolumeStore> {
  const store = new DirectoryVolumes(join(dataRoot, "volumes"));
  await store.load();
  return store;
}

class DirectoryVolumes implements VolumeStore {
  readonly #root: string;
  readonly #records = new Map<string, VolumeRecord>();
  /** Creations under way, by name: a second one waits for the first. */
  readonly #creating = new Map<string, Promise<VolumeRecord>>();

  constructor(root: string) {
    this.#root = root;
  }

  async load(): Promise<void> {
    await mkdir(this.#root, { recursive: true, mode: 0o711 });
    for (const name of await readdir(this.#root)) {
      const record = name.startsWith(".") ? undefined : await readRecord(join(this.#root, name, "volume.json"));
      if (record !== undefined) this.#records.set(name, { ...record, Mountpoint: join(this.#root, name, "_data") });
    }
  }

  list(): VolumeRecord[] {
    return [...this.#records.values()];
  }

  get(name: string): VolumeRecord {
    const found = this.find(name);
    if (found === undefined) throw new EngineError("not-found", `get ${name}: no such volume`);
    return found;
  }

  find(name: string): VolumeRecord | undefined {
    return this.#records.get(name);
  }

  async create(options: Parameters<VolumeStore["create"]>[0]): Promise<VolumeRecord> {
    const { name = newId(), driver = "local" } = options;
    if (driver !== "local" && driver !== "") throw new EngineError("not-found", `error looking up volume plugin ${driver}: plugin "${driver}" not found`);
    if (!namePattern.test(name) || name.length > 255) {
      throw new EngineError("invalid", `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`);
    }
    const known = this.#records.get(name) ?? this.#creating.get(name);
    if (known !== undefined) return known;
    const made = this.#make(name, options).finally(() => this.#creating.delete(name));
    this.#creating.set(name, made);
    return made;
  }

  async #make(name: string, { labels, options, anonymous }: Parameters<VolumeStore["create"]>[0]): Promise<VolumeRecord> {
    if (options !== undefined && Object.keys(options).length > 0) throw new EngineError("unsupported", `volume options are not supported by this version: ${Object.keys(options).join(", ")}`);
    const directory = join(this.#root, name);
    const record: VolumeRecord = {
      Name: name,
      Driver: "local",
      Mountpoint: join(directory, "_data"),
      CreatedAt: rfc3339Nano(BigInt(Date.now()) * 1_000_000n).replace(/\.\d+Z$/, "Z"),
      Labels: anonymous === true ? { ...labels, [ANONYMOUS_LABEL]: "" } : (labels ?? null),
      Scope: "local",
      Options: null,
    };
    try {
      await mkdir(directory, { recursive: true, mode: 0o701 });
      await mkdir(record.Mountpoint, { recursive: true, mode: 0o755 });
      await writeDurably(join(directory, "volume.json"), JSON.stringify(record));
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw new EngineError("storage", `create ${name}: ${(error as Error).message}`, { cause: error });
    }
    this.#records.set(name, record);
    return record;
  }

  async remove(name: string, { force, users }: { readonly force: boolean; readonly users: readonly string[] }): Promise<void> {
    if (!this.#records.has(name)) {
      if (force) return;
      throw new EngineError("not-found", `get ${name}: no such volume`);
    }
    if (users.length > 0) throw new EngineError("conflict", `remove ${name}: volume is in use - [${users.join(", ")}]`);
    this.#records.delete(name);
    // Without its record it is no volume any more, whatever happens to the rest.
    const aside = join(this.#root, `.removed-${newId().slice(0, 16)}`);
    await rename(join(this.#root, name), aside);
    await rm(aside, { recursive: true, force: true });
  }

  async isEmpty(name: string): Promise<boolean> {
    return (await readdir(this.get(name).Mountpoint)).length === 0;
  }

  async sweep(): Promise<void> {
    for (const name of await readdir(this.#root)) {
      if (!this.#records.has(name) && !this.#creating.has(name)) await rm(join(this.#root, name), { recursive: true, force: true });
    }
  }
}

async function readRecord(path: string): Promise<VolumeRecord | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as VolumeRecord;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR" || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(`${path}.new`, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
}
