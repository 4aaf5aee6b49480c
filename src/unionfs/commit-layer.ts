import { createHash, type Hash } from "node:crypto";
import type { Digest } from "#core/digest.ts";
import type { FileMeta, FileTree, TreeStat } from "#linux/file-tree.ts";
import type { AppliedTar } from "./apply.ts";
import { type ByteString, toBytes } from "./bytes.ts";
import { opaqueXattr } from "./overlay-format.ts";
import type { TarIndexWriter } from "./tar-index.ts";
import { archived, isArchived, type TarMember, type TarPiece } from "./write-tree.ts";

/**
 * Where the layer's files are.
 * - `copy`: an empty tree, which they are written to as they pass.
 * - `taken`: they stay where they are read; `onDifference` is told of what is there and not, or otherwise, in the archive.
 */
export type LayerFilesAt =
  | { readonly kind: "copy"; readonly tree: FileTree }
  | { readonly kind: "taken"; readonly onDifference: (path: ByteString, what: string) => void };

/**
 * Makes a layer of overlay's form out of an archive that is just being written, in one go: its digest, its index, its files. The same as applying the archive, but nothing is parsed that was known
 * a moment ago.
 */
export async function commitLayer(pieces: AsyncIterable<TarPiece>, index: TarIndexWriter, files: LayerFilesAt): Promise<AppliedTar> {
  const committing = new Committing(index, files);
  for await (const piece of pieces) await committing.take(piece);
  return committing.finish();
}

class Committing {
  readonly #hash: Hash = createHash("sha256");
  readonly #index: TarIndexWriter;
  readonly #files: LayerFilesAt;
  readonly #tree: FileTree | undefined;
  /** The file whose bytes come now. */
  #file: { readonly path: ByteString; readonly size: number; readonly meta: FileMeta; state: "begun" | "open" | "written" } | undefined;
  /** Their times are set in the end. */
  readonly #directories: [ByteString, FileMeta][] = [];
  #size = 0;
  #tarBytes = 0;

  constructor(index: TarIndexWriter, files: LayerFilesAt) {
    this.#index = index;
    this.#files = files;
    this.#tree = files.kind === "copy" ? files.tree : undefined;
  }

  async take(piece: TarPiece): Promise<void> {
    if (piece.kind === "member") {
      this.#note(piece.member);
      if (this.#tree !== undefined) await this.#write(piece.member, this.#tree);
      await this.#index.drained();
      return;
    }
    this.#hash.update(piece.bytes);
    this.#tarBytes += piece.bytes.byteLength;
    if (piece.kind === "data") {
      if (this.#tree !== undefined) await this.#writeData(piece.bytes, this.#tree);
      return;
    }
    this.#index.meta(piece.bytes);
    if (this.#tree !== undefined) await this.#endFile(this.#tree);
  }

  /** A file that comes in one piece, as most do, is one operation. */
  async #writeData(bytes: Uint8Array, tree: FileTree): Promise<void> {
    const file = this.#file;
    if (file?.state === "begun") {
      if (bytes.byteLength === file.size && tree.wholeFile?.(toBytes(file.path), bytes, file.meta) === true) {
        file.state = "written";
        return;
      }
      await tree.openFile(toBytes(file.path), file.size);
      file.state = "open";
    }
    await tree.writeData(bytes);
  }

  async #endFile(tree: FileTree): Promise<void> {
    const file = this.#file;
    if (file?.state === "begun") await this.#writeData(new Uint8Array(), tree);
    if (file?.state === "open") await tree.closeFile(file.meta);
    this.#file = undefined;
  }

  async finish(): Promise<AppliedTar> {
    for (const [path, meta] of this.#directories.reverse()) await this.#tree?.setMeta(toBytes(path), meta);
    await this.#tree?.flush();
    return { diffId: `sha256:${this.#hash.digest("hex")}` as Digest, size: this.#size, tarBytes: this.#tarBytes };
  }

  #note(member: TarMember): void {
    if (member.kind === "socket") this.#differs(member.path, "is a socket");
    if (member.kind !== "entry") return;
    const { path, stat } = member;
    if (!isArchived(stat)) this.#differs(path, "has attributes that an archive does not hold");
    if (stat.type === "file") {
      this.#size += stat.size;
      if (stat.size > 0) this.#index.file(path, stat.size, undefined);
    } else if (stat.type === "symlink") {
      this.#size += stat.target?.byteLength ?? 0;
    }
  }

  #differs(path: ByteString, what: string): void {
    if (this.#files.kind === "taken") this.#files.onDifference(path, what);
  }

  async #write(member: TarMember, tree: FileTree): Promise<void> {
    if (member.kind === "socket") return;
    const path = toBytes(member.path);
    if (member.kind === "whiteout") return tree.mknod(path, "char", 0, 0, { mode: 0, uid: 0, gid: 0, mtimeNs: member.mtimeNs });
    if (member.kind === "opaque") return tree.setXattr(path, opaqueXattr, Buffer.from("y"));
    if (member.kind === "link") return tree.link(path, toBytes(member.first));
    const { stat } = member;
    const meta = metaOf(stat);
    switch (stat.type) {
      case "dir":
        this.#directories.push([member.path, meta]);
        return tree.mkdir(path, meta);
      case "symlink":
        return tree.symlink(path, stat.target ?? new Uint8Array(), meta);
      case "file":
        this.#file = { path: member.path, size: stat.size, meta, state: "begun" };
        return;
      case "char":
      case "block":
      case "fifo":
        return tree.mknod(path, stat.type, stat.major, stat.minor, meta);
      case "socket":
        return;
    }
  }
}

function metaOf({ mode, uid, gid, mtimeNs, xattrs }: TreeStat): FileMeta {
  return { mode, uid, gid, mtimeNs, xattrs: archived(xattrs) };
}
