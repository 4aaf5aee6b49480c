/** ADD of an archive: its members as entries of the layer. @module */
import { posix } from "node:path";
import { EngineError, isEngineError } from "#core/errors.ts";
import { printable } from "#unionfs/bytes.ts";
import { decompress } from "#unionfs/tar/decompress.ts";
import type { TarEntry } from "#unionfs/tar/entry.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import { formatHeader, padding } from "#unionfs/tar/writer.ts";
import { refuseWhiteout, type CopyChanges } from "./copy-layer.ts";
import { baseOf, type ByteString, joinPath, parentOf, resolveWithin, type SourceEntry, type SourceTree } from "./source-tree.ts";

/** True for a file that is a tar, plain or compressed. @throws EngineError "unsupported" for one whose compression is known and cannot be read */
export async function isArchive(tree: SourceTree, entry: SourceEntry): Promise<boolean> {
  if (entry.type !== "file" || entry.size === 0) return false;
  const reader = new TarReader(decompress(tree.read(entry.path)), { allowMissingEnd: true });
  try {
    return (await reader.next()) !== undefined;
  } catch (error) {
    if (isEngineError(error, "corrupt")) return false;
    throw error;
  } finally {
    await reader.close();
  }
}

type Lstat = (path: ByteString) => Promise<Pick<SourceEntry, "type" | "target"> | undefined>;

/** The members of an archive below `destination`; links on the way are followed within the root, as if it were unpacked there. Sparse files are not taken. */
export async function* unpackedEntries(
  archive: { readonly tree: SourceTree; readonly entry: SourceEntry },
  destination: ByteString,
  lstat: Lstat,
  changes: CopyChanges,
): AsyncIterable<Uint8Array> {
  const made = new Map<ByteString, Pick<SourceEntry, "type" | "target">>();
  const look: Lstat = async (path) => made.get(path) ?? (await lstat(path));
  const directories = new Map<ByteString, ByteString>();
  const place = async (name: ByteString): Promise<ByteString> => {
    const inside = withinDestination(name);
    if (inside === "") return destination;
    const parent = joinPath(destination, parentOf(inside));
    let real = directories.get(parent);
    if (real === undefined) {
      real = await resolveWithin(look, parent, true);
      directories.set(parent, real);
    }
    return joinPath(real, baseOf(inside));
  };
  const reader = new TarReader(decompress(archive.tree.read(archive.entry.path)), { allowMissingEnd: true });
  try {
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
      const path = await place(entry.name);
      if (path === destination) continue;
      refuseWhiteout(path);
      if (entry.sparse !== undefined)
        throw new EngineError("unsupported", `ADD of an archive with the sparse file "${printable(entry.name)}" is not supported`);
      // What has become a link leads elsewhere from now on.
      if (entry.type === "symlink" || made.has(path)) directories.clear();
      made.set(path, { type: entry.type === "link" ? "file" : entry.type, target: entry.linkname });
      yield formatHeader(changedEntry({ ...entry, name: path, linkname: entry.type === "link" ? await place(entry.linkname) : entry.linkname }, changes));
      if (entry.type !== "file") continue;
      for (let piece = await reader.read(); piece !== undefined; piece = await reader.read()) yield piece;
      yield padding(entry.size);
    }
  } catch (error) {
    throw isEngineError(error, "corrupt")
      ? new EngineError("invalid", `ADD failed: ${printable(archive.entry.path)}: ${error.message}`, { cause: error })
      : error;
  } finally {
    await reader.close();
  }
}

function withinDestination(name: ByteString): ByteString {
  const cleaned = posix.normalize(name.replace(/^\/+/, ""));
  if (cleaned === ".." || cleaned.startsWith("../"))
    throw new EngineError("invalid", `ADD failed: the archive's entry ${JSON.stringify(printable(name))} leads out of the destination`);
  return cleaned.replace(/\/+$/, "").replace(/^\.$/, "");
}

function changedEntry(entry: TarEntry, { owner, mode, clampNs }: CopyChanges): TarEntry {
  return {
    ...entry,
    ...owner,
    mode: mode === undefined || entry.type === "symlink" ? entry.mode : mode(entry.mode, entry.type === "dir"),
    mtimeNs: clampNs !== undefined && entry.mtimeNs > clampNs ? clampNs : entry.mtimeNs,
  };
}
