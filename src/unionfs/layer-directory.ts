import { randomBytes } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { lstat, mkdir, open, readdir, rename, rmdir, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type ChainID, type Digest, hexOf, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { Gather } from "#core/gather.ts";
import type { IdMappings } from "#core/id-mappings.ts";
import type { FileTree } from "#linux/file-tree.ts";
import type { Helper } from "#linux/helper.ts";
import { type ErofsFiles, erofsForms } from "./erofs/receiver.ts";
import { LayerIndex } from "./layer-index.ts";
import { asStorageError } from "#core/storage-error.ts";

/** What `layer.json` says of a committed layer. */
interface LayerJson {
  readonly version: 1;
  readonly chain: ChainID;
  readonly parent: ChainID | null;
}

/** What is known of a committed layer. */
export interface LayerEntry {
  readonly parent: ChainID | undefined;
  /** What the driver notes of it, beside what lies in its directory. */
  readonly note?: LayerNote;
}

/** Of layers that are stacked: the short link, and of images which files they consist of. */
export interface LayerNote {
  readonly link: string;
  readonly files?: ErofsFiles;
}

/** A snapshot that a container or build step writes to. */
export interface ActiveSnapshot {
  readonly parent: ChainID | undefined;
  /** Its contents need not survive a crash of the machine: the boot it belongs to. */
  readonly volatileBoot?: string;
  /** @see SnapshotOptions.owners */
  readonly owners?: IdMappings;
}

/** In a snapshot's directory: its {@link ActiveSnapshot.owners}, as JSON. */
const ownersFile = "owners.json";

/** Called for a directory in the trash before its tree is removed file by file. */
type Destroy = (path: string) => Promise<void>;

/** What is discarded is deleted after a while, with all that was discarded meanwhile, by one worker. */
const GATHER_MS = 100;

const keyPattern = /^[a-z0-9][a-z0-9-]{0,79}$/;
const reservedKey = /^(l|trash|pool)$|^tmp-|-init$/;
const noParent = "none";

/**
 * The directory that a driver keeps its layers and snapshots in, and what both drivers do alike with it:
 *
 * - `<chain hex>/` with a `layer.json` is a committed layer, `<key>/` with a link `parent` an active snapshot. The JSON is made before
 *   the rename, so a directory that a crash left half made is none and is swept; so is a snapshot that nobody has noted, whole or not.
 * - {@link commit} and {@link discard} are one rename; what is discarded lies in `trash/` until it has been deleted in the background.
 * - Which layers and snapshots there are is read once, at {@link openLayerDirectory}; afterwards memory answers. What their JSON says is once more in one file ({@link LayerIndex}).
 */
export class LayerDirectory {
  readonly root: string;
  readonly helper: Helper;
  /** Committed layers. */
  readonly layers: Map<ChainID, LayerEntry> = new Map();
  readonly active: Map<string, ActiveSnapshot> = new Map();
  /** How many layers and snapshots lie on a layer. */
  readonly #onTop = new Map<ChainID, number>();
  readonly #index: LayerIndex<LayerEntry>;
  readonly #trash: string;
  readonly #destroy: Destroy | undefined;
  readonly #preparing = new Set<string>();
  readonly #committing = new Map<ChainID, Promise<void>>();
  /** Names in the trash. */
  readonly #removals: Gather<string> = new Gather(GATHER_MS, (names) => this.#delete(names));
  /** Of those, what has not been deleted yet. */
  readonly #queue = new Set<string>();
  #failures: unknown[] = [];

  constructor(root: string, helper: Helper, { destroy, index }: { readonly destroy: Destroy | undefined; readonly index: LayerIndex<LayerEntry> }) {
    this.root = root;
    this.#index = index;
    this.helper = helper;
    this.#trash = join(root, "trash");
    this.#destroy = destroy;
  }

  /** Directory of a committed layer or an active snapshot. */
  path(key: string | ChainID): string {
    return join(this.root, isDigest(key) ? hexOf(key) : key);
  }

  /** Makes an active snapshot: `fill` makes what the driver needs in the directory, which exists. */
  async prepare(key: string, snapshot: ActiveSnapshot, fill: (directory: string) => Promise<void>): Promise<void> {
    if (!keyPattern.test(key) || reservedKey.test(key)) throw new EngineError("invalid", `invalid snapshot key "${key.slice(0, 100)}"`);
    if (snapshot.parent !== undefined && !this.layers.has(snapshot.parent)) throw new EngineError("not-found", `layer ${snapshot.parent} not found`);
    if (this.active.has(key) || this.#preparing.has(key)) throw new EngineError("conflict", `snapshot "${key}" exists already`);
    this.#preparing.add(key);
    const directory = this.path(key);
    let made = false;
    try {
      await mkdir(directory, { mode: 0o710 });
      made = true;
      const { volatileBoot, owners } = snapshot;
      if (owners !== undefined) await writeDurably(join(directory, ownersFile), JSON.stringify(owners));
      await Promise.all([
        fill(directory),
        ...(volatileBoot === undefined ? [] : [symlink(volatileBoot, join(directory, "volatile"))]),
        symlink(snapshot.parent === undefined ? noParent : join("..", hexOf(snapshot.parent)), join(directory, "parent")),
      ]);
      this.addSnapshot(key, snapshot);
    } catch (error) {
      if (made) await this.#throwAway(key);
      if (errnoOf(error) === "EEXIST") throw new EngineError("conflict", `snapshot "${key}" exists already`, { cause: error });
      throw asStorageError(error, `preparing snapshot "${key}"`);
    } finally {
      this.#preparing.delete(key);
    }
  }

  /** Keeps {@link sweep} away from a directory of this name while it is being made. */
  async making<T>(name: string, work: () => Promise<T>): Promise<T> {
    this.#preparing.add(name);
    try {
      return await work();
    } finally {
      this.#preparing.delete(name);
    }
  }

  /** The record of an active snapshot; EngineError not-found. */
  snapshot(key: string): ActiveSnapshot {
    const found = this.active.get(key);
    if (found === undefined) throw new EngineError("not-found", `snapshot "${key}" not found`);
    return found;
  }

  /** Turns the snapshot into a layer on `parent`, `finish` adding what the driver wants on disk first. False when the layer was committed meanwhile: the snapshot is dropped. */
  async commit(key: string, chain: ChainID, parent: ChainID | undefined, finish: (directory: string) => Promise<LayerNote | undefined>): Promise<boolean> {
    for (let other = this.#committing.get(chain); other !== undefined; other = this.#committing.get(chain)) await other.catch(() => undefined);
    this.snapshot(key);
    if (parent !== undefined && !this.layers.has(parent)) throw new EngineError("not-found", `layer ${parent} not found`);
    if (this.layers.has(chain)) {
      await this.discard(key);
      return false;
    }
    const work = this.#commit(key, chain, parent, finish);
    this.#committing.set(chain, work);
    try {
      await work;
      return true;
    } catch (error) {
      throw asStorageError(error, `committing layer ${chain}`);
    } finally {
      this.#committing.delete(chain);
    }
  }

  async #commit(key: string, chain: ChainID, parent: ChainID | undefined, finish: (directory: string) => Promise<LayerNote | undefined>): Promise<void> {
    const directory = this.path(key);
    const note = await finish(directory);
    const json: LayerJson = { version: 1, chain, parent: parent ?? null };
    await writeFile(join(directory, "layer.json"), `${JSON.stringify(json)}\n`);
    await rename(directory, this.path(chain));
    this.#dropSnapshot(key);
    const entry: LayerEntry = { parent, ...(note === undefined ? {} : { note }) };
    this.addLayer(chain, entry);
    await this.#index.set(hexOf(chain), entry);
  }

  /** True while a layer or snapshot lies on top of this one. */
  isParent(chain: ChainID): boolean {
    return (this.#onTop.get(chain) ?? 0) > 0;
  }

  /** For {@link openLayerDirectory}: what it has found. */
  addLayer(chain: ChainID, entry: LayerEntry): void {
    this.layers.set(chain, entry);
    this.#count(entry.parent, 1);
  }

  /** At the end of a start, when the driver has noted what it knows: what has been found is what the index says. */
  saveIndex(): Promise<void> {
    return this.#index.replace(new Map(Array.from(this.layers, ([chain, entry]) => [hexOf(chain), entry])));
  }

  /** For {@link openLayerDirectory}: what it has found. */
  addSnapshot(key: string, snapshot: ActiveSnapshot): void {
    this.active.set(key, snapshot);
    this.#count(snapshot.parent, 1);
  }

  /** Forgets a layer; its directory stays. */
  dropLayer(chain: ChainID): void {
    this.#count(this.layers.get(chain)?.parent, -1);
    this.layers.delete(chain);
  }

  /** False when there was no such snapshot. */
  #dropSnapshot(key: string): boolean {
    this.#count(this.active.get(key)?.parent, -1);
    return this.active.delete(key);
  }

  #count(parent: ChainID | undefined, change: number): void {
    if (parent !== undefined) this.#onTop.set(parent, (this.#onTop.get(parent) ?? 0) + change);
  }

  /** Out of view at once, deleted in the background. */
  async discard(key: string | ChainID): Promise<void> {
    if (isDigest(key)) {
      if (!this.layers.has(key)) return;
      if (this.isParent(key)) throw new EngineError("conflict", `layer ${key} is in use by a layer or snapshot on top of it`);
      this.dropLayer(key);
      await this.#index.set(hexOf(key), undefined);
      await this.#throwAway(hexOf(key));
    } else if (this.#dropSnapshot(key)) {
      await this.#throwAway(key);
    }
  }

  /** Throws another directory of the driver's (an init layer), or one in it, away; missing is no error. */
  async discardDirectory(name: string): Promise<void> {
    await this.#throwAway(name);
  }

  /** Removes what is neither committed, nor `active`, nor `keep` (further names that the driver knows), and what lies in the trash. */
  async sweep(active: ReadonlySet<string>, keep: (name: string) => boolean): Promise<void> {
    for (const name of await readdir(this.root)) {
      if (name === "trash" || keep(name) || this.layers.has(`sha256:${name}` as ChainID) || this.#preparing.has(name)) continue;
      if (this.active.has(name) && active.has(name)) continue;
      this.#dropSnapshot(name);
      await this.#throwAway(name);
    }
    for (const name of await readdir(this.#trash)) if (!this.#queue.has(name)) this.#remove(name);
  }

  /** Waits for background removals; rejects when one has failed (what is left is tried again by the next sweep). */
  async idle(): Promise<void> {
    await this.#removals.flush();
    const failures = this.#failures;
    this.#failures = [];
    if (failures.length > 0)
      throw new EngineError("storage", `could not delete from ${this.#trash}: ${failures.map(String).join("; ")}`, { cause: failures[0] });
  }

  async #throwAway(name: string): Promise<void> {
    const target = `${name.replace("/", ".")}.${randomBytes(6).toString("hex")}`;
    try {
      await rename(join(this.root, name), join(this.#trash, target));
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return;
      throw asStorageError(error, `removing ${name}`);
    }
    this.#remove(target);
  }

  #remove(name: string): void {
    this.#queue.add(name);
    this.#removals.add(name);
  }

  async #delete(names: readonly string[]): Promise<void> {
    // The trees are what containers wrote: deeper than PATH_MAX, if they like. The helper goes by descriptors.
    let tree: FileTree | undefined;
    for (const name of names) {
      try {
        await this.#destroy?.(join(this.#trash, name));
        tree ??= await this.helper.openTree(this.#trash);
        await tree.remove(name);
        await tree.flush();
      } catch (error) {
        this.#failures.push(error);
      }
      this.#queue.delete(name);
    }
    await tree?.close();
  }
}

/** Opens (and makes, when missing) a driver's directory and reads what is in it. The driver calls {@link LayerDirectory.saveIndex} when it has noted its own. */
export async function openLayerDirectory(root: string, helper: Helper, destroy?: Destroy): Promise<LayerDirectory> {
  await mkdir(join(root, "trash"), { recursive: true, mode: 0o710 });
  const index = await LayerIndex.open(join(dirname(root), "layerdb", `${basename(root)}.layers`), parseEntry);
  const directory = new LayerDirectory(root, helper, { destroy, index });
  // What the index lacks is read in thousands of small files: a tenth of the time when nobody is asked to wait for each.
  for (const name of await readdir(root)) readOne(directory, name, index.get(name));
  // Without what it lies on, a layer is none: a crash of the machine, before LayerStore.sync, may have left such.
  for (let before = -1; before !== directory.layers.size; ) {
    before = directory.layers.size;
    for (const [chain, { parent }] of directory.layers) if (parent !== undefined && !directory.layers.has(parent)) directory.dropLayer(chain);
  }
  return directory;
}

/** An entry of the index; undefined when it is none of ours. */
function parseEntry(value: unknown): LayerEntry | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { parent, note } = value as { readonly parent?: unknown; readonly note?: { readonly link?: unknown; readonly files?: unknown } };
  if (parent !== undefined && !(typeof parent === "string" && isDigest(parent))) return undefined;
  if (note === undefined) return { parent };
  const { link, files } = note;
  if (typeof link !== "string" || !isLink(link)) return undefined;
  if (files === undefined) return { parent, note: { link } };
  const form = erofsForms.find((known) => known === files);
  return form === undefined ? undefined : { parent, note: { link, files: form } };
}

/** A short link's name: 26 characters of base 32, as Docker's. */
export function isLink(text: string): boolean {
  return /^[A-Z2-7]{26}$/.test(text);
}

function readOne(directory: LayerDirectory, name: string, known: LayerEntry | undefined): void {
  const chain = `sha256:${name}`;
  // A directory has a layer's name when it is whole; what it lies on is a matter of its name, too.
  if (known !== undefined && isDigest(chain)) {
    directory.addLayer(chain, known);
    return;
  }
  if (!keyPattern.test(name) || reservedKey.test(name)) return;
  const json = readLayerJson(join(directory.root, name, "layer.json"));
  if (json !== undefined) {
    // With the name of another chain, or not readable, it is what a crash has left of a commit: neither a layer nor a snapshot.
    if (json !== "damaged" && json.chain === chain) directory.addLayer(json.chain, { parent: json.parent ?? undefined });
    return;
  }
  const [parent, volatileBoot] = [linkTarget(join(directory.root, name, "parent")), linkTarget(join(directory.root, name, "volatile"))];
  if (parent === undefined) return;
  const owners = textIn(join(directory.root, name, ownersFile));
  directory.addSnapshot(name, {
    parent: parent === noParent ? undefined : (`sha256:${parent.slice(3)}` as Digest),
    ...(volatileBoot === undefined ? {} : { volatileBoot }),
    // Our own file, written whole before the link `parent`.
    ...(owners === undefined ? {} : { owners: JSON.parse(owners) as IdMappings }),
  });
}

function textIn(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
    throw asStorageError(error, `reading ${path}`);
  }
}

function readLayerJson(path: string): LayerJson | "damaged" | undefined {
  const text = textIn(path);
  if (text === undefined) return undefined;
  try {
    // Our own file; empty or in part only when the machine crashed before it was on disk.
    return JSON.parse(text) as LayerJson;
  } catch {
    return "damaged";
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return undefined;
    throw asStorageError(error, `reading ${path}`);
  }
}

/** rmdir; missing is no error. */
export async function rmdirIfThere(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}

/** Writes a file so that it is there whole after a crash. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  {
    await using file = await open(temporary, "w", 0o600);
    await file.writeFile(text);
    await file.sync();
  }
  await rename(temporary, path);
}

/** fsync of a directory: makes renames in it last. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}

/** True when something has this name. */
export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return false;
    throw asStorageError(error, `looking at ${path}`);
  }
}
