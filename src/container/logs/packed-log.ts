/**
 * Rotated logs in gzip. The header's file name holds the identity of the log that was compressed: by it a reader that knows the log from before recognises it.
 * @see RFC 1952
 * @module
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, open, unlink } from "node:fs/promises";
import { type BigIntStats, createReadStream, createWriteStream, type ReadStream, type WriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { EngineError } from "#core/errors.ts";

const HEAD = 10;
const FNAME = 8;

/** Inode and time of birth: an inode alone is given to the next file as soon as its own is gone. */
export function identityOf({ ino, birthtimeNs }: Pick<BigIntStats, "ino" | "birthtimeNs">): string {
  return `${ino}-${birthtimeNs}`;
}

/** What a compressed log was. */
export interface Packed {
  readonly identity: string;
  /** Bytes, unpacked. */
  readonly size: number;
}

/** Throws EngineError "internal" for a file that we have not written. */
export async function readPackedHead(file: FileHandle, size: number): Promise<Packed> {
  const head = Buffer.alloc(HEAD + 64);
  const trailer = Buffer.alloc(4);
  await file.read(head, 0, head.length, 0);
  await file.read(trailer, 0, 4, size - 4);
  const name = head.toString("latin1", HEAD, Math.max(HEAD, head.indexOf(0, HEAD)));
  if (head[0] !== 0x1f || ((head[3] ?? 0) & FNAME) === 0 || !/^[0-9]{1,20}-[0-9]{1,20}$/.test(name))
    throw new EngineError("internal", "a rotated log is damaged");
  return { identity: name, size: trailer.readUInt32LE(0) };
}

/** The content as a file without a name; the caller closes it. */
export async function unpack(path: string, packed: FileHandle): Promise<FileHandle> {
  const name = `${path}.${randomBytes(6).toString("hex")}`;
  const file = await open(name, "wx+", 0o600);
  try {
    await unlink(name);
    await pipeline(reading(packed), createGunzip(), writing(file));
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

// By number: a stream of a FileHandle that does not close it keeps it from being closed.
const reading = ({ fd }: FileHandle): ReadStream => createReadStream("", { fd, start: 0, autoClose: false });
const writing = ({ fd }: FileHandle): WriteStream => createWriteStream("", { fd, start: 0, autoClose: false });

/** Compresses a log that nobody writes to any more. Its inode. */
export async function pack(log: FileHandle, to: string): Promise<bigint> {
  const stat = await log.stat({ bigint: true });
  const out = await open(to, "w", 0o640);
  try {
    const compressed = reading(log).pipe(createGzip());
    await pipeline(named(compressed, identityOf(stat)), writing(out));
    await out.datasync();
  } finally {
    await out.close();
  }
  return stat.ino;
}

async function* named(compressed: AsyncIterable<Buffer>, identity: string): AsyncGenerator<Buffer> {
  let head = Buffer.alloc(0);
  let done = false;
  for await (const chunk of compressed) {
    if (done) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    if (head.length < HEAD) continue;
    head[3] = FNAME;
    yield Buffer.concat([head.subarray(0, HEAD), Buffer.from(`${identity}\0`), head.subarray(HEAD)]);
    done = true;
  }
}
