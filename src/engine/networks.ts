/** The networks, with filters and events. @module */
import { isRunning } from "#container/state.ts";
import { EngineError } from "#core/errors.ts";
import type { NetworkRecord } from "#network/mod.ts";
import type { EngineContext } from "./context.ts";
import { hasLabel, parseUntil } from "./list-containers.ts";
import type { Engine, Filters } from "./mod.ts";
import { connect, disconnect } from "./network-endpoints.ts";

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
    traceName: (name, type, from) => {
      const record = from === undefined ? undefined : ctx.registry.get(from).record;
      return networks.traceName(name, type, record && { containerId: record.id, servers: record.hostConfig.Dns });
    },
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
    connect: async (network, name, endpoint) => {
      const container = ctx.registry.get(name);
      await connect(ctx, networks.get(network), container, endpoint);
      // Of one that does not run its start will tell.
      if (isRunning(container.state)) publish("connect", networks.get(network), { container: container.id });
    },
    disconnect: async (network, name, force) => {
      const record = networks.get(network);
      const container = ctx.registry.get(name);
      await disconnect(ctx, record, container, force);
      publish("disconnect", record, { container: container.id });
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
      return (network) => (predefined.has(network.Name) || usedBy(ctx, network)) !== wanted;
    }
    case "until": {
      const limit = Math.min(...values.map(parseUntil));
      return ({ Created }) => Date.parse(Created) < limit;
    }
    default:
      throw new EngineError("invalid", `invalid filter '${key}'`);
  }
}
