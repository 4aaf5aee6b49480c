/**
 * An engine as a socket with limited rights sees it: objects without its labels are not there, what is made carries them, and nothing reaches the host unless it
 * may. It stands behind the routes, so that no path, version or spelling of a request gets around it.
 *
 * Images are shared: whoever may see or use images sees all of them, and labels only protect them from being changed.
 * @module
 */
import type { ContainerRecord, ExecRecord } from "#container/mod.ts";
import { EngineError } from "#core/errors.ts";
import type { Engine, EngineEvent, Filters } from "#engine/mod.ts";
import type { Image } from "#image/mod.ts";
import type { NetworkRecord } from "#network/mod.ts";
import type { VolumeRecord } from "#volume/mod.ts";
import { checkHostConfig, checkNetwork, checkResources, checkVolumeOptions, namedContainers, namedVolumes } from "./container-rules.ts";
import type { Rights } from "./rights.ts";

export interface Scope {
  readonly rights: Rights;
  /** All of them must match; none = every object. */
  readonly labels: Readonly<Record<string, string>>;
}

type Labels = Readonly<Record<string, string>> | null | undefined;

const predefined: ReadonlySet<string> = new Set(["bridge", "host", "none", "default"]);

function closed(what: string): EngineError {
  return new EngineError("denied", `${what} is not to be had on a socket with limited rights`);
}

/** Who may not do something cannot do it by a part of the engine that no route of theirs should reach. */
const never = (what: string) => (): never => {
  throw closed(what);
};

/** Decides what is in a scope. */
class Objects {
  readonly #engine: Engine;
  readonly #wanted: readonly (readonly [string, string])[];
  readonly host: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly filters: Filters;

  constructor(engine: Engine, { rights, labels }: Scope) {
    this.#engine = engine;
    this.#wanted = Object.entries(labels);
    this.labels = labels;
    this.host = rights.has("host");
    this.filters = this.#wanted.length === 0 ? {} : { label: this.#wanted.map(([key, value]) => `${key}=${value}`) };
  }

  get limited(): boolean {
    return this.#wanted.length > 0;
  }

  holds(labels: Labels): boolean {
    return this.#wanted.every(([key, value]) => labels?.[key] === value);
  }

  /** The filters, and that what they find is ours. */
  narrowed(filters: Filters): Filters {
    return this.limited ? { ...filters, label: [...(filters["label"] ?? []), ...(this.filters["label"] ?? [])] } : filters;
  }

  /** The id of a container that is ours. */
  container(name: string): string {
    return this.record(name).id;
  }

  record(name: string): ContainerRecord {
    const record = this.#engine.containers.get(name);
    // As for one that is not there: who may not see it learns nothing.
    if (!this.holds(record.config.Labels)) throw new EngineError("not-found", `No such container: ${name}`);
    return record;
  }

  exec(id: string): ExecRecord {
    const record = this.#engine.execs.get(id);
    const owner = this.#engine.containers.get(record.containerId);
    if (!this.holds(owner.config.Labels)) throw new EngineError("not-found", `No such exec instance: ${id}`);
    return record;
  }

  volume(name: string): VolumeRecord {
    const record = this.#engine.volumes.get(name);
    if (!this.holds(record.Labels)) throw new EngineError("not-found", `get ${name}: no such volume`);
    return record;
  }

  /** A network that is ours. */
  network(name: string): NetworkRecord {
    const record = this.#engine.networks.get(name);
    if (!this.holds(record.Labels)) throw new EngineError("not-found", `network ${name} not found`);
    return record;
  }

  /** A network that may be used: ours, or one that is everybody's. */
  usable(name: string): void {
    if (!predefined.has(name)) this.network(name);
    else if (name === "host" && !this.host)
      throw new EngineError("denied", "this socket does not allow the host's network", { hint: "it needs the right host" });
  }

  /** An image that may be changed. */
  async image(name: string): Promise<Image> {
    const image = await this.#engine.images.get(name);
    if (!this.holds(image.config.config?.Labels)) throw new EngineError("denied", `image ${name} has not the labels of this socket`);
    return image;
  }

  /** A name that an image may get: a free one, or that of an image that may be changed. */
  async imageName(reference: string | undefined): Promise<void> {
    if (!this.limited || reference === undefined || reference === "") return;
    if ((await this.#engine.images.find(reference)) !== undefined) await this.image(reference);
  }

  /** Whether an event is about something of ours. What has gone is known by the labels in its event only. */
  event({ Type, Actor }: EngineEvent): boolean {
    if (!this.limited || this.holds(Actor.Attributes)) return true;
    const labels = (): Labels => {
      if (Type === "volume") return this.#engine.volumes.get(Actor.ID).Labels;
      return Type === "network" ? this.#engine.networks.get(Actor.ID).Labels : undefined;
    };
    try {
      return this.holds(labels());
    } catch (error) {
      if (error instanceof EngineError && error.code === "not-found") return false;
      throw error;
    }
  }
}

/** The engine within a scope. */
export function scopedEngine(engine: Engine, scope: Scope): Engine {
  const own = new Objects(engine, scope);
  return {
    containers: containersIn(engine, own),
    execs: execsIn(engine, own),
    images: imagesIn(engine, own),
    registries: engine.registries,
    builds: buildsIn(engine, own),
    networks: networksIn(engine, own),
    volumes: volumesIn(engine, own),
    system: {
      ...engine.system,
      events: async function* events(options) {
        for await (const event of engine.system.events(options)) if (own.event(event)) yield event;
      },
      compareStorage: never("comparing storage drivers"),
      check: never("checking the store"),
    },
    sessions: { hold: never("a session"), end: never("a session") },
    rehearsal: never("a rehearsal"),
    close: never("closing the engine"),
  };
}

function containersIn(engine: Engine, own: Objects): Engine["containers"] {
  const { containers } = engine;
  const id = (name: string) => own.container(name);
  return {
    create: async (request) => {
      const { config, hostConfig, networkingConfig } = request;
      if (!own.host) checkHostConfig(hostConfig);
      for (const name of namedContainers(hostConfig)) id(name);
      for (const name of [hostConfig.NetworkMode, ...Object.keys(networkingConfig.EndpointsConfig)]) {
        if (name !== "" && !name.startsWith("container:")) own.usable(name);
      }
      if (own.limited) await volumesOfOurs(engine, own, namedVolumes(hostConfig));
      return containers.create({ ...request, config: { ...config, Labels: { ...config.Labels, ...own.labels } } });
    },
    get: (name) => own.record(name),
    list: (options) => containers.list({ ...options, filters: own.narrowed(options.filters) }),
    start: async (name, options) => containers.start(id(name), options),
    stop: async (name, options) => containers.stop(id(name), options),
    restart: async (name, options) => containers.restart(id(name), options),
    kill: async (name, signal) => containers.kill(id(name), signal),
    pause: async (name) => containers.pause(id(name)),
    unpause: async (name) => containers.unpause(id(name)),
    rename: async (name, newName) => containers.rename(id(name), newName),
    remove: async (name, options) => containers.remove(id(name), options),
    update: async (name, resources, policy) => {
      if (!own.host) checkResources(resources);
      return containers.update(id(name), resources, policy);
    },
    wait: async (name, condition, signal) => containers.wait(id(name), condition, signal),
    resize: async (name, rows, columns) => containers.resize(id(name), rows, columns),
    attach: async (name, request) => containers.attach(id(name), request),
    logs: (name, query, signal) => containers.logs(id(name), query, signal),
    top: async (name, psArgs) => containers.top(id(name), psArgs),
    stats: async (name) => containers.stats(id(name)),
    changes: async (name) => containers.changes(id(name)),
    exportTree: async (name, onChanged) => containers.exportTree(id(name), onChanged),
    statPath: async (name, path) => containers.statPath(id(name), path),
    readArchive: async (name, path, onChanged) => containers.readArchive(id(name), path, onChanged),
    writeArchive: async (name, path, tar, options) => containers.writeArchive(id(name), path, tar, options),
    size: async (name) => containers.size(id(name)),
    prune: (filters) => containers.prune(own.narrowed(filters)),
    commit: async (name, options) => {
      await own.imageName(options.reference);
      const { config } = own.record(name);
      const changes = { ...options.changes, Labels: { ...config.Labels, ...options.changes?.Labels, ...own.labels } };
      return containers.commit(id(name), { ...options, ...(own.limited ? { changes } : {}) });
    },
    explain: never("explaining a start"),
  };
}

/** Volumes that a new container names are ours already, or are made with our labels now. */
async function volumesOfOurs(engine: Engine, own: Objects, names: readonly string[]): Promise<void> {
  for (const name of names) {
    // Idempotent: it also answers what is there already.
    const { Labels } = await engine.volumes.create({ name, labels: { ...own.labels } });
    if (!own.holds(Labels)) throw new EngineError("denied", `volume ${name} has not the labels of this socket`);
  }
}

function execsIn(engine: Engine, own: Objects): Engine["execs"] {
  const { execs } = engine;
  return {
    create: async (container, config) => {
      if (config.Privileged && !own.host) throw new EngineError("denied", "this socket does not allow a privileged exec", { hint: "it needs the right host" });
      return execs.create(own.container(container), config);
    },
    start: async (id, options) => execs.start(own.exec(id).id, options),
    get: (id) => own.exec(id),
    wait: async (id) => execs.wait(own.exec(id).id),
    resize: async (id, rows, columns) => execs.resize(own.exec(id).id, rows, columns),
    ids: (container) => execs.ids?.(own.container(container)) ?? [],
  };
}

function imagesIn(engine: Engine, own: Objects): Engine["images"] {
  const { images } = engine;
  return {
    get: (name) => images.get(name),
    find: (name) => images.find(name),
    list: () => images.list(),
    save: (names) => images.save(names),
    tree: () => images.tree(),
    compare: (a, b) => images.compare(a, b),
    users: (id) => images.users(id).filter((user) => own.holds(engine.containers.get(user).config.Labels)),
    tag: async (name, reference) => {
      await own.imageName(reference);
      await images.tag(name, reference);
    },
    load: async (archive, onEvent, signal) => {
      if (own.limited) throw new EngineError("denied", "an archive names its images as it likes: a socket with labels does not load one");
      await images.load(archive, onEvent, signal);
    },
    import: async (tar, options) => {
      await own.imageName(options.reference);
      const { changes } = options;
      return images.import(tar, own.limited ? { ...options, changes: { ...changes, Labels: { ...changes?.Labels, ...own.labels } } } : options);
    },
    pull: async (request, onEvent, signal) => {
      if (own.limited && request.allTags === true) throw new EngineError("denied", "a socket with labels does not pull all tags");
      await own.imageName(request.reference);
      await images.pull(request, onEvent, signal);
    },
    push: async (request, onEvent, signal) => {
      if (own.limited) await own.image(request.reference);
      await images.push(request, onEvent, signal);
    },
    remove: async (name, options) => {
      if (own.limited) await own.image(name);
      return images.remove(name, options);
    },
    prune: (filters) => images.prune(own.narrowed(filters)),
    bootstrap: async (what, onProgress, signal) => {
      if (!own.host) throw closed("an image of the host's packages");
      return images.bootstrap(what, onProgress, signal);
    },
    copy: never("copying between registries"),
    importStore: never("reading a docker's data root"),
    mount: never("mounting an image"),
    unmount: never("mounting an image"),
    mounts: never("mounting an image"),
  };
}

function buildsIn(engine: Engine, own: Objects): Engine["builds"] {
  const { builds } = engine;
  return {
    build: async (options, report, signal) => {
      if (!own.host) {
        checkResources(options.limits.resources);
        const fetched = options.context.kind === "url" || [...options.namedContexts.values()].some(({ kind }) => kind !== "image");
        if (fetched) throw closed("a build context that the engine fetches");
      }
      if ((own.limited || !own.host) && options.cacheFrom.length + options.cacheTo.length > 0) throw closed("a build cache that lies elsewhere");
      const { networkMode } = options.limits;
      if (networkMode.startsWith("container:")) own.container(networkMode.slice("container:".length));
      else own.usable(networkMode);
      for (const tag of options.tags) await own.imageName(tag);
      const limits = { ...options.limits, hostNetwork: own.host };
      return builds.build({ ...options, labels: { ...options.labels, ...own.labels }, limits }, report, signal);
    },
    solve: never("BuildKit's wire"),
    root: (image) => builds.root(image),
    records: () => builds.records(),
    prune: never("pruning the build cache"),
  };
}

function networksIn(engine: Engine, own: Objects): Engine["networks"] {
  const { networks } = engine;
  const visible = (name: string): NetworkRecord => {
    const record = networks.get(name);
    return predefined.has(record.Name) ? record : own.network(name);
  };
  const member = (container: string): string => own.container(container);
  return {
    list: (filters) => networks.list(filters).filter((network) => predefined.has(network.Name) || own.holds(network.Labels)),
    get: visible,
    create: async (options) => {
      if (!own.host) checkNetwork(options);
      return networks.create({ ...options, Labels: { ...options.Labels, ...own.labels } });
    },
    remove: async (name) => networks.remove(own.network(name).Id),
    members: (id) => networks.members(id).filter(({ containerId }) => own.holds(engine.containers.get(containerId).config.Labels)),
    traceName: never("tracing names"),
    prune: (filters) => networks.prune(own.narrowed(filters)),
    connect: async (network, container, endpoint) => {
      own.usable(visible(network).Name);
      await networks.connect?.(network, member(container), endpoint);
    },
    disconnect: async (network, container, force) => {
      own.usable(visible(network).Name);
      await networks.disconnect?.(network, member(container), force);
    },
  };
}

function volumesIn(engine: Engine, own: Objects): Engine["volumes"] {
  const { volumes } = engine;
  const name = (volume: string): string => own.volume(volume).Name;
  const free = (wanted: string): void => {
    if (volumes.list({ name: [wanted] }).some((volume) => volume.Name === wanted)) name(wanted);
  };
  return {
    list: (filters) => volumes.list(own.narrowed(filters)),
    get: (volume) => own.volume(volume),
    create: async (options) => {
      if (!own.host) checkVolumeOptions(options.options, options.driver);
      const record = await volumes.create({ ...options, labels: { ...options.labels, ...own.labels } });
      if (!own.holds(record.Labels)) throw new EngineError("denied", `volume ${record.Name} has not the labels of this socket`);
      return record;
    },
    remove: async (volume, force) => volumes.remove(name(volume), force),
    // A copy has no labels: it would be lost to those who have made it.
    clone: async (volume, newName) => {
      if (own.limited) throw closed("cloning a volume");
      return volumes.clone(name(volume), newName);
    },
    exportTar: async (volume, onChanged) => volumes.exportTar(name(volume), onChanged),
    importTar: async (volume, archive) => {
      if (own.limited) name(volume);
      return volumes.importTar(volume, archive);
    },
    rename: async (volume, newName) => {
      free(newName);
      await volumes.rename(name(volume), newName);
    },
    prune: (filters) => volumes.prune(own.narrowed(filters)),
  };
}
