/**
 * One running helper process and the frames to and from it. When it ends, everyone who waits for an answer is told ({@link Listener.lost}).
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { EngineError } from "#core/errors.ts";
import { FrameParser, F, frame } from "./wire.ts";

/** Receives the frames of one id. */
export interface Listener {
  frame(type: number, payload: Buffer): void;
  /** The helper has ended; no more frames come. */
  lost(): void;
}

const PROTOCOL = 1;

export class HelperProcess {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #socket: Duplex;
  readonly #listeners = new Map<number, Listener>();
  readonly ended: Promise<void>;
  #alive = true;
  #nextId = 1;

  private constructor(child: ChildProcess, socket: Duplex, log: (line: string) => void) {
    this.#child = child;
    this.#socket = socket;
    this.pid = child.pid ?? 0;
    this.ended = new Promise((resolve) => {
      const end = (why: string) => {
        if (!this.#alive) return;
        this.#alive = false;
        if (why !== "") log(`helper: ${why}`);
        const listeners = [...this.#listeners.values()];
        this.#listeners.clear();
        for (const listener of listeners) listener.lost();
        resolve();
      };
      socket.on("error", (error) => end(error.message));
      socket.on("close", () => end(""));
      child.on("exit", (code, signal) => {
        if (code !== 0) log(`helper ${this.pid} ended: ${signal ?? `code ${code}`}`);
        end("");
      });
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => log(text.trimEnd()));
  }

  /** Spawns `helperPath` and waits until it is ready. */
  static async start(helperPath: string, fdSocketPath: string, log: (line: string) => void): Promise<HelperProcess> {
    // No controlling terminal and no environment: monitors, which live for years, are its forks.
    const child = spawn(helperPath, ["helper", fdSocketPath, " ".repeat(160)], { stdio: ["ignore", "ignore", "pipe", "pipe"], detached: true, env: {} });
    const failed = once(child, "error").then(([error]) => {
      throw new EngineError("unavailable", `the helper cannot be started: ${error.message}`, {
        cause: error,
        hint: `is ${helperPath} there and executable? (npm run build makes it)`,
      });
    });
    const socket = child.stdio[3] as Duplex;
    const helper = new HelperProcess(child, socket, log);
    const ready = new Promise<void>((resolve, reject) => {
      helper.#listeners.set(0, {
        frame: (type, payload) => {
          if (type === F.READY && payload.readUInt32LE(4) === PROTOCOL) resolve();
          else reject(new EngineError("internal", "the helper speaks another protocol version: build it anew"));
        },
        lost: () => reject(new EngineError("unavailable", "the helper ended at its start")),
      });
    });
    const parser = new FrameParser((type, id, payload) => helper.#listeners.get(id)?.frame(type, payload));
    socket.on("data", (chunk: Buffer) => {
      try {
        parser.push(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    await Promise.race([ready, failed]);
    failed.catch(() => {}); // it has started: "error" can now only tell about a failed kill
    helper.#listeners.delete(0);
    return helper;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Registers a listener under a fresh id. A helper that has ended calls `lost` at once (in a microtask). */
  listen(listener: Listener): number {
    const id = this.#nextId;
    this.#nextId = (this.#nextId % 0xfffffff0) + 1;
    if (this.#alive) this.#listeners.set(id, listener);
    else queueMicrotask(() => listener.lost());
    return id;
  }

  forget(id: number): void {
    this.#listeners.delete(id);
  }

  send(type: number, id: number, payload: Uint8Array): void {
    if (this.#alive) this.#socket.write(frame(type, id, payload));
  }

  /** Bytes that are a whole frame already. */
  sendRaw(bytes: Uint8Array): void {
    if (this.#alive) this.#socket.write(bytes);
  }

  /** Ends it (containers go on) and waits for its end. */
  async close(): Promise<void> {
    this.#socket.end();
    this.#socket.destroy();
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
    await this.ended;
  }
}
