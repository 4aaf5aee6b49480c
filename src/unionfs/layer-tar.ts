import { createHash } from "node:crypto";
import { closeSync, constants, createReadStream, openSync, readSync } from "node:fs";
import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { DiffID } from "#core/digest.ts";
import { EngineError, errnoOf, isEngineError } from "#core/errors.ts";
import { pieceBytes, takePiece } from "#core/pieces.ts";
import type { FileTree, OpenedFile } from "#linux/file-tree.ts";
import { filePieces } from "./archive-file.ts";
import { corrupt, printable, toBytes } from "./bytes.ts";
import { coalesced } from "./coalesce.ts";
import { pathBelow, withPathBelow } from "./open-below.ts";
import { readAhead, smallBytes } from "./read-ahead.ts";
import { readTarIndex, type TarIndexRecord } from "./tar-index.ts";

const chunkSize = 256 * 1024;
const readOnly = constants.O_RDONLY | constants.O_NOFOLLOW;

/** Where a layer's archive can be had from without anybody's help: it is a file, or is made of its index and a directory. */
export type LayerSource = { readonly diffId: DiffID } & ({ readonly archive: string } | { readonly record: string; readonly directory: string });

/** The archive, checked against its digest as {@link rebuildTar} does; a piece is valid until the next one is asked for. For a thread: files are read synchronously. */
export function readLayer(source: LayerSource): AsyncGenerator<Buffer, void> {
  return verified("archive" in source ? filePieces(source.archive) : piecesNow(source.record, source.directory), source.diffId);
}

/** An archive that is a file, checked as {@link rebuildTar} does. */
export function readArchive(archive: string, diffId: DiffID): AsyncGenerator<Buffer, void> {
  return verified(createReadStream(archive, { highWaterMark: chunkSize }), diffId);
}

/** A layer's unpacked files: where they lie, and a tree that is open there. */
export interface LayerFiles {
  readonly directory: string;
  readonly tree: Pick<FileTree, "readFile">;
}

/**
 * The layer's archive as it came in, out of its index and its files; the stream fails when that does not give `diffId` again (somebody changed the layer's directory).
 * @param record the layer's record: `tar-index.gz`, `superseded/`
 */
export function rebuildTar(record: string, files: LayerFiles, diffId: DiffID): AsyncGenerator<Buffer, void> {
  return verified(coalesced(pieces(record, files)), diffId);
}

/** Passes bytes on, and fails in the end when they do not have this digest (any more). */
export async function* verified(source: AsyncIterable<Buffer> | Iterable<Buffer>, diffId: DiffID): AsyncGenerator<Buffer, void> {
  const hash = createHash("sha256");
  for await (const bytes of source) {
    hash.update(bytes);
    yield bytes;
  }
  if (`sha256:${hash.digest("hex")}` !== diffId) throw corrupt(`layer ${diffId} no longer has the content it came with`);
}

type FileRecord = TarIndexRecord & { readonly kind: "file" };

/** The pieces of the archive in order. Small files are read by way of the tree, many at a time; others are opened here. */
async function* pieces(record: string, { directory, tree }: LayerFiles): AsyncGenerator<Uint8Array, void> {
  const aside = join(record, "superseded");
  const superseded = await supersededNumbers(aside);
  const small = (part: TarIndexRecord) => {
    if (part.kind === "meta" || part.bytes > smallBytes || superseded.has(part.number) || !isWhole(part)) return undefined;
    return { bytes: part.bytes, open: () => tree.readFile(toBytes(part.path)) };
  };
  for await (const { item: part, opened } of readAhead(recordsOf(record), small)) {
    if (part.kind === "meta") yield part.bytes;
    else if (opened !== undefined) yield* wholeContent(part, opened);
    else if (superseded.has(part.number)) yield* content({ directory: aside, path: Buffer.from(String(part.number)), part });
    else yield* content({ directory, path: toBytes(part.path), part });
  }
}

async function* recordsOf(record: string): AsyncGenerator<TarIndexRecord, void> {
  for await (const parts of readTarIndex(join(record, "tar-index.gz"))) yield* parts;
}

/** Files are read to where they stand in a piece, and a piece is passed on when it is full: thousands of small ones are three system calls each, and nothing is waited for. */
async function* piecesNow(record: string, directory: string): AsyncGenerator<Buffer, void> {
  const aside = join(record, "superseded");
  const superseded = await supersededNumbers(aside);
  const buffer = Buffer.allocUnsafeSlow(chunkSize);
  let used = 0;
  for await (const parts of readTarIndex(join(record, "tar-index.gz"))) {
    for (const part of parts) {
      if (part.kind === "meta") {
        for (let at = 0; at < part.bytes.length; ) {
          const copied = part.bytes.copy(buffer, used, at);
          at += copied;
          used += copied;
          if (used < chunkSize) continue;
          yield buffer;
          used = 0;
        }
        continue;
      }
      const [from, path] = superseded.has(part.number) ? [aside, Buffer.from(String(part.number))] : [directory, toBytes(part.path)];
      const file =
        openNow(part, from, path) ??
        (await readable(
          part,
          withPathBelow(from, path, async (short) => openSync(short, readOnly)),
        ));
      try {
        for (const { offset, length } of part.extents) {
          for (let at = 0; at < length; ) {
            const bytesRead = readSync(file, buffer, used, Math.min(chunkSize - used, length - at), offset + at);
            if (bytesRead === 0) throw shorter(part);
            at += bytesRead;
            used += bytesRead;
            if (used < chunkSize) continue;
            yield buffer;
            used = 0;
          }
        }
      } finally {
        closeSync(file);
      }
    }
  }
  if (used > 0) yield buffer.subarray(0, used);
}

/** Undefined: its path is too long for that. */
function openNow(part: FileRecord, from: string, path: Buffer): number | undefined {
  const short = pathBelow(from, path);
  if (short === undefined) return undefined;
  try {
    return openSync(short, readOnly);
  } catch (error) {
    throw unreadable(part, error);
  }
}

function isWhole({ extents, bytes }: FileRecord): boolean {
  return extents.length === 1 && extents[0]!.offset === 0 && extents[0]!.length === bytes;
}

async function* wholeContent(part: FileRecord, opened: Promise<OpenedFile>): AsyncGenerator<Uint8Array, void> {
  let missing = part.bytes;
  const file = await readable(part, opened);
  try {
    for await (const bytes of file.data) {
      const own = bytes.subarray(0, missing);
      missing -= own.byteLength;
      yield own;
      if (missing === 0) break;
    }
  } finally {
    await file.close();
  }
  if (missing > 0) throw shorter(part);
}

/** A file record and where its bytes are. */
interface Content {
  readonly directory: string;
  readonly path: Buffer;
  readonly part: FileRecord;
}

async function supersededNumbers(directory: string): Promise<ReadonlySet<number>> {
  try {
    return new Set((await readdir(directory)).map(Number));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return new Set();
    throw error;
  }
}

async function* content({ directory, path, part }: Content): AsyncGenerator<Buffer, void> {
  await using file: FileHandle = await readable(
    part,
    withPathBelow(directory, path, (short) => open(short, readOnly)),
  );
  for (const { offset, length } of part.extents) {
    for (let at = 0; at < length; ) {
      const buffer = takePiece();
      const { bytesRead } = await file.read(buffer, 0, Math.min(pieceBytes, length - at), offset + at);
      if (bytesRead === 0) throw shorter(part);
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }
}

async function readable<T>(part: FileRecord, opening: Promise<T>): Promise<T> {
  try {
    return await opening;
  } catch (error) {
    throw unreadable(part, error);
  }
}

function unreadable({ path }: FileRecord, cause: unknown): EngineError {
  const errno = isEngineError(cause) ? cause.details.errno : errnoOf(cause);
  return new EngineError("corrupt", `file "${printable(path)}" of a layer cannot be read: ${errno ?? String(cause)}`, { cause });
}

function shorter({ path }: FileRecord): EngineError {
  return corrupt(`file "${printable(path)}" of a layer is shorter than it was`);
}
