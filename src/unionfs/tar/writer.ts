import { type ByteString, baseOf } from "../bytes.ts";
import { zeros } from "../zeros.ts";
import { blockSize, paddingAfter, type TarEntry, type TarType } from "./entry.ts";
import { formatPax, formatPaxTime } from "./pax.ts";

const typeflags: Readonly<Record<TarType, string>> = { file: "0", link: "1", symlink: "2", char: "3", block: "4", dir: "5", fifo: "6" };

/** What {@link formatHeader} needs to know; `name` without leading or trailing slash. */
export type WriteEntry = Pick<TarEntry, "name" | "type" | "linkname" | "mode" | "uid" | "gid" | "size" | "mtimeNs" | "major" | "minor" | "xattrs">;

/**
 * The header blocks of a member: one ustar block where everything fits, with a pax header in front where not (long or non-ASCII names, parts of seconds,
 * large numbers, xattrs). The same entry always gives the same bytes.
 */
export function formatHeader(entry: WriteEntry): Buffer {
  const name = entry.type === "dir" ? `${entry.name}/` : entry.name;
  const pax: [ByteString, ByteString][] = entry.xattrs.map((xattr) => [`SCHILY.xattr.${toLatin(xattr.name)}`, Buffer.from(xattr.value).toString("latin1")]);
  const split = splitName(name);
  if (split === undefined) pax.push(["path", name]);
  if (!fitsPlainly(entry.linkname, 100)) pax.push(["linkpath", entry.linkname]);
  if (entry.size > maxOctal(12)) pax.push(["size", String(entry.size)]);
  if (entry.uid > maxOctal(8)) pax.push(["uid", String(entry.uid)]);
  if (entry.gid > maxOctal(8)) pax.push(["gid", String(entry.gid)]);
  const seconds = Number(entry.mtimeNs / 1_000_000_000n);
  if (entry.mtimeNs < 0n || entry.mtimeNs % 1_000_000_000n !== 0n || seconds > maxOctal(12)) pax.push(["mtime", formatPaxTime(entry.mtimeNs)]);
  const plain = block({ ...entry, ...(split ?? { prefix: "", name: name.slice(0, 100) }), typeflag: typeflags[entry.type], seconds: Math.max(0, seconds) });
  if (pax.length === 0) return plain;
  const body = formatPax(pax.sort(([a], [b]) => (a < b ? -1 : 1)));
  const about = `PaxHeaders.0/${baseOf(entry.name).replace(/[^\x20-\x7e]/g, "_")}`.slice(0, 100);
  const header = block({
    name: about,
    prefix: "",
    linkname: "",
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: body.length,
    seconds: 0,
    major: 0,
    minor: 0,
    typeflag: "x",
  });
  return Buffer.concat([header, body, Buffer.alloc(paddingAfter(body.length)), plain]);
}

/** What follows a member's data up to the next block. Not to be written to. */
export function padding(size: number): Buffer {
  return zeros.subarray(0, paddingAfter(size));
}

/** The two zero blocks that end an archive. */
export function endBlocks(): Buffer {
  return Buffer.alloc(2 * blockSize);
}

interface Fields {
  readonly name: ByteString;
  readonly prefix: ByteString;
  readonly linkname: ByteString;
  readonly typeflag: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly seconds: number;
  readonly major: number;
  readonly minor: number;
}

/** Byte by byte, in memory of the pool: a header is a dozen short fields, and a call of the runtime for each, or memory of its own, costs several times as much. */
function block(fields: Fields): Buffer {
  const bytes = Buffer.allocUnsafe(blockSize).fill(0);
  put(bytes, 0, 100, fields.name);
  octal(bytes, 100, 8, fields.mode);
  octal(bytes, 108, 8, fields.uid);
  octal(bytes, 116, 8, fields.gid);
  octal(bytes, 124, 12, fields.size);
  octal(bytes, 136, 12, fields.seconds);
  put(bytes, 148, 8, "        ");
  put(bytes, 156, 1, fields.typeflag);
  put(bytes, 157, 100, fields.linkname);
  put(bytes, 257, 8, "ustar\x0000");
  octal(bytes, 329, 8, fields.major);
  octal(bytes, 337, 8, fields.minor);
  put(bytes, 345, 155, fields.prefix);
  let sum = 0;
  for (let at = 0; at < blockSize; at++) sum += bytes[at]!;
  octal(bytes, 148, 7, sum);
  put(bytes, 154, 2, "\0 ");
  return bytes;
}

function put(bytes: Buffer, offset: number, length: number, text: ByteString): void {
  const end = Math.min(length, text.length);
  for (let at = 0; at < end; at++) bytes[offset + at] = text.charCodeAt(at);
}

/** Octal with a NUL behind; what is too large stands in the pax header (then 0 here), or for devices in GNU's base 256. */
function octal(bytes: Buffer, offset: number, length: number, value: number): void {
  const fits = value <= maxOctal(length);
  if (!fits && offset >= 329) {
    bytes[offset] = 0x80;
    bytes.writeUIntBE(value, offset + length - 6, 6);
    return;
  }
  let rest = fits ? value : 0;
  for (let at = offset + length - 2; at >= offset; at--) {
    bytes[at] = 0x30 + (rest % 8);
    rest = Math.floor(rest / 8);
  }
}

function maxOctal(length: number): number {
  return 8 ** (length - 1) - 1;
}

function fitsPlainly(text: ByteString, length: number): boolean {
  return text.length <= length && /^[\x20-\x7e]*$/.test(text);
}

/** ustar's two fields for a name; undefined when it does not fit. */
function splitName(name: ByteString): { prefix: ByteString; name: ByteString } | undefined {
  if (fitsPlainly(name, 100)) return { prefix: "", name };
  if (!fitsPlainly(name, 256)) return undefined;
  // The last slash (not the one that ends a directory's name) that leaves at most 155 bytes in front.
  const slash = name.lastIndexOf("/", Math.min(155, name.length - 2));
  if (slash <= 0 || name.length - slash - 1 > 100) return undefined;
  return { prefix: name.slice(0, slash), name: name.slice(slash + 1) };
}

/** xattr names are UTF-8 on the way through JavaScript; in an archive they are bytes. */
function toLatin(text: string): ByteString {
  return Buffer.from(text, "utf8").toString("latin1");
}
