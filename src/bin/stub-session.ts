/** A stub as a command sees it: its streams, terminal and signals. @module */
import type { Socket } from "node:net";
import { constants } from "node:os";
import { Readable, Writable } from "node:stream";
import type { CliIo } from "#cli/io.ts";
import { giveBack } from "#core/pieces.ts";
import { type Frame, frameTypes, type Hello, ProtocolError, writeFrame } from "./stub-frames.ts";

const signalNames: ReadonlyMap<number, string> = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));
/** The stub handles job control itself. */
const jobControl = ["SIGTSTP", "SIGCONT", "SIGTTIN", "SIGTTOU"];
/** How much of its input a stub may send before it is asked again. */
const creditBytes = 64 * 1024;
/** Exit code of a process that a signal ended. */
const signalExit = 128;
/** Made once: an exception takes its stack with it, and each command ends like this. */
const left = new DOMException("The command has left", "AbortError");

export class StubSession implements CliIo {
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly umask: number;
  readonly isTty: CliIo["isTty"];
  readonly directToken: string | undefined;
  readonly gone: AbortSignal;
  readonly #socket: Socket;
  readonly #left = new AbortController();
  readonly #signalListeners = new Set<(signal: string) => void>();
  readonly #resizeListeners = new Set<() => void>();
  #rows: number;
  #columns: number;
  #credit = 0;
  #ended = false;
  #stdin: Readable | undefined;
  #stdout: Writable | undefined;
  #stderr: Writable | undefined;

  constructor(socket: Socket, hello: Hello) {
    this.#socket = socket;
    this.argv = hello.argv;
    this.cwd = hello.cwd;
    this.env = hello.env;
    this.umask = hello.umask;
    this.isTty = hello.isTty;
    this.directToken = hello.token === "" ? undefined : hello.token;
    this.#rows = hello.rows;
    this.#columns = hello.columns;
    this.gone = this.#left.signal;
  }

  // Streams are made when they are first used: many commands need but one.

  get stdin(): Readable {
    return (this.#stdin ??= this.#unlessGone(new Readable({ highWaterMark: creditBytes, read: () => this.#askForInput() })));
  }

  get stdout(): Writable {
    return (this.#stdout ??= this.#unlessGone(this.#output(frameTypes.stdout)));
  }

  get stderr(): Writable {
    return (this.#stderr ??= this.#unlessGone(this.#output(frameTypes.stderr)));
  }

  #unlessGone<T extends Readable | Writable>(stream: T): T {
    if (this.#left.signal.aborted) stream.destroy();
    return stream;
  }

  #output(type: number): Writable {
    return new Writable({
      highWaterMark: creditBytes,
      decodeStrings: true,
      write: (chunk: Buffer, _encoding, done) => {
        if (this.#socket.destroyed || this.#ended) return done();
        if (writeFrame(this.#socket, type, chunk, () => giveBack(chunk))) done();
        else whenWritable(this.#socket, done);
      },
    });
  }

  #askForInput(): void {
    if (this.#credit > 0 || this.#ended) return;
    this.#credit = creditBytes;
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt32LE(creditBytes);
    writeFrame(this.#socket, frameTypes.readStdin, payload);
  }

  size(): { readonly rows: number; readonly columns: number } | undefined {
    const { stdin, stdout, stderr } = this.isTty;
    return stdin || stdout || stderr ? { rows: this.#rows, columns: this.#columns } : undefined;
  }

  onResize(listener: () => void): () => void {
    this.#resizeListeners.add(listener);
    return () => this.#resizeListeners.delete(listener);
  }

  onSignal(listener: (signal: string) => void): () => void {
    this.#signalListeners.add(listener);
    return () => this.#signalListeners.delete(listener);
  }

  setRaw(on: boolean): void {
    writeFrame(this.#socket, frameTypes.raw, Uint8Array.of(on ? 1 : 0));
  }

  /** A frame after the hello. Throws ProtocolError. */
  receive({ type, payload }: Frame): void {
    switch (type) {
      case frameTypes.stdin:
        if (payload.length > this.#credit) throw new ProtocolError("more input than was asked for");
        this.#credit -= payload.length;
        // Copied: the frame is a view into the socket's buffer. More is asked for when the reader wants it.
        if (this.stdin.push(Buffer.from(payload)) && this.#credit === 0) this.#askForInput();
        break;
      case frameTypes.stdinEof:
        this.stdin.push(null);
        break;
      case frameTypes.signal:
        if (payload.length !== 4) throw new ProtocolError("a signal frame has 4 bytes");
        this.#signal(payload.readUInt32LE(0));
        break;
      case frameTypes.winch:
        if (payload.length !== 4) throw new ProtocolError("a window size has 4 bytes");
        this.#rows = payload.readUInt16LE(0);
        this.#columns = payload.readUInt16LE(2);
        for (const listener of this.#resizeListeners) listener();
        break;
      default:
        throw new ProtocolError(`a stub does not send frames of type ${type}`);
    }
  }

  #signal(number: number): void {
    const name = signalNames.get(number);
    if (name === undefined || jobControl.includes(name)) return;
    if (this.#signalListeners.size === 0) {
      this.exit(signalExit + number);
      this.leave();
      return;
    }
    for (const listener of this.#signalListeners) listener(name);
  }

  /** The connection is lost, or the caller wants no more: what the command waits for is given up. */
  leave(): void {
    if (this.#left.signal.aborted) return;
    this.#left.abort(left);
    for (const stream of [this.#stdin, this.#stdout, this.#stderr]) stream?.destroy();
  }

  /** The last frame, behind all output that the command has written. */
  exit(code: number): void {
    if (this.#ended) return;
    const pending = [this.#stdout, this.#stderr].filter((stream) => stream !== undefined && stream.writableLength > 0) as Writable[]; // filtered above
    const finish = () => {
      if (this.#ended) return;
      this.#ended = true;
      if (this.#socket.destroyed) return;
      writeFrame(this.#socket, frameTypes.exit, Uint8Array.of(code & 0xff));
      this.#socket.end();
    };
    if (pending.length === 0) {
      finish();
      return;
    }
    let left = pending.length;
    // An empty write is answered after all that was written before it.
    for (const stream of pending) {
      stream.write("", () => {
        left--;
        if (left === 0) finish();
      });
    }
  }
}

function whenWritable(socket: Socket, done: () => void): void {
  const go = () => {
    socket.off("drain", go).off("close", go);
    done();
  };
  socket.on("drain", go).on("close", go);
}
