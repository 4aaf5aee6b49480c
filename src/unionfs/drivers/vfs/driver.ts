import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChainID, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { Helper } from "#linux/helper.ts";
import { copyTree } from "../../copy-tree.ts";
import { type LayerDirectory, openLayerDirectory, writeDurably } from "../../layer-directory.ts";
import type { DriverCapabilities, RootMount, StorageDriver } from "../../mod.ts";
import { addMountPoints } from "../../mount-points.ts";
import { treeUsage } from "../../usage.ts";

/** Beside a snapshot's `diff`: the paths of the mount points that were made in it, as JSON. */
const mountPointsFile = "mount-points.json";

/**
 * Opens `<dataRoot>/vfs`: every layer and snapshot is a whole tree, `vfs/<chain hex or key>/diff`. Slow and large, and works on any filesystem; what the other
 * drivers share with it is what the {@link StorageDriver} contract says.
 */
export async function openVfs(dataRoot: string, helper: Helper): Promise<StorageDriver> {
  return new Vfs(await openLayerDirectory(join(dataRoot, "vfs"), helper, { files: [mountPointsFile], directories: ["diff"] }));
}

class Vfs implements StorageDriver {
  readonly name = "vfs";
  readonly capabilities: DriverCapabilities = { nativeDiff: false, quota: false, idmap: false };
  readonly #directory: LayerDirectory;
  /** Snapshots that have the mount points, once {@link mounts} has been asked for them. */
  readonly #ready = new Map<string, Promise<void>>();

  constructor(directory: LayerDirectory) {
    this.#directory = directory;
  }

  async status(): Promise<readonly (readonly [string, string])[]> {
    return [];
  }

  async prepare(key: string, parent: ChainID | undefined, options: { readonly ephemeral?: boolean; readonly sizeBytes?: number } = {}): Promise<void> {
    if (options.sizeBytes !== undefined)
      throw new EngineError("unsupported", "--storage-opt size is not supported by the vfs driver", { hint: "use a volume of a fixed size" });
    await this.#directory.prepare(key, { parent }, async (directory) => {
      await mkdir(join(directory, "diff"), { mode: 0o755 });
      if (parent !== undefined) await this.#copy(this.#files(parent), join(directory, "diff"));
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
    return treeUsage(this.#directory.helper, this.#files(key));
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

  async #copy(from: string, to: string): Promise<void> {
    const { helper } = this.#directory;
    const source = await helper.openTree(from);
    try {
      const target = await helper.openTree(to);
      try {
        await copyTree({ tree: source, directory: from }, { tree: target, directory: to });
      } finally {
        await target.close();
      }
    } finally {
      await source.close();
    }
  }

  async #addMountPoints(key: string, directory: string): Promise<void> {
    if ((await this.#mountPoints(key)) !== undefined) return;
    const tree = await this.#directory.helper.openTree(directory);
    try {
      const made = await addMountPoints(tree, "", [""]);
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
