/** A file that grows by pieces from a network: written when much is there, or a moment has passed. @module */
import type { FileHandle } from "node:fs/promises";
import { giveBack } from "#core/pieces.ts";
import { asStorageError } from "#core/storage-error.ts";

/** To hand one write to another thread costs as much as to copy 500 KiB; so long a write is worth it. */
const enoughBytes = 512 * 1024;
/** Who waits for bytes waits no longer than that for bytes that have come. */
const enoughMs = 10;

/** Appends; one write at a time. What fails is thrown by the next call. */
export class GatheredWriter {
  readonly #file: FileHandle;
  readonly #onWritten: (bytes: number) => void;
  #gathered: Buffer[] = [];
  #gatheredBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  #writingBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  /** The last that was written: more of its memory may come. */
  #last: Buffer | undefined;

  /** `onWritten`: so many bytes more are in the file. */
  constructor(file: FileHandle, onWritten: (bytes: number) => void) {
    this.#file = file;
    this.#onWritten = onWritten;
  }

  /** Bytes that were added and are not in the file. */
  get pending(): number {
    return this.#gatheredBytes + this.#writingBytes;
  }

  /** Resolves when more may come. The memory of the bytes is given back when they, and what follows of the same memory, are written. @throws EngineError storage */
  async add(bytes: Buffer): Promise<void> {
    this.#gathered.push(bytes);
    this.#gatheredBytes += bytes.length;
    if (this.#gatheredBytes >= enoughBytes) await this.#begin();
    else this.#timer ??= setTimeout(() => void this.flush().catch(() => undefined), enoughMs); // the next call throws it
  }

  /** Resolves when all is in the file. @throws EngineError storage */
  async flush(): Promise<void> {
    await this.#begin();
    await this.#writing;
  }

  /** As {@link flush}; nothing may be added any more. */
  async end(): Promise<void> {
    await this.flush();
    this.#done(undefined);
  }

  /** All until `next`, which is written as well, or until the end. */
  #done(next: Buffer | undefined): void {
    if (this.#last !== undefined && this.#last.buffer !== next?.buffer) giveBack(this.#last);
    this.#last = next;
  }

  /** Begins to write what is gathered when no other write is under way. */
  async #begin(): Promise<void> {
    for (let before: Promise<void> | undefined; before !== this.#writing; await before) before = this.#writing;
    if (this.#gatheredBytes === 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const pieces = this.#gathered;
    this.#gathered = [];
    this.#writingBytes = this.#gatheredBytes;
    this.#gatheredBytes = 0;
    this.#writing = this.#write(pieces);
    this.#writing.catch(() => undefined); // thrown by the next call
  }

  async #write(whole: readonly Buffer[]): Promise<void> {
    const pieces = [...whole];
    try {
      while (pieces.length > 0) {
        let { bytesWritten } = await this.#file.writev(pieces);
        this.#writingBytes -= bytesWritten;
        this.#onWritten(bytesWritten);
        while (pieces[0] !== undefined && bytesWritten >= pieces[0].length) bytesWritten -= pieces.shift()!.length;
        if (bytesWritten > 0) pieces[0] = pieces[0]!.subarray(bytesWritten);
      }
    } catch (error) {
      throw asStorageError(error, "receiving a layer");
    }
    for (const piece of whole) this.#done(piece);
  }
}
