import type { Digest } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import { configTypes, isAttestation, isIndexType, isManifestType, maxManifestBytes, parseDescriptor } from "#core/manifest.ts";
import { parseReference, type Reference } from "#core/reference.ts";
import { maxConfigBytes } from "../image-config.ts";
import { hostPlatform, platformRank, printPlatform } from "../platform.ts";
import { type ArchiveImage, archiveImage } from "./archive-image.ts";
import { readSpooled, type SpooledArchive, type SpooledFile } from "./spool.ts";

/** index.json → index → index …: two occur. */
const maxDepth = 4;

/**
 * An OCI image layout: `index.json` names manifests, or indexes of the same image for several platforms, of which the host's is taken.
 * @see https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 */
export async function readOciLayout(archive: SpooledArchive, index: SpooledFile): Promise<ArchiveImage[]> {
  const images = new Map<Digest, ArchiveImage>();
  for (const group of byName(await readIndex(index, "index.json"))) {
    const manifest = await chooseManifest(archive, group);
    const names = group.flatMap(nameOf);
    const known = images.get(manifest.digest);
    images.set(manifest.digest, known === undefined ? await readManifest(archive, manifest, names) : { ...known, names: [...known.names, ...names] });
  }
  if (images.size === 0) throw new EngineError("corrupt", "index.json names no image");
  return [...images.values()];
}

/** Descriptors of one name are the same image for several platforms; those without a name stand alone, unless platforms tell all of them apart. */
function byName(descriptors: readonly Descriptor[]): Descriptor[][] {
  const images = descriptors.filter((descriptor) => !isAttestation(descriptor));
  const platforms = new Set(images.map((image) => (image.platform === undefined || nameKey(image) !== undefined ? undefined : printPlatform(image.platform))));
  if (images.length > 1 && platforms.size === images.length && !platforms.has(undefined)) return [images];
  const groups = new Map<string, Descriptor[]>();
  for (const [i, image] of images.entries()) {
    const key = nameKey(image) ?? `#${i}`;
    groups.set(key, [...(groups.get(key) ?? []), image]);
  }
  return [...groups.values()];
}

async function chooseManifest(archive: SpooledArchive, candidates: readonly Descriptor[], depth = 0): Promise<Descriptor> {
  if (depth > maxDepth) throw new EngineError("corrupt", `the archive's indexes are nested more than ${maxDepth} deep`);
  const flat: Descriptor[] = [];
  for (const candidate of candidates) {
    if (isManifestType(candidate.mediaType)) flat.push(candidate);
    else if (isIndexType(candidate.mediaType)) {
      const nested = (await readIndex(blobFile(archive, candidate, "an index"), candidate.digest)).filter((descriptor) => !isAttestation(descriptor));
      // A saved image may come with the index of all platforms, and the blobs of one.
      const present = nested.filter((descriptor) => archive.find(blobPath(descriptor.digest)) !== undefined);
      if (present.length > 0 || candidates.length === 1) flat.push(await chooseManifest(archive, present.length > 0 ? present : nested, depth + 1));
    } else throw new EngineError("unsupported", `the archive holds something of media type "${candidate.mediaType.slice(0, 100)}", which is no image`);
  }
  return choosePlatform(flat);
}

function choosePlatform(manifests: readonly Descriptor[]): Descriptor {
  const ranked = manifests.map((manifest) => ({ manifest, rank: platformRank(manifest.platform) })).sort((a, b) => b.rank - a.rank);
  const best = ranked[0];
  if (best === undefined) throw new EngineError("corrupt", "an index in the archive names no image");
  // Docker loads an image for another machine when it is the only one: emulation may be set up.
  if (best.rank === 0 && ranked.length > 1) {
    const there = manifests.map(({ platform }) => printPlatform(platform)).join(", ");
    throw new EngineError("not-found", `no image for ${printPlatform(hostPlatform)} in the archive: it has ${there}`);
  }
  return best.manifest;
}

async function readManifest(archive: SpooledArchive, descriptor: Descriptor, names: readonly Reference[]): Promise<ArchiveImage> {
  const what = `manifest ${descriptor.digest}`;
  const fields = new JsonFields(parseJson(await readSpooled(blobFile(archive, descriptor, "an image manifest"), maxManifestBytes), what), what);
  const config = parseDescriptor(fields.object("config")?.raw, `config of ${what}`);
  if (!configTypes.has(config.mediaType))
    throw new EngineError("unsupported", `${what} is not a container image: its config is "${config.mediaType.slice(0, 100)}"`);
  const layers = (fields.list("layers") ?? []).map((layer, i) => blobFile(archive, parseDescriptor(layer, `layer ${i} of ${what}`), `layer ${i}`));
  return archiveImage(await readSpooled(blobFile(archive, config, "the image's configuration"), maxConfigBytes), layers, names, undefined);
}

async function readIndex(file: SpooledFile, what: string): Promise<Descriptor[]> {
  const fields = new JsonFields(parseJson(await readSpooled(file, maxManifestBytes), what), what);
  return (fields.list("manifests") ?? []).map((item, i) => parseDescriptor(item, `entry ${i} of ${what}`));
}

/** The blob's file; its digest was verified as it arrived, under a name made of it, or is when it is taken in as a layer. */
function blobFile(archive: SpooledArchive, blob: Descriptor, what: string): SpooledFile {
  const file = archive.get(blobPath(blob.digest), what);
  const digest = file.digest ?? file.claimed;
  if (digest !== blob.digest) throw new EngineError("corrupt", `${what} in the archive has the digest ${digest}, expected ${blob.digest}`);
  if (file.size !== blob.size) throw new EngineError("corrupt", `${what} in the archive has ${file.size} bytes, expected ${blob.size}`);
  return file;
}

function blobPath(digest: Digest): string {
  return `blobs/${digest.replace(":", "/")}`;
}

function nameKey({ annotations }: Descriptor): string | undefined {
  return annotations?.["io.containerd.image.name"] ?? annotations?.["org.opencontainers.image.ref.name"];
}

/** containerd's annotation has the whole name. The standard one has it as well, or only a tag: of what, is not said, so that is no name. */
function nameOf({ annotations }: Descriptor): Reference[] {
  const full = annotations?.["io.containerd.image.name"];
  const short = annotations?.["org.opencontainers.image.ref.name"];
  if (full === undefined && (short === undefined || !/[:/]/.test(short))) return [];
  const name = parseReference(full ?? short ?? "");
  return name.digest !== undefined ? [] : [{ ...name, tag: name.tag ?? "latest" }];
}
