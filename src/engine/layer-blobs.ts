/** What is known of layers as blobs: which compressed bytes a registry has, or had, for a diffID. @module */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Digest, type DiffID, hexOf, isDigest } from "#core/digest.ts";
import { errnoOf, isEngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { parseDescriptor, parseManifest } from "#core/manifest.ts";
import type { Image } from "#image/mod.ts";
import type { EngineContext } from "./context.ts";

/** A blob that unpacks to a layer. */
export interface LayerBlob {
  readonly descriptor: Descriptor;
  /** Where it is, or was: normalized names without tag. */
  readonly repositories: readonly string[];
}

interface OwnManifest {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
  readonly layers: readonly Descriptor[];
  readonly repositories: readonly string[];
}

export class LayerBlobs {
  readonly #directory: string;
  readonly #pulled: ReadonlyMap<DiffID, readonly LayerBlob[]>;

  private constructor(directory: string, pulled: ReadonlyMap<DiffID, readonly LayerBlob[]>) {
    this.#directory = directory;
    this.#pulled = pulled;
  }

  static async open(ctx: EngineContext): Promise<LayerBlobs> {
    const directory = directoryOf(ctx);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const pulled = new Map<DiffID, LayerBlob[]>();
    for (const image of await ctx.images.list()) {
      for (const { layers, repositories } of await LayerBlobs.manifestsOf(ctx, image)) {
        for (const [i, descriptor] of layers.entries()) {
          const diffId = image.diffIds[i]!;
          const blobs = pulled.get(diffId) ?? [];
          const same = blobs.findIndex((blob) => blob.descriptor.digest === descriptor.digest);
          if (same < 0) blobs.push({ descriptor, repositories });
          else blobs[same] = { descriptor, repositories: [...new Set([...blobs[same]!.repositories, ...repositories])] };
          pulled.set(diffId, blobs);
        }
      }
    }
    return new LayerBlobs(directory, pulled);
  }

  /** The manifests of an image that fit its layers, the latest first. */
  static async manifestsOf(ctx: EngineContext, image: Image): Promise<OwnManifest[]> {
    const manifests: OwnManifest[] = [];
    for (const { bytes, mediaType, digest, repositories } of await ctx.images.origins(image.id)) {
      const parsed = parseManifest(bytes, mediaType, `manifest ${digest}`);
      if (parsed.kind === "image" && parsed.layers.length === image.diffIds.length) manifests.push({ bytes, mediaType, layers: parsed.layers, repositories });
    }
    return manifests;
  }

  /** Blobs that registries gave for a layer, and the one that this engine has made of it. */
  async of(diffId: DiffID): Promise<LayerBlob[]> {
    const made = await this.#made(diffId);
    return [...(this.#pulled.get(diffId) ?? []), ...(made === undefined ? [] : [{ descriptor: made, repositories: [] }])];
  }

  /** Remembers what a layer becomes when it is compressed here: always the same. */
  async note(diffId: DiffID, descriptor: Descriptor): Promise<void> {
    const path = join(this.#directory, hexOf(diffId));
    await writeFile(`${path}.new`, JSON.stringify(descriptor), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  async #made(diffId: DiffID): Promise<Descriptor | undefined> {
    try {
      return parseDescriptor(JSON.parse(await readFile(join(this.#directory, hexOf(diffId)), "utf8")), `the note of layer ${diffId}`);
    } catch (error) {
      // Missing, or damaged by a crash of the machine: it is made again.
      if (errnoOf(error) === "ENOENT" || error instanceof SyntaxError || isEngineError(error)) return undefined;
      throw error;
    }
  }

  /** Forgets layers that are gone. */
  static async sweep(ctx: EngineContext): Promise<void> {
    const kept = new Set<Digest>((await ctx.images.list()).flatMap(({ diffIds }) => diffIds));
    let names: string[];
    try {
      names = await readdir(directoryOf(ctx));
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return;
      throw error;
    }
    for (const name of names) {
      const digest = `sha256:${name}`;
      if (!isDigest(digest) || !kept.has(digest)) await rm(join(directoryOf(ctx), name), { force: true });
    }
  }
}

function directoryOf({ options }: EngineContext): string {
  return join(options.dataRoot, "registry", "layers");
}
