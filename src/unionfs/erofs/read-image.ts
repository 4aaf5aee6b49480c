import { type ByteString, corrupt, toByteString } from "../bytes.ts";
import type { Xattr } from "../tar/entry.ts";
import { DIRENT_SIZE, INODE_SIZE, LAYOUT, NID_UNIT, S_IFMT, SUPER_MAGIC, SUPER_OFFSET, XATTR_PREFIXES } from "./format.ts";
import { type Chunks, chunkTable, type ErofsNode, type InodeMeta } from "./image.ts";

const IFMT = 0o170000;
const kinds = new Map<number, ErofsNode["kind"]>(Object.entries(S_IFMT).map(([kind, bits]) => [bits, kind as ErofsNode["kind"]]));

/**
 * Reads an image that {@link buildImage} has made back into the tree that it was made of; `what` names it in errors. A step for every few inodes: to be run to its end, with pauses
 * where others wait.
 * @throws EngineError "corrupt"
 */
export function* readImage(image: Buffer, what: string): Generator<void, ErofsNode & { kind: "dir" }> {
  try {
    if (image.readUInt32LE(SUPER_OFFSET) !== SUPER_MAGIC) throw corrupt(`${what} is not an EROFS image`);
    const reader = new ImageReader(image, what);
    const root = reader.node(image.readUInt16LE(SUPER_OFFSET + 14));
    if (root.kind !== "dir") throw corrupt(`${what} has no root directory`);
    yield* reader.fill();
    return root;
  } catch (error) {
    if (error instanceof RangeError) throw corrupt(`${what} is damaged`, error);
    throw error;
  }
}

class ImageReader {
  readonly #image: Buffer;
  readonly #what: string;
  readonly #blockSize: number;
  readonly #nodes = new Map<number, ErofsNode>();
  /** Directories whose names have not been read yet. */
  readonly #pending: { readonly offset: number; readonly node: ErofsNode & { kind: "dir" } }[] = [];

  constructor(image: Buffer, what: string) {
    this.#image = image;
    this.#what = what;
    this.#blockSize = 1 << (image.readUInt8(SUPER_OFFSET + 12) & 15);
  }

  *fill(): Generator<void, void> {
    for (let next = this.#pending.pop(); next !== undefined; next = this.#pending.pop()) {
      for (const [name, nid] of this.#names(next.offset)) next.node.children.set(name, this.node(nid));
      yield;
    }
  }

  /** One of several names gives the same node: hard links. */
  node(nid: number): ErofsNode {
    const known = this.#nodes.get(nid);
    if (known !== undefined) return known;
    const offset = nid * NID_UNIT;
    const node = this.#read(offset);
    this.#nodes.set(nid, node);
    if (node.kind === "dir") this.#pending.push({ offset, node });
    return node;
  }

  #read(offset: number): ErofsNode {
    const image = this.#image;
    const mode = image.readUInt16LE(offset + 4);
    const kind = kinds.get(mode & IFMT);
    const union = image.readUInt32LE(offset + 16);
    const meta: InodeMeta = {
      mode: mode & 0o7777,
      uid: image.readUInt32LE(offset + 24),
      gid: image.readUInt32LE(offset + 28),
      mtimeNs: image.readBigInt64LE(offset + 32) * 1_000_000_000n + BigInt(image.readUInt32LE(offset + 40)),
      xattrs: this.#xattrs(offset),
    };
    switch (kind) {
      case "dir":
        return { kind, meta, children: new Map() };
      case "symlink":
        return { kind, meta, target: toByteString(this.#data(offset)) };
      case "file":
        return { kind, meta, size: this.#size(offset), chunks: this.#chunks(offset, union) };
      case "char":
      case "block":
        return { kind, meta, major: (union >>> 8) & 0xfff, minor: ((union & 0xff) | ((union >>> 12) & ~0xff)) >>> 0 };
      case "fifo":
        return { kind, meta };
      default:
        throw corrupt(`${this.#what} has an inode of the unknown type ${mode.toString(8)}`);
    }
  }

  #size(offset: number): number {
    return Number(this.#image.readBigUInt64LE(offset + 8));
  }

  #xattrBytes(offset: number): number {
    const count = this.#image.readUInt16LE(offset + 2);
    return count === 0 ? 0 : 12 + (count - 1) * 4;
  }

  #xattrs(offset: number): Xattr[] {
    const xattrs: Xattr[] = [];
    const end = offset + INODE_SIZE + this.#xattrBytes(offset);
    for (let at = offset + INODE_SIZE + 12; at < end; ) {
      const nameBytes = this.#image.readUInt8(at);
      const prefix = XATTR_PREFIXES.find(([number]) => number === this.#image.readUInt8(at + 1));
      const valueBytes = this.#image.readUInt16LE(at + 2);
      if (prefix === undefined) throw corrupt(`${this.#what} has an attribute of an unknown kind`);
      const value = this.#image.subarray(at + 4 + nameBytes, at + 4 + nameBytes + valueBytes);
      xattrs.push({ name: prefix[1] + this.#image.toString("utf8", at + 4, at + 4 + nameBytes), value });
      at += Math.ceil((4 + nameBytes + valueBytes) / 4) * 4;
    }
    return xattrs;
  }

  #chunks(offset: number, union: number): Chunks {
    const layout = (this.#image.readUInt16LE(offset) >>> 1) & 7;
    if (layout !== LAYOUT.chunks) return { bits: 0, device: 1, blocks: [] };
    const bits = union & 31;
    const at = chunkTable(offset + INODE_SIZE + this.#xattrBytes(offset));
    const count = Math.ceil(this.#size(offset) / (this.#blockSize * 2 ** bits));
    if (at + count * 8 > this.#image.length) throw corrupt(`${this.#what} is damaged`);
    return { bits, device: this.#image.readUInt16LE(at + 2), blocks: Array.from({ length: count }, (_, i) => this.#image.readUInt32LE(at + i * 8 + 4)) };
  }

  /** What lies in the image itself: in blocks of its own, and what is left behind the inode when its layout says so. */
  #data(offset: number): Buffer {
    const size = this.#size(offset);
    const layout = (this.#image.readUInt16LE(offset) >>> 1) & 7;
    const tail = layout === LAYOUT.inline ? size % this.#blockSize : 0;
    const start = this.#image.readUInt32LE(offset + 16) * this.#blockSize;
    const behind = offset + INODE_SIZE + this.#xattrBytes(offset);
    const parts = [size > tail ? this.#image.subarray(start, start + size - tail) : Buffer.alloc(0), this.#image.subarray(behind, behind + tail)];
    const data = Buffer.concat(parts);
    if (data.length !== size) throw corrupt(`${this.#what} is damaged`);
    return data;
  }

  *#names(offset: number): Generator<readonly [ByteString, number]> {
    const data = this.#data(offset);
    for (let start = 0; start < data.length; start += this.#blockSize) {
      const block = data.subarray(start, start + this.#blockSize);
      const count = block.readUInt16LE(8) / DIRENT_SIZE;
      for (let i = 0; i < count; i++) {
        const from = block.readUInt16LE(i * DIRENT_SIZE + 8);
        const to = i + 1 < count ? block.readUInt16LE((i + 1) * DIRENT_SIZE + 8) : block.length;
        // The last name of a block ends where its zeros begin.
        const name = toByteString(block.subarray(from, to)).replace(/\0+$/, "");
        if (name !== "." && name !== "..") yield [name, Number(block.readBigUInt64LE(i * DIRENT_SIZE))];
      }
    }
  }
}
