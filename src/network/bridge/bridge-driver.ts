/**
 * Containers on bridge networks.
 * @module
 */
import { randomBytes } from "node:crypto";
import { systemClock } from "#core/clock.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { newId, shortId } from "#core/ids.ts";
import type { Step } from "#linux/plan.ts";
import { type Address, type Family, formatAddress, lastOf, parseAddress } from "../ip-address.ts";
import type { EndpointRecord, JoinRequest, NetworkRecord, RunningProcess } from "../mod.ts";
import { endpointExtras } from "../endpoint-extras.ts";
import type { AddressPool } from "../address-pool.ts";
import { boxesOf, type EgressRules, neighboursOf } from "../egress/egress-rules.ts";
import type { Confined, Learned, Reconfined } from "../egress/egress-table.ts";
import { BRIDGE_OPTION, type BridgeRange, type BridgeSettings, bridgeSettings } from "../network-records.ts";
import type { NetworkRegistry } from "../network-registry.ts";
import { releaseAll } from "../ports/host-ports.ts";
import { requireSctp } from "../ports/sctp.ts";
import { type Addresses, type Publication, publishPorts, restorePorts, type Ways } from "../published-ports.ts";
import { type BridgeHost, macOf, portsOf } from "./bridge-host.ts";
import { indexOf } from "./interface-index.ts";
import { isImpaired, type Shaping } from "../shaping.ts";
import {
  type Cable,
  type EndpointWiring,
  endpointSteps,
  type MacvlanPart,
  plugSteps,
  redirectSteps,
  removeInnerSteps,
  rerouteSteps,
  reshapeSteps,
} from "./endpoint-steps.ts";

/** Indexes inside a container: above what the kernel itself puts into a new namespace (lo, fallback tunnels). */
const FIRST_INNER_INDEX = 100;
/** A namespace that outlives its container (`--network container:X`) keeps the cable: then it is pulled out after this time. */
const CABLE_TIMEOUT_MS = 1_000;
/** How long a join waits for an address that an ended container still holds. */
const ADDRESS_TIMEOUT_MS = 2_000;

/** What a join has taken for one container. */
export interface BridgeEndpoint {
  readonly endpoint: EndpointRecord;
  readonly publication: Publication;
  readonly confined: Confined | undefined;
}

interface Prepared extends BridgeEndpoint {
  readonly wiring: EndpointWiring;
}

export interface BridgeJoin {
  readonly request: JoinRequest;
  readonly slot: number;
  /** Number of its interface inside. */
  readonly ordinal: number;
  /** Families whose default route goes through this network. */
  readonly gateways: readonly Family[];
  /** Whether the container gets its name server with it. */
  readonly names: boolean;
}

export class BridgeDriver {
  readonly #host: BridgeHost;
  readonly #registry: NetworkRegistry;
  /** Rules of ended containers, on their way out. */
  readonly #unpublishing = new Set<Promise<void>>();
  /** Their cables and addresses. */
  readonly #leaving = new Set<Promise<void>>();
  readonly #log: (message: string) => void;

  constructor(host: BridgeHost, registry: NetworkRegistry, log: (message: string) => void) {
    this.#host = host;
    this.#registry = registry;
    this.#log = log;
  }

  /** Takes what the endpoint needs; the steps wire it. */
  async join(network: NetworkRecord, join: BridgeJoin): Promise<BridgeEndpoint & { readonly steps: readonly Step[] }> {
    const { wiring, ...made } = await this.#prepare(network, join);
    return { ...made, steps: endpointSteps(wiring) };
  }

  /** Joins a container that runs. */
  async plug(network: NetworkRecord, join: BridgeJoin, target: RunningProcess): Promise<BridgeEndpoint> {
    const { wiring, ...made } = await this.#prepare(network, join);
    try {
      await this.#host.perform(plugSteps(wiring, target));
      return made;
    } catch (error) {
      await this.unplug(network, { ...made, learned: [] }, target);
      throw error;
    }
  }

  /** The default route of a running container goes through this endpoint from now on. */
  async reroute(network: NetworkRecord, endpoint: EndpointRecord, target: RunningProcess, family: Family): Promise<void> {
    const { ipv4, ipv6 } = bridgeSettings(network);
    const range = family === 4 ? ipv4 : ipv6;
    if (range !== undefined) await this.#host.perform(rerouteSteps(target, range.gateway, FIRST_INNER_INDEX + ordinalOf(endpoint)));
  }

  /** Ports that led to one endpoint of a container lead to another one. `onLost` is told of those that somebody else has taken in between. */
  async movePorts(
    from: Publication,
    { endpoint: to, network }: { readonly endpoint: EndpointRecord; readonly network: NetworkRecord },
    onLost: (error: unknown) => void,
  ): Promise<Publication> {
    await releaseAll(from.held);
    await this.#host.unpublish(from.published);
    const publication = await restorePorts(from.bindings, addressesOf(to), waysTo(network), onLost);
    await this.#host.publish(publication.published, to.HostInterface);
    return publication;
  }

  async #prepare(network: NetworkRecord, { request, slot, ordinal, gateways, names }: BridgeJoin): Promise<Prepared> {
    const present = await indexOf(bridgeSettings(network).interfaceName);
    const record = network.Name === "bridge" ? await this.#currentDefault(present) : network;
    const settings = bridgeSettings(record);
    const extras = endpointExtras(request.endpoint);
    const addresses = { ...(await this.#takeAddresses(record, request)), ...waysTo(record) };
    let publication: Publication | undefined;
    const endpointId = newId();
    try {
      publication = await this.#publish(request, settings, addresses, endpointId);
      const link = await this.#link(record, settings, present);
      // the same ports may have led to a container whose rules are on their way out
      if (publication.published.length > 0) await Promise.all(this.#unpublishing);
      const mac = request.endpoint?.MacAddress ? parseMac(request.endpoint.MacAddress) : macOf(addresses.ipv4);
      const name = extras.name ?? `${settings.interfacePrefix}${ordinal}`;
      const cable = link.kind === "cable" ? link.host.name : undefined;
      const confined =
        request.egress === undefined || cable === undefined ? undefined : confinedTo(request.egress, settings, addresses, request.containerId, cable);
      if (confined !== undefined) await this.#host.prepareEgress();
      const inner = (address: Address, { subnet, gateway }: BridgeRange) => ({
        address,
        subnet,
        gateway: gateways.includes(subnet.family) && !settings.internal ? gateway : undefined,
      });
      const wiring: EndpointWiring = {
        slot,
        link,
        container: {
          name,
          index: FIRST_INNER_INDEX + ordinal,
          mac,
          ipv4: inner(addresses.ipv4, settings.ipv4),
          ipv6: addresses.ipv6 !== undefined && settings.ipv6 !== undefined ? inner(addresses.ipv6, settings.ipv6) : undefined,
          linkLocal: extras.linkLocal,
          sysctls: extras.sysctls(name),
        },
        table: this.#host.table,
        ports: publication.published,
        shaping: request.shaping,
        confined,
        names,
      };
      const endpoint = endpointRecord(record, settings, request, {
        addresses,
        mac,
        hostName: cable,
        ordinal,
        endpointId,
        name,
      });
      return { endpoint: { ...endpoint, ...(names ? { NameServer: true } : {}) }, publication, confined, wiring };
    } catch (error) {
      if (publication !== undefined) await releaseAll(publication.held);
      this.#free(record, addresses);
      throw error;
    }
  }

  /** The default bridge's record: who asked for the network may hold one from before its range was settled. */
  #currentDefault(present: number | undefined): NetworkRecord | Promise<NetworkRecord> {
    return present === undefined ? this.#registry.settleDefaultBridge() : this.#registry.get("bridge");
  }

  /** What the container's interface is an end or a part of. */
  async #link(record: NetworkRecord, settings: BridgeSettings, present: number | undefined): Promise<Cable | MacvlanPart> {
    const { interfaceName, macvlan, mtu, icc } = settings;
    if (macvlan === undefined) {
      const index = await this.#host.ensure(settings, present);
      const name = `veth${randomBytes(4).toString("hex").slice(0, 7)}`;
      return { kind: "cable", bridge: { name: interfaceName, index, mtu, icc }, host: { name, index: this.#host.takeIndex() } };
    }
    if (present === undefined)
      throw new EngineError("not-found", `network ${record.Name}: the host has no interface ${interfaceName}`, { hint: "ip link shows those that there are" });
    return { kind: "macvlan", parent: interfaceName, index: present, mode: macvlan, mtu: record.Options[BRIDGE_OPTION.mtu] === undefined ? undefined : mtu };
  }

  async checkShaping(shaping: Shaping): Promise<void> {
    if (isImpaired(shaping)) await this.#host.requireNetem();
  }

  /** Changes limits on both ends of the cables of a running container. */
  async shape(endpoints: readonly EndpointRecord[], target: RunningProcess, shaping: Shaping): Promise<void> {
    const ends = await Promise.all(
      endpoints.map(async (endpoint) => ({
        host: await indexOf(endpoint.HostInterface ?? ""),
        container: FIRST_INNER_INDEX + ordinalOf(endpoint),
      })),
    );
    const cables = ends.flatMap(({ host, container }) => (host === undefined ? [] : [{ host, container }]));
    await this.#host.perform(reshapeSteps(cables, target, shaping));
  }

  async #publish(request: JoinRequest, settings: BridgeSettings, addresses: Addresses, endpointId: string): Promise<Publication> {
    const ports = settings.internal || settings.macvlan !== undefined ? {} : request.ports;
    if (Object.keys(ports).some((port) => port.endsWith("/sctp"))) await requireSctp();
    try {
      return await publishPorts(ports, addresses, settings.hostBinding ?? request.publishHost);
    } catch (error) {
      if (!isEngineError(error, "kernel")) throw error;
      const message = `driver failed programming external connectivity on endpoint ${request.containerName} (${endpointId}): ${error.message}`;
      throw new EngineError("kernel", message, { cause: error, details: error.details, ...(error.hint !== undefined && { hint: error.hint }) });
    }
  }

  async #takeAddresses(record: NetworkRecord, { endpoint, containerName }: JoinRequest): Promise<Omit<Addresses, keyof Ways>> {
    const { ipv4, ipv6 } = this.#registry.pools(record);
    const asked = endpoint?.IPAMConfig;
    const wanted = (text: string, family: Family): Address | undefined => {
      if (text !== "" && record.Name === "bridge") throw new EngineError("invalid", "user specified IP address is supported on user defined networks only");
      const address = text === "" ? undefined : parseAddress(text);
      if (text !== "" && address?.family !== family) throw new EngineError("invalid", `invalid IPv${family} address: ${text}`);
      return address;
    };
    const [four, six] = [wanted(asked?.IPv4Address ?? "", 4), wanted(asked?.IPv6Address ?? "", 6)];
    if (six !== undefined && ipv6 === undefined)
      throw new EngineError("invalid", `invalid address ${formatAddress(six)}: It does not belong to any of this network's subnets`, {
        hint: `network ${record.Name} has no IPv6: create it with --ipv6`,
      });
    const first = await this.#take(ipv4, containerName, four);
    try {
      return { ipv4: first, ipv6: ipv6 === undefined ? undefined : await this.#take(ipv6, containerName, six) };
    } catch (error) {
      ipv4.free(first);
      throw error;
    }
  }

  /** Waits for an address that an ended container still holds. */
  async #take(pool: AddressPool, holder: string, wanted: Address | undefined): Promise<Address> {
    const end = systemClock.now() + ADDRESS_TIMEOUT_MS;
    for (;;) {
      try {
        return pool.take(holder, wanted);
      } catch (error) {
        if (!isEngineError(error, "denied") || this.#leaving.size === 0 || systemClock.now() > end) throw error;
        await Promise.race(this.#leaving);
      }
    }
  }

  #free(record: NetworkRecord, addresses: { readonly ipv4: Address | undefined; readonly ipv6: Address | undefined }): void {
    const { ipv4, ipv6 } = this.#registry.pools(record);
    if (addresses.ipv4 !== undefined) ipv4.free(addresses.ipv4);
    if (addresses.ipv6 !== undefined) ipv6?.free(addresses.ipv6);
  }

  async checkEgress(): Promise<void> {
    await this.#host.requireEgress();
  }

  /** Confines endpoints of a running container to other rules. */
  async reconfine(changes: readonly Reconfined[], closed: readonly Learned[]): Promise<void> {
    await this.#host.reconfine(changes, closed);
  }

  /** A running container's questions lead to its name server from now on. */
  async redirectNames(target: RunningProcess): Promise<void> {
    await this.#host.perform(redirectSteps(target));
  }

  /** Frees ports at once; rules follow, and then the address, when the cable is gone: it must never be there twice, nor without its limits. */
  async leave(network: NetworkRecord, { endpoint, publication, confined, learned }: Taken): Promise<void> {
    await releaseAll(publication.held);
    if (publication.published.length > 0) this.#later(this.#unpublishing, "remove rules", this.#host.unpublish(publication.published));
    const unplugged = this.#unplug(endpoint.HostInterface)
      .then(() => (confined === undefined ? undefined : this.#host.release(confined, learned)))
      .finally(() => this.#free(network, addressesOf(endpoint)));
    this.#later(this.#leaving, `remove the interface ${endpoint.HostInterface}`, unplugged);
  }

  /** The same for a container that goes on: its cable is pulled out. */
  async unplug(network: NetworkRecord, { endpoint, publication, confined, learned }: Taken, target: RunningProcess): Promise<void> {
    await releaseAll(publication.held);
    await this.#host.unpublish(publication.published);
    if (endpoint.HostInterface !== undefined) await this.#host.removeInterface(endpoint.HostInterface);
    else if (endpoint.Interface !== undefined) await this.#host.perform(removeInnerSteps(target, endpoint.Interface));
    if (confined !== undefined) await this.#host.release(confined, learned);
    this.#free(network, addressesOf(endpoint));
  }

  #later(where: Set<Promise<void>>, what: string, work: Promise<void>): void {
    const done = work
      .catch((error: unknown) => this.#log(`cannot ${what}: ${error instanceof Error ? error.message : String(error)}`))
      .finally(() => where.delete(done));
    where.add(done);
  }

  /** The cable goes with the namespace, some milliseconds after its last process. */
  async #unplug(name: string | undefined): Promise<void> {
    if (name === undefined) return;
    const end = systemClock.now() + CABLE_TIMEOUT_MS;
    for (let pauseMs = 5; systemClock.now() < end; pauseMs *= 2) {
      if ((await indexOf(name)) === undefined) return;
      await systemClock.sleep(pauseMs);
    }
    await this.#host.removeInterface(name);
  }

  /** Removes ports of our bridges that no living container has. */
  async sweep(networks: readonly NetworkRecord[], living: ReadonlySet<string>): Promise<void> {
    for (const network of networks) {
      for (const name of await portsOf(bridgeSettings(network).interfaceName)) {
        if (name.startsWith("veth") && !living.has(name)) await this.#host.removeInterface(name);
      }
    }
  }

  /** Resolves when nothing is on its way out. */
  async settled(): Promise<void> {
    while (this.#leaving.size + this.#unpublishing.size > 0) await Promise.all([...this.#leaving, ...this.#unpublishing]);
  }
}

/** What an endpoint has, when it goes. */
export interface Taken extends BridgeEndpoint {
  readonly learned: readonly Learned[];
}

/** What a container with such rules may call from its place in a network. */
export function confinedTo(
  rules: EgressRules,
  { ipv4, ipv6 }: BridgeSettings,
  addresses: { readonly ipv4: Address | undefined; readonly ipv6: Address | undefined },
  containerId: string,
  cable: string,
): Confined {
  const near = (range: BridgeRange | undefined) => (range === undefined ? [] : neighboursOf(range.subnet.network, lastOf(range.subnet).value, range.gateway));
  return {
    containerId,
    cable,
    addresses: [addresses.ipv4, addresses.ipv6].filter((address) => address !== undefined),
    boxes: { 4: boxesOf(rules, 4, near(ipv4)), 6: boxesOf(rules, 6, near(ipv6)) },
  };
}

function endpointRecord(
  { Name, Id }: NetworkRecord,
  { ipv4, ipv6, internal }: BridgeSettings,
  { containerId, containerName, hostname, endpoint }: JoinRequest,
  made: {
    readonly addresses: Addresses;
    readonly mac: Uint8Array;
    readonly hostName: string | undefined;
    readonly endpointId: string;
    readonly name: string;
    readonly ordinal: number;
  },
): EndpointRecord {
  const aliases = endpoint?.Aliases ?? null;
  return {
    NetworkName: Name,
    NetworkID: Id,
    EndpointID: made.endpointId,
    Gateway: internal ? "" : formatAddress(ipv4.gateway),
    IPAddress: formatAddress(made.addresses.ipv4),
    IPPrefixLen: ipv4.subnet.prefix,
    IPv6Gateway: internal || ipv6 === undefined ? "" : formatAddress(ipv6.gateway),
    GlobalIPv6Address: made.addresses.ipv6 === undefined ? "" : formatAddress(made.addresses.ipv6),
    GlobalIPv6PrefixLen: ipv6?.subnet.prefix ?? 0,
    MacAddress: [...made.mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":"),
    Aliases: aliases,
    // names are resolved on user-defined networks only
    DNSNames: Name === "bridge" ? [] : [...new Set([containerName, ...(aliases ?? []), shortId(containerId), hostname])].filter((name) => name !== ""),
    ...(made.hostName === undefined ? {} : { HostInterface: made.hostName }),
    Interface: made.name,
    ...(made.name === `eth${made.ordinal}` ? {} : { InterfaceNumber: made.ordinal }),
  };
}

/** An endpoint's addresses, as they stand in its record. */
export const addressesOf = ({ IPAddress, GlobalIPv6Address }: EndpointRecord): { readonly ipv4: Address | undefined; readonly ipv6: Address | undefined } => ({
  ipv4: parseAddress(IPAddress),
  ipv6: parseAddress(GlobalIPv6Address),
});

/** The number of an endpoint's interface: said, or that of `eth3`. */
export const ordinalOf = ({ Interface, InterfaceNumber }: Pick<EndpointRecord, "Interface" | "InterfaceNumber">): number =>
  InterfaceNumber ?? Number(/^eth(\d+)$/.exec(Interface ?? "")?.[1] ?? 0);

/** How a network's published ports are reached. */
export function waysTo(network: NetworkRecord): Ways {
  const { ipv4, ipv6, trusted } = bridgeSettings(network);
  const ranges = [ipv4, ipv6].filter((range) => range !== undefined);
  const families = (of: readonly BridgeRange[]) => of.map(({ subnet }) => subnet.family);
  const routed = families(ranges.filter(({ mode }) => mode === "routed"));
  return { routed, direct: trusted.length > 0 ? families(ranges) : routed };
}

/** EngineError "invalid" for what is no unicast MAC address. */
function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) throw new EngineError("invalid", `invalid MAC address: ${text}`);
  const mac = Uint8Array.from(text.split(/[:-]/), (byte) => Number.parseInt(byte, 16));
  if (((mac[0] ?? 0) & 1) === 1) throw new EngineError("invalid", `invalid MAC address: ${text}: a multicast address cannot be an interface's own`);
  return mac;
}
