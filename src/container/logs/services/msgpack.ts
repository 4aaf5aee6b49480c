/** As much of MessagePack as a log message needs. @see https://github.com/msgpack/msgpack/blob/master/spec.md @module */

/** Fluentd's time with nanoseconds: extension type 0, seconds and nanoseconds of 32 bits. */
export class EventTime {
  readonly ns: bigint;
  constructor(ns: bigint) {
    this.ns = ns;
  }
}

/** Bytes are packed as a string: what a container writes need not be text. */
export type Packable = string | Uint8Array | number | EventTime | readonly Packable[] | { readonly [key: string]: Packable };

export function pack(value: Packable): Buffer {
  const parts: Uint8Array[] = [];
  write(value, parts);
  return Buffer.concat(parts);
}

/** Numbers are whole and not negative. */
function write(value: Packable, to: Uint8Array[]): void {
  if (typeof value === "string" || value instanceof Uint8Array) {
    const bytes = typeof value === "string" ? Buffer.from(value) : value;
    to.push(head(bytes.length, { fix: 0xa0, below: 32, u16: 0xda, u32: 0xdb }), bytes);
  } else if (typeof value === "number") {
    if (value < 128) to.push(Buffer.of(value));
    else to.push(u32(0xce, value));
  } else if (value instanceof EventTime) {
    const bytes = Buffer.alloc(10);
    bytes.set([0xd7, 0]);
    bytes.writeUInt32BE(Number(value.ns / 1_000_000_000n), 2);
    bytes.writeUInt32BE(Number(value.ns % 1_000_000_000n), 6);
    to.push(bytes);
  } else if (isList(value)) {
    to.push(head(value.length, { fix: 0x90, below: 16, u16: 0xdc, u32: 0xdd }));
    for (const item of value) write(item, to);
  } else {
    const entries = Object.entries(value);
    to.push(head(entries.length, { fix: 0x80, below: 16, u16: 0xde, u32: 0xdf }));
    for (const [key, item] of entries) {
      write(key, to);
      write(item, to);
    }
  }
}

function isList(value: readonly Packable[] | { readonly [key: string]: Packable }): value is readonly Packable[] {
  return Array.isArray(value);
}

function head(length: number, codes: { readonly fix: number; readonly below: number; readonly u16: number; readonly u32: number }): Buffer {
  if (length < codes.below) return Buffer.of(codes.fix + length);
  if (length > 0xffff) return u32(codes.u32, length);
  return Buffer.of(codes.u16, length >> 8, length & 0xff);
}

function u32(code: number, value: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = code;
  bytes.writeUInt32BE(value, 1);
  return bytes;
}
