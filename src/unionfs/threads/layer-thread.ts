/** A thread's side: takes layers in, of files that may still grow, or decompresses or compresses them; and checks the plain bytes. One job after the other. @module */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { constants, getPriority, setPriority } from "node:os";
import type { MessagePort } from "node:worker_threads";
import { collector } from "#core/collector.ts";
import { EngineError } from "#core/errors.ts";
import type { TreeStat } from "#linux/file-tree.ts";
import { connectTree } from "#linux/file-tree-client.ts";
import type { AppliedTar } from "../apply.ts";
import { limited } from "../archive-file.ts";
import type { ByteString } from "../bytes.ts";
import { ErofsReceiver } from "../erofs/receiver.ts";
import { type LayerSource, readLayer } from "../layer-tar.ts";
import { takeIntoImage, takeIntoTree } from "../take-layer.ts";
import { compress } from "../tar/compress.ts";
import { decompress } from "../tar/decompress.ts";
import { Deflater } from "../tar/deflate.ts";
import { errorOf, failureOf, SharedRing, slotBytes, slotCount, type TakeJob, type ThreadAnswer, type ThreadRequest, wakeSlots } from "./shared-ring.ts";

const readBytes = 256 * 1024;
/** What was passed on is garbage as soon as it is copied, but V8 sees small objects only and lets some 30 MiB lie behind them: it is told after so many bytes. */
const garbageBytes = 4 * 1024 * 1024;

/** So much nicer than its daemon: a third of the processor time that others get, where there is not enough for all. */
const nicer = 5;

/** How often a job that passes no pieces says how far it is. A message wakes another thread. */
const tellBytes = 2 * 1024 * 1024;

const wordBytes = 8;

/** Serves the client at the other end of `port` until the thread is ended. */
export function serveLayerThread(port: MessagePort): void {
  const collect = collector();
  // This thread's alone (setpriority(2)): who asks the daemon something does not wait for layers. From where the daemon is: to go down takes a capability.
  setPriority(Math.min(getPriority() + nicer, constants.priority.PRIORITY_LOW));
  // A job may wait for more of its file and for room at the same time.
  let waiting: (() => void)[] = [];
  let inbox: (Uint8Array | undefined)[] = [];
  let deflater: Deflater | undefined;
  const looks = new Map<
    number,
    { readonly ring: SharedRing; readonly resolve: (stat: TreeStat | undefined) => void; readonly reject: (error: Error) => void }
  >();
  const waits = (ring: SharedRing, isOver: () => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        ring.announceWait();
        if (isOver() || ring.cancelled) resolve();
        else waiting.push(look);
      };
      look();
    });
  const wake = () => {
    const woken = waiting;
    waiting = [];
    for (const look of woken) look();
    for (const [number, { ring, reject }] of looks)
      if (ring.cancelled) {
        looks.delete(number);
        reject(cancelled());
      }
  };
  const begin = (request: Exclude<ThreadRequest, { kind: "wake" | "plain" | "found" }>) => {
    const ring = new SharedRing(request.memory);
    let number = 0;
    const lookBelow = (path: ByteString) =>
      new Promise<TreeStat | undefined>((resolve, reject) => {
        if (ring.cancelled) return reject(cancelled());
        looks.set(number, { ring, resolve, reject });
        port.postMessage({ kind: "look", number: number++, path } satisfies ThreadAnswer);
      });
    const thread: Thread = { ring, waits, collect, lookBelow, answer: (answer) => port.postMessage(answer) };
    if (request.kind === "inflate") void work(thread, inflated(thread, request), request.path);
    else if (request.kind === "take") void take(thread, request.job);
    else if (request.kind === "read") void work(thread, read(request.source), `layer ${request.source.diffId}`);
    else {
      // What is left in the old one was for a job that was cancelled.
      inbox = [];
      deflater ??= new Deflater();
      const { source } = request;
      const plain = source === "sent" ? sent(thread, inbox) : readLayer(source);
      void work(thread, compressed(plain, deflater), source === "sent" ? "a layer" : `layer ${source.diffId}`);
    }
  };
  port.on("message", (request: ThreadRequest) => {
    if (request.kind === "plain") inbox.push(request.bytes);
    if (request.kind === "wake" || request.kind === "plain") return wake();
    if (request.kind !== "found") return begin(request);
    const look = looks.get(request.number);
    looks.delete(request.number);
    if (request.failure === undefined) look?.resolve(request.stat);
    else look?.reject(errorOf(request.failure));
  });
}

type Waits = (ring: SharedRing, isOver: () => boolean) => Promise<void>;

interface Thread {
  readonly ring: SharedRing;
  readonly waits: Waits;
  readonly collect: ReturnType<typeof collector>;
  /** lstat in the layers below. */
  readonly lookBelow: (path: ByteString) => Promise<TreeStat | undefined>;
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
    for await (const piece of decompress(growing(path, ring, waits, progress), { lent: true, hashed: true })) {
      hash.update(piece);
      yield piece;
    }
    const digest = `sha256:${hash.digest("hex")}`;
    if (digest !== expected) throw new EngineError("corrupt", `layer has the digest ${digest}, expected ${expected}`);
  })();
  return { pieces, progress };
}

function read(source: LayerSource): Output {
  const progress = { consumed: 0 };
  return { pieces: counted(readLayer(source), progress), progress };
}

/** Whoever gives the archive sees to its digest. */
function compressed(archive: AsyncIterable<Uint8Array>, deflater: Deflater): Output {
  const progress = { consumed: 0 };
  return { pieces: compress(counted(archive, progress), deflater), progress };
}

/** What the client sends, as it comes. */
async function* sent({ ring, waits, answer }: Thread, inbox: (Uint8Array | undefined)[]): AsyncGenerator<Uint8Array, void> {
  for (;;) {
    await waits(ring, () => inbox.length > 0);
    if (ring.cancelled) throw cancelled();
    const bytes = inbox.shift();
    if (bytes === undefined) return;
    yield bytes;
    answer({ kind: "used" });
  }
}

/** Takes a layer's archive in, and says how it has ended. What it leaves is not collected here: V8 would forget code with it that the next layer compiles anew (ADR 101). */
async function take(thread: Thread, job: TakeJob): Promise<void> {
  const { path, expected } = job;
  try {
    const applied = await taken(thread, job);
    if (expected !== undefined && applied.diffId !== expected) throw new EngineError("corrupt", `layer has the digest ${applied.diffId}, expected ${expected}`);
    thread.answer({ kind: "taken", applied });
  } catch (error) {
    thread.answer({ kind: "failed", ...failureOf(error, path) });
  }
}

async function taken(thread: Thread, { path, plain, verified, expected, limit, place, record }: TakeJob): Promise<AppliedTar> {
  const { ring, waits } = thread;
  const options = { record, lower: thread.lookBelow, expected, verified: plain && verified };
  const progress = { consumed: 0 };
  const told = (pieces: AsyncIterable<Uint8Array>) => telling(thread, pieces, progress);
  const plainBytes = () => {
    const pieces = told(decompress(growing(path, ring, waits, progress), { lent: true, hashed: expected !== undefined }));
    return limit === undefined ? pieces : limited(pieces, limit);
  };
  if (place.kind === "image") {
    const receiver = new ErofsReceiver(place, { blocking: true });
    if (plain) return takeIntoImage(receiver, counted(told(await receiver.adopt(path)), progress), options);
    return takeIntoImage(receiver, receiver.keep(plainBytes()), options);
  }
  const tree = await connectTree(place.worker);
  try {
    return await takeIntoTree({ tree, directory: place.directory, whiteouts: place.whiteouts }, plainBytes(), options);
  } finally {
    await tree.close();
  }
}

/** Tells how much has been read, and stops when nobody wants it any more. */
async function* telling(
  { ring, answer }: Thread,
  pieces: AsyncIterable<Uint8Array>,
  progress: { readonly consumed: number },
): AsyncGenerator<Uint8Array, void> {
  let told = 0;
  for await (const piece of pieces) {
    if (ring.cancelled) throw cancelled();
    if (progress.consumed - told >= tellBytes) {
      told = progress.consumed;
      answer({ kind: "consumed", consumed: told });
    }
    yield piece;
  }
  answer({ kind: "consumed", consumed: progress.consumed });
}

async function* counted(pieces: AsyncIterable<Uint8Array>, progress: { consumed: number }): AsyncGenerator<Uint8Array, void> {
  for await (const piece of pieces) {
    progress.consumed += piece.byteLength;
    yield piece;
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
        collect("minor");
        garbage = 0;
      }
      for (let at = 0; at < piece.byteLength; ) {
        if (filled === 0 && sent - ring.released >= slotCount) await waits(ring, () => sent - ring.released <= slotCount - wakeSlots);
        if (ring.cancelled) throw cancelled();
        const part = piece.subarray(at, at + slotBytes - filled);
        ring.slot(sent).set(alike(part, filled), filled);
        filled += part.byteLength;
        at += part.byteLength;
        if (filled === slotBytes) send();
      }
    }
    if (filled > 0) send();
    answer({ kind: "end" });
  } catch (error) {
    answer({ kind: "failed", ...failureOf(error, what) });
  }
}

/** For one job after the other: memory that the process has not touched yet costs as much as to copy into it. */
let turns: readonly [Buffer, Buffer] | undefined;
let aside: Buffer | undefined;

/** The bytes, where they may be copied to `at` in a slot: V8 copies into shared memory by words where both lie alike among them, and by bytes where they do not, which takes eight times as long. */
function alike(bytes: Uint8Array, at: number): Uint8Array {
  if ((at - bytes.byteOffset) % wordBytes === 0) return bytes;
  aside ??= Buffer.allocUnsafeSlow(slotBytes + wordBytes);
  const moved = aside.subarray(at % wordBytes, (at % wordBytes) + bytes.byteLength);
  moved.set(bytes);
  return moved;
}

/** The file's bytes, as far as they are there; ends when the file is whole. A piece's memory is used again when the next but one is asked for. */
async function* growing(path: string, ring: SharedRing, waits: Waits, progress: { consumed: number }): AsyncIterable<Uint8Array> {
  await waits(ring, () => ring.received > 0 || ring.whole);
  if (ring.received === 0) return;
  const file = openSync(path, "r");
  const [one, other] = (turns ??= [Buffer.allocUnsafeSlow(readBytes), Buffer.allocUnsafeSlow(readBytes)]);
  try {
    for (let buffer = one; ; ) {
      if (ring.cancelled) throw cancelled();
      const available = ring.received - progress.consumed;
      if (available <= 0) {
        if (ring.whole) return;
        await waits(ring, () => ring.received > progress.consumed || ring.whole);
        continue;
      }
      // At once: to have another thread do it, and be told, takes longer than the reading.
      const bytesRead = readSync(file, buffer, 0, Math.min(readBytes, available), progress.consumed);
      if (bytesRead === 0) throw new EngineError("storage", `${path} was cut short on disk`);
      progress.consumed += bytesRead;
      yield buffer.subarray(0, bytesRead);
      buffer = buffer === one ? other : one;
    }
  } finally {
    closeSync(file);
  }
}

function cancelled(): EngineError {
  return new EngineError("cancelled", "context canceled");
}
