import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChainID, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { Helper } from "#linux/helper.ts";
import { type LayerDirectory, openLayerDirectory, writeDurably } from "./layer-directory.ts";
import type { DriverCapabilities, RootMount, SnapshotOptions, StorageDriver } from "./mod.ts";
import { addMountPoints } from "./mount-points.ts";
import { shiftOwners } from "./shifted-tree.ts";
import { openRoot } from "./trees.ts";
import { treeUsage } from "./usage.ts";
import { UnionView } from "./union-view.ts";

/** Beside a snapshot's `diff`: the paths of the mount points that were made in it, as JSON. */
const mountPointsFile = "mount-points.json";

/** How a driver of whole trees makes one. */
export interface TreeKind {
  readonly name: string;
  readonly capabilities: DriverCapabilities;
  status(layers: LayerDirectory): Promise<readonly (readonly [string, string])[]>;
  /** Makes the tree of the snapshot in the directory `to`, which is new: empty, or with all that the one in `from` has. */
  create(from: string | undefined, to: string): Promise<void>;
  /** Where the tree of the layer (it is only read) or snapshot in this directory is; default: the plain directory {@link treeDirectory}. */
  root?(directory: string, readonly: boolean): Promise<RootMount>;
  /** The snapshot in this directory is about to become a layer: what is not in its directory is on disk when this returns. */
  seal?(directory: string): Promise<void>;
  /** Called before what is in the trash is deleted file by file: for what is quicker, or more thorough. */
  destroy?(directory: string): Promise<void>;
  /** Bounds what may be written to the new snapshot in this directory; or why it cannot. */
  limit: ((directory: string, sizeBytes: number) => Promise<void>) | { readonly reason: string };
  /** Names in the driver's directory that are no layers. */
  readonly keep?: ReadonlySet<string>;
  /** @see StorageDriver.close */
  close?(): Promise<void>;
}

/** The tree of a layer or snapshot whose files are in this directory. */
export function treeDirectory(directory: string): string {
  return join(directory, "diff");
}

/**
 * Opens `<dataRoot>/<name>`: every layer and snapshot, in `<chain hex or key>/`, is a whole tree.
 */
export async function openTreeDriver(dataRoot: string, helper: Helper, kind: TreeKind): Promise<StorageDriver> {
  const destroy = kind.destroy;
  const directory = await openLayerDirectory(join(dataRoot, kind.name), helper, destroy === undefined ? undefined : (path) => destroy.call(kind, path));
  await directory.saveIndex();
  return new TreeDriver(directory, kind);
}

class TreeDriver implements StorageDriver {
  readonly name: string;
  readonly capabilities: DriverCapabilities;
  readonly #kind: TreeKind;
  readonly #directory: LayerDirectory;
  /** Snapshots that have the mount points, once {@link mounts} has been asked for them. */
  readonly #ready = new Map<string, Promise<void>>();

  constructor(directory: LayerDirectory, kind: TreeKind) {
    this.name = kind.name;
    this.capabilities = kind.capabilities;
    this.#kind = kind;
    this.#directory = directory;
  }

  status(): Promise<readonly (readonly [string, string])[]> {
    return this.#kind.status(this.#directory);
  }

  async prepare(key: string, parent: ChainID | undefined, options: SnapshotOptions = {}): Promise<void> {
    const { limit } = this.#kind;
    const { sizeBytes, owners } = options;
    if (sizeBytes !== undefined && typeof limit !== "function")
      throw new EngineError("unsupported", `--storage-opt size is not supported by the ${this.name} driver: ${limit.reason}`, {
        hint: "use a volume of a fixed size",
      });
    await this.#directory.prepare(key, { parent, ...(owners === undefined ? {} : { owners }) }, async (directory) => {
      await this.#kind.create(parent === undefined ? undefined : this.#known(parent), directory);
      if (sizeBytes !== undefined && typeof limit === "function") await limit(directory, sizeBytes);
      if (owners === undefined) return;
      const tree = await openRoot(this.#directory.helper, await this.#rootIn(directory, false));
      try {
        await shiftOwners(tree, owners);
      } finally {
        await tree.close();
      }
    });
  }

  async mounts(key: string | ChainID): Promise<RootMount> {
    const root = await this.#root(key);
    if (isDigest(key)) return root;
    let ready = this.#ready.get(key);
    if (ready === undefined) {
      ready = this.#addMountPoints(key, root);
      this.#ready.set(key, ready);
      ready.catch(() => this.#ready.delete(key));
    }
    await ready;
    return root;
  }

  async commit(key: string, chain: ChainID): Promise<void> {
    const { parent } = this.#directory.snapshot(key);
    await this.#directory.commit(key, chain, parent, async (directory) => {
      await this.#kind.seal?.(directory);
      return undefined;
    });
    this.#ready.delete(key);
  }

  async remove(key: string | ChainID): Promise<void> {
    this.#ready.delete(key);
    await this.#directory.discard(key);
  }

  async has(chain: ChainID): Promise<boolean> {
    return this.#directory.layers.has(chain);
  }

  async parent(chain: ChainID): Promise<ChainID | undefined> {
    this.#known(chain);
    return this.#directory.layers.get(chain)?.parent;
  }

  async list(): Promise<{ readonly layers: readonly ChainID[]; readonly active: readonly string[] }> {
    return { layers: [...this.#directory.layers.keys()].sort(), active: [...this.#directory.active.keys()].sort() };
  }

  async usage(key: string | ChainID): Promise<{ readonly bytes: number; readonly inodes: number; readonly allocatedBytes: number }> {
    return treeUsage(await openRoot(this.#directory.helper, await this.#root(key)));
  }

  async applyTarget(key: string): Promise<{ readonly root: RootMount; readonly whiteouts: "overlay" | "delete" }> {
    return { root: await this.#root(key), whiteouts: "delete" };
  }

  async changes(
    key: string,
  ): Promise<{ readonly kind: "compare"; readonly root: RootMount; readonly parent: RootMount | undefined; readonly mountPoints: ReadonlySet<string> }> {
    const { parent } = this.#directory.snapshot(key);
    return {
      kind: "compare",
      root: await this.#root(key),
      parent: parent === undefined ? undefined : await this.#root(parent),
      mountPoints: new Set(await this.#mountPoints(key)),
    };
  }

  async sweep(active: ReadonlySet<string>): Promise<void> {
    await this.#directory.sweep(active, (name) => this.#kind.keep?.has(name) === true);
  }

  idle(): Promise<void> {
    return this.#directory.idle();
  }

  async close(): Promise<void> {
    await this.#kind.close?.();
  }

  /** The directory of a layer or snapshot that there is. */
  #known(key: string | ChainID): string {
    if (!isDigest(key)) this.#directory.snapshot(key);
    else if (!this.#directory.layers.has(key)) throw new EngineError("not-found", `layer ${key} not found`);
    return this.#directory.path(key);
  }

  async #root(key: string | ChainID): Promise<RootMount> {
    const directory = this.#known(key);
    const root = await this.#rootIn(directory, isDigest(key));
    const owners = isDigest(key) ? undefined : this.#directory.snapshot(key).owners;
    return owners === undefined || root.kind === "overlay" || root.kind === "fuse" ? root : { ...root, owners };
  }

  async #rootIn(directory: string, readonly: boolean): Promise<RootMount> {
    return (await this.#kind.root?.(directory, readonly)) ?? { kind: "bind", source: treeDirectory(directory), readonly };
  }

  async #addMountPoints(key: string, root: RootMount): Promise<void> {
    if ((await this.#mountPoints(key)) !== undefined) return;
    const tree = await openRoot(this.#directory.helper, root);
    try {
      const made = await addMountPoints(tree, "", new UnionView(tree, [""]));
      await writeDurably(join(this.#directory.path(key), mountPointsFile), JSON.stringify(made));
    } finally {
      await tree.close();
    }
  }

  async #mountPoints(key: string): Promise<readonly string[] | undefined> {
    try {
      // Our own file, written whole.
      return JSON.parse(await readFile(join(this.#directory.path(key), mountPointsFile), "utf8")) as string[];
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }
}
