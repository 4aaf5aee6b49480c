/**
 * What the use cases share: the parts that were opened, and the paths of this engine.
 * @module
 */
import { join } from "node:path";
import type { CgroupManager } from "#cgroup/mod.ts";
import type { Container } from "#container/container.ts";
import type { RecordStore } from "#container/record-store.ts";
import type { ContainerRegistry } from "#container/registry.ts";
import type { ContentStore } from "#content/mod.ts";
import type { ImageStore } from "#image/mod.ts";
import type { Helper } from "#linux/helper.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { NetworkManager } from "#network/mod.ts";
import type { Downloads, Registries, SharedWork } from "#registry/mod.ts";
import type { LayerStore } from "#unionfs/mod.ts";
import type { LayerThreads } from "#unionfs/threads/layer-threads.ts";
import type { VolumeStore } from "#volume/mod.ts";
import type { PendingAttaches } from "./attach-stream.ts";
import type { Background } from "./background.ts";
import type { EventLog } from "./events.ts";
import type { ExecTable } from "./exec-table.ts";
import type { IdRanges } from "./id-ranges.ts";
import type { ImageIndex } from "./image-index.ts";
import type { ImageMounts } from "./image-mounts.ts";
import type { KnownStarts } from "./known-starts.ts";
import type { Leftovers } from "./leftovers.ts";
import type { EngineOptions } from "./mod.ts";
import type { RootFileCache } from "./resolve-user.ts";
import type { SelinuxLabels } from "./selinux.ts";
import type { StorageBudget } from "./storage-budget.ts";
import type { BuildState } from "./build-state.ts";

export interface EngineContext {
  readonly options: EngineOptions;
  /** Persistent id of this data root, Docker's `info.ID`. */
  readonly engineId: string;
  readonly startedAtNs: bigint;
  readonly facts: HostFacts;
  readonly helper: Helper;
  readonly cgroups: CgroupManager;
  readonly networks: NetworkManager;
  readonly content: ContentStore;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly registries: Registries;
  /** Layers on their way here. */
  readonly downloads: Downloads;
  readonly layerThreads: LayerThreads;
  /** Layers being unpacked, so that two pulls do not do the same. */
  readonly applying: SharedWork<void>;
  readonly imageIndex: ImageIndex;
  readonly imageMounts: ImageMounts;
  readonly budget: StorageBudget;
  readonly builds: BuildState;
  readonly volumes: VolumeStore;
  readonly registry: ContainerRegistry;
  readonly records: RecordStore;
  readonly events: EventLog;
  readonly execs: ExecTable;
  readonly attaches: PendingAttaches;
  readonly rootFiles: RootFileCache;
  readonly known: KnownStarts;
  /** Which ids of the host user namespaces get. */
  readonly idRanges: IdRanges;
  /** The AppArmor profile of containers that ask for none; undefined = none. */
  readonly appArmorDefault: string | undefined;
  /** SELinux labels of containers; undefined = none has any. */
  readonly selinux: SelinuxLabels | undefined;
  /** Work that nobody waits for but the end of the engine. */
  readonly background: Background;
  readonly log: EngineOptions["log"];
  readonly leftovers: Leftovers;
  /** `startLocked` of start-container.ts; here because an end may lead to a start. The container's mutex must be held. */
  readonly start: (container: Container) => Promise<void>;
  /** True once close() has been called: nothing new is started. */
  closing: boolean;
}

/** Files of a running process that its monitor keeps on the exec root, a tmpfs: gone after a reboot, like the process. */
export interface MonitorFiles {
  readonly socketPath: string;
  readonly pidPath: string;
  readonly exitPath: string;
  /** What a start has found out about its networks, until the record says it. */
  readonly networkPath: string;
  /** Where a program that is its network may listen. */
  readonly programSocket: string;
}

/** Directory of {@link MonitorFiles}. */
export function monitorDirectory(options: EngineOptions): string {
  return join(options.execRoot, "c");
}

/** Names are cut: a socket's path has at most 107 bytes. 96 bits of an id are unique enough for one host. */
export function monitorFiles(options: EngineOptions, containerId: string, execId?: string): MonitorFiles {
  const base = join(monitorDirectory(options), containerId.slice(0, 24) + (execId === undefined ? "" : `-${execId.slice(0, 24)}`));
  return { socketPath: `${base}.sock`, pidPath: `${base}.pid`, exitPath: `${base}.exit`, networkPath: `${base}.net`, programSocket: `${base}.api` };
}

/** Attributes of a container's events: its labels, name and image, and what the event adds. */
export function publishContainerEvent({ events }: EngineContext, { record }: Container, action: string, extra: Readonly<Record<string, string>> = {}): void {
  events.publish("container", action, record.id, { ...record.config.Labels, ...extra, image: record.config.Image, name: record.name });
}
