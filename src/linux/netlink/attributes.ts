/**
 * Netlink attributes: u16 length, u16 type, payload, padded to four bytes. Numbers are little endian (the machines that wherry runs on), or
 * big endian where a family says so (nf_tables).
 * @module
 * @see netlink(7), kernel Documentation/userspace-api/netlink/intro.rst
 */

const NLA_F_NESTED = 0x8000;
const TYPE_MASK = 0x3fff;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

const padded = (length: number): number => (length + 3) & ~3;

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** An attribute with these bytes. RangeError above 65531 bytes: the length has 16 bits. */
export function bytes(type: number, payload: Uint8Array): Uint8Array {
  const length = 4 + payload.length;
  if (length > 0xffff) throw new RangeError(`netlink attribute ${type & TYPE_MASK}: ${payload.length} bytes do not fit`);
  const attribute = new Uint8Array(padded(length));
  const view = new DataView(attribute.buffer);
  view.setUint16(0, length, true);
  view.setUint16(2, type, true);
  attribute.set(payload, 4);
  return attribute;
}

/** An attribute made of attributes. */
export function nested(type: number, ...attributes: readonly Uint8Array[]): Uint8Array {
  return bytes(type | NLA_F_NESTED, concat(attributes));
}

/** NUL-terminated. */
export function string(type: number, value: string): Uint8Array {
  if (value.includes("\0")) throw new RangeError("a netlink string cannot hold NUL");
  return bytes(type, encoder.encode(`${value}\0`));
}

export const u8 = (type: number, value: number): Uint8Array => bytes(type, Uint8Array.of(value));
export const u16 = (type: number, value: number): Uint8Array =>
  bytes(
    type,
    fixed(2, (view) => view.setUint16(0, value, true)),
  );
export const u32 = (type: number, value: number): Uint8Array => bytes(type, uint32(value));
export const u32be = (type: number, value: number): Uint8Array => bytes(type, uint32be(value));

export const u64be = (type: number, value: bigint): Uint8Array =>
  bytes(
    type,
    fixed(8, (view) => view.setBigUint64(0, value, false)),
  );

/** Bare numbers, for payloads and register data. */
export const uint32 = (value: number): Uint8Array => fixed(4, (view) => view.setUint32(0, value >>> 0, true));
export const uint32be = (value: number): Uint8Array => fixed(4, (view) => view.setUint32(0, value >>> 0, false));
export const uint16be = (value: number): Uint8Array => fixed(2, (view) => view.setUint16(0, value, false));

function fixed(length: number, fill: (view: DataView) => void): Uint8Array {
  const value = new Uint8Array(length);
  fill(new DataView(value.buffer));
  return value;
}

/** Attributes by type; a repeated one keeps its last value. RangeError when a length does not fit. */
export function decodeAttributes(data: Uint8Array): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  for (const { type, payload } of attributesIn(data)) found.set(type, payload);
  return found;
}

/** Attributes in order. */
export function attributesIn(data: Uint8Array): { readonly type: number; readonly payload: Uint8Array }[] {
  const list: { type: number; payload: Uint8Array }[] = [];
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < data.length; ) {
    const length = at + 4 <= data.length ? view.getUint16(at, true) : 0;
    if (length < 4 || at + length > data.length) throw new RangeError(`netlink attribute at ${at}: length ${length} does not fit in ${data.length - at} bytes`);
    list.push({ type: view.getUint16(at + 2, true) & TYPE_MASK, payload: data.subarray(at + 4, at + length) });
    at += padded(length);
  }
  return list;
}

/** Text of a NUL-terminated attribute. */
export function textOf(payload: Uint8Array): string {
  const end = payload.indexOf(0);
  return decoder.decode(end < 0 ? payload : payload.subarray(0, end));
}
