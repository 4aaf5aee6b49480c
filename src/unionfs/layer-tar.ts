import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { DiffID } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { corrupt, printable, toBytes } from "./bytes.ts";
import { withPathBelow } from "./open-below.ts";
import { readTarIndex, type TarIndexRecord } from "./tar-index.ts";

const chunkSize = 256 * 1024;

/** Files up to this length are read ahead, several at a time. */
const smallBytes = 128 * 1024;
/** Members are header and content in turn, so half of this many files. */
const aheadPieces = 16;

/**
 * The layer's archive as it came in, out of its index and its files; the stream fails when that does not give `diffId` again (somebody changed the layer's directory).
 * @param record the layer's record: `tar-index.gz`, `superseded/`
 * @param files the layer's unpacked files
 */
export function rebuildTar(record: string, files: string, diffId: DiffID): AsyncGenerator<Buffer, void> {
  return verified(joined(pieces(record, files)), diffId);
}

async function* joined(parts: AsyncIterable<Piece | Promise<Piece>>): AsyncGenerator<Buffer, void> {
  for await (const piece of parts) yield* await piece;
}

/** Passes bytes on, and fails in the end when they do not have this digest (any more). */
export async function* verified(source: AsyncIterable<Buffer>, diffId: DiffID): AsyncGenerator<Buffer, void> {
  const hash = createHash("sha256");
  for await (const bytes of source) {
    hash.update(bytes);
    yield bytes;
  }
  if (`sha256:${hash.digest("hex")}` !== diffId) throw corrupt(`layer ${diffId} no longer has the content it came with`);
}

type Piece = Iterable<Buffer> | AsyncIterable<Buffer>;

/** The pieces of the archive in order; of those that are promises, some are under way. */
async function* pieces(record: string, files: string): AsyncGenerator<Piece | Promise<Piece>, void> {
  const superseded = await supersededNumbers(join(record, "superseded"));
  const ahead: (Piece | Promise<Piece>)[] = [];
  for await (const part of readTarIndex(join(record, "tar-index.gz"))) {
    if (part.kind === "meta") {
      ahead.push([part.bytes]);
    } else {
      const kept = superseded.has(part.number);
      const file: Content = { directory: kept ? join(record, "superseded") : files, path: kept ? Buffer.from(String(part.number)) : toBytes(part.path), part };
      const piece = part.bytes > smallBytes ? content(file) : readSmall(file);
      // Whoever gets to it sees the failure; until then it is nobody's.
      if (piece instanceof Promise) piece.catch(() => undefined);
      ahead.push(piece);
    }
    if (ahead.length > aheadPieces) yield* ahead.splice(0, aheadPieces / 2);
  }
  yield* ahead;
}

/** A file record and where its bytes are. */
interface Content {
  readonly directory: string;
  readonly path: Buffer;
  readonly part: TarIndexRecord & { readonly kind: "file" };
}

async function readSmall(from: Content): Promise<Buffer[]> {
  const all: Buffer[] = [];
  for await (const bytes of content(from)) all.push(bytes);
  return all;
}

async function supersededNumbers(directory: string): Promise<ReadonlySet<number>> {
  try {
    return new Set((await readdir(directory)).map(Number));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return new Set();
    throw error;
  }
}

async function* content(from: Content): AsyncGenerator<Buffer, void> {
  await using file = await openContent(from);
  for (const { offset, length } of from.part.extents) {
    for (let at = 0; at < length; ) {
      const buffer = Buffer.allocUnsafe(Math.min(chunkSize, length - at));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, offset + at);
      if (bytesRead === 0) throw corrupt(`file "${printable(from.part.path)}" of a layer is shorter than it was`);
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }
}

async function openContent({ directory, path, part }: Content): Promise<FileHandle> {
  try {
    return await withPathBelow(directory, path, (short) => open(short, constants.O_RDONLY | constants.O_NOFOLLOW));
  } catch (error) {
    throw new EngineError("corrupt", `file "${printable(part.path)}" of a layer cannot be read: ${errnoOf(error) ?? String(error)}`, { cause: error });
  }
}
