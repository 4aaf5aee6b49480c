/**
 * What docker has stored of images with the drivers overlay2 and overlay, to be read: nothing is written below its data root.
 *
 *     image/<driver>/imagedb/content/sha256/<id>          an image's config
 *     image/<driver>/imagedb/metadata/sha256/<id>/parent  the image that it was built on
 *     image/<driver>/layerdb/sha256/<chain>/              diff (the DiffID), cache-id, tar-split.json.gz
 *     image/<driver>/repositories.json                    names
 *     overlay2/<cache-id>/diff                            what the layer changes
 *     overlay/<cache-id>/root                             the whole tree; files that are as below are hard links
 * @module
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChainID, type DiffID, hexOf, type ImageID } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { parseJson } from "#core/json.ts";
import type { Helper } from "#linux/helper.ts";
import { type ParsedConfig, parseImageConfig } from "../image-config.ts";
import { assemble } from "./tar-split.ts";

/** By driver: the directory of a layer's files in its own. */
const treeOf: Readonly<Record<string, string>> = { overlay2: "diff", overlay: "root" };

export interface StoredImage {
  readonly id: ImageID;
  readonly tags: readonly string[];
  readonly parent: ImageID | undefined;
  /** EngineError "corrupt" when it is not what its id says. */
  config(): Promise<ParsedConfig>;
}

/** Docker's store of one driver. */
export class DockerStore {
  readonly driver: string;
  readonly #root: string;

  constructor(root: string, driver: string) {
    this.#root = root;
    this.driver = driver;
  }

  /** Those that others were built on come first. */
  async images(): Promise<readonly StoredImage[]> {
    const names = (await namesIn(this.#at("imagedb/content/sha256"))).filter((name) => /^[0-9a-f]{64}$/.test(name)).sort();
    const ids = names.map((hex) => `sha256:${hex}` as const);
    const tags = await this.#tags();
    const images = new Map<ImageID, StoredImage>();
    for (const id of ids) {
      const parent = (await textIn(this.#at(`imagedb/metadata/sha256/${hexOf(id)}/parent`)))?.trim();
      images.set(id, {
        id,
        tags: tags.get(id) ?? [],
        parent: ids.find((known) => known === parent),
        config: async () => {
          const config = parseImageConfig(await readFile(this.#at(`imagedb/content/sha256/${hexOf(id)}`)));
          if (config.id !== id) throw new EngineError("corrupt", `the config of image ${id} has the digest ${config.id}`);
          return config;
        },
      });
    }
    const sorted = new Set<StoredImage>();
    const add = (image: StoredImage | undefined, below: ReadonlySet<StoredImage> = new Set()): void => {
      if (image === undefined || sorted.has(image) || below.has(image)) return;
      if (image.parent !== undefined) add(images.get(image.parent), new Set([...below, image]));
      sorted.add(image);
    };
    for (const image of images.values()) add(image);
    return [...sorted];
  }

  /** The archive of a layer, made again; whether it is `diffId` is for who reads it to check. EngineError "corrupt" where docker's records do not name such a layer. */
  async *layer(chain: ChainID, diffId: DiffID, helper: Helper): AsyncGenerator<Uint8Array> {
    const record = this.#at(`layerdb/sha256/${hexOf(chain)}`);
    const [diff, cacheId] = (await Promise.all([textIn(join(record, "diff")), textIn(join(record, "cache-id"))])).map((text) => text?.trim());
    if (diff !== diffId)
      throw new EngineError("corrupt", `${record} ${diff === undefined ? "is missing" : `says that the layer is ${diff}`}, and the image has ${diffId} there`);
    if (cacheId === undefined || !/^[0-9a-z]{1,64}$/.test(cacheId)) throw new EngineError("corrupt", `${join(record, "cache-id")} names no directory`);
    const tree = await helper.openTree(join(this.#root, this.driver, cacheId, treeOf[this.driver] ?? ""));
    try {
      yield* assemble(join(record, "tar-split.json.gz"), tree);
    } finally {
      await tree.close();
    }
  }

  #at(path: string): string {
    return join(this.#root, "image", this.driver, path);
  }

  /** Tags only: what registries have an image as is not kept with it. */
  async #tags(): Promise<ReadonlyMap<string, readonly string[]>> {
    const path = this.#at("repositories.json");
    const text = await textIn(path);
    const tags = new Map<string, string[]>();
    if (text === undefined) return tags;
    const { Repositories: all } = parseJson(Buffer.from(text), path) as { readonly Repositories?: Readonly<Record<string, Readonly<Record<string, unknown>>>> }; // parsed names are checked when they are given
    for (const names of Object.values(all ?? {}))
      for (const [name, id] of Object.entries(names)) if (typeof id === "string" && !name.includes("@")) tags.set(id, [...(tags.get(id) ?? []), name]);
    return tags;
  }
}

/** The stores below a data root of docker's that can be read. @throws EngineError "invalid" when there is none, with what was found */
export async function dockerStores(root: string): Promise<readonly DockerStore[]> {
  const found = await namesIn(join(root, "image"));
  const known = found.filter((name) => Object.hasOwn(treeOf, name));
  if (known.length > 0) return known.map((name) => new DockerStore(root, name));
  throw new EngineError(
    "invalid",
    `${root} has no image store of docker's that can be taken over: ${found.length === 0 ? "there is no directory image" : `of the drivers overlay2 and overlay, it has ${found.join(", ")}`}`,
    {
      hint: "name the data root of a dockerd (/var/lib/docker), or use docker save and wherry load",
    },
  );
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return [];
    throw error;
  }
}

async function textIn(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
