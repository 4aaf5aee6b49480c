/** A directory of this host with an OCI layout, as a place of blobs. @module @see https://github.com/opencontainers/image-spec/blob/main/image-layout.md */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BlobStore } from "#content/blob-store.ts";
import { collectLayout, LayoutRun } from "./layout-garbage.ts";
import { type Digest, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import { maxManifestBytes, mediaTypes } from "#core/manifest.ts";
import { asStorageError } from "#core/storage-error.ts";
import type { BlobPlace } from "./mod.ts";

const tagAnnotation = "org.opencontainers.image.ref.name";

export class LayoutDirectory implements BlobPlace {
  readonly name: string;
  readonly #wanted: string;
  readonly #blobs: BlobStore;
  #run: LayoutRun | undefined;

  /** `path`: absolute. `wanted`: a tag of its index, or a digest. */
  constructor(path: string, wanted: string) {
    this.name = path;
    this.#wanted = wanted;
    this.#blobs = new BlobStore(this.#path("blobs/sha256"), this.#path("ingest"));
  }

  async manifest(): Promise<Digest | undefined> {
    if (isDigest(this.#wanted)) return this.#wanted;
    const found = (await this.#index()).find((entry) => tagOf(entry) === this.#wanted);
    return found === undefined ? undefined : digestIn(found, this.#path("index.json"));
  }

  async size(digest: Digest): Promise<number | undefined> {
    // First it is kept, then it is there.
    await this.#run?.keep(digest);
    return this.#blobs.size(digest);
  }

  async collecting<T>(work: () => Promise<T>): Promise<T> {
    await this.#makeDirectories();
    try {
      await using run = await LayoutRun.begin(this.name);
      this.#run = run;
      const result = await work();
      const named = async () => (await this.#index()).map((entry) => digestIn(entry, this.#path("index.json")));
      await collectLayout(this.name, run, { named, read: (digest) => this.#blobs.read(digest, maxManifestBytes) });
      return result;
    } finally {
      this.#run = undefined;
    }
  }

  async *read(digest: Digest): AsyncIterable<Uint8Array> {
    yield* (await this.#blobs.open(digest)) as AsyncIterable<Uint8Array>;
  }

  async put(content: AsyncIterable<Uint8Array> | Uint8Array, signal: AbortSignal | undefined): Promise<{ readonly digest: Digest; readonly size: number }> {
    await this.#makeDirectories();
    return this.#blobs.write(content, undefined, signal);
  }

  async setManifest({ mediaType, digest, size }: Descriptor): Promise<void> {
    const others = (await this.#index()).filter((entry) => tagOf(entry) !== this.#wanted);
    const manifests = [...others, { mediaType, digest, size, annotations: { [tagAnnotation]: this.#wanted } }];
    await this.#replace("oci-layout", { imageLayoutVersion: "1.0.0" });
    await this.#replace("index.json", { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests });
  }

  async #makeDirectories(): Promise<void> {
    try {
      for (const name of ["blobs/sha256", "ingest"]) await mkdir(this.#path(name), { recursive: true });
    } catch (error) {
      throw asStorageError(error, `making ${this.name}`);
    }
  }

  #path(name: string): string {
    return join(this.name, name);
  }

  async #index(): Promise<unknown[]> {
    const path = this.#path("index.json");
    try {
      const bytes = await readFile(path);
      if (bytes.length > maxManifestBytes) throw new EngineError("corrupt", `${path} has ${bytes.length} bytes; at most ${maxManifestBytes} are accepted`);
      return new JsonFields(parseJson(bytes, path), path).list("manifests") ?? [];
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return [];
      throw asStorageError(error, `reading ${path}`);
    }
  }

  async #replace(name: string, value: object): Promise<void> {
    const path = this.#path(name);
    try {
      await mkdir(this.name, { recursive: true });
      await writeFile(`${path}.new`, JSON.stringify(value));
      await rename(`${path}.new`, path);
    } catch (error) {
      throw asStorageError(error, `writing ${path}`);
    }
  }
}

function digestIn(entry: unknown, path: string): Digest | undefined {
  const digest = new JsonFields(entry, `an entry of ${path}`).text("digest") ?? "";
  return isDigest(digest) ? digest : undefined;
}

function tagOf(entry: unknown): string | undefined {
  return new JsonFields(entry, "an entry of an index").map("annotations")?.[tagAnnotation];
}
