/** The layers of one image: all downloads run, and layers are unpacked while they arrive, several at once where the storage driver allows it. @module */
import { statfs } from "node:fs/promises";
import type { ChainID, Digest } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { isForeign } from "#core/manifest.ts";
import type { Reference } from "#core/reference.ts";
import type { ParsedConfig } from "#image/mod.ts";
import type { Download, RegistrySession } from "#registry/mod.ts";
import type { ArchiveFile, ArchiveLimit } from "#unionfs/archive-file.ts";
import type { Pulling } from "./pull-image.ts";

/** A layer that is not here. */
export interface MissingLayer {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly chain: ChainID;
  readonly parent: ChainID | undefined;
}

type Fetching = Pick<Pulling, "ctx" | "onEvent" | "signal">;

/** Sees to it that all layers of the image are in the layer store. */
export async function pullLayers(pulling: Pulling, reference: Reference, config: ParsedConfig, layers: readonly Descriptor[]): Promise<void> {
  const { ctx, session, onEvent } = pulling;
  const missing: MissingLayer[] = [];
  for (const [i, descriptor] of layers.entries()) {
    const chain = config.chainIds[i]!;
    // What lies above a missing layer is missing itself.
    if (missing.length === 0 && (await ctx.layers.has(chain))) onEvent({ kind: "layer", id: descriptor.digest, state: "exists" });
    else missing.push({ descriptor, diffId: config.diffIds[i]!, chain, parent: config.chainIds[i - 1] });
  }
  for (const { descriptor } of missing) checkLayerType(descriptor);
  for (const { descriptor } of missing) onEvent({ kind: "layer", id: descriptor.digest, state: "waiting" });
  if (missing.length > 0) await fetchLayers(pulling, missing, session.blobSource(reference.path));
}

/** Fetches and unpacks; when it has failed, nothing of it goes on. */
export async function fetchLayers(pulling: Fetching, missing: readonly MissingLayer[], source: ReturnType<RegistrySession["blobSource"]>): Promise<void> {
  const { ctx, onEvent } = pulling;
  const abort = new AbortController();
  const signal = pulling.signal === undefined ? abort.signal : AbortSignal.any([pulling.signal, abort.signal]);
  const downloads = missing.map(({ descriptor }) => ctx.downloads.begin(descriptor, source));
  const applied = new Set<Download>();
  const applyAndClose = async (layer: MissingLayer, download: Download) => {
    await applyShared({ ...pulling, signal }, layer, download);
    applied.add(download);
    await download.close({ keep: false });
    onEvent({ kind: "layer", id: layer.descriptor.digest, state: "complete" });
  };
  let applying: Promise<void>[] = [];
  let keep = true;
  try {
    if (signal.aborted) throw new EngineError("cancelled", "context canceled", { cause: signal.reason });
    for (const [i, download] of downloads.entries()) reportDownload(missing[i]!.descriptor, download, onEvent);
    // A download that fails ends the pull at once, also when a lower layer is still being unpacked; so does who gives up.
    const failed = rejectedBy(downloads, signal);
    applying = missing.map((layer, i) => applyAndClose(layer, downloads[i]!));
    await Promise.race([Promise.all(applying), failed]);
  } catch (error) {
    abort.abort(error);
    await Promise.allSettled(applying); // told by what is thrown here
    // What cannot be unpacked is of no use to the next pull either.
    keep = !isEngineError(error, "corrupt") && !isEngineError(error, "unsupported");
    throw error;
  } finally {
    await Promise.all(downloads.filter((download) => !applied.has(download)).map((download) => download.close({ keep })));
  }
}

/** Never resolves. Rejects with what the first download fails with, or when it is called off. */
function rejectedBy(downloads: readonly Download[], signal: AbortSignal): Promise<never> {
  const failed = new Promise<never>((_resolve, reject) => {
    for (const { whole: arrived } of downloads) arrived.catch(reject);
    signal.addEventListener("abort", () => reject(new EngineError("cancelled", "context canceled", { cause: signal.reason })), { once: true });
  });
  failed.catch(() => undefined);
  return failed;
}

/** Two pulls that need the same layer unpack it once. Called for the layers of an image from the bottom. */
async function applyShared(pulling: Fetching, layer: MissingLayer, download: Download): Promise<void> {
  const { ctx, signal } = pulling;
  await ctx.applying.run(layer.chain, signal, (shared) => applyLayer({ ...pulling, signal: shared }, layer, download));
}

async function applyLayer({ ctx, onEvent, signal }: Fetching, { descriptor, diffId, parent }: MissingLayer, download: Download): Promise<void> {
  // Asked for before anything is waited for: whoever this layer may have to wait for has asked before.
  using turn = ctx.layerThreads.turn();
  const below = parent === undefined ? undefined : ctx.applying.running(parent);
  const limit = await unpackLimit(ctx, descriptor);
  // Not compressed: what arrived is the layer's very archive. It is waited for, and taken over where the driver keeps archives.
  const plain = descriptor.digest === diffId && ctx.layers.driver.receive !== undefined;
  try {
    if (plain) await download.whole;
    const archive: ArchiveFile = { file: download, plain, verified: plain, limit, turn, onConsumed: reportExtraction(download, descriptor, onEvent) };
    await ctx.layers.apply(parent, archive, {
      expected: diffId,
      ...(below === undefined ? {} : { below }),
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    throw await truerError(error, download, descriptor);
  }
}

/** What was wrong with the bytes came first; that they could not be unpacked is a consequence. */
async function truerError(error: unknown, download: Download, { digest }: Descriptor): Promise<unknown> {
  if (isEngineError(error, "cancelled") || isEngineError(error, "storage")) return error;
  if (isEngineError(error, "corrupt") || !isEngineError(error)) {
    const verdict = await Promise.race([
      download.whole.then(
        () => undefined,
        (reason: unknown) => reason,
      ),
      undefined,
    ]);
    if (verdict !== undefined) return verdict;
  }
  if (!isEngineError(error)) return error;
  return new EngineError(error.code, `failed to register layer ${digest}: ${error.message}`, {
    cause: error,
    details: error.details,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  });
}

function checkLayerType(descriptor: Descriptor): void {
  const { mediaType, digest } = descriptor;
  if (mediaType !== "" && !isForeign(descriptor) && !/\.tar(\.gzip|\+gzip|\+zstd|\.zstd)?$/.test(mediaType)) {
    throw new EngineError("unsupported", `layer ${digest} is of type "${mediaType.slice(0, 100)}", which cannot be unpacked`);
  }
}

/** Progress is told each time so many more bytes are there, and at the ends. */
const progressStep = 512 * 1024;

function reportDownload({ digest, size }: Descriptor, download: Download, onEvent: Pulling["onEvent"]): void {
  let next = 0;
  download.onProgress((current) => {
    if (current < next && current < size) return;
    next = current + progressStep;
    onEvent({ kind: "layer", id: digest, state: "downloading", current, total: size });
    if (current === size) onEvent({ kind: "layer", id: digest, state: "verifying" });
  });
  download.whole.then(
    () => onEvent({ kind: "layer", id: digest, state: "downloaded" }),
    () => undefined,
  );
}

/** What was read of the compressed bytes is how far the unpacking is, once the download is whole. */
function reportExtraction(download: Download, { digest, size }: Descriptor, onEvent: Pulling["onEvent"]): (consumed: number) => void {
  let isWhole = false;
  download.whole.then(
    () => (isWhole = true),
    () => undefined,
  );
  let next = 0;
  return (current) => {
    if (!isWhole || (current < next && current !== size)) return;
    next = current + progressStep;
    onEvent({ kind: "layer", id: digest, state: "extracting", current, total: size });
  };
}

/** A layer of zeros may be a thousand times larger than its blob; one that is larger than all that is free, or than this, is a bomb. */
const bombRatio = 500;

/** How large a layer of so many compressed bytes may become. */
async function unpackLimit({ options, registries }: Pulling["ctx"], { digest, size }: Descriptor): Promise<ArchiveLimit> {
  const { bavail, bsize } = await statfs(options.dataRoot);
  const bytes = Math.min(Math.max(registries.config.maxUnpackedBytes, size * bombRatio), bavail * bsize);
  return { bytes, message: `layer ${digest} unpacks ${size} bytes to more than ${bytes}: it does not fit on the disk, or is made to fill it` };
}
