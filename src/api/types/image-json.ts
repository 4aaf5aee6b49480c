/** Replies about images. @module */
import type { ContainerConfig } from "#core/container-config.ts";

/** `GET /images/json`. */
export interface ImageSummary {
  Id: string;
  ParentId: string;
  RepoTags: string[];
  RepoDigests: string[];
  /** Unix seconds. */
  Created: number;
  Size: number;
  /** Below 1.44. */
  VirtualSize?: number;
  /** -1: not computed. */
  SharedSize: number;
  Labels: Record<string, string> | null;
  Containers: number;
}

/** `GET /images/{name}/json`. */
export interface ImageInspect {
  Id: string;
  RepoTags: string[];
  RepoDigests: string[];
  Parent: string;
  Comment: string;
  Created?: string;
  /** Below 1.45. */
  Container?: string;
  ContainerConfig: unknown;
  DockerVersion: string;
  Author: string;
  Config: Partial<ContainerConfig> | null;
  Architecture: string;
  Variant?: string;
  Os: string;
  OsVersion?: string;
  Size: number;
  /** Below 1.44. */
  VirtualSize?: number;
  GraphDriver: { Data: Record<string, string>; Name: string };
  RootFS: { Type: "layers"; Layers?: string[] };
  Metadata: { LastTagTime: string };
}

/** `GET /images/{name}/history`, newest first. */
export interface HistoryItem {
  Id: string;
  /** Unix seconds. */
  Created: number;
  CreatedBy: string;
  Tags: string[] | null;
  Size: number;
  Comment: string;
}

/** `DELETE /images/{name}`. */
export type DeleteItem = { readonly Untagged: string } | { readonly Deleted: string };
