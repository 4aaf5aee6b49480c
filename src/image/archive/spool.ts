import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Digest, isDigest } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { givingBack } from "#core/pieces.ts";
import { decompress } from "#unionfs/tar/decompress.ts";
import type { TarEntry } from "#unionfs/tar/entry.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import { asStorageError } from "#core/storage-error.ts";

/** An archive of a hundred images with a hundred layers, in the oldest format, has fewer. */
const maxEntries = 100_000;
const maxLinkHops = 40;

/** A file of an archive, on disk under a name of ours. */
export interface SpooledFile {
  /** As the archive calls it. */
  readonly name: string;
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Undefined of what is an uncompressed tar: whoever takes it in as a layer computes it. */
  readonly digest: Digest | undefined;
  /** The digest that its name claims (`blobs/sha256/…`). A file that has been hashed has it. */
  readonly claimed: Digest | undefined;
}

/**
 * An image archive, taken off its stream: which blob belongs where is known only when all of it has arrived (the manifest comes last). Names in
 * the archive never become names on disk.
 */
export class SpooledArchive {
  readonly #files = new Map<string, SpooledFile>();
  /** Link → target, both normalized. */
  readonly #links = new Map<string, string>();

  add(file: SpooledFile): void {
    // A later member of a name replaces an earlier one, as it would on extraction.
    this.#links.delete(file.name);
    this.#files.set(file.name, file);
  }

  addLink(name: string, target: string): void {
    this.#files.delete(name);
    this.#links.set(name, target);
  }

  /** Every link leads somewhere in the end; EngineError "corrupt" for a loop. */
  checkLinks(): void {
    for (const name of this.#links.keys()) this.#resolve(name);
  }

  /** The file of this name, through links; undefined when there is none. */
  find(name: string): SpooledFile | undefined {
    return this.#files.get(this.#resolve(normalize(name)));
  }

  /** EngineError "corrupt" when there is none; `what` says who wants it. */
  get(name: string, what: string): SpooledFile {
    const file = this.find(name);
    if (file === undefined) throw new EngineError("corrupt", `${what} is missing from the archive: "${name.slice(0, 200)}"`);
    return file;
  }

  #resolve(name: string): string {
    let at = name;
    for (let hops = 0; hops <= maxLinkHops; hops++) {
      const target = this.#links.get(at);
      if (target === undefined) return at;
      at = target;
    }
    throw new EngineError("corrupt", `archive entry "${name}" is a link that leads in a circle`);
  }
}

/** Reads the whole archive into `directory`, which exists. Digests in names (`blobs/sha256/…`) are verified, but for those of uncompressed tars. */
export async function spoolArchive(source: AsyncIterable<Uint8Array>, directory: string, signal: AbortSignal | undefined): Promise<SpooledArchive> {
  const archive = new SpooledArchive();
  const reader = new TarReader(decompress(givingBack(source), { lent: true }));
  try {
    for (let count = 0; ; count++) {
      throwIfAborted(signal);
      const entry = await reader.next();
      if (entry === undefined) break;
      if (count >= maxEntries) throw new EngineError("invalid", `the archive has more than ${maxEntries} entries: it is no image archive`);
      await takeEntry(entry, reader, archive, join(directory, String(count)), signal);
    }
  } finally {
    await reader.close();
  }
  archive.checkLinks();
  return archive;
}

/** Contents of a small file; EngineError "invalid" when it has more than `max` bytes. */
export async function readSpooled(file: SpooledFile, max: number): Promise<Uint8Array> {
  if (file.size > max) throw new EngineError("invalid", `"${file.name}" in the archive has ${file.size} bytes; at most ${max} are accepted`);
  return readFile(file.path);
}

async function takeEntry(entry: TarEntry, reader: TarReader, archive: SpooledArchive, path: string, signal: AbortSignal | undefined): Promise<void> {
  const spelled = utf8(entry.name);
  const name = normalize(spelled);
  switch (entry.type) {
    case "dir":
      return;
    case "symlink": {
      const target = utf8(entry.linkname);
      const base = target.startsWith("/") ? "" : name.slice(0, name.lastIndexOf("/") + 1);
      return archive.addLink(name, normalize(`${base}${target}`, spelled));
    }
    case "link":
      return archive.addLink(name, normalize(utf8(entry.linkname), spelled));
    case "file": {
      if (entry.sparse !== undefined)
        throw new EngineError("unsupported", `archive entry "${spelled}" is a sparse file, which an image archive has no use for`);
      const file = await takeFile(name, reader, path, signal);
      verifyName(file);
      return archive.add(file);
    }
    default:
      throw new EngineError("invalid", `archive entry "${spelled}" is a ${entry.type} special file: an image archive has none`);
  }
}

async function takeFile(name: string, reader: TarReader, path: string, signal: AbortSignal | undefined): Promise<SpooledFile> {
  let hash: Hash | undefined;
  let size = 0;
  const file = await onDisk(open(path, "wx", 0o600));
  try {
    for (let piece = await reader.read(); piece !== undefined; piece = await reader.read()) {
      throwIfAborted(signal);
      // The write is under way while the digest is taken.
      const written = writeAll(file, piece);
      written.catch(() => undefined);
      if (size === 0 && !isTar(piece)) hash = createHash("sha256");
      hash?.update(piece);
      size += piece.byteLength;
      await written;
    }
  } finally {
    await file.close();
  }
  if (size === 0) hash = createHash("sha256");
  return { name, path, size, digest: hash === undefined ? undefined : `sha256:${hash.digest("hex")}`, claimed: claimedBy(name) };
}

/** True for the beginning of a tar as all but the oldest programs write it. Of a first piece that is too short to tell, false. */
function isTar(piece: Uint8Array): boolean {
  return Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength).toString("latin1", 257, 262) === "ustar";
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.byteLength; ) at += (await onDisk(file.write(bytes, at))).bytesWritten;
}

async function onDisk<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw asStorageError(error, "receiving the archive");
  }
}

/** OCI blobs, and docker's own since version 25, are named by their digests. Other algorithms are refused where such a blob is asked for. */
function claimedBy(name: string): Digest | undefined {
  const match = /^blobs\/([a-z0-9]+)\/([^/]+)$/.exec(name);
  const claimed = match === null ? "" : `${match[1]}:${match[2]}`;
  return isDigest(claimed) ? claimed : undefined;
}

function verifyName({ name, digest, claimed }: SpooledFile): void {
  if (claimed !== undefined && digest !== undefined && claimed !== digest)
    throw new EngineError("corrupt", `"${name}" in the archive has the digest ${digest}: it is damaged`);
}

/** Path in the archive, without `.`, doubled and outer slashes. Names that lead out are refused; `blame` is the entry to name then. */
function normalize(name: string, blame: string = name): string {
  const parts: string[] = [];
  for (const part of name.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (blame === name || parts.pop() === undefined) throw escapes(blame, name);
  }
  if (name.startsWith("/")) throw escapes(blame, name);
  return parts.join("/");
}

function escapes(entry: string, target: string): EngineError {
  const printable = (text: string) => JSON.stringify(text.slice(0, 300));
  return new EngineError(
    "invalid",
    `archive entry ${printable(entry)} leads out of the archive${entry === target ? "" : `: it is a link to ${printable(target)}`}`,
  );
}

function utf8(bytes: string): string {
  return Buffer.from(bytes, "latin1").toString("utf8");
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new EngineError("cancelled", "cancelled while reading the archive", { cause: signal.reason });
}
