/**
 * The records of networks, their address pools, and the file that keeps them.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { shortId } from "#core/ids.ts";
import { choosePool, type Pools, poolsOf, subnetOf } from "./address-pool.ts";
import type { Helper } from "#linux/helper.ts";
import { indexOf } from "./bridge/interface-index.ts";
import { hostRanges } from "./host-routes.ts";
import { addressAt, overlap, parseCidr, sameSubnet, type Subnet } from "./ip-address.ts";
import type { NetworkRecord } from "./mod.ts";
import { bridgeSettings, defaultBridge, hostNetwork, noneNetwork, PREDEFINED, userNetwork } from "./network-records.ts";
import { loadNetworks, saveNetworks } from "./network-store.ts";

export interface RegistryOptions {
  readonly helper: Pick<Helper, "call">;
  readonly dataRoot: string;
  readonly bridge: { readonly name: string; readonly subnet?: string };
}

export class NetworkRegistry {
  readonly #options: RegistryOptions;
  /** In order of creation. */
  #records: NetworkRecord[];
  readonly #pools = new Map<string, Pools>();

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
    const { interfaceName, ipv4 } = bridgeSettings(record);
    const wanted = this.#options.bridge.subnet === undefined ? undefined : parseSubnet(this.#options.bridge.subnet);
    return interfaceName === this.#options.bridge.name && (wanted === undefined || sameSubnet(wanted, ipv4.subnet));
  }

  async #newDefaultBridge(): Promise<NetworkRecord> {
    const { name, subnet } = this.#options.bridge;
    if (subnet === undefined) {
      const pool = choosePool(await this.#rangesInUse(name), 16);
      return defaultBridge(name, pool, addressAt(pool, 1n));
    }
    const { address, ...range } = parseSubnet(subnet);
    return defaultBridge(name, range, address.value === range.network ? addressAt(range, 1n) : address);
  }

  /** Ranges of networks here, and what the host routes elsewhere. */
  async #rangesInUse(...alsoOurs: readonly string[]): Promise<Subnet[]> {
    const ours = this.bridges().map(bridgeSettings);
    return [...this.#ranges(), ...(await this.#hostRanges([...alsoOurs, ...ours.map(({ interfaceName }) => interfaceName)]))];
  }

  /** What the host uses, without what is there by these interfaces. */
  async #hostRanges(interfaces: readonly string[]): Promise<Subnet[]> {
    const indexes = await Promise.all(interfaces.map(indexOf));
    return await hostRanges(this.#options.helper, new Set(indexes.filter((index) => index !== undefined)));
  }

  /** Of all networks. */
  #ranges(): Subnet[] {
    return this.#records.flatMap(({ IPAM }) => IPAM.Config.map(subnetOf));
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

  pools(record: NetworkRecord): Pools {
    let pools = this.#pools.get(record.Id);
    if (pools === undefined) {
      pools = poolsOf(record.IPAM.Config, `${record.Name} (${shortId(record.Id)})`);
      this.#pools.set(record.Id, pools);
    }
    return pools;
  }

  /** `setUp`: makes what it has on the host, which says by itself whose it is, so that it need not be known to the file before. */
  async create(
    options: Partial<NetworkRecord> & { readonly Name: string },
    setUp: (record: NetworkRecord) => Promise<void>,
    takeDown: (record: NetworkRecord) => Promise<void>,
  ): Promise<NetworkRecord> {
    const conflict = () => {
      if (this.#records.some(({ Name }) => Name === options.Name) && !PREDEFINED.has(options.Name))
        throw new EngineError("conflict", `network with name ${options.Name} already exists`);
    };
    conflict();
    const inUse = await this.#rangesInUse();
    conflict(); // another create may have come between
    const networks = this.#ranges();
    const record = userNetwork(options, networks, [...inUse, ...networks]);
    const name = bridgeSettings(record).interfaceName;
    const wired = this.#records.filter(({ Driver }) => Driver === "bridge" || Driver === "macvlan");
    const same = wired.find((other) => bridgeSettings(other).interfaceName === name);
    if (same !== undefined && record.Driver === "macvlan") throw new EngineError("denied", `network ${same.Name} is already using parent interface ${name}`);
    if (same !== undefined)
      throw new EngineError(
        "denied",
        `cannot create network ${record.Id} (${name}): conflicts with network ${same.Id} (${name}): networks have same bridge name`,
      );
    this.#records.push(record);
    const [saved, made] = await Promise.allSettled([this.#save(), setUp(record)]);
    if (saved.status === "fulfilled" && made.status === "fulfilled") return record;
    await this.remove(record, takeDown);
    throw made.status === "rejected" ? made.reason : saved.status === "rejected" ? saved.reason : undefined;
  }

  /** Nobody finds it any more. What it has on the host says by itself whose it was, so that the file may forget it at the same time. */
  async remove(record: NetworkRecord, takeDown: (record: NetworkRecord) => Promise<void>): Promise<void> {
    this.#records = this.#records.filter((each) => each !== record);
    this.#pools.delete(record.Id);
    const [saved, done] = await Promise.allSettled([this.#save(), takeDown(record)]);
    if (done.status === "rejected") {
      this.#records.push(record);
      await this.#save();
      throw done.reason;
    }
    if (saved.status === "rejected") throw saved.reason;
  }

  #settling: Promise<NetworkRecord> | undefined;

  /**
   * Before the default bridge's interface is made: its range may have come into use since it was chosen (a VPN, another engine). The record that holds, the same for all who ask at once. Once the interface is there
   * the range stays.
   */
  settleDefaultBridge(): Promise<NetworkRecord> {
    this.#settling ??= this.#settleDefaultBridge().finally(() => {
      this.#settling = undefined;
    });
    return this.#settling;
  }

  async #settleDefaultBridge(): Promise<NetworkRecord> {
    const record = this.get("bridge");
    if (this.#options.bridge.subnet !== undefined) return record;
    const { interfaceName, ipv4 } = bridgeSettings(record);
    if ((await indexOf(interfaceName)) !== undefined) return record;
    const elsewhere = await this.#hostRanges([interfaceName]);
    if (!elsewhere.some((range) => overlap(range, ipv4.subnet))) return record;
    const others = this.#records.filter((each) => each !== record);
    const pool = choosePool([...elsewhere, ...others.flatMap(({ IPAM }) => IPAM.Config.map(subnetOf))], 16);
    const moved = { ...defaultBridge(interfaceName, pool, addressAt(pool, 1n)), Id: record.Id, Created: record.Created };
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

function parseSubnet(text: string): NonNullable<ReturnType<typeof parseCidr>> {
  const subnet = parseCidr(text);
  if (subnet?.family !== 4) throw new EngineError("invalid", `invalid bridge subnet "${text}": want an IPv4 range as in 10.1.0.0/16`);
  return subnet;
}
