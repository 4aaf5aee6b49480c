/**
 * From the bindings that a container asks for to ports that are taken and lead to it.
 * @module
 */
import { isIPv6 } from "node:net";
import type { PortBinding } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { PublishedPort } from "./bridge/rules.ts";
import { formatAddress, parseAddress } from "./ipv4.ts";
import { type HeldPort, parseContainerPort, parseHostPort, type PortRequest, releaseAll, takePort } from "./ports/host-ports.ts";

export type Bindings = Readonly<Record<string, readonly PortBinding[] | null>>;

export interface Publication {
  readonly held: readonly HeldPort[];
  /** For nf_tables: the IPv4 ones. */
  readonly published: readonly PublishedPort[];
  /** As `inspect` shows them, with real ports. */
  readonly bindings: Record<string, PortBinding[] | null>;
}

interface Wanted {
  readonly key: string;
  readonly request: PortRequest;
}

function requests(ports: Bindings, address: number, defaultIp: string | undefined): Wanted[] {
  return Object.entries(ports).flatMap(([key, list]) => {
    const { port, protocol } = parseContainerPort(key);
    const target = { host: formatAddress(address), port };
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
  if (parseAddress(bare) === undefined && !isIPv6(bare)) throw new EngineError("invalid", `invalid host address "${hostIp}" in a port binding`);
  return { hostIps: [bare], optionalIps: new Set() };
}

function ruleFor(request: PortRequest, hostIp: string, hostPort: number): PublishedPort[] {
  if (isIPv6(hostIp)) return []; // passed on by the socket that holds it
  const { protocol, target } = request;
  const address = parseAddress(target.host) ?? 0; // was formatted above
  return [{ protocol, hostAddress: hostIp === "0.0.0.0" ? undefined : parseAddress(hostIp), hostPort, address, port: target.port }];
}

/** Takes every port or none. `defaultIp`: the network's own choice of an address. EngineError "kernel" (taken) or "invalid". */
export async function publishPorts(ports: Bindings, address: number, defaultIp: string | undefined): Promise<Publication> {
  const bindings: Record<string, PortBinding[] | null> = Object.fromEntries(Object.entries(ports).map(([key, list]) => [key, list === null ? null : []]));
  const held: HeldPort[] = [];
  const published: PublishedPort[] = [];
  try {
    for (const { key, request } of requests(ports, address, defaultIp)) {
      const taken = await takePort(request);
      held.push(...taken);
      for (const { hostIp, port } of taken) {
        bindings[key]?.push({ HostIp: hostIp, HostPort: String(port) });
        published.push(...ruleFor(request, hostIp, port));
      }
    }
    return { held, published, bindings };
  } catch (error) {
    await releaseAll(held);
    throw error;
  }
}

/** Takes the ports of a running container back. One that somebody else holds by now still leads to the container; `onLost` is told. */
export async function restorePorts(ports: Bindings, address: number, onLost: (error: unknown) => void): Promise<Publication> {
  const held: HeldPort[] = [];
  const published: PublishedPort[] = [];
  for (const { request } of requests(ports, address, undefined)) {
    for (const hostIp of request.hostIps) published.push(...ruleFor(request, hostIp, request.first));
    try {
      held.push(...(await takePort(request)));
    } catch (error) {
      onLost(error);
    }
  }
  const bindings = Object.fromEntries(Object.entries(ports).map(([key, list]) => [key, list === null ? null : [...list]]));
  return { held, published, bindings };
}
