import { type ByteString, corrupt, printable } from "../bytes.ts";
import { blockSize } from "./entry.ts";

/** One 512-byte header as it stands, before extended headers are merged in. */
export interface RawHeader {
  readonly name: ByteString;
  readonly typeflag: string;
  readonly linkname: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly major: number;
  readonly minor: number;
}

const zeroBlock = Buffer.alloc(blockSize);

export function isZeroBlock(block: Buffer): boolean {
  return block.equals(zeroBlock);
}

/** Parses a header; EngineError "corrupt" when its checksum or a number is wrong. `where` says which member it follows. */
export function parseHeader(block: Buffer, where: () => string): RawHeader {
  if (!checksumHolds(block)) throw corrupt(`archive header ${where()} has a wrong checksum`);
  const typeflag = String.fromCharCode(block[156] ?? 0);
  const device = typeflag === "3" || typeflag === "4";
  const prefix = prefixOf(block);
  return {
    name: prefix === "" ? text(block, 0, 100) : `${prefix}/${text(block, 0, 100)}`,
    typeflag,
    linkname: text(block, 157, 100),
    mode: numberIn(block, 100, 8, "mode"),
    uid: numberIn(block, 108, 8, "uid"),
    gid: numberIn(block, 116, 8, "gid"),
    size: numberIn(block, 124, 12, "size"),
    mtime: numberIn(block, 136, 12, "time"),
    major: device ? numberIn(block, 329, 8, "device number") : 0,
    minor: device ? numberIn(block, 337, 8, "device number") : 0,
  };
}

function numberIn(block: Buffer, offset: number, length: number, what: string): number {
  const value = parseNumber(block, offset, length);
  if (value === undefined) throw corrupt(`archive entry "${printable(text(block, 0, 100))}" has an invalid ${what}`);
  return value;
}

/** A field of bytes that ends at the first NUL, or fills its place. */
export function text(block: Buffer, offset: number, length: number): ByteString {
  if (block[offset] === 0) return "";
  const end = block.indexOf(0, offset);
  return block.toString("latin1", offset, end < 0 || end > offset + length ? offset + length : end);
}

/** Octal digits, or GNU's base 256 when the top bit is set. undefined = neither; numbers that a double cannot hold count as neither. */
export function parseNumber(block: Buffer, offset: number, length: number): number | undefined {
  const first = block[offset] ?? 0;
  if ((first & 0x80) !== 0) return parseBase256(block.subarray(offset, offset + length));
  const end = offset + length;
  let at = offset;
  while (at < end && (block[at] === 0x20 || block[at] === 0)) at++;
  let value = 0;
  for (; at < end; at++) {
    const byte = block[at]!;
    if (byte === 0x20 || byte === 0) break;
    if (byte < 0x30 || byte > 0x37) return undefined;
    value = value * 8 + byte - 0x30;
  }
  return value;
}

function parseBase256(field: Buffer): number | undefined {
  const negative = (field[0]! & 0x40) !== 0;
  let value = BigInt(negative ? field[0]! - 0x100 : field[0]! & 0x7f);
  for (const byte of field.subarray(1)) value = (value << 8n) | BigInt(byte);
  const small = Number(value);
  return Number.isSafeInteger(small) ? small : undefined;
}

const checksumAt = 148;

function checksumHolds(block: Buffer): boolean {
  const expected = parseNumber(block, checksumAt, 8);
  let sum = 0;
  for (let i = 0; i < blockSize; i += 8)
    sum += block[i]! + block[i + 1]! + block[i + 2]! + block[i + 3]! + block[i + 4]! + block[i + 5]! + block[i + 6]! + block[i + 7]!;
  // The field itself counts as spaces.
  for (let i = checksumAt; i < checksumAt + 8; i++) sum += 0x20 - block[i]!;
  if (expected === sum) return true;
  // Old tars summed signed characters.
  for (let i = 0; i < blockSize; i++) if (block[i]! >= 0x80 && (i < checksumAt || i >= checksumAt + 8)) sum -= 256;
  return expected === sum;
}

function prefixOf(block: Buffer): ByteString {
  // Most members have none, whatever the dialect.
  if (block[345] === 0) return "";
  const magic = block.toString("latin1", 257, 265);
  if (magic.startsWith("ustar\0")) return text(block, 345, block.toString("latin1", 508, 512) === "tar\0" ? 131 : 155);
  if (magic !== "ustar  \0") return "";
  // GNU has times here, but Go before 1.8 wrote a prefix under GNU's magic now and then, and so did docker.
  if (parseNumber(block, 345, 12) !== undefined && parseNumber(block, 357, 12) !== undefined) return "";
  const prefix = text(block, 345, 155);
  return /^[\x20-\x7e]*$/.test(prefix) ? prefix : "";
}
