import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { lstat, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChainID, hexOf, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { IdMappings } from "#core/id-mappings.ts";
import type { Helper } from "#linux/helper.ts";
import { bootId } from "./boot-id.ts";
import { unlinkIfThere } from "#linux/unlink-if-there.ts";
import { exists, isLink, type LayerDirectory, type LayerNote, openLayerDirectory, rmdirIfThere } from "./layer-directory.ts";
import type { LayerImage } from "#linux/layer-image.ts";
import type { ErofsForm } from "./erofs/metadata-tree.ts";
import { archiveFile, type ErofsFiles, erofsFiles, erofsLayer } from "./erofs/receiver.ts";
import { MergedChains, mergedFile } from "./erofs/merged-chains.ts";
import type { ImagePlace, DriverCapabilities, RootMount, SnapshotOptions, StorageDriver } from "./mod.ts";
import { shiftedTree } from "./shifted-tree.ts";
import { openLayers, openUnion } from "./trees.ts";
import { UnionView } from "./union-view.ts";
import { asStorageError } from "#core/storage-error.ts";
import { treeUsage } from "./usage.ts";
import { makeInitLayer } from "./init-layer.ts";
import { copyUnion, linkTree } from "./copy-tree.ts";

/** Made by the kernel in the work directory at the first mount with `volatile`. */
const volatileMarker = "work/work/incompat";
/** In a snapshot: it lies on its chain's one image ({@link MergedChains}). */
const onMerged = "on-merged";
/** A name that no key can have. */
const mountDirectory = "tmp-mnt";

/** Where a committed or init layer lies: its directory below the root, and its short link. */
interface Lower {
  readonly directory: string;
  readonly link: string;
  readonly image?: LayerImage;
}

/** In which way a driver stacks its directories. */
export interface OverlayKind {
  readonly name: string;
  readonly capabilities: DriverCapabilities;
  /** Every layer is a whole tree, which shares the files of the one below by hard links, so that one lower directory is enough. */
  readonly flat: boolean;
  /** Every layer is an image, and the archive or file that it points into ({@link ErofsReceiver}), instead of a directory `diff`. */
  readonly images?: ImageKind;
  status(root: string): Promise<readonly (readonly [string, string])[]>;
  /** Options of a mount by the kernel; or the mount by a FUSE program. */
  readonly mount: { readonly options: readonly string[] } | ((layers: FuseLayers) => RootMount);
  /** Bounds what may be written to a snapshot's directory (it holds `diff` and `work`); or why it cannot. */
  readonly limit: DirectoryLimit | { readonly reason: string };
  /** @see StorageDriver.defaultSizeBytes */
  readonly defaultSizeBytes?: number;
}

/** What this kernel makes of images. */
export interface ImageKind {
  /** Of new layers. */
  readonly form: ErofsForm;
  /** It mounts block devices only. */
  readonly loop: boolean;
  /** Its overlay takes them only where a path leads to them. */
  readonly attach: boolean;
}

/** Absolute directories, top-most first. */
export interface FuseLayers {
  readonly lower: readonly string[];
  readonly upper: string | undefined;
  readonly work: string | undefined;
  /** An empty directory. */
  readonly mountpoint: string;
}

/** A bound on the bytes below a directory. */
export interface DirectoryLimit {
  /** `directory` is new and holds nothing but empty directories. */
  set(directory: string, sizeBytes: number): Promise<void>;
}

/**
 * Opens `<dataRoot>/<name>`:
 *
 *     <chain hex>/{diff,link,lower,layer.json}   a layer
 *     <chain hex>-init/{diff,link}               mount points that containers on this layer need (see init-layer.ts)
 *     <key>/{diff,work,parent}                   a writable snapshot
 *     l/<26 letters>                             → ../<layer>/diff, so that mount options stay short
 *     tmp-mnt/                                   where a FUSE program mounts, or images on their way to an overlay, in a mount namespace that nobody else sees
 *     trash/                                     being deleted
 */
export async function openOverlayDriver(dataRoot: string, helper: Helper, kind: OverlayKind): Promise<StorageDriver> {
  const root = join(dataRoot, kind.name);
  await mkdir(join(root, "l"), { recursive: true, mode: 0o710 });
  if (typeof kind.mount === "function" || kind.images?.attach === true) await mkdir(join(root, mountDirectory), { recursive: true, mode: 0o700 });
  const directory = await openLayerDirectory(root, helper);
  const driver = new OverlayDriver(directory, await bootId(), kind);
  await driver.load();
  return driver;
}

class OverlayDriver implements StorageDriver {
  readonly name: string;
  readonly capabilities: DriverCapabilities;
  readonly #kind: OverlayKind;
  readonly #directory: LayerDirectory;
  readonly #boot: string;
  /** Init layers by the layer they lie on; undefined = the one on nothing. */
  readonly #inits = new Map<ChainID | undefined, Promise<Lower>>();
  /** Lower directories of a chain, top-most first. */
  readonly #chains = new Map<ChainID, readonly Lower[]>();
  /** Volatile snapshots that {@link mounts} has answered for in this process. */
  readonly #mounted = new Set<string>();

  /** Flat: snapshots that hold a whole tree, to become a layer. */
  readonly #whole = new Set<string>();
  /** Images. */
  readonly #merged: MergedChains | undefined;
  readonly defaultSizeBytes?: number;
  readonly layersApart: boolean;
  readonly layersAreUppers: boolean;
  readonly receive?: (key: string) => Promise<ImagePlace>;
  readonly archive?: (chain: ChainID) => string | undefined;
  readonly imageDirectory?: (chain: ChainID) => string;

  constructor(directory: LayerDirectory, boot: string, kind: OverlayKind) {
    this.name = kind.name;
    this.capabilities = kind.capabilities;
    this.#kind = kind;
    this.#directory = directory;
    this.#boot = boot;
    this.layersApart = !kind.flat;
    // A FUSE program has notes of its own in an upper directory.
    this.layersAreUppers = !kind.flat && kind.images === undefined && typeof kind.mount !== "function";
    if (kind.defaultSizeBytes !== undefined) this.defaultSizeBytes = kind.defaultSizeBytes;
    const { images } = kind;
    if (images === undefined) return;
    this.#merged = new MergedChains(
      (chain) => this.#directory.path(chain),
      (chain) => this.#lowers(chain).map(({ image }) => image!),
    );
    this.receive = async (key) => {
      this.#directory.snapshot(key);
      return { directory: this.#directory.path(key), form: images.form };
    };
    this.imageDirectory = (chain) => this.#directory.path(this.#known(chain));
    this.archive = (chain) =>
      this.#directory.layers.get(this.#known(chain))?.note?.files === "contents" ? undefined : join(this.#directory.path(chain), archiveFile);
  }

  /** Reads the short links, and makes those that a crash has prevented. Init layers of an earlier boot, which were not synced, go. */
  async load(): Promise<void> {
    const { root, layers } = this.#directory;
    const names = new Set(await readdir(root));
    const inits: (ChainID | undefined)[] = [undefined, ...layers.keys()].filter((chain) => names.has(initName(chain)));
    for (const chain of inits) {
      const directory = initName(chain);
      const link = readLink(join(root, directory, "link"));
      if (link !== undefined && readText(join(root, directory, "boot")) === this.#boot) this.#inits.set(chain, Promise.resolve({ directory, link }));
      else await this.#directory.discardDirectory(directory);
    }
    const wanted = new Map<string, string>();
    for (const [chain, entry] of layers) {
      const note = entry.note ?? (await this.#readNote(chain));
      if (entry.note === undefined) layers.set(chain, { ...entry, note });
      if (note.files !== undefined) this.#requireForm(chain, note.files);
      wanted.set(note.link, hexOf(chain));
    }
    await this.#directory.saveIndex();
    for (const init of this.#inits.values()) wanted.set((await init).link, (await init).directory);
    const present = new Set(await readdir(join(root, "l")));
    for (const link of present) if (!wanted.has(link)) await unlinkIfThere(join(root, "l", link));
    for (const [link, directory] of wanted) if (!present.has(link)) await this.#link(directory, link);
  }

  /** @throws EngineError "unsupported" when it is one that this kernel cannot mount: the machine has been started with an older one */
  #requireForm(chain: ChainID, files: ErofsFiles): void {
    const { images } = this.#kind;
    if (images === undefined || images.form.archive || files === "contents") return;
    throw new EngineError(
      "unsupported",
      `layer ${chain} was stored by a newer kernel: this one mounts no EROFS image with blocks of 512 bytes (Linux 6.4 does)`,
      {
        hint: "start the machine with the kernel that it had, or use another --storage-driver and load the images again",
      },
    );
  }

  async #readNote(chain: ChainID): Promise<LayerNote> {
    const directory = this.#directory.path(chain);
    const found = readLink(join(directory, "link"));
    const link = found ?? newLink();
    if (found === undefined) await writeFile(join(directory, "link"), link);
    return { link, ...(this.#kind.images === undefined ? {} : { files: erofsFiles(directory) }) };
  }

  status(): Promise<readonly (readonly [string, string])[]> {
    return this.#kind.status(this.#directory.root);
  }

  async prepare(key: string, parent: ChainID | undefined, options: SnapshotOptions = {}): Promise<void> {
    const { sizeBytes, owners } = options;
    const { limit } = this.#kind;
    if (sizeBytes !== undefined && "reason" in limit)
      throw new EngineError("unsupported", `--storage-opt size is not supported by the ${this.name} driver here: ${limit.reason}`, {
        hint: "use a volume of a fixed size",
      });
    if (owners !== undefined) return this.#prepareCopy(key, parent, { sizeBytes, owners });
    const volatile = options.ephemeral === true && typeof this.#kind.mount !== "function";
    await this.#directory.prepare(key, { parent, ...(volatile ? { volatileBoot: this.#boot } : {}) }, async (directory) => {
      await Promise.all([mkdir(join(directory, "diff"), { mode: 0o755 }), mkdir(join(directory, "work"), { mode: 0o700 })]);
      if (sizeBytes !== undefined && "set" in limit) await limit.set(directory, sizeBytes);
      if (parent !== undefined && (await this.#merged?.find(parent)) !== undefined) await symlink(mergedFile, join(directory, onMerged));
    });
  }

  /** @see SnapshotOptions.owners */
  async #prepareCopy(
    key: string,
    parent: ChainID | undefined,
    { sizeBytes, owners }: { readonly sizeBytes: number | undefined; readonly owners: IdMappings },
  ): Promise<void> {
    const { helper } = this.#directory;
    const { limit } = this.#kind;
    const from = await this.#copied(parent);
    await this.#directory.prepare(key, { parent, owners }, async (directory) => {
      const to = join(directory, "diff");
      await mkdir(to, { mode: 0o755 });
      if (sizeBytes !== undefined && "set" in limit) await limit.set(directory, sizeBytes);
      await using source = await openLayers(helper, from);
      const target = shiftedTree(await helper.openTree(to), owners);
      try {
        await copyUnion(source.layers, target);
      } finally {
        await target.close();
      }
    });
  }

  /** What a private copy is a copy of: the chain with the mount points on it. */
  async #copied(parent: ChainID | undefined): Promise<RootMount> {
    return this.#stacked([await this.#init(parent), ...this.#lowers(parent)]);
  }

  async mounts(key: string | ChainID): Promise<RootMount> {
    if (isDigest(key)) return this.#chainMount(this.#known(key));
    const { parent, volatileBoot, owners } = this.#directory.snapshot(key);
    if (owners !== undefined) return { kind: "bind", source: this.#diff(key), readonly: false, owners };
    const init = await this.#init(parent);
    if (volatileBoot !== undefined) await this.#reuseVolatile(key, volatileBoot);
    const directory = this.#directory.path(key);
    return this.#overlay([init, ...(await this.#lowersUnder(key, parent))], {
      upper: join(directory, "diff"),
      work: join(directory, "work"),
      volatile: volatileBoot !== undefined,
    });
  }

  /** The layers that a snapshot lies on; or their one image, where it was made on that (what is below an upper directory must not be exchanged). */
  async #lowersUnder(key: string, parent: ChainID | undefined): Promise<readonly Lower[]> {
    if (parent === undefined || this.#merged === undefined) return this.#lowers(parent);
    const merged = (await exists(join(this.#directory.path(key), onMerged))) ? await this.#merged.get(parent) : undefined;
    if (merged !== undefined) return [{ ...this.#lowerOf(parent), image: merged }];
    await this.#merged.make(parent);
    return this.#lowers(parent);
  }

  async commit(key: string, chain: ChainID, on?: ChainID): Promise<void> {
    const parent = on ?? this.#directory.snapshot(key).parent;
    if (this.#kind.flat && !this.#whole.has(key))
      throw new EngineError("unsupported", `the ${this.name} driver cannot turn what a container wrote into a layer: it is no whole tree`, {
        hint: "apply its diff as a layer",
      });
    const link = newLink();
    let files: ErofsFiles | undefined;
    const committed = await this.#directory.commit(key, chain, parent, async (directory) => {
      if (this.#kind.images !== undefined) {
        files = erofsFiles(directory);
        await unlinkIfThere(join(directory, onMerged));
        await rmdirIfThere(join(directory, "diff"));
      }
      await this.#dropWork(key);
      await writeFile(join(directory, "link"), link);
      const below = this.#lowers(parent).map((lower) => `l/${lower.link}`);
      if (below.length > 0) await writeFile(join(directory, "lower"), below.join(":"));
      return { link, ...(files === undefined ? {} : { files }) };
    });
    this.#whole.delete(key);
    this.#mounted.delete(key);
    if (!committed) return;
    await this.#link(hexOf(chain), link);
  }

  /** What the kernel prepared there is no part of a layer. */
  async #dropWork(key: string): Promise<void> {
    const directory = this.#directory.path(key);
    await unlinkIfThere(join(directory, "volatile"));
    try {
      await rmdirIfThere(join(directory, "work"));
    } catch (error) {
      if (errnoOf(error) !== "ENOTEMPTY") throw error;
      await this.#directory.discardDirectory(`${key}/work`);
    }
  }

  async remove(key: string | ChainID): Promise<void> {
    if (!isDigest(key)) {
      this.#mounted.delete(key);
      this.#whole.delete(key);
      return this.#directory.discard(key);
    }
    const link = this.#directory.layers.get(key)?.note?.link;
    await this.#merged?.forget(key);
    await this.#directory.discard(key);
    const init = await this.#inits.get(key);
    this.#chains.delete(key);
    this.#inits.delete(key);
    if (link !== undefined) await unlinkIfThere(join(this.#directory.root, "l", link));
    if (init === undefined) return;
    await unlinkIfThere(join(this.#directory.root, "l", init.link));
    await this.#directory.discardDirectory(init.directory);
  }

  async has(chain: ChainID): Promise<boolean> {
    return this.#directory.layers.has(chain);
  }

  async parent(chain: ChainID): Promise<ChainID | undefined> {
    return this.#directory.layers.get(this.#known(chain))?.parent;
  }

  async list(): Promise<{ readonly layers: readonly ChainID[]; readonly active: readonly string[] }> {
    return { layers: [...this.#directory.layers.keys()].sort(), active: [...this.#directory.active.keys()].sort() };
  }

  async usage(key: string | ChainID): Promise<{ readonly bytes: number; readonly inodes: number; readonly allocatedBytes: number }> {
    const { helper } = this.#directory;
    if (this.#kind.images === undefined || !isDigest(key)) return treeUsage(await helper.openTree(this.#diff(key)));
    const usage = await treeUsage(await openUnion(helper, this.#layerMount(this.#lowerOf(this.#known(key)))));
    // On the disk there are but its few files.
    const files = await Promise.all((await readdir(this.#directory.path(key))).map((name) => lstat(join(this.#directory.path(key), name))));
    return { ...usage, allocatedBytes: files.reduce((sum, { blocks }) => sum + blocks * 512, 0) };
  }

  async applyTarget(key: string): Promise<{ readonly root: RootMount; readonly whiteouts: "overlay" | "delete" }> {
    const { parent } = this.#directory.snapshot(key);
    const root: RootMount = { kind: "bind", source: this.#diff(key), readonly: false };
    if (!this.#kind.flat) return { root, whiteouts: "overlay" };
    if (parent !== undefined && !this.#whole.has(key)) await this.#linkWhole(parent, key);
    this.#whole.add(key);
    return { root, whiteouts: "delete" };
  }

  async changes(key: string): ReturnType<StorageDriver["changes"]> {
    const { parent, owners } = this.#directory.snapshot(key);
    if (owners !== undefined) return { kind: "compare", root: await this.mounts(key), parent: await this.#copied(parent) };
    return { kind: "upper", dir: this.#diff(key), lower: parent === undefined ? undefined : this.#chainMount(parent) };
  }

  async sweep(active: ReadonlySet<string>): Promise<void> {
    // What a crash has left half made has a name that nobody knows.
    await this.#merged?.settled();
    const inits = new Set([initName(undefined), ...[...this.#directory.layers.keys()].map(initName)]);
    await this.#directory.sweep(active, (name) => name === "l" || name === mountDirectory || inits.has(name));
  }

  async idle(): Promise<void> {
    await this.#merged?.idle();
    await this.#directory.idle();
  }

  async #linkWhole(parent: ChainID, key: string): Promise<void> {
    const tree = await this.#directory.helper.openTree(this.#directory.root);
    try {
      await linkTree(tree, `${hexOf(parent)}/diff`, `${key}/diff`);
    } finally {
      await tree.close();
    }
  }

  #known(chain: ChainID): ChainID {
    if (!this.#directory.layers.has(chain)) throw new EngineError("not-found", `layer ${chain} not found`);
    return chain;
  }

  #diff(key: string | ChainID): string {
    if (isDigest(key)) this.#known(key);
    else this.#directory.snapshot(key);
    return join(this.#directory.path(key), "diff");
  }

  /** The layers of a chain, top-most first; computed once. */
  #lowers(chain: ChainID | undefined): readonly Lower[] {
    if (chain === undefined) return [];
    const cached = this.#chains.get(chain);
    if (cached !== undefined) return cached;
    const lowers = [this.#lowerOf(this.#known(chain)), ...(this.#kind.flat ? [] : this.#lowers(this.#directory.layers.get(chain)?.parent))];
    this.#chains.set(chain, lowers);
    return lowers;
  }

  #lowerOf(chain: ChainID): Lower {
    const note = this.#directory.layers.get(chain)?.note;
    if (note === undefined) throw new EngineError("storage", `layer ${chain} has no short link`);
    const { link, files = "archive" } = note;
    const { images } = this.#kind;
    const image = images === undefined ? undefined : erofsLayer(this.#directory.path(chain), files, images.loop);
    return { directory: hexOf(chain), link, ...(image === undefined ? {} : { image }) };
  }

  #layerMount({ directory, image }: Lower): RootMount {
    if (image === undefined) return { kind: "bind", source: join(this.#directory.root, directory, "diff"), readonly: true };
    const { fstype, source, devices, loop } = image;
    return { kind: "fs", fstype, source, options: devices.map((device) => `device=${device}`), readonly: true, ...(loop === true ? { loop } : {}) };
  }

  #chainMount(chain: ChainID): RootMount {
    return this.#stacked(this.#lowers(chain));
  }

  #stacked(lowers: readonly Lower[]): RootMount {
    const [only] = lowers;
    // overlay without an upper directory wants two lower ones.
    if (lowers.length === 1 && only !== undefined) return this.#layerMount(only);
    return this.#overlay(lowers, { volatile: false });
  }

  #overlay(lowers: readonly Lower[], { volatile, ...writable }: { readonly upper?: string; readonly work?: string; readonly volatile: boolean }): RootMount {
    const { root } = this.#directory;
    const { mount } = this.#kind;
    const lower = lowers.map(({ directory, image }) => image?.source ?? `${root}/${directory}/diff`);
    if (typeof mount === "function") return mount({ lower, upper: writable.upper, work: writable.work, mountpoint: join(root, mountDirectory) });
    return {
      kind: "overlay",
      lower,
      ...(this.#kind.images === undefined ? {} : { images: lowers.map(({ image }) => image) }),
      ...(this.#kind.images?.attach === true ? { attachAt: join(root, mountDirectory) } : {}),
      links: lowers.map(({ link }) => `l/${link}`),
      linkDir: root,
      ...writable,
      options: volatile ? [...mount.options, "volatile"] : mount.options,
    };
  }

  #init(parent: ChainID | undefined): Promise<Lower> {
    const known = this.#inits.get(parent);
    if (known !== undefined) return known;
    const making = this.#makeInit(parent);
    this.#inits.set(parent, making);
    making.catch(() => this.#inits.delete(parent));
    return making;
  }

  async #makeInit(parent: ChainID | undefined): Promise<Lower> {
    const name = initName(parent);
    const link = newLink();
    const union = parent !== undefined && this.#kind.images !== undefined ? await openUnion(this.#directory.helper, this.#chainMount(parent)) : undefined;
    try {
      const lowers = union === undefined ? this.#lowers(parent).map((lower) => `${lower.directory}/diff`) : new UnionView(union, [""]);
      await makeInitLayer(this.#directory, name, lowers, { link, boot: this.#boot });
    } finally {
      await union?.close();
    }
    await this.#link(name, link);
    return { directory: name, link };
  }

  async #link(directory: string, link: string): Promise<void> {
    try {
      await symlink(`../${directory}/diff`, join(this.#directory.root, "l", link));
    } catch (error) {
      throw asStorageError(error, `linking layer ${directory}`);
    }
  }

  /**
   * The kernel refuses a second mount of a volatile upper directory, because a crash may have left anything in it. Within one boot there was
   * none, and the marker may go (overlayfs.rst, "Volatile mount").
   */
  async #reuseVolatile(key: string, boot: string): Promise<void> {
    if (boot !== this.#boot) {
      throw new EngineError("storage", `the contents of "${key}" did not survive the restart of the machine`, {
        hint: "it was made with --rm, whose writes are not synced to disk: create the container again",
      });
    }
    const marker = join(this.#directory.path(key), volatileMarker);
    if (!this.#mounted.has(key)) {
      this.#mounted.add(key);
      if (!(await exists(marker))) return;
    }
    try {
      await unlinkIfThere(join(marker, "volatile", "dirty"));
      for (const path of [join(marker, "volatile"), marker]) await rmdirIfThere(path);
    } catch (error) {
      throw asStorageError(error, `preparing "${key}" for another mount`);
    }
  }
}

/** Docker's: 26 characters of base 32. */
function newLink(): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  return Array.from(randomBytes(26), (byte) => alphabet[byte % 32]).join("");
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw asStorageError(error, `reading ${path}`);
  }
}

/** A short link's name out of its file; undefined when a crash of the machine has left none. */
function readLink(path: string): string | undefined {
  const link = readText(path);
  return link !== undefined && isLink(link) ? link : undefined;
}

function initName(parent: ChainID | undefined): string {
  return `${parent === undefined ? "empty" : hexOf(parent)}-init`;
}
