/**
 * Digests that look alike but are not the same thing get types of their own.
 * @module
 * @see https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests
 */
import { createHash } from "node:crypto";
import { EngineError } from "./errors.ts";

declare const brand: unique symbol;
/** `sha256:` and 64 lowercase hex digits. */
export type Digest = `sha256:${string}`;
/** Digest of a blob as stored or pushed (maybe compressed). */
export type BlobDigest = Digest & { readonly [brand]?: "blob" };
/** Digest of a layer's uncompressed tar. */
export type DiffID = Digest & { readonly [brand]?: "diff" };
/** Digest that names a layer together with all below it. */
export type ChainID = Digest & { readonly [brand]?: "chain" };
/** Digest of an image's configuration JSON. */
export type ImageID = Digest & { readonly [brand]?: "image" };

const pattern = /^sha256:[0-9a-f]{64}$/;

/** True for a well-formed sha256 digest. */
export function isDigest(text: string): text is Digest {
  return pattern.test(text);
}

/** Parses a digest; throws `EngineError("invalid")` otherwise. */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) throw new EngineError("invalid", `invalid digest "${text.slice(0, 100)}": want sha256: and 64 hex digits`);
  return text;
}

/** The digest of these bytes. */
export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** The 64 hex digits of a digest. */
export function hexOf(digest: Digest): string {
  return digest.slice(7);
}

/** ChainID of a layer on what is below it. @see image-spec config.md "Layer ChainID" */
export function chainOf(parent: ChainID | undefined, diffId: DiffID): ChainID {
  return parent === undefined ? (diffId as Digest) : digestOf(`${parent} ${diffId}`); // the lowest layer's is its diffID
}

/** ChainIDs of a stack of layers, bottom first. */
export function chainIds(diffIds: readonly DiffID[]): ChainID[] {
  const chain: ChainID[] = [];
  for (const diff of diffIds) chain.push(chainOf(chain.at(-1), diff));
  return chain;
}
