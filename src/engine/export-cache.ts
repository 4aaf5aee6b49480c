/** A build's steps as a cache for builds elsewhere: in a registry, in a place of blobs, or in the image itself. @module */
import { cacheConfigType, describeCache, inlineCacheField, portableKey, type PortableStep } from "#build/cache/portable.ts";
import type { SolvedStep } from "#build/solver/build-request.ts";
import { type Report, reportTask } from "#build/solver/progress.ts";
import { type DiffID, type Digest, digestOf } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { isObject, parseJson } from "#core/json.ts";
import { mediaTypes } from "#core/manifest.ts";
import { parseReference, withDefaultTag } from "#core/reference.ts";
import { RepositoryWriter } from "#registry/mod.ts";
import type { EngineContext } from "./context.ts";
import { LayerBlobs } from "./layer-blobs.ts";
import { LayoutDirectory } from "./layout-directory.ts";
import type { BlobPlace, BuildOptions, CacheTo } from "./mod.ts";
import { ociTypeOf } from "./push-image.ts";
import { type LayerTarget, type PushedLayer, pushLayers } from "./push-layers.ts";

interface Exporting {
  readonly ctx: EngineContext;
  readonly steps: readonly SolvedStep[];
  readonly credentials: BuildOptions["credentials"];
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** The image's config with the cache of its own steps in it. */
export async function withInlineCache(config: Uint8Array, steps: readonly SolvedStep[]): Promise<Uint8Array> {
  const own = steps.filter(({ inImage }) => inImage);
  const json = parseJson(config, "the image's configuration");
  if (!isObject(json)) throw new EngineError("internal", "the image's configuration is no object");
  return Buffer.from(JSON.stringify({ ...json, [inlineCacheField]: describeCache(await portable(own), [...layersOf(own).keys()]) }));
}

/** @throws EngineError, unless it may fail */
export async function exportCache(to: CacheTo, exporting: Exporting): Promise<Descriptor | undefined> {
  const name = to.kind === "registry" ? "exporting cache to registry" : "exporting cache to client directory";
  try {
    return await reportTask(exporting.report, name, () => {
      if (to.kind === "registry") return toRegistry(to.reference, to.mode, exporting);
      return toPlace(to.kind === "place" ? to.place : new LayoutDirectory(to.path, to.wanted), to.mode, exporting);
    });
  } catch (error) {
    if (!to.mayFail || !isEngineError(error) || error.code === "cancelled") throw error;
    return undefined;
  }
}

async function toRegistry(reference: string, mode: CacheTo["mode"], exporting: Exporting): Promise<Descriptor> {
  const { ctx, credentials, signal } = exporting;
  const target = withDefaultTag(parseReference(reference));
  if (target.digest !== undefined) throw new EngineError("invalid", `a cache cannot be put under a digest: ${reference}`);
  await using session = await ctx.registries.open({ domain: target.domain, credentials: await credentials(target.domain), signal, withoutMirrors: true });
  const writer = new RepositoryWriter(session, target.path);
  const { config, manifest, descriptor } = await written(mode, exporting, { writer, target });
  await writer.putSmall(config, digestOf(config));
  await writer.putManifest(manifest, descriptor.mediaType, target.tag ?? "latest", descriptor.digest);
  return descriptor;
}

function toPlace(place: BlobPlace, mode: CacheTo["mode"], exporting: Exporting): Promise<Descriptor> {
  const work = () => putInPlace(place, mode, exporting);
  return place.collecting === undefined ? work() : place.collecting(work);
}

async function putInPlace(place: BlobPlace, mode: CacheTo["mode"], exporting: Exporting): Promise<Descriptor> {
  const { signal } = exporting;
  const writer: LayerTarget["writer"] = {
    has: (digest) => place.size(digest),
    mount: async () => false,
    put: async ({ open }) => place.put(open(), signal),
  };
  const { config, manifest, descriptor } = await written(mode, exporting, { writer, target: undefined });
  for (const bytes of [config, manifest]) if ((await place.size(digestOf(bytes))) === undefined) await place.put(bytes, signal);
  await place.setManifest(descriptor);
  return descriptor;
}

/** Writes the layers; what is to be written last. */
async function written(
  mode: CacheTo["mode"],
  { ctx, steps, signal }: Exporting,
  to: Pick<LayerTarget, "writer" | "target">,
): Promise<{ readonly config: Uint8Array; readonly manifest: Uint8Array; readonly descriptor: Descriptor }> {
  const chosen = mode === "max" ? steps : steps.filter(({ inImage }) => inImage);
  const layers = layersOf(chosen);
  const blobs = await pushLayers({ ctx, blobs: await LayerBlobs.open(ctx), onEvent: () => undefined, signal, ...to }, [...layers.values()]);
  const config = encoded(describeCache(await portable(chosen), [...layers.keys()]));
  const manifest = encoded({
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: { mediaType: cacheConfigType, digest: digestOf(config), size: config.byteLength },
    layers: blobs.map(({ mediaType, digest, size }) => ({ mediaType: ociTypeOf(mediaType), digest, size })),
  });
  const digest: Digest = digestOf(manifest);
  return { config, manifest, descriptor: { mediaType: mediaTypes.ociManifest, digest, size: manifest.byteLength } };
}

/** In the order of the image, each once. */
function layersOf(steps: readonly SolvedStep[]): Map<DiffID, PushedLayer> {
  return new Map(
    steps.flatMap(({ layer }) => (layer === undefined ? [] : [[layer.diffId, { diffId: layer.diffId, chain: layer.chainId, size: layer.size }] as const])),
  );
}

async function portable(steps: readonly SolvedStep[]): Promise<PortableStep[]> {
  return Promise.all(steps.map(async ({ inputs, created, layer }) => ({ key: await portableKey(inputs), created, diffId: layer?.diffId })));
}

function encoded(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}
