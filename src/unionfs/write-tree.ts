import { errnoOf, isEngineError } from "#core/errors.ts";
import type { FileTree, OpenedFile, TreeStat } from "#linux/file-tree.ts";
import { type ByteString, baseOf, joinPath, parentOf, printable, toByteString } from "./bytes.ts";
import { coalesced } from "./coalesce.ts";
import { isOverlayXattr } from "./overlay-format.ts";
import { readAhead, type SmallFile, smallBytes } from "./read-ahead.ts";
import type { Xattr } from "./tar/entry.ts";
import { endBlocks, formatHeader, padding, type WriteEntry } from "./tar/writer.ts";
import { zeros } from "./zeros.ts";

/** Something to put into a tar: an entry of a tree (its content is read at `stat.path`), or that a name is gone. */
export type TarSource =
  | { readonly kind: "entry"; readonly path: ByteString; readonly stat: TreeStat; readonly tree: Pick<FileTree, "readFile"> }
  | { readonly kind: "whiteout"; readonly path: ByteString; readonly mtimeNs: bigint }
  | { readonly kind: "opaque"; readonly path: ByteString; readonly mtimeNs: bigint };

/**
 * Writes entries as a tar, in the order they come. The second name of a file within it becomes a hard link to the first. Sockets are left out: an archive cannot hold them.
 * @param onChanged told of each file that somebody changed while it was read, as GNU tar tells: it is in the archive with the length that it had when it was opened, cut or padded with zeros; one that is gone is left out
 */
export function writeTar(sources: AsyncIterable<TarSource>, onChanged: (message: string) => void = () => undefined): AsyncIterable<Uint8Array> {
  return coalesced(bytesOf(tarPieces(sources, onChanged)));
}

async function* bytesOf(pieces: AsyncIterable<TarPiece>): AsyncGenerator<Uint8Array, void> {
  for await (const piece of pieces) if (piece.kind === "meta" || piece.kind === "data") yield piece.bytes;
}

/** A piece of a tar that is being written: its bytes in order, and behind each member's header, which member it is. */
export type TarPiece =
  /** Headers, the padding behind every file's contents (of no bytes, maybe), and the end. */
  | { readonly kind: "meta"; readonly bytes: Uint8Array }
  /** Of the file that was named last. */
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  | { readonly kind: "member"; readonly member: TarMember };

export type TarMember =
  | Exclude<TarSource, { readonly kind: "entry" }>
  /** Of a file, `stat` is what was opened, and its `size` so many bytes follow. */
  | { readonly kind: "entry"; readonly path: ByteString; readonly stat: TreeStat }
  | { readonly kind: "link"; readonly path: ByteString; readonly first: ByteString }
  /** Left out: an archive cannot hold it. */
  | { readonly kind: "socket"; readonly path: ByteString };

/** The pieces of what {@link writeTar} writes. */
export async function* tarPieces(sources: AsyncIterable<TarSource>, onChanged: (message: string) => void): AsyncGenerator<TarPiece, void> {
  const names = new Map<string, ByteString>();
  for await (const { item: source, opened } of readAhead(sources, smallFiles())) {
    if (source.kind !== "entry") {
      const name = source.kind === "opaque" ? joinPath(source.path, ".wh..wh..opq") : joinPath(parentOf(source.path), `.wh.${baseOf(source.path)}`);
      yield meta(formatHeader({ ...nothing, name, mtimeNs: source.mtimeNs }));
      yield { kind: "member", member: source };
      continue;
    }
    const { path, stat, tree } = source;
    if (stat.type === "socket") {
      yield { kind: "member", member: { kind: "socket", path } };
      continue;
    }
    const inode = inodeOf(stat);
    const first = inode === undefined ? undefined : names.get(inode);
    if (first !== undefined) {
      yield meta(formatHeader({ ...entryOf(path, stat), type: "link", linkname: first, size: 0, xattrs: [] }));
      yield { kind: "member", member: { kind: "link", path, first } };
      continue;
    }
    if (stat.type === "file") {
      const file = await ifThere(opened ?? tree.readFile(stat.path));
      if (file === undefined) {
        onChanged(`"${printable(path)}" was removed or replaced before it was read`);
        continue;
      }
      yield* writeFile(path, file, onChanged);
      if (inodeOf(file.stat) !== inode) continue;
    } else {
      yield meta(formatHeader(entryOf(path, stat)));
      yield { kind: "member", member: { kind: "entry", path, stat } };
    }
    if (inode !== undefined) names.set(inode, path);
  }
  yield meta(endBlocks());
}

const nothing = { type: "file", linkname: "", mode: 0o600, uid: 0, gid: 0, size: 0, major: 0, minor: 0, xattrs: [] } as const;

function meta(bytes: Uint8Array): TarPiece {
  return { kind: "meta", bytes };
}

/** Small files, but no further names of one. */
function smallFiles(): (source: TarSource) => SmallFile | undefined {
  const seen = new Set<string>();
  return (source) => {
    if (source.kind !== "entry" || source.stat.type !== "file" || source.stat.size > smallBytes) return undefined;
    const { stat, tree } = source;
    const inode = inodeOf(stat);
    if (inode !== undefined && seen.size === seen.add(inode).size) return undefined;
    return { bytes: stat.size, open: () => tree.readFile(stat.path) };
  };
}

/** What a file with further names is known by. */
function inodeOf(stat: TreeStat): string | undefined {
  return stat.nlink > 1 && stat.type !== "dir" ? `${stat.dev}:${stat.ino}` : undefined;
}

/** Header and content are of one opened file. Somebody may write to it: the archive holds as many bytes as the header has said. */
async function* writeFile(path: ByteString, file: OpenedFile, onChanged: (message: string) => void): AsyncGenerator<TarPiece, void> {
  const { size } = file.stat;
  yield meta(formatHeader(entryOf(path, file.stat)));
  yield { kind: "member", member: { kind: "entry", path, stat: file.stat } };
  let missing = size;
  try {
    for await (const piece of file.data) {
      if (missing < piece.byteLength) onChanged(`"${printable(path)}" has grown while it was read: it is cut to the ${size} bytes that it had`);
      const part = piece.subarray(0, missing);
      missing -= part.byteLength;
      yield { kind: "data", bytes: part };
      if (part.byteLength < piece.byteLength) break;
    }
  } finally {
    await file.close();
  }
  if (missing > 0) onChanged(`"${printable(path)}" has shrunk by ${missing} bytes while it was read: it is padded with zeros`);
  for (; missing > 0; missing -= Math.min(missing, zeros.length)) yield { kind: "data", bytes: zeros.subarray(0, missing) };
  yield meta(padding(size));
}

/** What opening a path says that is no regular file any more: nothing, a directory, something else, or below a file. */
const gone = ["ENOENT", "EISDIR", "EINVAL", "ENOTDIR", "ELOOP"];

async function ifThere(opening: Promise<OpenedFile>): Promise<OpenedFile | undefined> {
  try {
    return await opening;
  } catch (error) {
    if (gone.includes((isEngineError(error) ? error.details.errno : errnoOf(error)) ?? "")) return undefined;
    throw error;
  }
}

function entryOf(path: ByteString, stat: TreeStat): WriteEntry {
  return {
    name: path,
    type: stat.type === "socket" ? "file" : stat.type,
    linkname: stat.target === undefined ? "" : toByteString(stat.target),
    mode: stat.mode,
    uid: stat.uid,
    gid: stat.gid,
    size: stat.type === "file" ? stat.size : 0,
    mtimeNs: stat.mtimeNs,
    major: stat.major,
    minor: stat.minor,
    xattrs: archived(stat.xattrs),
  };
}

/** True when an archive holds all that the entry has; what overlayfs notes for itself does not count. */
export function isArchived({ xattrs }: TreeStat): boolean {
  return archived(xattrs).length === xattrs.filter(({ name }) => !isOverlayXattr(name)).length;
}

/** What belongs to the file rather than to this host: its capabilities, access lists, and what users have set; not labels of this host's security modules. */
export function archived(xattrs: readonly Xattr[]): readonly Xattr[] {
  if (xattrs.length === 0) return xattrs;
  return xattrs.filter(
    ({ name }) => name === "security.capability" || name.startsWith("system.posix_acl_") || (name.startsWith("user.") && !name.startsWith("user.overlay.")),
  );
}
