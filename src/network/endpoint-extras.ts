/**
 * What an endpoint may be asked for beside its addresses: link-local ones, and Docker's driver options. Pure.
 * @module
 */
import type { EndpointConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { type Address, contains, parseAddress, type Subnet } from "./ip-address.ts";

const OPTION = { sysctls: "com.docker.network.endpoint.sysctls", name: "com.docker.network.endpoint.ifname" } as const;
const LINK_LOCAL: readonly Subnet[] = [
  { family: 4, network: 0xa9fe0000n, prefix: 16 },
  { family: 6, network: 0xfe80n << 112n, prefix: 10 },
];

export interface EndpointExtras {
  readonly linkLocal: readonly Address[];
  /** Of the interface; undefined: the network's choice. */
  readonly name: string | undefined;
  /** Files of the interface of this name, below /proc/sys. */
  readonly sysctls: (name: string) => { readonly path: string; readonly value: string }[];
  /** Options that mean nothing here. */
  readonly unknown: readonly string[];
}

/** EngineError "invalid". */
export function endpointExtras(endpoint: EndpointConfig | undefined): EndpointExtras {
  const options = endpoint?.DriverOpts ?? {};
  const name = options[OPTION.name];
  if (name !== undefined && !/^(?!\.{1,2}$)(?!all$|default$|lo$)[a-zA-Z0-9_.-]{1,15}$/.test(name))
    throw new EngineError("invalid", `invalid interface name "${name.slice(0, 60)}": 1 to 15 letters, digits, _, . and -`);
  const sysctls = (options[OPTION.sysctls] ?? "")
    .split(",")
    .filter((text) => text !== "")
    .map(parseSysctl);
  return {
    linkLocal: (endpoint?.IPAMConfig?.LinkLocalIPs ?? []).map(parseLinkLocal),
    name,
    sysctls: (own) => sysctls.map(({ parts, value }) => ({ path: `/proc/sys/${parts.map((part) => part ?? own).join("/")}`, value })),
    unknown: Object.keys(options).filter((key) => key !== OPTION.name && key !== OPTION.sysctls),
  };
}

/** `net.ipv4.conf.IFNAME.log_martians=1`; undefined stands for the interface. Docker's command line writes it in lower case. */
function parseSysctl(text: string): { readonly parts: readonly (string | undefined)[]; readonly value: string } {
  const [, family, kind, file, value] = /^net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.IFNAME\.([a-z0-9_]+)=([^\n]*)$/i.exec(text.trim()) ?? [];
  if (family === undefined || kind === undefined || file === undefined || value === undefined)
    throw new EngineError("invalid", `invalid sysctl "${text.slice(0, 100)}" of an endpoint: want net.ipv4.conf.IFNAME.NAME=VALUE, or of net.ipv6 or net.mpls`);
  return { parts: ["net", family.toLowerCase(), kind.toLowerCase(), undefined, file.toLowerCase()], value };
}

function parseLinkLocal(text: string): Address {
  const address = parseAddress(text);
  if (address === undefined || !LINK_LOCAL.some((range) => contains(range, address)))
    throw new EngineError("invalid", `invalid link-local IP address: ${text}`);
  return address;
}
