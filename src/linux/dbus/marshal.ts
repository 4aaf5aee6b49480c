/**
 * D-Bus values and messages as bytes, little endian. A value's TypeScript shape follows its signature: numbers for y n q i u d, bigint for x t (numbers are taken, too),
 * boolean for b, strings for s o g, arrays for a, arrays of the members for (), {@link Variant} for v, [key, value] for {}.
 * @module
 * @see https://dbus.freedesktop.org/doc/dbus-specification.html
 */
import { EngineError } from "#core/errors.ts";

export interface Variant {
  readonly signature: string;
  readonly value: DbusValue;
}
export type DbusValue = number | bigint | boolean | string | Variant | readonly DbusValue[];

export const variant = (signature: string, value: DbusValue): Variant => ({ signature, value });

/** As the specification bounds them. */
const MAX_MESSAGE = 1 << 27;
const MAX_ARRAY = 1 << 26;
const MAX_DEPTH = 64;

const corrupt = (why: string): EngineError => new EngineError("corrupt", `D-Bus: ${why}`);

/** The complete types that a signature is made of: "sa(sv)u" → s, a(sv), u. */
export function splitSignature(signature: string): string[] {
  const types: string[] = [];
  for (let at = 0; at < signature.length; ) {
    const end = endOfType(signature, at, 0);
    types.push(signature.slice(at, end));
    at = end;
  }
  return types;
}

function endOfType(signature: string, at: number, depth: number): number {
  const code = signature[at];
  if (code === undefined || depth > MAX_DEPTH) throw corrupt(`signature "${signature.slice(0, 80)}" is not complete`);
  if (code === "a") return endOfType(signature, at + 1, depth + 1);
  if (code !== "(" && code !== "{") {
    if (!"ybnqiuxtdsogvh".includes(code)) throw corrupt(`unknown type "${code}"`);
    return at + 1;
  }
  const close = code === "(" ? ")" : "}";
  let end = at + 1;
  while (signature[end] !== close) end = endOfType(signature, end, depth + 1);
  return end + 1;
}

/** Bytes of the boundary that a value of this type begins at. */
function alignment(type: string): number {
  const code = type[0] ?? "";
  if ("ygv".includes(code)) return 1;
  if ("nq".includes(code)) return 2;
  return "xtd({".includes(code) ? 8 : 4;
}

/** Grows as values are written; positions are counted from the message's start. */
export class DbusWriter {
  #bytes = Buffer.alloc(256);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  align(to: number): void {
    this.#take((to - (this.#length % to)) % to);
  }

  /** Writes a value of one complete type. */
  value(type: string, value: DbusValue): void {
    this.align(alignment(type));
    const code = type[0] ?? "";
    if (code === "a") this.#array(type.slice(1), value as readonly DbusValue[]);
    else if (code === "(" || code === "{") {
      const members = value as readonly DbusValue[];
      for (const [i, member] of splitSignature(type.slice(1, -1)).entries()) this.value(member, members[i] as DbusValue);
    } else if (code === "v") {
      const { signature, value: inner } = value as Variant;
      this.value("g", signature);
      this.value(signature, inner);
    } else if (code === "s" || code === "o") this.#text(String(value), 4);
    else if (code === "g") this.#text(String(value), 1);
    else this.#number(code, value);
  }

  u32At(at: number, value: number): void {
    this.#bytes.writeUInt32LE(value, at);
  }

  done(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  #number(code: string, value: DbusValue): void {
    const at = this.#take(alignment(code));
    if (code === "y") this.#bytes.writeUInt8(Number(value), at);
    else if (code === "n") this.#bytes.writeInt16LE(Number(value), at);
    else if (code === "q") this.#bytes.writeUInt16LE(Number(value), at);
    else if (code === "i") this.#bytes.writeInt32LE(Number(value), at);
    else if (code === "b") this.#bytes.writeUInt32LE(value === true ? 1 : 0, at);
    else if (code === "u" || code === "h") this.#bytes.writeUInt32LE(Number(value), at);
    else if (code === "x") this.#bytes.writeBigInt64LE(BigInt(value as bigint), at);
    else if (code === "t") this.#bytes.writeBigUInt64LE(BigInt(value as bigint), at);
    else this.#bytes.writeDoubleLE(Number(value), at);
  }

  #text(text: string, lengthBytes: 1 | 4): void {
    if (text.includes("\0")) throw new EngineError("invalid", "a D-Bus string cannot hold NUL");
    const bytes = Buffer.from(text);
    const at = this.#take(lengthBytes + bytes.length + 1);
    this.#bytes.writeUIntLE(bytes.length, at, lengthBytes);
    bytes.copy(this.#bytes, at + lengthBytes);
  }

  #array(element: string, values: readonly DbusValue[]): void {
    const lengthAt = this.#take(4);
    this.align(alignment(element));
    const from = this.#length;
    for (const value of values) this.value(element, value);
    this.u32At(lengthAt, this.#length - from);
  }

  /** Room for `n` bytes, zeroed; where it begins. `#bytes` may be another buffer afterwards. */
  #take(n: number): number {
    const at = this.#length;
    this.#length += n;
    if (this.#length > this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(Math.max(this.#bytes.length, n))]);
    return at;
  }
}

/** Reads what {@link DbusWriter} writes. EngineError "corrupt" for what does not fit. */
export class DbusReader {
  readonly #bytes: Buffer;
  #at: number;

  /** `at`: where to begin; alignment counts from the buffer's start. */
  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes;
    this.#at = at;
  }

  align(to: number): void {
    this.#take((to - (this.#at % to)) % to);
  }

  value(type: string, depth = 0): DbusValue {
    if (depth > MAX_DEPTH) throw corrupt("nested too deeply");
    this.align(alignment(type));
    const code = type[0] ?? "";
    switch (code) {
      case "a":
        return this.#array(type.slice(1), depth);
      case "(":
      case "{":
        return splitSignature(type.slice(1, -1)).map((member) => this.value(member, depth + 1));
      case "v": {
        const signature = this.#text(1);
        if (splitSignature(signature).length !== 1) throw corrupt(`a variant of type "${signature.slice(0, 80)}"`);
        return { signature, value: this.value(signature, depth + 1) };
      }
      case "s":
      case "o":
        return this.#text(4);
      case "g":
        return this.#text(1);
      default:
        return this.#number(code);
    }
  }

  #number(code: string): number | bigint | boolean {
    if (code === "y") return this.#bytes.readUInt8(this.#take(1));
    if (code === "n") return this.#bytes.readInt16LE(this.#take(2));
    if (code === "q") return this.#bytes.readUInt16LE(this.#take(2));
    if (code === "i") return this.#bytes.readInt32LE(this.#take(4));
    if (code === "b") return this.#bytes.readUInt32LE(this.#take(4)) !== 0;
    if (code === "u" || code === "h") return this.#bytes.readUInt32LE(this.#take(4));
    if (code === "x") return this.#bytes.readBigInt64LE(this.#take(8));
    if (code === "t") return this.#bytes.readBigUInt64LE(this.#take(8));
    if (code === "d") return this.#bytes.readDoubleLE(this.#take(8));
    throw corrupt(`unknown type "${code}"`);
  }

  #text(lengthBytes: 1 | 4): string {
    const length = this.#bytes.readUIntLE(this.#take(lengthBytes), lengthBytes);
    const at = this.#take(length + 1);
    return this.#bytes.toString("utf8", at, at + length);
  }

  #array(element: string, depth: number): DbusValue[] {
    const length = this.#bytes.readUInt32LE(this.#take(4));
    if (length > MAX_ARRAY) throw corrupt(`an array of ${length} bytes`);
    this.align(alignment(element));
    const end = this.#at + length;
    if (end > this.#bytes.length) throw corrupt(`an array of ${length} bytes does not fit`);
    const values: DbusValue[] = [];
    while (this.#at < end) values.push(this.value(element, depth + 1));
    return values;
  }

  #take(n: number): number {
    const at = this.#at;
    if (at + n > this.#bytes.length) throw corrupt(`${n} bytes at ${at} do not fit in ${this.#bytes.length}`);
    this.#at += n;
    return at;
  }
}

export const MESSAGE = { CALL: 1, RETURN: 2, ERROR: 3, SIGNAL: 4 } as const;
const FIELD = { path: 1, interface: 2, member: 3, error: 4, replySerial: 5, destination: 6, signature: 8 } as const;
const FIELD_TYPE: Readonly<Record<keyof typeof FIELD, string>> = {
  path: "o",
  interface: "s",
  member: "s",
  error: "s",
  replySerial: "u",
  destination: "s",
  signature: "g",
};

export interface DbusMessage {
  readonly type: number;
  readonly serial: number;
  readonly path?: string;
  readonly interface?: string;
  readonly member?: string;
  /** Name of the error. */
  readonly error?: string;
  readonly replySerial?: number;
  readonly destination?: string;
  readonly signature?: string;
  readonly body: readonly DbusValue[];
}

export function encodeMessage(message: DbusMessage): Buffer {
  const types = splitSignature(message.signature ?? "");
  const body = new DbusWriter();
  for (const [i, type] of types.entries()) body.value(type, message.body[i] as DbusValue);
  const writer = new DbusWriter();
  for (const byte of [0x6c /* little endian */, message.type, 0, 1 /* protocol */]) writer.value("y", byte);
  writer.value("u", body.length);
  writer.value("u", message.serial);
  const fields = (Object.keys(FIELD) as (keyof typeof FIELD)[]).flatMap((key) =>
    message[key] === undefined || message[key] === "" ? [] : [[FIELD[key], variant(FIELD_TYPE[key], message[key])]],
  );
  writer.value("a(yv)", fields);
  writer.align(8);
  return Buffer.concat([writer.done(), body.done()]);
}

/** The message at the beginning of `bytes` and its length; undefined when it is not whole yet. */
export function decodeMessage(bytes: Buffer): { readonly message: DbusMessage; readonly length: number } | undefined {
  if (bytes.length < 16) return undefined;
  if (bytes[0] !== 0x6c) throw corrupt("only little endian is understood");
  const [bodyLength, fieldsLength] = [bytes.readUInt32LE(4), bytes.readUInt32LE(12)];
  const bodyAt = (16 + fieldsLength + 7) & ~7;
  const length = bodyAt + bodyLength;
  if (fieldsLength > MAX_ARRAY || length > MAX_MESSAGE) throw corrupt(`a message of ${length} bytes`);
  if (bytes.length < length) return undefined;
  const header = new DbusReader(bytes.subarray(0, bodyAt), 12);
  const named = new Map<unknown, DbusValue>();
  for (const field of header.value("a(yv)") as [number, Variant][]) named.set(field[0], field[1].value);
  const fields = Object.fromEntries(Object.entries(FIELD).flatMap(([key, code]) => (named.has(code) ? [[key, named.get(code)]] : [])));
  const signature = String(named.get(FIELD.signature) ?? "");
  const reader = new DbusReader(bytes.subarray(bodyAt, length));
  const body = splitSignature(signature).map((type) => reader.value(type));
  // The fields' types are those of the specification, or the peer is none.
  return { message: { type: bytes[1] ?? 0, serial: bytes.readUInt32LE(8), ...fields, body } as DbusMessage, length };
}
