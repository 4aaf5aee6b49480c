/**
 * The networks of one daemon: records, and who is on which.
 * @module
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";
import { newId } from "#core/ids.ts";
import { DEFAULT_DATA_ROOT, instanceName } from "#core/instance-name.ts";
import type { Helper } from "#linux/helper.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { BridgeDriver } from "./bridge/bridge-driver.ts";
import { BridgeHost, indexOf, tableName } from "./bridge/bridge-host.ts";
import { parseAddress } from "./ipv4.ts";
import type { Shaping } from "./shaping.ts";
import type { EndpointRecord, JoinRequest, JoinResult, NetworkManager, NetworkRecord } from "./mod.ts";
import { type BridgeSettings, bridgeSettings, PREDEFINED } from "./network-records.ts";
import { NetworkRegistry } from "./network-registry.ts";
import { type Publication, restorePorts } from "./published-ports.ts";
import { HostResolvConf } from "./host-resolv-conf.ts";
import { buildResolvConf } from "./resolv-conf.ts";

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
}

/** A container on a network. */
interface Member {
  readonly containerId: string;
  readonly name: string;
  readonly network: NetworkRecord;
  readonly endpoint: EndpointRecord;
  /** Bridge networks only. */
  readonly publication: Publication | undefined;
  readonly defaultRoute: boolean;
}

/** Opens the networks kept under `dataRoot`; touches no interface before a container needs one. */
export async function openNetworks(options: NetworksOptions): Promise<NetworkManager> {
  const { dataRoot, helper, log } = options;
  const bridge = options.bridge ?? { name: bridgeName(dataRoot) };
  const registry = await NetworkRegistry.open({ dataRoot, bridge });
  const host = new BridgeHost({ helper, table: tableName(bridge.name), forwarding: await forwardingMark(dataRoot), log: (message) => log("info", message) });
  return new Networks(registry, host, log);
}

class Networks implements NetworkManager {
  readonly #registry: NetworkRegistry;
  readonly #host: BridgeHost;
  readonly #driver: BridgeDriver;
  readonly #log: NetworksOptions["log"];
  readonly #members = new Set<Member>();
  readonly #hostResolvConf = new HostResolvConf();

  constructor(registry: NetworkRegistry, host: BridgeHost, log: NetworksOptions["log"]) {
    this.#registry = registry;
    this.#host = host;
    this.#log = log;
    this.#driver = new BridgeDriver(host, registry, (message) => log("warn", message));
  }

  list(): NetworkRecord[] {
    return this.#registry.list();
  }

  get(nameOrId: string): NetworkRecord {
    return this.#registry.get(nameOrId);
  }

  async create(options: Partial<NetworkRecord> & { readonly Name: string }): Promise<{ readonly id: string; readonly warning: string }> {
    const record = await this.#registry.create(options);
    try {
      const settings = bridgeSettings(record);
      await this.#host.ensure(settings, await indexOf(settings.interfaceName));
    } catch (error) {
      await this.#registry.remove(record);
      throw error;
    }
    return { id: record.Id, warning: "" };
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
    await this.#registry.remove(record);
    await this.#host.remove(bridgeSettings(record));
  }

  async join(request: JoinRequest, slot: number): Promise<JoinResult> {
    const network = this.#registry.get(request.networkName);
    const { containerId, containerName: name } = request;
    if (network.Driver !== "bridge") {
      const endpoint = bareEndpoint(network, request);
      this.#members.add({ containerId, name, network, endpoint, publication: undefined, defaultRoute: false });
      return { endpoint, ports: {}, steps: [] };
    }
    const own = this.#of(containerId).filter((member) => member.publication !== undefined);
    if (own.some((member) => member.network.Id === network.Id))
      throw new EngineError("denied", `endpoint with name ${name} already exists in network ${network.Name}`);
    const defaultRoute = !network.Internal && !own.some((member) => member.defaultRoute);
    const { endpoint, publication, steps } = await this.#driver.join(network, { request, slot, ordinal: own.length, defaultRoute });
    this.#members.add({ containerId, name, network: this.#registry.get(network.Id), endpoint, publication, defaultRoute });
    return { endpoint, ports: publication.bindings, steps };
  }

  async checkShaping(shaping: Shaping): Promise<void> {
    await this.#driver.checkShaping(shaping);
  }

  async shape(containerId: string, target: { readonly pid: number; readonly startTime: bigint }, shaping: Shaping): Promise<void> {
    const endpoints = this.#of(containerId).flatMap(({ publication, endpoint }) => (publication === undefined ? [] : [endpoint]));
    if (endpoints.length === 0)
      throw new EngineError("unsupported", "the container is on no bridge network: there is no cable of its own whose bandwidth could be limited");
    await this.#driver.shape(endpoints, target, shaping);
  }

  async leave(containerId: string): Promise<void> {
    for (const member of this.#of(containerId)) {
      this.#members.delete(member);
      if (member.publication !== undefined) await this.#driver.leave(member.network, member.endpoint, member.publication);
    }
  }

  async resolvConf(options: Parameters<NetworkManager["resolvConf"]>[0]): Promise<string> {
    return buildResolvConf(await this.#hostResolvConf.read(), options, options.networkMode !== "host");
  }

  async restore(running: Parameters<NetworkManager["restore"]>[0]): Promise<void> {
    for (const { containerId, containerName = containerId.slice(0, 12), endpoints, ports } of running) {
      let unpublished = ports;
      for (const endpoint of endpoints) {
        const network = this.#registry.list().find(({ Id }) => Id === endpoint.NetworkID);
        if (network === undefined) {
          this.#log("warn", `container ${containerName} is on network ${endpoint.NetworkName}, which does not exist any more`);
          continue;
        }
        const address = parseAddress(endpoint.IPAddress);
        const onBridge = network.Driver === "bridge" && address !== undefined;
        if (onBridge) this.#registry.pool(network).adopt(address, containerName);
        const lost = (error: unknown) => this.#log("warn", `port of container ${containerName}: ${error instanceof Error ? error.message : String(error)}`);
        const publication = onBridge ? await restorePorts(unpublished, address, lost) : undefined;
        if (onBridge) unpublished = {}; // ports are published by the first of its networks
        this.#members.add({ containerId, name: containerName, network, endpoint, publication, defaultRoute: onBridge });
      }
    }
    const members = [...this.#members].filter((member) => member.publication !== undefined);
    const used = new Set(members.map(({ network }) => network.Id));
    const ports = members.flatMap(({ publication }) => publication?.published ?? []);
    await this.#host.restore(await this.#bridges(used), ports);
    await this.#driver.sweep(this.#registry.bridges(), new Set(members.flatMap(({ endpoint }) => endpoint.HostInterface ?? [])));
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
    await this.#driver.settled();
    const publications = [...this.#members].flatMap(({ publication }) => publication ?? []);
    await Promise.all(publications.flatMap(({ held }) => held.map((port) => port.release())));
    if (publications.length === 0) await this.#host.clear(await this.#bridges(new Set()));
  }

  #of(containerId: string): Member[] {
    return [...this.#members].filter((member) => member.containerId === containerId);
  }
}

/** `host` and `none` have nothing to give. */
function bareEndpoint({ Name, Id }: NetworkRecord, { endpoint }: JoinRequest): EndpointRecord {
  return {
    NetworkName: Name,
    NetworkID: Id,
    EndpointID: newId(),
    Gateway: "",
    IPAddress: "",
    IPPrefixLen: 0,
    IPv6Gateway: "",
    GlobalIPv6Address: "",
    GlobalIPv6PrefixLen: 0,
    MacAddress: "",
    Aliases: endpoint?.Aliases ?? null,
    DNSNames: [],
  };
}

/** systemd-resolved's stub list names 127.0.0.53 only; the list behind it is in its own file. */
/** Remembers over restarts of the daemon, but not of the host, that it was us who turned IP forwarding on. */
async function forwardingMark(dataRoot: string): Promise<{ readonly turnedOn: boolean; readonly remember: () => Promise<void> }> {
  const path = join(dataRoot, "network", "ip-forward");
  const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  const stored = await readFile(path, "utf8").catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return "";
    throw error;
  });
  return { turnedOn: stored.trim() === boot, remember: async () => await writeFile(path, `${boot}\n`, { mode: 0o600 }) };
}
