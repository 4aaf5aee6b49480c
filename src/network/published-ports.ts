/**
 * From the bindings that a container asks for to ports that are taken and lead to it.
 * @module
 */
import type { PortBinding } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { PublishedPort } from "./bridge/rules.ts";
import { type Address, type Family, formatAddress, parseAddress } from "./ip-address.ts";
import { type HeldPort, parseContainerPort, parseHostPort, type PortRequest, releaseAll, takePort } from "./ports/host-ports.ts";

export type Bindings = Readonly<Record<string, readonly PortBinding[] | null>>;

export interface Publication {
  readonly held: readonly HeldPort[];
  /** For nf_tables. */
  readonly published: readonly PublishedPort[];
  /** As `inspect` shows them, with real ports. */
  readonly bindings: Record<string, PortBinding[] | null>;
}

interface Wanted {
  readonly key: string;
  readonly request: PortRequest;
}

/** How a network is reached from outside. */
export interface Ways {
  /** Families that nothing is translated for. */
  readonly routed: readonly Family[];
  /** Families in which published ports may be called by the container's own address: these, and those of which some interfaces are trusted. */
  readonly direct: readonly Family[];
}

/** Where a container is. */
export interface Addresses extends Partial<Ways> {
  readonly ipv4: Address;
  readonly ipv6: Address | undefined;
}

function requests(ports: Bindings, { ipv4, routed = [] }: Addresses, defaultIp: string | undefined): Wanted[] {
  const host = formatAddress(ipv4);
  return Object.entries(ports).flatMap(([key, list]) => {
    const { port, protocol } = parseContainerPort(key);
    const target = { host, port };
    return (list ?? []).flatMap((binding) => {
      const { hostIps, optionalIps } = addressesFor(binding.HostIp || defaultIp || "");
      const translated = hostIps.filter((ip) => !routed.includes(ip.includes(":") ? 6 : 4));
      return translated.length === 0 ? [] : [{ key, request: { protocol, hostIps: translated, optionalIps, ...parseHostPort(binding), target } }];
    });
  });
}

/** Ports that are open at the container's own addresses. */
function openPorts(ports: Bindings, { ipv4, ipv6, direct = [] }: Addresses): PublishedPort[] {
  const addresses = [ipv4, ipv6].filter((address) => address !== undefined).filter(({ family }) => direct.includes(family));
  return Object.entries(ports).flatMap(([key, list]) => {
    const { port, protocol } = parseContainerPort(key);
    return list === null ? [] : addresses.map((address) => ({ protocol, hostAddress: undefined, hostPort: 0, address, port }));
  });
}

const NONE: ReadonlySet<string> = new Set();
const EVERYWHERE = { hostIps: ["0.0.0.0", "::"], optionalIps: new Set(["::"]) } as const;

/** A binding without an address means all of them, IPv4 and IPv6. */
function addressesFor(hostIp: string): { hostIps: readonly string[]; optionalIps: ReadonlySet<string> } {
  if (hostIp === "") return EVERYWHERE;
  const bare = hostIp.replace(/^\[(.*)\]$/, "$1");
  if (parseAddress(bare) === undefined) throw new EngineError("invalid", `invalid host address "${hostIp}" in a port binding`);
  return { hostIps: [bare], optionalIps: NONE };
}

function ruleFor({ protocol, target }: PortRequest, { ipv4, ipv6 }: Addresses, hostIp: string, hostPort: number): PublishedPort[] {
  const host = parseAddress(hostIp);
  const address = host?.family === 6 ? ipv6 : ipv4;
  if (address === undefined) return []; // passed on by the socket that holds it
  return [{ protocol, hostAddress: host?.value === 0n ? undefined : host, hostPort, address, port: target.port }];
}

/** Takes every port or none. `defaultIp`: the network's own choice of an address. EngineError "kernel" (taken) or "invalid". */
export async function publishPorts(ports: Bindings, addresses: Addresses, defaultIp: string | undefined): Promise<Publication> {
  const bindings: Record<string, PortBinding[] | null> = Object.fromEntries(Object.entries(ports).map(([key, list]) => [key, list === null ? null : []]));
  const held: HeldPort[] = [];
  const published: PublishedPort[] = openPorts(ports, addresses);
  try {
    for (const { key, request } of requests(ports, addresses, defaultIp)) {
      const taken = await takePort(request);
      held.push(...taken);
      for (const { hostIp, port } of taken) {
        bindings[key]?.push({ HostIp: hostIp, HostPort: String(port) });
        published.push(...ruleFor(request, addresses, hostIp, port));
      }
    }
    return { held, published, bindings };
  } catch (error) {
    await releaseAll(held);
    throw error;
  }
}

/** Takes the ports of a running container back. One that somebody else holds by now still leads to the container; `onLost` is told. */
export async function restorePorts(
  ports: Bindings,
  { ipv4, ipv6 }: { readonly ipv4: Address | undefined; readonly ipv6: Address | undefined },
  ways: Ways,
  onLost: (error: unknown) => void,
): Promise<Publication> {
  if (ipv4 === undefined) return { held: [], published: [], bindings: {} };
  const addresses = { ipv4, ipv6, ...ways };
  const held: HeldPort[] = [];
  const published: PublishedPort[] = openPorts(ports, addresses);
  for (const { request } of requests(ports, addresses, undefined)) {
    for (const hostIp of request.hostIps) published.push(...ruleFor(request, addresses, hostIp, request.first));
    try {
      held.push(...(await takePort(request)));
    } catch (error) {
      onLost(error);
    }
  }
  const bindings = Object.fromEntries(Object.entries(ports).map(([key, list]) => [key, list === null ? null : [...list]]));
  return { held, published, bindings };
}
