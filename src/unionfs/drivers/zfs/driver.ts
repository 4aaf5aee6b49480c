import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import { findProgram } from "#linux/find-program.ts";
import type { Helper } from "#linux/helper.ts";
import { type MountInfo, mountOf, parseMountinfo } from "#linux/mountinfo.ts";
import { rmdirIfThere, writeDurably } from "../../layer-directory.ts";
import type { DriverProbe, RootMount, StorageDriver } from "../../mod.ts";
import { readStorageOptions, type StorageOptions } from "../../storage-options.ts";
import { openTreeDriver } from "../../tree-driver.ts";
import { Zfs } from "./zfs-program.ts";

const name = "zfs";
const known = { "zfs.fsname": true } as const;
/** In the directory of a layer or snapshot: the last component of its dataset. Written before the dataset is made, so that none is nobody's. */
const datasetFile = "dataset";
/** A layer's snapshot, which those above are clones of. */
const snapshotName = "layer";
/** Whose a dataset is: the data root. */
const ownerProperty = "wherry:root";
/** Where a program in user space mounts datasets. */
const mountDirectory = "tmp-mnt";

export async function probeZfs(root: string, _helper: Helper, given: StorageOptions): Promise<DriverProbe> {
  if ((await findProgram("zfs")) === undefined) return { supported: false, reason: "the program zfs is not installed (Debian: zfsutils-linux in contrib)" };
  if (given.some((option) => /^zfs\.fsname=/i.test(option))) return { supported: true };
  const mount = await mountBelow(root);
  if (mount !== undefined && /^(fuse\.)?zfs$/.test(mount.fstype)) return { supported: true };
  return {
    supported: false,
    reason: `${root} is on ${mount?.fstype ?? "no filesystem that is known here"}, not on zfs (zfs.fsname names a dataset elsewhere)`,
  };
}

/** A layer or snapshot is a dataset, a clone of the one below. @see docs/adr/0053-zfs.md */
export async function openZfs(dataRoot: string, helper: Helper, given: StorageOptions): Promise<StorageDriver> {
  const options = readStorageOptions(name, given, known);
  const program = await findProgram("zfs");
  if (program === undefined) throw new EngineError("unsupported", "storage driver zfs: the program zfs is not installed");
  const zfs = new Zfs(helper, program);
  const parent = options.get("zfs.fsname") ?? (await mountBelow(dataRoot))?.source ?? "";
  const inKernel = /\tzfs$/m.test(await readFile("/proc/filesystems", "utf8"));
  const root = join(dataRoot, name);
  await mkdir(inKernel ? root : join(root, mountDirectory), { recursive: true, mode: 0o710 });
  const datasets = new Datasets(zfs, { parent, root: await realpath(root), inKernel });
  await datasets.sweep();
  return openTreeDriver(dataRoot, helper, {
    name,
    capabilities: { nativeDiff: false, quota: true, idmap: inKernel },
    keep: new Set([mountDirectory]),
    status: async () => [...(await zfs.status(parent)), ...(inKernel ? [] : ([["Implementation", "zfs-fuse, in user space"]] as const))],
    create: (from, to) => datasets.create(from, to),
    root: (directory, readonly) => datasets.mount(directory, readonly),
    seal: (directory) => datasets.seal(directory),
    destroy: (directory) => datasets.destroy(directory),
    limit: (directory, sizeBytes) => datasets.limit(directory, sizeBytes),
  });
}

async function mountBelow(path: string): Promise<MountInfo | undefined> {
  return mountOf(parseMountinfo(await readFile("/proc/self/mountinfo", "utf8")), await realpath(path));
}

interface Place {
  /** The dataset below which all others are made. */
  readonly parent: string;
  /** The driver's directory. */
  readonly root: string;
  /** False: a program in user space has mounted each dataset below {@link mountDirectory} (zfs-fuse). */
  readonly inKernel: boolean;
}

class Datasets {
  readonly #zfs: Zfs;
  readonly #place: Place;

  constructor(zfs: Zfs, place: Place) {
    this.#zfs = zfs;
    this.#place = place;
  }

  async create(from: string | undefined, to: string): Promise<void> {
    const id = randomBytes(16).toString("hex");
    const { root, inKernel } = this.#place;
    await writeDurably(join(to, datasetFile), id);
    const properties = { mountpoint: inKernel ? "legacy" : join(root, mountDirectory, id), [ownerProperty]: root };
    if (from === undefined) await this.#zfs.create(this.#full(id), properties);
    else await this.#zfs.clone(`${this.#full(await this.#idIn(from))}@${snapshotName}`, this.#full(id), properties);
  }

  async mount(directory: string, readonly: boolean): Promise<RootMount> {
    const id = await this.#idIn(directory);
    if (this.#place.inKernel) return { kind: "fs", fstype: "zfs", source: this.#full(id), options: readonly ? ["ro"] : [], readonly };
    return { kind: "bind", source: join(this.#place.root, mountDirectory, id), readonly };
  }

  /** A snapshot takes in all that has been written, and is on disk when it is there. */
  async seal(directory: string): Promise<void> {
    await this.#zfs.snapshot(`${this.#full(await this.#idIn(directory))}@${snapshotName}`);
  }

  async limit(directory: string, sizeBytes: number): Promise<void> {
    await this.#zfs.set(this.#full(await this.#idIn(directory)), "quota", String(sizeBytes));
  }

  async destroy(directory: string): Promise<void> {
    const id = await readId(directory);
    if (id !== undefined) await this.#destroy(id);
  }

  async #destroy(id: string): Promise<void> {
    await this.#zfs.destroy(this.#full(id));
    if (!this.#place.inKernel) await rmdirIfThere(join(this.#place.root, mountDirectory, id));
  }

  /** Datasets of this data root's that no directory names: a crash of the machine may have lost that. Those on top go first. */
  async sweep(): Promise<void> {
    const { parent, root } = this.#place;
    const named = new Set<string>();
    for (const directory of [root, join(root, "trash")]) for (const id of await idsBelow(directory)) named.add(id);
    const lost = (await this.#zfs.list(parent, ownerProperty)).filter(({ owner, name: full }) => owner === root && !named.has(full.slice(parent.length + 1)));
    for (const { name: full } of lost.reverse()) await this.#destroy(full.slice(parent.length + 1));
  }

  #full(id: string): string {
    return `${this.#place.parent}/${id}`;
  }

  async #idIn(directory: string): Promise<string> {
    const id = await readId(directory);
    if (id === undefined) throw new EngineError("storage", `${directory}: the file ${datasetFile}, which says where its content lies, is gone`);
    return id;
  }
}

async function idsBelow(directory: string): Promise<readonly string[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  });
  return (await Promise.all(names.map((entry) => readId(join(directory, entry))))).filter((id) => id !== undefined);
}

async function readId(directory: string): Promise<string | undefined> {
  try {
    return (await readFile(join(directory, datasetFile), "utf8")).trim();
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}
