import { createReadStream, createWriteStream } from "node:fs";
import { open } from "node:fs/promises";
import { finished } from "node:stream/promises";
import { createGunzip, createGzip, type Gzip } from "node:zlib";
import { type ByteString, corrupt, toByteString, toBytes } from "./bytes.ts";
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
const flushAt = 256 * 1024;

export class TarIndexWriter {
  readonly #gzip: Gzip;
  readonly #done: Promise<void>;
  readonly #path: string;
  #meta: Buffer[] = [];
  #metaBytes = 0;
  #files = 0;
  #blocked = false;

  constructor(path: string) {
    this.#path = path;
    this.#gzip = createGzip({ level: 4 });
    this.#done = finished(this.#gzip.pipe(createWriteStream(path, { flags: "wx", mode: 0o600 })));
    // Seen by finish(), or by discard().
    this.#done.catch(() => undefined);
    this.#gzip.write(magic);
  }

  /** The bytes are kept by reference until they are compressed. */
  meta(bytes: Uint8Array): void {
    this.#meta.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    this.#metaBytes += bytes.byteLength;
    if (this.#metaBytes >= flushAt) this.#flushMeta();
  }

  /** The archive's next bytes are those of a file. Returns the record's number. */
  file(path: ByteString, bytes: number, extents: readonly Extent[] | undefined): number {
    this.#flushMeta();
    const name = toBytes(path);
    const head = Buffer.alloc(5 + name.length + 8);
    head.write(extents === undefined ? "F" : "S", 0, "latin1");
    head.writeUInt32LE(name.length, 1);
    name.copy(head, 5);
    head.writeBigUInt64LE(BigInt(bytes), 5 + name.length);
    this.#write(head);
    if (extents !== undefined) this.#write(formatExtents(extents));
    return this.#files++;
  }

  /** Resolves when more may be written without the compressor falling behind. */
  async drained(): Promise<void> {
    if (!this.#blocked) return;
    this.#blocked = false;
    if (this.#gzip.writableNeedDrain) await Promise.race([new Promise((resolve) => this.#gzip.once("drain", resolve)), this.#done]);
  }

  /** Writes the rest; the file is on disk when this resolves. */
  async finish(): Promise<void> {
    this.#flushMeta();
    this.#gzip.end();
    await this.#done;
    await using file = await open(this.#path, "r");
    await file.sync();
  }

  /** Gives up; the file is left for the caller to remove. */
  async discard(): Promise<void> {
    this.#gzip.end();
    await this.#done.catch(() => undefined);
  }

  #flushMeta(): void {
    if (this.#metaBytes === 0) return;
    const head = Buffer.alloc(5);
    head.write("M", 0, "latin1");
    head.writeUInt32LE(this.#metaBytes, 1);
    this.#write(Buffer.concat([head, ...this.#meta]));
    this.#meta = [];
    this.#metaBytes = 0;
  }

  #write(bytes: Buffer): void {
    if (!this.#gzip.write(bytes)) this.#blocked = true;
  }
}

function formatExtents(extents: readonly Extent[]): Buffer {
  const bytes = Buffer.alloc(4 + extents.length * 16);
  bytes.writeUInt32LE(extents.length, 0);
  extents.forEach(({ offset, length }, i) => {
    bytes.writeBigUInt64LE(BigInt(offset), 4 + i * 16);
    bytes.writeBigUInt64LE(BigInt(length), 12 + i * 16);
  });
  return bytes;
}

/** Reads an index back; EngineError "corrupt" when it is damaged. */
export async function* readTarIndex(path: string): AsyncIterable<TarIndexRecord> {
  const file = createReadStream(path);
  const plain = createGunzip();
  file.once("error", (error) => plain.destroy(error));
  const source = new ByteSource(file.pipe(plain));
  const take = async (length: number) => {
    const bytes = await source.take(length);
    if (bytes.length < length) throw corrupt(`tar index ${path} is truncated`);
    return bytes;
  };
  try {
    if ((await take(magic.length)).toString("latin1") !== magic) throw corrupt(`${path} is not a tar index`);
    let number = 0;
    for (let head = await source.take(5); head.length > 0; head = await source.take(5)) {
      const kind = head.toString("latin1", 0, 1);
      if (head.length < 5 || !"MFS".includes(kind)) throw corrupt(`tar index ${path} is damaged`);
      const body = await take(head.readUInt32LE(1));
      if (kind === "M") {
        yield { kind: "meta", bytes: body };
        continue;
      }
      const bytes = Number((await take(8)).readBigUInt64LE());
      let extents: Extent[] = [{ offset: 0, length: bytes }];
      if (kind === "S") {
        const list = await take((await take(4)).readUInt32LE() * 16);
        extents = Array.from({ length: list.length / 16 }, (_, i) => ({
          offset: Number(list.readBigUInt64LE(i * 16)),
          length: Number(list.readBigUInt64LE(i * 16 + 8)),
        }));
      }
      yield { kind: "file", number: number++, path: toByteString(body), bytes, extents };
    }
  } finally {
    file.destroy();
    plain.destroy();
  }
}
