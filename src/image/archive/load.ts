import { EngineError, isEngineError } from "#core/errors.ts";
import { Slots } from "#core/slots.ts";
import type { DiffID } from "#core/digest.ts";
import type { ArchiveFile } from "#unionfs/archive-file.ts";
import type { LayerStore } from "#unionfs/mod.ts";
import type { LayerThreads, LayerTurn } from "#unionfs/threads/layer-threads.ts";
import type { LoadEvent } from "../mod.ts";
import type { ArchiveImage } from "./archive-image.ts";
import { readDockerArchive } from "./docker-archive.ts";
import { readOciLayout } from "./oci-layout.ts";
import type { SpooledArchive, SpooledFile } from "./spool.ts";

/** Progress is told each time so many bytes have been read, as docker does. */
const progressStep = 512 * 1024;

/** The images of an archive, whichever of the formats it is in. Nothing has been stored yet. */
export async function readArchive(archive: SpooledArchive): Promise<ArchiveImage[]> {
  // Docker 25 and later write both: manifest.json says of more images what they are called.
  const manifest = archive.find("manifest.json");
  if (manifest !== undefined) return readDockerArchive(archive, manifest);
  const index = archive.find("index.json");
  if (index !== undefined) return readOciLayout(archive, index);
  throw new EngineError("invalid", "this is no image archive: it has neither a manifest.json (docker save) nor an index.json (OCI layout)", {
    hint: "a tar of a root directory is for wherry import",
  });
}

/** Where layers go, and the threads that take them in. */
export interface LoadTarget {
  readonly layers: LayerStore;
  readonly threads: LayerThreads | undefined;
}

/** How many layers of an image are unpacked at once: what files take to be made is waiting in part. */
const layersAtOnce = 3;

/**
 * Applies an image's layers, as many at once as the storage driver allows. Each is verified against the config, also when it is there already. When one cannot be
 * applied, the others are called off.
 */
export async function applyLayers(
  image: ArchiveImage,
  target: LoadTarget,
  onEvent: (event: LoadEvent) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const abort = new AbortController();
  const loading: Loading = { ...target, image, onEvent, signal: signal === undefined ? abort.signal : AbortSignal.any([signal, abort.signal]) };
  const slots = new Slots(layersAtOnce);
  let failure: { readonly error: unknown } | undefined;
  let below: Promise<void> = Promise.resolve();
  const applied: Promise<void>[] = [];
  for (const i of image.layers.keys()) {
    const before = below;
    // First come, first served: the lowest one that is left is always at work, and waits for nobody.
    below = slots.run(() => applyLayer(loading, i, before));
    below.catch((error: unknown) => {
      failure ??= { error };
      abort.abort(error);
    });
    applied.push(below);
  }
  await Promise.allSettled(applied);
  if (failure !== undefined) throw failure.error;
}

interface Loading extends LoadTarget {
  readonly image: ArchiveImage;
  readonly onEvent: (event: LoadEvent) => void;
  readonly signal: AbortSignal;
}

async function applyLayer({ image, layers, threads, onEvent, signal }: Loading, i: number, below: Promise<void>): Promise<void> {
  // Asked for before anything is waited for: whoever this layer may have to wait for has asked before.
  using turn = threads?.turn();
  const file = image.layers[i]!;
  const expected = image.config.diffIds[i]!;
  const report = (await layers.has(image.config.chainIds[i]!)) ? undefined : reporter(expected, file, onEvent);
  try {
    await layers.apply(image.config.chainIds[i - 1], archiveFile(file, expected, turn, report), { expected, below, signal });
  } catch (error) {
    throw layerError(error, i, file);
  }
}

function archiveFile(file: SpooledFile, expected: DiffID, turn: LayerTurn | undefined, onConsumed: ((bytes: number) => void) | undefined): ArchiveFile {
  const { path, size, digest, claimed } = file;
  // Its name is one of the digests that it would have to have.
  if (digest === undefined && claimed !== undefined && claimed !== expected)
    throw new EngineError("corrupt", `it is not compressed, and named by the digest ${claimed}, but the image expects ${expected}`);
  return {
    file: { path, received: size, whole: Promise.resolve(), onProgress: () => undefined },
    plain: digest === undefined || digest === expected,
    verified: digest === expected,
    turn,
    onConsumed,
  };
}

function reporter(id: string, file: SpooledFile, onEvent: (event: LoadEvent) => void): (bytes: number) => void {
  let next = 0;
  return (current) => {
    if (current < next && current < file.size) return;
    next = current + progressStep;
    onEvent({ kind: "layer", id, current, total: file.size });
  };
}

/** Says which layer, in front of what is wrong with it. */
function layerError(error: unknown, i: number, file: SpooledFile): unknown {
  if (!isEngineError(error) || error.code === "cancelled") return error;
  const { code, message, hint, details } = error;
  return new EngineError(code, `layer ${i} ("${file.name}"): ${message}`, { ...(hint === undefined ? {} : { hint }), cause: error, details });
}
