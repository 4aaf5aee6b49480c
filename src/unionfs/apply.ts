import { createHash } from "node:crypto";
import type { DiffID, Digest } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { type FileMeta, type FileTree, type TreeStat, wholeFileBytes } from "#linux/file-tree.ts";
import { type ByteString, baseOf, joinPath, parentOf, printable, toByteString, toBytes } from "./bytes.ts";
import { contentOf, type DirNode, dirNode, LayerModel, type LayerNode, pathsBelow } from "./layer-model.ts";
import { cleanPath, parseLayerName, refused } from "./layer-names.ts";
import type { ApplyProgress } from "./mod.ts";
import { isOverlayXattr, opaqueXattr } from "./overlay-format.ts";
import type { Extent, TarEntry } from "./tar/entry.ts";
import { TarReader } from "./tar/reader.ts";
import type { TarIndexWriter } from "./tar-index.ts";

/** A tree that can take the content of file `name` in `directory` from where it lies in the archive. False = it wants it written. */
export interface PlacingTree extends FileTree {
  placeFile?(
    directory: ByteString,
    name: ByteString,
    file: { readonly size: number; readonly offset: number; readonly sparse: readonly Extent[] | undefined },
    meta: FileMeta,
  ): boolean;
}

/** What an archive was. */
export interface AppliedTar {
  readonly diffId: DiffID;
  /** Bytes as Docker counts a layer. */
  readonly size: number;
  /** Length of the archive. */
  readonly tarBytes: number;
}

export interface ApplyOptions {
  /** The directory that the layer is unpacked into. */
  readonly tree: PlacingTree;
  /** "overlay": the directory holds this layer only, and what is gone is written down in overlay's way. "delete": it holds a copy of the layers below. */
  readonly whiteouts: "overlay" | "delete";
  /** lstat in the layers below; only asked for "overlay". undefined = there are none. */
  readonly lower?: ((path: ByteString) => Promise<TreeStat | undefined>) | undefined;
  readonly index?: TarIndexWriter;
  /** Called before the content of file record `number`, which lies at `path`, is replaced by a later entry. */
  readonly keep?: (path: ByteString, number: number) => Promise<void>;
  /** The digest will be checked, so a missing end of the archive need not be an error. */
  readonly digestKnown?: boolean;
  /** The digest, where somebody has computed it of these very bytes already. */
  readonly diffId?: DiffID | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: ApplyProgress) => void) | undefined;
}

/** What is known of each name is held while a layer is unpacked. The largest layers seen have a million entries. */
const maxEntries = 1 << 21;

const defaultDirectory = { mode: 0o755, uid: 0, gid: 0 };

/**
 * Unpacks a layer's tar and names it (`diffId`). Nothing is left out silently that could be there: what the format does not allow, and what
 * would land outside of the layer, is an EngineError "corrupt" that names the entry. The caller throws the directory away then.
 */
export async function applyTar(source: AsyncIterable<Uint8Array>, options: ApplyOptions): Promise<AppliedTar> {
  const hash = options.diffId === undefined ? createHash("sha256") : undefined;
  const { index } = options;
  let tarBytes = 0;
  const onBytes = (bytes: number) => {
    tarBytes = bytes;
    options.onProgress?.({ bytes });
  };
  const reader = new TarReader(hashing(source, hash, onBytes, options.signal), {
    ...(index === undefined ? {} : { onMeta: (bytes) => index.meta(bytes) }),
    allowMissingEnd: options.digestKnown === true,
  });
  const unpacker = new Unpacker(options, reader);
  try {
    for (;;) {
      const entry = reader.nextReady() ?? (await reader.next());
      if (entry === undefined) break;
      if (!unpacker.addReady(entry)) await unpacker.add(entry);
    }
    await unpacker.finish();
  } catch (error) {
    await reader.close();
    throw error;
  }
  const diffId: DiffID = options.diffId ?? (`sha256:${hash!.digest("hex")}` as Digest);
  return { diffId, size: unpacker.size(), tarBytes };
}

async function* hashing(
  source: AsyncIterable<Uint8Array>,
  hash: ReturnType<typeof createHash> | undefined,
  onBytes: (bytes: number) => void,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  let bytes = 0;
  for await (const chunk of source) {
    if (signal?.aborted) throw new EngineError("cancelled", "cancelled while unpacking a layer", { cause: signal.reason });
    hash?.update(chunk);
    bytes += chunk.byteLength;
    onBytes(bytes);
    yield chunk;
  }
}

class Unpacker {
  readonly #options: ApplyOptions;
  readonly #tree: PlacingTree;
  readonly #reader: TarReader;
  readonly #model = new LayerModel();
  /** Directories whose time has to be set (again) in the end, because something was made in them. */
  readonly #directories = new Map<ByteString, FileMeta>();
  readonly #touched = new Set<ByteString>();
  /** One of them, where there are any: files of a directory come one after the other. */
  #lastTouched: ByteString | undefined;
  #entries = 0;

  constructor(options: ApplyOptions, reader: TarReader) {
    this.#options = options;
    this.#tree = options.tree;
    this.#reader = reader;
  }

  /**
   * Adds a file where nothing has been yet, in a directory that is there, when nothing has to be waited for: its content stays where it lies in the archive, or is here. Nearly all members of
   * layers are such. False: nothing was done, {@link add} sees to it.
   */
  addReady(entry: TarEntry): boolean {
    if (entry.type !== "file" || this.#options.whiteouts !== "overlay" || this.#options.index?.isBlocked === true) return false;
    try {
      const name = parseLayerName(entry.name);
      if (name.kind !== "path" || name.path === "") return false;
      const { path } = name;
      const slash = path.lastIndexOf("/");
      const directory = slash < 0 ? "" : path.slice(0, slash);
      const own = path.slice(slash + 1);
      const parent = this.#model.directory(directory);
      if (parent === undefined || parent.children.has(own)) return false;
      const record = this.#placeReady(entry, path, directory, own);
      if (record === notPlaced) return false;
      this.#touch(directory);
      parent.children.set(own, { kind: "file", content: contentOf(entry.size), record });
    } catch (error) {
      throw unpackError(error, entry.name);
    }
    this.#count();
    return true;
  }

  /** The number of its record, where there is one. */
  #placeReady(entry: TarEntry, path: ByteString, directory: ByteString, name: ByteString): number | undefined | typeof notPlaced {
    const meta = metaOf(entry);
    if (this.#tree.placeFile !== undefined) return this.#tree.placeFile(directory, name, placeOf(entry), meta) ? undefined : notPlaced;
    if (this.#tree.wholeFile === undefined || entry.sparse !== undefined || entry.size > wholeFileBytes) return notPlaced;
    const data = this.#reader.peekReady();
    if (data === undefined || !this.#tree.wholeFile(toBytes(path), data, meta)) return notPlaced;
    this.#reader.takeReady();
    return entry.size > 0 ? this.#options.index?.file(path, entry.size, undefined) : undefined;
  }

  #touch(directory: ByteString): void {
    if (directory === this.#lastTouched) return;
    this.#touched.add(directory);
    this.#lastTouched = directory;
  }

  #count(): void {
    if (++this.#entries > maxEntries) throw new EngineError("unsupported", `the layer has more than ${maxEntries} entries`);
  }

  async add(entry: TarEntry): Promise<void> {
    this.#count();
    try {
      const name = parseLayerName(entry.name);
      if (name.kind === "path") await this.#addPath(entry, name.path);
      else if (name.kind === "whiteout") await this.#addWhiteout(entry, name.path);
      else if (name.kind === "opaque") await this.#addOpaque(entry, name.path);
      await this.#options.index?.drained();
    } catch (error) {
      throw unpackError(error, entry.name);
    }
  }

  /** Sets the times of directories and waits for everything. */
  async finish(): Promise<void> {
    try {
      for (const path of this.#touched) {
        const meta = this.#directories.get(path);
        if (meta !== undefined) await this.#tree.setMeta(toBytes(path), meta);
      }
      await this.#tree.flush();
    } catch (error) {
      throw unpackError(error, undefined);
    }
  }

  size(): number {
    return this.#model.size();
  }

  async #addPath(entry: TarEntry, cleaned: ByteString): Promise<void> {
    if (cleaned === "") {
      // The layer's root keeps the owner and mode of a root directory, as with docker: an archive of a temporary directory says 0700 here.
      if (entry.type !== "dir") throw refused(entry.name, "would replace the root directory");
      return;
    }
    const path = joinPath(this.#model.resolveDirectory(parentOf(cleaned), entry.name), baseOf(cleaned));
    const old = this.#model.get(path);
    if (entry.type === "link") return this.#addLink(entry, path, old);
    await this.#makeParents(path, entry);
    if (entry.type === "dir") return this.#addDirectory(entry, path, old);
    await this.#clear(path, old);
    const content = contentOf(entry.type === "file" ? entry.size : entry.type === "symlink" ? entry.linkname.length : 0);
    if (entry.type === "file") {
      this.#model.set(path, { kind: "file", content, record: await this.#writeFile(entry, path) });
    } else if (entry.type === "symlink") {
      if (entry.linkname === "") throw refused(entry.name, "is a symbolic link to nothing");
      await this.#tree.symlink(toBytes(path), toBytes(entry.linkname), metaOf(entry));
      this.#model.set(path, { kind: "symlink", target: entry.linkname, content });
    } else {
      await this.#tree.mknod(toBytes(path), entry.type, entry.major, entry.minor, metaOf(entry));
      this.#model.set(path, { kind: "other", content });
    }
  }

  async #addDirectory(entry: TarEntry, path: ByteString, old: LayerNode | undefined): Promise<void> {
    const meta = metaOf(entry);
    if (old?.kind === "dir") {
      await this.#tree.setMeta(toBytes(path), meta);
    } else {
      if (old !== undefined && old.kind !== "whiteout") await this.#clear(path, old);
      await this.#makeDirectory(path, meta, old?.kind === "whiteout");
    }
    this.#directories.set(path, meta);
  }

  async #makeDirectory(path: ByteString, meta: FileMeta, replacesWhiteout: boolean): Promise<DirNode> {
    await this.#tree.mkdir(toBytes(path), meta);
    const node = dirNode(replacesWhiteout);
    this.#model.set(path, node);
    this.#directories.set(path, meta);
    // A directory where the same archive has removed the one below does not continue it.
    if (replacesWhiteout && this.#options.whiteouts === "overlay") await this.#tree.setXattr(toBytes(path), opaqueXattr, Buffer.from("y"));
    return node;
  }

  async #addLink(entry: TarEntry, path: ByteString, old: LayerNode | undefined): Promise<void> {
    const target = cleanPath(entry.linkname, entry.name);
    const existing = joinPath(this.#model.resolveDirectory(parentOf(target), entry.name), baseOf(target));
    const node = target === "" ? undefined : this.#model.get(existing);
    if (node === undefined || node.kind === "whiteout")
      throw refused(entry.name, `is a hard link to "${printable(entry.linkname)}", which is not in this layer`);
    if (node.kind === "dir") throw refused(entry.name, `is a hard link to the directory "${printable(entry.linkname)}"`);
    if (existing === path) return;
    if (existing.startsWith(`${path}/`)) throw refused(entry.name, `is a hard link to "${printable(entry.linkname)}" in the directory that it replaces`);
    await this.#makeParents(path, entry);
    await this.#clear(path, old);
    await this.#tree.link(toBytes(path), toBytes(existing));
    node.content.linked = true;
    // The content's record stays with the name it came under.
    this.#model.set(path, node.kind === "file" ? { ...node, record: undefined } : node);
  }

  async #writeFile(entry: TarEntry, path: ByteString): Promise<number | undefined> {
    if (this.#tree.placeFile?.(parentOf(path), baseOf(path), placeOf(entry), metaOf(entry)) === true) return undefined;
    const record = entry.storedSize > 0 ? this.#options.index?.file(path, entry.storedSize, entry.sparse) : undefined;
    await this.#tree.openFile(toBytes(path), entry.sparse === undefined ? entry.size : 0);
    if (entry.sparse === undefined) {
      for (let piece = await this.#reader.read(); piece !== undefined; piece = await this.#reader.read()) await this.#tree.writeData(piece);
    } else {
      await this.#writeSparse(entry.sparse, entry.size);
    }
    await this.#tree.closeFile(metaOf(entry));
    return record;
  }

  async #writeSparse(extents: NonNullable<TarEntry["sparse"]>, size: number): Promise<void> {
    let at = 0;
    let piece: Uint8Array = new Uint8Array();
    for (const { offset, length } of extents) {
      if (offset > at) await this.#tree.skip(offset - at);
      for (let missing = length; missing > 0; ) {
        if (piece.byteLength === 0) piece = (await this.#reader.read()) ?? new Uint8Array();
        const part = piece.subarray(0, missing);
        piece = piece.subarray(part.byteLength);
        missing -= part.byteLength;
        await this.#tree.writeData(part);
      }
      at = offset + length;
    }
    if (size > at) await this.#tree.skip(size - at);
  }

  async #addWhiteout(entry: TarEntry, cleaned: ByteString): Promise<void> {
    const path = joinPath(this.#model.resolveDirectory(parentOf(cleaned), entry.name), baseOf(cleaned));
    const own = this.#model.get(path);
    // A whiteout speaks of the layers below (image-spec layer.md): what this archive itself has put there stays, and stands alone.
    if (own?.kind === "dir") return this.#hideLower(path, own);
    if (own !== undefined) return;
    const copied = this.#options.whiteouts === "delete";
    const hidden = this.#model.hidesLower(parentOf(path));
    if (hidden || (copied ? await this.#tree.lstat(toBytes(path)) : await this.#options.lower?.(path)) === undefined) return;
    await this.#makeParents(path, entry);
    if (copied) await this.#tree.remove(toBytes(path));
    else await this.#tree.mknod(toBytes(path), "char", 0, 0, { mode: 0, uid: 0, gid: 0, mtimeNs: entry.mtimeNs });
    this.#model.set(path, { kind: "whiteout" });
  }

  async #addOpaque(entry: TarEntry, cleaned: ByteString): Promise<void> {
    const path = this.#model.resolveDirectory(cleaned, entry.name);
    if (path !== "") await this.#makeParents(joinPath(path, "x"), entry);
    const node = this.#model.get(path);
    if (node?.kind !== "dir") throw refused(entry.name, `makes "${printable(path)}" opaque, which is not a directory`);
    await this.#hideLower(path, node);
  }

  async #hideLower(path: ByteString, node: DirNode): Promise<void> {
    if (node.hidesLower) return;
    node.hidesLower = true;
    if (this.#options.whiteouts === "overlay") {
      if (this.#options.lower !== undefined) await this.#tree.setXattr(toBytes(path), opaqueXattr, Buffer.from("y"));
      return;
    }
    const doomed: ByteString[] = [];
    for await (const entry of this.#tree.walk(toBytes(path))) {
      const at = toByteString(entry.path);
      const parent = parentOf(at);
      if (at === path || this.#model.get(at) !== undefined) continue;
      // Of what goes, only the top-most is named.
      if (parent === path || this.#model.get(parent)?.kind === "dir") doomed.push(at);
    }
    for (const at of doomed) await this.#tree.remove(toBytes(at));
  }

  /** Makes the directories above `path` that neither the archive nor, in a copy, the layers below have. Records that something is made in the last. */
  async #makeParents(path: ByteString, entry: TarEntry): Promise<void> {
    const parent = parentOf(path);
    this.#touch(parent);
    if (this.#model.get(parent)?.kind === "dir") return;
    let at: ByteString = "";
    for (const part of parent.split("/")) {
      const above = at;
      at = joinPath(at, part);
      const node = this.#model.get(at);
      if (node?.kind === "dir") continue;
      this.#touch(above);
      await this.#makeImplicit(at, node?.kind === "whiteout", entry);
    }
  }

  /** A directory that the archive only implies looks as it does below, or as root's own. */
  async #makeImplicit(path: ByteString, replacesWhiteout: boolean, entry: TarEntry): Promise<void> {
    const copied = this.#options.whiteouts === "delete";
    const hidden = replacesWhiteout || this.#model.hidesLower(parentOf(path));
    const below = hidden ? undefined : copied ? await this.#tree.lstat(toBytes(path)) : await this.#options.lower?.(path);
    if (below?.type !== "dir") {
      await this.#makeDirectory(path, { ...defaultDirectory, mtimeNs: entry.mtimeNs }, replacesWhiteout);
      return;
    }
    const meta = { mode: below.mode, uid: below.uid, gid: below.gid, mtimeNs: below.mtimeNs, xattrs: below.xattrs.filter(({ name }) => !isOverlayXattr(name)) };
    if (copied) {
      this.#model.set(path, dirNode(false));
      this.#directories.set(path, meta);
    } else {
      await this.#makeDirectory(path, meta, false);
    }
  }

  /** Makes room for what is no directory. */
  async #clear(path: ByteString, old: LayerNode | undefined): Promise<void> {
    if (old === undefined) {
      if (this.#options.whiteouts === "delete") await this.#tree.remove(toBytes(path));
      return;
    }
    if (old.kind === "whiteout") {
      if (this.#options.whiteouts === "overlay") await this.#tree.remove(toBytes(path));
      return;
    }
    await this.#keep(path, old);
    if (old.kind === "dir") {
      for (const [at, node] of pathsBelow(path, old)) await this.#keep(at, node);
      for (const directory of this.#touched) if (directory === path || directory.startsWith(`${path}/`)) this.#touched.delete(directory);
      this.#lastTouched = undefined;
    }
    await this.#tree.remove(toBytes(path));
  }

  async #keep(path: ByteString, node: LayerNode): Promise<void> {
    if (node.kind !== "file" || node.record === undefined || this.#options.keep === undefined) return;
    await this.#tree.flush();
    await this.#options.keep(path, node.record);
  }
}

/** Says that {@link Unpacker} did nothing. */
const notPlaced: unique symbol = Symbol("not placed");

function placeOf({ size, dataOffset, sparse }: TarEntry) {
  return { size, offset: dataOffset, sparse };
}

function metaOf({ mode, uid, gid, mtimeNs, xattrs }: TarEntry): FileMeta {
  if (xattrs.length === 0) return { mode, uid, gid, mtimeNs };
  const own = xattrs.filter(({ name }) => !isOverlayXattr(name));
  return own.length === 0 ? { mode, uid, gid, mtimeNs } : { mode, uid, gid, mtimeNs, xattrs: own };
}

/** Failures of the file tree get the entry they belong to (operations are pipelined: it may be an earlier one, which the tree names). */
function unpackError(error: unknown, entry: ByteString | undefined): unknown {
  if (!isEngineError(error) || error.details.errno === undefined) return error;
  const { errno } = error.details;
  const path = typeof error.details["path"] === "string" ? error.details["path"] : entry === undefined ? "a layer" : printable(entry);
  if (errno === "ENOSPC" || errno === "EDQUOT")
    return new EngineError("storage", `unpacking "${path}": no space left on device`, { cause: error, details: error.details });
  return new EngineError(error.code, `unpacking "${path}": ${error.message}`, { cause: error, details: error.details });
}
