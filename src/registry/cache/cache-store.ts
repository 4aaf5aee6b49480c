/**
 * What a pull-through cache keeps, in a directory that can be kept, copied and thrown away at any time:
 *
 *     blobs/sha256/<hex>       what was fetched; the least recently used go when there is too much
 *     pushed/sha256/<hex>      what was pushed here, and is nowhere else
 *     partial/<hex>            blobs on their way
 *     repositories/<sha256 of the name>/{name, tags/<tag>.json, types/<hex>}
 *
 * A file appears by rename when it is whole and verified. Two processes may share a directory: each only adds, or removes what can be fetched again.
 * @module
 */
import { createHash, randomBytes } from "node:crypto";
import { copyFile, type FileHandle, link, mkdir, open, readdir, readFile, rename, rm, stat, statfs, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type BlobDigest, type Digest, digestOf, hexOf, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { asStorageError } from "#core/storage-error.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import type { BlobKeeper } from "../downloads.ts";

export interface CacheStoreOptions {
  readonly directory: string;
  /** What fetched blobs may take. */
  readonly maxBytes: number;
}

/** What a tag means. */
export interface CachedTag {
  readonly digest: Digest;
  /** When the registry was asked last, milliseconds since 1970. */
  readonly checkedAt: number;
  /** It was pushed here: nobody else is asked. */
  readonly pushed: boolean;
}

/** A use is noted this long after the last one. */
const touchMs = 60_000;
/** Uploads and writes that are older were left by a crash. */
const staleMs = 24 * 3600_000;
const maxTagBytes = 4096;

export class CacheStore implements BlobKeeper {
  readonly #options: CacheStoreOptions;
  /** Bytes of fetched blobs, as far as is known here; counted anew by each eviction. */
  #bytes = 0;
  #evicting: Promise<void> = Promise.resolve();

  private constructor(options: CacheStoreOptions) {
    this.#options = options;
  }

  static async open(options: CacheStoreOptions): Promise<CacheStore> {
    for (const name of ["blobs/sha256", "pushed/sha256", "repositories", "ingest", "partial"]) {
      await mkdir(join(options.directory, name), { recursive: true, mode: 0o700 });
    }
    const store = new CacheStore(options);
    await store.#sweep();
    await store.evict();
    return store;
  }

  /** Where a download of this cache goes. */
  get partialDirectory(): string {
    return join(this.#options.directory, "partial");
  }

  /** Opens a blob; undefined: it is not here. The file stays readable when the blob is removed meanwhile. */
  async openBlob(digest: BlobDigest): Promise<{ readonly file: FileHandle; readonly size: number } | undefined> {
    for (const kind of ["pushed", "blobs"] as const) {
      const path = this.#blob(kind, digest);
      let file: FileHandle;
      try {
        file = await open(path, "r");
      } catch (error) {
        if (errnoOf(error) === "ENOENT") continue;
        throw asStorageError(error, `blob ${digest}`);
      }
      const { size, mtimeMs } = await file.stat();
      if (kind === "blobs" && Date.now() - mtimeMs > touchMs) await file.utimes(new Date(), new Date());
      return { file, size };
    }
    return undefined;
  }

  /** A small blob, whole and verified: undefined when it is not here, or damaged. */
  async readBlob(digest: BlobDigest, maxBytes: number): Promise<Buffer | undefined> {
    const opened = await this.openBlob(digest);
    if (opened === undefined) return undefined;
    await using file = opened.file;
    if (opened.size > maxBytes) return undefined;
    const bytes = await file.readFile();
    return digestOf(bytes) === digest ? bytes : undefined;
  }

  /** Takes a verified file over: by another name, or, from another filesystem, as a copy. */
  async adopt(path: string, digest: BlobDigest): Promise<void> {
    try {
      // What is served from here is not verified once more.
      await using file = await open(path, "r");
      await file.datasync();
      await this.#linkOrCopy(path, this.#blob("blobs", digest));
    } catch (error) {
      if (errnoOf(error) === "EEXIST") return;
      throw asStorageError(error, `keeping blob ${digest}`);
    }
    this.#bytes += (await stat(path)).size;
    if (this.#bytes > this.#options.maxBytes) await this.evict();
  }

  /** Gives a blob a second name, or a copy, for somebody who verifies it. False: it is not here. */
  async lend(digest: BlobDigest, path: string): Promise<boolean> {
    for (const kind of ["pushed", "blobs"] as const) {
      try {
        const now = new Date();
        await utimes(this.#blob(kind, digest), now, now);
        await this.#linkOrCopy(this.#blob(kind, digest), path);
        return true;
      } catch (error) {
        if (errnoOf(error) !== "ENOENT") throw asStorageError(error, `blob ${digest}`);
      }
    }
    return false;
  }

  /** Removes a blob that was fetched. */
  async forget(digest: BlobDigest): Promise<void> {
    await rm(this.#blob("blobs", digest), { force: true });
  }

  /** Keeps bytes that are known to have this digest. */
  async writeBlob(bytes: Uint8Array, digest: BlobDigest, { pushed }: { readonly pushed: boolean }): Promise<void> {
    await this.#replace(this.#blob(pushed ? "pushed" : "blobs", digest), bytes);
    if (!pushed) this.#bytes += bytes.byteLength;
  }

  /** Counts a blob that is here as pushed, so that it stays. False: it is not here. */
  async promote(digest: BlobDigest): Promise<boolean> {
    const path = this.#blob("pushed", digest);
    try {
      await link(this.#blob("blobs", digest), path);
      return true;
    } catch (error) {
      if (errnoOf(error) === "EEXIST") return true;
      if (errnoOf(error) !== "ENOENT") throw asStorageError(error, `keeping blob ${digest}`);
      return (await stat(path).catch(ifMissing(undefined))) !== undefined;
    }
  }

  /** A new file for an upload; {@link finishUpload} or {@link dropUpload} ends it. */
  async beginUpload(): Promise<{ readonly path: string; readonly file: FileHandle }> {
    const path = join(this.#options.directory, "ingest", randomBytes(16).toString("hex"));
    return { path, file: await open(path, "wx+", 0o600) };
  }

  async finishUpload(path: string, file: FileHandle, digest: BlobDigest): Promise<void> {
    await file.sync();
    await rename(path, this.#blob("pushed", digest));
  }

  async dropUpload(path: string): Promise<void> {
    await rm(path, { force: true });
  }

  /** Bytes that may still be pushed without filling the disk. */
  async roomForUploads(): Promise<number> {
    const { bavail, bsize, blocks } = await statfs(this.#options.directory);
    // What is pushed here cannot be fetched again, so the last twentieth of the disk stays free.
    return bavail * bsize - (blocks * bsize) / 20;
  }

  async tag(repository: string, tag: string): Promise<CachedTag | undefined> {
    try {
      const bytes = await readFile(this.#tag(repository, tag));
      if (bytes.length > maxTagBytes) return undefined;
      const fields = new JsonFields(parseJson(bytes, "a cached tag"), "a cached tag");
      const digest = fields.text("digest") ?? "";
      return isDigest(digest) ? { digest, checkedAt: fields.number("checkedAt") ?? 0, pushed: fields.text("origin") === "pushed" } : undefined;
    } catch (error) {
      // Not there, or damaged: asked for anew.
      if (errnoOf(error) === "ENOENT" || error instanceof EngineError) return undefined;
      throw asStorageError(error, `tag ${tag} of ${repository}`);
    }
  }

  async setTag(repository: string, tag: string, { digest, checkedAt, pushed }: CachedTag): Promise<void> {
    await this.#repository(repository);
    await this.#replace(this.#tag(repository, tag), Buffer.from(JSON.stringify({ digest, checkedAt, origin: pushed ? "pushed" : "fetched" })));
  }

  async removeTag(repository: string, tag: string): Promise<void> {
    await rm(this.#tag(repository, tag), { force: true });
  }

  /** The media type under which a repository has a manifest. */
  async manifestType(repository: string, digest: Digest): Promise<string | undefined> {
    try {
      return (await readFile(join(this.#directoryOf(repository), "types", hexOf(digest)), "latin1")).slice(0, 256) || undefined;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw asStorageError(error, `manifest ${digest}`);
    }
  }

  async setManifestType(repository: string, digest: Digest, mediaType: string): Promise<void> {
    await this.#repository(repository);
    await this.#replace(join(this.#directoryOf(repository), "types", hexOf(digest)), Buffer.from(mediaType, "latin1"));
  }

  /** Sorted. */
  async tags(repository: string): Promise<string[]> {
    try {
      const names = await readdir(join(this.#directoryOf(repository), "tags"));
      return names.flatMap((name) => (name.endsWith(".json") ? [name.slice(0, -5)] : [])).sort();
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return [];
      throw asStorageError(error, `tags of ${repository}`);
    }
  }

  /** Repositories of which something is here, sorted. */
  async repositories(): Promise<string[]> {
    const names: string[] = [];
    for (const hex of await readdir(join(this.#options.directory, "repositories"))) {
      const name = await readFile(join(this.#options.directory, "repositories", hex, "name"), "utf8").catch((error: unknown) => {
        if (errnoOf(error) === "ENOENT") return undefined; // being made
        throw asStorageError(error, "the cache's repositories");
      });
      if (name !== undefined) names.push(name);
    }
    return names.sort();
  }

  /** Makes room: fetched blobs go, the least recently used first. */
  evict(): Promise<void> {
    this.#evicting = this.#evicting.then(() => this.#evict());
    return this.#evicting;
  }

  async #evict(): Promise<void> {
    const directory = join(this.#options.directory, "blobs/sha256");
    const found: { readonly path: string; readonly size: number; readonly usedAt: number }[] = [];
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      const { size, mtimeMs } = await stat(path).catch(ifMissing({ size: 0, mtimeMs: 0 }));
      found.push({ path, size, usedAt: mtimeMs });
    }
    this.#bytes = found.reduce((sum, { size }) => sum + size, 0);
    for (const { path, size } of found.sort((a, b) => a.usedAt - b.usedAt)) {
      if (this.#bytes <= this.#options.maxBytes) return;
      await rm(path, { force: true });
      this.#bytes -= size;
    }
  }

  async #sweep(): Promise<void> {
    for (const name of ["ingest", "partial"]) {
      for (const file of await readdir(join(this.#options.directory, name))) {
        const path = join(this.#options.directory, name, file);
        const { mtimeMs } = await stat(path).catch(ifMissing({ mtimeMs: Date.now() }));
        if (Date.now() - mtimeMs > staleMs) await rm(path, { force: true });
      }
    }
  }

  /** Makes a repository's directory; its name is written first, so that what is found has one. */
  async #repository(repository: string): Promise<void> {
    const directory = this.#directoryOf(repository);
    for (const name of ["tags", "types"]) await mkdir(join(directory, name), { recursive: true, mode: 0o700 });
    const path = join(directory, "name");
    if ((await stat(path).catch(ifMissing(undefined))) === undefined) await this.#replace(path, Buffer.from(repository));
  }

  /** EEXIST when `to` is there. */
  async #linkOrCopy(from: string, to: string): Promise<void> {
    try {
      await link(from, to);
    } catch (error) {
      if (errnoOf(error) !== "EXDEV" && errnoOf(error) !== "EMLINK") throw error;
      const temporary = `${to}.${randomBytes(6).toString("hex")}`;
      try {
        await copyFile(from, temporary);
        await link(temporary, to);
      } finally {
        await rm(temporary, { force: true });
      }
    }
  }

  async #replace(path: string, bytes: Uint8Array): Promise<void> {
    const temporary = join(this.#options.directory, "ingest", randomBytes(16).toString("hex"));
    try {
      await writeFile(temporary, bytes, { flag: "wx", mode: 0o600 });
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw asStorageError(error, "writing to the cache");
    }
  }

  #blob(kind: "blobs" | "pushed", digest: BlobDigest): string {
    if (!isDigest(digest)) throw new EngineError("invalid", `invalid digest "${String(digest).slice(0, 100)}"`);
    return join(this.#options.directory, kind, "sha256", hexOf(digest));
  }

  #tag(repository: string, tag: string): string {
    // It becomes a file's name.
    if (!/^\w[\w.-]{0,127}$/.test(tag)) throw new EngineError("invalid", `invalid tag "${tag.slice(0, 128)}"`);
    return join(this.#directoryOf(repository), "tags", `${tag}.json`);
  }

  /** Names are longer than file names may be, and hold slashes. */
  #directoryOf(repository: string): string {
    return join(this.#options.directory, "repositories", createHash("sha256").update(repository).digest("hex"));
  }
}

function ifMissing<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (errnoOf(error) === "ENOENT") return value;
    throw error;
  };
}
