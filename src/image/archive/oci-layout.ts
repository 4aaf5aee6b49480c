import { type Digest, isDigest } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import { parseReference, type Reference } from "#core/reference.ts";
import { maxConfigBytes } from "../image-config.ts";
import { hostPlatform, platformRank, type PlatformLike, printPlatform } from "../platform.ts";
import { type ArchiveImage, archiveImage, maxManifestBytes } from "./archive-image.ts";
import { readSpooled, type SpooledArchive, type SpooledFile } from "./spool.ts";

const indexTypes = new Set(["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"]);
const manifestTypes = new Set(["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"]);
const configTypes = new Set(["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"]);
/** index.json → index → index …: two occur. */
const maxDepth = 4;

interface Blob {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly platform: PlatformLike | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

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
function byName(descriptors: readonly Blob[]): Blob[][] {
  const images = descriptors.filter((descriptor) => !isAttestation(descriptor));
  const platforms = new Set(images.map((image) => (image.platform === undefined || nameKey(image) !== undefined ? undefined : printPlatform(image.platform))));
  if (images.length > 1 && platforms.size === images.length && !platforms.has(undefined)) return [images];
  const groups = new Map<string, Blob[]>();
  for (const [i, image] of images.entries()) {
    const key = nameKey(image) ?? `#${i}`;
    groups.set(key, [...(groups.get(key) ?? []), image]);
  }
  return [...groups.values()];
}

async function chooseManifest(archive: SpooledArchive, candidates: readonly Blob[], depth = 0): Promise<Blob> {
  if (depth > maxDepth) throw new EngineError("corrupt", `the archive's indexes are nested more than ${maxDepth} deep`);
  const flat: Blob[] = [];
  for (const candidate of candidates) {
    if (manifestTypes.has(candidate.mediaType)) flat.push(candidate);
    else if (indexTypes.has(candidate.mediaType)) {
      const nested = (await readIndex(blobFile(archive, candidate, "an index"), candidate.digest)).filter((descriptor) => !isAttestation(descriptor));
      // A saved image may come with the index of all platforms, and the blobs of one.
      const present = nested.filter((descriptor) => archive.find(blobPath(descriptor.digest)) !== undefined);
      if (present.length > 0 || candidates.length === 1) flat.push(await chooseManifest(archive, present.length > 0 ? present : nested, depth + 1));
    } else throw new EngineError("unsupported", `the archive holds something of media type "${candidate.mediaType.slice(0, 100)}", which is no image`);
  }
  return choosePlatform(flat);
}

function choosePlatform(manifests: readonly Blob[]): Blob {
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

async function readManifest(archive: SpooledArchive, descriptor: Blob, names: readonly Reference[]): Promise<ArchiveImage> {
  const what = `manifest ${descriptor.digest}`;
  const fields = new JsonFields(parseJson(await readSpooled(blobFile(archive, descriptor, "an image manifest"), maxManifestBytes), what), what);
  const config = parseDescriptor(fields.object("config")?.raw, `config of ${what}`);
  if (!configTypes.has(config.mediaType))
    throw new EngineError("unsupported", `${what} is not a container image: its config is "${config.mediaType.slice(0, 100)}"`);
  const layers = (fields.list("layers") ?? []).map((layer, i) => blobFile(archive, parseDescriptor(layer, `layer ${i} of ${what}`), `layer ${i}`));
  return archiveImage(await readSpooled(blobFile(archive, config, "the image's configuration"), maxConfigBytes), layers, names, undefined);
}

async function readIndex(file: SpooledFile, what: string): Promise<Blob[]> {
  const fields = new JsonFields(parseJson(await readSpooled(file, maxManifestBytes), what), what);
  return (fields.list("manifests") ?? []).map((item, i) => parseDescriptor(item, `entry ${i} of ${what}`));
}

function parseDescriptor(value: unknown, what: string): Blob {
  const fields = new JsonFields(value, what);
  const digest = fields.text("digest") ?? "";
  const size = fields.number("size");
  if (!isDigest(digest)) throw new EngineError("corrupt", `${what} has the invalid digest "${digest.slice(0, 100)}"`);
  if (size === undefined || !Number.isSafeInteger(size) || size < 0) throw new EngineError("corrupt", `${what} has no valid size`);
  const platform = fields.object("platform");
  return {
    mediaType: fields.text("mediaType") ?? "",
    digest,
    size,
    annotations: fields.map("annotations") ?? {},
    platform: platform && { os: platform.text("os") ?? "", architecture: platform.text("architecture") ?? "", variant: platform.text("variant") },
  };
}

/** The blob's file; its digest was verified as it arrived, under a name made of it. */
function blobFile(archive: SpooledArchive, blob: Blob, what: string): SpooledFile {
  const file = archive.get(blobPath(blob.digest), what);
  if (file.digest !== blob.digest) throw new EngineError("corrupt", `${what} in the archive has the digest ${file.digest}, expected ${blob.digest}`);
  if (file.size !== blob.size) throw new EngineError("corrupt", `${what} in the archive has ${file.size} bytes, expected ${blob.size}`);
  return file;
}

function blobPath(digest: Digest): string {
  return `blobs/${digest.replace(":", "/")}`;
}

/** Provenance and SBOMs, which BuildKit puts beside the image. */
function isAttestation({ annotations, platform }: Blob): boolean {
  return annotations["vnd.docker.reference.type"] !== undefined || (platform?.os === "unknown" && platform.architecture === "unknown");
}

function nameKey({ annotations }: Blob): string | undefined {
  return annotations["io.containerd.image.name"] ?? annotations["org.opencontainers.image.ref.name"];
}

/** containerd's annotation has the whole name. The standard one has it as well, or only a tag: of what, is not said, so that is no name. */
function nameOf({ annotations }: Blob): Reference[] {
  const full = annotations["io.containerd.image.name"];
  const short = annotations["org.opencontainers.image.ref.name"];
  if (full === undefined && (short === undefined || !/[:/]/.test(short))) return [];
  const name = parseReference(full ?? short ?? "");
  return name.digest !== undefined ? [] : [{ ...name, tag: name.tag ?? "latest" }];
}
