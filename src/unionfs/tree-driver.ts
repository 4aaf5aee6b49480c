import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChainID, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { Helper } from "#linux/helper.ts";
import { type LayerDirectory, openLayerDirectory, writeDurably } from "./layer-directory.ts";
import type { DriverCapabilities, RootMount, StorageDriver } from "./mod.ts";
import { addMountPoints } from "./mount-points.ts";
import { treeUsage } from "./usage.ts";
import { UnionView } from "./union-view.ts";

/** Beside a snapshot's `diff`: the paths of the mount points that were made in it, as JSON. */
const mountPointsFile = "mount-points.json";

/** How a driver of whole trees makes one. */
export interface TreeKind {
  readonly name: string;
  readonly capabilities: DriverCapabilities;
  status(): Promise<readonly (readonly [string, string])[]>;
  /** Makes the directory `to`, which does not exist: empty, or with all that is below `from`. */
  create(from: string | undefined, to: string): Promise<void>;
  /** Called before a tree in the trash is deleted file by file: for what is quicker, or more thorough. */
  destroy?(directory: string): Promise<void>;
  /** Bounds what may be written below; undefined = it cannot, for the reason given. */
  limit: ((directory: string, sizeBytes: number) => Promise<void>) | { readonly reason: string };
}

/**
 * Opens `<dataRoot>/<name>`: every layer and snapshot is a whole tree, `<chain hex or key>/diff`, a plain directory that needs no mount.
 */
export async function openTreeDriver(dataRoot: string, helper: Helper, kind: TreeKind): Promise<StorageDriver> {
  const destroy = kind.destroy;
  const untouched = { files: [mountPointsFile], directories: ["diff"] };
  const directory = await openLayerDirectory(join(dataRoot, kind.name), helper, {
    ...untouched,
    ...(destroy === undefined ? {} : { destroy: (path: string) => destroy.call(kind, join(path, "diff")) }),
  });
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
    return this.#kind.status();
  }

  async prepare(key: string, parent: ChainID | undefined, options: { readonly ephemeral?: boolean; readonly sizeBytes?: number } = {}): Promise<void> {
    const { limit } = this.#kind;
    const { sizeBytes } = options;
    if (sizeBytes !== undefined && typeof limit !== "function")
      throw new EngineError("unsupported", `--storage-opt size is not supported by the ${this.name} driver: ${limit.reason}`, {
        hint: "use a volume of a fixed size",
      });
    await this.#directory.prepare(key, { parent }, async (directory) => {
      const diff = join(directory, "diff");
      await this.#kind.create(parent === undefined ? undefined : this.#files(parent), diff);
      if (sizeBytes !== undefined && typeof limit === "function") await limit(diff, sizeBytes);
    });
  }

  async mounts(key: string | ChainID): Promise<RootMount> {
    const source = this.#files(key);
    if (isDigest(key)) return { kind: "bind", source, readonly: true };
    let ready = this.#ready.get(key);
    if (ready === undefined) {
      ready = this.#addMountPoints(key, source);
      this.#ready.set(key, ready);
      ready.catch(() => this.#ready.delete(key));
    }
    await ready;
    return { kind: "bind", source, readonly: false };
  }

  async commit(key: string, chain: ChainID): Promise<void> {
    await this.#directory.commit(key, chain, async () => undefined);
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
    this.#files(chain);
    return this.#directory.layers.get(chain);
  }

  async list(): Promise<{ readonly layers: readonly ChainID[]; readonly active: readonly string[] }> {
    return { layers: [...this.#directory.layers.keys()].sort(), active: [...this.#directory.active.keys()].sort() };
  }

  async usage(key: string | ChainID): Promise<{ readonly bytes: number; readonly inodes: number; readonly allocatedBytes: number }> {
    return treeUsage(await this.#directory.helper.openTree(this.#files(key)));
  }

  async applyTarget(key: string): Promise<{ readonly dir: string; readonly whiteouts: "overlay" | "delete" }> {
    return { dir: this.#files(key), whiteouts: "delete" };
  }

  async changes(
    key: string,
  ): Promise<{ readonly kind: "compare"; readonly dir: string; readonly parentDir: string | undefined; readonly mountPoints: ReadonlySet<string> }> {
    const { parent } = this.#directory.snapshot(key);
    return {
      kind: "compare",
      dir: this.#files(key),
      parentDir: parent === undefined ? undefined : this.#files(parent),
      mountPoints: new Set(await this.#mountPoints(key)),
    };
  }

  async sweep(active: ReadonlySet<string>): Promise<void> {
    await this.#directory.sweep(active, () => false);
  }

  idle(): Promise<void> {
    return this.#directory.idle();
  }

  #files(key: string | ChainID): string {
    if (!isDigest(key)) this.#directory.snapshot(key);
    else if (!this.#directory.layers.has(key)) throw new EngineError("not-found", `layer ${key} not found`);
    return join(this.#directory.path(key), "diff");
  }

  async #addMountPoints(key: string, directory: string): Promise<void> {
    if ((await this.#mountPoints(key)) !== undefined) return;
    const tree = await this.#directory.helper.openTree(directory);
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
