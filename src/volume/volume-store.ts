import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import { asStorageError } from "#core/storage-error.ts";
import { newId } from "#core/ids.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import { type LocalBacking, parseLocalOptions } from "./local-options.ts";
import type { VolumeRecord, VolumeStore } from "./mod.ts";

export interface VolumeStoreOptions {
  /** The data root; volumes lie in `volumes/` below it. */
  readonly root: string;
  readonly log: (level: "debug" | "info" | "warn" | "error", message: string) => void;
  /** Deletes a whole tree whatever is in it; default: Node's rm, which trees deeper than PATH_MAX defeat. */
  readonly removeTree?: (path: string) => Promise<void>;
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
const maxName = 255;
const anonymousLabel = "com.docker.volume.anonymous";

/**
 * Opens the volumes of a data root:
 *
 *     volumes/<name>/{_data,volume.json}
 *     volumes/.trash/                      being deleted
 *
 * `volume.json` is written last and by rename: a directory without one is what a crash left, and swept.
 */
export async function openVolumeStore(options: VolumeStoreOptions): Promise<VolumeStore> {
  const root = join(options.root, "volumes");
  await mkdir(join(root, ".trash"), { recursive: true, mode: 0o701 });
  const store = new LocalVolumes(root, options);
  await store.load();
  return store;
}

class LocalVolumes implements VolumeStore {
  readonly #root: string;
  readonly #log: VolumeStoreOptions["log"];
  readonly #removeTree: (path: string) => Promise<void>;
  readonly #volumes = new Map<string, VolumeRecord>();
  /** Names that are being made: a second request waits for the first. */
  readonly #making = new Map<string, Promise<VolumeRecord>>();
  #deletions: Promise<void> = Promise.resolve();

  constructor(root: string, { log, removeTree }: VolumeStoreOptions) {
    this.#root = root;
    this.#log = log;
    this.#removeTree = removeTree ?? ((path) => rm(path, { recursive: true, force: true }));
  }

  async load(): Promise<void> {
    await Promise.all(
      (await readdir(this.#root)).filter(isName).map(async (name) => {
        const record = await readRecord(join(this.#root, name), name);
        if (record !== undefined) this.#volumes.set(name, record);
      }),
    );
  }

  list(): VolumeRecord[] {
    return [...this.#volumes.values()].sort((a, b) => (a.Name < b.Name ? -1 : 1));
  }

  get(name: string): VolumeRecord {
    const volume = this.#volumes.get(name);
    if (volume === undefined) throw new EngineError("not-found", `get ${name}: no such volume`);
    return volume;
  }

  find(name: string): VolumeRecord | undefined {
    return this.#volumes.get(name);
  }

  async create(options: Parameters<VolumeStore["create"]>[0]): Promise<VolumeRecord> {
    const anonymous = options.anonymous === true || options.name === undefined || options.name === "";
    const name = options.name || newId();
    checkName(name);
    if (options.driver !== undefined && options.driver !== "" && options.driver !== "local") {
      throw new EngineError("not-found", `create ${name}: error looking up volume plugin ${options.driver}: plugin "${options.driver}" not found`);
    }
    // Of what exists, Docker leaves labels and options as they are.
    const known = this.#volumes.get(name) ?? this.#making.get(name);
    if (known !== undefined) return known;
    const backing = parseLocalOptions(name, options.options ?? {});
    const labels = anonymous ? { [anonymousLabel]: "", ...options.labels } : (options.labels ?? null);
    const making = this.#make(name, labels, options.options ?? null, { backing, fill: options.fill });
    this.#making.set(name, making);
    try {
      return await making;
    } finally {
      this.#making.delete(name);
    }
  }

  async remove(name: string, { force, users }: Parameters<VolumeStore["remove"]>[1]): Promise<void> {
    if (!this.#volumes.has(name)) {
      if (force) return;
      throw new EngineError("not-found", `get ${name}: no such volume`);
    }
    if (users.length > 0) throw new EngineError("conflict", `remove ${name}: volume is in use - [${users.join(", ")}]`);
    this.#volumes.delete(name);
    await this.#throwAway(name);
  }

  backing(name: string): LocalBacking {
    return parseLocalOptions(name, this.get(name).Options ?? {});
  }

  async rename(name: string, newName: string): Promise<void> {
    checkName(newName);
    const record = this.get(name);
    if (this.#volumes.has(newName) || this.#making.has(newName)) throw new EngineError("conflict", `volume ${newName} already exists`);
    // The record on disk does not say its name: the directory does.
    try {
      await rename(join(this.#root, name), join(this.#root, newName));
      await syncDirectory(this.#root);
    } catch (error) {
      throw asStorageError(error, `rename ${name}`);
    }
    this.#volumes.delete(name);
    const old = join(this.#root, name, "_data");
    this.#volumes.set(newName, { ...record, Name: newName, Mountpoint: record.Mountpoint === old ? join(this.#root, newName, "_data") : record.Mountpoint });
  }

  async isEmpty(name: string): Promise<boolean> {
    try {
      return (await readdir(this.get(name).Mountpoint)).length === 0;
    } catch (error) {
      if (errnoOf(error) === "ENOENT")
        throw new EngineError("not-found", `volume ${name}: its directory ${this.get(name).Mountpoint} does not exist`, { cause: error });
      throw asStorageError(error, `volume ${name}`);
    }
  }

  async sweep(): Promise<void> {
    for (const name of await readdir(this.#root)) {
      if (name === ".trash" || this.#volumes.has(name) || this.#making.has(name)) continue;
      await this.#throwAway(name);
    }
    for (const name of await readdir(join(this.#root, ".trash"))) this.#delete(name);
    await this.#deletions;
  }

  async #make(
    name: string,
    labels: Record<string, string> | null,
    options: Record<string, string> | null,
    { backing, fill }: { readonly backing: LocalBacking; readonly fill: ((directory: string) => Promise<void>) | undefined },
  ): Promise<VolumeRecord> {
    const directory = join(this.#root, name);
    const data = join(directory, "_data");
    const record: VolumeRecord = {
      Name: name,
      Driver: "local",
      // A bind volume is its device: there is nothing to mount first.
      Mountpoint: backing.kind === "bind" ? backing.device : data,
      CreatedAt: `${new Date().toISOString().slice(0, 19)}Z`,
      Labels: labels,
      Scope: "local",
      Options: options,
    };
    try {
      // What a crash left of an earlier attempt.
      await this.#throwAway(name);
      await mkdir(directory, { mode: 0o701 });
      await mkdir(data, { mode: 0o755 });
      await fill?.(data);
      await writeDurably(join(directory, "volume.json"), `${JSON.stringify({ version: 1, ...record, Mountpoint: undefined }, undefined, 1)}\n`);
      await syncDirectory(this.#root);
    } catch (error) {
      await this.#throwAway(name);
      throw asStorageError(error, `create ${name}`);
    }
    this.#volumes.set(name, record);
    return record;
  }

  /** Out of view at once, deleted in the background. */
  async #throwAway(name: string): Promise<void> {
    const target = `${name.slice(0, 200)}.${randomBytes(6).toString("hex")}`;
    try {
      await rename(join(this.#root, name), join(this.#root, ".trash", target));
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return;
      throw asStorageError(error, `remove ${name}`);
    }
    this.#delete(target);
  }

  #delete(name: string): void {
    this.#deletions = this.#deletions.then(async () => {
      try {
        await this.#removeTree(join(this.#root, ".trash", name));
      } catch (error) {
        this.#log("warn", `a removed volume could not be deleted (the next start tries again): ${error instanceof Error ? error.message : String(error)}`);
      }
    });
  }
}

function isName(name: string): boolean {
  return namePattern.test(name) && name.length <= maxName;
}

function checkName(name: string): void {
  if (name.length === 1) throw new EngineError("invalid", `create ${name}: volume name is too short, names should be at least two alphanumeric characters`);
  if (name.length > maxName)
    throw new EngineError("invalid", `create ${name.slice(0, 40)}…: volume name is too long, at most ${maxName} characters are possible`);
  if (!namePattern.test(name)) {
    throw new EngineError(
      "invalid",
      `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
}

/** undefined when the directory is none of a volume that was finished. */
async function readRecord(directory: string, name: string): Promise<VolumeRecord | undefined> {
  const path = join(directory, "volume.json");
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return undefined;
    throw asStorageError(error, path);
  }
  const fields = new JsonFields(parseJson(bytes, path), path);
  if (fields.number("version") !== 1)
    throw new EngineError("storage", `${path} has an unknown version`, { hint: "it was written by a newer wherry: use that one" });
  const options = fields.map("Options") ?? null;
  const backing = parseLocalOptions(name, options ?? {});
  return {
    Name: name,
    Driver: "local",
    Mountpoint: backing.kind === "bind" ? backing.device : join(directory, "_data"),
    CreatedAt: fields.text("CreatedAt") ?? "",
    Labels: fields.map("Labels") ?? null,
    Scope: "local",
    Options: options,
  };
}

async function writeDurably(path: string, text: string): Promise<void> {
  {
    await using file = await open(`${path}.tmp`, "w", 0o600);
    await file.writeFile(text);
    await file.sync();
  }
  await rename(`${path}.tmp`, path);
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}
