/** The client's side: a few threads take layers in, decompress, compress and hash them, and others read them; one that has had nothing to do for a while is ended. @module */
import { Worker } from "node:worker_threads";
import type { DiffID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { giveBack } from "#core/pieces.ts";
import { Slots } from "#core/slots.ts";
import type { AppliedTar } from "../apply.ts";
import type { ArchiveFile } from "../archive-file.ts";
import type { LayerSource } from "../layer-tar.ts";
import type { TakeOptions } from "../take-layer.ts";
import { errorOf, failureOf, type LayerPlace, SharedRing, slotCount, type ThreadAnswer, type ThreadRequest, wakeBytes, wakeSlots } from "./shared-ring.ts";

/** A file that somebody is still writing. */
export interface GrowingFile {
  readonly path: string;
  /** Bytes so far. */
  readonly received: number;
  /** Settles when all of it is here and verified; rejects with what went wrong. */
  readonly whole: Promise<void>;
  /** Called when more has arrived. */
  onProgress(listener: (received: number) => void): void;
}

export interface JobOptions {
  readonly signal?: AbortSignal | undefined;
  /** Bytes of the input that have been read. */
  readonly onConsumed?: (bytes: number) => void;
}

export interface InflateOptions extends JobOptions {
  /** What the plain bytes must be; the iteration fails with EngineError corrupt in its end otherwise. */
  readonly expected: DiffID;
}

/** A layer's archive: where a thread can read it, or how the client gets it, once, to send it there. */
export type PlainLayer = LayerSource | (() => Promise<AsyncIterable<Uint8Array>>);

/** One layer's turn at a thread. It ends with the last piece, or when it is disposed of. */
export interface LayerTurn extends Disposable {
  /**
   * The plain bytes of a file that may be compressed; once. A piece is the caller's until it asks for the next but one: then its memory is used again.
   * @throws EngineError corrupt (also when the bytes are not `expected`), cancelled, and what the file's `whole` rejects with
   */
  inflate(file: GrowingFile, options: InflateOptions): AsyncGenerator<Uint8Array, void>;
  /** A layer's archive, compressed; once, and with pieces as above. @throws EngineError corrupt (the layer is not what it was), cancelled, and what getting it throws */
  compress(layer: PlainLayer, options: JobOptions): AsyncGenerator<Uint8Array, void>;
  /**
   * Takes a layer's archive in, all of it in the thread: bytes are read, decompressed, hashed, parsed and kept there. Once.
   * @throws EngineError as {@link inflate} does, and what keeping or unpacking it fails with
   */
  take(archive: ArchiveFile, options: TakeTurn): Promise<AppliedTar>;
}

export interface TakeTurn extends Pick<TakeOptions, "record" | "lower" | "expected" | "signal"> {
  /** Asked for when the turn has come. */
  readonly place: () => Promise<LayerPlace>;
}

/** Pieces that are sent before the thread has taken the first of them. */
const maxSent = 8;

/** A thread holds some 10 MiB, and takes 0.1 s of CPU time to start and to load its code. */
const idleMs = 120_000;

/** Resolves when the turn has come; and ends it. */
interface Turn {
  readonly slot: Promise<unknown>;
  readonly release: () => void;
}

export class LayerThreads {
  readonly #program: string;
  readonly #slots: Slots;
  readonly #idle: { readonly worker: Worker; readonly timer: NodeJS.Timeout }[] = [];

  /** `program`: what a thread runs (`layer-thread.cjs`). */
  constructor(program: string, atOnce: number) {
    this.#program = program;
    this.#slots = new Slots(atOnce);
  }

  /**
   * A turn at a thread, in the order of the calls: a layer that waits for the one below it may hold a thread, as long as that one has asked before. To be disposed of.
   */
  turn(): LayerTurn {
    const slot = this.#slots.take();
    let over = false;
    const release = () => {
      if (!over) void slot.then((giveBack) => giveBack());
      over = true;
    };
    const turn = { slot, release };
    return {
      inflate: (file, options) =>
        this.#inTurn(turn, (worker) => {
          const job = new Job(worker, options);
          job.follow(file);
          job.begin({ kind: "inflate", path: file.path, expected: options.expected, memory: job.memory });
          return job;
        }),
      compress: (layer, options) =>
        this.#inTurn(turn, (worker) => {
          const job = new Job(worker, options);
          job.begin({ kind: "compress", source: typeof layer === "function" ? "sent" : layer, memory: job.memory });
          if (typeof layer === "function") job.feed(layer);
          return job;
        }),
      take: (archive, options) => this.#take(turn, archive, options),
      [Symbol.dispose]: release,
    };
  }

  /**
   * A layer's archive, checked against its digest in its end. Nobody's turn: whoever reads may take any time (a client's), and others wait for turns. A piece is valid until the next but one is asked for.
   * @throws EngineError corrupt (the layer is not what it was)
   */
  async *read(source: LayerSource): AsyncGenerator<Uint8Array, void> {
    yield* this.#passing((worker) => {
      const job = new Job(worker, {});
      job.begin({ kind: "read", source, memory: job.memory });
      return job;
    });
  }

  async *#inTurn(turn: Turn, begin: (worker: Worker) => Job): AsyncGenerator<Uint8Array, void> {
    await turn.slot;
    try {
      yield* this.#passing(begin);
    } finally {
      turn.release();
    }
  }

  async *#passing(begin: (worker: Worker) => Job): AsyncGenerator<Uint8Array, void> {
    const worker = this.#takeWorker();
    const job = begin(worker);
    try {
      yield* job.pieces();
    } finally {
      await this.#giveBack(worker, job);
    }
  }

  async #take(
    turn: Turn,
    { file, plain, verified = false, limit, onConsumed }: ArchiveFile,
    { place, record, lower, expected, signal }: TakeTurn,
  ): Promise<AppliedTar> {
    await turn.slot;
    try {
      const worker = this.#takeWorker();
      const job = new Job(worker, { signal, ...(onConsumed === undefined ? {} : { onConsumed }) }, SharedRing.withoutSlots());
      try {
        job.throwIfOver();
        job.follow(file);
        job.begin({ kind: "take", job: { path: file.path, plain, verified, expected, limit, place: await place(), record }, memory: job.memory });
        return await job.taken(lower);
      } finally {
        await this.#giveBack(worker, job);
      }
    } finally {
      turn.release();
    }
  }

  /** A thread that is not known to have ended its job is of no use to the next. */
  async #giveBack(worker: Worker, job: Job): Promise<void> {
    if (await job.end()) this.#keep(worker);
    else await worker.terminate();
  }

  /** Ends the threads that have nothing to do. */
  async close(): Promise<void> {
    for (const { worker, timer } of this.#idle.splice(0)) {
      clearTimeout(timer);
      await worker.terminate();
    }
  }

  #takeWorker(): Worker {
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      clearTimeout(idle.timer);
      return idle.worker;
    }
    // Nothing of it lives longer than a layer: a small young generation costs nothing, and memory less.
    const worker = new Worker(this.#program, { resourceLimits: { maxYoungGenerationSizeMb: 4 }, stdout: false, stderr: false });
    worker.unref();
    return worker;
  }

  #keep(worker: Worker): void {
    const timer = setTimeout(() => {
      const at = this.#idle.findIndex((idle) => idle.worker === worker);
      if (at >= 0) this.#idle.splice(at, 1);
      void worker.terminate();
    }, idleMs);
    timer.unref();
    this.#idle.push({ worker, timer });
  }
}

const lastWords: ReadonlySet<ThreadAnswer["kind"]> = new Set(["taken", "end", "failed"]);

/** One layer in one thread. */
class Job {
  readonly #worker: Worker;
  readonly #options: JobOptions;
  readonly #ring: SharedRing;
  readonly #answers: ThreadAnswer[] = [];
  #failure: { readonly error: unknown } | undefined;
  /** The thread has said its last word, or has not been asked yet. */
  #over = true;
  #wake: (() => void) | undefined;
  #open = true;
  /** Pieces that the thread has not used yet, and who waits for that. */
  #unused = 0;
  #used: (() => void) | undefined;
  #feeding: Promise<void> | undefined;
  readonly #listeners: { readonly message: (answer: ThreadAnswer) => void; readonly error: (error: Error) => void; readonly exit: () => void };
  readonly #abort = () => this.#fail(new EngineError("cancelled", "context canceled", { cause: this.#options.signal?.reason }));

  constructor(worker: Worker, options: JobOptions, ring: SharedRing = new SharedRing()) {
    this.#worker = worker;
    this.#ring = ring;
    this.#options = options;
    const lost = (cause?: Error) => {
      this.#over = true;
      this.#fail(new EngineError("internal", `a thread that decompresses layers has ended: ${cause?.message ?? "it was stopped"}`, { cause }));
    };
    this.#listeners = {
      message: (answer) => {
        if (answer.kind === "used") {
          this.#unused--;
          this.#used?.();
          return;
        }
        if (lastWords.has(answer.kind)) this.#over = true;
        this.#answers.push(answer);
        this.#notify();
      },
      error: lost,
      exit: () => lost(),
    };
    worker.on("message", this.#listeners.message).on("error", this.#listeners.error).on("exit", this.#listeners.exit);
    options.signal?.addEventListener("abort", this.#abort, { once: true });
    if (options.signal?.aborted) this.#abort();
  }

  get memory(): SharedArrayBuffer {
    return this.#ring.memory;
  }

  /** The thread reads what has arrived of this file. */
  follow(file: GrowingFile): void {
    this.#ring.received = file.received;
    let told = file.received;
    file.onProgress((received) => {
      this.#ring.received = received;
      if (received - told < wakeBytes) return; // the last bytes are told of by `whole`
      told = received;
      this.#tell();
    });
    file.whole.then(
      () => {
        this.#ring.markWhole();
        this.#tell();
      },
      (error: unknown) => this.#fail(error),
    );
  }

  throwIfOver(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  begin(request: ThreadRequest): void {
    this.#over = false;
    this.#worker.postMessage(request);
  }

  /** Sends the thread what it compresses. */
  feed(open: () => Promise<AsyncIterable<Uint8Array>>): void {
    this.#feeding = this.#feed(open).catch((error: unknown) => this.#fail(error));
  }

  async #feed(open: () => Promise<AsyncIterable<Uint8Array>>): Promise<void> {
    for await (const piece of await open()) {
      while (this.#open && this.#unused >= maxSent) await new Promise<void>((resolve) => (this.#used = resolve));
      if (!this.#open) return;
      // A copy: it may be part of a larger buffer, which would go along.
      const bytes = new Uint8Array(piece);
      giveBack(piece);
      this.#unused++;
      this.#worker.postMessage({ kind: "plain", bytes } satisfies ThreadRequest, [bytes.buffer]);
    }
    if (this.#open) this.#worker.postMessage({ kind: "plain", bytes: undefined } satisfies ThreadRequest);
  }

  /** What a layer was that the thread has taken in; it may ask for what is below. */
  async taken(lower: TakeOptions["lower"]): Promise<AppliedTar> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure.error;
      const answer = this.#answers.shift();
      if (answer === undefined) await new Promise<void>((resolve) => (this.#wake = resolve));
      else if (answer.kind === "failed") throw errorOf(answer);
      else if (answer.kind === "consumed") this.#options.onConsumed?.(answer.consumed);
      else if (answer.kind === "look") void this.#look(answer, lower);
      else if (answer.kind === "taken") return answer.applied;
    }
  }

  async #look({ number, path }: Extract<ThreadAnswer, { kind: "look" }>, lower: TakeOptions["lower"]): Promise<void> {
    const found = await lower(path).then(
      (stat) => ({ stat }),
      (error: unknown) => ({ stat: undefined, failure: failureOf(error, "the layers below") }),
    );
    if (this.#open) this.#worker.postMessage({ kind: "found", number, ...found } satisfies ThreadRequest);
  }

  async *pieces(): AsyncGenerator<Uint8Array, void> {
    for (let number = 0; ; ) {
      if (this.#failure !== undefined) throw this.#failure.error;
      const answer = this.#answers.shift();
      if (answer === undefined) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        continue;
      }
      if (answer.kind === "failed") throw errorOf(answer);
      if (answer.kind !== "piece") return;
      this.#options.onConsumed?.(answer.consumed);
      yield this.#ring.slot(number, answer.length);
      // The one before: somebody may still be writing this one.
      this.#ring.released = number;
      number++;
      if (this.#answers.length <= slotCount - wakeSlots) this.#tell();
    }
  }

  /** Waits until the thread is done with the file. False: it cannot be used again. */
  async end(): Promise<boolean> {
    this.#open = false;
    this.#used?.();
    this.#ring.cancel();
    this.#tell(true);
    this.#options.signal?.removeEventListener("abort", this.#abort);
    while (!this.#over) await new Promise<void>((resolve) => (this.#wake = resolve));
    await this.#feeding;
    const { message, error, exit } = this.#listeners;
    this.#worker.off("message", message).off("error", error).off("exit", exit);
    return this.#worker.threadId >= 0;
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#notify();
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  #tell(always = false): void {
    if (!this.#open && !always) return;
    if (this.#ring.takeWait() || always) this.#worker.postMessage({ kind: "wake" } satisfies ThreadRequest);
  }
}
