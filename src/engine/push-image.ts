/** `push`: what the registry has is not sent; what another of its repositories has is mounted; what was pulled keeps its digest. @module */
import { digestOf } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { mediaTypes } from "#core/manifest.ts";
import { familiarString, formatReference, parseReference, type Reference, repositoryOf, withDefaultTag } from "#core/reference.ts";
import { type Image, parseImageConfig, parsePlatform, platformRank, printPlatform } from "#image/mod.ts";
import { RepositoryWriter } from "#registry/mod.ts";
import type { EngineContext } from "./context.ts";
import { LayerBlobs } from "./layer-blobs.ts";
import type { PushEvent, PushRequest } from "./mod.ts";
import { type LayerTarget, pushLayers } from "./push-layers.ts";

interface Pushing extends LayerTarget {
  readonly writer: RepositoryWriter;
  /** The repository that is pushed to; its tag does not matter. */
  readonly target: Reference;
}

/** @throws EngineError in docker's words */
export async function pushImage(ctx: EngineContext, request: PushRequest, onEvent: (event: PushEvent) => void, signal?: AbortSignal): Promise<void> {
  const target = parseReference(request.reference);
  if (target.digest !== undefined) throw new EngineError("invalid", "cannot push a digest reference");
  onEvent({ kind: "begin", repository: repositoryOf(target) });
  const images = await imagesToPush(ctx, target, request);
  await using session = await ctx.registries.open({
    domain: target.domain,
    credentials: request.credentials,
    signal,
    withoutMirrors: true,
    onWait: (why, ms) => onEvent({ kind: "note", why: `${why}; trying again in ${Math.ceil(ms / 1000)} s` }),
  });
  const pushing: Pushing = { ctx, writer: new RepositoryWriter(session, target.path), target, blobs: await LayerBlobs.open(ctx), onEvent, signal };
  for (const { image, tag } of images) await pushOne(pushing, image, tag);
}

async function imagesToPush(
  ctx: EngineContext,
  target: Reference,
  { allTags, platform }: PushRequest,
): Promise<{ readonly image: Image; readonly tag: string }[]> {
  const repository = repositoryOf(target);
  const names = allTags === true ? await tagsOf(ctx, repository) : [withDefaultTag(target)];
  if (names.length === 0) throw new EngineError("not-found", `An image does not exist locally with the tag: ${familiarString({ ...target, tag: undefined })}`);
  const images: { image: Image; tag: string }[] = [];
  for (const name of names) {
    const image = await ctx.images.find(formatReference(name));
    if (image === undefined) {
      const known = (await tagsOf(ctx, repository)).length > 0;
      const text = familiarString({ ...target, tag: undefined });
      throw new EngineError("not-found", known ? `tag does not exist: ${familiarString(name)}` : `An image does not exist locally with the tag: ${text}`);
    }
    if (platform && platformRank({ ...image.config, variant: image.config.variant }, parsePlatform(platform)) === 0) {
      throw new EngineError(
        "not-found",
        `image with reference ${familiarString(name)} was found but does not provide the specified platform (${printPlatform(parsePlatform(platform))})`,
      );
    }
    images.push({ image, tag: name.tag ?? "latest" });
  }
  return images;
}

async function tagsOf(ctx: EngineContext, repository: string): Promise<Reference[]> {
  const all = (await ctx.images.list()).flatMap(({ repoTags }) => repoTags.map(parseReference));
  return all.filter((name) => repositoryOf(name) === repository).sort((a, b) => (formatReference(a) < formatReference(b) ? -1 : 1));
}

async function pushOne(pushing: Pushing, image: Image, tag: string): Promise<void> {
  const { ctx, writer, target, onEvent } = pushing;
  const layers = await pushLayers(
    pushing,
    image.diffIds.map((diffId, i) => ({ diffId, chain: image.chainIds[i]!, size: image.layerSizes[i] ?? 0 })),
  );
  await writer.putSmall(image.rawConfig, image.id);
  const manifest = await manifestFor(pushing, image, layers);
  const digest = digestOf(manifest.bytes);
  await writer.putManifest(manifest.bytes, manifest.mediaType, tag, digest);
  try {
    await ctx.images.receive(
      {
        config: parseImageConfig(image.rawConfig),
        names: [{ ...target, tag: undefined, digest }],
        manifest: { ...manifest, digest, repository: repositoryOf(target) },
      },
      async () => undefined,
    );
  } catch (error) {
    // Removed while it was pushed: then nobody needs to know its digest.
    if (!isEngineError(error, "not-found")) throw error;
  }
  onEvent({ kind: "end", tag, digest, size: manifest.bytes.byteLength });
}

/** The very manifest that the image came with when all its blobs are the same ones; else docker's. */
async function manifestFor({ ctx }: Pushing, image: Image, layers: readonly Descriptor[]): Promise<{ readonly bytes: Uint8Array; readonly mediaType: string }> {
  for (const { bytes, mediaType, layers: own } of await LayerBlobs.manifestsOf(ctx, image)) {
    if (own.length === layers.length && own.every(({ digest }, i) => digest === layers[i]!.digest)) return { bytes, mediaType };
  }
  // zstd and plain layers have no name in docker's format.
  const oci = layers.some(({ mediaType }) => mediaType !== mediaTypes.dockerLayer && mediaType !== mediaTypes.dockerForeignLayer && !isOciGzip(mediaType));
  const mediaType = oci ? mediaTypes.ociManifest : mediaTypes.dockerManifest;
  const config = { mediaType: oci ? mediaTypes.ociConfig : mediaTypes.dockerConfig, size: image.rawConfig.byteLength, digest: image.id };
  const described = layers.map(({ mediaType: type, size, digest, urls }) => ({
    mediaType: oci ? ociTypeOf(type) : isOciGzip(type) ? mediaTypes.dockerLayer : type,
    size,
    digest,
    ...(urls === undefined ? {} : { urls }),
  }));
  // Field for field and blank for blank as docker writes it: the same layers give the same digest.
  return { bytes: Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers: described }, undefined, 3)), mediaType };
}

function isOciGzip(mediaType: string): boolean {
  return mediaType === `${mediaTypes.ociLayer}+gzip`;
}

/** What OCI calls a layer of docker's. */
export function ociTypeOf(mediaType: string): string {
  return mediaType === mediaTypes.dockerLayer ? `${mediaTypes.ociLayer}+gzip` : mediaType;
}
