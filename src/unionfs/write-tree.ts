import { errnoOf, isEngineError } from "#core/errors.ts";
import type { FileTree, TreeStat } from "#linux/file-tree.ts";
import { type ByteString, baseOf, joinPath, parentOf, toByteString } from "./bytes.ts";
import type { Xattr } from "./tar/entry.ts";
import { endBlocks, formatHeader, padding, type WriteEntry } from "./tar/writer.ts";

/** Something to put into a tar: an entry of a tree (its content is read at `stat.path`), or that a name is gone. */
export type TarSource =
  | { readonly kind: "entry"; readonly path: ByteString; readonly stat: TreeStat; readonly tree: FileTree }
  | { readonly kind: "whiteout"; readonly path: ByteString; readonly mtimeNs: bigint }
  | { readonly kind: "opaque"; readonly path: ByteString; readonly mtimeNs: bigint };

/**
 * Writes entries as a tar, in the order they come. The second name of a file within it becomes a hard link to the first. Sockets are left out: an archive cannot hold them.
 */
export async function* writeTar(sources: AsyncIterable<TarSource>): AsyncIterable<Uint8Array> {
  const names = new Map<string, ByteString>();
  for await (const source of sources) {
    if (source.kind !== "entry") {
      const name = source.kind === "opaque" ? joinPath(source.path, ".wh..wh..opq") : joinPath(parentOf(source.path), `.wh.${baseOf(source.path)}`);
      yield formatHeader({ name, type: "file", linkname: "", mode: 0o600, uid: 0, gid: 0, size: 0, mtimeNs: source.mtimeNs, major: 0, minor: 0, xattrs: [] });
      continue;
    }
    const { path, stat, tree } = source;
    if (stat.type === "socket") continue;
    const inode = stat.nlink > 1 && stat.type !== "dir" ? `${stat.dev}:${stat.ino}` : undefined;
    const first = inode === undefined ? undefined : names.get(inode);
    if (inode !== undefined && first === undefined) names.set(inode, path);
    if (first !== undefined) yield formatHeader({ ...entryOf(path, stat), type: "link", linkname: first, size: 0, xattrs: [] });
    else if (stat.type === "file") yield* writeFile(path, stat, tree);
    else yield formatHeader(entryOf(path, stat));
  }
  yield endBlocks();
}

/** A file of a running container may change meanwhile: the archive holds as many bytes as the header has said. */
async function* writeFile(path: ByteString, stat: TreeStat, tree: FileTree): AsyncIterable<Uint8Array> {
  const header = formatHeader(entryOf(path, stat));
  let missing = stat.size;
  if (missing > 0) {
    const data = tree.readFile(stat.path)[Symbol.asyncIterator]();
    try {
      let next = await data.next();
      yield header;
      for (; next.done !== true && missing > 0; next = await data.next()) {
        const piece = next.value.subarray(0, missing);
        missing -= piece.byteLength;
        yield piece;
      }
    } catch (error) {
      // Gone since the walk saw it: then it is not part of the archive. Anything else, or later, is a failure.
      if (missing === stat.size && isGone(error)) return;
      throw error;
    } finally {
      await data.return?.();
    }
    for (; missing > 0; missing -= Math.min(missing, zeros.length)) yield zeros.subarray(0, missing);
  } else {
    yield header;
  }
  yield padding(stat.size);
}

const zeros = Buffer.alloc(64 * 1024);

function isGone(error: unknown): boolean {
  return (isEngineError(error) ? error.details.errno : errnoOf(error)) === "ENOENT";
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

/** What belongs to the file rather than to this host: its capabilities, access lists, and what users have set; not labels of this host's security modules. */
function archived(xattrs: readonly Xattr[]): readonly Xattr[] {
  if (xattrs.length === 0) return xattrs;
  return xattrs.filter(
    ({ name }) => name === "security.capability" || name.startsWith("system.posix_acl_") || (name.startsWith("user.") && !name.startsWith("user.overlay.")),
  );
}
