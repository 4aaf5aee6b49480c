import { crc32 } from "node:zlib";
import { corrupt } from "../bytes.ts";
import { inflateWasm } from "./inflate.gen.ts";

/** What native/inflate.ts exports; addresses are numbers of 32 bits. */
interface InflateExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly inputAddress: { readonly value: number };
  readonly inputBytes: { readonly value: number };
  restart(): void;
  begins(): void;
  inputAt(): number;
  inputEnd(): number;
  skipInput(bytes: number): void;
  roomAt(): number;
  added(bytes: number): void;
  outputAt(): number;
  outputEnd(): number;
  taken(): void;
  inflate(isWhole: boolean): number;
}
/** How a call of `inflate` ends. */
const status = { needsInput: 0, hasOutput: 1, isDone: 2, isTruncated: 3 } as const;

declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/** Kept: V8 compiles what is hot once more, which is known to all threads as long as one of them has the module. */
let compiled: object | undefined;
/** One that is not in use, 1.5 MiB: layers come one after the other. */
let spare: InflateExports | undefined;

function takeInflater(): InflateExports {
  const taken = spare;
  spare = undefined;
  if (taken !== undefined) return taken;
  compiled ??= new WebAssembly.Module(Buffer.from(inflateWasm, "base64"));
  return new WebAssembly.Instance(compiled).exports as InflateExports; // see there
}

const trailerBytes = 8;

/**
 * gunzip by `native/inflate.ts`; several members in a row are one stream, which zeros may follow. It works while the caller waits, 1 to 2 ms for a piece of 512 KiB: what a stream of
 * zlib's costs besides, another thread that is woken for each piece and memory that is new each time, was more than the work (ADR 94).
 * A piece is the caller's until it asks for the next but one: then its memory is used again. `hashed`: the caller compares a digest of all plain bytes, which says more than the checksum
 * of a member, so that is not looked at.
 * @throws EngineError corrupt
 */
export async function* gunzip(source: AsyncIterable<Uint8Array>, { hashed = false }: { readonly hashed?: boolean } = {}): AsyncGenerator<Uint8Array, void> {
  const input = source[Symbol.asyncIterator]();
  const inflater = takeInflater();
  try {
    yield* new GzipReader(inflater, input, hashed).pieces();
  } finally {
    spare = inflater;
    await input.return?.();
  }
}

class GzipReader {
  readonly #wasm: InflateExports;
  readonly #memory: Buffer;
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #hashed: boolean;
  /** What the source has given and there was no room for. */
  #rest: Uint8Array = new Uint8Array();
  #isWhole = false;
  /** The first byte that the checksum does not cover yet, of the member in hand. */
  #checkedTo = 0;
  #crc = 0;
  #bytes = 0;

  constructor(wasm: InflateExports, source: AsyncIterator<Uint8Array>, hashed: boolean) {
    this.#wasm = wasm;
    this.#memory = Buffer.from(wasm.memory.buffer);
    this.#source = source;
    this.#hashed = hashed;
  }

  async *pieces(): AsyncGenerator<Uint8Array, void> {
    const wasm = this.#wasm;
    wasm.restart();
    do {
      await this.#header();
      wasm.begins();
      this.#checkedTo = wasm.outputEnd();
      this.#crc = 0;
      this.#bytes = 0;
      for (let ended: number = status.needsInput; ended !== status.isDone; ) {
        ended = wasm.inflate(this.#isWhole);
        if (ended === status.needsInput) await this.#more();
        else if (ended === status.hasOutput) yield this.#take();
        else if (ended !== status.isDone) throw ended === status.isTruncated ? truncated() : corrupt("invalid gzip data: no block of deflate is like that");
      }
      await this.#trailer();
    } while (await this.#hasMember());
    if (wasm.outputEnd() > wasm.outputAt()) yield this.#take();
  }

  #take(): Uint8Array {
    this.#check();
    const piece = this.#memory.subarray(this.#wasm.outputAt(), this.#wasm.outputEnd());
    this.#wasm.taken();
    this.#checkedTo = this.#wasm.outputEnd();
    return piece;
  }

  #check(): void {
    const end = this.#wasm.outputEnd();
    if (!this.#hashed) this.#crc = crc32(this.#memory.subarray(this.#checkedTo, end), this.#crc);
    this.#bytes += end - this.#checkedTo;
    this.#checkedTo = end;
  }

  /** Waits for more input; afterwards there is some, or it is whole. */
  async #more(): Promise<void> {
    while (this.#rest.byteLength === 0 && !this.#isWhole) {
      const { done, value } = await this.#source.next();
      if (done === true) this.#isWhole = true;
      else this.#rest = value;
    }
    const at = this.#wasm.roomAt();
    const fitting = this.#rest.subarray(0, this.#wasm.inputAddress.value + this.#wasm.inputBytes.value - at);
    this.#memory.set(fitting, at);
    this.#wasm.added(fitting.byteLength);
    this.#rest = this.#rest.subarray(fitting.byteLength);
  }

  /** The input from here on, `bytes` of it at least. */
  async #ahead(bytes: number): Promise<Buffer> {
    for (;;) {
      const ahead = this.#memory.subarray(this.#wasm.inputAt(), this.#wasm.inputEnd());
      if (ahead.byteLength >= bytes) return ahead;
      if (this.#isWhole || bytes > this.#wasm.inputBytes.value) throw truncated();
      await this.#more();
    }
  }

  /** Skips a member's header. @see RFC 1952 2.3 */
  async #header(): Promise<void> {
    const [id1, id2, method, flags = 0] = await this.#ahead(10);
    if (id1 !== 0x1f || id2 !== 0x8b) throw corrupt("invalid gzip data: incorrect header check");
    if (method !== 8 || flags >= 0x20) throw corrupt("invalid gzip data: unknown compression method or header flags");
    let bytes = 10;
    if (flags & 4) bytes += 2 + (await this.#ahead(bytes + 2)).readUInt16LE(bytes);
    // A name and a comment, which end with a zero.
    for (const flag of [8, 16]) if (flags & flag) while ((await this.#ahead(bytes + 1))[bytes++] !== 0);
    if (flags & 2) bytes += 2;
    await this.#ahead(bytes);
    this.#wasm.skipInput(bytes);
  }

  async #trailer(): Promise<void> {
    this.#check();
    const trailer = await this.#ahead(trailerBytes);
    if (!this.#hashed && trailer.readUInt32LE(0) !== this.#crc) throw corrupt("invalid gzip data: incorrect data check");
    if (trailer.readUInt32LE(4) !== this.#bytes % 2 ** 32) throw corrupt("invalid gzip data: incorrect length check");
    this.#wasm.skipInput(trailerBytes);
  }

  /** Another member follows. Zeros that fill a block of a tape are no such. */
  async #hasMember(): Promise<boolean> {
    while (this.#wasm.inputAt() === this.#wasm.inputEnd()) {
      if (this.#isWhole) return false;
      await this.#more();
    }
    return this.#memory[this.#wasm.inputAt()] !== 0;
  }
}

function truncated(): Error {
  return corrupt("gzip data is truncated");
}
