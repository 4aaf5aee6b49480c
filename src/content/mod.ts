/**
 * Blobs by digest: `content/blobs/sha256/<hex>`, written by rename after verification; ingests that a crash left are swept.
 * @module
 */
import type { Readable } from "node:stream";
import type { BlobDigest } from "#core/digest.ts";

export interface ContentStore {
  has(digest: BlobDigest): Promise<boolean>;
  size(digest: BlobDigest): Promise<number | undefined>;
  /** Whole blob; at most `max` bytes (default 4 MiB; EngineError "invalid" when larger). EngineError not-found. */
  read(digest: BlobDigest, max?: number): Promise<Uint8Array>;
  open(digest: BlobDigest): Promise<Readable>;
  /** Streams in, verifies `expected` if given (EngineError "corrupt"), returns the digest. */
  write(
    data: Uint8Array | AsyncIterable<Uint8Array>,
    expected?: BlobDigest,
    signal?: AbortSignal,
  ): Promise<{ readonly digest: BlobDigest; readonly size: number }>;
  remove(digest: BlobDigest): Promise<void>;
  list(): AsyncIterable<BlobDigest>;
  sweep(): Promise<void>;
}
