/** Image archives made in tests: no test needs a registry or a file of its own. @module */
import { gzipSync } from "node:zlib";
import { type DiffID, type Digest, digestOf, hexOf } from "#core/digest.ts";
import type { ImageConfigJson } from "#core/image-spec.ts";
import { TarReader } from "#unionfs/tar/reader.ts";
import { endBlocks, formatHeader, padding } from "#unionfs/tar/writer.ts";

export interface TarFile {
  readonly name: string;
  readonly type?: "file" | "dir" | "symlink" | "link" | "char" | "block" | "fifo";
  readonly data?: Uint8Array | string;
  readonly linkname?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly major?: number;
  readonly minor?: number;
  readonly mtimeNs?: bigint;
}

/** A tar of these members, in this order. */
export function tarOf(files: readonly TarFile[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const file of files) {
    const data = Buffer.from(file.data ?? "");
    const type = file.type ?? "file";
    parts.push(
      formatHeader({
        name: Buffer.from(file.name).toString("latin1"),
        type,
        linkname: Buffer.from(file.linkname ?? "").toString("latin1"),
        mode: file.mode ?? (type === "dir" ? 0o755 : 0o644),
        uid: file.uid ?? 0,
        gid: file.gid ?? 0,
        size: data.length,
        mtimeNs: file.mtimeNs ?? 1_700_000_000_000_000_000n,
        major: file.major ?? 0,
        minor: file.minor ?? 0,
        xattrs: [],
      }),
      data,
      padding(data.length),
    );
  }
  return Buffer.concat([...parts, endBlocks()]);
}

export interface FixtureImage {
  /** Uncompressed tars, bottom first. */
  readonly layers: readonly Buffer[];
  readonly tags?: readonly string[];
  readonly config?: Partial<ImageConfigJson>;
  /** How a layer lies in the archive; default: as it is. */
  readonly compress?: (layer: Buffer) => Buffer;
}

/** The config of such an image, as its raw bytes. */
export function configOf(image: FixtureImage): Buffer {
  const created = "2024-03-01T12:00:00Z";
  const config: ImageConfigJson = {
    architecture: "amd64",
    os: "linux",
    created,
    config: { Env: ["PATH=/bin"], Cmd: ["sh"] },
    rootfs: { type: "layers", diff_ids: image.layers.map((layer) => digestOf(layer) as DiffID) },
    history: image.layers.map((_, i) => ({ created, created_by: `layer ${i}` })),
    ...image.config,
  };
  return Buffer.from(JSON.stringify(config));
}

/** As `docker save` of 20.10 writes it: a directory for each layer, a layer that came before as a symbolic link to it, manifest.json late. */
export function dockerArchive(images: readonly FixtureImage[]): Buffer {
  const files: TarFile[] = [];
  const seen = new Map<string, string>();
  const manifest = images.map((image, i) => {
    const config = configOf(image);
    const configName = `${hexOf(digestOf(config))}.json`;
    const paths = image.layers.map((layer, j) => {
      const id = hexOf(digestOf(`${i}/${j}/${digestOf(layer)}`));
      const path = `${id}/layer.tar`;
      const first = seen.get(digestOf(layer));
      files.push({ name: id, type: "dir" }, { name: `${id}/VERSION`, data: "1.0" }, { name: `${id}/json`, data: JSON.stringify({ id }) });
      if (first === undefined) files.push({ name: path, data: (image.compress ?? same)(layer) });
      else files.push({ name: path, type: "symlink", linkname: `../${first}` });
      seen.set(digestOf(layer), path);
      return path;
    });
    files.push({ name: configName, data: config });
    return { Config: configName, RepoTags: image.tags ?? null, Layers: paths };
  });
  return tarOf([...files, { name: "manifest.json", data: JSON.stringify(manifest) }, { name: "repositories", data: "{}" }]);
}

export interface OciOptions {
  /** Platform of each image, for one index of them all. */
  readonly platforms?: readonly { readonly os: string; readonly architecture: string; readonly variant?: string }[];
  /** Put all manifests into an index below index.json. */
  readonly nested?: boolean;
  readonly refName?: string;
  readonly containerdName?: string;
  readonly attestation?: boolean;
  readonly leaveOut?: readonly string[];
}

const types = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar",
};

/** An OCI image layout. */
export function ociLayout(images: readonly FixtureImage[], options: OciOptions = {}): Buffer {
  const blobs = new Map<string, Buffer>();
  const put = (data: Buffer | object, mediaType: string) => {
    const bytes = Buffer.isBuffer(data) ? data : Buffer.from(JSON.stringify(data));
    const digest = digestOf(bytes);
    blobs.set(`blobs/sha256/${hexOf(digest)}`, bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const annotations = {
    ...(options.refName === undefined ? {} : { "org.opencontainers.image.ref.name": options.refName }),
    ...(options.containerdName === undefined ? {} : { "io.containerd.image.name": options.containerdName }),
  };
  const manifests: object[] = images.map((image, i) => {
    const config = put(configOf(image), types.config);
    const layers = image.layers.map((layer) => put((image.compress ?? same)(layer), image.compress === undefined ? types.layer : `${types.layer}+gzip`));
    const manifest = put({ schemaVersion: 2, mediaType: types.manifest, config, layers }, types.manifest);
    const platform = options.platforms?.[i];
    return { ...manifest, ...(platform === undefined ? {} : { platform }), ...(options.nested === true ? {} : { annotations }) };
  });
  if (options.attestation === true) {
    const subject = digestOf("subject");
    manifests.push({
      ...put({ schemaVersion: 2, config: put({}, types.config), layers: [] }, types.manifest),
      platform: { os: "unknown", architecture: "unknown" },
      annotations: { "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject },
    });
  }
  const top = options.nested === true ? [{ ...put({ schemaVersion: 2, mediaType: types.index, manifests }, types.index), annotations }] : manifests;
  const files = [...blobs].filter(([name]) => options.leaveOut?.some((part) => name.includes(part)) !== true).map(([name, data]) => ({ name, data }));
  return tarOf([
    { name: "oci-layout", data: JSON.stringify({ imageLayoutVersion: "1.0.0" }) },
    { name: "index.json", data: JSON.stringify({ schemaVersion: 2, mediaType: types.index, manifests: top }) },
    { name: "blobs", type: "dir" },
    { name: "blobs/sha256", type: "dir" },
    ...files,
  ]);
}

/** A small root directory with a few kinds of entries, as a layer. */
export function rootLayer(text = "hello"): Buffer {
  return tarOf([
    { name: "bin", type: "dir" },
    { name: "bin/tool", data: `#!${text}`, mode: 0o755 },
    { name: "bin/other", type: "link", linkname: "bin/tool" },
    { name: "etc", type: "dir" },
    { name: "etc/motd", data: text },
    { name: "etc/link", type: "symlink", linkname: "motd" },
  ]);
}

export const gzip = (bytes: Buffer): Buffer => gzipSync(bytes);

/** The bytes as a stream, cut where nothing expects it. */
export async function* streamOf(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export function digestsOf(layers: readonly Buffer[]): Digest[] {
  return layers.map(digestOf);
}

function same(layer: Buffer): Buffer {
  return layer;
}

/** Owners of an archive's entries, as uid:gid by name. */
export async function ownersIn(tar: AsyncIterable<Uint8Array>): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  const reader = new TarReader(tar);
  for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) found[entry.name.replace(/\/$/, "")] = `${entry.uid}:${entry.gid}`;
  return found;
}
