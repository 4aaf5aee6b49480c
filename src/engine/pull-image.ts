/** `pull`: manifest, config, and then all missing layers at once, unpacked bottom first while they arrive. @module */
import type { ChainID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { configTypes, type ImageManifest } from "#core/manifest.ts";
import { familiarString, formatReference, parseReference, type Reference, repositoryOf, withDefaultTag } from "#core/reference.ts";
import { maxConfigBytes, parseImageConfig, type ParsedConfig, parsePlatform, platformRank, printPlatform } from "#image/mod.ts";
import type { RegistrySession } from "#registry/mod.ts";
import type { EngineContext } from "./context.ts";
import { manifestOf } from "./image-manifest.ts";
import type { PullEvent, PullRequest } from "./mod.ts";
import { pullLayers } from "./pull-layers.ts";

export interface Pulling {
  readonly ctx: EngineContext;
  readonly session: RegistrySession;
  readonly onEvent: (event: PullEvent) => void;
  readonly signal: AbortSignal | undefined;
}

/** @throws EngineError in docker's words; what was fetched of an image that fails stays for the next try, and is swept after a while */
export async function pullImage(ctx: EngineContext, request: PullRequest, onEvent: (event: PullEvent) => void, signal?: AbortSignal): Promise<void> {
  const asked = parseReference(request.reference);
  const platform = request.platform ? parsePlatform(request.platform) : undefined;
  await using session = await ctx.registries.open({
    domain: asked.domain,
    credentials: request.credentials,
    signal,
    onWait: (why, ms) => onEvent({ kind: "note", why: ms === 0 ? why : `${why}; trying again in ${Math.ceil(ms / 1000)} s` }),
  });
  const pulling: Pulling = { ctx, session, onEvent, signal };
  try {
    if (request.allTags !== true) return await pullOne(pulling, withDefaultTag(asked), platform);
    for (const tag of await session.tags(asked.path)) await pullTagOfAll(pulling, { ...asked, tag, digest: undefined }, platform);
  } catch (error) {
    throw accessError(error, asked);
  }
}

/** Things that are no images lie beside them under tags of their own. */
async function pullTagOfAll(pulling: Pulling, reference: Reference, platform: ReturnType<typeof parsePlatform> | undefined): Promise<void> {
  try {
    await pullOne(pulling, reference, platform);
  } catch (error) {
    if (!isEngineError(error, "unsupported")) throw error;
    pulling.onEvent({ kind: "note", why: `${familiarString(reference)} is left out: ${error.message}` });
  }
}

async function pullOne(pulling: Pulling, reference: Reference, platform: ReturnType<typeof parsePlatform> | undefined): Promise<void> {
  const { ctx, session, onEvent } = pulling;
  const wanted = reference.digest ?? reference.tag ?? "latest";
  const top = await session.manifest(reference.path, wanted);
  onEvent({ kind: "begin", path: reference.path, tag: wanted });
  const { fetched, manifest } = await manifestOf(top, {
    platform,
    fetch: (digest) => session.manifest(reference.path, digest),
    nameOf: (digest) => `manifest ${digest} of ${familiarString(reference)}`,
  });
  const config = await fetchConfig(pulling, reference, manifest);
  if (platform !== undefined && platformRank({ ...config.config, variant: config.config.variant }, platform) === 0) {
    throw new EngineError(
      "not-found",
      `image with reference ${familiarString(reference)} was found but does not match the specified platform: wanted ${printPlatform(platform)}, actual: ${printPlatform(config.config)}`,
    );
  }
  const known = await ctx.images.find(formatReference(reference));
  await ctx.budget.makeRoom(async () => missingBytes(ctx, config.chainIds, manifest.layers));
  const byDigest = { ...reference, tag: undefined, digest: top.digest };
  // A name with a tag and a digest is one by digest: docker does not set the tag either.
  const names = reference.digest === undefined ? [reference, byDigest] : [byDigest];
  const image = await ctx.images.receive(
    { config, names, manifest: { bytes: fetched.bytes, digest: fetched.digest, mediaType: manifest.mediaType, repository: repositoryOf(reference) } },
    () => againIfStale(() => pullLayers(pulling, reference, config, manifest.layers)),
  );
  onEvent({ kind: "end", reference: familiarString(reference), digest: top.digest, id: image.id, newer: known?.id !== image.id });
}

/** What an earlier pull has left may be damaged (a crash of the machine): it has been thrown away when that was found out, and is fetched anew. */
async function againIfStale(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isEngineError(error, "corrupt") || error.details["resumed"] !== true) throw error;
    await work();
  }
}

async function fetchConfig({ session }: Pulling, reference: Reference, { config, layers }: ImageManifest): Promise<ParsedConfig> {
  if (!configTypes.has(config.mediaType)) {
    throw new EngineError(
      "unsupported",
      `${familiarString(reference)} is not a container image: its configuration is of type "${config.mediaType.slice(0, 100)}"`,
    );
  }
  const parsed = parseImageConfig(await session.smallBlob(reference.path, config, maxConfigBytes));
  if (parsed.diffIds.length !== layers.length) {
    throw new EngineError("corrupt", `${familiarString(reference)}: the manifest has ${layers.length} layers, the configuration ${parsed.diffIds.length}`);
  }
  return parsed;
}

async function missingBytes(ctx: EngineContext, chains: readonly ChainID[], layers: readonly Descriptor[]): Promise<number> {
  let bytes = 0;
  for (const [i, chain] of chains.entries()) if (!(await ctx.layers.has(chain))) bytes += layers[i]?.size ?? 0;
  return bytes;
}

/** A registry does not tell what is not there from what must not be seen; docker says so. */
function accessError(error: unknown, { domain, path }: Reference): unknown {
  if (!isEngineError(error, "denied") && !isEngineError(error, "unauthorized")) return error;
  if (error.details["status"] !== 401 && error.details["status"] !== 403) return error;
  const name = domain === "docker.io" ? path.replace(/^library\//, "") : `${domain}/${path}`;
  return new EngineError("not-found", `pull access denied for ${name}, repository does not exist or may require 'docker login': ${error.message}`, {
    cause: error,
    details: error.details,
  });
}
