/**
 * Manifests and indexes in OCI's and docker's formats, checked where they come in. The two differ in names only.
 * @module
 * @see https://github.com/opencontainers/image-spec/blob/main/manifest.md
 * @see https://github.com/distribution/distribution/blob/main/docs/content/spec/manifest-v2-2.md
 */
import { isDigest } from "./digest.ts";
import { EngineError } from "./errors.ts";
import type { Descriptor, Platform } from "./image-spec.ts";
import { JsonFields, parseJson } from "./json.ts";

export const mediaTypes = {
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociLayer: "application/vnd.oci.image.layer.v1.tar",
  dockerList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
  dockerLayer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
  dockerForeignLayer: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
} as const;

/** What an image's config may call itself. */
export const configTypes: ReadonlySet<string> = new Set([mediaTypes.ociConfig, mediaTypes.dockerConfig]);

/** Manifests and indexes are small. Bytes. */
export const maxManifestBytes: number = 4 * 1024 * 1024;
/** Larger than any disk: what claims to be larger is a mistake or an attack. Bytes. */
const maxBlobBytes = 2 ** 50;

/** One image: what to run and the layers it is made of. */
export interface ImageManifest {
  readonly kind: "image";
  readonly mediaType: string;
  readonly config: Descriptor;
  /** Bottom first. */
  readonly layers: readonly Descriptor[];
}

/** The same image for several platforms. */
export interface ManifestIndex {
  readonly kind: "index";
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
}

const indexTypes: ReadonlySet<string> = new Set([mediaTypes.ociIndex, mediaTypes.dockerList]);
const manifestTypes: ReadonlySet<string> = new Set([mediaTypes.ociManifest, mediaTypes.dockerManifest]);

export function isIndexType(mediaType: string): boolean {
  return indexTypes.has(mediaType);
}

export function isManifestType(mediaType: string): boolean {
  return manifestTypes.has(mediaType);
}

/**
 * Parses a manifest or an index. `declared` is the media type that came with it; what it says of itself must agree (a document that could be read as both an index and a manifest
 * is an attack: CVE-2021-41190).
 * @throws EngineError "corrupt", "unsupported" (schema 1, things that are no images)
 */
export function parseManifest(bytes: Uint8Array, declared: string | undefined, what: string): ImageManifest | ManifestIndex {
  if (bytes.byteLength > maxManifestBytes) throw new EngineError("corrupt", `${what} has ${bytes.byteLength} bytes; at most ${maxManifestBytes} are accepted`);
  const fields = new JsonFields(parseJson(bytes, what), what);
  const own = fields.text("mediaType");
  const version = fields.number("schemaVersion");
  if (version === 1 || /^application\/vnd\.docker\.distribution\.manifest\.v1\+/.test(declared ?? "")) throw schema1(what);
  if (version !== 2) throw new EngineError("corrupt", `${what} has no schemaVersion 2`);
  const known = (type: string | undefined) => (type !== undefined && (isIndexType(type) || isManifestType(type)) ? type : undefined);
  const mediaType = known(own) ?? known(declared) ?? (own === undefined ? guessType(fields) : undefined);
  if (mediaType === undefined) {
    throw new EngineError("unsupported", `${what} has the media type "${(own ?? declared ?? "").slice(0, 100)}", which is neither a manifest nor an index`);
  }
  if (known(own) !== undefined && known(declared) !== undefined && own !== declared) {
    throw new EngineError("corrupt", `${what} calls itself ${own}, but came as ${declared}`);
  }
  if (fields.list("manifests") !== undefined && (fields.list("layers") !== undefined || fields.object("config") !== undefined)) {
    throw new EngineError("corrupt", `${what} is an index and a manifest at once`);
  }
  return isIndexType(mediaType) ? parseIndex(fields, mediaType, what) : parseImage(fields, mediaType, what);
}

function parseIndex(fields: JsonFields, mediaType: string, what: string): ManifestIndex {
  return { kind: "index", mediaType, manifests: (fields.list("manifests") ?? []).map((item, i) => parseDescriptor(item, `entry ${i} of ${what}`)) };
}

function parseImage(fields: JsonFields, mediaType: string, what: string): ImageManifest {
  const config = parseDescriptor(fields.object("config")?.raw, `config of ${what}`);
  return { kind: "image", mediaType, config, layers: (fields.list("layers") ?? []).map((layer, i) => parseDescriptor(layer, `layer ${i} of ${what}`)) };
}

/** OCI lets both leave their type out. */
function guessType(fields: JsonFields): string | undefined {
  if (fields.list("manifests") !== undefined) return mediaTypes.ociIndex;
  return fields.object("config") === undefined ? undefined : mediaTypes.ociManifest;
}

function schema1(what: string): EngineError {
  return new EngineError("unsupported", `${what} is of version 2, schema 1, which is not supported: it names no image configuration`, {
    hint: "push the image again with docker 1.10 or later, or convert it: skopeo copy --format v2s2",
  });
}

/** A reference to a blob. EngineError corrupt. */
export function parseDescriptor(value: unknown, what: string): Descriptor {
  const fields = new JsonFields(value, what);
  const digest = fields.text("digest") ?? "";
  const size = fields.number("size");
  if (!isDigest(digest)) {
    const algorithm = /^([a-z0-9+._-]{1,32}):/.exec(digest)?.[1];
    if (algorithm !== undefined && algorithm !== "sha256")
      throw new EngineError("unsupported", `${what} has a digest of the unsupported algorithm ${algorithm}: only sha256 is`);
    throw new EngineError("corrupt", `${what} has the invalid digest "${digest.slice(0, 100)}"`);
  }
  if (size === undefined || !Number.isSafeInteger(size) || size < 0 || size > maxBlobBytes) throw new EngineError("corrupt", `${what} has no valid size`);
  const platform = parsePlatformObject(fields.object("platform"));
  const urls = fields.texts("urls");
  const annotations = fields.map("annotations");
  return {
    mediaType: fields.text("mediaType") ?? "",
    digest,
    size,
    ...(urls === undefined ? {} : { urls }),
    ...(annotations === undefined ? {} : { annotations }),
    ...(platform === undefined ? {} : { platform }),
  };
}

function parsePlatformObject(fields: JsonFields | undefined): Platform | undefined {
  if (fields === undefined) return undefined;
  const [variant, osVersion] = [fields.text("variant"), fields.text("os.version")];
  return {
    os: fields.text("os") ?? "",
    architecture: fields.text("architecture") ?? "",
    ...(variant === undefined ? {} : { variant }),
    ...(osVersion === undefined ? {} : { "os.version": osVersion }),
  };
}

/** Provenance and SBOMs, which BuildKit puts beside the image. */
export function isAttestation({ annotations, platform }: Descriptor): boolean {
  return annotations?.["vnd.docker.reference.type"] !== undefined || (platform?.os === "unknown" && platform.architecture === "unknown");
}

/** Layers (of Windows) that lie elsewhere, and may not be passed on. */
export function isForeign({ mediaType }: Descriptor): boolean {
  return mediaType === mediaTypes.dockerForeignLayer || mediaType.includes(".nondistributable.");
}
