/**
 * The files that the engine has written for a container: /etc/hostname, /etc/hosts, /etc/resolv.conf. They are bound over the image's.
 * @module
 */
import { readFile } from "node:fs/promises";
import type { ContainerRecord } from "#container/mod.ts";
import { EngineError } from "#core/errors.ts";
import { toHost } from "#core/id-mappings.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import type { EndpointRecord } from "#network/mod.ts";
import type { EngineContext } from "./context.ts";
import { linkHosts } from "./links.ts";

const hostsHead =
  "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/** O_WRONLY | O_CREAT | O_TRUNC: the same file is written again at every start. */
export const writeAnew = 0x241n;

/**
 * The steps that write them as the container's networks are now: part of the plan, so they cost no round trip of their own. A container in
 * another's network uses that one's files; its record says so.
 */
export async function planContainerFiles(ctx: EngineContext, record: ContainerRecord, endpoints: Readonly<Record<string, EndpointRecord>>): Promise<Step[]> {
  const { hostConfig, config } = record;
  if (hostConfig.NetworkMode.startsWith("container:")) return [];
  const [resolvConf, hosts] = await Promise.all([
    resolvConfOf(ctx, record),
    hostConfig.NetworkMode === "host" ? hostsOfHost(ctx, hostConfig.ExtraHosts) : hostsFile(ctx, record, endpoints),
  ]);
  const write = (path: string, text: string, why: string, section?: string): Step => ({
    op: "write",
    where: "host",
    dir: NO_SLOT,
    path,
    flags: writeAnew,
    data: Buffer.from(text),
    why,
    ...(section === undefined ? {} : { section }),
  });
  const root = record.ownersOnDisk === "all" ? record.idMappings : undefined;
  const give = (path: string): Step[] =>
    root === undefined
      ? []
      : [{ op: "chown", where: "host", dir: NO_SLOT, path, uid: toHost(root.uids, 0)!, gid: toHost(root.gids, 0)!, why: "it belongs to the container's root" }];
  const label = record.mountLabel ?? "";
  return [
    ...(label === "" ? [] : [fileLabel(label, "files that are made now are the container's, for SELinux")]),
    write(record.hostnamePath, `${config.Hostname}\n`, "its name, to be bound at /etc/hostname", "The engine's files for it"),
    write(record.hostsPath, hosts, "its own address and name, for /etc/hosts"),
    write(record.resolvConfPath, resolvConf, "its name servers, for /etc/resolv.conf"),
    ...[record.hostnamePath, record.hostsPath, record.resolvConfPath].flatMap(give),
    ...(label === "" ? [] : [fileLabel("\n", "what is made next has the label that the policy says")]),
  ];
}

/** @see proc(5), /proc/pid/attr/fscreate */
function fileLabel(label: string, why: string): Step {
  return { op: "write", where: "host", dir: NO_SLOT, path: "/proc/self/attr/fscreate", flags: 0n, data: Buffer.from(label), why };
}

/** Text of /etc/resolv.conf, once the container is on its networks. */
export async function resolvConfOf(ctx: EngineContext, { id, hostConfig }: ContainerRecord): Promise<string> {
  const { Dns: dns, DnsSearch: search, DnsOptions: options, NetworkMode: networkMode } = hostConfig;
  return await ctx.networks.resolvConf({ dns, search, options, networkMode, containerId: id });
}

async function hostsOfHost(ctx: EngineContext, extra: readonly string[] | null): Promise<string> {
  try {
    return (await readFile("/etc/hosts", "utf8")) + extraHosts(ctx, extra);
  } catch (error) {
    throw new EngineError("storage", `cannot read the host's /etc/hosts: ${(error as Error).message}`, { cause: error });
  }
}

/** Text of /etc/hosts for a container in networks of its own. */
export function hostsFile(ctx: EngineContext, record: ContainerRecord, endpoints: Readonly<Record<string, EndpointRecord>>): string {
  const own = hostLines(record, Object.values(endpoints));
  return `${hostsHead}${extraHosts(ctx, record.hostConfig.ExtraHosts)}${linkHosts(ctx, record, endpoints)}${own}`;
}

/** The container's own addresses in its hosts file. */
export function hostLines({ config }: ContainerRecord, endpoints: readonly EndpointRecord[]): string {
  const names = config.Domainname === "" ? config.Hostname : `${config.Hostname}.${config.Domainname} ${config.Hostname}`;
  return endpoints
    .flatMap(({ IPAddress, GlobalIPv6Address }) => [IPAddress, GlobalIPv6Address])
    .filter((address) => address !== "")
    .map((address) => `${address}\t${names}\n`)
    .join("");
}

/** `name:ip`; the address `host-gateway` is the host as seen from the default bridge. */
function extraHosts(ctx: EngineContext, entries: readonly string[] | null): string {
  return (entries ?? [])
    .map((entry) => {
      const [, name = "", address = ""] = /^([^:=]+)[:=](.+)$/.exec(entry) ?? [];
      const bare = address.replace(/^\[(.*)\]$/, "$1");
      return `${bare === "host-gateway" ? hostGateway(ctx) : bare}\t${name}\n`;
    })
    .join("");
}

function hostGateway(ctx: EngineContext): string {
  const gateway = ctx.networks.get("bridge").IPAM.Config[0]?.Gateway;
  if (gateway === undefined) throw new EngineError("invalid", 'unable to derive the IP value for host-gateway: the network "bridge" has no gateway');
  return gateway;
}
