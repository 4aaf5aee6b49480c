import { type ImageID, isDigest } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { JsonFields, parseJson } from "#core/json.ts";
import { maxManifestBytes } from "#core/manifest.ts";
import { maxConfigBytes } from "../image-config.ts";
import { type ArchiveImage, archiveImage, taggedName } from "./archive-image.ts";
import { readSpooled, type SpooledArchive, type SpooledFile } from "./spool.ts";

/**
 * What `docker save` writes, of every age since 1.10: a `manifest.json` that names configs and layers by their paths in the archive. (`repositories`
 * and the `json` files beside the layers are for older Dockers yet, and ignored.)
 * @see https://github.com/moby/docker-image-spec/blob/main/v1.2.md#combined-image-json--filesystem-changeset-format
 */
export async function readDockerArchive(archive: SpooledArchive, manifest: SpooledFile): Promise<ArchiveImage[]> {
  const list = parseJson(await readSpooled(manifest, maxManifestBytes), "manifest.json");
  if (!Array.isArray(list)) throw new EngineError("corrupt", "manifest.json is not a list");
  if (list.length === 0) throw new EngineError("corrupt", "manifest.json names no image");
  const images: ArchiveImage[] = [];
  for (const [i, item] of list.entries()) images.push(await readImage(archive, new JsonFields(item, `image ${i} of manifest.json`)));
  return images;
}

async function readImage(archive: SpooledArchive, fields: JsonFields): Promise<ArchiveImage> {
  const path = fields.text("Config");
  if (path === undefined) throw new EngineError("corrupt", "manifest.json has an image without Config");
  const config = archive.get(path, "the image's configuration");
  verifyConfigName(path, config);
  const layers = (fields.texts("Layers") ?? []).map((layer, i) => archive.get(layer, `layer ${i}`));
  return archiveImage(await readSpooled(config, maxConfigBytes), layers, (fields.texts("RepoTags") ?? []).map(taggedName), parentOf(fields));
}

/** The config's name is its digest, in all writers that use digests at all: without this, a damaged config would be an image of its own. */
function verifyConfigName(path: string, config: SpooledFile): void {
  const claimed = /^(?:sha256:)?([0-9a-f]{64})(?:\.json)?$/.exec(path.slice(path.lastIndexOf("/") + 1))?.[1];
  if (claimed !== undefined && config.digest !== `sha256:${claimed}`) {
    throw new EngineError("corrupt", `"${path}" in the archive has the digest ${config.digest}: it is damaged`);
  }
}

function parentOf(fields: JsonFields): ImageID | undefined {
  const parent = fields.text("Parent");
  if (parent === undefined || parent === "") return undefined;
  if (!isDigest(parent)) throw new EngineError("corrupt", `manifest.json has the invalid parent "${parent.slice(0, 100)}"`);
  return parent;
}
