import { openSync, closeSync, readSync } from "node:fs";
import { EngineError } from "#core/errors.ts";
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

export function isArchiveFile(input: AsyncIterable<Uint8Array> | ArchiveFile): input is ArchiveFile {
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
export function* filePieces(path: string): Generator<Uint8Array, void> {
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
