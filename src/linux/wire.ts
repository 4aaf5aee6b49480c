/**
 * Bytes for the helper and from it: little-endian integers, length-prefixed strings, frames (`u32 length · u8 type · u32 id · payload`).
 * @module
 * @see docs/helper-protocol.md
 */

/** Bytes of a frame before its payload. */
export const FRAME_HEAD = 9;
/** No monitor or worker sends a longer frame. */
const MAX_INCOMING = 2 << 20;

/** Frame types; the same numbers as native/wire.h (a test compares them). */
export const F = {
  CALL: 1,
  LAUNCH: 2,
  TREE: 3,
  CONTROL: 4,
  KILL: 16,
  RESIZE: 17,
  FLUSH: 18,
  LOG_PACKED: 19,
  ANSWER: 20,
  CREDIT: 21,
  LET_GO: 22,
  HELLO_CONTROL: 32,
  HELLO_ATTACH: 33,
  HELLO_NAMES: 34,
  READY: 64,
  FAILED: 65,
  REPORT: 66,
  DONE: 67,
  LISTENING: 68,
  LAUNCHED: 69,
  REPLY: 70,
  EXITED: 71,
  GONE: 72,
  ATTACHED: 73,
  DIRECT: 74,
  OOM: 75,
  QUERY: 76,
  PRESSURE: 77,
  LEFT: 78,
} as const;

/** A growing buffer of encoded values. */
export class Writer {
  #buffer: Buffer;
  #length = 0;

  /** Writes into this memory, or so many new bytes; into more when they are not enough. */
  constructor(memory: Buffer | number = 4096) {
    this.#buffer = typeof memory === "number" ? Buffer.allocUnsafe(memory) : memory;
  }

  get length(): number {
    return this.#length;
  }

  #room(bytes: number): number {
    const at = this.#length;
    if (at + bytes > this.#buffer.length) {
      const bigger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, at + bytes));
      this.#buffer.copy(bigger, 0, 0, at);
      this.#buffer = bigger;
    }
    this.#length = at + bytes;
    return at;
  }

  u8(value: number): void {
    const at = this.#room(1);
    this.#buffer[at] = value;
  }
  u16(value: number): void {
    const at = this.#room(2);
    this.#buffer.writeUInt16LE(value, at);
  }
  u32(value: number): void {
    const at = this.#room(4);
    this.#buffer.writeUInt32LE(value, at);
  }
  i32(value: number): void {
    const at = this.#room(4);
    this.#buffer.writeInt32LE(value, at);
  }
  u64(value: bigint): void {
    const at = this.#room(8);
    this.#buffer.writeBigUInt64LE(BigInt.asUintN(64, value), at);
  }
  i64(value: bigint): void {
    const at = this.#room(8);
    this.#buffer.writeBigInt64LE(value, at);
  }
  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.#buffer.set(bytes, at);
  }
  /** u32 length · bytes. */
  bytes(bytes: Uint8Array): void {
    this.u32(bytes.length);
    this.raw(bytes);
  }
  /** u32 length · UTF-8 bytes · NUL. Throws RangeError when there is a NUL inside: the kernel would see a shorter name than we checked. */
  str(text: string | Uint8Array): void {
    if (typeof text === "string") {
      const size = Buffer.byteLength(text);
      const at = this.#room(4 + size + 1);
      this.#buffer.writeUInt32LE(size, at);
      this.#buffer.write(text, at + 4, size, "utf8");
      this.#buffer[at + 4 + size] = 0;
      if (text.includes("\0")) throw new RangeError("a string for the kernel holds a NUL character");
    } else {
      this.bytes(text);
      this.u8(0);
      if (text.includes(0)) throw new RangeError("a string for the kernel holds a NUL character");
    }
  }
  strs(list: readonly string[]): void {
    this.u32(list.length);
    for (const item of list) this.str(item);
  }
  u32s(list: readonly number[]): void {
    this.u32(list.length);
    for (const item of list) this.u32(item);
  }

  /** Overwrites a u32 that was written before. */
  patch(at: number, value: number): void {
    this.#buffer.writeUInt32LE(value, at);
  }

  /** Takes back what was written after `length`. */
  truncate(length: number): void {
    this.#length = length;
  }

  /** What was written; valid until the next write. */
  done(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }
}

/** A frame's bytes. */
export function frame(type: number, id: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const out = Buffer.allocUnsafe(FRAME_HEAD + payload.length);
  out.writeUInt32LE(payload.length + 5, 0);
  out[4] = type;
  out.writeUInt32LE(id, 5);
  out.set(payload, FRAME_HEAD);
  return out;
}

/** Cuts a byte stream into frames. A payload handed on is a view of the chunk that it came in, if it came in one. */
export class FrameParser {
  /** What has come of a frame that is not complete, and how long it will be. */
  #pieces: Buffer[] = [];
  #have = 0;
  #need = FRAME_HEAD;
  readonly #onFrame: (type: number, id: number, payload: Buffer) => void;

  constructor(onFrame: (type: number, id: number, payload: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  /** Throws RangeError on a frame that cannot be. */
  push(chunk: Buffer): void {
    let rest = chunk;
    // Only the frame that lies across chunks is joined, not what follows it.
    while (this.#have > 0) {
      const part = rest.subarray(0, this.#need - this.#have);
      this.#pieces.push(part);
      this.#have += part.length;
      rest = rest.subarray(part.length);
      if (this.#have < this.#need) return;
      const joined = Buffer.concat(this.#pieces, this.#have);
      this.#pieces = [joined];
      if (this.#need === FRAME_HEAD) {
        this.#need = frameLength(joined);
        if (this.#need > FRAME_HEAD) continue;
      }
      this.#reset();
      this.#deliver(joined);
    }
    while (rest.length >= FRAME_HEAD) {
      const length = frameLength(rest);
      if (rest.length < length) {
        this.#need = length;
        break;
      }
      this.#deliver(rest.subarray(0, length));
      rest = rest.subarray(length);
    }
    if (rest.length === 0) return;
    this.#pieces = [rest];
    this.#have = rest.length;
  }

  #deliver(whole: Buffer): void {
    this.#onFrame(whole[4] as number, whole.readUInt32LE(5), whole.subarray(FRAME_HEAD));
  }

  #reset(): void {
    this.#pieces = [];
    this.#have = 0;
    this.#need = FRAME_HEAD;
  }
}

/** Of a whole frame, whose head is here. */
function frameLength(head: Buffer): number {
  const length = head.readUInt32LE(0);
  if (length < FRAME_HEAD - 4 || length > MAX_INCOMING) throw new RangeError(`a frame of ${length} bytes`);
  return length + 4;
}
