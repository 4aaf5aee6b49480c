/** OCI image-spec and docker image JSON. @module @see https://github.com/opencontainers/image-spec */
import type { BlobDigest, DiffID } from "./digest.ts";
import type { ContainerConfig } from "./container-config.ts";

export interface Descriptor {
  mediaType: string;
  digest: BlobDigest;
  /** Bytes. */
  size: number;
  urls?: string[];
  annotations?: Record<string, string>;
  platform?: Platform;
}

export interface Platform {
  architecture: string;
  os: string;
  "os.version"?: string;
  variant?: string;
}

export interface Manifest {
  schemaVersion: 2;
  mediaType?: string;
  config: Descriptor;
  layers: Descriptor[];
  annotations?: Record<string, string>;
}

export interface ImageIndex {
  schemaVersion: 2;
  mediaType?: string;
  manifests: Descriptor[];
  annotations?: Record<string, string>;
}

export interface HistoryEntry {
  created?: string;
  created_by?: string;
  author?: string;
  comment?: string;
  empty_layer?: boolean;
}

/** An image's config blob; its sha256 is the ImageID, so the raw bytes are what is stored. */
export interface ImageConfigJson {
  created?: string;
  author?: string;
  architecture: string;
  variant?: string;
  os: string;
  "os.version"?: string;
  config?: Partial<ContainerConfig>;
  container?: string;
  docker_version?: string;
  comment?: string;
  rootfs: { type: "layers"; diff_ids: DiffID[] };
  history?: HistoryEntry[];
}
