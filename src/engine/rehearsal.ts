/**
 * The same engine over nothing: its containers are created, planned, encoded, started, ended and removed by the code that does it for real, but nobody
 * performs the plans. A daemon rehearses with it after its start, so that V8 has compiled a run's code before somebody waits for it.
 *
 * All that leaves a trace is of its own: registry, events, records (in a directory of the exec root), networks, snapshots. Nothing of it can be seen.
 * @module
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { CgroupManager } from "#cgroup/mod.ts";
import { RecordStore } from "#container/record-store.ts";
import { ContainerRegistry } from "#container/registry.ts";
import { nowNs } from "#core/clock.ts";
import type { ChainID, DiffID, ImageID } from "#core/digest.ts";
import type { Image, ImageStore } from "#image/mod.ts";
import { encodePlan } from "#linux/encode.ts";
import type { Helper, MonitorLink } from "#linux/helper.ts";
import { type NetworkManager, noAddresses } from "#network/mod.ts";
import type { LayerStore, RootMount, StorageDriver } from "#unionfs/mod.ts";
import { Background } from "./background.ts";
import type { EngineContext } from "./context.ts";
import { EventLog } from "./events.ts";
import { ExecTable } from "./exec-table.ts";
import { KnownStarts } from "./known-starts.ts";
import { RootFileCache } from "./resolve-user.ts";
import { Leftovers } from "./leftovers.ts";
import { startLocked } from "./start-container.ts";
import { PendingAttaches } from "./attach-stream.ts";

const digest = `sha256:${"0".repeat(64)}` as const;
/** The image that is always there. */
const image: Image = {
  id: digest as ImageID,
  config: { architecture: "amd64", os: "linux", config: { Env: ["PATH=/bin"], Cmd: ["sh"] }, rootfs: { type: "layers", diff_ids: [digest] } },
  rawConfig: new Uint8Array(),
  diffIds: [digest as DiffID],
  chainIds: [digest as ChainID],
  chainId: digest as ChainID,
  repoTags: ["rehearsal:latest"],
  repoDigests: [],
  size: 0,
  layerSizes: [0],
  lastTaggedNs: 0n,
  parent: undefined,
};

/** A context for `run --rm --network none`; `dispose` removes its directory. */
export async function openRehearsal(real: EngineContext): Promise<EngineContext & { readonly directory: string } & AsyncDisposable> {
  const directory = join(real.options.execRoot, "rehearsal");
  const records = new RecordStore(directory);
  await rm(directory, { recursive: true, force: true }); // of one that a crash has ended
  await mkdir(directory, { mode: 0o700 });
  await records.prepare();
  const rootFiles = new RootFileCache();
  rootFiles.set(digest, { passwd: "", group: "" });
  const background = new Background((message) => real.log("debug", `rehearsal: ${message}`));
  const helper = performsNothing(real.helper);
  const leftovers = new Leftovers(helper, (message) => real.log("debug", `rehearsal: ${message}`));
  const ctx: EngineContext = {
    ...real,
    helper,
    cgroups: keepsNothing(real.cgroups),
    networks: joinsNothing(real.networks),
    layers: instead<LayerStore>(real.layers, { driver: stacksNothing(real.layers.driver, directory) }),
    images: instead<ImageStore>(real.images, { find: async () => image }),
    records,
    registry: new ContainerRegistry(),
    events: new EventLog(),
    execs: new ExecTable(),
    attaches: new PendingAttaches(),
    rootFiles,
    known: new KnownStarts(1), // what it keeps would have to be collected later
    background,
    leftovers,
    start: (container) => startLocked(ctx, container),
  };
  return {
    ...ctx,
    directory,
    async [Symbol.asyncDispose]() {
      await background.idle();
      await leftovers.flush();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** All that the real one can do, but for what is given. */
function instead<T extends object>(real: T, own: Partial<T>): T {
  const all: Record<string, unknown> = {};
  const source = real as Record<string, unknown>; // its methods, whoever has them
  for (let level: object = real; level !== Object.prototype; level = Object.getPrototypeOf(level) as object)
    for (const name of Object.getOwnPropertyNames(level)) {
      if (name === "constructor" || name in all) continue;
      const value = source[name];
      all[name] = typeof value === "function" ? (value.bind(real) as unknown) : value;
    }
  return Object.assign(all, own) as T; // has every name that T has
}

/** The program that does not end in a rehearsal. */
const ENDLESS = "sleep";

/** Encodes every plan as if it were sent; what it launches has ended well, but for {@link ENDLESS}. */
function performsNothing(real: Helper): Helper {
  return instead(real, {
    async call(plan) {
      encodePlan(plan);
      return new Map();
    },
    async launch({ plan, exitReports }): Promise<MonitorLink> {
      encodePlan(plan);
      const goesOn = plan.steps.some((step) => step.op === "exec" && step.argv[0] === ENDLESS);
      const nobody = () => Promise.reject(new Error("nobody listens at a rehearsal"));
      return {
        monitorPid: 0,
        pid: 0,
        startTime: 0n,
        exited: goesOn ? new Promise(() => undefined) : Promise.resolve({ code: 0, signal: 0, atNs: nowNs(), reports: exitReports.map(() => undefined) }),
        left: Promise.resolve(true),
        letGo: () => undefined,
        direct: Promise.resolve("delivered" as const),
        attach: nobody,
        names: nobody,
        kill: async () => false,
        resize: async () => undefined,
        flush: async () => undefined,
        logPacked: async () => undefined,
      };
    },
  });
}

function keepsNothing(real: CgroupManager): CgroupManager {
  const { hold: _asksSystemd, ...rest } = instead(real, { prepare: async () => undefined, remove: async () => undefined });
  return rest;
}

function joinsNothing(real: NetworkManager): NetworkManager {
  return instead(real, {
    async join({ networkName }) {
      const { Id, Name } = real.get(networkName);
      const asked = { IPAMConfig: null, Links: null, Aliases: null, DriverOpts: null, DNSNames: [], NetworkID: Id, NetworkName: Name };
      return { endpoint: { ...asked, EndpointID: "", ...noAddresses }, ports: {}, steps: [] };
    },
    leave: async () => undefined,
  });
}

function stacksNothing(real: StorageDriver, directory: string): StorageDriver {
  const root: RootMount = {
    kind: "overlay",
    lower: [join(directory, "init/diff"), join(directory, "base/diff")],
    links: ["l/AAAAAAAAAAAAAAAAAAAAAAAAAA", "l/BBBBBBBBBBBBBBBBBBBBBBBBBB"],
    linkDir: directory,
    upper: join(directory, "diff"),
    work: join(directory, "work"),
    options: ["volatile"],
  };
  return instead(real, { prepare: async () => undefined, mounts: async () => root, remove: async () => undefined });
}
