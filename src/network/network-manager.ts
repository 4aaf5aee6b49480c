/**
 * The networks of one daemon: records, and who is on which.
 * @module
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { EndpointConfig, PortBinding } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import { systemClock } from "#core/clock.ts";
import { newId } from "#core/ids.ts";
import { DEFAULT_DATA_ROOT, instanceName } from "#core/instance-name.ts";
import { textIfThere } from "#linux/text-if-there.ts";
import type { Helper, MonitorLink } from "#linux/helper.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { addressesOf, BridgeDriver, confinedTo, ordinalOf, waysTo } from "./bridge/bridge-driver.ts";
import { HostWatch } from "./bridge/host-watch.ts";
import { BridgeHost, type ForwardingMark, tableName } from "./bridge/bridge-host.ts";
import { Firewalld } from "./bridge/firewalld.ts";
import { indexOf } from "./bridge/interface-index.ts";
import { EgressState } from "./egress/egress-state.ts";
import type { Confined, Learned } from "./egress/egress-table.ts";
import { Refusals, type RefusedPacket } from "./egress/refusals.ts";
import type { Address, Family } from "./ip-address.ts";
import type { Shaping } from "./shaping.ts";
import type { EndpointRecord, JoinRequest, JoinResult, NetworkManager, NetworkRecord, Refused, RunningProcess } from "./mod.ts";
import { type BridgeSettings, bridgeSettings, noAddresses, PREDEFINED } from "./network-records.ts";
import { NetworkRegistry } from "./network-registry.ts";
import type { PublishedPort } from "./bridge/rules.ts";
import { type Publication, restorePorts } from "./published-ports.ts";
import { HostResolvConf } from "./host-resolv-conf.ts";
import { type NameClient, NameServer, type NameTrace } from "./names/name-server.ts";
import { type NamedEndpoint, NameTable } from "./names/name-table.ts";
import { NAME_SERVER, NAME_SERVER_ADDRESS, NAME_SERVER_PORT } from "./names/redirect.ts";
import { buildResolvConf, reachableResolvers } from "./resolv-conf.ts";
import { USER_SPACE_RESOLVER } from "./user-space/program.ts";
import { isUserSpace, joinUserSpace, userSpaceAmong } from "./user-space/user-space.ts";

/** The default network's interface unless the daemon is told otherwise: `wherry0`, or the instance's name. */
function bridgeName(dataRoot: string): string {
  return dataRoot === DEFAULT_DATA_ROOT ? "wherry0" : instanceName(dataRoot);
}

export interface NetworksOptions {
  readonly dataRoot: string;
  readonly helper: Helper;
  readonly facts: HostFacts;
  /** Interface of the default network (default: named after the data root); its range is the first free one of Docker's default pools unless `subnet` says otherwise. */
  readonly bridge?: { readonly name: string; readonly subnet?: string };
  readonly log: (level: "debug" | "info" | "warn" | "error", message: string) => void;
  /** Somebody else had removed it, and it is there again: the rules of all bridge networks, or a network's bridge. */
  readonly onRepaired?: (what: "rules" | "bridge", network: NetworkRecord | undefined) => void;
  /** A container's egress rules did not allow it. Seldom enough to be read. */
  readonly onRefused?: (containerId: string, refused: Refused) => void;
}

/** What is flushed together is lost in many notices. */
const REPAIR_AFTER_MS = 20;
/** The program that was a container's network ends within this time after the container. */
const PROGRAM_ENDS_MS = 1_000;

/** A container on a network. */
interface Member {
  readonly containerId: string;
  name: string;
  readonly network: NetworkRecord;
  endpoint: EndpointRecord;
  /** Bridge networks only. */
  publication: Publication | undefined;
  /** With egress rules. */
  confined: Confined | undefined;
  readonly priority: number;
  /** `name:alias` */
  readonly links: readonly string[];
}

/** Opens the networks kept under `dataRoot`; touches no interface before a container needs one. */
export async function openNetworks(options: NetworksOptions): Promise<NetworkManager> {
  const { dataRoot, helper, log } = options;
  const bridge = options.bridge ?? { name: bridgeName(dataRoot) };
  const registry = await NetworkRegistry.open({ dataRoot, helper, bridge });
  const table = tableName(bridge.name);
  const forwarding = await forwardingMark(dataRoot);
  let networks: Networks | undefined;
  const watch = new HostWatch({
    helper,
    table,
    onRulesLost: (known) => networks?.rulesLost(known),
    onOthersChanged: () => networks?.othersChanged(),
    onLinksLost: (names) => networks?.linksLost(names),
    log: (message) => log("warn", message),
  });
  const refusals = new Refusals({ helper, table, onRefused: (packet) => networks?.packetRefused(packet), log: (message) => log("warn", message) });
  const firewalld = new Firewalld({ log });
  const host = new BridgeHost({ helper, table, forwarding, watch, refusals, firewalld, log: (message) => log("info", message) });
  networks = new Networks({ ...options, registry, host, watch, refusals, firewalld });
  return networks;
}

interface Parts extends NetworksOptions {
  readonly registry: NetworkRegistry;
  readonly host: BridgeHost;
  readonly watch: HostWatch;
  readonly refusals: Refusals;
  readonly firewalld: Firewalld;
}

class Networks implements NetworkManager {
  readonly #registry: NetworkRegistry;
  readonly #host: BridgeHost;
  readonly #driver: BridgeDriver;
  readonly #log: NetworksOptions["log"];
  readonly #members = new Set<Member>();
  readonly #hostResolvConf = new HostResolvConf();
  readonly #names: NameServer;
  /** Containers that have a name server of ours, and what ends serving it. */
  readonly #named = new Map<string, (() => void) | undefined>();
  #nameTable: NameTable | undefined;
  /** Containers whose network is a program, and until when those of ended ones may still hold their ports: they are killed when their monitors have gone. */
  readonly #inUserSpace = new Set<string>();
  #programsEndUntil = 0;
  /** What is to be done for containers that have joined a network, when they run. */
  readonly #onceTheyRun = new Map<string, () => Promise<void>>();

  readonly #watch: HostWatch;
  readonly #refusals: Refusals;
  readonly #firewalld: Firewalld;
  readonly #egress: EgressState;
  readonly #onRepaired: NonNullable<NetworksOptions["onRepaired"]>;
  #repair: Promise<unknown> | undefined;
  #lookAtOthers: Promise<unknown> | undefined;
  #lossSeen = false;

  constructor({ registry, host, watch, refusals, firewalld, log, onRepaired = () => undefined, onRefused = () => undefined }: Parts) {
    this.#registry = registry;
    this.#host = host;
    this.#watch = watch;
    this.#refusals = refusals;
    this.#firewalld = firewalld;
    this.#egress = new EgressState({
      endpointsOf: (containerId) => this.#of(containerId).flatMap(({ confined }) => confined ?? []),
      open: (learned, now) => host.learn(learned, now),
      close: (learned) => host.forget(learned),
      onRefused,
    });
    this.#log = log;
    this.#onRepaired = onRepaired;
    this.#driver = new BridgeDriver(host, registry, (message) => log("warn", message));
    this.#names = new NameServer({
      table: () => (this.#nameTable ??= new NameTable([...this.#members].map(namedEndpoint))),
      resolvers: () => this.#hostResolvConf.resolvers(),
      mayAsk: (containerId) => this.#of(containerId).some(({ network }) => !network.Internal),
      egress: this.#egress,
    });
  }

  /** Rules of ours are gone: what holds now is put in again, once for all that was lost in a moment. */
  rulesLost(known: boolean): void {
    this.#lossSeen ||= known;
    this.#host.rulesLost();
    this.#repair ??= systemClock
      .sleep(REPAIR_AFTER_MS)
      .then(async () => {
        this.#repair = undefined; // what is lost from now on is lost again
        const content = () => ({ ...this.#taken(), learned: this.#egress.learned() });
        const seen = this.#lossSeen;
        this.#lossSeen = false;
        if (!(await this.#host.reapply(content)) || !seen) return;
        this.#log("warn", `somebody has removed rules of the table inet ${this.#host.table}: they are there again`);
        this.#onRepaired("rules", undefined);
      })
      .catch((error: unknown) => this.#log("error", `cannot restore rules of the table inet ${this.#host.table}: ${String(error)}`));
  }

  /** Once for all that changes in a moment. */
  othersChanged(): void {
    this.#lookAtOthers ??= systemClock
      .sleep(REPAIR_AFTER_MS)
      .then(async () => {
        this.#lookAtOthers = undefined;
        await this.#host.besideOthers();
      })
      .catch((error: unknown) => this.#log("warn", `cannot see to it that Docker's rules let our bridges through: ${String(error)}`));
  }

  /** For the table. */
  #taken(): { readonly ports: PublishedPort[]; readonly confined: Confined[] } {
    const members = [...this.#members];
    return { ports: members.flatMap(({ publication }) => publication?.published ?? []), confined: members.flatMap(({ confined }) => confined ?? []) };
  }

  /** Who has this address, of those with egress rules. */
  #confinedAt(address: Address): Confined | undefined {
    const same = ({ family, value }: Address) => family === address.family && value === address.value;
    return [...this.#members].map(({ confined }) => confined).find((confined) => confined?.addresses.some(same));
  }

  packetRefused(packet: RefusedPacket): void {
    const confined = this.#confinedAt(packet.source);
    if (confined !== undefined) this.#egress.packet(confined.containerId, packet);
  }

  linksLost(names: readonly string[]): void {
    for (const network of this.#registry.bridges()) {
      const { interfaceName } = bridgeSettings(network);
      if (!names.includes(interfaceName)) continue;
      const cables = [...this.#members].flatMap(({ network: { Id }, endpoint: { HostInterface: name }, publication }) =>
        Id === network.Id && name !== undefined ? [{ name, hairpin: (publication?.published.length ?? 0) > 0 }] : [],
      );
      this.#host.remake(interfaceName, cables).then(
        (made) => {
          if (!made) return;
          this.#log("warn", `somebody has removed the bridge ${interfaceName} of network ${network.Name}: it is there again`);
          this.#onRepaired("bridge", network);
        },
        (error: unknown) => this.#log("error", `cannot make the bridge ${interfaceName} again: ${String(error)}`),
      );
    }
  }

  list(): NetworkRecord[] {
    return this.#registry.list();
  }

  get(nameOrId: string): NetworkRecord {
    return this.#registry.get(nameOrId);
  }

  async create(options: Partial<NetworkRecord> & { readonly Name: string }): Promise<{ readonly id: string; readonly warning: string }> {
    const record = await this.#registry.create(
      options,
      (made) => this.#setUp(made),
      (made) => this.#takeDown(made),
    );
    return { id: record.Id, warning: "" };
  }

  async #setUp(record: NetworkRecord): Promise<void> {
    const settings = bridgeSettings(record);
    const index = await indexOf(settings.interfaceName);
    if (settings.macvlan === undefined) await this.#host.ensure(settings, index);
    else if (index === undefined)
      throw new EngineError("invalid", `the host has no interface ${settings.interfaceName}`, { hint: "ip link shows those that there are" });
  }

  async #takeDown(record: NetworkRecord): Promise<void> {
    if (record.Driver === "bridge") await this.#host.remove(bridgeSettings(record));
  }

  async remove(nameOrId: string): Promise<void> {
    const record = this.#registry.get(nameOrId);
    if (PREDEFINED.has(record.Name)) throw new EngineError("denied", `${record.Name} is a pre-defined network and cannot be removed`);
    const members = this.members(record.Id);
    if (members.length > 0) {
      const list = members.map(({ name, endpoint }) => `name:"${name}" id:"${endpoint.EndpointID.slice(0, 12)}"`).join(", ");
      throw new EngineError("denied", `error while removing network: network ${record.Name} has active endpoints (${list})`, {
        hint: "stop or disconnect its containers",
      });
    }
    await this.#registry.remove(record, (removed) => this.#takeDown(removed));
  }

  async join(request: JoinRequest, slot: number): Promise<JoinResult> {
    if (isUserSpace(request.networkName)) return await this.#joinUserSpace(request);
    const network = this.#registry.get(request.networkName);
    const { containerId, containerName: name } = request;
    if (!isWired(network)) {
      const endpoint = bareEndpoint(network, request);
      this.#members.add({ containerId, name, network, endpoint, publication: undefined, confined: undefined, priority: 0, links: [] });
      return { endpoint, ports: {}, steps: [] };
    }
    requireHostsEnd(network, request);
    const ordinal = this.#freeOrdinal(request, network);
    const rivals = request.together === undefined ? [{ network, priority: 0 }] : this.#candidates(request.together);
    const names = await this.#needsNames(network, request);
    const { steps, ...made } = await this.#driver.join(network, { request, slot, ordinal, gateways: gatewaysOf(network, rivals), names });
    const { endpoint, publication } = made;
    this.#add(request, { network, ...made });
    return { endpoint, ports: publication.bindings, steps };
  }

  async #joinUserSpace(request: JoinRequest): Promise<JoinResult> {
    const { onceItRuns, ...joined } = await joinUserSpace(request, this.#programsEndUntil);
    this.#inUserSpace.add(request.containerId);
    if (onceItRuns !== undefined) this.#onceTheyRun.set(request.containerId, onceItRuns);
    return joined;
  }

  async launched(containerId: string): Promise<void> {
    const rest = this.#onceTheyRun.get(containerId);
    this.#onceTheyRun.delete(containerId);
    await rest?.();
  }

  #add(
    { containerId, containerName: name, endpoint: asked, egress }: JoinRequest,
    made: Pick<Member, "network" | "endpoint" | "publication" | "confined">,
  ): Member {
    // the default network may have got another range while it was joined
    const member = { ...made, containerId, name, network: this.#registry.get(made.network.Id), priority: asked?.GwPriority ?? 0, links: asked?.Links ?? [] };
    this.#members.add(member);
    if (egress !== undefined) this.#egress.add(containerId, egress);
    if (member.endpoint.NameServer === true) this.#named.set(containerId, undefined);
    this.#nameTable = undefined;
    return member;
  }

  /**
   * On networks of the user, as with Docker. On the default one only when the host's resolvers cannot be asked from another namespace: asking them for it is
   * better than a server somewhere in the world. And where what is answered decides whom a container may call.
   */
  async #needsNames(network: NetworkRecord, { containerId, dns, egress }: Pick<JoinRequest, "containerId" | "dns" | "egress">): Promise<boolean> {
    if (this.#named.has(containerId)) return false;
    if (network.Name !== "bridge" || egress !== undefined) return true;
    return (dns ?? []).length === 0 && reachableResolvers(await this.#hostResolvConf.read()).length === 0;
  }

  async serveNames(containerId: string, link: Pick<MonitorLink, "names">, dns: readonly string[] | null): Promise<void> {
    if (!this.#named.has(containerId) || this.#named.get(containerId) !== undefined) return;
    const client = { containerId, servers: dns };
    const stop = await link.names({ address: NAME_SERVER_ADDRESS, port: NAME_SERVER_PORT }, (message, transport) =>
      this.#names.answer(client, message, transport),
    );
    if (stop !== undefined && this.#named.has(containerId)) this.#named.set(containerId, stop);
    else stop?.();
  }

  async traceName(name: string, type: "A" | "AAAA", client: NameClient | undefined): Promise<NameTrace> {
    return await this.#names.trace(client, name, type);
  }

  rename(containerId: string, name: string): Record<string, EndpointRecord> {
    for (const member of this.#of(containerId)) {
      const { DNSNames } = member.endpoint;
      member.endpoint = { ...member.endpoint, DNSNames: DNSNames.map((each) => (each === member.name ? name : each)) };
      member.name = name;
    }
    this.#nameTable = undefined;
    return Object.fromEntries(this.#of(containerId).map(({ endpoint }) => [endpoint.NetworkName, endpoint]));
  }

  /** The lowest number that no interface of the container has. */
  #freeOrdinal({ containerId, containerName }: JoinRequest, network: NetworkRecord): number {
    const own = this.#onBridges(containerId);
    if (own.some((member) => member.network.Id === network.Id))
      throw new EngineError("denied", `endpoint with name ${containerName} already exists in network ${network.Name}`);
    const taken = new Set(own.map(({ endpoint }) => ordinalOf(endpoint)));
    let ordinal = 0;
    while (taken.has(ordinal)) ordinal++;
    return ordinal;
  }

  gatewayOf(endpoints: Readonly<Record<string, EndpointConfig>>): string | undefined {
    const userSpace = userSpaceAmong(Object.keys(endpoints)); // the only one
    if (userSpace !== undefined) return userSpace;
    return gatewayAmong(this.#candidates(endpoints), 4)?.name;
  }

  #candidates(endpoints: Readonly<Record<string, EndpointConfig>>): (Rival & { readonly name: string })[] {
    return Object.entries(endpoints).map(([name, { GwPriority: priority = 0 }]) => ({ name, network: this.#registry.get(name), priority }));
  }

  async plug(request: JoinRequest, target: RunningProcess): Promise<JoinResult> {
    const network = this.#registry.get(request.networkName);
    if (!isWired(network)) throw new EngineError("denied", `a running container cannot be connected to a network of the driver ${network.Driver}`);
    const ordinal = this.#freeOrdinal(request, network);
    const before = this.#onBridges(request.containerId);
    requireHostsEnd(network, request);
    const old = gatewayAmong(before, 4);
    const gateways = gatewaysOf(network, [...before, { network, priority: request.endpoint?.GwPriority ?? 0 }]);
    // Ports of a container that had no way out until now are published for the first time.
    const asked = old === undefined && gateways.includes(4) ? request : { ...request, ports: {} };
    const names = await this.#needsNames(network, request);
    const made = await this.#driver.plug(network, { request: asked, slot: 0, ordinal, gateways, names }, target);
    const member = this.#add(request, { ...made, network });
    if (gateways.includes(4) && old !== undefined) await this.#movePorts(old, member);
    return { endpoint: made.endpoint, ports: member.publication?.bindings ?? {}, steps: [] };
  }

  async unplug(containerId: string, networkId: string, target: RunningProcess): Promise<{ readonly ports?: Record<string, PortBinding[] | null> }> {
    const member = this.#of(containerId).find(({ network }) => network.Id === networkId);
    if (member === undefined) return {};
    this.#members.delete(member);
    this.#nameTable = undefined;
    const { network, publication } = member;
    if (publication === undefined) return {};
    const taken = { ...member, publication, learned: this.#takeLearned(member) };
    const others = this.#onBridges(containerId);
    for (const family of gatewaysOf(network, [...others, member])) {
      const next = gatewayAmong(others, family);
      if (next !== undefined) await this.#driver.reroute(next.network, next.endpoint, target, family);
    }
    const next = gatewayAmong(others, 4);
    const was = gatewayAmong([...others, member], 4) === member;
    if (!was || next === undefined) {
      await this.#driver.unplug(network, taken, target);
      return was ? { ports: Object.fromEntries(Object.keys(publication.bindings).map((port) => [port, null])) } : {};
    }
    await this.#movePorts(member, next);
    await this.#driver.unplug(network, { ...taken, publication: unpublished }, target);
    return { ports: next.publication?.bindings ?? {} };
  }

  async #movePorts(from: Member, to: Member): Promise<void> {
    if (from.publication === undefined || from.publication.published.length === 0) return;
    const publication = await this.#driver.movePorts(from.publication, to, this.#lostPort(to.name));
    from.publication = unpublished;
    to.publication = publication;
  }

  #takeLearned({ confined }: Member): Learned[] {
    return confined === undefined ? [] : this.#egress.take(confined);
  }

  async checkEgress(): Promise<void> {
    await this.#driver.checkEgress();
  }

  async checkShaping(shaping: Shaping): Promise<void> {
    await this.#driver.checkShaping(shaping);
  }

  async shape(containerId: string, target: RunningProcess, shaping: Shaping): Promise<void> {
    const endpoints = this.#onBridges(containerId).map(({ endpoint }) => endpoint);
    if (endpoints.length === 0)
      throw new EngineError("unsupported", "the container is on no bridge network: there is no cable of its own whose bandwidth could be limited");
    await this.#driver.shape(endpoints, target, shaping);
  }

  async confine(containerId: string, target: RunningProcess, { egress, dns }: Parameters<NetworkManager["confine"]>[2]): Promise<EndpointRecord | undefined> {
    const members = this.#onBridges(containerId);
    for (const { network } of members) requireHostsEnd(network, { egress });
    const changes = members.flatMap((member) => {
      const { network, endpoint, confined: was } = member;
      const cable = endpoint.HostInterface;
      return cable === undefined ? [] : [{ member, was, now: confinedTo(egress, bridgeSettings(network), addressesOf(endpoint), containerId, cable) }];
    });
    const [first] = changes;
    if (first === undefined) return undefined;
    const names = await this.#needsNames(first.member.network, { containerId, dns, egress });
    if (names) await this.#driver.redirectNames(target);
    // Before the kernel's, so that rules which are put in again meanwhile are these.
    const { closed, undo } = this.#egress.replace(containerId, egress);
    for (const { member, now } of changes) member.confined = now;
    try {
      await this.#driver.reconfine(changes, closed);
    } catch (error) {
      undo();
      for (const { member, was } of changes) member.confined = was;
      throw error;
    }
    if (!names) return undefined;
    this.#named.set(containerId, undefined);
    first.member.endpoint = { ...first.member.endpoint, NameServer: true };
    return first.member.endpoint;
  }

  async leave(containerId: string): Promise<void> {
    this.#named.get(containerId)?.();
    this.#named.delete(containerId);
    this.#onceTheyRun.delete(containerId);
    if (this.#inUserSpace.delete(containerId)) this.#programsEndUntil = systemClock.now() + PROGRAM_ENDS_MS;
    this.#nameTable = undefined;
    for (const member of this.#of(containerId)) {
      this.#members.delete(member);
      const { network, publication } = member;
      if (publication !== undefined) await this.#driver.leave(network, { ...member, publication, learned: this.#takeLearned(member) });
    }
    this.#egress.forget(containerId);
  }

  async resolvConf(options: Parameters<NetworkManager["resolvConf"]>[0]): Promise<string> {
    const embedded = options.containerId !== undefined && this.#named.has(options.containerId);
    const source = options.networkMode === "host" ? "host" : embedded ? { embedded: NAME_SERVER } : "direct";
    const dns = isUserSpace(options.networkMode) && !options.dns?.length ? [USER_SPACE_RESOLVER] : options.dns;
    return buildResolvConf(await this.#hostResolvConf.read(), { ...options, dns }, source);
  }

  async restore(running: Parameters<NetworkManager["restore"]>[0]): ReturnType<NetworkManager["restore"]> {
    const lost: { readonly containerId: string; readonly networkId: string }[] = [];
    for (const each of running) {
      const cables = await Promise.all(each.endpoints.map(({ HostInterface: name }) => (name === undefined ? 0 : indexOf(name))));
      for (const [i, { NetworkID: networkId }] of each.endpoints.entries())
        if (cables[i] === undefined) lost.push({ containerId: each.containerId, networkId });
      await this.#restoreOne({ ...each, endpoints: each.endpoints.filter((_, i) => cables[i] !== undefined) });
    }
    const members = [...this.#members].filter((member) => member.publication !== undefined);
    const used = new Set(members.filter(({ network }) => network.Driver === "bridge").map(({ network }) => network.Id));
    const isStillOpen = ({ source }: Learned) => this.#confinedAt(source) !== undefined;
    for (const learned of await this.#host.restore(await this.#bridges(used), this.#taken(), isStillOpen))
      this.#egress.adopt(this.#confinedAt(learned.source)?.containerId ?? "", learned);
    await this.#host.sweep(new Set(this.#registry.bridges().map((network) => bridgeSettings(network).interfaceName)));
    await this.#driver.sweep(this.#registry.bridges(), new Set(members.flatMap(({ endpoint }) => endpoint.HostInterface ?? [])));
    return lost;
  }

  async #restoreOne({
    containerId,
    containerName: name = containerId.slice(0, 12),
    endpoints,
    ports,
    asked,
    egress,
  }: Parameters<NetworkManager["restore"]>[0][number]): Promise<void> {
    for (const endpoint of endpoints) {
      if (isUserSpace(endpoint.NetworkName)) {
        this.#inUserSpace.add(containerId); // there is nothing of it in the host's namespace
        continue;
      }
      const network = this.#registry.list().find(({ Id }) => Id === endpoint.NetworkID);
      if (network === undefined) {
        this.#log("warn", `container ${name} is on network ${endpoint.NetworkName}, which does not exist any more`);
        continue;
      }
      const addresses = addressesOf(endpoint);
      const publication = isWired(network) && addresses.ipv4 !== undefined ? unpublished : undefined;
      if (publication !== undefined) {
        const { ipv4, ipv6 } = this.#registry.pools(network);
        if (addresses.ipv4 !== undefined) ipv4.adopt(addresses.ipv4, name);
        if (addresses.ipv6 !== undefined) ipv6?.adopt(addresses.ipv6, name);
      }
      const priority = asked?.[endpoint.NetworkName]?.GwPriority ?? 0;
      const links = asked?.[endpoint.NetworkName]?.Links ?? [];
      const cable = endpoint.HostInterface;
      const confined =
        egress === undefined || cable === undefined || publication === undefined
          ? undefined
          : confinedTo(egress, bridgeSettings(network), addresses, containerId, cable);
      this.#members.add({ containerId, name, network, endpoint, publication, confined, priority, links });
      if (egress !== undefined) this.#egress.add(containerId, egress);
      if (endpoint.NameServer === true) this.#named.set(containerId, undefined);
    }
    // the same choice as when it was joined
    const gateway = gatewayAmong(this.#onBridges(containerId), 4);
    if (gateway !== undefined) gateway.publication = await restorePorts(ports, addressesOf(gateway.endpoint), waysTo(gateway.network), this.#lostPort(name));
  }

  #lostPort(name: string): (error: unknown) => void {
    return (error) => this.#log("warn", `port of container ${name}: ${error instanceof Error ? error.message : String(error)}`);
  }

  /** Bridges that exist or must. */
  async #bridges(used: ReadonlySet<string>): Promise<BridgeSettings[]> {
    const found: BridgeSettings[] = [];
    for (const network of this.#registry.bridges()) {
      const settings = bridgeSettings(network);
      if (used.has(network.Id) || (await indexOf(settings.interfaceName)) !== undefined) found.push(settings);
    }
    return found;
  }

  members(networkId: string): { readonly containerId: string; readonly name: string; readonly endpoint: EndpointRecord }[] {
    return [...this.#members].filter(({ network }) => network.Id === networkId).map(({ containerId, name, endpoint }) => ({ containerId, name, endpoint }));
  }

  /** Ports stay open for the containers that go on; when there are none, the host is left as it was found. */
  async close(): Promise<void> {
    this.#watch.close();
    this.#refusals.close();
    for (const stop of this.#named.values()) stop?.();
    await this.#driver.settled();
    await this.#host.settled();
    const publications = [...this.#members].flatMap(({ publication }) => publication ?? []);
    await Promise.all(publications.flatMap(({ held }) => held.map((port) => port.release())));
    if (publications.length === 0) await this.#host.clear(await this.#bridges(new Set()));
    this.#firewalld.close();
  }

  #of(containerId: string): Member[] {
    return [...this.#members].filter((member) => member.containerId === containerId);
  }

  /** In the order of its interfaces. */
  #onBridges(containerId: string): Member[] {
    return this.#of(containerId)
      .filter((member) => member.publication !== undefined)
      .sort((a, b) => ordinalOf(a.endpoint) - ordinalOf(b.endpoint));
  }
}

function namedEndpoint({ containerId, network, endpoint, links }: Member): NamedEndpoint {
  return {
    containerId,
    networkId: network.Id,
    networkName: network.Name,
    names: endpoint.DNSNames,
    links: Object.fromEntries(
      links.map((link) => {
        const [name = "", alias = name] = link.split(":");
        return [alias.replace(/^.*\//, ""), name.replace(/^\//, "")];
      }),
    ),
    ipv4: endpoint.IPAddress,
    ipv6: endpoint.GlobalIPv6Address,
  };
}

const unpublished: Publication = { held: [], published: [], bindings: {} };

/** Its containers have interfaces of their own there. */
const isWired = ({ Driver }: NetworkRecord): boolean => Driver === "bridge" || Driver === "macvlan";

type Rival = Pick<Member, "network" | "priority">;

/** Of a container's networks, the one that the default route of a family goes through: the highest priority, then the first by name, as Docker has it. */
function gatewayAmong<T extends Rival>(members: readonly T[], family: Family): T | undefined {
  return members
    .filter(({ network }) => isWired(network) && !network.Internal && (family === 4 || network.EnableIPv6))
    .sort((a, b) => b.priority - a.priority || (a.network.Name < b.network.Name ? -1 : 1))[0];
}

/** The families for which that is this one. */
function gatewaysOf(network: NetworkRecord, members: readonly Rival[]): Family[] {
  return ([4, 6] as const).filter((family) => gatewayAmong(members, family)?.network.Id === network.Id);
}

/** What is sent by a macvlan interface does not pass the host's stack. */
function requireHostsEnd({ Name, Driver }: NetworkRecord, { shaping, egress }: Pick<JoinRequest, "shaping" | "egress">): void {
  if (Driver !== "macvlan" || (shaping === undefined && egress === undefined)) return;
  const what = shaping === undefined ? "egress rules" : "a network rate";
  throw new EngineError("unsupported", `${what} cannot be set on network ${Name}: the other end of a macvlan interface is not the host's to limit`);
}

/** `host` and `none` have nothing to give. */
function bareEndpoint({ Name, Id }: NetworkRecord, { endpoint }: JoinRequest): EndpointRecord {
  return {
    NetworkName: Name,
    NetworkID: Id,
    EndpointID: newId(),
    ...noAddresses,
    Aliases: endpoint?.Aliases ?? null,
    DNSNames: [],
  };
}

/** Remembers over restarts of the daemon, but not of the host, for which families it was us who turned IP forwarding on. */
async function forwardingMark(dataRoot: string): Promise<ForwardingMark> {
  const path = join(dataRoot, "network", "ip-forward");
  const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  const [storedBoot, ...families] = (await textIfThere(path)).trim().split(" ");
  return {
    turnedOn: storedBoot === boot ? ([4, 6] as const).filter((family) => families.includes(String(family))) : [],
    remember: async (turnedOn) => await writeFile(path, `${[boot, ...turnedOn].join(" ")}\n`, { mode: 0o600 }),
  };
}
