/** Named and anonymous volumes: directories under `volumes/<name>/_data`. @module */

import type { LocalBacking } from "./local-options.ts";

/** Docker's volume resource. */
export interface VolumeRecord {
  Name: string;
  Driver: string;
  Mountpoint: string;
  CreatedAt: string;
  Labels: Record<string, string> | null;
  Scope: "local";
  Options: Record<string, string> | null;
}

export interface VolumeStore {
  list(): VolumeRecord[];
  /** EngineError not-found `get X: no such volume`. */
  get(name: string): VolumeRecord;
  find(name: string): VolumeRecord | undefined;
  /** Idempotent for the same driver; EngineError invalid for a bad name. */
  create(options: {
    readonly name?: string;
    readonly driver?: string;
    readonly labels?: Record<string, string>;
    readonly options?: Record<string, string>;
    readonly anonymous?: boolean;
    /** Fills a new volume's directory before the volume is there; when it fails, no volume is. */
    readonly fill?: (directory: string) => Promise<void>;
  }): Promise<VolumeRecord>;
  remove(name: string, options: { readonly force: boolean; readonly users: readonly string[] }): Promise<void>;
  /** What it lies on. EngineError not-found. */
  backing(name: string): LocalBacking;
  /** EngineError invalid for a bad name; that nobody uses it and the name is free is the caller's to know. */
  rename(name: string, newName: string): Promise<void>;
  /** True when the volume's directory is empty (copy-up wanted). */
  isEmpty(name: string): Promise<boolean>;
  sweep(): Promise<void>;
}

export type { LocalBacking } from "./local-options.ts";
export { withServerAddress } from "./server-address.ts";
export { openVolumeStore, type VolumeStoreOptions } from "./volume-store.ts";
