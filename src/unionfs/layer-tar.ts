import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { DiffID } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import { corrupt, printable, toBytes } from "./bytes.ts";
import { readTarIndex, type TarIndexRecord } from "./tar-index.ts";

const chunkSize = 256 * 1024;

/** Files up to this length are read ahead, several at a time. */
const smallBytes = 128 * 1024;
const aheadFiles = 8;

/**
 * The layer's archive as it came in, out of its index and its files; the stream fails when that does not give `diffId` again (somebody changed the layer's directory).
 * @param record the layer's record: `tar-index.gz`, `superseded/`
 * @param files the layer's unpacked files
 */
export async function* rebuildTar(record: string, files: string, diffId: DiffID): AsyncGenerator<Buffer, void> {
  const hash = createHash("sha256");
  for await (const piece of pieces(record, files)) {
    for await (const bytes of await piece) {
      hash.update(bytes);
      yield bytes;
    }
  }
  if (`sha256:${hash.digest("hex")}` !== diffId) throw corrupt(`layer ${diffId} no longer has the content it came with`);
}

type Piece = Iterable<Buffer> | AsyncIterable<Buffer>;

/** The pieces of the archive in order; of those that are promises, some are under way. */
async function* pieces(record: string, files: string): AsyncGenerator<Piece | Promise<Piece>, void> {
  const superseded = await supersededNumbers(join(record, "superseded"));
  const ahead: (Piece | Promise<Piece>)[] = [];
  let reading = 0;
  for await (const part of readTarIndex(join(record, "tar-index.gz"))) {
    if (part.kind === "meta") {
      ahead.push([part.bytes]);
      continue;
    }
    const path = superseded.has(part.number)
      ? Buffer.from(join(record, "superseded", String(part.number)))
      : Buffer.concat([Buffer.from(`${files}/`), toBytes(part.path)]);
    if (part.bytes > smallBytes) {
      yield* ahead.splice(0);
      reading = 0;
      yield content(path, part);
      continue;
    }
    const small = readSmall(path, part);
    // Whoever gets to it sees the failure; until then it is nobody's.
    small.catch(() => undefined);
    ahead.push(small);
    if (++reading < aheadFiles) continue;
    // Half of them are left to be read while the others are passed on.
    yield* ahead.splice(0, ahead.length / 2);
    reading = Math.ceil(aheadFiles / 2);
  }
  yield* ahead;
}

async function readSmall(path: Buffer, part: TarIndexRecord & { kind: "file" }): Promise<Buffer[]> {
  const all: Buffer[] = [];
  for await (const bytes of content(path, part)) all.push(bytes);
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

async function* content(path: Buffer, part: TarIndexRecord & { kind: "file" }): AsyncGenerator<Buffer, void> {
  await using file = await openContent(path, part);
  for (const { offset, length } of part.extents) {
    for (let at = 0; at < length; ) {
      const buffer = Buffer.allocUnsafe(Math.min(chunkSize, length - at));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, offset + at);
      if (bytesRead === 0) throw corrupt(`file "${printable(part.path)}" of a layer is shorter than it was`);
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }
}

async function openContent(path: Buffer, part: TarIndexRecord & { kind: "file" }): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    throw new EngineError("corrupt", `file "${printable(part.path)}" of a layer cannot be read: ${errnoOf(error) ?? String(error)}`, { cause: error });
  }
}
