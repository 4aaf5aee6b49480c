import { EngineError } from "#core/errors.ts";
import type { Descriptor } from "#core/image-spec.ts";
import { isAttestation } from "#core/manifest.ts";
import { hostPlatform, type PlatformLike, platformRank, printPlatform } from "./platform.ts";

/**
 * Of an index, the manifest for a platform, by docker's fallbacks over variants; attestations are not for running.
 * @throws EngineError not-found in docker's words
 */
export function chooseManifest(manifests: readonly Descriptor[], wanted: PlatformLike = hostPlatform): Descriptor {
  const images = manifests.filter((descriptor) => !isAttestation(descriptor));
  const [best] = images.map((manifest) => ({ manifest, rank: platformRank(manifest.platform, wanted) })).sort((a, b) => b.rank - a.rank);
  if (best !== undefined && best.rank > 0) return best.manifest;
  const there = [...new Set(images.map(({ platform }) => printPlatform(platform)))].slice(0, 20).join(", ");
  throw new EngineError("not-found", `no matching manifest for ${printPlatform(wanted)} in the manifest list entries`, {
    hint: there === "" ? "the list names no image at all" : `there are: ${there}`,
  });
}
