import { ZSTDDecoder } from "zstddec/stream";
import { corrupt } from "../bytes.ts";

/** The exports of zstddec's WebAssembly that are called here: libzstd's streaming interface. size_t and pointers have 32 bits. */
interface Libzstd {
  readonly memory: { readonly buffer: ArrayBuffer };
  malloc(bytes: number): number;
  ZSTD_createDCtx(): number;
  ZSTD_decompressStream(context: number, output: number, input: number): number;
}
declare const WebAssembly: { readonly Instance: new (module: object, imports: object) => { readonly exports: unknown } };

const chunkSize = 128 * 1024;
/** -ZSTD_ErrorCode → what it means. @see zstd_errors.h */
const errors: Readonly<Record<number, string>> = {
  10: "no zstd frame where one should begin",
  14: "unsupported frame header",
  16: "the frame needs a window of more than 128 MiB",
  20: "damaged data",
  22: "wrong checksum",
  32: "a dictionary is needed",
  64: "out of memory",
};

let compiled: Promise<object> | undefined;

/** The WebAssembly module out of the package, compiled once. */
function libzstd(): Promise<object> {
  compiled ??= new Promise((resolve, reject) => {
    const decoder = new ZSTDDecoder();
    // The package's own loop neither reports libzstd's errors nor frees its memory, so only its module is used, and instantiated anew for every stream.
    decoder._init = (result) => resolve((result as { module: object }).module);
    decoder.init().catch(reject);
  });
  return compiled;
}

/**
 * Decompresses zstd frames (several, with skippable ones between them): libzstd compiled to WebAssembly, driven through its streaming call, with a memory that goes when the stream
 * has ended. Windows of more than 128 MiB are refused (libzstd's own limit). Node's zlib is not used where it has zstd: it stops after the first frame. `lent`: a piece's memory is used again
 * when the next but one is asked for.
 * @see docs/adr/0010-zstd.md
 */
export async function* unzstd(source: AsyncIterable<Uint8Array>, lent = false): AsyncIterable<Uint8Array> {
  const zstd = new WebAssembly.Instance(await libzstd(), { env: { emscripten_notify_memory_growth: () => undefined } }).exports as Libzstd;
  const context = zstd.ZSTD_createDCtx();
  const [input, output] = [zstd.malloc(chunkSize), zstd.malloc(chunkSize)];
  // Two C structs { pointer, size, position }.
  const [inputStruct, outputStruct] = [zstd.malloc(12), zstd.malloc(12)];
  /** What libzstd answered last: 0 = a frame is complete. */
  let pending = 0;
  // libzstd's own memory may move when it grows.
  const turns = lent ? [Buffer.allocUnsafeSlow(chunkSize), Buffer.allocUnsafeSlow(chunkSize)] : [];
  for await (const chunk of source) {
    for (let at = 0; at < chunk.byteLength; at += chunkSize) {
      const part = chunk.subarray(at, at + chunkSize);
      new Uint8Array(zstd.memory.buffer).set(part, input);
      for (let position = 0; position < part.byteLength; ) {
        setStruct(zstd, inputStruct, input, part.byteLength, position);
        setStruct(zstd, outputStruct, output, chunkSize, 0);
        pending = zstd.ZSTD_decompressStream(context, outputStruct, inputStruct);
        // Errors are size_t values close to 2^32.
        if (pending < 0 && pending > -120) throw corrupt(`invalid zstd data: ${errors[-pending] ?? `libzstd error ${-pending}`}`);
        position = getPosition(zstd, inputStruct);
        const written = getPosition(zstd, outputStruct);
        if (written === 0) continue;
        const piece = turns.shift() ?? Buffer.allocUnsafeSlow(written);
        if (lent) turns.push(piece);
        piece.set(new Uint8Array(zstd.memory.buffer, output, written));
        yield piece.subarray(0, written);
      }
    }
  }
  if (pending !== 0) throw corrupt("zstd data is truncated");
}

function setStruct(zstd: Libzstd, at: number, pointer: number, size: number, position: number): void {
  new Uint32Array(zstd.memory.buffer, at, 3).set([pointer, size, position]);
}

function getPosition(zstd: Libzstd, at: number): number {
  return new Uint32Array(zstd.memory.buffer, at, 3)[2]!;
}
