/** A stub of the runtime (native/warm.c) as a command sees it: the daemon computes, the stub's own children are what is launched. @module */
import type { Socket } from "node:net";
import { constants } from "node:os";
import { Duplex } from "node:stream";
import { launchDetached, type LauncherProcess } from "#linux/detached-launch.ts";
import { type Frame, frameTypes, type Hello, ProtocolError, writeFrame } from "../stub-frames.ts";
import type { RuntimeIo } from "./io.ts";

const signalNames: ReadonlyMap<number, NodeJS.Signals> = new Map(
  Object.entries(constants.signals).map(([name, number]) => [number, name as NodeJS.Signals]), // these are their names
);

export class ServedStub implements RuntimeIo {
  readonly cwd: string;
  readonly own = false;
  readonly screen = undefined;
  readonly #socket: Socket;
  readonly #listeners = new Set<(signal: NodeJS.Signals) => void>();
  /** What came before anybody listened: the program may have said its first word by then. As in the kernel, each signal is pending once. */
  readonly #pending = new Set<NodeJS.Signals>();
  #launcher: { readonly socket: Duplex; end(): void } | undefined;

  constructor(socket: Socket, hello: Hello) {
    this.#socket = socket;
    this.cwd = hello.cwd;
  }

  out(text: string): void {
    writeFrame(this.#socket, frameTypes.stdout, Buffer.from(text));
  }

  err(text: string): void {
    writeFrame(this.#socket, frameTypes.stderr, Buffer.from(text));
  }

  exit(code: number): void {
    writeFrame(this.#socket, frameTypes.exit, Uint8Array.of(code & 0xff));
    this.#socket.end();
  }

  onSignal(listener: (signal: NodeJS.Signals) => void): () => void {
    this.#listeners.add(listener);
    for (const signal of this.#pending) listener(signal);
    this.#pending.clear();
    return () => this.#listeners.delete(listener);
  }

  launch(request: Parameters<RuntimeIo["launch"]>[0]): ReturnType<RuntimeIo["launch"]> {
    return launchDetached(request, ({ wait }) => this.#start(wait));
  }

  #start(wait: boolean): LauncherProcess {
    const stub = this.#socket;
    writeFrame(stub, frameTypes.launcher, Uint8Array.of(wait ? 1 : 0));
    const socket = new Duplex({
      read: () => undefined, // what comes is little: answers to one plan
      write(chunk: Buffer, _encoding, done) {
        writeFrame(stub, frameTypes.toLauncher, chunk);
        done();
      },
      destroy(error, done) {
        if (!stub.destroyed) writeFrame(stub, frameTypes.dropLauncher);
        done(error);
      },
    });
    const ended = new Promise<void>((resolve) => {
      this.#launcher = { socket, end: resolve };
    });
    return { socket, ended };
  }

  /** A frame after the hello. Throws ProtocolError. */
  receive({ type, payload }: Frame): void {
    if (type === frameTypes.signal && payload.length === 4) {
      const name = signalNames.get(payload.readUInt32LE(0));
      if (name === undefined) return;
      if (this.#listeners.size === 0) this.#pending.add(name);
      for (const listener of this.#listeners) listener(name);
    } else if (type === frameTypes.fromLauncher) this.#launcher?.socket.push(Buffer.from(payload));
    else if (type === frameTypes.launcherEnd) {
      this.#launcher?.end();
      this.#launcher?.socket.push(null);
    } else throw new ProtocolError(`a stub of the runtime does not send frames of type ${type}`);
  }
}
