import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat, unlink, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { type BlobDigest, type Digest, hexOf, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { asStorageError } from "#core/storage-error.ts";
import type { ContentStore } from "./mod.ts";

const defaultReadLimit = 4 * 1024 * 1024;

/**
 * Opens (and makes, when missing) the store in `<dataRoot>/content`. Bytes arrive in `ingest/`, are hashed on the way, and get their name in
 * `blobs/sha256/` by rename after fsync: a name that exists holds what it says.
 */
export async function openContentStore(dataRoot: string): Promise<ContentStore> {
  const root = join(dataRoot, "content");
  const blobs = join(root, "blobs", "sha256");
  const ingest = join(root, "ingest");
  await Promise.all([mkdir(blobs, { recursive: true, mode: 0o700 }), mkdir(ingest, { recursive: true, mode: 0o700 })]);
  return new BlobStore(blobs, ingest);
}

/** Blobs in two directories of one filesystem, which must be there for whoever writes. */
export class BlobStore implements ContentStore {
  readonly #blobs: string;
  readonly #ingest: string;

  constructor(blobs: string, ingest: string) {
    this.#blobs = blobs;
    this.#ingest = ingest;
  }

  async has(digest: BlobDigest): Promise<boolean> {
    return (await this.size(digest)) !== undefined;
  }

  async size(digest: BlobDigest): Promise<number | undefined> {
    try {
      return (await stat(this.#path(digest))).size;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw asStorageError(error, `blob ${digest}`);
    }
  }

  async read(digest: BlobDigest, max: number = defaultReadLimit): Promise<Uint8Array> {
    await using file = await this.#open(digest);
    const { size } = await file.stat();
    if (size > max) throw new EngineError("invalid", `blob ${digest} has ${size} bytes; at most ${max} are read at once`);
    const bytes = await file.readFile();
    if (createHash("sha256").update(bytes).digest("hex") !== hexOf(digest)) {
      throw new EngineError("corrupt", `blob ${digest} does not have the content that its digest names`, {
        hint: "the file was changed or the disk is failing: remove the image and load it again",
      });
    }
    return bytes;
  }

  async open(digest: BlobDigest): Promise<Readable> {
    return (await this.#open(digest)).createReadStream({ highWaterMark: 256 * 1024 });
  }

  async write(
    data: Uint8Array | AsyncIterable<Uint8Array>,
    expected?: BlobDigest,
    signal?: AbortSignal,
  ): Promise<{ readonly digest: BlobDigest; readonly size: number }> {
    const temporary = join(this.#ingest, randomBytes(12).toString("hex"));
    try {
      const written = await receive(temporary, data, signal);
      if (expected !== undefined && written.digest !== expected) {
        throw new EngineError("corrupt", `content has digest ${written.digest}, expected ${expected}`);
      }
      await rename(temporary, this.#path(written.digest));
      await syncDirectory(this.#blobs);
      return written;
    } catch (error) {
      await rm(temporary, { force: true });
      throw asStorageError(error, `writing ${expected ?? "a blob"}`);
    }
  }

  async remove(digest: BlobDigest): Promise<void> {
    try {
      await unlink(this.#path(digest));
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw asStorageError(error, `removing blob ${digest}`);
    }
  }

  async *list(): AsyncIterable<BlobDigest> {
    for (const name of (await readdir(this.#blobs)).sort()) {
      const digest = `sha256:${name}`;
      if (isDigest(digest)) yield digest;
    }
  }

  async sweep(): Promise<void> {
    for (const name of await readdir(this.#ingest)) await rm(join(this.#ingest, name), { force: true });
  }

  #path(digest: Digest): string {
    // A digest comes from outside often enough; it becomes a file name only when it is one.
    if (!isDigest(digest)) throw new EngineError("invalid", `invalid digest "${String(digest).slice(0, 100)}"`);
    return join(this.#blobs, hexOf(digest));
  }

  async #open(digest: BlobDigest): Promise<FileHandle> {
    try {
      return await open(this.#path(digest), "r");
    } catch (error) {
      if (errnoOf(error) === "ENOENT") throw new EngineError("not-found", `blob ${digest} not found`);
      throw asStorageError(error, `blob ${digest}`);
    }
  }
}

/** Streams into a new file, hashing; the file is on disk when this resolves. */
async function receive(path: string, data: Uint8Array | AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<{ digest: BlobDigest; size: number }> {
  await using file = await open(path, "wx", 0o600);
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of data instanceof Uint8Array ? [data] : data) {
    if (signal?.aborted) throw new EngineError("cancelled", "cancelled while receiving content", { cause: signal.reason });
    hash.update(chunk);
    size += chunk.byteLength;
    await file.writeFile(chunk);
  }
  await file.sync();
  const digest: Digest = `sha256:${hash.digest("hex")}`;
  return { digest, size };
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}
