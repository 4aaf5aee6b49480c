/**
 * `--link`: another container's address under a further name. On the default network it is a line in /etc/hosts, which is written anew when the other
 * container starts again at another address, and variables tell what it exposes; on networks of the user the name server answers for it.
 * @module
 */
import { writeFile } from "node:fs/promises";
import type { Container } from "#container/container.ts";
import type { ContainerRecord } from "#container/mod.ts";
import { isRunning } from "#container/state.ts";
import { EngineError } from "#core/errors.ts";
import { shortId } from "#core/ids.ts";
import type { EndpointRecord } from "#network/mod.ts";
import type { EngineContext } from "./context.ts";

interface Link {
  readonly target: Container;
  readonly alias: string;
  /** Its address in the network that both are in; undefined while it has none. */
  readonly address: string | undefined;
}

/** `name[:alias]`; also docker's own form, `/name:/self/alias`. @throws EngineError "invalid" */
export function parseLink(link: string): { readonly name: string; readonly alias: string } {
  const [name = "", alias, ...more] = link.split(":");
  if (name === "" || more.length > 0 || alias === "") throw new EngineError("invalid", `bad format for links: ${link}`);
  return { name: name.replace(/^\//, ""), alias: (alias ?? name).replace(/^.*\//, "") };
}

/** Every link's container must be there when a container is created. @throws EngineError "invalid" */
export function checkLinks(ctx: EngineContext, links: readonly string[]): void {
  for (const link of links) {
    const { name } = parseLink(link);
    // Not "not-found": docker's client would take the image for what is missing, and pull it.
    if (ctx.registry.find(name) === undefined) throw new EngineError("invalid", `could not get container for ${name}: No such container: ${name}`);
  }
}

function linksOf(ctx: EngineContext, record: ContainerRecord, networks: readonly string[]): Link[] {
  return networks.flatMap((network) =>
    linkTexts(record, network).flatMap((text): Link[] => {
      const { name, alias } = parseLink(text);
      const target = ctx.registry.find(name);
      if (target === undefined) return []; // removed since: docker's hosts file has it no more either
      const address = isRunning(target.state) ? target.record.endpoints[network]?.IPAddress : undefined;
      return [{ target, alias, address }];
    }),
  );
}

/** The container's own links are those of its main network. */
function linkTexts({ hostConfig, networkingConfig }: ContainerRecord, network: string): readonly string[] {
  const own = network === hostConfig.NetworkMode ? (hostConfig.Links ?? []) : [];
  return [...new Set([...own, ...(networkingConfig.EndpointsConfig[network]?.Links ?? [])])];
}

/** `name:alias` of a network's links, with the names that its name server knows. */
export function linkNames(ctx: EngineContext, record: ContainerRecord, network: string): string[] {
  return linksOf(ctx, record, [network]).map(({ target, alias }) => `${target.record.name}:${alias}`);
}

/** Lines of /etc/hosts: on the default network, where no server answers for names. */
export function linkHosts(ctx: EngineContext, record: ContainerRecord, endpoints: Readonly<Record<string, EndpointRecord>>): string {
  return linksOf(
    ctx,
    record,
    Object.keys(endpoints).filter((name) => name === "bridge"),
  )
    .filter(({ address }) => address !== undefined && address !== "")
    .map(({ address, alias, target }) => `${address}\t${[...new Set([alias, shortId(target.id), target.record.name])].join(" ")}\n`)
    .join("");
}

/**
 * Variables as docker sets them on the default network, for each link: NAME, the ports that the other exposes, and its image's and own variables.
 * @throws EngineError "conflict" when a linked container does not run
 */
export function linkEnv(ctx: EngineContext, record: ContainerRecord): string[] {
  if (record.hostConfig.NetworkMode !== "bridge") return [];
  return linksOf(ctx, record, ["bridge"]).flatMap(({ target, alias, address }) => {
    if (address === undefined) throw new EngineError("conflict", `Cannot link to a non running container: /${target.record.name} AS /${record.name}/${alias}`);
    const prefix = alias.replaceAll("-", "_").toUpperCase();
    const ports = Object.keys(target.record.config.ExposedPorts ?? {}).sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
    const urlOf = (port: string): string => `${port.split("/")[1] ?? "tcp"}://${address}:${port.split("/")[0]}`;
    return [
      ...ports.slice(0, 1).map((port) => `${prefix}_PORT=${urlOf(port)}`),
      ...ports.flatMap((port) => {
        const [number, protocol = "tcp"] = port.split("/");
        const name = `${prefix}_PORT_${number}_${protocol.toUpperCase()}`;
        return [`${name}=${urlOf(port)}`, `${name}_ADDR=${address}`, `${name}_PORT=${number}`, `${name}_PROTO=${protocol}`];
      }),
      `${prefix}_NAME=/${record.name}/${alias}`,
      ...(target.record.config.Env ?? []).filter((entry) => !/^(HOME|PATH)=/.test(entry)).map((entry) => `${prefix}_ENV_${entry}`),
    ];
  });
}

/** Containers that run and have a link to this one, which has just started: their hosts files get its address. `render` gives a file's text. */
export async function refreshLinkers(ctx: EngineContext, started: Container, render: (record: ContainerRecord) => string): Promise<void> {
  for (const other of ctx.registry.all()) {
    const { record } = other;
    if (other === started || !isRunning(other.state) || record.hostConfig.NetworkMode.startsWith("container:")) continue;
    const linked = linksOf(ctx, record, ["bridge"]).some(({ target }) => target === started);
    // The same file, because it is bound into the container.
    if (linked) await writeFile(record.hostsPath, render(record));
  }
}
