/**
 * What a thread that decompresses and its client share: pieces of plain bytes in a ring of slots, and a few numbers. No piece is ever allocated, transferred or collected, so a layer
 * of any size costs the ring. Each side tells the other with a message only when it waits.
 * @module
 */
import type { DiffID } from "#core/digest.ts";
import { EngineError, type ErrorCode, errnoOf } from "#core/errors.ts";
import { pieceBytes } from "#core/pieces.ts";
import type { TreeAddress, TreeStat } from "#linux/file-tree.ts";
import type { AppliedTar } from "../apply.ts";
import type { ArchiveLimit } from "../archive-file.ts";
import type { ByteString } from "../bytes.ts";
import type { LayerSource } from "../layer-tar.ts";
import type { ImagePlace } from "../mod.ts";

/** Bytes of one piece, and pieces on their way. To wake another thread costs some 0.1 ms: pieces are large, and a thread that had to wait is woken for several. */
export const slotBytes: number = pieceBytes;
export const slotCount = 6;
/** As many slots must be free, or bytes have arrived, before a thread that waits is woken. */
export const wakeSlots = 3;
export const wakeBytes: number = 256 * 1024;

const index = { received: 0, flags: 1, released: 2, waiting: 3, count: 4 } as const;
const flag = { whole: 1n, cancelled: 2n } as const;

/** Both sides' view of one job's memory. */
export class SharedRing {
  readonly memory: SharedArrayBuffer;
  readonly #numbers: BigInt64Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(index.count * 8 + slotBytes * slotCount)) {
    this.memory = memory;
    this.#numbers = new BigInt64Array(memory, 0, index.count);
  }

  /** For a job that passes no pieces: the numbers alone. */
  static withoutSlots(): SharedRing {
    return new SharedRing(new SharedArrayBuffer(index.count * 8));
  }

  /** The bytes of the piece with this number, counted from 0. */
  slot(number: number, length: number = slotBytes): Buffer {
    return Buffer.from(this.memory, index.count * 8 + (number % slotCount) * slotBytes, length);
  }

  /** Bytes of the file that may be read. */
  get received(): number {
    return Number(Atomics.load(this.#numbers, index.received));
  }
  set received(bytes: number) {
    Atomics.store(this.#numbers, index.received, BigInt(bytes));
  }

  /** The file will not grow any more, and is what it should be. */
  get whole(): boolean {
    return (Atomics.load(this.#numbers, index.flags) & flag.whole) !== 0n;
  }
  markWhole(): void {
    Atomics.or(this.#numbers, index.flags, flag.whole);
  }

  get cancelled(): boolean {
    return (Atomics.load(this.#numbers, index.flags) & flag.cancelled) !== 0n;
  }
  cancel(): void {
    Atomics.or(this.#numbers, index.flags, flag.cancelled);
  }

  /** Pieces that the client is done with. */
  get released(): number {
    return Number(Atomics.load(this.#numbers, index.released));
  }
  set released(pieces: number) {
    Atomics.store(this.#numbers, index.released, BigInt(pieces));
  }

  /** The thread is about to wait; what it waits for must be looked at again after this. */
  announceWait(): void {
    Atomics.store(this.#numbers, index.waiting, 1n);
  }
  /** True once for each announced wait: a message is due. */
  takeWait(): boolean {
    return Atomics.exchange(this.#numbers, index.waiting, 0n) === 1n;
  }
}

/** To the thread. */
export type ThreadRequest =
  | { readonly kind: "inflate"; readonly path: string; readonly expected: DiffID; readonly memory: SharedArrayBuffer }
  | { readonly kind: "take"; readonly job: TakeJob; readonly memory: SharedArrayBuffer }
  /** The answer to a {@link ThreadAnswer} "look": what is there, or why nobody can tell. */
  | { readonly kind: "found"; readonly number: number; readonly stat: TreeStat | undefined; readonly failure?: Failure }
  | { readonly kind: "read"; readonly source: LayerSource; readonly memory: SharedArrayBuffer }
  | { readonly kind: "compress"; readonly source: LayerSource | "sent"; readonly memory: SharedArrayBuffer }
  /** Of what is "sent"; undefined: that was all. */
  | { readonly kind: "plain"; readonly bytes: Uint8Array | undefined }
  | { readonly kind: "wake" };

/** A layer's archive, and where it goes. */
export interface TakeJob {
  readonly path: string;
  /** @see ArchiveFile */
  readonly plain: boolean;
  readonly verified: boolean;
  readonly expected: DiffID | undefined;
  readonly limit: ArchiveLimit | undefined;
  readonly place: LayerPlace;
  /** The directory of the layer's record. */
  readonly record: string;
}

/** Where a layer is made: an image and its archive, or a tree of files, whose worker the thread connects to. */
export type LayerPlace =
  | ({ readonly kind: "image" } & ImagePlace)
  | { readonly kind: "tree"; readonly worker: TreeAddress; readonly directory: string; readonly whiteouts: "overlay" | "delete" };

/** An EngineError. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly details: EngineError["details"];
}

/** From the thread. `consumed`: bytes of the input so far. */
export type ThreadAnswer =
  /** A piece is in the next slot. */
  | { readonly kind: "piece"; readonly length: number; readonly consumed: number }
  | { readonly kind: "consumed"; readonly consumed: number }
  /** Bytes that were sent have been used. */
  | { readonly kind: "used" }
  /** What is there in the layers below? */
  | { readonly kind: "look"; readonly number: number; readonly path: ByteString }
  | { readonly kind: "taken"; readonly applied: AppliedTar }
  /** All has been read, and the plain bytes were what they should be. */
  | { readonly kind: "end" }
  | ({ readonly kind: "failed" } & Failure);

export function failureOf(error: unknown, what: string): Failure {
  const known = error instanceof EngineError ? error : new EngineError("internal", `reading ${what}: ${errnoOf(error) ?? String(error)}`);
  const { code, message, hint, details } = known;
  return { code, message, hint, details };
}

export function errorOf({ code, message, hint, details }: Failure): EngineError {
  // Made by failureOf, of an EngineError.
  return new EngineError(code as ErrorCode, message, { details, ...(hint === undefined ? {} : { hint }) });
}
