import { closeSync, createReadStream, openSync, readSync } from "node:fs";
import type { DiffID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { LayerInput } from "./mod.ts";
import { decompress } from "./tar/decompress.ts";
import type { GrowingFile, LayerTurn } from "./threads/layer-threads.ts";

/** A layer's archive in a file, maybe compressed, and maybe not whole yet. */
export interface ArchiveFile {
  readonly file: GrowingFile;
  /** The file is whole, and the layer's very archive: it may be taken over. */
  readonly plain: boolean;
  /** Of a plain one: somebody has verified that it is what is expected. */
  readonly verified?: boolean;
  /** Bytes that it may unpack to, and what is said of one that has more. */
  readonly limit?: ArchiveLimit;
  /** The turn at a thread, which takes it in; without one it is taken in where it is asked for. */
  readonly turn?: LayerTurn | undefined;
  /** Told how many bytes of the file have been read. */
  readonly onConsumed?: ((bytes: number) => void) | undefined;
}

export interface ArchiveLimit {
  readonly bytes: number;
  readonly message: string;
}

export function isArchiveFile(input: LayerInput): input is ArchiveFile {
  return "file" in input;
}

/** Passes on what is within the limit. @throws EngineError storage */
export async function* limited(tar: AsyncIterable<Uint8Array>, { bytes: most, message }: ArchiveLimit): AsyncGenerator<Uint8Array, void> {
  let bytes = 0;
  for await (const piece of tar) {
    bytes += piece.byteLength;
    if (bytes > most) throw new EngineError("storage", message);
    yield piece;
  }
}

const pieceBytes = 1024 * 1024;

/**
 * A file's bytes, for a thread that may wait for the disk. A piece is the caller's until it asks for the next but one: memory that is not known yet costs more than to read into it.
 */
export function* filePieces(path: string): Generator<Buffer, void> {
  const pieces = [Buffer.allocUnsafeSlow(pieceBytes), Buffer.allocUnsafeSlow(pieceBytes)] as const;
  const file = openSync(path, "r");
  try {
    for (let number = 0; ; number++) {
      const piece = pieces[number % 2]!;
      const length = readSync(file, piece, 0, pieceBytes, null);
      if (length === 0) return;
      yield piece.subarray(0, length);
    }
  } finally {
    closeSync(file);
  }
}

/** An archive's plain bytes. `verified`: they fail in their end unless they are what is expected. */
export function piecesOf(
  input: LayerInput,
  { expected, signal }: { readonly expected: DiffID | undefined; readonly signal: AbortSignal | undefined },
): { readonly pieces: AsyncIterable<Uint8Array>; readonly verified?: boolean | undefined } {
  if (!isArchiveFile(input)) return { pieces: input };
  const { file, turn, limit, onConsumed, plain, verified } = input;
  if (turn === undefined || expected === undefined)
    return { pieces: limitedBy(limit, decompress(told(createReadStream(file.path, { highWaterMark: pieceBytes }), onConsumed))), verified: plain && verified };
  return { pieces: limitedBy(limit, turn.inflate(file, { expected, signal, ...(onConsumed === undefined ? {} : { onConsumed }) })), verified: true };
}

async function* told(pieces: AsyncIterable<Uint8Array>, onConsumed: ((bytes: number) => void) | undefined): AsyncGenerator<Uint8Array, void> {
  let bytes = 0;
  for await (const piece of pieces) {
    bytes += piece.byteLength;
    onConsumed?.(bytes);
    yield piece;
  }
}

function limitedBy(limit: ArchiveLimit | undefined, pieces: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  return limit === undefined ? pieces : limited(pieces, limit);
}
