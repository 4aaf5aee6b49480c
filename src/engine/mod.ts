/**
 * The engine as its callers see it: the API server, and a Node program that imported wherry. Each method is a use case in a file of its
 * own (`engine/create-container.ts`, …); {@link Engine} only gathers them. Arguments are parsed and typed already; names may be ids,
 * unambiguous id prefixes or names. Errors are EngineError with Docker's texts.
 * @module
 */
import type { Duplex, Readable } from "node:stream";
import type { CacheRecord } from "#build/cache/record.ts";
import type { FileSender } from "#build/solver/synced-tree.ts";
import type { RunLimits } from "#build/solver/host.ts";
import type { BuildEvent } from "#build/solver/progress.ts";
import type { CgroupDriver, CgroupStats, CpuRealtime } from "#cgroup/mod.ts";
import type { ContainerRecord, ExecRecord, LogEntry, LogQuery } from "#container/mod.ts";
import type { Clock } from "#core/clock.ts";
import type { ContainerConfig, EndpointConfig, HostConfig, NetworkingConfig, ResourceConfig, RestartPolicy } from "#core/container-config.ts";
import type { Digest, ImageID } from "#core/digest.ts";
import type { DeleteResult, Image, ImageBranch, ImageComparison, ImageStore, LoadEvent } from "#image/mod.ts";
import type { Descriptor, Platform } from "#core/image-spec.ts";
import type { FileTree } from "#linux/file-tree.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { NetworkManager } from "#network/mod.ts";
import type { Credentials, RegistryConfig } from "#registry/mod.ts";
import type { Change } from "#unionfs/mod.ts";
import type { VolumeStore } from "#volume/mod.ts";
import type { StoreProblem } from "./check-store.ts";
import type { CompareOptions, DriverListing, StorageCosts } from "./compare-storage.ts";
import type { ImageMount } from "./image-mounts.ts";
import type { StoreEvent } from "./import-store.ts";

/** Docker event; `timeNano` as bigint. */
export interface EngineEvent {
  readonly Type: "container" | "image" | "network" | "volume" | "daemon" | "builder";
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly timeNano: bigint;
}

/** Parsed filters: key → values. */
export type Filters = Readonly<Record<string, readonly string[]>>;

/** Descriptors of a `wherry` stub, passed to the monitor (see linux/helper LaunchStdio.direct). */
export interface DirectStdio {
  readonly token: string;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly detachKeys: Uint8Array;
  readonly rows: number;
  readonly columns: number;
}

export interface AttachRequest {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** false: only logs are replayed, nothing is followed. */
  readonly stream: boolean;
  readonly logs: boolean;
  readonly detachKeys: Uint8Array;
}

/** A byte stream to a container's streams. `framed`: Docker's 8-byte-header frames (no tty), else raw. */
export interface AttachedStream {
  readonly stream: Duplex;
  readonly framed: boolean;
}

/** A file of a container. */
export interface PathStat {
  /** Last component of the path as asked. */
  readonly name: string;
  readonly type: "file" | "dir" | "symlink" | "char" | "block" | "fifo" | "socket";
  readonly size: number;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly mtimeNs: bigint;
  /** Of a symlink: where it leads within the container in the end; else "". */
  readonly linkTarget: string;
}

/** "healthy" is ours: until the health check has succeeded; an end or "unhealthy" before that is an error. */
export type WaitCondition = "not-running" | "next-exit" | "removed" | "healthy";

export interface ListContainersOptions {
  readonly all: boolean;
  readonly limit: number | undefined;
  readonly filters: Filters;
}

/** What a running container has used; `networks`: counters by interface; `networkRate`: its limits, as they were given. */
export interface ContainerStats extends CgroupStats {
  readonly networks: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly networkRate?: Readonly<Record<string, string>>;
}

export interface Containers {
  create(request: {
    readonly name: string | undefined;
    readonly config: ContainerConfig;
    readonly hostConfig: HostConfig;
    readonly networkingConfig: NetworkingConfig;
    readonly platform?: string;
  }): Promise<{ readonly id: string; readonly warnings: string[] }>;
  /** Snapshot of the record (never mutated by the engine afterwards). Synchronous: reads never wait for a container. */
  get(name: string): ContainerRecord;
  list(options: ListContainersOptions): ContainerRecord[];
  start(name: string, options?: { readonly direct?: DirectStdio }): Promise<void>;
  /** timeout in seconds: -1 = for ever, undefined = the container's. "not-modified" when it is not running. */
  stop(name: string, options?: { readonly timeout?: number | undefined; readonly signal?: string | undefined }): Promise<void>;
  restart(name: string, options?: { readonly timeout?: number | undefined; readonly signal?: string | undefined }): Promise<void>;
  kill(name: string, signal: string): Promise<void>;
  pause(name: string): Promise<void>;
  unpause(name: string): Promise<void>;
  rename(name: string, newName: string): Promise<void>;
  remove(name: string, options: { readonly force: boolean; readonly volumes: boolean }): Promise<void>;
  update(name: string, resources: Partial<ResourceConfig>, restartPolicy: RestartPolicy | undefined): Promise<{ readonly warnings: string[] }>;
  wait(name: string, condition: WaitCondition, signal?: AbortSignal): Promise<{ readonly exitCode: number; readonly error?: string; readonly reason?: string }>;
  resize(name: string, rows: number, columns: number): Promise<void>;
  /** May be called before start: the stream is connected when it starts and loses nothing. Resolves at once. */
  attach(name: string, request: AttachRequest): Promise<AttachedStream>;
  /** In batches, as they are read: a loop over a million single lines would spend its time in waiting. */
  logs(name: string, query: LogQuery, signal?: AbortSignal): AsyncIterable<readonly LogEntry[]>;
  top(name: string, psArgs: string): Promise<{ Titles: string[]; Processes: string[][] }>;
  stats(name: string): Promise<ContainerStats | undefined>;
  changes(name: string): Promise<Change[]>;
  /** `onChanged`: told of each file that somebody changes while it is read; in the archive it is cut or padded. */
  exportTree(name: string, onChanged?: (message: string) => void): Promise<AsyncIterable<Uint8Array>>;
  /** What a path in the container is; the last component is not followed unless "/" or "/." stands behind it. */
  statPath(name: string, path: string): Promise<PathStat>;
  /** A path as a tar whose entries begin with the path's last component. The iterable must be read to its end or returned: until then a stopped container is not started or removed. */
  readArchive(name: string, path: string, onChanged?: (message: string) => void): Promise<{ readonly stat: PathStat; readonly tar: AsyncIterable<Uint8Array> }>;
  /** Unpacks a tar (perhaps compressed) in a directory. `copyUidGid`: what is made belongs to the container's user. */
  writeArchive(
    name: string,
    path: string,
    tar: AsyncIterable<Uint8Array>,
    options: { readonly noOverwriteDirNonDir: boolean; readonly copyUidGid: boolean },
  ): Promise<void>;
  /** Bytes: writable layer, and with its image. */
  size(name: string): Promise<{ readonly rw: number; readonly rootFs: number }>;
  prune(filters: Filters): Promise<{ readonly deleted: string[]; readonly bytes: number }>;
  commit(
    name: string,
    options: {
      readonly reference?: string;
      readonly comment: string;
      readonly author: string;
      readonly pause: boolean;
      readonly changes: Partial<ContainerConfig> | undefined;
    },
  ): Promise<ImageID>;
  /** The plan that `start` would perform. */
  explain(
    request: { readonly config: ContainerConfig; readonly hostConfig: HostConfig; readonly networkingConfig: NetworkingConfig; readonly facts?: HostFacts },
    format: "text" | "json",
  ): Promise<string>;
}

export interface Execs {
  create(container: string, config: ExecRecord["config"]): Promise<string>;
  /** Attached: the stream ends when the process has ended. Detached: `undefined`. */
  start(
    id: string,
    options: { readonly detach: boolean; readonly tty: boolean; readonly rows?: number; readonly columns?: number; readonly direct?: DirectStdio },
  ): Promise<AttachedStream | undefined>;
  get(id: string): ExecRecord;
  /** Settles with the exit code when the process has ended. */
  wait(id: string): Promise<number>;
  resize(id: string, rows: number, columns: number): Promise<void>;
  /** Ids of the execs of a container that still run (`inspect` lists them). */
  ids?(containerId: string): readonly string[];
}

export interface PullRequest {
  /** With tag or digest, or without for `latest`. */
  readonly reference: string;
  /** Instead of the one: every tag of the repository. */
  readonly allTags?: boolean;
  /** `linux/arm64`; default: the host's. */
  readonly platform?: string;
  readonly credentials?: Credentials | undefined;
}

/** How far a layer is. */
export type PullState = "waiting" | "exists" | "downloading" | "verifying" | "downloaded" | "extracting" | "complete";

export type PullEvent =
  | { readonly kind: "begin"; readonly path: string; readonly tag: string }
  /** `id`: digest of the layer's blob. Bytes of the compressed layer. */
  | { readonly kind: "layer"; readonly id: Digest; readonly state: PullState; readonly current?: number; readonly total?: number }
  /** Something is waited for; `why` is for people. */
  | { readonly kind: "note"; readonly why: string }
  | { readonly kind: "end"; readonly reference: string; readonly digest: Digest; readonly id: ImageID; readonly newer: boolean };

export interface PushRequest {
  readonly reference: string;
  readonly allTags?: boolean;
  readonly platform?: string;
  readonly credentials?: Credentials | undefined;
}

/** From one registry to another. Names with tag or digest. */
export interface CopyRequest {
  readonly from: string;
  readonly to: string;
  readonly fromCredentials?: Credentials | undefined;
  readonly toCredentials?: Credentials | undefined;
}

export type PushState = "preparing" | "waiting" | "exists" | "mounted" | "pushing" | "pushed";

export type PushEvent =
  /** `repository`: normalized. */
  | { readonly kind: "begin"; readonly repository: string }
  /** `id`: the layer's diffID. `from`: where it was mounted from. */
  | { readonly kind: "layer"; readonly id: Digest; readonly state: PushState; readonly current?: number; readonly total?: number; readonly from?: string }
  | { readonly kind: "note"; readonly why: string }
  | { readonly kind: "end"; readonly tag: string; readonly digest: Digest; readonly size: number };

export interface Images extends Pick<ImageStore, "get" | "find" | "list" | "save"> {
  tag(nameOrId: string, reference: string): Promise<void>;
  load(archive: AsyncIterable<Uint8Array>, onEvent: (event: LoadEvent) => void, signal?: AbortSignal): Promise<void>;
  import: ImageStore["import"];
  /** Takes over the images of a docker's data root (a directory of the host's). */
  importStore(directory: string, onEvent: (event: StoreEvent) => void, signal: AbortSignal): Promise<void>;
  /** Fetches an image from its registry. Reports end when it is recorded. */
  pull(request: PullRequest, onEvent: (event: PullEvent) => void, signal?: AbortSignal): Promise<void>;
  /** Sends an image to the registry that its name says. */
  push(request: PushRequest, onEvent: (event: PushEvent) => void, signal?: AbortSignal): Promise<void>;
  /** Copies an image between registries; nothing of it is stored here. */
  copy(request: CopyRequest, onEvent: (event: PushEvent) => void, signal?: AbortSignal): Promise<void>;
  remove(nameOrId: string, options: { readonly force: boolean; readonly prune: boolean }): Promise<DeleteResult[]>;
  prune(filters: Filters): Promise<{ readonly deleted: DeleteResult[]; readonly bytes: number }>;
  /** Every image with its layers. */
  tree(): Promise<ImageBranch[]>;
  /** Mounts an image read-only where the host sees it, until it is unmounted or the engine ends. */
  mount(nameOrId: string): Promise<ImageMount>;
  unmount(nameOrId: string): Promise<ImageMount>;
  mounts(): readonly ImageMount[];
  /** How the second differs from the first, by layer and by file. Reads both. */
  compare(a: string, b: string): Promise<ImageComparison>;
  /** Containers (ids) that use the image. */
  users(id: ImageID): string[];
  /** `wherry image bootstrap busybox|debian[:SUITE]`: a base image from Debian packages. */
  bootstrap(what: string, onProgress: (line: string) => void, signal?: AbortSignal): Promise<Image>;
}

export interface SearchResult {
  readonly name: string;
  readonly description: string;
  readonly stars: number;
  readonly official: boolean;
  readonly automated: boolean;
}

/** A manifest or index as it lies in a registry. */
export interface RemoteManifest {
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  readonly mediaType: string;
  /** Of an image. */
  readonly platform: Platform | undefined;
}

/** What is asked of registries without taking an image in. */
export interface RegistryQueries {
  /** Whether the credentials are good: EngineError unauthorized. Resolves with a token to keep instead of the password, where the registry gives one. */
  login(credentials: Credentials, signal?: AbortSignal): Promise<string | undefined>;
  /** `term` may begin with a registry's host. */
  search(query: {
    readonly term: string;
    readonly limit: number;
    readonly credentials: Credentials | undefined;
    readonly signal?: AbortSignal;
  }): Promise<SearchResult[]>;
  /** What a name means, and for which platforms it is. */
  distribution(
    name: string,
    credentials: Credentials | undefined,
    signal?: AbortSignal,
  ): Promise<{ readonly descriptor: Descriptor; readonly platforms: readonly Platform[] }>;
  manifest(name: string, credentials: Credentials | undefined, signal?: AbortSignal): Promise<RemoteManifest>;
  /** Stores a manifest under a tag or its digest. `blobsFrom`: a repository of the same registry that has what it names. */
  putManifest(request: {
    readonly name: string;
    readonly bytes: Uint8Array;
    readonly mediaType: string;
    readonly blobsFrom?: string;
    readonly credentials: Credentials | undefined;
    readonly signal?: AbortSignal;
  }): Promise<Digest>;
  /** Repositories of a registry, as far as it tells. */
  catalog(registry: string, credentials: Credentials | undefined, signal?: AbortSignal): Promise<string[]>;
  tags(name: string, credentials: Credentials | undefined, signal?: AbortSignal): Promise<string[]>;
}

/** `build`. What is absent is Docker's default. */
export interface BuildOptions {
  /** An archive of files (plain, gzip or zstd), a Dockerfile alone, where one of the two is to be had, or files that are sent when they are wanted. */
  readonly context: /** `dockerfile`: the text of one that is not among the files. */
    | { readonly kind: "tar"; readonly stream: AsyncIterable<Uint8Array>; readonly dockerfile?: string }
    | { readonly kind: "dockerfile"; readonly text: string }
    | { readonly kind: "url"; readonly url: string; readonly dockerfile?: string }
    | { readonly kind: "directory"; readonly directory: LocalContext }
    | { readonly kind: "sent"; readonly dockerfile: string; readonly files: SentContext /** What a .dockerignore says. */; readonly ignore: string };
  /** Further contexts by name: each beats a stage or image of that name. */
  readonly namedContexts: ReadonlyMap<string, NamedContextSource>;
  /** In the context. */
  readonly dockerfile: string;
  readonly tags: readonly string[];
  readonly target: string;
  /** undefined: named without a value. */
  readonly buildArgs: Readonly<Record<string, string | undefined>>;
  readonly labels: Readonly<Record<string, string>>;
  /** `os/arch[/variant]`; "" = this host's. */
  readonly platform: string;
  readonly noCache: boolean;
  /** Stages whose steps are run again, by name. */
  readonly noCacheStages: readonly string[];
  readonly pull: boolean;
  readonly limits: RunLimits;
  /** A secret's content; undefined: there is none of that id. */
  readonly secret: (id: string) => Promise<Uint8Array | undefined>;
  /** How to reach an SSH agent of the client's; undefined: there is none of that id. */
  readonly sshAgent: (id: string) => Promise<(() => Duplex) | undefined>;
  /** Who the client is at a registry (`docker.io`, `localhost:5000`). */
  readonly credentials: (domain: string) => Credentials | undefined | Promise<Credentials | undefined>;
  readonly keepContainers: { readonly succeeded: boolean; readonly failed: boolean };
  /** An image is made of what a RUN that fails has left, and told in an event. */
  readonly leaveFailed: boolean;
  /** All layers of the last stage become one. */
  readonly squash: boolean;
  /** Caches that are asked, in this order, for what the one here does not know. */
  readonly cacheFrom: readonly CacheFrom[];
  /** The image's config gets the cache of its own steps. */
  readonly inlineCache: boolean;
  /** Where the cache of this build goes. Not looked at by {@link Builds.solve}. */
  readonly cacheTo: readonly CacheTo[];
}

/** A cache of builds elsewhere. `registry`: one of its own, or an image with a cache in it. */
export type CacheFrom =
  | { readonly kind: "registry"; readonly reference: string }
  /** An OCI layout on this host; `path`: absolute, `wanted`: a tag of its index, or a digest. */
  | { readonly kind: "directory"; readonly path: string; readonly wanted: string }
  | { readonly kind: "place"; readonly place: BlobPlace };

/** `mode`: the steps of the image, or those of all stages that were built. `mayFail`: then the build is none the worse. */
export type CacheTo = CacheFrom & { readonly mode: "min" | "max"; readonly mayFail: boolean };

/** Blobs by digest that lie neither here nor in a registry: a directory with an OCI layout, or a client's store. With one manifest of interest. */
export interface BlobPlace {
  /** For people. */
  readonly name: string;
  /** undefined: there is none. */
  manifest(): Promise<Digest | undefined>;
  /** undefined: there is no such blob. Bytes. */
  size(digest: Digest): Promise<number | undefined>;
  /** Not verified. */
  read(digest: Digest, signal: AbortSignal): AsyncIterable<Uint8Array>;
  put(content: AsyncIterable<Uint8Array> | Uint8Array, signal: AbortSignal | undefined): Promise<{ readonly digest: Digest; readonly size: number }>;
  setManifest(manifest: Descriptor): Promise<void>;
  /** Puts an export together: what `work` puts, or finds to be there, stays until it has ended, whatever others do; afterwards what no manifest names goes. Absent: nothing ever goes. */
  collecting?<T>(work: () => Promise<T>): Promise<T>;
}

/** A directory of this host, which the engine reads itself. */
export interface LocalContext {
  /** Absolute. */
  readonly path: string;
  /** The Dockerfile's text. */
  readonly dockerfile: string;
  /** What a .dockerignore says. */
  readonly ignore: string;
  /** Further directories by name, absolute: {@link BuildOptions.namedContexts}. */
  readonly named: Readonly<Record<string, string>>;
  /** Sockets of SSH agents by id, absolute. */
  readonly agents: Readonly<Record<string, string>>;
}

/** Files that their owner sends entry by entry, contents only where they are wanted and new. */
export interface SentContext {
  /** How their owner calls them, so that the next build finds what this one was sent; undefined: they are of this build only. */
  readonly key: string | undefined;
  /** Called at most once, and closed when the build has ended. `exclude`: patterns of what is not to be sent. */
  readonly open: (exclude: readonly string[], signal: AbortSignal) => Promise<FileSender>;
}

export type NamedContextSource =
  | { readonly kind: "image"; readonly reference: string }
  | { readonly kind: "sent"; readonly files: SentContext }
  /** Absolute, on this host. */
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "url"; readonly url: string };

/** What a build has come to. Its layers stay until it is disposed; nothing has a record of it until then. */
export interface SolvedBuild extends AsyncDisposable {
  readonly id: ImageID;
  /** The image's config, as its bytes. */
  readonly config: Uint8Array;
  /** Build arguments that nothing has asked for. */
  readonly unusedArgs: readonly string[];
  /** Makes it an image with these names. */
  record(tags: readonly string[]): Promise<void>;
  /** Its whole tree; undefined: it is empty. To be closed. */
  openRoot(): Promise<FileTree | undefined>;
  /** Puts the cache of its steps somewhere. @returns its manifest; undefined: it has failed, and may */
  exportCache(to: CacheTo): Promise<Descriptor | undefined>;
  /** The same as one tar. */
  tar(): AsyncIterable<Uint8Array>;
  /** As an archive with an OCI layout, which docker's `load` understands too. */
  archive(tags: readonly string[]): Promise<AsyncIterable<Uint8Array>>;
}

export interface Builds {
  /** @returns the image's id, and the build arguments that nothing has asked for */
  build(
    options: BuildOptions,
    report: (event: BuildEvent) => void,
    signal: AbortSignal,
  ): Promise<{ readonly id: ImageID; readonly unusedArgs: readonly string[] }>;
  /** As {@link build}, but what becomes of the result is up to the caller; `tags` are not looked at. */
  solve(options: BuildOptions, report: (event: BuildEvent) => void, signal: AbortSignal): Promise<SolvedBuild>;
  /** The whole tree of an image as one tar. */
  root(image: string): Promise<AsyncIterable<Uint8Array>>;
  /** Steps that the cache remembers. `shared`: an image has the layer too. */
  records(): readonly (CacheRecord & { readonly inUse: boolean; readonly shared: boolean })[];
  prune(options: {
    readonly all: boolean;
    readonly keepBytes: number | undefined;
    readonly filters: Filters;
  }): Promise<{ readonly deleted: string[]; readonly bytes: number }>;
}

/** What `info` and `version` need; api/server shapes it into Docker's JSON. */
export interface SystemInfo {
  readonly id: string;
  readonly name: string;
  readonly rootDir: string;
  readonly execRoot: string;
  readonly containers: { readonly total: number; readonly running: number; readonly paused: number; readonly stopped: number };
  readonly images: number;
  readonly driver: string;
  readonly driverStatus: readonly (readonly [string, string])[];
  readonly cgroupDriver: string;
  readonly cgroupVersion: 1 | 2;
  readonly cgroupFlags: Readonly<Record<string, boolean>>;
  readonly warnings: readonly string[];
  readonly kernelVersion: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  readonly architecture: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly securityOptions: readonly string[];
  readonly cdiSpecDirs: readonly string[];
  readonly logDrivers: readonly string[];
  readonly logDriver: string;
  readonly networkDrivers: readonly string[];
  readonly labels: readonly string[];
  readonly registry: Pick<RegistryConfig, "insecure" | "mirrors" | "proxy">;
  readonly startedAtNs: bigint;
  readonly version: string;
  readonly fds: number;
  readonly goroutineLike: number;
  readonly eventListeners: number;
}

export interface Engine {
  readonly containers: Containers;
  readonly execs: Execs;
  readonly images: Images;
  readonly registries: RegistryQueries;
  readonly builds: Builds;
  readonly networks: {
    list(filters: Filters): ReturnType<NetworkManager["list"]>;
    get: NetworkManager["get"];
    create: NetworkManager["create"];
    remove(name: string): Promise<void>;
    members: NetworkManager["members"];
    /** How a name would be answered to a container (by name or id), or to all networks. */
    traceName(name: string, type: "A" | "AAAA", container: string | undefined): ReturnType<NetworkManager["traceName"]>;
    prune(filters: Filters): Promise<string[]>;
    /** Joins a container (running or not) to a further network; missing: this engine cannot. */
    connect?(network: string, container: string, endpoint: EndpointConfig | undefined): Promise<void>;
    disconnect?(network: string, container: string, force: boolean): Promise<void>;
  };
  readonly volumes: {
    list(filters: Filters): ReturnType<VolumeStore["list"]>;
    get: VolumeStore["get"];
    create: VolumeStore["create"];
    remove(name: string, force: boolean): Promise<void>;
    /** A new volume with the same content; files share their blocks where the filesystem can. */
    clone(name: string, newName: string): ReturnType<VolumeStore["create"]>;
    exportTar(name: string, onChanged?: (message: string) => void): Promise<AsyncIterable<Uint8Array>>;
    /** From a tar, perhaps compressed; makes the volume when it is not there. */
    importTar(name: string, archive: AsyncIterable<Uint8Array>): ReturnType<VolumeStore["create"]>;
    /** Refused while containers name it. */
    rename(name: string, newName: string): Promise<void>;
    prune(filters: Filters): Promise<{ readonly deleted: string[]; readonly bytes: number }>;
  };
  readonly system: {
    info(): Promise<SystemInfo>;
    /** Replays from sinceNs (as far as 32 MB of history on disk reach, over restarts), then follows until untilNs or the signal. Never drops for a slow reader. */
    events(options: {
      readonly sinceNs: bigint | undefined;
      readonly untilNs: bigint | undefined;
      readonly filters: Filters;
      readonly signal?: AbortSignal;
    }): AsyncIterable<EngineEvent>;
    facts(): HostFacts;
    /** The storage drivers, and why one cannot run on this data root. */
    storageDrivers(): Promise<DriverListing[]>;
    /** Measures those that can, or those that are named, with a large file of so many bytes. */
    compareStorage(options: CompareOptions): Promise<StorageCosts[]>;
    /** Verifies the store; `repair` removes what nobody needs. */
    check(options: { readonly repair: boolean; readonly onProgress?: (what: string) => void; readonly signal?: AbortSignal }): Promise<StoreProblem[]>;
    diskUsage(): Promise<{
      readonly layersBytes: number;
      readonly containers: Readonly<Record<string, { readonly rw: number; readonly rootFs: number }>>;
      readonly volumes: Readonly<Record<string, number>>;
    }>;
  };
  readonly sessions: {
    /** Holds a session (32 hexadecimal digits) until the returned function is called: then what carries its label is removed, in the background. */
    hold(id: string): () => void;
    /** Removes what carries a session's label. */
    end(id: string): Promise<void>;
  };
  /** The same engine over nothing, for its `containers` only: see rehearsal.ts. `directory` is its own, and goes with it. */
  rehearsal(): Promise<{ readonly engine: Engine; readonly directory: string } & AsyncDisposable>;
  /** Stops serving; containers go on. */
  close(): Promise<void>;
}

/** Options of a data root's owner. */
export interface EngineOptions {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly storageDriver?: string;
  /** Options of the storage driver: "overlay2.size=20G", "dm.basesize=20G". */
  readonly storageOpts?: readonly string[];
  /** What images may take, as Docker counts their layers. Before one is added, unused ones go, the least recently used first. */
  readonly storageBudgetBytes?: number;
  /** What the layers of the build cache may take, bytes. Before more are added, the least recently used go. Default: a tenth of the data root's filesystem. */
  readonly buildCacheBudgetBytes?: number;
  /** Path of the native helper binary. */
  readonly helperPath: string;
  readonly log: (level: "debug" | "info" | "warn" | "error", message: string) => void;
  readonly cgroupParent?: string;
  /** What real-time processes of all containers may take together, in microseconds (cgroup v1). */
  readonly cpuRealtime?: CpuRealtime;
  /** Default "cgroupfs". */
  readonly cgroupDriver?: CgroupDriver;
  readonly bridge?: { readonly name: string; readonly subnet?: string };
  /** Of containers that name none; default json-file. */
  readonly defaultLogDriver?: string;
  readonly defaultLogOpts?: Readonly<Record<string, string>>;
  readonly labels?: readonly string[];
  /** Where CDI files lie; default /etc/cdi and /var/run/cdi. */
  readonly cdiSpecDirs?: readonly string[];
  /** For waits between tries; default: the system's. */
  readonly clock?: Clock;
  /** How registries are reached; default: as docker without flags, with the environment's proxies. */
  readonly registry?: RegistryConfig;
  /** `--userns-remap`: "default" or user[:group]; the user namespace of containers that ask for none. */
  readonly usernsRemap?: string;
  /** `--selinux-enabled`: containers get SELinux labels, where the kernel has SELinux. */
  readonly selinuxEnabled?: boolean;
  /** Facts that count instead of what the host says: to be as on a kernel that lacks something. */
  readonly facts?: Partial<HostFacts>;
}

export type { BuildEvent, Readable, StoreProblem };
