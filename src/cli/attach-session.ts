/** A terminal (or pipes) joined to a container's streams: output apart, input forwarded, raw mode, detach keys, window size. @module */
import type { Duplex } from "node:stream";
import type { ApiClient } from "#api/client/mod.ts";
import { parseDetachKeys } from "#api/types/detach-keys.ts";
import { DetachFilter } from "./detach-filter.ts";
import { demultiplex } from "./frames.ts";
import type { CliIo } from "./io.ts";
import { copy } from "./output.ts";

export interface SessionOptions {
  readonly io: CliIo;
  readonly stream: Duplex;
  readonly framed: boolean;
  readonly tty: boolean;
  /** Forward the caller's input. */
  readonly stdin: boolean;
  /** "" = ctrl-p,ctrl-q; only looked for on a terminal. */
  readonly detachKeys: string;
}

export interface Session {
  /** Settles when the output has ended, or the user typed the detach keys. Rejects when writing or reading failed. The terminal is restored by then. */
  readonly done: Promise<"ended" | "detached">;
  /** Drops the connection; what was not written yet is lost. */
  close(): void;
}

/** Starts copying at once. */
export function startSession(options: SessionOptions): Session {
  const { io, stream, tty } = options;
  const raw = tty && options.stdin && io.isTty.stdin;
  if (raw) io.setRaw(true);
  let detach: () => void = () => {};
  const detached = new Promise<"detached">((resolve) => {
    detach = () => resolve("detached");
  });
  const output = (options.framed ? demultiplex(stream, io.stdout, io.stderr) : copy(stream, io.stdout)).then(() => "ended" as const);
  const stopInput = options.stdin ? forwardInput(options, detach) : () => {};
  const onGone = () => stream.destroy();
  io.gone.addEventListener("abort", onGone);
  const done = Promise.race([output, detached]).finally(() => {
    io.gone.removeEventListener("abort", onGone);
    stopInput();
    if (raw) io.setRaw(false);
  });
  // A stream that is dropped after a detach may fail; nobody waits for it then.
  output.catch(() => {});
  return { done: done.finally(() => stream.destroy()), close: () => stream.destroy() };
}

/** Copies stdin until it ends; its end is the container's end of input. Returns what stops it. */
function forwardInput({ io, stream, tty, detachKeys }: SessionOptions, detach: () => void): () => void {
  const filter = new DetachFilter(tty ? parseDetachKeys(detachKeys) : new Uint8Array(0));
  const { stdin } = io;
  const onData = (chunk: Buffer) => {
    const { bytes, detached } = filter.push(chunk);
    if (bytes.length > 0 && !stream.write(bytes)) {
      stdin.pause();
      stream.once("drain", () => stdin.resume());
    }
    if (detached) detach();
  };
  const onEnd = () => stream.end();
  // The container may close its input while we write: that is its right, and the output goes on.
  stream.on("error", () => {});
  stdin.on("data", onData).once("end", onEnd).once("error", onEnd);
  return () => {
    stdin.off("data", onData).off("end", onEnd).off("error", onEnd);
    stdin.pause();
  };
}

/** Keeps the container's (or exec's) terminal as large as ours. Returns what stops it. `path` is "/containers/ID" or "/exec/ID". */
export function followWindowSize(io: CliIo, client: ApiClient, path: string): () => void {
  const send = async (): Promise<boolean> => {
    const size = io.size();
    if (size === undefined || (size.rows === 0 && size.columns === 0)) return true;
    try {
      await client.json("POST", `${path}/resize`, { query: { h: size.rows, w: size.columns } });
      return true;
    } catch {
      return false; // it has not started yet, or is gone
    }
  };
  let stopped = false;
  void (async () => {
    for (let attempt = 0; attempt < 10 && !stopped; attempt++) {
      if (await send()) return;
      await new Promise((resolve) => setTimeout(resolve, (attempt + 1) * 10));
    }
  })();
  const off = io.onResize(() => void send());
  return () => {
    stopped = true;
    off();
  };
}

/** Passes the caller's signals on to the container. Returns what stops it. */
export function proxySignals(io: CliIo, client: ApiClient, id: string): () => void {
  return io.onSignal((signal) => {
    client.json("POST", `/containers/${id}/kill`, { query: { signal } }).catch(() => {}); // not running (yet, or any more): nothing to tell
  });
}
