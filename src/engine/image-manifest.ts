import type { Digest } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { type ImageManifest, parseManifest } from "#core/manifest.ts";
import { chooseManifest, type parsePlatform } from "#image/mod.ts";

/** A manifest as it came. */
export interface ManifestBytes {
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  /** As it was declared. */
  readonly mediaType: string | undefined;
}

export interface ManifestWanted<T extends ManifestBytes> {
  readonly platform: ReturnType<typeof parsePlatform> | undefined;
  readonly fetch: (digest: Digest) => Promise<T>;
  /** For messages. */
  readonly nameOf: (digest: Digest) => string;
  /** Looks at an index before a choice is made of it. */
  readonly onIndex?: (manifests: readonly Descriptor[]) => void;
}

/**
 * From what a name leads to, an image's manifest or an index, to the manifest of the platform's image.
 * @throws EngineError "corrupt"; "unsupported" for an index within an index: it is allowed, and of no use; one level is what docker takes
 */
export async function manifestOf<T extends ManifestBytes>(
  top: T,
  { platform, fetch, nameOf, onIndex }: ManifestWanted<T>,
): Promise<{ readonly fetched: T; readonly manifest: ImageManifest }> {
  const parsed = parseManifest(top.bytes, top.mediaType, nameOf(top.digest));
  if (parsed.kind === "image") return { fetched: top, manifest: parsed };
  onIndex?.(parsed.manifests);
  const { digest, size } = chooseManifest(parsed.manifests, platform);
  const fetched = await fetch(digest);
  if (fetched.bytes.length !== size) throw new EngineError("corrupt", `${nameOf(digest)} has ${fetched.bytes.length} bytes, not ${size}`);
  const manifest = parseManifest(fetched.bytes, fetched.mediaType, nameOf(digest));
  if (manifest.kind === "index") throw new EngineError("unsupported", `${nameOf(digest)} is an index within an index`);
  return { fetched, manifest };
}
