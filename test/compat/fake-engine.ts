/** A small engine that keeps its containers in memory, for tests of the API alone. It runs nothing. @module */
import { Duplex } from "node:stream";
import type { ContainerRecord, ExecRecord, LogEntry } from "#container/mod.ts";
import { zeroTime } from "#core/clock.ts";
import type { ContainerConfig } from "#core/container-config.ts";
import type { Digest, ImageID } from "#core/digest.ts";
import { digestOf } from "#core/digest.ts";
import { EngineError } from "#core/errors.ts";
import { newId } from "#core/ids.ts";
import type { Engine, EngineEvent, SystemInfo } from "#engine/mod.ts";
import type { Image } from "#image/mod.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { NetworkRecord } from "#network/mod.ts";
import type { VolumeRecord } from "#volume/mod.ts";
import { containerConfig } from "../../src/api/types/container-config.ts";
import { hostConfig } from "../../src/api/types/host-config.ts";

export const facts: HostFacts = {
  kernel: { release: "6.1.0", major: 6, minor: 1, arch: "x86_64" },
  cgroup: { mode: "v2", v1: {}, v2Controllers: ["cpu", "memory", "pids"], own: { "": "/" }, kill: true },
  overlay: { supported: true, lowerdirPlus: false, layerFds: false, metacopyDefault: false, redirectDirDefault: false, indexDefault: false },
  mountSetattr: true,
  idmappedMounts: true,
  seccomp: { supported: true, actions: ["allow", "errno"] },
  lsm: [],
  namespaces: ["pid", "mnt", "uts", "ipc", "net", "user", "cgroup"],
  mqueue: true,
  capabilities: 0x1ffffffffffn,
  lastCap: 40,
  cpus: 2,
  memoryBytes: 8_000_000_000,
  swapAccounting: true,
  rlimitCaps: {},
  oomScoreAdjMin: -1000,
};

const info: SystemInfo = {
  id: "0b6c1c0e-0000-4000-8000-000000000000",
  name: "host",
  rootDir: "/var/lib/wherry",
  execRoot: "/run/wherry",
  containers: { total: 0, running: 0, paused: 0, stopped: 0 },
  images: 1,
  driver: "overlay2",
  driverStatus: [["Backing Filesystem", "extfs"]],
  cgroupDriver: "cgroupfs",
  cgroupVersion: 2,
  cgroupFlags: { MemoryLimit: true, PidsLimit: true },
  warnings: ["WARNING: No swap limit support"],
  kernelVersion: "6.1.0",
  operatingSystem: "Debian GNU/Linux 12 (bookworm)",
  osVersion: "12",
  architecture: "x86_64",
  cpus: 2,
  memoryBytes: 8_000_000_000,
  securityOptions: ["name=seccomp,profile=builtin"],
  cdiSpecDirs: [],
  logDriver: "json-file",
  logDrivers: ["json-file"],
  networkDrivers: ["bridge", "host", "null"],
  labels: [],
  startedAtNs: 0n,
  version: "0.1.0",
  fds: 20,
  goroutineLike: 1,
  registry: { insecure: [], mirrors: {}, proxy: {} },
  eventListeners: 0,
};

const layer: Digest = `sha256:${"1".repeat(64)}`;
const rawConfig = new TextEncoder().encode('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}');

/** The one image there is. */
export const busybox: Image = {
  id: digestOf(rawConfig) as ImageID,
  config: {
    created: "2024-05-18T00:00:00Z",
    architecture: "amd64",
    os: "linux",
    config: { Cmd: ["sh"], Env: ["PATH=/bin"], Labels: { a: "b" } },
    rootfs: { type: "layers", diff_ids: [layer] },
    history: [
      { created: "2024-05-18T00:00:00Z", created_by: "ADD rootfs" },
      { created: "2024-05-18T00:00:01Z", created_by: 'CMD ["sh"]', empty_layer: true },
    ],
  },
  rawConfig,
  diffIds: [layer],
  chainIds: [layer],
  chainId: layer,
  repoTags: ["busybox:latest"],
  repoDigests: [],
  size: 4_000_000,
  layerSizes: [4_000_000],
  lastTaggedNs: 1_700_000_000_123_456_789n,
  parent: undefined,
};

const unsupported = (what: string) => async (): Promise<never> => {
  throw new EngineError("unsupported", `${what}: not in the fake`);
};

/** One end of a pair: what is written to the other comes out here. Half-open, as a socket. */
class End extends Duplex {
  peer: End | undefined;
  #pending: (() => void) | undefined;

  override _read(): void {
    this.#pending?.();
    this.#pending = undefined;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (this.peer?.push(chunk)) done();
    else if (this.peer) this.peer.#pending = done;
  }

  override _final(done: () => void): void {
    this.peer?.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { peer } = this;
    this.peer = undefined;
    if (peer) queueMicrotask(() => peer.destroy());
    done(error);
  }
}

/** A stream whose two ends are the API's and the test's. */
export function streamPair(): { readonly api: Duplex; readonly container: Duplex } {
  const api = new End();
  const container = new End();
  api.peer = container;
  container.peer = api;
  return { api, container };
}

/** What the tests reach into. */
export interface FakeEngine extends Engine {
  readonly records: Map<string, ContainerRecord>;
  readonly execRecords: Map<string, ExecRecord>;
  /** The container's ends of attached streams, in the order of their making. */
  readonly attached: Duplex[];
  /** Settles `wait` of a container. */
  exit(id: string, code: number): void;
  readonly calls: string[];
  logEntries: LogEntry[];
  eventList: EngineEvent[];
  /** What `explain` and `create` were last given. */
  lastConfig: ContainerConfig | undefined;
}

/** A container as `create` leaves it. */
export function newRecord(name: string, config: ContainerConfig): ContainerRecord {
  const id = newId();
  return {
    version: 1,
    id,
    name,
    created: "2024-05-20T10:00:00.000000001Z",
    imageId: busybox.id,
    path: config.Cmd?.[0] ?? "sh",
    args: config.Cmd?.slice(1) ?? [],
    config,
    hostConfig: { ...hostConfig({}, "HostConfig"), CgroupnsMode: "private" },
    networkingConfig: { EndpointsConfig: {} },
    state: {
      status: "created",
      oomKilled: false,
      dead: false,
      pid: 0,
      startTime: "0",
      exitCode: 0,
      error: "",
      startedAt: zeroTime,
      finishedAt: zeroTime,
      reason: "",
    },
    mounts: [],
    endpoints: {},
    ports: {},
    cgroup: undefined,
    driver: "overlay2",
    snapshot: id,
    restartCount: 0,
    manuallyStopped: false,
    hostnamePath: `/var/lib/wherry/containers/${id}/hostname`,
    hostsPath: `/var/lib/wherry/containers/${id}/hosts`,
    resolvConfPath: `/var/lib/wherry/containers/${id}/resolv.conf`,
    logPath: `/var/lib/wherry/containers/${id}/${id}-json.log`,
  };
}

/** A fresh fake with no containers. */
export function createFakeEngine(): FakeEngine {
  const records = new Map<string, ContainerRecord>();
  const execRecords = new Map<string, ExecRecord>();
  const attached: Duplex[] = [];
  const waiting = new Map<string, ((code: number) => void)[]>();
  const calls: string[] = [];
  const get = (name: string): ContainerRecord => {
    for (const record of records.values()) if (record.id === name || record.name === name || (name.length >= 4 && record.id.startsWith(name))) return record;
    throw new EngineError("not-found", `No such container: ${name}`);
  };
  const find = async (name: string): Promise<Image | undefined> => (["busybox", "busybox:latest", busybox.id].includes(name) ? busybox : undefined);
  const getImage = async (name: string): Promise<Image> => {
    const image = await find(name);
    if (!image) throw new EngineError("not-found", `No such image: ${name}${name.includes(":") ? "" : ":latest"}`);
    return image;
  };
  const getExec = (id: string): ExecRecord => {
    const record = execRecords.get(id);
    if (!record) throw new EngineError("not-found", `No such exec instance: ${id}`);
    return record;
  };
  const setStatus = (name: string, status: ContainerRecord["state"]["status"]): void => {
    const record = get(name);
    records.set(record.id, {
      ...record,
      state: { ...record.state, status, startedAt: status === "running" ? new Date().toISOString() : record.state.startedAt },
    });
  };
  const pair = (): Duplex => {
    const { api, container } = streamPair();
    attached.push(container);
    return api;
  };
  const network: NetworkRecord = {
    Name: "bridge",
    Id: "b".repeat(64),
    Created: "2024-05-20T10:00:00Z",
    Scope: "local",
    Driver: "bridge",
    EnableIPv6: false,
    IPAM: { Driver: "default", Options: null, Config: [{ Subnet: "172.17.0.0/16", Gateway: "172.17.0.1" }] },
    Internal: false,
    Attachable: false,
    Ingress: false,
    Options: {},
    Labels: {},
  };
  const volumes = new Map<string, VolumeRecord>();

  const fake: FakeEngine = {
    records,
    execRecords,
    attached,
    calls,
    logEntries: [],
    eventList: [],
    lastConfig: undefined,
    exit: (id, code) => {
      for (const settle of waiting.get(id) ?? []) settle(code);
    },
    builds: {
      build: unsupported("build"),
      solve: unsupported("solve"),
      root: unsupported("root"),
      records: () => [],
      prune: async () => ({ deleted: [], bytes: 0 }),
    },
    containers: {
      async create({ name, config }) {
        await getImage(config.Image);
        for (const record of records.values()) {
          if (record.name === name) {
            throw new EngineError(
              "conflict",
              `Conflict. The container name "/${name}" is already in use by container "${record.id}". You have to remove (or rename) that container to be able to reuse that name.`,
            );
          }
        }
        const record = newRecord(name ?? "quiet_boat", config);
        fake.lastConfig = config;
        records.set(record.id, record);
        return { id: record.id, warnings: [] };
      },
      get,
      list: ({ all }) => [...records.values()].filter((r) => all || r.state.status === "running"),
      async start(name, options) {
        calls.push(`start${options?.direct ? " direct" : ""}`);
        if (get(name).state.status === "running") throw new EngineError("not-modified", "already started");
        setStatus(name, "running");
      },
      async stop(name, options) {
        calls.push(`stop ${options?.timeout} ${options?.signal}`);
        setStatus(name, "exited");
      },
      restart: unsupported("restart"),
      async kill(name, signal) {
        calls.push(`kill ${signal}`);
        get(name);
      },
      pause: unsupported("pause"),
      unpause: unsupported("unpause"),
      async rename(name, newName) {
        const record = get(name);
        records.set(record.id, { ...record, name: newName });
      },
      async remove(name) {
        records.delete(get(name).id);
      },
      update: async (_name, resources) => {
        calls.push(`update ${JSON.stringify(resources)}`);
        return { warnings: [] };
      },
      wait: (name, _condition, signal) => {
        const { id } = get(name);
        return new Promise((resolve, reject) => {
          waiting.set(id, [...(waiting.get(id) ?? []), (exitCode) => resolve({ exitCode })]);
          signal?.addEventListener("abort", () => {
            calls.push("wait aborted");
            reject(new EngineError("cancelled", "gone"));
          });
        });
      },
      async resize(name, rows, columns) {
        get(name);
        calls.push(`resize ${rows} ${columns}`);
      },
      async attach(name) {
        return { stream: pair(), framed: !get(name).config.Tty };
      },
      async *logs(_name, _query, signal) {
        yield [...fake.logEntries];
        if (_query.follow) await new Promise<void>((resolve) => signal?.addEventListener("abort", () => resolve(), { once: true }));
        calls.push("logs ended");
      },
      top: async () => ({ Titles: ["PID"], Processes: [["1"]] }),
      stats: async () => undefined,
      changes: async () => [{ kind: "add", path: "/x" }],
      async exportTree() {
        return (async function* () {
          yield new Uint8Array(1024);
        })();
      },
      statPath: unsupported("statPath"),
      readArchive: unsupported("readArchive"),
      writeArchive: unsupported("writeArchive"),
      size: async () => ({ rw: 1, rootFs: 2 }),
      prune: async () => ({ deleted: [], bytes: 0 }),
      commit: unsupported("commit"),
      async explain({ config }, format) {
        fake.lastConfig = config;
        return format === "json" ? "{}" : "1. clone\n";
      },
    },
    execs: {
      async create(container, config) {
        const id = newId();
        execRecords.set(id, { id, containerId: get(container).id, config, running: false, exitCode: null, pid: 0, openStdin: config.AttachStdin });
        return id;
      },
      async start(id, { detach }) {
        const record = getExec(id);
        return detach ? undefined : { stream: pair(), framed: !record.config.Tty };
      },
      get: getExec,
      wait: async () => 0,
      resize: unsupported("resize"),
    },
    registries: {
      login: unsupported("login"),
      search: unsupported("search"),
      distribution: unsupported("distribution"),
      manifest: unsupported("manifest"),
      putManifest: unsupported("putManifest"),
      catalog: unsupported("catalog"),
      tags: unsupported("tags"),
    },
    images: {
      get: getImage,
      find,
      list: async () => [busybox],
      save: unsupported("save"),
      tree: async () => [],
      compare: unsupported("compare"),
      tag: async (name, reference) => {
        await getImage(name);
        calls.push(`tag ${reference}`);
      },
      async load(archive, onEvent) {
        let bytes = 0;
        for await (const chunk of archive) bytes += chunk.length;
        if (bytes === 0) throw new EngineError("corrupt", "unexpected EOF");
        onEvent({ kind: "layer", id: "1".repeat(64), current: bytes, total: bytes });
        if (bytes === 3) throw new EngineError("corrupt", "bad layer");
        onEvent({ kind: "loaded", reference: "busybox:latest", id: busybox.id });
      },
      import: async () => busybox.id,
      pull: unsupported("pull"),
      push: unsupported("push"),
      copy: unsupported("copy"),
      importStore: unsupported("importStore"),
      remove: async (name) => [{ Untagged: `${name}:latest` }],
      prune: async () => ({ deleted: [], bytes: 0 }),
      users: (id: Digest) => [...records.values()].filter((r) => r.imageId === id).map((r) => r.id),
      mount: unsupported("mount"),
      unmount: unsupported("unmount"),
      mounts: () => [],
      bootstrap: async (_what, onProgress) => {
        onProgress("unpacking");
        return busybox;
      },
    },
    networks: {
      list: () => [network],
      get: (name) => {
        if (name !== "bridge" && name !== network.Id) throw new EngineError("not-found", `network ${name} not found`);
        return network;
      },
      create: async () => ({ id: "c".repeat(64), warning: "" }),
      remove: unsupported("remove"),
      members: () => [],
      traceName: async () => ({ found: [], asked: [], internal: false, refused: false }),
      prune: async () => [],
    },
    volumes: {
      list: () => [...volumes.values()],
      get: (name) => {
        const volume = volumes.get(name);
        if (!volume) throw new EngineError("not-found", `get ${name}: no such volume`);
        return volume;
      },
      async create({ name = "v", labels, options }) {
        const volume: VolumeRecord = {
          Name: name,
          Driver: "local",
          Mountpoint: `/var/lib/wherry/volumes/${name}/_data`,
          CreatedAt: "2024-05-20T10:00:00Z",
          Labels: labels ?? null,
          Scope: "local",
          Options: options ?? null,
        };
        volumes.set(name, volume);
        return volume;
      },
      async remove(name) {
        volumes.delete(name);
      },
      clone: unsupported("clone"),
      exportTar: unsupported("exportTar"),
      importTar: unsupported("importTar"),
      rename: unsupported("rename"),
      prune: async () => ({ deleted: [], bytes: 0 }),
    },
    system: {
      info: async () => info,
      check: async () => [],
      storageDrivers: async () => [],
      compareStorage: async () => [],
      async *events({ signal }) {
        yield* fake.eventList;
        await new Promise<void>((resolve) => signal?.addEventListener("abort", () => resolve(), { once: true }));
        calls.push("events ended");
      },
      facts: () => facts,
      diskUsage: async () => ({ layersBytes: 4_000_000, containers: {}, volumes: {} }),
    },
    sessions: { hold: () => () => undefined, end: async () => undefined },
    rehearsal: () => Promise.reject(new Error("a fake has nothing to rehearse")),
    async close() {},
  };
  return fake;
}

/** A config as a create body gives it. */
export function configOf(body: Record<string, unknown>): ContainerConfig {
  return containerConfig({ Image: "busybox", ...body }, "");
}
