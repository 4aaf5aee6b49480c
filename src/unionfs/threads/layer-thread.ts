/** A thread's side: decompresses files that may still grow, or compresses layers, and checks the plain bytes; one job after the other. @module */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { MessagePort } from "node:worker_threads";
import { EngineError, errnoOf } from "#core/errors.ts";
import { readLayer } from "../layer-tar.ts";
import { compress } from "../tar/compress.ts";
import { decompress } from "../tar/decompress.ts";
import { Deflater } from "../tar/deflate.ts";
import { SharedRing, slotBytes, slotCount, type ThreadAnswer, type ThreadRequest, wakeSlots } from "./shared-ring.ts";

const readBytes = 256 * 1024;
/** zlib's pieces are garbage as soon as they are copied, but V8 sees small objects only and lets some 30 MiB of them lie: it is told after so many bytes. */
const garbageBytes = 4 * 1024 * 1024;

/** A collection of what is young, well under a millisecond. */
function collector(): () => void {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as (options: { readonly type: "minor" }) => void; // V8's own function
  return () => gc({ type: "minor" });
}

/** Serves the client at the other end of `port` until the thread is ended. */
export function serveLayerThread(port: MessagePort): void {
  const collect = collector();
  // A job may wait for more of its file and for room at the same time.
  let waiting: (() => void)[] = [];
  const waits = (ring: SharedRing, isOver: () => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        ring.announceWait();
        if (isOver() || ring.cancelled) resolve();
        else waiting.push(look);
      };
      look();
    });
  let inbox: (Uint8Array | undefined)[] = [];
  let deflater: Deflater | undefined;
  port.on("message", (request: ThreadRequest) => {
    if (request.kind === "wake" || request.kind === "plain") {
      if (request.kind === "plain") inbox.push(request.bytes);
      const woken = waiting;
      waiting = [];
      for (const look of woken) look();
      return;
    }
    const thread: Thread = { ring: new SharedRing(request.memory), waits, collect, answer: (answer) => port.postMessage(answer) };
    if (request.kind === "inflate") {
      void work(thread, inflated(thread, request), request.path);
      return;
    }
    // What is left in the old one was for a job that was cancelled.
    inbox = [];
    deflater ??= new Deflater();
    const { source } = request;
    const plain = source === "sent" ? sent(thread, inbox) : readLayer(source);
    void work(thread, compressed(plain, deflater), source === "sent" ? "a layer" : `layer ${source.diffId}`);
  });
}

type Waits = (ring: SharedRing, isOver: () => boolean) => Promise<void>;

interface Thread {
  readonly ring: SharedRing;
  readonly waits: Waits;
  readonly collect: () => void;
  readonly answer: (answer: ThreadAnswer) => void;
}

/** What a job gives. */
interface Output {
  readonly pieces: AsyncIterable<Uint8Array>;
  /** Bytes of the input so far. */
  readonly progress: { readonly consumed: number };
}

function inflated({ ring, waits }: Thread, { path, expected }: Extract<ThreadRequest, { kind: "inflate" }>): Output {
  const progress = { consumed: 0 };
  const pieces = (async function* () {
    const hash = createHash("sha256");
    for await (const piece of decompress(growing(path, ring, waits, progress))) {
      hash.update(piece);
      yield piece;
    }
    const digest = `sha256:${hash.digest("hex")}`;
    if (digest !== expected) throw new EngineError("corrupt", `layer has the digest ${digest}, expected ${expected}`);
  })();
  return { pieces, progress };
}

/** Whoever gives the archive sees to its digest. */
function compressed(archive: AsyncIterable<Uint8Array>, deflater: Deflater): Output {
  const progress = { consumed: 0 };
  const plain = (async function* () {
    for await (const piece of archive) {
      progress.consumed += piece.byteLength;
      yield piece;
    }
  })();
  return { pieces: compress(plain, deflater), progress };
}

/** What the client sends, as it comes. */
async function* sent({ ring, waits, answer }: Thread, inbox: (Uint8Array | undefined)[]): AsyncGenerator<Uint8Array, void> {
  for (;;) {
    await waits(ring, () => inbox.length > 0);
    if (ring.cancelled) throw cancelled();
    const bytes = inbox.shift();
    if (bytes === undefined) return;
    yield bytes;
    answer({ kind: "taken" });
  }
}

/** Passes a job's pieces through the ring, and says how it has ended. */
async function work({ ring, waits, collect, answer }: Thread, { pieces, progress }: Output, what: string): Promise<void> {
  try {
    let sent = 0;
    let filled = 0;
    let garbage = 0;
    const send = () => {
      answer({ kind: "piece", length: filled, consumed: progress.consumed });
      sent++;
      filled = 0;
    };
    for await (const piece of pieces) {
      garbage += piece.byteLength;
      if (garbage > garbageBytes) {
        collect();
        garbage = 0;
      }
      for (let at = 0; at < piece.byteLength; ) {
        if (filled === 0 && sent - ring.released >= slotCount) await waits(ring, () => sent - ring.released <= slotCount - wakeSlots);
        if (ring.cancelled) throw cancelled();
        const part = piece.subarray(at, at + slotBytes - filled);
        ring.slot(sent).set(part, filled);
        filled += part.byteLength;
        at += part.byteLength;
        if (filled === slotBytes) send();
      }
    }
    if (filled > 0) send();
    answer({ kind: "end" });
  } catch (error) {
    const known = error instanceof EngineError ? error : new EngineError("internal", `reading ${what}: ${errnoOf(error) ?? String(error)}`);
    answer({ kind: "failed", code: known.code, message: known.message, hint: known.hint });
  }
}

/** The file's bytes, as far as they are there; ends when the file is whole. */
async function* growing(path: string, ring: SharedRing, waits: Waits, progress: { consumed: number }): AsyncIterable<Uint8Array> {
  await waits(ring, () => ring.received > 0 || ring.whole);
  if (ring.received === 0) return;
  await using file = await open(path, "r");
  for (;;) {
    if (ring.cancelled) throw cancelled();
    const available = ring.received - progress.consumed;
    if (available <= 0) {
      if (ring.whole) return;
      await waits(ring, () => ring.received > progress.consumed || ring.whole);
      continue;
    }
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(Math.min(readBytes, available)), { position: progress.consumed });
    if (bytesRead === 0) throw new EngineError("storage", `${path} was cut short on disk`);
    progress.consumed += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

function cancelled(): EngineError {
  return new EngineError("cancelled", "context canceled");
}
