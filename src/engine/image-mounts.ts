/**
 * `image mount`: an image's tree, read-only, where the host can see it. Its layers stay while it is mounted. What is mounted ends with the engine: a start after a crash takes it away.
 * @module
 */
import { mkdir, readdir, readFile, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { ImageID } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { MNT_DETACH } from "#linux/flags.ts";
import { parseMountinfo } from "#linux/mountinfo.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { planImageMount } from "#runtime/mod.ts";
import type { EngineContext } from "./context.ts";

/** The parts of the engine that it works with. */
type Parts = Pick<EngineContext, "helper" | "facts" | "layers" | "images"> & { readonly execRoot: string };

/** An image that is mounted, and where. */
export interface ImageMount {
  readonly id: ImageID;
  readonly directory: string;
}

export class ImageMounts {
  readonly #ctx: Parts;
  readonly #mounted = new Map<ImageID, string>();
  #changing: Promise<unknown> = Promise.resolve();

  constructor(ctx: Parts) {
    this.#ctx = ctx;
  }

  list(): readonly ImageMount[] {
    return Array.from(this.#mounted, ([id, directory]) => ({ id, directory }));
  }

  /** The directory; an image that is mounted already stays where it is. */
  mount(nameOrId: string): Promise<ImageMount> {
    return this.#exclusive(async () => {
      const { id, chainId } = await this.#ctx.images.get(nameOrId);
      const known = this.#mounted.get(id);
      if (known !== undefined) return { id, directory: known };
      if (chainId === undefined) throw new EngineError("invalid", `image ${nameOrId} has no layers: there is nothing to mount`);
      const { driver } = this.#ctx.layers;
      const directory = this.#directory(id);
      await mkdir(directory, { recursive: true, mode: 0o700 });
      // A snapshot on its layers keeps them: a mount does not.
      await driver.prepare(keyOf(id), chainId);
      try {
        await this.#ctx.helper.call(planImageMount({ root: await driver.mounts(chainId), facts: this.#ctx.facts, at: directory }));
      } catch (error) {
        await driver.remove(keyOf(id));
        await rmdir(directory);
        throw error;
      }
      this.#mounted.set(id, directory);
      return { id, directory };
    });
  }

  unmount(nameOrId: string): Promise<ImageMount> {
    return this.#exclusive(async () => {
      // The image itself may have been removed meanwhile; its id is known then.
      const id = (await this.#ctx.images.find(nameOrId))?.id ?? this.#byId(nameOrId);
      const directory = id === undefined ? undefined : this.#mounted.get(id);
      if (id === undefined || directory === undefined) throw new EngineError("conflict", `image ${nameOrId} is not mounted`);
      await this.#unmount(directory);
      this.#mounted.delete(id);
      await this.#ctx.layers.driver.remove(keyOf(id));
      return { id, directory };
    });
  }

  /** Takes away what is mounted, by this engine or by one that has crashed. */
  close(): Promise<void> {
    return this.#exclusive(async () => {
      const mounts = parseMountinfo(await readFile("/proc/self/mountinfo", "utf8"));
      for (const { mountPoint } of mounts) if (mountPoint.startsWith(`${this.#root()}/`)) await this.#unmount(mountPoint);
      for (const name of await entries(this.#root())) await rmdir(join(this.#root(), name));
      for (const id of this.#mounted.keys()) await this.#ctx.layers.driver.remove(keyOf(id));
      this.#mounted.clear();
    });
  }

  async #unmount(directory: string): Promise<void> {
    const why = "the image is no longer to be seen here";
    await this.#ctx.helper.call({ steps: [{ op: "umount", dir: NO_SLOT, path: directory, flags: MNT_DETACH, where: "host", why }] });
    await rmdir(directory);
  }

  #byId(id: string): ImageID | undefined {
    const hex = id.replace(/^sha256:/, "");
    return hex.length < 12 ? undefined : [...this.#mounted.keys()].find((mounted) => mounted.startsWith(`sha256:${hex}`));
  }

  #root(): string {
    return join(this.#ctx.execRoot, "images");
  }

  #directory(id: ImageID): string {
    return join(this.#root(), id.slice("sha256:".length));
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#changing.then(work);
    this.#changing = result.catch(() => undefined);
    return result;
  }
}

/** At most 80 characters. */
function keyOf(id: ImageID): string {
  return `image-${id.slice("sha256:".length)}`;
}

async function entries(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
