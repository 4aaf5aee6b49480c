import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { EngineError } from "#core/errors.ts";
import { asStorageError } from "#core/storage-error.ts";
import { decompress } from "#unionfs/tar/decompress.ts";
import type { TarEntry } from "#unionfs/tar/entry.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import { printable } from "#unionfs/bytes.ts";
import type { ByteString, SourceEntry, SourceTree } from "./source-tree.ts";
import { emptyDirectory, maxEntries, pathInside, TreeIndex, withoutOverlay } from "./tree-index.ts";

interface Node extends SourceEntry {
  /** undefined: it is no file. */
  readonly data: { readonly offset: number; readonly sparse: TarEntry["sparse"]; readonly sha256: string } | undefined;
}

/** docker's client sends each header and each small file in a piece of its own; they are put together to so much. Bytes. */
const pieceBytes = 128 * 1024;

async function* gathered(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  let pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of source) {
    pieces.push(piece);
    bytes += piece.byteLength;
    if (bytes < pieceBytes) continue;
    yield Buffer.concat(pieces, bytes);
    pieces = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(pieces, bytes);
}

const directoryAt = (path: ByteString): Node => ({ ...emptyDirectory(path), data: undefined });

/**
 * A context as it came: the archive lies in one file, and an index says where in it each file's content is. Nothing is unpacked, so no name in it can lead anywhere, and
 * a hundred thousand files cost one. Contents are hashed as they come in.
 */
export class TarTree implements SourceTree {
  readonly #file: string;
  readonly #index: TreeIndex<Node>;

  private constructor(file: string, index = new TreeIndex<Node>(directoryAt)) {
    this.#file = file;
    this.#index = index;
  }

  /**
   * Takes an archive in (plain, gzip or zstd), into the file `to`.
   * @throws EngineError "invalid" for what is no archive, or has names that lead out of it
   */
  static async receive(source: AsyncIterable<Uint8Array>, to: string, signal?: AbortSignal): Promise<TarTree> {
    const tree = new TarTree(to);
    await using file = await open(to, "wx", 0o600);
    async function* kept(): AsyncIterable<Uint8Array> {
      for await (const chunk of decompress(gathered(source))) {
        if (signal?.aborted === true) throw new EngineError("cancelled", "the build was cancelled", { cause: signal.reason });
        await file.writeFile(chunk);
        yield chunk;
      }
    }
    const reader = new TarReader(kept(), { allowMissingEnd: true });
    try {
      for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) await tree.#add(entry, reader);
    } catch (error) {
      await reader.close();
      if (error instanceof EngineError && error.code === "corrupt")
        throw new EngineError("invalid", `the build context cannot be read: ${error.message}`, { cause: error });
      throw asStorageError(error, "receiving the build context");
    }
    return tree;
  }

  /** Without the entries that `ignores` names. */
  filtered(ignores: (path: ByteString) => boolean): TarTree {
    return new TarTree(this.#file, this.#index.filtered(ignores));
  }

  get entries(): number {
    return this.#index.size - 1;
  }

  async lstat(path: ByteString): Promise<SourceEntry | undefined> {
    return this.#index.get(path);
  }

  async *walk(path: ByteString): AsyncIterable<SourceEntry> {
    yield* this.#index.below(path);
  }

  async *read(path: ByteString): AsyncIterable<Uint8Array> {
    const node = this.#index.get(path);
    if (node?.data === undefined) throw new EngineError("internal", `${printable(path)} is no file of the context`);
    let { offset } = node.data;
    let written = 0;
    for (const extent of node.data.sparse ?? [{ offset: 0, length: node.size }]) {
      yield* zeros(extent.offset - written);
      if (extent.length > 0) yield* createReadStream(this.#file, { start: offset, end: offset + extent.length - 1 }) as AsyncIterable<Buffer>;
      offset += extent.length;
      written = extent.offset + extent.length;
    }
    yield* zeros(node.size - written);
  }

  async digest(path: ByteString): Promise<string> {
    const sha256 = this.#index.get(path)?.data?.sha256;
    if (sha256 === undefined) throw new EngineError("internal", `${printable(path)} is no file of the context`);
    return sha256;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #add(entry: TarEntry, reader: TarReader): Promise<void> {
    if (this.#index.size > maxEntries) throw new EngineError("unsupported", `the build context has more than ${maxEntries} entries`);
    const path = pathInside(entry.name);
    if (entry.type === "dir") {
      this.#index.put(nodeOf(path, entry, { type: "dir", size: 0, target: "" }, undefined));
    } else if (path === "") {
      throw new EngineError("invalid", "the build context's root is not a directory");
    } else if (entry.type === "link") {
      const target = this.#index.get(pathInside(entry.linkname, entry.name));
      if (target === undefined || target.type === "dir")
        throw new EngineError(
          "invalid",
          `"${printable(entry.name)}" is a hard link to "${printable(entry.linkname)}", which is not in the build context before it`,
        );
      this.#index.put({ ...target, inode: target.inode ?? target.path });
      this.#index.put({ ...target, path, inode: target.inode ?? target.path });
    } else {
      const data = entry.type === "file" ? { offset: entry.dataOffset, sparse: entry.sparse, sha256: await hashOf(entry, reader) } : undefined;
      this.#index.put(nodeOf(path, entry, { type: entry.type, size: entry.size, target: entry.linkname }, data));
    }
  }
}

/** Made field by field: of a hundred thousand files, spreading objects is what takes the time. */
function nodeOf(
  path: ByteString,
  { mode, uid, gid, mtimeNs, major, minor, xattrs }: TarEntry,
  { type, size, target }: Pick<Node, "type" | "size" | "target">,
  data: Node["data"],
): Node {
  return { path, type, mode, uid, gid, size, mtimeNs, target, major, minor, xattrs: withoutOverlay(xattrs), data };
}

async function hashOf(entry: TarEntry, reader: TarReader): Promise<string> {
  const hash = createHash("sha256");
  if (entry.sparse === undefined) {
    for (let piece = await reader.read(); piece !== undefined; piece = await reader.read()) hash.update(piece);
    return hash.digest("hex");
  }
  let at = 0;
  let piece: Uint8Array = new Uint8Array();
  for (const { offset, length } of entry.sparse) {
    for (const zero of zeros(offset - at)) hash.update(zero);
    for (let missing = length; missing > 0; ) {
      if (piece.byteLength === 0) piece = (await reader.read()) ?? new Uint8Array();
      if (piece.byteLength === 0) throw new EngineError("invalid", "the build context ends early");
      hash.update(piece.subarray(0, missing));
      const taken = Math.min(missing, piece.byteLength);
      piece = piece.subarray(taken);
      missing -= taken;
    }
    at = offset + length;
  }
  for (const zero of zeros(entry.size - at)) hash.update(zero);
  return hash.digest("hex");
}

const zeroBlock = Buffer.alloc(64 * 1024);

function* zeros(length: number): Iterable<Uint8Array> {
  for (let left = length; left > 0; left -= zeroBlock.length) yield zeroBlock.subarray(0, left);
}
