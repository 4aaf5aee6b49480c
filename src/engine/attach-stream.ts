/**
 * Attaching before the start: the client gets a stream at once, which is connected when the container's monitor listens; the container's program starts
 * only then, so nothing is lost.
 * @module
 */
import { setTimeout } from "node:timers/promises";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { MonitorLink } from "#linux/helper.ts";
import type { AttachRequest } from "./mod.ts";

/** A half-open stream whose other end comes later. */
export class LateStream extends Duplex {
  #socket: Socket | undefined;
  /** What was written, or that the writer has ended, before there was a socket. */
  #held: ((socket: Socket) => void)[] = [];
  #ending = false;
  /** Nobody there reads what is written: it could only be answered by EPIPE, for which output that has not been read yet would be thrown away. */
  #deaf = false;

  readonly #last: (() => Promise<Uint8Array | undefined>) | undefined;

  /** `last`: asked at the end for bytes that follow what the other end has sent. */
  constructor(last?: () => Promise<Uint8Array | undefined>) {
    super({ allowHalfOpen: true });
    this.#last = last;
  }

  /** `stdin`: what is written goes to the container; else it goes nowhere. */
  connectTo(socket: Socket, stdin: boolean): void {
    if (this.destroyed) {
      socket.destroy();
      return;
    }
    this.#deaf = !stdin;
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.on("error", (error) => this.destroy(error));
    // A reader still gets what was pushed; after that, the end.
    for (const event of ["end", "close"]) socket.on(event, () => this.#end());
    for (const act of this.#held) act(socket);
    this.#held = [];
  }

  /** There will be no other end. */
  endUnconnected(): void {
    if (this.#socket === undefined) this.#end();
  }

  #end(): void {
    if (this.#ending) return;
    this.#ending = true;
    const finish = (bytes?: Uint8Array) => {
      if (this.destroyed) return;
      if (bytes !== undefined) this.push(bytes);
      this.push(null);
    };
    if (this.#last === undefined) finish();
    else this.#last().then(finish, (error: Error) => this.destroy(error));
  }

  override _read(): void {
    this.#socket?.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#withSocket((socket) => {
      // The container may close its stdin, or end, before all was written: no fault of the client.
      if (socket.writable && !this.#deaf) socket.write(chunk, () => callback());
      else callback();
    });
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#withSocket((socket) => {
      if (socket.writable) socket.end();
      callback();
    });
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#held = [];
    this.#socket?.destroy();
    callback(error);
  }

  #withSocket(act: (socket: Socket) => void): void {
    if (this.#socket === undefined) this.#held.push(act);
    else act(this.#socket);
  }
}

interface PendingAttach {
  readonly request: AttachRequest;
  readonly stream: LateStream;
}

/** Attaches that wait for a start, by container (or exec) id. */
export class PendingAttaches {
  readonly #waiting = new Map<string, Set<PendingAttach>>();

  add(id: string, request: AttachRequest, last?: () => Promise<Uint8Array | undefined>): LateStream {
    const stream = new LateStream(last);
    const pending: PendingAttach = { request, stream };
    const set = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, set.add(pending));
    stream.once("close", () => {
      set.delete(pending);
      if (set.size === 0 && this.#waiting.get(id) === set) this.#waiting.delete(id);
    });
    return stream;
  }

  /** Those that wait now, taken out. */
  take(id: string): readonly PendingAttach[] {
    const set = this.#waiting.get(id);
    this.#waiting.delete(id);
    return set === undefined ? [] : [...set];
  }
}

/** Connects every pending attach to a monitor that listens. Rejects when one cannot be: the start is then given up, for its gate would wait for ever. */
export async function connectAll(pending: readonly PendingAttach[], attach: MonitorLink["attach"]): Promise<void> {
  await Promise.all(
    pending.map(async ({ request: { stdin, stdout, stderr, detachKeys }, stream }) => {
      stream.connectTo(await attach({ stdin, stdout, stderr, detachKeys }), stdin);
    }),
  );
}

/** How long after its monitor has gone a launch is told why. */
const reasonMs = 1000;

/**
 * The outcome of a launch with streams to connect. When they could not be because the monitor has ended, the launch itself says why, a moment later; a monitor
 * that lives would wait for them for ever.
 */
export function launchedWith<T>(launched: Promise<T>, attachFailed: Promise<never>): Promise<T> {
  const failed = attachFailed.catch(async (error: unknown): Promise<never> => {
    await Promise.race([launched, setTimeout(reasonMs, undefined, { ref: false })]);
    throw error;
  });
  return Promise.race([launched, failed]);
}

/** The start failed: the streams end. */
export function endAll(pending: readonly PendingAttach[]): void {
  for (const { stream } of pending) stream.endUnconnected();
}
