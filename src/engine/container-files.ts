/**
 * The files that the engine writes for a container: /etc/hostname, /etc/hosts, /etc/resolv.conf. They are bound over the image's.
 * @module
 */
import { readFile, writeFile } from "node:fs/promises";
import type { ContainerRecord } from "#container/mod.ts";
import { EngineError } from "#core/errors.ts";
import type { EndpointRecord } from "#network/mod.ts";
import type { EngineContext } from "./context.ts";

const hostsHead =
  "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/** Writes them as the container's networks are now. A container in another's network uses that one's files; its record says so. */
export async function writeContainerFiles(ctx: EngineContext, record: ContainerRecord, endpoints: Readonly<Record<string, EndpointRecord>>): Promise<void> {
  const { hostConfig, config } = record;
  if (hostConfig.NetworkMode.startsWith("container:")) return;
  const resolvConf = ctx.networks.resolvConf({
    dns: hostConfig.Dns,
    search: hostConfig.DnsSearch,
    options: hostConfig.DnsOptions,
    networkMode: hostConfig.NetworkMode,
  });
  const hosts =
    hostConfig.NetworkMode === "host"
      ? readFile("/etc/hosts", "utf8").then((text) => text + extraHosts(ctx, hostConfig.ExtraHosts))
      : hostsFile(ctx, record, endpoints);
  await Promise.all([
    writeFile(record.hostnamePath, `${config.Hostname}\n`, { mode: 0o644 }),
    Promise.resolve(hosts).then((text) => writeFile(record.hostsPath, text, { mode: 0o644 })),
    resolvConf.then((text) => writeFile(record.resolvConfPath, text, { mode: 0o644 })),
  ]).catch((error: unknown) => {
    throw new EngineError("storage", `cannot write the container's /etc files: ${(error as Error).message}`, { cause: error });
  });
}

function hostsFile(ctx: EngineContext, { config, hostConfig }: ContainerRecord, endpoints: Readonly<Record<string, EndpointRecord>>): string {
  const names = config.Domainname === "" ? config.Hostname : `${config.Hostname}.${config.Domainname} ${config.Hostname}`;
  const own = Object.values(endpoints)
    .flatMap(({ IPAddress, GlobalIPv6Address }) => [IPAddress, GlobalIPv6Address])
    .filter((address) => address !== "")
    .map((address) => `${address}\t${names}\n`);
  return `${hostsHead}${extraHosts(ctx, hostConfig.ExtraHosts)}${own.join("")}`;
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
