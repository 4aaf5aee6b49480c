import { createReadStream, createWriteStream } from "node:fs";
import { finished } from "node:stream/promises";
import { createGunzip, createGzip, type Gzip } from "node:zlib";
import { giveBack, pieceBytes, takePiece } from "#core/pieces.ts";
import { type ByteString, corrupt, toByteString } from "./bytes.ts";
import { readLong, writeLong } from "./longs.ts";
import { ByteSource } from "./tar/byte-source.ts";
import type { Extent } from "./tar/entry.ts";

/**
 * The *tar index* of a layer: what its archive had besides the contents of files (headers, padding, what follows the end), and which file's content
 * stood between. With the unpacked files it gives the archive back byte for byte, so a layer is stored once. A gzip'ed sequence of records
 *
 *     "M" u32 length, bytes                                             bytes of the archive
 *     "F" u32 length, path, u64 bytes                                   the whole content of a file
 *     "S" u32 length, path, u64 bytes, u32 count, (u64 offset, u64 length)…  parts of a sparse file
 *
 * after the line "wherry-tar-index 1". Numbers are little endian. (Docker keeps the same knowledge as tar-split.json.gz.)
 */
export type TarIndexRecord =
  | { readonly kind: "meta"; readonly bytes: Buffer }
  /** `number` counts the file records of the index; `bytes` is what the archive holds of the file. */
  | { readonly kind: "file"; readonly number: number; readonly path: ByteString; readonly bytes: number; readonly extents: readonly Extent[] };

const magic = "wherry-tar-index 1\n";
/** The characters that records begin with. */
const type = { meta: 0x4d, file: 0x46, sparse: 0x53 } as const;
/** What is read, or decompressed, at a time. */
const batchBytes = 256 * 1024;
const maxPath = 64 * 1024;

export class TarIndexWriter {
  readonly #gzip: Gzip;
  readonly #done: Promise<void>;
  /** Records on their way to the compressor; copied, so that no chunk of the archive is held for the sake of a header. */
  #batch: Buffer = takePiece();
  #filled = 0;
  /** Where in the batch the open "M" record begins; -1 = none is open. */
  #meta = -1;
  #files = 0;
  #blocked = false;

  constructor(path: string) {
    this.#gzip = createGzip({ level: 4 });
    this.#done = finished(this.#gzip.pipe(createWriteStream(path, { flags: "wx", mode: 0o600 })));
    // Seen by finish(), or by discard().
    this.#done.catch(() => undefined);
    this.#gzip.write(magic);
  }

  /** The archive's next bytes, which belong to no file. */
  meta(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.byteLength; ) {
      if (this.#meta < 0) this.#openMeta();
      const room = pieceBytes - this.#filled;
      const piece = at === 0 && bytes.byteLength <= room ? bytes : bytes.subarray(at, at + room);
      this.#batch.set(piece, this.#filled);
      this.#filled += piece.byteLength;
      at += piece.byteLength;
      if (this.#filled === pieceBytes) this.#flush();
    }
  }

  /** The archive's next bytes are those of a file. Returns the record's number. */
  file(path: ByteString, bytes: number, extents: readonly Extent[] | undefined): number {
    // The kernel takes less than 4096 bytes; a path through links of an archive may be longer before that is noticed.
    if (path.length > maxPath) throw corrupt(`a path of ${path.length} bytes is longer than a file's can be`);
    this.#closeMeta();
    if (this.#filled + 5 + path.length + 8 > pieceBytes) this.#flush();
    const at = this.#filled;
    const batch = this.#batch;
    batch[at] = extents === undefined ? type.file : type.sparse;
    batch.writeUInt32LE(path.length, at + 1);
    batch.write(path, at + 5, "latin1");
    writeLong(batch, bytes, at + 5 + path.length);
    this.#filled = at + 13 + path.length;
    if (extents !== undefined) this.#record(formatExtents(extents));
    return this.#files++;
  }

  /** {@link drained} has to be waited for. */
  get isBlocked(): boolean {
    return this.#blocked;
  }

  /** Resolves when more may be written without the compressor falling behind. */
  async drained(): Promise<void> {
    if (!this.#blocked) return;
    this.#blocked = false;
    if (this.#gzip.writableNeedDrain) await Promise.race([new Promise((resolve) => this.#gzip.once("drain", resolve)), this.#done]);
  }

  /** Writes the rest. */
  async finish(): Promise<void> {
    this.#flush();
    giveBack(this.#batch);
    this.#gzip.end();
    await this.#done;
  }

  /** Gives up; the file is left for the caller to remove. */
  async discard(): Promise<void> {
    giveBack(this.#batch);
    this.#gzip.end();
    await this.#done.catch(() => undefined);
  }

  #openMeta(): void {
    if (this.#filled + 5 >= pieceBytes) this.#flush();
    this.#meta = this.#filled;
    this.#batch[this.#filled] = type.meta;
    this.#filled += 5;
  }

  #closeMeta(): void {
    if (this.#meta >= 0) this.#batch.writeUInt32LE(this.#filled - this.#meta - 5, this.#meta + 1);
    this.#meta = -1;
  }

  #record(bytes: Buffer): void {
    if (this.#filled + bytes.length > pieceBytes) this.#flush();
    if (bytes.length > pieceBytes) {
      if (!this.#gzip.write(bytes)) this.#blocked = true;
      return;
    }
    bytes.copy(this.#batch, this.#filled);
    this.#filled += bytes.length;
  }

  #flush(): void {
    this.#closeMeta();
    if (this.#filled === 0) return;
    const batch = this.#batch;
    const sent = this.#gzip.write(batch.subarray(0, this.#filled), (error) => {
      if (error === null || error === undefined) giveBack(batch);
    });
    if (!sent) this.#blocked = true;
    this.#batch = takePiece();
    this.#filled = 0;
  }
}

function formatExtents(extents: readonly Extent[]): Buffer {
  const bytes = Buffer.alloc(4 + extents.length * 16);
  bytes.writeUInt32LE(extents.length, 0);
  extents.forEach(({ offset, length }, i) => {
    writeLong(bytes, offset, 4 + i * 16);
    writeLong(bytes, length, 12 + i * 16);
  });
  return bytes;
}

/** Reads an index back, as many records at a time as have been decompressed; EngineError "corrupt" when it is damaged. */
export async function* readTarIndex(path: string): AsyncIterable<readonly TarIndexRecord[]> {
  const file = createReadStream(path, { highWaterMark: batchBytes });
  // By default 16 KiB: each piece is a turn in libuv's pool, and another thread to wake.
  const plain = createGunzip({ chunkSize: batchBytes });
  file.once("error", (error) => plain.destroy(error));
  const source = new ByteSource(file.pipe(plain));
  try {
    if (!(await source.want(magic.length)) || source.takeReady(magic.length).toString("latin1") !== magic) throw corrupt(`${path} is not a tar index`);
    for (let files = 0; await source.want(1); ) {
      const records: TarIndexRecord[] = [];
      let length = recordBytes(source);
      for (; length <= source.ready; length = recordBytes(source)) {
        const record = parseRecord(source.takeReady(length), files);
        if (record === undefined) throw corrupt(`tar index ${path} is damaged`);
        if (record.kind === "file") files++;
        records.push(record);
      }
      if (records.length > 0) yield records;
      else if (!(await source.want(length))) throw corrupt(`tar index ${path} is truncated`);
    }
  } finally {
    file.destroy();
    plain.destroy();
  }
}

/** How long the next record is, as far as what is here of it says. */
function recordBytes(source: ByteSource): number {
  const head = source.peek(0, 5);
  if (head.length < 5) return 5;
  const named = 5 + head.readUInt32LE(1);
  if (head[0] === type.file) return named + 8;
  if (head[0] !== type.sparse) return named;
  const counted = named + 12;
  return source.ready < counted ? counted : counted + source.peek(named + 8, 4).readUInt32LE() * 16;
}

/** Undefined: it is none. */
function parseRecord(record: Buffer, number: number): TarIndexRecord | undefined {
  const kind = record[0];
  const named = 5 + record.readUInt32LE(1);
  if (kind === type.meta) return { kind: "meta", bytes: record.subarray(5) };
  if (kind !== type.file && kind !== type.sparse) return undefined;
  const bytes = readLong(record, named);
  const extents: Extent[] = kind === type.file ? [{ offset: 0, length: bytes }] : [];
  for (let at = named + 12; at < record.length; at += 16) extents.push({ offset: readLong(record, at), length: readLong(record, at + 8) });
  return { kind: "file", number, path: toByteString(record.subarray(5, named)), bytes, extents };
}
