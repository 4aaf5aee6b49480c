import { EngineError } from "#core/errors.ts";
import { type ByteString, printable, toBytes } from "../bytes.ts";
import { writeLong } from "../longs.ts";
import type { Xattr } from "../tar/entry.ts";
import {
  CHUNK_INDEXES,
  COMPAT_CHECKSUM_MTIME,
  crc32c,
  DEVICE_SLOT,
  DEVICE_TABLE_OFFSET,
  DIRENT_SIZE,
  FILE_TYPE,
  INCOMPAT_CHUNKS_DEVICES,
  INODE_SIZE,
  INODES_OFFSET,
  LAYOUT,
  NID_UNIT,
  S_IFMT,
  SUPER_MAGIC,
  SUPER_OFFSET,
  XATTR_PREFIXES,
} from "./format.ts";

/** What every inode has. */
export interface InodeMeta {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  readonly xattrs: readonly Xattr[];
}

/** An inode; one that stands under several names of the tree is a file with hard links. */
export type ErofsNode =
  | { readonly kind: "dir"; meta: InodeMeta; readonly children: Map<ByteString, ErofsNode> }
  | { readonly kind: "symlink"; meta: InodeMeta; readonly target: ByteString }
  | { readonly kind: "file"; meta: InodeMeta; readonly size: number; readonly chunks: Chunks }
  | { readonly kind: "char" | "block"; meta: InodeMeta; readonly major: number; readonly minor: number }
  | { readonly kind: "fifo"; meta: InodeMeta };

/** Where a file's content lies: each chunk of `blockSize << bits` bytes on a device (1 = the first) from a block on; the last may be shorter. */
export interface Chunks {
  readonly bits: number;
  readonly device: number;
  /** Block numbers; NULL_BLOCK = a hole. Empty for an empty file. */
  readonly blocks: readonly number[];
}

export interface ImageOptions {
  /** Log 2 of the block size. 9 for files in a tar; fsck.erofs before 1.6 knows only 12. */
  readonly blockBits: number;
  /** Sizes of the further devices, in blocks. */
  readonly deviceBlocks: readonly number[];
}

interface Laid {
  readonly node: ErofsNode;
  readonly parent: Laid;
  readonly xattrs: Buffer;
  readonly dir: DirLayout | undefined;
  /** Data in the image: a directory's or link's. Bytes. */
  readonly size: number;
  /** Bytes of it that stand behind the inode. */
  readonly tail: number;
  offset: number;
  nlink: number;
  block: number;
}

interface LaidDirectory {
  readonly node: ErofsNode & { kind: "dir" };
  readonly laid: Laid;
}

/** A directory's names in order, and where each block of it begins among them. */
interface DirLayout {
  readonly names: readonly ByteString[];
  readonly starts: readonly number[];
  readonly size: number;
}

/** Makes the image of a tree. Everything about it but the contents of files is in it. */
export function buildImage(root: ErofsNode & { kind: "dir" }, options: ImageOptions): Buffer {
  const steps = imageSteps(root, options);
  for (let next = steps.next(); ; next = steps.next()) if (next.done === true) return next.value;
}

/** The same in steps of some inodes each, for who must let others run in between. */
export function imageSteps(root: ErofsNode & { kind: "dir" }, options: ImageOptions): Generator<void, Buffer> {
  return new ImageBuilder(options).build(root);
}

/** Writes inodes of 64 bytes (erofs_inode_extended). That every number of a block fits into its field is known from the image's size and its devices' sizes. */
class InodeWriter {
  readonly #view: DataView;
  /** The last time that was written, cut in two: inodes that follow each other have the same more often than not. */
  #mtimeNs = 0n;
  #seconds = 0n;
  #ns = 0;

  constructor(image: Buffer) {
    this.#view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  }

  write({ node, offset, xattrs, size, nlink }: Laid, layout: number, union: number): void {
    const { meta } = node;
    const view = this.#view;
    const bytes = node.kind === "file" ? node.size : size;
    if (meta.mtimeNs !== this.#mtimeNs) this.#cut(meta.mtimeNs);
    view.setUint16(offset, 1 | (layout << 1), true);
    view.setUint16(offset + 2, xattrs.length === 0 ? 0 : (xattrs.length - 12) / 4 + 1, true);
    view.setUint16(offset + 4, S_IFMT[node.kind] | (meta.mode & 0o7777), true);
    view.setUint32(offset + 8, bytes, true);
    view.setUint32(offset + 12, Math.floor(bytes / 2 ** 32), true);
    view.setUint32(offset + 16, union, true);
    view.setUint32(offset + 20, offset / NID_UNIT, true);
    view.setUint32(offset + 24, meta.uid, true);
    view.setUint32(offset + 28, meta.gid, true);
    view.setBigInt64(offset + 32, this.#seconds, true);
    view.setUint32(offset + 40, this.#ns, true);
    view.setUint32(offset + 44, nlink, true);
  }

  #cut(mtimeNs: bigint): void {
    const ns = ((mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
    this.#mtimeNs = mtimeNs;
    this.#ns = Number(ns);
    this.#seconds = (mtimeNs - ns) / 1_000_000_000n;
  }
}

const maxDevices = 1000;
const inodesAtOnce = 4;

class ImageBuilder {
  readonly #blockBits: number;
  readonly #blockSize: number;
  readonly #devices: readonly number[];
  readonly #laid = new Map<ErofsNode, Laid>();
  #end: number;

  constructor({ blockBits, deviceBlocks }: ImageOptions) {
    this.#blockBits = blockBits;
    this.#blockSize = 1 << blockBits;
    this.#devices = deviceBlocks;
    // The root's number has 16 bits.
    if (deviceBlocks.length > maxDevices) throw new EngineError("unsupported", `an EROFS image of more than ${maxDevices} devices`);
    this.#end = Math.max(INODES_OFFSET, DEVICE_TABLE_OFFSET + deviceBlocks.length * DEVICE_SLOT);
  }

  *build(root: ErofsNode & { kind: "dir" }): Generator<void, Buffer> {
    yield* this.#layTree(root);
    const inodesEnd = this.#align(this.#end);
    let block = inodesEnd / this.#blockSize;
    for (const laid of this.#laid.values()) {
      const whole = laid.size - laid.tail;
      if (whole === 0) continue;
      laid.block = block;
      block += Math.ceil(whole / this.#blockSize);
    }
    if (block > 0xfffffffe) throw new EngineError("unsupported", "the layer's metadata is too large for one EROFS image");
    const image = Buffer.alloc(block * this.#blockSize);
    const inodes = new InodeWriter(image);
    let written = 0;
    for (const laid of this.#laid.values()) {
      this.#writeInode(image, inodes, laid);
      if (++written % inodesAtOnce === 0) yield;
    }
    this.#writeSuper(image, root);
    return image;
  }

  #align(offset: number): number {
    return Math.ceil(offset / this.#blockSize) * this.#blockSize;
  }

  *#layTree(root: ErofsNode): Generator<void, void> {
    const directories: LaidDirectory[] = [];
    const lay = (node: ErofsNode, parent: Laid | undefined) => {
      const laid = this.#lay(node, parent);
      this.#laid.set(node, laid);
      if (node.kind !== "dir") return;
      if (parent !== undefined) parent.nlink++;
      directories.push({ node, laid });
    };
    lay(root, undefined);
    // A directory's own come together: listing it with its inodes reads few blocks.
    for (let at = 0, count = 0; at < directories.length; at++) {
      const { node, laid } = directories[at]!;
      for (const child of node.children.values()) {
        const known = this.#laid.get(child);
        if (known === undefined) lay(child, laid);
        else known.nlink++;
        if (++count % inodesAtOnce === 0) yield;
      }
    }
  }

  #lay(node: ErofsNode, parent: Laid | undefined): Laid {
    const xattrs = formatXattrs(node.meta.xattrs);
    const dir = node.kind === "dir" ? layDirectory(node.children, this.#blockSize) : undefined;
    const size = dir?.size ?? (node.kind === "symlink" ? node.target.length : 0);
    const head = INODE_SIZE + xattrs.length;
    let offset = Math.ceil(this.#end / NID_UNIT) * NID_UNIT;
    let tail = size % this.#blockSize;
    // What stands behind the inode must lie in one block.
    if (tail > 0 && ((offset + head) % NID_UNIT) + tail > this.#blockSize) tail = 0;
    while (tail > 0 && ((offset + head) % this.#blockSize) + tail > this.#blockSize) offset += NID_UNIT;
    this.#end = offset + head + tail;
    if (node.kind === "file" && node.chunks.blocks.length > 0) this.#end = chunkTable(offset + head) + 8 * node.chunks.blocks.length;
    const laid: Omit<Laid, "parent"> & { parent: Laid | undefined } = {
      node,
      parent,
      xattrs,
      dir,
      size,
      tail,
      offset,
      nlink: node.kind === "dir" ? 2 : 1,
      block: 0,
    };
    laid.parent ??= laid as Laid;
    return laid as Laid;
  }

  #writeInode(image: Buffer, inodes: InodeWriter, laid: Laid): void {
    const { node, offset, xattrs } = laid;
    const chunked = node.kind === "file" && node.chunks.blocks.length > 0;
    let union = laid.block;
    if (node.kind === "file" && chunked) union = CHUNK_INDEXES | node.chunks.bits;
    else if (node.kind === "char" || node.kind === "block") union = encodeDevice(node.major, node.minor);
    inodes.write(laid, chunked ? LAYOUT.chunks : laid.tail > 0 ? LAYOUT.inline : LAYOUT.plain, union);
    if (xattrs.length > 0) xattrs.copy(image, offset + INODE_SIZE);
    const behind = offset + INODE_SIZE + xattrs.length;
    if (node.kind === "file" && chunked) this.#writeChunks(image, chunkTable(behind), node.chunks);
    else if (node.kind === "dir") this.#writeDirectory(image, behind, laid, node.children);
    else if (node.kind === "symlink") this.#writeLink(image, behind, laid, toBytes(node.target));
  }

  /** What does not stand behind the inode lies in blocks of its own. */
  #writeLink(image: Buffer, behind: number, laid: Laid, target: Buffer): void {
    const whole = laid.size - laid.tail;
    target.copy(image, laid.block * this.#blockSize, 0, whole);
    if (laid.tail > 0) target.copy(image, behind, whole);
  }

  #writeChunks(image: Buffer, at: number, { device, blocks }: Chunks): void {
    for (const [i, block] of blocks.entries()) {
      image.writeUInt16LE(device, at + i * 8 + 2);
      image.writeUInt32LE(block, at + i * 8 + 4);
    }
  }

  #writeDirectory(image: Buffer, behind: number, laid: Laid, children: ReadonlyMap<ByteString, ErofsNode>): void {
    const { names, starts } = laid.dir!;
    const wholeBlocks = Math.floor((laid.size - laid.tail + this.#blockSize - 1) / this.#blockSize);
    for (const [i, first] of starts.entries()) {
      const last = starts[i + 1] ?? names.length;
      const at = i < wholeBlocks ? (laid.block + i) * this.#blockSize : behind;
      let nameAt = (last - first) * DIRENT_SIZE;
      for (let n = first; n < last; n++) {
        const name = names[n]!;
        const target = name === "." ? laid : name === ".." ? laid.parent : this.#laid.get(children.get(name)!)!;
        const entry = at + (n - first) * DIRENT_SIZE;
        writeLong(image, target.offset / NID_UNIT, entry);
        image.writeUInt16LE(nameAt, entry + 8);
        image.writeUInt8(FILE_TYPE[target.node.kind], entry + 10);
        image.write(name, at + nameAt, "latin1");
        nameAt += name.length;
      }
    }
  }

  #writeSuper(image: Buffer, root: ErofsNode): void {
    const s = image.subarray(SUPER_OFFSET);
    s.writeUInt32LE(SUPER_MAGIC, 0);
    s.writeUInt32LE(COMPAT_CHECKSUM_MTIME, 8);
    s.writeUInt8(this.#blockBits, 12);
    s.writeUInt16LE(this.#laid.get(root)!.offset / NID_UNIT, 14);
    s.writeBigUInt64LE(BigInt(this.#laid.size), 16);
    s.writeUInt32LE(image.length / this.#blockSize, 36);
    s.writeUInt32LE(INCOMPAT_CHUNKS_DEVICES, 80);
    s.writeUInt16LE(this.#devices.length, 86);
    s.writeUInt16LE(DEVICE_TABLE_OFFSET / DEVICE_SLOT, 88);
    for (const [i, blocks] of this.#devices.entries()) image.writeUInt32LE(blocks, DEVICE_TABLE_OFFSET + i * DEVICE_SLOT + 64);
    // Over the rest of the superblock's block.
    const length = this.#blockSize > SUPER_OFFSET ? this.#blockSize - SUPER_OFFSET : this.#blockSize;
    s.writeUInt32LE(crc32c(s.subarray(0, length)), 4);
  }
}

/** Where a file's table of chunks is, when its inode and attributes end at `offset`. */
export function chunkTable(offset: number): number {
  return Math.ceil(offset / 8) * 8;
}

/** The kernel's new_encode_dev(). */
function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** Names sorted by their bytes, with `.` and `..` where they belong, cut into blocks. */
function layDirectory(children: ReadonlyMap<ByteString, ErofsNode>, blockSize: number): DirLayout {
  const names = [".", "..", ...children.keys()].sort(); // by characters, which are bytes
  const starts = [0];
  let used = 0;
  for (const [i, name] of names.entries()) {
    const needed = DIRENT_SIZE + name.length;
    if (used + needed > blockSize) {
      starts.push(i);
      used = 0;
    }
    used += needed;
  }
  return { names, starts, size: (starts.length - 1) * blockSize + used };
}

const noXattrs = Buffer.alloc(0);

/** Attributes as they stand behind an inode; nothing when there are none. */
function formatXattrs(xattrs: readonly Xattr[]): Buffer {
  if (xattrs.length === 0) return noXattrs;
  const parts = [Buffer.alloc(12)];
  for (const { name, value } of xattrs) {
    const prefix = XATTR_PREFIXES.find(([, text]) => (text.endsWith(".") ? name.startsWith(text) : name === text));
    const rest = Buffer.from(prefix === undefined ? "" : name.slice(prefix[1].length));
    if (prefix === undefined || rest.length > 255 || value.byteLength > 0xffff)
      throw new EngineError(
        "unsupported",
        `an extended attribute "${printable(Buffer.from(name))}" of ${value.byteLength} bytes cannot be stored in an EROFS image`,
      );
    const entry = Buffer.alloc(Math.ceil((4 + rest.length + value.byteLength) / 4) * 4);
    entry.writeUInt8(rest.length, 0);
    entry.writeUInt8(prefix[0], 1);
    entry.writeUInt16LE(value.byteLength, 2);
    rest.copy(entry, 4);
    entry.set(value, 4 + rest.length);
    parts.push(entry);
  }
  const all = Buffer.concat(parts);
  if ((all.length - 12) / 4 + 1 > 0xffff) throw new EngineError("unsupported", "a file's extended attributes are too many for an EROFS image");
  return all;
}
