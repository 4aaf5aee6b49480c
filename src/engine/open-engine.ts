/**
 * Puts the parts together: one engine over one data root.
 * @module
 */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { openCgroups } from "#cgroup/open-cgroups.ts";
import { RecordStore } from "#container/record-store.ts";
import { ContainerRegistry } from "#container/registry.ts";
import { openContentStore } from "#content/blob-store.ts";
import { nowNs } from "#core/clock.ts";
import { errnoOf } from "#core/errors.ts";
import { newId } from "#core/ids.ts";
import { openImageStore } from "#image/mod.ts";
import { startHelper } from "#linux/helper-client.ts";
import { probeHost } from "#linux/probe-host.ts";
import type { IdMappings } from "#core/id-mappings.ts";
import { CacheStore, defaultRegistryConfig, Downloads, Registries, SharedWork } from "#registry/mod.ts";
import { type NetworksOptions, openNetworks } from "#network/network-manager.ts";
import { openLayerStore } from "#unionfs/layer-store.ts";
import { openDriver } from "#unionfs/open-driver.ts";
import { LayerThreads } from "#unionfs/threads/layer-threads.ts";
import { openVolumeStore } from "#volume/volume-store.ts";
import { readContainerArchive, statContainerPath, writeContainerArchive } from "./archive-container.ts";
import { attachContainer, readContainerLogs, resizeContainer } from "./attach-container.ts";
import { PendingAttaches } from "./attach-stream.ts";
import { Background } from "./background.ts";
import { commitContainer, containerChanges, containerSize, exportContainer } from "./container-content.ts";
import { registryQueriesOf } from "./ask-registry.ts";
import { buildsOf } from "./build-image.ts";
import { openBuilds } from "./build-state.ts";
import { checkStore } from "./check-store.ts";
import { ImageMounts } from "./image-mounts.ts";
import { compareStorage, listDrivers } from "./compare-storage.ts";
import { containerStats } from "./container-stats.ts";
import { type EngineContext, monitorDirectory, publishContainerEvent } from "./context.ts";
import { createContainer } from "./create-container.ts";
import { lockDataRoot } from "./data-root-lock.ts";
import { diskUsage } from "./disk-usage.ts";
import { EventStore } from "./event-store.ts";
import { EventLog } from "./events.ts";
import { createExec, resizeExec, startExec } from "./exec-container.ts";
import { ExecTable } from "./exec-table.ts";
import { explainContainer } from "./explain-container.ts";
import { loadDefaultProfile } from "./apparmor.ts";
import { IdRanges } from "./id-ranges.ts";
import { usedImages } from "#container/used-images.ts";
import { ImageIndex } from "./image-index.ts";
import { imagesOf } from "./images.ts";
import { listContainers } from "./list-containers.ts";
import { LayerBlobs } from "./layer-blobs.ts";
import { KnownStarts } from "./known-starts.ts";
import type { Containers, Engine, EngineOptions, Execs } from "./mod.ts";
import { networksOf } from "./networks.ts";
import { Leftovers } from "./leftovers.ts";
import { pauseContainer, unpauseContainer } from "./pause-container.ts";
import { pruneContainers } from "./prune-containers.ts";
import { openRehearsal } from "./rehearsal.ts";
import { Sessions } from "./sessions.ts";
import { removeContainer } from "./remove-container.ts";
import { renameContainer } from "./rename-container.ts";
import { RootFileCache } from "./resolve-user.ts";
import { restartContainers, restore } from "./restore.ts";
import { startContainer, startLocked } from "./start-container.ts";
import { killContainer, restartContainer, stopContainer } from "./stop-container.ts";
import { SelinuxLabels, whyNoSelinux } from "./selinux.ts";
import { StorageBudget } from "./storage-budget.ts";
import { systemInfo } from "./system-info.ts";
import { topContainer } from "./top-container.ts";
import { updateContainer } from "./update-container.ts";
import { volumesOf } from "./volumes.ts";
import { waitContainer } from "./wait-container.ts";

/**
 * Opens a data root (it is made when it is not there), takes containers back that go on from earlier, and cleans up what crashes have left.
 * @throws EngineError "conflict" when another process has it; "unsupported" with what the host lacks
 */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  const release = await lockDataRoot(options.dataRoot, options.execRoot);
  const opened: (() => Promise<unknown>)[] = [release];
  try {
    const ctx = await openContext(options, opened);
    await ctx.imageMounts.close();
    opened.push(() => ctx.imageMounts.close());
    await restore(ctx);
    await restartContainers(ctx);
    sweepRegistryFiles(ctx, opened);
    // Thousands of them take seconds: who asks for some of them meanwhile gets those.
    ctx.background.add("reading the images", ctx.imageIndex.refresh());
    return engineOf(ctx, opened, { sweepSessions: true });
  } catch (error) {
    for (const close of opened.reverse()) await close().catch((cause: Error) => options.log("warn", `closing after a failed start: ${cause.message}`));
    throw error;
  }
}

/** What a pull that did not end has left is kept for the next one so long. */
const partialsKeptMs = 24 * 3_600_000;

/** Layers that nobody has come back for, now and every hour. */
function sweepRegistryFiles(ctx: EngineContext, opened: (() => Promise<unknown>)[]): void {
  const sweep = () =>
    ctx.background.add("sweeping what pulls have left", Promise.all([ctx.downloads.sweep(partialsKeptMs, Date.now()), LayerBlobs.sweep(ctx)]));
  const timer = setInterval(sweep, 3_600_000);
  timer.unref();
  opened.push(async () => clearInterval(timer));
  sweep();
}

/** Opens the parts, in the order in which they need each other. `opened` gets what must be closed again. */
async function openContext(options: EngineOptions, opened: (() => Promise<unknown>)[]): Promise<EngineContext> {
  const { dataRoot, execRoot, helperPath, log } = options;
  const records = new RecordStore(dataRoot);
  await mkdir(execRoot, { recursive: true, mode: 0o700 });
  await Promise.all([mkdir(monitorDirectory(options), { recursive: true, mode: 0o700 }), records.prepare()]);
  // First, while this process is small: a fork costs what is mapped.
  const [helper, facts, engineId] = await Promise.all([
    startHelper({ helperPath, execRoot, log: (line) => log("warn", line) }),
    probeHost().then((found) => ({ ...found, ...options.facts })),
    persistentId(dataRoot),
  ]);
  opened.push(() => helper.close());
  const cgroups = openCgroups(facts, {
    dataRoot,
    helper,
    helperPath,
    driver: options.cgroupDriver ?? "cgroupfs",
    ...(options.cgroupParent === undefined ? {} : { parent: options.cgroupParent }),
    ...(options.cpuRealtime === undefined ? {} : { cpuRealtime: options.cpuRealtime }),
  });
  opened.push(() => cgroups.close());
  let repaired: NonNullable<NetworksOptions["onRepaired"]> = () => undefined; // nobody listens to events yet
  let refused: NonNullable<NetworksOptions["onRefused"]> = () => undefined;
  const [driver, content, volumes, networks] = await Promise.all([
    openDriver(options.storageDriver, { root: dataRoot, helper, options: options.storageOpts ?? [] }),
    openContentStore(dataRoot),
    openVolumeStore({ root: dataRoot, log }),
    openNetworks({
      dataRoot,
      helper,
      facts,
      log,
      onRepaired: (...what) => repaired(...what),
      onRefused: (...what) => refused(...what),
      ...(options.bridge === undefined ? {} : { bridge: options.bridge }),
    }),
  ]);
  opened.push(() => networks.close());
  opened.push(async () => driver.close?.());
  const layers = await openLayerStore({ driver, root: dataRoot, helper });
  const registries = new Registries(options.registry ?? defaultRegistryConfig(process.env), options.clock);
  const { cache, maxDownloads } = registries.config;
  const kept = cache === undefined ? undefined : await CacheStore.open(cache);
  const downloads = await Downloads.open(join(dataRoot, "registry", "partial"), maxDownloads, kept);
  // One more than there are cores: five layers on two cores would leave one of them idle while the fifth is taken in.
  const layerThreads = new LayerThreads(join(dirname(dirname(helperPath)), "layer-thread.cjs"), availableParallelism() + 1);
  opened.push(() => layerThreads.close());
  const images = await openImageStore({ root: dataRoot, content, layers, log, threads: layerThreads });
  const imageIndex = new ImageIndex(images);
  const registry = new ContainerRegistry();
  const budget = new StorageBudget({
    budgetBytes: options.storageBudgetBytes,
    images,
    used: () => new Set([...registry.all()].flatMap(({ record }) => usedImages(record))),
    onRemoved: (id) => log("info", `image ${id} removed for the storage budget`),
  });
  const background = new Background((message) => log("warn", message));
  const idRanges = await IdRanges.open({ remap: options.usernsRemap, taken: () => mappingsOf(registry) });
  const leftovers = new Leftovers(helper, (message) => log("warn", message));
  opened.push(() => leftovers.close());
  const eventStore = await EventStore.open(join(dataRoot, "events"), { warn: (message) => log("warn", message) });
  opened.push(() => eventStore.close());
  const ctx: EngineContext = {
    options,
    engineId,
    startedAtNs: nowNs(),
    facts,
    helper,
    cgroups,
    networks,
    content,
    layers,
    images,
    registries,
    downloads,
    layerThreads,
    applying: new SharedWork(),
    imageIndex,
    imageMounts: new ImageMounts({ execRoot, helper, facts, layers, images }),
    budget,
    builds: await openBuilds({ dataRoot, execRoot, images, log, budgetBytes: options.buildCacheBudgetBytes }),
    volumes,
    records,
    registry,
    events: await EventLog.open(eventStore),
    execs: new ExecTable(),
    attaches: new PendingAttaches(),
    rootFiles: new RootFileCache(),
    known: new KnownStarts(),
    idRanges,
    selinux: options.selinuxEnabled === true ? selinuxOf(facts, registry, log) : undefined,
    appArmorDefault: await loadDefaultProfile({ facts, helper, execRoot, log }),
    background,
    log,
    leftovers,
    start: (container) => startLocked(ctx, container),
    closing: false,
  };
  refused = (id, what) => {
    const container = ctx.registry.has(id) ? ctx.registry.get(id) : undefined;
    const known = Object.entries(what).filter(([, value]) => value !== undefined);
    if (container !== undefined) publishContainerEvent(ctx, container, "refuse", Object.fromEntries(known.map(([key, value]) => [key, String(value)])));
  };
  repaired = (what, network) => {
    if (network === undefined) ctx.events.publish("daemon", "repair", engineId, { what });
    else ctx.events.publish("network", "repair", network.Id, { what, name: network.Name, type: network.Driver });
  };
  return ctx;
}

function selinuxOf(facts: EngineContext["facts"], registry: ContainerRegistry, log: EngineOptions["log"]): SelinuxLabels | undefined {
  if (facts.selinux !== undefined)
    return new SelinuxLabels(facts.selinux, function* () {
      for (const { record } of registry.all()) yield record;
    });
  log("warn", `containers get no SELinux labels: ${whyNoSelinux(facts)}`);
  return undefined;
}

function* mappingsOf(registry: ContainerRegistry): Iterable<IdMappings> {
  for (const { record } of registry.all()) if (record.idMappings !== undefined) yield record.idMappings;
}

async function persistentId(dataRoot: string): Promise<string> {
  const path = join(dataRoot, "engine-id");
  try {
    const id = (await readFile(path, "utf8")).trim();
    if (id !== "") return id;
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
  const hex = newId();
  // A UUID, as Docker's.
  const id = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join("-");
  await writeFile(`${path}.new`, `${id}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
  return id;
}

function engineOf(ctx: EngineContext, opened: (() => Promise<unknown>)[], { sweepSessions }: { readonly sweepSessions: boolean }): Engine {
  const objects = { containers: containersOf(ctx), images: imagesOf(ctx), networks: networksOf(ctx), volumes: volumesOf(ctx) };
  const sessions = new Sessions(objects, ctx.background);
  if (sweepSessions) sessions.sweepLater();
  return {
    ...objects,
    execs: execsOf(ctx),
    registries: registryQueriesOf(ctx),
    builds: buildsOf(ctx),
    sessions: { hold: (id) => sessions.hold(id), end: (id) => sessions.end(id) },
    system: {
      info: () => systemInfo(ctx),
      events: (query) => ctx.events.read(query),
      facts: () => ctx.facts,
      check: (how) => checkStore(ctx, how),
      storageDrivers: () => listDrivers(ctx),
      compareStorage: (options) => compareStorage(ctx, options),
      diskUsage: () => diskUsage(ctx),
    },
    rehearsal: async () => {
      const rehearsal = await openRehearsal(ctx);
      const { directory } = rehearsal;
      return { engine: engineOf(rehearsal, [], { sweepSessions: false }), directory, [Symbol.asyncDispose]: () => rehearsal[Symbol.asyncDispose]() };
    },
    close: async () => {
      if (ctx.closing) return;
      ctx.closing = true;
      sessions.close();
      for (const container of ctx.registry.all()) {
        container.restart?.cancel.abort();
        container.healthChecks?.abort();
        container.logKeeper?.stop.abort(new Error("the engine is shutting down"));
      }
      await Promise.all([...ctx.registry.all()].map(({ logKeeper }) => logKeeper?.done));
      await ctx.background.idle();
      await ctx.layers.driver.idle();
      for (const close of opened.reverse()) await close();
    },
  };
}

function containersOf(ctx: EngineContext): Containers {
  return {
    create: (request) => createContainer(ctx, request),
    get: (name) => ctx.registry.get(name).record,
    list: (options) => listContainers(ctx, options),
    start: (name, options) => startContainer(ctx, name, options),
    stop: (name, options) => stopContainer(ctx, name, options),
    restart: (name, options) => restartContainer(ctx, name, options),
    kill: (name, signal) => killContainer(ctx, name, signal),
    pause: (name) => pauseContainer(ctx, name),
    unpause: (name) => unpauseContainer(ctx, name),
    rename: (name, newName) => renameContainer(ctx, name, newName),
    remove: (name, options) => removeContainer(ctx, name, options),
    update: (name, resources, policy) => updateContainer(ctx, name, resources, policy),
    wait: async (name, condition, signal) => waitContainer(ctx, name, condition, signal),
    resize: (name, rows, columns) => resizeContainer(ctx, name, rows, columns),
    attach: (name, request) => attachContainer(ctx, name, request),
    logs: (name, query, signal) => readContainerLogs(ctx.registry.get(name), query, signal),
    top: (name, psArgs) => topContainer(ctx, name, psArgs),
    stats: (name) => containerStats(ctx, name),
    changes: (name) => containerChanges(ctx, name),
    exportTree: (name, onChanged) => exportContainer(ctx, name, onChanged),
    statPath: (name, path) => statContainerPath(ctx, name, path),
    readArchive: (name, path, onChanged) => readContainerArchive(ctx, name, path, onChanged),
    writeArchive: (name, path, tar, options) => writeContainerArchive(ctx, name, path, tar, options),
    size: async (name) => containerSize(ctx, ctx.registry.get(name)),
    prune: (filters) => pruneContainers(ctx, filters),
    commit: (name, options) => commitContainer(ctx, name, options),
    explain: (request, format) => explainContainer(ctx, request, format),
  };
}

function execsOf(ctx: EngineContext): Execs {
  return {
    create: (container, config) => createExec(ctx, container, config),
    start: (id, options) => startExec(ctx, id, options),
    get: (id) => ctx.execs.get(id).record,
    wait: async (id) => ctx.execs.get(id).ended,
    resize: (id, rows, columns) => resizeExec(ctx, id, rows, columns),
    ids: (container) => ctx.execs.running(ctx.registry.get(container)),
  };
}
