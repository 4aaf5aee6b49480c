/** From one registry to another, byte for byte and without unpacking: all platforms, attestations, and the signatures that lie beside an image under tags of its digest. @module */
import { type Digest, hexOf } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { isForeign, parseManifest } from "#core/manifest.ts";
import { familiarString, parseReference, type Reference, withDefaultTag } from "#core/reference.ts";
import { type FetchedManifest, type RegistrySession, RepositoryWriter } from "#registry/mod.ts";
import type { EngineContext } from "./context.ts";
import type { CopyRequest, PushEvent } from "./mod.ts";

/** index → index → manifest: more does not occur. */
const maxDepth = 4;
/** cosign keeps these beside an image. @see https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md */
const companions = ["sig", "att", "sbom"] as const;

interface Copying {
  readonly ctx: EngineContext;
  readonly source: RegistrySession;
  readonly writer: RepositoryWriter;
  readonly from: Reference;
  readonly to: Reference;
  readonly onEvent: (event: PushEvent) => void;
  readonly signal: AbortSignal | undefined;
}

export async function copyImage(ctx: EngineContext, request: CopyRequest, onEvent: (event: PushEvent) => void, signal?: AbortSignal): Promise<void> {
  const [from, to] = [withDefaultTag(parseReference(request.from)), withDefaultTag(parseReference(request.to))];
  if (to.digest !== undefined) throw new EngineError("invalid", "cannot copy to a digest reference");
  const onWait = (why: string, ms: number) => onEvent({ kind: "note", why: `${why}; trying again in ${Math.ceil(ms / 1000)} s` });
  await using source = await ctx.registries.open({ domain: from.domain, credentials: request.fromCredentials, signal, onWait });
  await using target = await ctx.registries.open({ domain: to.domain, credentials: request.toCredentials, signal, onWait, withoutMirrors: true });
  const copying: Copying = { ctx, source, writer: new RepositoryWriter(target, to.path), from, to, onEvent, signal };
  const top = await source.manifest(from.path, from.digest ?? from.tag ?? "latest");
  await copyTree(copying, top, to.tag ?? "latest", 0);
  for (const kind of companions) await copyCompanion(copying, `sha256-${hexOf(top.digest)}.${kind}`);
  await copyReferrers(copying, target, top.digest);
  onEvent({ kind: "end", tag: to.tag ?? "latest", digest: top.digest, size: top.bytes.byteLength });
}

/**
 * What says that it is about this image. Registries that keep no account of it have an index of it under a tag (distribution-spec "Referrers Tag Schema"), which is what
 * `target` gets as well when it is such a one.
 */
async function copyReferrers(copying: Copying, target: RegistrySession, digest: Digest): Promise<void> {
  const { source, writer, from, to } = copying;
  const tag = `sha256-${hexOf(digest)}`;
  const byTag = async () => ((await source.headManifest(from.path, tag)) === undefined ? undefined : source.manifest(from.path, tag));
  const index = (await source.referrers(from.path, digest)) ?? (await byTag());
  if (index === undefined) return;
  const parsed = parseManifest(index.bytes, index.mediaType, `the referrers of ${digest}`);
  if (parsed.kind !== "index" || parsed.manifests.length === 0) return;
  for (const one of parsed.manifests) await copyTree(copying, await source.manifest(from.path, one.digest), one.digest, 1);
  if ((await target.referrers(to.path, digest)) === undefined) await writer.putManifest(index.bytes, parsed.mediaType, tag, index.digest);
}

async function copyCompanion(copying: Copying, tag: string): Promise<void> {
  const { source, from } = copying;
  if ((await source.headManifest(from.path, tag)) === undefined) return;
  await copyTree(copying, await source.manifest(from.path, tag), tag, 0);
}

/** What a manifest names goes before it: registries refuse what names what they have not. */
async function copyTree(copying: Copying, { bytes, digest, mediaType }: FetchedManifest, reference: string, depth: number): Promise<void> {
  const { source, writer, from } = copying;
  if (depth > maxDepth) throw new EngineError("corrupt", `${familiarString(from)}: indexes are nested more than ${maxDepth} deep`);
  const parsed = parseManifest(bytes, mediaType, `manifest ${digest} of ${familiarString(from)}`);
  if (parsed.kind === "index") {
    for (const child of parsed.manifests) await copyTree(copying, await source.manifest(from.path, child.digest), child.digest, depth + 1);
  } else {
    for (const blob of uniqueBlobs([parsed.config, ...parsed.layers])) await copyBlob(copying, blob);
  }
  await writer.putManifest(bytes, parsed.mediaType, reference, digest);
}

function uniqueBlobs(blobs: readonly Descriptor[]): Descriptor[] {
  return [...new Map(blobs.map((blob): [Digest, Descriptor] => [blob.digest, blob])).values()].filter((blob) => !isForeign(blob));
}

async function copyBlob({ ctx, source, writer, from, to, onEvent, signal }: Copying, descriptor: Descriptor): Promise<void> {
  const { digest, size } = descriptor;
  if ((await writer.has(digest)) !== undefined) return onEvent({ kind: "layer", id: digest, state: "exists" });
  if (from.domain === to.domain && from.path !== to.path && (await writer.mount(digest, from.path))) {
    return onEvent({ kind: "layer", id: digest, state: "mounted", from: from.path });
  }
  const download = ctx.downloads.begin(descriptor, source.blobSource(from.path));
  let keep = true;
  try {
    const onProgress = (current: number) => onEvent({ kind: "layer", id: digest, state: "pushing", current, total: size });
    await writer.put({ open: () => download.read(signal), digest }, { clock: ctx.registries.clock, signal, onProgress });
    keep = false;
  } catch (error) {
    keep = !isEngineError(error, "corrupt");
    throw error;
  } finally {
    await download.close({ keep });
  }
  onEvent({ kind: "layer", id: digest, state: "pushed" });
}
