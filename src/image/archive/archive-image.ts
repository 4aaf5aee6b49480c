import type { ImageID } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { parseReference, type Reference } from "#core/reference.ts";
import { parseImageConfig, type ParsedConfig } from "../image-config.ts";
import type { SpooledFile } from "./spool.ts";

/** One image of an archive, ready to be applied. */
export interface ArchiveImage {
  readonly config: ParsedConfig;
  /** Bottom first, one for each diff_id; maybe compressed. */
  readonly layers: readonly SpooledFile[];
  /** With tags. */
  readonly names: readonly Reference[];
  readonly parent: ImageID | undefined;
}

/** Checks that config and layers belong together. */
export function archiveImage(rawConfig: Uint8Array, layers: readonly SpooledFile[], names: readonly Reference[], parent: ImageID | undefined): ArchiveImage {
  const config = parseImageConfig(rawConfig);
  if (config.diffIds.length !== layers.length) {
    throw new EngineError("corrupt", `invalid manifest, layers length mismatch: expected ${config.diffIds.length}, got ${layers.length}`);
  }
  return { config, layers, names, parent };
}

/** A name from an archive: it must have a tag. */
export function taggedName(text: string): Reference {
  const name = parseReference(text);
  if (name.tag === undefined || name.digest !== undefined) throw new EngineError("invalid", `invalid tag "${text.slice(0, 200)}"`);
  return name;
}
