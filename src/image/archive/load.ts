import type { ChainID } from "#core/digest.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { LayerStore } from "#unionfs/mod.ts";
import { decompress } from "#unionfs/tar/decompress.ts";
import type { LoadEvent } from "../mod.ts";
import type { ArchiveImage } from "./archive-image.ts";
import { readDockerArchive } from "./docker-archive.ts";
import { readOciLayout } from "./oci-layout.ts";
import { type SpooledArchive, type SpooledFile, streamSpooled } from "./spool.ts";

/** Progress is told each time so many bytes have been read, as docker does. */
const progressStep = 512 * 1024;

/** The images of an archive, whichever of the formats it is in. Nothing has been stored yet. */
export async function readArchive(archive: SpooledArchive): Promise<ArchiveImage[]> {
  // Docker 25 and later write both: manifest.json says of more images what they are called.
  const manifest = archive.find("manifest.json");
  if (manifest !== undefined) return readDockerArchive(archive, manifest);
  const index = archive.find("index.json");
  if (index !== undefined) return readOciLayout(archive, index);
  throw new EngineError("invalid", "this is no image archive: it has neither a manifest.json (docker save) nor an index.json (OCI layout)", {
    hint: "a tar of a root directory is for wherry import",
  });
}

/** Applies an image's layers, bottom first. Each is verified against the config, also when it is there already. */
export async function applyLayers(
  image: ArchiveImage,
  layers: LayerStore,
  onEvent: (event: LoadEvent) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  let parent: ChainID | undefined;
  for (const [i, file] of image.layers.entries()) {
    const expected = image.config.diffIds[i]!;
    const chain = image.config.chainIds[i]!;
    const report = (await layers.has(chain)) ? undefined : reporter(expected, file, onEvent);
    try {
      await layers.apply(parent, decompress(streamSpooled(file, report)), {
        expected,
        // Not compressed: the file is the layer's very archive.
        ...(file.digest === expected ? { file: file.path } : {}),
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      throw layerError(error, i, file);
    }
    parent = chain;
  }
}

function reporter(id: string, file: SpooledFile, onEvent: (event: LoadEvent) => void): (bytes: number) => void {
  let next = 0;
  return (current) => {
    if (current < next && current < file.size) return;
    next = current + progressStep;
    onEvent({ kind: "layer", id, current, total: file.size });
  };
}

/** Says which layer, in front of what is wrong with it. */
function layerError(error: unknown, i: number, file: SpooledFile): unknown {
  if (!isEngineError(error) || error.code === "cancelled") return error;
  const { code, message, hint, details } = error;
  return new EngineError(code, `layer ${i} ("${file.name}"): ${message}`, { ...(hint === undefined ? {} : { hint }), cause: error, details });
}
