/** Builds archives byte by byte for tests, also such as no writer would write. @module */
import { paddingAfter } from "../tar/entry.ts";

/** A member as it is to stand in the archive; names are bytes (latin1). */
export interface Member {
  readonly name: string;
  readonly typeflag?: string;
  readonly linkname?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly data?: string | Uint8Array;
  /** What the size field says; default: the length of the data. */
  readonly size?: number;
  readonly major?: number;
  readonly minor?: number;
  readonly magic?: "ustar\x0000" | "ustar  \0" | "";
  readonly prefix?: string;
  /** Size as GNU base 256. */
  readonly base256?: boolean;
  /** What the padding is filled with; zero when left out. */
  readonly paddingByte?: number;
  /** Raw bytes from offset 345 on (GNU's sparse fields). */
  readonly tail?: Buffer;
}

export function header(member: Member): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, offset: number, length: number) => block.write(value.toString(8).padStart(length - 1, "0"), offset, "latin1");
  block.write(member.name.slice(0, 100), 0, "latin1");
  octal(member.mode ?? 0o644, 100, 8);
  octal(member.uid ?? 0, 108, 8);
  octal(member.gid ?? 0, 116, 8);
  const size = member.size ?? dataOf(member).length;
  if (member.base256 === true) {
    block.writeUIntBE(size, 130, 6);
    block[124] = 0x80;
  } else {
    octal(size, 124, 12);
  }
  octal(member.mtime ?? 0, 136, 12);
  block.write("        ", 148, "latin1");
  block.write(member.typeflag ?? "0", 156, "latin1");
  block.write((member.linkname ?? "").slice(0, 100), 157, "latin1");
  block.write(member.magic ?? "ustar\x0000", 257, "latin1");
  octal(member.major ?? 0, 329, 8);
  octal(member.minor ?? 0, 337, 8);
  if (member.prefix !== undefined) block.write(member.prefix, 345, "latin1");
  member.tail?.copy(block, 345);
  return withChecksum(block);
}

export function withChecksum(block: Buffer): Buffer {
  block.write("        ", 148, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

export function member(entry: Member): Buffer {
  const data = dataOf(entry);
  return Buffer.concat([header(entry), data, Buffer.alloc(paddingAfter(data.length), entry.paddingByte ?? 0)]);
}

/** `key=value` records as a pax header in front of the next member. */
export function pax(records: Readonly<Record<string, string>>, typeflag: "x" | "g" = "x"): Buffer {
  return member({
    name: "PaxHeaders/x",
    typeflag,
    data: Buffer.from(
      Object.entries(records)
        .map(([key, value]) => paxRecord(key, value))
        .join(""),
      "latin1",
    ),
  });
}

export function paxRecord(key: string, value: string): string {
  let length = key.length + value.length + 3;
  while (String(length).length + key.length + value.length + 3 !== length) length = String(length).length + key.length + value.length + 3;
  return `${length} ${key}=${value}\n`;
}

export const end: Buffer = Buffer.alloc(1024);

export function tar(...members: readonly (Member | Buffer)[]): Buffer {
  return Buffer.concat([...members.map((entry) => (Buffer.isBuffer(entry) ? entry : member(entry))), end]);
}

function dataOf({ data }: Member): Buffer {
  return typeof data === "string" ? Buffer.from(data, "latin1") : Buffer.from(data ?? []);
}

/** The bytes as a stream of chunks of this size. */
export async function* chunked(bytes: Uint8Array, size: number = bytes.length || 1): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export async function collect(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}
