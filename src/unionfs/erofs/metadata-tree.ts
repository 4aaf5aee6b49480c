import { type FileHandle, open } from "node:fs/promises";
import { EngineError } from "#core/errors.ts";
import type { Bytes, FileMeta, FileTree, OpenedFile, TreePath, TreeStat } from "#linux/file-tree.ts";
import { baseOf, type ByteString, joinPath, parentOf, printable, toByteString, toBytes } from "../bytes.ts";
import type { Extent } from "../tar/entry.ts";
import { MAX_CHUNK_BITS, NULL_BLOCK } from "./format.ts";
import { buildImage, type Chunks, type ErofsNode, type InodeMeta } from "./image.ts";

/** Where contents of files are, and how an image counts. */
export interface ErofsForm {
  /** Log 2 of the block size: 9 (a tar's blocks, Linux 6.4), or 12 (a page). */
  readonly blockBits: 9 | 12;
  /** Contents stay in the archive, which takes blocks of 512 bytes; else all of them are written to a file of their own. */
  readonly archive: boolean;
}

/** Linux 6.4. */
export const inArchive: ErofsForm = { blockBits: 9, archive: true };
/** Linux 5.16: blocks are pages, and contents of files must lie on them. */
export const onPages: ErofsForm = { blockBits: 12, archive: false };

/** A sparse file with more chunks than this (a megabyte of table) is written out instead. */
const maxChunks = 1 << 17;
/** And one that is written out keeps its holes in a table of this many. */
const maxHoleChunks = 1 << 14;
const tarDevice = 1;
const noXattrs: InodeMeta["xattrs"] = [];

/** A file whose content lies in the archive. */
export interface PlacedFile {
  /** Bytes. */
  readonly size: number;
  /** Where its stored data begins in the archive, bytes. */
  readonly offset: number;
  readonly sparse: readonly Extent[] | undefined;
}

/** A file that is being written out, and how far it is. */
interface OpenFile {
  readonly path: TreePath;
  readonly start: number;
  at: number;
  /** What was written of it: from, to (bytes of the spill), in order. */
  readonly runs: [number, number][];
}

/**
 * A layer's tree in memory, on its way to an EROFS image: contents of files stay where they are in the archive. Only sparse files whose runs do not fall on blocks are written
 * out, to a file of their own (`spill`, opened when the first one comes); or all contents, in the form that has no archive.
 */
export class MetadataTree implements FileTree {
  readonly #root: ErofsNode & { kind: "dir" } = { kind: "dir", meta: { mode: 0o755, uid: 0, gid: 0, mtimeNs: 0n, xattrs: [] }, children: new Map() };
  readonly #openSpill: () => Promise<FileHandle>;
  readonly #form: ErofsForm;
  readonly #blockSize: number;
  /** Where something was put last: a directory's own come one after the other. */
  #lastPath: ByteString = "";
  #last: ErofsNode & { kind: "dir" } = this.#root;
  #lastMeta: InodeMeta = this.#root.meta;
  #spill: FileHandle | undefined;
  #spillEnd = 0;
  #file: OpenFile | undefined;

  constructor(form: ErofsForm, openSpill: () => Promise<FileHandle>) {
    this.#form = form;
    this.#blockSize = 1 << form.blockBits;
    this.#openSpill = openSpill;
  }

  get spilled(): boolean {
    return this.#spill !== undefined;
  }

  /** The image; `tarBytes` is the archive's length. */
  async image(tarBytes: number): Promise<Buffer> {
    const { archive, blockBits } = this.#form;
    if (!archive) {
      // A device of no blocks is none.
      this.#spill ??= await this.#openSpill();
      this.#spillEnd ||= this.#blockSize;
    }
    // The device ends where its last file does.
    if (this.#spill !== undefined) await this.#spill.truncate(this.#spillEnd);
    const spill = this.spilled ? [this.#spillEnd / this.#blockSize] : [];
    return buildImage(this.#root, { blockBits, deviceBlocks: archive ? [Math.ceil(tarBytes / this.#blockSize), ...spill] : spill });
  }

  /** Copies out what was written of a file, to `target`: it is about to be replaced by another. */
  async copyContent(path: TreePath, target: string): Promise<void> {
    const node = this.#get(path);
    if (node?.kind !== "file" || this.#form.archive) throw notThere("copy", path);
    await using copy = await open(target, "wx", 0o600);
    const start = (node.chunks.blocks[0] ?? 0) * this.#blockSize;
    const buffer = Buffer.allocUnsafe(256 * 1024);
    for (let done = 0; done < node.size; ) {
      const { bytesRead } = await this.#spill!.read(buffer, 0, Math.min(buffer.length, node.size - done), start + done);
      // The end of a file that ends in a hole may not be there yet.
      if (bytesRead === 0) return copy.truncate(node.size);
      await copy.write(buffer, 0, bytesRead, done);
      done += bytesRead;
    }
  }

  /** False when the content must be written ({@link openFile} …) because its runs do not lie on blocks. */
  placeFile(directory: ByteString, name: ByteString, file: PlacedFile, meta: FileMeta): boolean {
    if (!this.#form.archive) return false;
    const chunks =
      file.sparse === undefined
        ? contiguous(file.size, this.#blockSize, tarDevice, file.offset)
        : sparseChunks(file.size, this.#blockSize, file.offset, file.sparse);
    if (chunks === undefined) return false;
    this.#putIn(directory, name, { kind: "file", meta: this.#metaOf(meta), size: file.size, chunks });
    return true;
  }

  async mkdir(path: TreePath, meta: FileMeta): Promise<void> {
    const old = this.#get(path);
    if (old?.kind === "dir") await this.setMeta(path, meta);
    else this.#put(path, { kind: "dir", meta: this.#metaOf(meta), children: new Map() });
  }

  async openFile(path: TreePath): Promise<void> {
    this.#spill ??= await this.#openSpill();
    this.#file = { path, start: this.#spillEnd, at: this.#spillEnd, runs: [] };
  }

  async writeData(chunk: Bytes): Promise<void> {
    const file = this.#current();
    for (let done = 0; done < chunk.byteLength; ) done += (await this.#spill!.write(chunk, done, chunk.byteLength - done, file.at + done)).bytesWritten;
    const last = file.runs.at(-1);
    if (last?.[1] === file.at) last[1] += chunk.byteLength;
    else file.runs.push([file.at, file.at + chunk.byteLength]);
    file.at += chunk.byteLength;
  }

  async skip(bytes: number): Promise<void> {
    this.#current().at += bytes;
  }

  async closeFile(meta: FileMeta): Promise<void> {
    const { path, start, at, runs } = this.#current();
    this.#file = undefined;
    this.#spillEnd = Math.ceil(at / this.#blockSize) * this.#blockSize;
    const device = this.#form.archive ? tarDevice + 1 : 1;
    const whole = contiguous(at - start, this.#blockSize, device, start);
    const written = runs.length === 1 && runs[0]![0] === start && runs[0]![1] === at;
    const chunks = written || at === start ? whole : withHoles({ start, end: at, runs }, this.#blockSize, device);
    this.#put(path, { kind: "file", meta: this.#metaOf(meta), size: at - start, chunks });
  }

  async symlink(path: TreePath, target: TreePath, meta: FileMeta): Promise<void> {
    this.#put(path, { kind: "symlink", meta: this.#metaOf({ ...meta, mode: 0o777 }), target: text(target) });
  }

  async link(path: TreePath, existing: TreePath): Promise<void> {
    const node = this.#get(existing);
    if (node === undefined) throw notThere("link", existing);
    this.#put(path, node);
  }

  async mknod(path: TreePath, type: "char" | "block" | "fifo", major: number, minor: number, meta: FileMeta): Promise<void> {
    this.#put(path, type === "fifo" ? { kind: type, meta: this.#metaOf(meta) } : { kind: type, meta: this.#metaOf(meta), major, minor });
  }

  async setMeta(path: TreePath, meta: FileMeta): Promise<void> {
    const node = this.#get(path);
    if (node === undefined) throw notThere("setMeta", path);
    const before = node.meta.xattrs.filter(({ name }) => meta.xattrs?.some((xattr) => xattr.name === name) !== true);
    node.meta = { ...this.#metaOf(meta), xattrs: [...before, ...(meta.xattrs ?? [])] };
  }

  async setXattr(path: TreePath, name: string, value: Bytes): Promise<void> {
    const node = this.#get(path);
    if (node === undefined) throw notThere("setXattr", path);
    node.meta = { ...node.meta, xattrs: [...node.meta.xattrs.filter((xattr) => xattr.name !== name), { name, value }] };
  }

  async remove(path: TreePath): Promise<void> {
    const at = text(path);
    const parent = this.#get(parentOf(at));
    this.#forgetLast();
    if (parent?.kind === "dir") parent.children.delete(baseOf(at));
  }

  async rename(from: TreePath, to: TreePath): Promise<void> {
    await this.link(to, from);
    await this.remove(from);
  }

  async ensureDirectory(path: TreePath, meta: FileMeta): Promise<void> {
    if (this.#get(path) === undefined) await this.mkdir(path, meta);
  }

  async expect(): Promise<void> {
    throw new Error("the tree of an image is only written");
  }

  async setDirectoryMeta(path: TreePath, meta: FileMeta): Promise<void> {
    if (this.#get(path)?.kind === "dir") await this.setMeta(path, meta);
  }

  async flush(): Promise<void> {}
  async sync(): Promise<void> {}

  async lstat(): Promise<TreeStat | undefined> {
    throw new Error("the tree of an image is only written");
  }

  // biome-ignore lint/correctness/useYield: nothing to give
  async *walk(): AsyncIterable<TreeStat> {
    throw new Error("the tree of an image is only written");
  }

  async readFile(): Promise<OpenedFile> {
    throw new Error("the tree of an image is only written");
  }

  async close(): Promise<void> {
    await this.#spill?.close();
  }

  #current(): OpenFile {
    if (this.#file === undefined) throw new Error("no file is open");
    return this.#file;
  }

  #get(path: TreePath): ErofsNode | undefined {
    return this.#at(text(path));
  }

  #at(at: ByteString): ErofsNode | undefined {
    let node: ErofsNode | undefined = this.#root;
    if (at === "") return node;
    for (const part of at.split("/")) {
      if (node?.kind !== "dir") return undefined;
      node = node.children.get(part);
    }
    return node;
  }

  #put(path: TreePath, node: ErofsNode): void {
    const at = text(path);
    this.#putIn(parentOf(at), baseOf(at), node);
  }

  #putIn(directory: ByteString, name: ByteString, node: ErofsNode): void {
    const parent = directory === this.#lastPath ? this.#last : this.#at(directory);
    if (parent?.kind !== "dir") throw notThere("create", toBytes(joinPath(directory, name)));
    if (parent.children.has(name)) this.#forgetLast();
    else this.#remember(directory, parent);
    parent.children.set(name, node);
  }

  /** Files that follow each other look alike more often than not: then they have one between them, of which nothing is changed. */
  #metaOf({ mode, uid, gid, mtimeNs, xattrs = noXattrs }: FileMeta): InodeMeta {
    const last = this.#lastMeta;
    const alike = xattrs.length === 0 && last.xattrs.length === 0 && last.mode === mode && last.uid === uid && last.gid === gid && last.mtimeNs === mtimeNs;
    return alike ? last : (this.#lastMeta = { mode, uid, gid, mtimeNs, xattrs });
  }

  #remember(path: ByteString, directory: ErofsNode & { kind: "dir" }): void {
    this.#lastPath = path;
    this.#last = directory;
  }

  /** What it was, or lay in, may be gone. */
  #forgetLast(): void {
    this.#remember("", this.#root);
  }
}

function text(path: TreePath): ByteString {
  return typeof path === "string" ? toByteString(Buffer.from(path)) : toByteString(path);
}

function notThere(op: string, path: TreePath): EngineError {
  return new EngineError("storage", `${op}: "${printable(text(path))}" is not in the layer`, { details: { errno: "ENOENT", path: printable(text(path)) } });
}

/** One run: as few chunks as the format allows. */
function contiguous(size: number, blockSize: number, device: number, offset: number): Chunks {
  let bits = 0;
  let chunkBlocks = 1;
  for (; bits < MAX_CHUNK_BITS && blockSize * chunkBlocks < size; bits++) chunkBlocks *= 2;
  if (size > 0 && blockSize * chunkBlocks >= size) return { bits, device, blocks: [offset / blockSize] };
  return { bits, device, blocks: Array.from({ length: Math.ceil(size / (blockSize * chunkBlocks)) }, (_, i) => offset / blockSize + i * chunkBlocks) };
}

/** Chunks of a file that was written with holes, those that nothing was written to left out: as small as a table of some size has room for. */
function withHoles(
  { start, end, runs }: { readonly start: number; readonly end: number; readonly runs: readonly (readonly [number, number])[] },
  blockSize: number,
  device: number,
): Chunks {
  let bits = 0;
  while ((end - start) / (blockSize * 2 ** bits) > maxHoleChunks) bits++;
  const chunkBytes = blockSize * 2 ** bits;
  const blocks = new Array<number>(Math.ceil((end - start) / chunkBytes)).fill(NULL_BLOCK);
  for (const [from, to] of runs)
    for (let i = Math.floor((from - start) / chunkBytes); i * chunkBytes < to - start; i++) blocks[i] = start / blockSize + i * 2 ** bits;
  return { bits, device, blocks };
}

/** The largest chunks that every run is made of; undefined when runs do not lie on blocks, or there would be too many chunks. */
function sparseChunks(size: number, blockSize: number, offset: number, extents: readonly Extent[]): Chunks | undefined {
  const runs = extents.filter(({ length }) => length > 0);
  let bits = MAX_CHUNK_BITS;
  const narrow = (value: number) => {
    while (bits >= 0 && value % (blockSize * 2 ** bits) !== 0) bits--;
  };
  for (const run of runs) {
    narrow(run.offset);
    // The end of the file need not be one of a block.
    if (run.offset + run.length < size) narrow(run.length);
  }
  if (bits < 0) return undefined;
  const chunkBytes = blockSize * 2 ** bits;
  const count = Math.ceil(size / chunkBytes);
  if (count > maxChunks) return undefined;
  const blocks: number[] = new Array<number>(count).fill(NULL_BLOCK);
  let stored = offset / blockSize;
  for (const run of runs) {
    for (let at = run.offset; at < run.offset + run.length; at += chunkBytes) {
      blocks[at / chunkBytes] = stored;
      stored += Math.min(chunkBytes, Math.ceil((run.offset + run.length - at) / blockSize) * blockSize) / blockSize;
    }
  }
  return { bits, device: tarDevice, blocks };
}
