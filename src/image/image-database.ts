import { mkdir, open, readFile, rename, rm, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type BlobDigest, type Digest, type ImageID, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { asStorageError } from "#core/storage-error.ts";
import { JsonFields, parseJson } from "#core/json.ts";

/** A manifest that a registry has for an image. The blob lies in the content store. */
export interface ImageOrigin {
  readonly manifest: BlobDigest;
  readonly mediaType: string;
  /** Normalized names without tag: `docker.io/library/busybox`. */
  readonly repositories: readonly string[];
}

/** What is remembered of an image beside its config. */
export interface ImageRecord {
  readonly parent?: ImageID;
  /** What it was pulled or pushed as, the latest first. */
  readonly origins?: readonly ImageOrigin[];
  /** Decimal nanoseconds since 1970; "0" = never. */
  readonly lastTaggedNs: string;
}

/** Everything that changes. A state is never modified: an update makes a new one. */
export interface ImageState {
  readonly images: ReadonlyMap<ImageID, ImageRecord>;
  /** Normalized name with tag or digest → image. */
  readonly references: ReadonlyMap<string, ImageID>;
  /** Configs and manifests that may lie in the content store without an image: written before they arrive and after images are removed, swept at start. */
  readonly pending: ReadonlySet<Digest>;
}

/** A state being edited. */
export interface ImageDraft {
  readonly images: Map<ImageID, ImageRecord>;
  readonly references: Map<string, ImageID>;
  readonly pending: Set<Digest>;
}

/** Room on a full disk for the one file that must be written before anything can be removed. Bytes. */
const reserveBytes = 256 * 1024;

/**
 * `<dataRoot>/image/images.json`: which images and names there are. One file, replaced by rename after fsync, so a change is there whole or not
 * at all, however many names and images it concerns.
 */
export class ImageDatabase {
  readonly #directory: string;
  #state: ImageState;

  private constructor(directory: string, state: ImageState) {
    this.#directory = directory;
    this.#state = state;
  }

  static async open(directory: string): Promise<ImageDatabase> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await makeReserve(directory);
    // What a crash has left of a change that was not to be.
    await rm(join(directory, "images.json.tmp"), { force: true });
    return new ImageDatabase(directory, await readState(join(directory, "images.json")));
  }

  get state(): ImageState {
    return this.#state;
  }

  /** Edits and stores; when `edit` or the disk fails, nothing has changed. The caller sees to it that updates do not overlap. */
  async update<T>(edit: (draft: ImageDraft) => T): Promise<T> {
    const { images, references, pending } = this.#state;
    const draft = { images: new Map(images), references: new Map(references), pending: new Set(pending) };
    const result = edit(draft);
    await writeState(this.#directory, draft);
    this.#state = draft;
    return result;
  }
}

async function readState(path: string): Promise<ImageState> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return { images: new Map(), references: new Map(), pending: new Set() };
    throw asStorageError(error, path);
  }
  const fields = new JsonFields(parseJson(bytes, path), path);
  if (fields.number("version") !== 1)
    throw new EngineError("storage", `${path} has an unknown version`, { hint: "it was written by a newer wherry: use that one" });
  return {
    images: new Map(Object.entries(fields.object("images")?.raw ?? {}).map(([id, record]) => [imageId(id, path), parseRecord(record, `${id} in ${path}`)])),
    references: new Map(Object.entries(fields.map("references") ?? {}).map(([name, id]) => [name, imageId(id, path)])),
    pending: new Set((fields.texts("pending") ?? []).map((id) => imageId(id, path))),
  };
}

function parseRecord(record: unknown, what: string): ImageRecord {
  const fields = new JsonFields(record, what);
  const parent = fields.text("parent");
  const lastTaggedNs = fields.text("lastTaggedNs") ?? "0";
  if (!/^[0-9]{1,20}$/.test(lastTaggedNs)) throw new EngineError("corrupt", `${what} is malformed: lastTaggedNs`);
  const origins = (fields.list("origins") ?? []).map((origin, i) => parseOrigin(origin, `origin ${i} of ${what}`));
  return { lastTaggedNs, ...(parent === undefined ? {} : { parent: imageId(parent, what) }), ...(origins.length === 0 ? {} : { origins }) };
}

function parseOrigin(origin: unknown, what: string): ImageOrigin {
  const fields = new JsonFields(origin, what);
  const manifest = fields.text("manifest") ?? "";
  if (!isDigest(manifest)) throw new EngineError("corrupt", `${what} is malformed: "${manifest.slice(0, 100)}" is no digest`);
  return { manifest, mediaType: fields.text("mediaType") ?? "", repositories: fields.texts("repositories") ?? [] };
}

function imageId(text: string, what: string): ImageID {
  if (!isDigest(text)) throw new EngineError("corrupt", `${what} is malformed: "${text.slice(0, 100)}" is no image id`);
  return text;
}

/** Replaces the file. On a full disk the reserve is given up for it: otherwise no image could be removed to make room. */
async function writeState(directory: string, state: ImageState): Promise<void> {
  try {
    await replaceState(directory, state);
  } catch (error) {
    if (errnoOf(error) !== "ENOSPC" || !(await removeReserve(directory))) throw asStorageError(error, join(directory, "images.json"));
    await replaceState(directory, state).catch((again: unknown) => {
      throw asStorageError(again, join(directory, "images.json"));
    });
  }
}

async function makeReserve(directory: string): Promise<void> {
  try {
    await writeFile(join(directory, "reserve"), Buffer.alloc(reserveBytes, "reserve "), { flag: "wx", mode: 0o600 });
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return;
    // A disk that is full already: what was written of the reserve is no use.
    if (errnoOf(error) !== "ENOSPC") throw asStorageError(error, directory);
    await removeReserve(directory);
  }
}

async function removeReserve(directory: string): Promise<boolean> {
  try {
    await unlink(join(directory, "reserve"));
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw asStorageError(error, directory);
  }
}

async function replaceState(directory: string, state: ImageState): Promise<void> {
  const path = join(directory, "images.json");
  const sorted = <V>(entries: Iterable<readonly [string, V]>) => Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : 1)));
  const json = { version: 1, images: sorted(state.images), references: sorted(state.references), pending: [...state.pending].sort() };
  {
    await using file = await open(`${path}.tmp`, "w", 0o600);
    await file.writeFile(`${JSON.stringify(json, undefined, 1)}\n`);
    await file.sync();
  }
  await rename(`${path}.tmp`, path);
  await using folder = await open(directory, "r");
  await folder.sync();
}
