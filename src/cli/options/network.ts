/** `--network` (short and long form) and the flags that describe the first network's endpoint. @module */
import type { EndpointConfig } from "#core/container-config.ts";
import { type FlagValues, parseInt64 } from "../flags.ts";
import { splitFields } from "./csv.ts";
import { macAddress } from "./validate.ts";

/** One network to join. */
export interface NetworkFlag {
  target: string;
  aliases: string[];
  links: string[];
  driverOpts: Record<string, string>;
  ip: string;
  ip6: string;
  linkLocalIps: string[];
  mac: string;
  gwPriority: number;
}

function named(target: string): NetworkFlag {
  return { target, aliases: [], links: [], driverOpts: {}, ip: "", ip6: "", linkLocalIps: [], mac: "", gwPriority: 0 };
}

/** `--network NAME` or `--network name=NAME,alias=…,ip=…`. */
export function parseNetwork(text: string): NetworkFlag {
  if (!/^\w+=.*(,\w+=.*)*$/.test(text)) return named(text);
  const network = named("");
  for (const field of splitFields(text)) {
    const equals = field.indexOf("=");
    if (equals < 0 || field.slice(0, equals) === "") throw new Error(`invalid field ${field}`);
    const key = field.slice(0, equals).trim().toLowerCase();
    const value = field
      .slice(equals + 1)
      .trim()
      .toLowerCase();
    setField(network, key, value, field.slice(equals + 1).trim());
  }
  if (network.target === "") throw new Error("network name/id is not specified");
  return network;
}

function setField(network: NetworkFlag, key: string, value: string, raw: string): void {
  switch (key) {
    case "name":
      network.target = value;
      break;
    case "alias":
      network.aliases.push(value);
      break;
    case "driver-opt": {
      const equals = raw.indexOf("=");
      if (equals <= 0) throw new Error("invalid key value pair format in driver options");
      network.driverOpts[raw.slice(0, equals).trim().toLowerCase()] = raw
        .slice(equals + 1)
        .trim()
        .toLowerCase();
      break;
    }
    case "ip":
      network.ip = value;
      break;
    case "ip6":
      network.ip6 = value;
      break;
    case "mac-address":
      network.mac = macAddress(value);
      break;
    case "link-local-ip":
      network.linkLocalIps.push(value);
      break;
    case "gw-priority":
      try {
        network.gwPriority = parseInt64(value);
      } catch (error) {
        throw new Error(`invalid gw-priority (${value}): ${(error as Error).message}`);
      }
      break;
    default:
      throw new Error(`invalid field key ${key}`);
  }
}

/** Neither a mode word nor another container: a network that somebody made. */
export function isUserDefined(mode: string): boolean {
  return !(mode === "default" || mode === "bridge" || mode === "host" || mode === "none" || mode.startsWith("container:"));
}

/** Puts `--ip`, `--network-alias`, `--link` … on the first network. */
function withContainerFlags(network: NetworkFlag, flags: FlagValues): NetworkFlag {
  const aliases = flags.list("network-alias");
  const links = flags.list("link");
  const linkLocal = flags.list("link-local-ip");
  const ip = flags.text("ip");
  const ip6 = flags.text("ip6");
  const mac = flags.text("mac-address");
  const both = (flag: string, what: string) => new Error(`conflicting options: cannot specify both --${flag} and per-network ${what}`);
  if (aliases.length > 0 && network.aliases.length > 0) throw both("network-alias", "alias");
  if (links.length > 0 && network.links.length > 0) throw both("link", "links");
  if (ip !== "" && network.ip !== "") throw both("ip", "IPv4 address");
  if (ip6 !== "" && network.ip6 !== "") throw both("ip6", "IPv6 address");
  if (linkLocal.length > 0 && network.linkLocalIps.length > 0) throw both("link-local-ip", "link-local IP addresses");
  if (mac !== "" && network.mac !== "") throw both("mac-address", "MAC address");
  return {
    ...network,
    aliases: aliases.length > 0 ? [...aliases] : network.aliases,
    // Links of the default network belong to the container, not to an endpoint.
    links: isUserDefined(network.target) && links.length > 0 ? [...links] : network.links,
    ip: ip || network.ip,
    ip6: ip6 || network.ip6,
    linkLocalIps: linkLocal.length > 0 ? [...linkLocal] : network.linkLocalIps,
    mac: mac || network.mac,
  };
}

/** Docker's EndpointSettings; undefined when nothing is asked of the endpoint. */
export function endpoint(network: NetworkFlag): EndpointConfig | undefined {
  if (!isUserDefined(network.target)) {
    if (network.aliases.length > 0) throw new Error("network-scoped aliases are only supported for user-defined networks");
    if (network.links.length > 0) throw new Error("links are only supported for user-defined networks");
  }
  const address = network.ip !== "" || network.ip6 !== "" || network.linkLocalIps.length > 0;
  const options = Object.keys(network.driverOpts).length > 0;
  const asked = address || options || network.aliases.length > 0 || network.links.length > 0 || network.mac !== "" || network.gwPriority !== 0;
  if (!asked) return undefined;
  return {
    IPAMConfig: address
      ? {
          ...(network.ip === "" ? {} : { IPv4Address: network.ip }),
          ...(network.ip6 === "" ? {} : { IPv6Address: network.ip6 }),
          ...(network.linkLocalIps.length === 0 ? {} : { LinkLocalIPs: network.linkLocalIps }),
        }
      : null,
    Links: network.links.length > 0 ? network.links : null,
    Aliases: network.aliases.length > 0 ? network.aliases : null,
    DriverOpts: options ? network.driverOpts : null,
    ...(network.mac === "" ? {} : { MacAddress: network.mac }),
    ...(network.gwPriority === 0 ? {} : { GwPriority: network.gwPriority }),
  };
}

const emptyEndpoint: EndpointConfig = { IPAMConfig: null, Links: null, Aliases: null, DriverOpts: null };

/** Endpoints by network, and the main network's name ("default" when none is given). */
export function parseNetworks(flags: FlagValues): { readonly mode: string; readonly endpoints: Record<string, EndpointConfig> } {
  const given = flags.list<NetworkFlag>("network");
  const endpoints: Record<string, EndpointConfig> = {};
  const networks = given.length === 0 ? [named("default")] : given;
  for (const [index, network] of networks.entries()) {
    const settings = endpoint(index === 0 ? withContainerFlags(network, flags) : network);
    if (network.target.trim() === "") throw new Error("no name set for network");
    if (Object.hasOwn(endpoints, network.target)) throw new Error(`network ${JSON.stringify(network.target)} is specified multiple times`);
    if (settings !== undefined || networks.length > 1) endpoints[network.target] = settings ?? emptyEndpoint;
  }
  const userDefined = given.filter((n) => isUserDefined(n.target)).length;
  if (userDefined > 0 && userDefined < given.length) throw new Error("conflicting options: cannot attach both user-defined and non-user-defined network-modes");
  return { mode: networks[0]!.target, endpoints };
}
