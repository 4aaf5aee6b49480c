/**
 * Blobs while they arrive. Each is one file under its digest, written and hashed piece by piece; whoever wants its bytes reads them from there while it grows, so the disk is the
 * buffer between the network and the unpacking, and memory stays small. A file that is left behind (given up, killed) is taken up where it ended by the next who wants it.
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type BlobDigest, hexOf, isDigest } from "#core/digest.ts";
import { EngineError, errnoOf } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import type { BlobSource } from "./blob-source.ts";
import { GatheredWriter } from "./gathered-writer.ts";
import { type HttpAnswer, connectionError, isTransient, piecesOf } from "./network.ts";
import { Pace } from "./pace.ts";
import { maxAttempts, waitBefore } from "./retry.ts";
import { Slots } from "#core/slots.ts";
import { asStorageError } from "#core/storage-error.ts";

/** A blob on its way here. It must be closed; when its last holder has, it stops. */
export interface Download {
  readonly path: string;
  /** Bytes so far. */
  readonly received: number;
  /** Settles when all of it is here and is what its digest says. EngineError corrupt, unavailable, …; cancelled when every holder has closed it. */
  readonly whole: Promise<void>;
  /** The bytes from the first on, as they arrive; ends well only when the whole was verified. EngineError cancelled by the signal. */
  read(signal?: AbortSignal): AsyncIterable<Uint8Array>;
  /** Called when more has arrived. */
  onProgress(listener: (received: number) => void): void;
  /** `keep`: it was not taken in and may be wanted again. */
  close(options: { readonly keep: boolean }): Promise<void>;
}

const readBytes = 256 * 1024;
/** A broken transfer that has brought less than this has brought nothing. */
const progressBytes = 64 * 1024;

/** Where blobs are kept beyond their transfer: asked before any registry, and given what has arrived. */
export interface BlobKeeper {
  /** Gives the blob's file the name `path` as well. False: it is not here. What it gives is verified. */
  lend(digest: BlobDigest, path: string): Promise<boolean>;
  /** Keeps a verified file. */
  adopt(path: string, digest: BlobDigest): Promise<void>;
  /** What it gave was damaged. */
  forget(digest: BlobDigest): Promise<void>;
}

export class Downloads {
  readonly #directory: string;
  readonly #slots: Slots;
  readonly #keeper: BlobKeeper | undefined;
  readonly #running = new Map<BlobDigest, Transfer>();

  private constructor(directory: string, atOnce: number, keeper: BlobKeeper | undefined) {
    this.#directory = directory;
    this.#slots = new Slots(atOnce);
    this.#keeper = keeper;
  }

  static async open(directory: string, atOnce: number, keeper?: BlobKeeper): Promise<Downloads> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new Downloads(directory, atOnce, keeper);
  }

  /** Joins the transfer of this blob, or begins one. */
  begin(descriptor: Descriptor, source: BlobSource): Download {
    const { digest } = descriptor;
    let transfer = this.#running.get(digest);
    if (transfer === undefined) {
      transfer = new Transfer(join(this.#directory, hexOf(digest)), descriptor, this.#slots, this.#keeper);
      this.#running.set(digest, transfer);
    }
    return transfer.hold(source, (ended) => {
      if (this.#running.get(digest) === ended) this.#running.delete(digest);
    });
  }

  /** Removes files that nobody has asked for since `maxAgeMs`. */
  async sweep(maxAgeMs: number, now: number): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      const digest = `sha256:${name}`;
      if (isDigest(digest) && this.#running.has(digest)) continue;
      const { mtimeMs } = await stat(path);
      if (now - mtimeMs >= maxAgeMs) await rm(path, { recursive: true, force: true });
    }
  }
}

class Transfer {
  readonly path: string;
  readonly whole: Promise<void>;
  readonly #descriptor: Descriptor;
  readonly #keeper: BlobKeeper | undefined;
  readonly #abort = new AbortController();
  readonly #listeners = new Set<(received: number) => void>();
  /** One of each holder; a holder that leaves takes his away. */
  readonly #sources: BlobSource[] = [];
  #received = 0;
  #holders = 0;
  #wanted = false;
  #wake: (() => void)[] = [];
  #ended: { readonly error?: unknown } | undefined;

  constructor(path: string, descriptor: Descriptor, slots: Slots, keeper: BlobKeeper | undefined) {
    this.path = path;
    this.#descriptor = descriptor;
    this.#keeper = keeper;
    this.whole = slots
      .run(() => this.#fetch())
      .then(
        () => this.#end({}),
        (error: unknown) => this.#end({ error }),
      );
    // Told to whoever waits or reads; nobody may be left.
    this.whole.catch(() => undefined);
  }

  hold(source: BlobSource, released: (transfer: Transfer) => void): Download {
    this.#holders++;
    this.#sources.push(source);
    const transfer = this;
    let open = true;
    return {
      path: this.path,
      whole: this.whole,
      get received() {
        return transfer.#received;
      },
      read: (signal) => this.#read(signal),
      onProgress: (listener) => void this.#listeners.add(listener),
      close: async ({ keep }) => {
        if (!open) return;
        open = false;
        this.#wanted ||= keep;
        this.#sources.splice(this.#sources.indexOf(source), 1);
        if (--this.#holders > 0) return;
        released(this);
        this.#abort.abort();
        await this.whole.catch(() => undefined);
        if (!this.#wanted || this.#received === 0 || this.#isDamaged()) await rm(this.path, { force: true });
      },
    };
  }

  #isDamaged(): boolean {
    const error = this.#ended?.error;
    return error instanceof EngineError && error.code === "corrupt";
  }

  #end(outcome: { readonly error?: unknown }): void {
    this.#ended = outcome;
    this.#notify();
    if ("error" in outcome) throw outcome.error;
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const one of wake) one();
  }

  async #fetch(): Promise<void> {
    if (this.#abort.signal.aborted) throw cancelled(this.#abort.signal);
    const { digest, size } = this.#descriptor;
    const lent = await this.#borrow();
    await using file = await openFile(this.path);
    const hash = createHash("sha256");
    await this.#takeUp(file, hash);
    const resumed = this.#received;
    for (let attempt = 1; this.#received < size; ) {
      const before = this.#received;
      const source = this.#sources[0];
      if (source === undefined) throw cancelled(this.#abort.signal);
      try {
        await this.#receive(file, hash, source);
      } catch (error) {
        if (this.#abort.signal.aborted) throw cancelled(this.#abort.signal);
        // Whose connection it was has left; the others have their own.
        if (!this.#sources.includes(source)) continue;
        if (this.#received - before >= progressBytes) attempt = 1;
        else if (attempt++ >= maxAttempts) throw error;
        if (!isTransient(error)) throw error;
        await waitBefore(attempt, error, { ...source, signal: this.#abort.signal });
      }
    }
    const actual = `sha256:${hash.digest("hex")}`;
    if (actual === digest && !lent) await this.#keeper?.adopt(this.path, digest);
    if (actual !== digest) {
      if (lent) await this.#keeper?.forget(digest);
      throw new EngineError("corrupt", `filesystem layer verification failed for digest ${digest}: what arrived has the digest ${actual}`, {
        details: { resumed: resumed > 0 },
      });
    }
  }

  /** From who keeps blobs. What a broken transfer has left is worth less. True when all of it is here; a kept file is never written to. */
  async #borrow(): Promise<boolean> {
    const { digest, size } = this.#descriptor;
    if (this.#keeper === undefined) return false;
    // A file that is kept under its digest as well may be larger or smaller than what is announced now: it is somebody else's to change.
    const left = await stat(this.path).catch((error: unknown) => {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw asStorageError(error, "receiving a layer");
    });
    if (left !== undefined && left.nlink > 1 && left.size !== size) await rm(this.path);
    const aside = `${this.path}.lent`;
    await rm(aside, { force: true });
    if (!(await this.#keeper.lend(digest, aside))) return false;
    if ((await stat(aside)).size !== size) {
      await rm(aside);
      return false;
    }
    await rename(aside, this.path);
    return true;
  }

  /** Reads what an earlier transfer has left. */
  async #takeUp(file: FileHandle, hash: Hash): Promise<void> {
    const { size } = await file.stat();
    if (size > this.#descriptor.size) return file.truncate(0);
    const buffer = Buffer.allocUnsafe(readBytes);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, this.#received);
      if (bytesRead === 0) return;
      hash.update(buffer.subarray(0, bytesRead));
      this.#advance(bytesRead);
      if (this.#abort.signal.aborted) throw cancelled(this.#abort.signal);
    }
  }

  /** One answer, as far as it goes. */
  async #receive(file: FileHandle, hash: Hash, source: BlobSource): Promise<void> {
    const { digest, size } = this.#descriptor;
    const answer = await source.fetch(digest, this.#received, this.#abort.signal);
    let skip = answer.status === 206 ? this.#skipOf(answer) : this.#received;
    if (answer.status === 416) {
      answer.body.destroy();
      throw new EngineError("corrupt", `blob ${digest} ends at ${this.#received} of ${size} bytes`);
    }
    const pace = new Pace(source.slowest);
    const pieces = new GatheredWriter(file, (bytes) => this.#advance(bytes));
    try {
      for await (const chunk of piecesOf(answer)) {
        if (pace.tooSlow(chunk.length)) throw transient(`blob ${digest}: the registry sends ${pace.toString()}`);
        const fresh = chunk.subarray(Math.min(skip, chunk.length));
        skip -= chunk.length - fresh.length;
        if (this.#received + pieces.pending + fresh.length > size)
          throw new EngineError("corrupt", `blob ${digest} has more than the ${size} bytes that were announced`);
        if (fresh.length === 0) continue;
        hash.update(fresh);
        await pieces.add(fresh);
      }
    } catch (error) {
      throw connectionError("GET", answer.url, error, this.#abort.signal);
    } finally {
      answer.body.destroy();
      // What is hashed is written, however the answer has ended: the next attempt goes on from there.
      await pieces.end();
    }
    if (this.#received < size) throw transient(`blob ${digest}: the answer ended after ${this.#received} of ${size} bytes: unexpected EOF`);
  }

  /** Where a 206 begins, relative to what is here. */
  #skipOf(answer: HttpAnswer): number {
    const start = Number(/^bytes (\d+)-/.exec(answer.header("content-range") ?? "")?.[1] ?? Number.NaN);
    if (Number.isNaN(start) || start > this.#received) {
      answer.body.destroy();
      throw new EngineError("corrupt", `blob ${this.#descriptor.digest}: the registry answers with another range than was asked for`);
    }
    return this.#received - start;
  }

  #advance(bytes: number): void {
    this.#received += bytes;
    for (const listener of this.#listeners) listener(this.#received);
    this.#notify();
  }

  async *#read(signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
    let file: FileHandle | undefined;
    let at = 0;
    const wakeUp = () => this.#notify();
    signal?.addEventListener("abort", wakeUp);
    try {
      for (;;) {
        if (signal?.aborted) throw cancelled(signal);
        while (at < this.#received) {
          file ??= await open(this.path, constants.O_RDONLY);
          const buffer = Buffer.allocUnsafe(Math.min(readBytes, this.#received - at));
          const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
          if (bytesRead === 0) throw new EngineError("storage", `the download of ${this.#descriptor.digest} was cut short on disk`);
          at += bytesRead;
          yield buffer.subarray(0, bytesRead);
        }
        if (this.#ended !== undefined) break;
        await new Promise<void>((resolve) => this.#wake.push(resolve));
      }
    } finally {
      signal?.removeEventListener("abort", wakeUp);
      await file?.close();
    }
    await this.whole;
  }
}

function cancelled(signal: AbortSignal): EngineError {
  return new EngineError("cancelled", "context canceled", { cause: signal.reason });
}

function transient(message: string): EngineError {
  return new EngineError("unavailable", message, { details: { transient: true } });
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW, 0o600);
  } catch (error) {
    throw asStorageError(error, "receiving a layer");
  }
}
