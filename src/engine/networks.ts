/** The networks, with filters, events, and what connects a container to one more. @module */
import { isRunning } from "#container/state.ts";
import type { EndpointConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { NetworkRecord } from "#network/mod.ts";
import type { EngineContext } from "./context.ts";
import { hasLabel, parseUntil } from "./list-containers.ts";
import { checkLinks } from "./links.ts";
import type { Engine, Filters } from "./mod.ts";
import { checkEndpoint } from "./unsupported-options.ts";

const predefined = new Set(["bridge", "host", "none"]);

export function networksOf(ctx: EngineContext): Engine["networks"] {
  const { networks, events } = ctx;
  const publish = (action: string, { Id, Name, Driver }: NetworkRecord, extra: Readonly<Record<string, string>> = {}) =>
    events.publish("network", action, Id, { ...extra, name: Name, type: Driver });
  const remove = async (name: string) => {
    const record = networks.get(name);
    await networks.remove(record.Id);
    publish("destroy", record);
  };
  return {
    list: (filters) => networks.list().filter(networkFilter(ctx, filters)),
    get: (name) => networks.get(name),
    create: async (options) => {
      const created = await networks.create(options);
      publish("create", networks.get(created.id));
      return created;
    },
    remove,
    members: (id) => networks.members(id),
    prune: async (filters) => {
      const wanted = networkFilter(ctx, filters);
      const deleted: string[] = [];
      for (const record of networks.list()) {
        if (predefined.has(record.Name) || !wanted(record) || usedBy(ctx, record)) continue;
        await remove(record.Id);
        deleted.push(record.Name);
      }
      events.publish("network", "prune", "", { reclaimed: "0" });
      return deleted;
    },
    connect: async (network, container, endpoint) => {
      await connect(ctx, network, container, endpoint);
      publish("connect", networks.get(network), { container: ctx.registry.get(container).id });
    },
    disconnect: async (network, container, force) => {
      await disconnect(ctx, network, container, force);
      publish("disconnect", networks.get(network), { container: ctx.registry.get(container).id });
    },
  };
}

/** Some container, running or not, is set to use it. */
function usedBy(ctx: EngineContext, { Id, Name }: NetworkRecord): boolean {
  if (ctx.networks.members(Id).length > 0) return true;
  return [...ctx.registry.all()].some(({ record }) =>
    [record.hostConfig.NetworkMode, ...Object.keys(record.networkingConfig.EndpointsConfig)].some((name) => name === Name || name === Id),
  );
}

function networkFilter(ctx: EngineContext, filters: Filters): (network: NetworkRecord) => boolean {
  const checks = Object.entries(filters)
    .filter(([, values]) => values.length > 0)
    .map(([key, values]) => checkFor(ctx, key, values));
  return (network) => checks.every((check) => check(network));
}

function checkFor(ctx: EngineContext, key: string, values: readonly string[]): (network: NetworkRecord) => boolean {
  switch (key) {
    case "id":
      return ({ Id }) => values.some((v) => Id.startsWith(v));
    case "name":
      return ({ Name }) => values.some((v) => Name.includes(v));
    case "driver":
      return ({ Driver }) => values.includes(Driver);
    case "scope":
      return ({ Scope }) => values.includes(Scope);
    case "type":
      for (const v of values) if (v !== "builtin" && v !== "custom") throw new EngineError("invalid", `invalid filter: 'type'='${v}'`);
      return ({ Name }) => values.includes(predefined.has(Name) ? "builtin" : "custom");
    case "label":
      return ({ Labels }) => values.every((v) => hasLabel(Labels, v));
    case "label!":
      return ({ Labels }) => !values.some((v) => hasLabel(Labels, v));
    case "dangling": {
      const wanted = values.some((v) => v === "1" || v.toLowerCase() === "true");
      return (network) => !predefined.has(network.Name) && usedBy(ctx, network) !== wanted;
    }
    case "until": {
      const limit = Math.min(...values.map(parseUntil));
      return ({ Created }) => Date.parse(Created) < limit;
    }
    default:
      throw new EngineError("invalid", `invalid filter '${key}'`);
  }
}

async function connect(ctx: EngineContext, network: string, name: string, endpoint: EndpointConfig | undefined): Promise<void> {
  const container = ctx.registry.get(name);
  const record = ctx.networks.get(network);
  await container.mutex.run(async () => {
    const { hostConfig, networkingConfig } = container.record;
    if (hostConfig.NetworkMode === "host" || record.Name === "host")
      throw new EngineError("denied", "cannot connect container to host network - container must be created in host network mode");
    if (hostConfig.NetworkMode.startsWith("container:"))
      throw new EngineError("denied", "container sharing network namespace with another container or host cannot be connected to any other network");
    if (record.Name in networkingConfig.EndpointsConfig)
      throw new EngineError("denied", `endpoint with name ${container.record.name} already exists in network ${record.Name}`);
    if (isRunning(container.state))
      throw new EngineError("unsupported", "a running container cannot be connected to a further network yet", {
        hint: "stop the container, connect it, and start it again",
      });
    // The API has no place for warnings here.
    for (const warning of endpoint === undefined ? [] : checkEndpoint(record.Name, endpoint)) ctx.log("warn", `${container.record.name}: ${warning}`);
    checkLinks(ctx, endpoint?.Links ?? []);
    container.set({
      networkingConfig: {
        EndpointsConfig: { ...networkingConfig.EndpointsConfig, [record.Name]: endpoint ?? { IPAMConfig: null, Links: null, Aliases: null, DriverOpts: null } },
      },
    });
    await ctx.records.save(container.record);
  });
}

async function disconnect(ctx: EngineContext, network: string, name: string, force: boolean): Promise<void> {
  const container = ctx.registry.get(name);
  const record = ctx.networks.get(network);
  await container.mutex.run(async () => {
    const { [record.Name]: gone, ...others } = container.record.networkingConfig.EndpointsConfig;
    if (gone === undefined) {
      if (force) return;
      throw new EngineError("denied", `container ${container.id} is not connected to network ${record.Name}`);
    }
    if (isRunning(container.state))
      throw new EngineError("unsupported", "a running container cannot be disconnected from a network yet", {
        hint: "stop the container, disconnect it, and start it again",
      });
    const { [record.Name]: _endpoint, ...endpoints } = container.record.endpoints;
    container.set({ networkingConfig: { EndpointsConfig: others }, endpoints });
    await ctx.records.save(container.record);
  });
}
