import { createReadStream } from "node:fs";
import { copyFile, type FileHandle, link, open, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#core/errors.ts";
import type { LayerImage } from "#linux/layer-image.ts";
import { asStorageError } from "../layer-directory.ts";
import type { ArchiveReceiver } from "../mod.ts";
import { MetadataTree } from "./metadata-tree.ts";

/** A layer's archive as it came in, the image that points into it, and the sparse files that it could not point to. */
export const archiveFile = "layer.tar";
export const imageFile = "layer.erofs";
export const spillFile = "sparse.data";

/** Takes a layer into `directory` as {@link archiveFile}, {@link imageFile} and, rarely, {@link spillFile}. */
export class ErofsReceiver implements ArchiveReceiver {
  readonly tree: MetadataTree;
  readonly #directory: string;
  #archive: FileHandle | undefined;
  #bytes = 0;

  constructor(directory: string) {
    this.#directory = directory;
    this.tree = new MetadataTree(() => open(join(directory, spillFile), "wx", 0o600));
  }

  async *keep(tar: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    const archive = await open(join(this.#directory, archiveFile), "wx", 0o600);
    this.#archive = archive;
    // One write is under way while the chunk is looked at.
    let pending: Promise<void> = Promise.resolve();
    try {
      for await (const chunk of tar) {
        await pending;
        pending = writeAll(archive, chunk, this.#bytes);
        pending.catch(() => undefined);
        this.#bytes += chunk.byteLength;
        yield chunk;
      }
    } finally {
      await pending;
    }
  }

  async adopt(path: string): Promise<AsyncIterable<Uint8Array>> {
    const target = join(this.#directory, archiveFile);
    try {
      await link(path, target);
    } catch (error) {
      if (errnoOf(error) !== "EXDEV" && errnoOf(error) !== "EMLINK") throw asStorageError(error, "keeping a layer's archive");
      await copyFile(path, target);
    }
    this.#bytes = (await stat(target)).size;
    return createReadStream(target, { highWaterMark: 512 * 1024 });
  }

  async finish(): Promise<void> {
    const image = await this.tree.image(this.#bytes);
    try {
      await writeFile(join(this.#directory, imageFile), image, { flag: "wx", mode: 0o600 });
    } catch (error) {
      throw asStorageError(error, "writing a layer's image");
    }
  }

  async close(): Promise<void> {
    await this.tree.close();
    await this.#archive?.close();
  }
}

async function writeAll(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  try {
    for (let done = 0; done < chunk.byteLength; ) done += (await file.write(chunk, done, chunk.byteLength - done, position + done)).bytesWritten;
  } catch (error) {
    throw asStorageError(error, "keeping a layer's archive");
  }
}

/** How a layer in `directory` is mounted. */
export function erofsLayer(directory: string, spilled: boolean): LayerImage {
  return {
    fstype: "erofs",
    source: join(directory, imageFile),
    devices: [join(directory, archiveFile), ...(spilled ? [join(directory, spillFile)] : [])],
  };
}
