/**
 * The records of networks, their address pools, and the file that keeps them.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { shortId } from "#core/ids.ts";
import { AddressPool, choosePool } from "./address-pool.ts";
import { hostRanges } from "./host-routes.ts";
import { overlap, parseCidr, type Subnet } from "./ipv4.ts";
import type { NetworkRecord } from "./mod.ts";
import { bridgeSettings, defaultBridge, hostNetwork, noneNetwork, PREDEFINED, userNetwork } from "./network-records.ts";
import { loadNetworks, saveNetworks } from "./network-store.ts";

export interface RegistryOptions {
  readonly dataRoot: string;
  readonly bridge: { readonly name: string; readonly subnet?: string };
}

export class NetworkRegistry {
  readonly #options: RegistryOptions;
  /** In order of creation. */
  #records: NetworkRecord[];
  readonly #pools = new Map<string, AddressPool>();

  private constructor(options: RegistryOptions, records: NetworkRecord[]) {
    this.#options = options;
    this.#records = records;
  }

  /** Reads the file, or begins with the predefined networks. A default bridge of another name or range than asked for is made anew. */
  static async open(options: RegistryOptions): Promise<NetworkRegistry> {
    const registry = new NetworkRegistry(options, await loadNetworks(options.dataRoot));
    const before = registry.#records;
    const find = (name: string) => before.find((record) => record.Name === name);
    const users = before.filter((record) => !PREDEFINED.has(record.Name));
    registry.#records = users;
    const stored = find("bridge");
    const bridge = stored !== undefined && registry.#asAskedFor(stored) ? stored : await registry.#newDefaultBridge();
    registry.#records = [bridge, find("host") ?? hostNetwork(), find("none") ?? noneNetwork(), ...users];
    if (before.length !== registry.#records.length || stored !== bridge) await registry.#save();
    return registry;
  }

  #asAskedFor(record: NetworkRecord): boolean {
    const { interfaceName, subnet } = bridgeSettings(record);
    const wanted = this.#options.bridge.subnet === undefined ? undefined : parseSubnet(this.#options.bridge.subnet);
    return interfaceName === this.#options.bridge.name && (wanted === undefined || (wanted.network === subnet.network && wanted.prefix === subnet.prefix));
  }

  async #newDefaultBridge(): Promise<NetworkRecord> {
    const { name, subnet } = this.#options.bridge;
    if (subnet === undefined) {
      const pool = choosePool(await this.#rangesInUse(name));
      return defaultBridge(name, pool, pool.network + 1);
    }
    const { network, prefix, address } = parseSubnet(subnet);
    return defaultBridge(name, { network, prefix }, address === network ? network + 1 : address);
  }

  /** Ranges of networks here, and what the host routes elsewhere. */
  async #rangesInUse(...alsoOurs: readonly string[]): Promise<Subnet[]> {
    const ours = this.bridges().map(bridgeSettings);
    return [...ours.map(({ subnet }) => subnet), ...(await hostRanges(new Set([...alsoOurs, ...ours.map(({ interfaceName }) => interfaceName)])))];
  }

  list(): NetworkRecord[] {
    return [...this.#records];
  }

  /** Networks of the bridge driver. */
  bridges(): NetworkRecord[] {
    return this.#records.filter(({ Driver }) => Driver === "bridge");
  }

  /** By name, id, or unambiguous beginning of an id; `default` is the bridge. */
  get(nameOrId: string): NetworkRecord {
    const name = nameOrId === "default" ? "bridge" : nameOrId;
    const exact = this.#records.find((record) => record.Name === name) ?? this.#records.find((record) => record.Id === name);
    if (exact !== undefined) return exact;
    const matches = name === "" ? [] : this.#records.filter((record) => record.Id.startsWith(name));
    const [only] = matches;
    if (only === undefined) throw new EngineError("not-found", `network ${nameOrId} not found`);
    if (matches.length > 1) throw new EngineError("invalid", `network ${nameOrId} is ambiguous (${matches.length} matches found based on ID prefix)`);
    return only;
  }

  pool(record: NetworkRecord): AddressPool {
    let pool = this.#pools.get(record.Id);
    if (pool === undefined) {
      pool = new AddressPool(record.IPAM.Config[0] ?? {}, `${record.Name} (${shortId(record.Id)})`);
      this.#pools.set(record.Id, pool);
    }
    return pool;
  }

  async create(options: Partial<NetworkRecord> & { readonly Name: string }): Promise<NetworkRecord> {
    const conflict = () => {
      if (this.#records.some(({ Name }) => Name === options.Name) && !PREDEFINED.has(options.Name))
        throw new EngineError("conflict", `network with name ${options.Name} already exists`);
    };
    conflict();
    const inUse = await this.#rangesInUse();
    conflict(); // another create may have come between
    const networks = this.bridges().map((record) => bridgeSettings(record).subnet);
    const record = userNetwork(options, networks, () => choosePool([...inUse, ...networks]));
    const name = bridgeSettings(record).interfaceName;
    const same = this.bridges().find((other) => bridgeSettings(other).interfaceName === name);
    if (same !== undefined)
      throw new EngineError(
        "denied",
        `cannot create network ${record.Id} (${name}): conflicts with network ${same.Id} (${name}): networks have same bridge name`,
      );
    this.#records.push(record);
    await this.#save();
    return record;
  }

  async remove(record: NetworkRecord): Promise<void> {
    this.#records = this.#records.filter((each) => each !== record);
    this.#pools.delete(record.Id);
    await this.#save();
  }

  /** Before the default bridge's interface is made: its range may have come into use since it was chosen (a VPN, another engine). The record that holds. */
  async settleDefaultBridge(): Promise<NetworkRecord> {
    const record = this.get("bridge");
    if (this.#options.bridge.subnet !== undefined) return record;
    const { interfaceName, subnet } = bridgeSettings(record);
    const elsewhere = await hostRanges(new Set([interfaceName]));
    if (!elsewhere.some((range) => overlap(range, subnet))) return record;
    const others = this.bridges().filter((each) => each !== record);
    const pool = choosePool([...elsewhere, ...others.map((each) => bridgeSettings(each).subnet)]);
    const moved = { ...defaultBridge(interfaceName, pool, pool.network + 1), Id: record.Id, Created: record.Created };
    this.#records = this.#records.map((each) => (each === record ? moved : each));
    this.#pools.delete(record.Id);
    await this.#save();
    return moved;
  }

  #saving: Promise<void> = Promise.resolve();

  /** One writer at a time, each with what holds when its turn comes. */
  async #save(): Promise<void> {
    const turn = this.#saving.then(() => saveNetworks(this.#options.dataRoot, this.#records));
    this.#saving = turn.catch(() => undefined); // the caller of this turn has the error
    await turn;
  }
}

function parseSubnet(text: string): Subnet & { readonly address: number } {
  const subnet = parseCidr(text);
  if (subnet === undefined) throw new EngineError("invalid", `invalid bridge subnet "${text}": want an IPv4 range as in 10.1.0.0/16`);
  return subnet;
}
