import { createReadStream, existsSync, writeSync } from "node:fs";
import { copyFile, type FileHandle, link, open, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#core/errors.ts";
import type { LayerImage } from "#linux/layer-image.ts";
import { asStorageError } from "#core/storage-error.ts";
import { filePieces } from "../archive-file.ts";
import type { ImagePlace } from "../mod.ts";
import { MetadataTree } from "./metadata-tree.ts";

/** A layer's archive as it came in, the image that points into it, and the sparse files that it could not point to. */
export const archiveFile = "layer.tar";
export const imageFile = "layer.erofs";
export const spillFile = "sparse.data";
/** In the place of the archive, where blocks are pages: the contents of all files. */
export const contentsFile = "layer.data";

/** Takes a layer into `directory` as {@link imageFile} and {@link archiveFile} (rarely with {@link spillFile}) or {@link contentsFile}. */
export class ErofsReceiver {
  /** Where the tree of the layer is built. */
  readonly tree: MetadataTree;
  /** Else the archive is not kept: contents are, and what an archive has besides is the caller's to keep. */
  readonly keepsArchive: boolean;
  readonly #blocking: boolean;
  readonly #directory: string;
  #archive: FileHandle | undefined;
  #bytes = 0;

  /** `blocking`: in a thread that has nothing else to do than to wait for the disk. */
  constructor({ directory, form }: ImagePlace, { blocking = false }: { readonly blocking?: boolean } = {}) {
    this.#directory = directory;
    this.#blocking = blocking;
    this.keepsArchive = form.archive;
    this.tree = new MetadataTree(form, () => open(join(directory, form.archive ? spillFile : contentsFile), "wx+", 0o600));
  }

  /** Passes the archive on and keeps it. */
  async *keep(tar: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    if (!this.keepsArchive) return yield* tar;
    const archive = await open(join(this.#directory, archiveFile), "wx", 0o600);
    this.#archive = archive;
    // One write is under way while the chunk is looked at.
    let pending: Promise<void> = Promise.resolve();
    try {
      for await (const chunk of tar) {
        if (this.#blocking) {
          writeAllNow(archive.fd, chunk, this.#bytes);
        } else {
          await pending;
          pending = writeAll(archive, chunk, this.#bytes);
          pending.catch(() => undefined);
        }
        this.#bytes += chunk.byteLength;
        yield chunk;
      }
    } finally {
      await pending;
    }
  }

  /** Takes a file over as the archive, and gives its bytes. */
  async adopt(path: string): Promise<AsyncIterable<Uint8Array>> {
    if (!this.keepsArchive) return this.#read(path);
    const target = join(this.#directory, archiveFile);
    try {
      await link(path, target);
    } catch (error) {
      if (errnoOf(error) !== "EXDEV" && errnoOf(error) !== "EMLINK") throw asStorageError(error, "keeping a layer's archive");
      await copyFile(path, target);
    }
    this.#bytes = (await stat(target)).size;
    return this.#read(target);
  }

  #read(path: string): AsyncIterable<Uint8Array> {
    return this.#blocking ? eachOf(filePieces(path)) : createReadStream(path, { highWaterMark: 1024 * 1024 });
  }

  /** The archive has ended and the tree is whole. */
  async finish(): Promise<void> {
    const image = await this.tree.image(this.#bytes);
    try {
      await writeFile(join(this.#directory, imageFile), image, { flag: "wx", mode: 0o600 });
    } catch (error) {
      throw asStorageError(error, "writing a layer's image");
    }
  }

  /** Copies the content of a file of the tree to `target`, before it is replaced. Only where no archive is kept. */
  async superseded(path: Uint8Array, target: string): Promise<void> {
    await this.tree.copyContent(path, target);
  }

  async close(): Promise<void> {
    await this.tree.close();
    await this.#archive?.close();
  }
}

async function* eachOf<T>(items: Iterable<T>): AsyncGenerator<T, void> {
  yield* items;
}

function writeAllNow(file: number, chunk: Uint8Array, position: number): void {
  try {
    for (let done = 0; done < chunk.byteLength; ) done += writeSync(file, chunk, done, chunk.byteLength - done, position + done);
  } catch (error) {
    throw asStorageError(error, "keeping a layer's archive");
  }
}

async function writeAll(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  try {
    for (let done = 0; done < chunk.byteLength; ) done += (await file.write(chunk, done, chunk.byteLength - done, position + done)).bytesWritten;
  } catch (error) {
    throw asStorageError(error, "keeping a layer's archive");
  }
}

/** Files of a layer beside its image that are not those of most ({@link archiveFile}). */
export type ErofsFiles = "archive" | "archive+spill" | "contents";

/** Which files a layer in `directory` consists of. */
export function erofsFiles(directory: string): ErofsFiles {
  if (existsSync(join(directory, contentsFile))) return "contents";
  return existsSync(join(directory, spillFile)) ? "archive+spill" : "archive";
}

const deviceFiles: Readonly<Record<ErofsFiles, readonly string[]>> = {
  archive: [archiveFile],
  "archive+spill": [archiveFile, spillFile],
  contents: [contentsFile],
};

/** All that {@link erofsFiles} may say. */
export const erofsForms: readonly ErofsFiles[] = ["archive", "archive+spill", "contents"];

/** How a layer in `directory` is mounted; `loop`: by way of block devices. */
export function erofsLayer(directory: string, files: ErofsFiles, loop: boolean): LayerImage {
  return {
    fstype: "erofs",
    source: join(directory, imageFile),
    devices: deviceFiles[files].map((name) => join(directory, name)),
    ...(loop ? { loop } : {}),
  };
}
