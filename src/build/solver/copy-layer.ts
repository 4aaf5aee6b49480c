/** What COPY and ADD make of the files that were selected: a layer's tar. @module */
import { EngineError } from "#core/errors.ts";
import { compareWalkOrder, printable } from "#unionfs/bytes.ts";
import { endBlocks, formatHeader, padding, type WriteEntry } from "#unionfs/tar/writer.ts";
import { type ByteString, joinPath, parentOf, pathOf, resolveWithin, type SourceEntry, type SourceTree } from "./source-tree.ts";
import type { Selected, Selection } from "./select-files.ts";

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** How what is copied differs from its source. */
export interface CopyChanges {
  /** undefined: as in the source. */
  readonly owner: Owner | undefined;
  readonly mode: ((mode: number, isDirectory: boolean) => number) | undefined;
  /** Later times become this; ns since 1970. */
  readonly clampNs: bigint | undefined;
}

/** An entry of the new layer. */
export interface Placed {
  readonly path: ByteString;
  readonly entry: SourceEntry;
  readonly tree: SourceTree | undefined;
}

type Lstat = (path: ByteString) => Promise<Pick<SourceEntry, "type" | "target"> | undefined>;

/** Where a destination leads in the root that it is copied to, and what is missing on the way. */
export interface Destination {
  readonly path: ByteString;
  /** What is there: undefined = nothing yet. */
  readonly type: SourceEntry["type"] | undefined;
  /** Directories that have to be made for something at the path, top-most first. */
  readonly missing: readonly ByteString[];
}

export async function findDestination(lstat: Lstat, destination: string): Promise<Destination> {
  const path = await resolveWithin(lstat, pathOf(destination), true);
  const missing: ByteString[] = [];
  for (let at = parentOf(path); at !== ""; at = parentOf(at)) {
    const entry = await lstat(at);
    if (entry?.type === "dir") break;
    if (entry !== undefined) throw new EngineError("invalid", `cannot copy to non-directory: /${printable(at)}`);
    missing.unshift(at);
  }
  return { path, type: path === "" ? "dir" : (await lstat(path))?.type, missing };
}

/** The layer's entries, in the order of a walk. @throws EngineError "invalid" where a directory would have to replace something else */
export function placeFiles(selections: readonly Selection[], destination: Destination, intoDirectory: boolean, changes: CopyChanges): Placed[] {
  const placed = new Map<ByteString, Placed>();
  let newest = 0n;
  for (const { files } of selections) for (const { entry } of files) if (entry.mtimeNs > newest) newest = entry.mtimeNs;
  const makeDirectory = (path: ByteString) => {
    if (path !== "" && !placed.has(path))
      placed.set(path, { path, tree: undefined, entry: changed(newDirectory(path, newest), { ...changes, mode: undefined }) });
  };
  const isDirectory = intoDirectory || destination.type === "dir" || selections.some((selection) => selection.isDirectory);
  if (isDirectory && destination.type !== undefined && destination.type !== "dir")
    throw new EngineError("invalid", `cannot copy to non-directory: /${printable(destination.path)}`);
  for (const path of destination.missing) makeDirectory(path);
  if (isDirectory && destination.type === undefined) makeDirectory(destination.path);
  for (const { entry, tree, name } of selections.flatMap(({ files }) => files)) {
    const path = isDirectory ? joinPath(destination.path, name) : destination.path;
    placed.set(path, { path, tree, entry: changed(entry, changes) });
  }
  return [...placed.values()].sort((a, b) => compareWalkOrder(a.path, b.path));
}

function newDirectory(path: ByteString, mtimeNs: bigint): SourceEntry {
  return { path, type: "dir", mode: 0o755, uid: 0, gid: 0, size: 0, mtimeNs, target: "", major: 0, minor: 0, xattrs: [] };
}

function modeOf(entry: SourceEntry, { mode }: Pick<CopyChanges, "mode">): number {
  return mode === undefined || entry.type === "symlink" ? entry.mode : mode(entry.mode, entry.type === "dir");
}

function changed(entry: SourceEntry, changes: CopyChanges): SourceEntry {
  const { uid, gid } = changes.owner ?? entry;
  const mode = modeOf(entry, changes);
  const mtimeNs = changes.clampNs !== undefined && entry.mtimeNs > changes.clampNs ? changes.clampNs : entry.mtimeNs;
  // Of a hundred thousand files most are as they are.
  if (uid === entry.uid && gid === entry.gid && mode === entry.mode && mtimeNs === entry.mtimeNs) return entry;
  return { ...entry, uid, gid, mode, mtimeNs };
}

/** What of a selected file goes into a step's key, under its name: everything but its times. */
export async function fingerprint({ entry, tree }: Selected, changes: CopyChanges, isDirectoryRoot: boolean): Promise<string> {
  if (isDirectoryRoot) return "dir";
  const { type, target, major, minor, xattrs, inode } = entry;
  const { uid, gid } = changes.owner ?? entry;
  const mode = modeOf(entry, changes);
  const content =
    type === "file" ? await tree.digest(entry.path) : type === "symlink" ? target : type === "char" || type === "block" ? `${major}:${minor}` : "";
  const plain = `${type} ${mode.toString(8)} ${uid}:${gid} ${content}`;
  if (xattrs.length === 0 && inode === undefined) return plain;
  const attributes = xattrs.map(({ name, value }) => `${name}=${Buffer.from(value).toString("base64")}`).sort();
  return [plain, ...attributes, ...(inode === undefined ? [] : [`inode ${inode}`])].join(" ");
}

/** A name that a layer's tar uses for what is gone: a file of that name cannot be stored. @throws EngineError "invalid" */
export function refuseWhiteout(path: ByteString): void {
  if (path.split("/").some((part) => part.startsWith(".wh.")))
    throw new EngineError("invalid", `"${printable(path)}" cannot be part of an image: names that begin with .wh. mark what a layer removes`);
}

/** The entries as a tar, and behind them what `more` gives: the same entries always give the same bytes. */
export async function* layerTar(placed: Iterable<Placed>, ...more: readonly AsyncIterable<Uint8Array>[]): AsyncIterable<Uint8Array> {
  const names = new Map<string, ByteString>();
  for (const { path, entry, tree } of placed) {
    if (entry.type === "socket") continue;
    refuseWhiteout(path);
    const key = entry.inode;
    const first = key === undefined ? undefined : names.get(key);
    if (key !== undefined && first === undefined) names.set(key, path);
    if (first !== undefined) yield formatHeader({ ...writeEntry(path, entry), type: "link", linkname: first, size: 0, xattrs: [] });
    else {
      yield formatHeader(writeEntry(path, entry));
      if (entry.type === "file" && tree !== undefined) yield* content(path, entry, tree);
    }
  }
  for (const entries of more) yield* entries;
  yield endBlocks();
}

async function* content(path: ByteString, entry: SourceEntry, tree: SourceTree): AsyncIterable<Uint8Array> {
  let bytes = 0;
  for await (const chunk of tree.read(entry.path)) {
    bytes += chunk.byteLength;
    yield chunk;
  }
  if (bytes !== entry.size) throw new EngineError("storage", `"${printable(path)}" has ${bytes} bytes instead of ${entry.size}: it was changed meanwhile`);
  yield padding(entry.size);
}

function writeEntry(path: ByteString, { type, target, mode, uid, gid, size, mtimeNs, major, minor, xattrs }: SourceEntry): WriteEntry {
  return {
    name: path,
    type: type === "socket" ? "file" : type,
    linkname: type === "symlink" ? target : "",
    mode,
    uid,
    gid,
    size: type === "file" ? size : 0,
    mtimeNs,
    major,
    minor,
    xattrs,
  };
}
