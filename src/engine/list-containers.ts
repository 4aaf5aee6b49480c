/** `ps`: which containers match. @module */
import type { Container } from "#container/container.ts";
import type { ContainerRecord } from "#container/mod.ts";
import { isActive } from "#container/state.ts";
import { EngineError } from "#core/errors.ts";
import type { EngineContext } from "./context.ts";
import type { Filters, ListContainersOptions } from "./mod.ts";

/** Newest first. Keys are joined by "and", the values of a key by "or" (labels by "and"). */
export function listContainers(ctx: EngineContext, { all, limit, filters }: ListContainersOptions): ContainerRecord[] {
  const wanted = containerFilter(ctx, filters);
  // A limit, a status or a place in time asks for ended ones too.
  const every = all || limit !== undefined || ["status", "exited", "before", "since"].some((key) => (filters[key]?.length ?? 0) > 0);
  const found = [...ctx.registry.all()].filter((c) => (every || isActive(c.state)) && wanted(c)).map((c) => c.record);
  found.sort((a, b) => (a.created < b.created ? 1 : a.created > b.created ? -1 : 0));
  return limit === undefined ? found : found.slice(0, limit);
}

type Check = (container: Container) => boolean;

/** @throws EngineError "invalid" for values that cannot be */
export function containerFilter(ctx: EngineContext, filters: Filters): Check {
  const checks: Check[] = [];
  for (const [key, values] of Object.entries(filters)) if (values.length > 0) checks.push(checkFor(ctx, key, values));
  return (container) => checks.every((check) => check(container));
}

const statuses = new Set(["created", "restarting", "running", "removing", "paused", "exited", "dead"]);

function checkFor(ctx: EngineContext, key: string, values: readonly string[]): Check {
  const some =
    (match: (record: ContainerRecord, value: string) => boolean): Check =>
    ({ record }) =>
      values.some((value) => match(record, value));
  switch (key) {
    case "id":
      return some(({ id }, value) => id.startsWith(value) || matchesPattern(id, value));
    case "name":
      return some(({ name }, value) => matchesPattern(name, value) || matchesPattern(`/${name}`, value));
    case "label":
      return ({ record }) => values.every((value) => hasLabel(record.config.Labels, value));
    case "label!":
      return ({ record }) => !values.some((value) => hasLabel(record.config.Labels, value));
    case "status":
      for (const value of values) if (!statuses.has(value)) throw new EngineError("invalid", `invalid filter 'status=${value}'`);
      return some(({ state }, value) => state.status === value);
    case "exited":
      for (const value of values) if (!/^-?[0-9]+$/.test(value)) throw new EngineError("invalid", `invalid filter 'exited=[${value}]': invalid syntax`);
      return some(({ state }, value) => (state.status === "exited" || state.status === "dead") && state.exitCode === Number(value));
    case "health":
      for (const value of values)
        if (!["starting", "healthy", "unhealthy", "none"].includes(value))
          throw new EngineError("invalid", `invalid filter 'health=${value}': unrecognised filter value for health`);
      return some((record, value) => healthOf(record) === value);
    case "volume":
      return some(({ mounts }, value) => mounts.some((m) => m.Name === value || m.Destination === value || (m.Type === "bind" && m.Source === value)));
    case "network":
      return some((record, value) => networksOf(record).some((n) => n.name === value || (n.id !== "" && n.id.startsWith(value))));
    case "publish":
    case "expose":
      return some((record, value) => portMatches(record, key, value));
    case "ancestor":
      return ancestorCheck(ctx, values);
    case "before":
    case "since": {
      const times = values.map((value) => ctx.registry.get(value).record.created);
      return ({ record }) => times.every((time) => (key === "before" ? record.created < time : record.created > time));
    }
    case "until": {
      const limit = Math.min(...values.map(parseUntil));
      return ({ record }) => Date.parse(record.created) < limit;
    }
    case "is-task":
    case "isolation":
      return some((_record, value) => value === "false" || value === "default" || value === "0");
    default:
      throw new EngineError("invalid", `invalid filter '${key}'`);
  }
}

/** Docker takes names as regular expressions; what is none matches as it stands. */
function matchesPattern(text: string, pattern: string): boolean {
  try {
    return new RegExp(pattern).test(text);
  } catch {
    return text.includes(pattern); // not a regular expression
  }
}

export function hasLabel(labels: Readonly<Record<string, string>>, wanted: string): boolean {
  const [name = "", value] = wanted.split(/=(.*)/s);
  const found = Object.hasOwn(labels, name) ? labels[name] : undefined;
  return value === undefined ? found !== undefined : found === value;
}

function healthOf({ state }: ContainerRecord): string {
  return state.health?.status ?? "none";
}

function networksOf({ endpoints, networkingConfig, hostConfig }: ContainerRecord): { readonly name: string; readonly id: string }[] {
  const names = Object.keys(networkingConfig.EndpointsConfig);
  const all = names.includes(hostConfig.NetworkMode) ? names : [hostConfig.NetworkMode, ...names];
  return all.map((name) => ({ name, id: endpoints[name]?.NetworkID ?? "" }));
}

/** `80`, `80/tcp`, `80-90/udp`. */
function portMatches({ ports, config }: ContainerRecord, key: "publish" | "expose", value: string): boolean {
  const [, from = "", to, protocol = "tcp"] = /^([0-9]+)(?:-([0-9]+))?(?:\/([a-z]+))?$/.exec(value) ?? [];
  if (from === "") throw new EngineError("invalid", `invalid filter '${key}=${value}'`);
  const inRange = (port: string) => Number(port) >= Number(from) && Number(port) <= Number(to ?? from);
  if (key === "expose")
    return Object.keys({ ...config.ExposedPorts, ...ports }).some((port) => port.endsWith(`/${protocol}`) && inRange(port.split("/")[0] ?? ""));
  return Object.entries(ports).some(([port, bindings]) => port.endsWith(`/${protocol}`) && (bindings ?? []).some((b) => inRange(b.HostPort)));
}

function ancestorCheck(ctx: EngineContext, values: readonly string[]): Check {
  const ids = values.map((value) => ctx.imageIndex.withDescendants(value));
  return ({ record: { imageId, config } }) => values.includes(config.Image) || (imageId !== "" && ids.some((set) => set.has(imageId)));
}

/** A time (RFC 3339, seconds since 1970) or a duration back from now ("24h", "10m"), in ms since 1970. */
export function parseUntil(text: string): number {
  if (/^[0-9]+(\.[0-9]+)?$/.test(text)) return Number(text) * 1000;
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  if (/^([0-9.]+(ms|s|m|h))+$/.test(text))
    return Date.now() - [...text.matchAll(/([0-9.]+)(ms|s|m|h)/g)].reduce((sum, [, n, unit]) => sum + Number(n) * (units[unit as string] ?? 0), 0);
  const time = Date.parse(text);
  if (Number.isNaN(time)) throw new EngineError("invalid", `invalid until filter: "${text}" is neither a time nor a duration`);
  return time;
}
