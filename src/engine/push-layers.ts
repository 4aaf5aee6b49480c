/** The layers of one image, several at a time. @module */
import type { ChainID, DiffID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { isForeign, mediaTypes } from "#core/manifest.ts";
import { parseReference, type Reference, repositoryOf } from "#core/reference.ts";
import type { RepositoryWriter } from "#registry/mod.ts";
import { Slots } from "#core/slots.ts";
import type { EngineContext } from "./context.ts";
import type { LayerBlob, LayerBlobs } from "./layer-blobs.ts";
import type { PushEvent } from "./mod.ts";

/** Where layers are sent to. */
export interface LayerTarget {
  readonly ctx: EngineContext;
  readonly writer: Pick<RepositoryWriter, "has" | "mount" | "put">;
  /** The repository that it writes to; undefined: it is no registry's, and nothing is asked of registries. */
  readonly target: Reference | undefined;
  readonly blobs: LayerBlobs;
  readonly onEvent: (event: PushEvent) => void;
  readonly signal: AbortSignal | undefined;
}

/** A layer that is to be sent. */
export interface PushedLayer {
  readonly diffId: DiffID;
  readonly chain: ChainID;
  /** Bytes of its files: how far the push is, is measured by it. */
  readonly size: number;
}

/** So many of the blobs that are known for a layer are asked for. */
const maxCandidates = 6;
const progressStep = 512 * 1024;

/** Sees to it that all layers are there; resolves with what they are there as. */
export async function pushLayers(pushing: LayerTarget, layers: readonly PushedLayer[]): Promise<Descriptor[]> {
  const { ctx, onEvent } = pushing;
  for (const { diffId } of layers.toReversed()) onEvent({ kind: "layer", id: diffId, state: "preparing" });
  const slots = new Slots(ctx.registries.config.maxUploads);
  const once = new Map<DiffID, Promise<Descriptor>>();
  const abort = new AbortController();
  const signal = pushing.signal === undefined ? abort.signal : AbortSignal.any([pushing.signal, abort.signal]);
  const results = await Promise.allSettled(
    layers.map((layer) => {
      // An empty layer may be there twice.
      const known = once.get(layer.diffId);
      if (known !== undefined) return known;
      const work = slots.run(() => pushLayer({ ...pushing, signal }, layer));
      once.set(layer.diffId, work);
      work.catch((error: unknown) => abort.abort(error));
      return work;
    }),
  );
  const failed = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
  if (failed.length > 0) throw failed.find((error) => !isEngineError(error, "cancelled")) ?? failed[0];
  return results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
}

async function pushLayer(pushing: LayerTarget, layer: PushedLayer): Promise<Descriptor> {
  const { blobs, onEvent, signal } = pushing;
  if (signal?.aborted) throw new EngineError("cancelled", "context canceled", { cause: signal.reason });
  const candidates = (await blobs.of(layer.diffId)).slice(0, maxCandidates);
  const foreign = candidates.find(({ descriptor }) => isForeign(descriptor));
  if (foreign !== undefined) {
    onEvent({ kind: "layer", id: layer.diffId, state: "exists" });
    return foreign.descriptor;
  }
  return (await findThere(pushing, layer, candidates)) ?? (await copyFromOrigin(pushing, layer, candidates)) ?? sendCompressed(pushing, layer);
}

/** What the registry has already, here or in another repository. */
async function findThere({ writer, target, onEvent }: LayerTarget, { diffId }: PushedLayer, candidates: readonly LayerBlob[]): Promise<Descriptor | undefined> {
  for (const { descriptor } of candidates) {
    if ((await writer.has(descriptor.digest)) === undefined) continue;
    onEvent({ kind: "layer", id: diffId, state: "exists" });
    return descriptor;
  }
  if (target === undefined) return undefined;
  for (const { descriptor, repositories } of candidates) {
    for (const repository of repositories) {
      const from = parseReference(repository);
      if (from.domain !== target.domain || from.path === target.path || !(await writer.mount(descriptor.digest, from.path))) continue;
      onEvent({ kind: "layer", id: diffId, state: "mounted", from: from.path });
      return descriptor;
    }
  }
  return undefined;
}

/**
 * A layer that was pulled is not kept compressed. For its digest to stay what it was, its bytes are fetched once more where they came from, as far as that goes without credentials;
 * otherwise the layer is compressed anew, and has a new digest.
 */
async function copyFromOrigin(pushing: LayerTarget, { diffId }: PushedLayer, candidates: readonly LayerBlob[]): Promise<Descriptor | undefined> {
  const { ctx, writer, target, onEvent, signal } = pushing;
  if (target === undefined) return undefined;
  for (const { descriptor, repositories } of candidates) {
    for (const repository of repositories) {
      const from = parseReference(repository);
      if (repositoryOf(from) === repositoryOf(target)) continue;
      try {
        await using session = await ctx.registries.open({ domain: from.domain, signal });
        const download = ctx.downloads.begin(descriptor, session.blobSource(from.path));
        try {
          await writer.put(
            { open: () => download.read(), digest: descriptor.digest },
            { clock: ctx.registries.clock, signal, onProgress: reporter(pushing, diffId, descriptor.size) },
          );
        } finally {
          await download.close({ keep: false });
        }
        onEvent({ kind: "layer", id: diffId, state: "pushed" });
        return descriptor;
      } catch (error) {
        if (!isEngineError(error) || error.code === "cancelled" || error.code === "storage" || signal?.aborted) throw error;
        ctx.log("debug", `layer ${diffId} is compressed anew: ${repository} does not give ${descriptor.digest}: ${error.message}`);
      }
    }
  }
  return undefined;
}

async function sendCompressed(pushing: LayerTarget, { diffId, chain, size }: PushedLayer): Promise<Descriptor> {
  const { ctx, writer, blobs, onEvent, signal } = pushing;
  onEvent({ kind: "layer", id: diffId, state: "pushing", current: 0, total: size });
  const report = reporter(pushing, diffId, size);
  const uploaded = await writer.put({ open: () => compressed(pushing, chain, report) }, { clock: ctx.registries.clock, signal });
  const descriptor: Descriptor = { mediaType: mediaTypes.dockerLayer, ...uploaded };
  await blobs.note(diffId, descriptor);
  onEvent({ kind: "layer", id: diffId, state: "pushed" });
  return descriptor;
}

function reporter({ onEvent }: LayerTarget, id: DiffID, total: number): (current: number) => void {
  let next = 0;
  return (current) => {
    if (current < next) return;
    next = current + progressStep;
    onEvent({ kind: "layer", id, state: "pushing", current, total });
  };
}

/** In a thread, which reads the layer by itself where that needs nobody to mount it. */
async function* compressed({ ctx, signal }: LayerTarget, chain: ChainID, report: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  using turn = ctx.layerThreads.turn();
  const layer = (await ctx.layers.source(chain)) ?? (() => ctx.layers.tar(chain));
  yield* turn.compress(layer, { signal, onConsumed: report });
}
