/**
 * From the bindings that a container asks for to ports that are taken and lead to it.
 * @module
 */
import type { PortBinding } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { PublishedPort } from "./bridge/rules.ts";
import { type Address, formatAddress, parseAddress } from "./ip-address.ts";
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

/** Where a container is. */
export interface Addresses {
  readonly ipv4: Address;
  readonly ipv6: Address | undefined;
}

function requests(ports: Bindings, { ipv4 }: Addresses, defaultIp: string | undefined): Wanted[] {
  return Object.entries(ports).flatMap(([key, list]) => {
    const { port, protocol } = parseContainerPort(key);
    const target = { host: formatAddress(ipv4), port };
    return (list ?? []).map((binding) => ({
      key,
      request: { protocol, ...addressesFor(binding.HostIp || defaultIp || ""), ...parseHostPort(binding), target },
    }));
  });
}

/** A binding without an address means all of them, IPv4 and IPv6. */
function addressesFor(hostIp: string): { hostIps: readonly string[]; optionalIps: ReadonlySet<string> } {
  if (hostIp === "") return { hostIps: ["0.0.0.0", "::"], optionalIps: new Set(["::"]) };
  const bare = hostIp.replace(/^\[(.*)\]$/, "$1");
  if (parseAddress(bare) === undefined) throw new EngineError("invalid", `invalid host address "${hostIp}" in a port binding`);
  return { hostIps: [bare], optionalIps: new Set() };
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
  const published: PublishedPort[] = [];
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
  onLost: (error: unknown) => void,
): Promise<Publication> {
  if (ipv4 === undefined) return { held: [], published: [], bindings: {} };
  const addresses = { ipv4, ipv6 };
  const held: HeldPort[] = [];
  const published: PublishedPort[] = [];
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
