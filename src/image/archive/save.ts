import { Readable } from "node:stream";
import { type BlobDigest, type ChainID, type DiffID, type Digest, digestOf, hexOf } from "#core/digest.ts";
import type { Descriptor, Manifest } from "#core/image-spec.ts";
import { mediaTypes } from "#core/manifest.ts";
import { takePiece } from "#core/pieces.ts";
import { familiarName, familiarString, formatReference, type Reference } from "#core/reference.ts";
import type { LayerStore } from "#unionfs/mod.ts";
import type { LayerThreads } from "#unionfs/threads/layer-threads.ts";
import { endBlocks, formatHeader, padding } from "#unionfs/tar/writer.ts";
import type { Image } from "../mod.ts";

const { ociManifest: manifestType, ociIndex: indexType, ociConfig: configType, ociLayer: layerType } = mediaTypes;

/** Less is read where it is sent: a thread takes 0.1 s to start. */
const threadBytes = 8 * 1024 * 1024;

export interface ImageToSave {
  readonly image: Pick<Image, "id" | "config" | "rawConfig" | "diffIds" | "chainIds">;
  /** Tags that it is saved under. */
  readonly names: readonly Reference[];
}

/** A member of the archive: bytes at hand, or a layer of known length. */
interface Member {
  readonly name: string;
  readonly mtimeNs: bigint;
  readonly bytes: number;
  readonly data: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/**
 * An archive as `docker save` of version 25 and later writes it, readable by older ones as well: an OCI layout with docker's `manifest.json` beside its index.
 * Layers are uncompressed, so their digests are the images' diff_ids. The same images give the same bytes.
 * A layer is verified as it is read: one that is damaged ends the stream with an error.
 */
export async function saveArchive(images: readonly ImageToSave[], layers: LayerStore, threads: LayerThreads | undefined): Promise<Readable> {
  const layerBytes = new Map<ChainID, number>();
  for (const { image } of images) for (const chain of image.chainIds) if (!layerBytes.has(chain)) layerBytes.set(chain, await layers.tarBytes(chain));
  const total = [...layerBytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  const read = (chain: ChainID) => readLayer(layers, total < threadBytes ? undefined : threads, chain);
  return Readable.from(writeArchive(collect(images, read, layerBytes)), { objectMode: false });
}

function collect(images: readonly ImageToSave[], read: (chain: ChainID) => AsyncIterable<Uint8Array>, layerBytes: ReadonlyMap<ChainID, number>): Member[] {
  const blobs = new Map<Digest, Member>();
  const manifests: Descriptor[] = [];
  const dockerManifests: object[] = [];
  const repositories: Record<string, Record<string, string>> = {};
  for (const { image, names } of images) {
    const mtimeNs = createdNs(image);
    const put = (digest: Digest, bytes: number, data: Member["data"]) =>
      blobs.set(digest, blobs.get(digest) ?? { name: blobName(digest), mtimeNs, bytes, data });
    const stack = image.diffIds.map((diffId, i) => ({ diffId, chain: image.chainIds[i]!, bytes: layerBytes.get(image.chainIds[i]!) ?? 0 }));
    for (const { diffId, chain, bytes } of stack) put(diffId, bytes, () => read(chain));
    put(image.id, image.rawConfig.byteLength, () => [image.rawConfig]);
    const manifest = encode(ociManifest(image, stack));
    const digest = digestOf(manifest);
    put(digest, manifest.byteLength, () => [manifest]);
    const descriptor: Descriptor = { mediaType: manifestType, digest, size: manifest.byteLength };
    manifests.push(...(names.length === 0 ? [descriptor] : names.map((name) => ({ ...descriptor, annotations: annotationsOf(name) }))));
    dockerManifests.push(dockerManifest(image, names, stack));
    const top = image.diffIds.at(-1);
    if (top !== undefined) for (const name of names) nameIn(repositories, name)[name.tag ?? ""] = hexOf(top);
  }
  const json = (name: string, value: unknown): Member => {
    const bytes = encode(value);
    return { name, mtimeNs: 0n, bytes: bytes.byteLength, data: () => [bytes] };
  };
  return [
    ...[...blobs.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    json("index.json", { schemaVersion: 2, mediaType: indexType, manifests }),
    json("manifest.json", dockerManifests),
    json("oci-layout", { imageLayoutVersion: "1.0.0" }),
    ...(Object.keys(repositories).length === 0 ? [] : [json("repositories", repositories)]),
  ];
}

async function* writeArchive(members: readonly Member[]): AsyncGenerator<Uint8Array, void, undefined> {
  for (const name of ["blobs", "blobs/sha256"]) yield formatHeader({ ...plain, name, type: "dir", mode: 0o755, size: 0, mtimeNs: 0n });
  for (const { name, mtimeNs, bytes, data } of members) {
    yield formatHeader({ ...plain, name, type: "file", mode: 0o644, size: bytes, mtimeNs });
    yield* data();
    yield padding(bytes);
  }
  yield endBlocks();
}

const plain = { linkname: "", uid: 0, gid: 0, major: 0, minor: 0, xattrs: [] } as const;

/** In a thread, where that needs nobody to mount the layer. */
async function* readLayer(layers: LayerStore, threads: LayerThreads | undefined, chain: ChainID): AsyncGenerator<Uint8Array, void, undefined> {
  const source = threads === undefined ? undefined : await layers.source(chain);
  if (threads === undefined || source === undefined) {
    for await (const chunk of await layers.tar(chain)) yield chunk as Uint8Array;
    return;
  }
  // The memory of a piece is used again, and whoever takes it may hold one for longer.
  for await (const piece of threads.read(source)) {
    const own = takePiece();
    own.set(piece);
    yield own.subarray(0, piece.byteLength);
  }
}

interface StackedLayer {
  readonly diffId: DiffID;
  readonly bytes: number;
}

function ociManifest(image: ImageToSave["image"], stack: readonly StackedLayer[]): Manifest {
  return {
    schemaVersion: 2,
    mediaType: manifestType,
    config: { mediaType: configType, digest: asBlob(image.id), size: image.rawConfig.byteLength },
    layers: stack.map(layerDescriptor),
  };
}

function dockerManifest(image: ImageToSave["image"], names: readonly Reference[], stack: readonly StackedLayer[]): object {
  return {
    Config: blobName(image.id),
    RepoTags: names.length === 0 ? null : names.map(familiarString),
    Layers: stack.map(({ diffId }) => blobName(diffId)),
    ...(stack.length === 0 ? {} : { LayerSources: Object.fromEntries(stack.map((layer) => [layer.diffId, layerDescriptor(layer)])) }),
  };
}

function layerDescriptor({ diffId, bytes }: StackedLayer): Descriptor {
  return { mediaType: layerType, digest: asBlob(diffId), size: bytes };
}

function annotationsOf(name: Reference): Record<string, string> {
  return { "io.containerd.image.name": formatReference(name), "org.opencontainers.image.ref.name": name.tag ?? "" };
}

function blobName(digest: Digest): string {
  return `blobs/sha256/${hexOf(digest)}`;
}

function createdNs(image: ImageToSave["image"]): bigint {
  const ms = Date.parse(image.config.created ?? "");
  return Number.isNaN(ms) || ms < 0 ? 0n : BigInt(ms) * 1_000_000n;
}

function nameIn(repositories: Record<string, Record<string, string>>, name: Reference): Record<string, string> {
  const key = familiarName(name);
  const tags = repositories[key] ?? {};
  repositories[key] = tags;
  return tags;
}

/** A config, and an uncompressed layer, is a blob of the same digest. */
function asBlob(digest: Digest): BlobDigest {
  return digest;
}

function encode(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
