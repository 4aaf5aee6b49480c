/**
 * Addresses: which ranges networks are given, and which address of its network an endpoint is given.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { contains, formatAddress, formatSubnet, lastOf, overlap, parseAddress, parseCidr, type Subnet, sizeOf } from "./ipv4.ts";
import type { NetworkRecord } from "./mod.ts";

/** Docker's default pools: 172.17.0.0/16 … 172.31.0.0/16, then 192.168.0.0/16 in /20s. */
export function* defaultPools(): Generator<Subnet> {
  for (let second = 17; second <= 31; second++) yield { network: (172 * 256 + second) * 65536, prefix: 16 };
  for (let third = 0; third < 256; third += 16) yield { network: (192 * 256 + 168) * 65536 + third * 256, prefix: 20 };
}

/** The first default pool that touches nothing in use. EngineError "denied" with Docker's text when none is left. */
export function choosePool(inUse: readonly Subnet[]): Subnet {
  for (const pool of defaultPools()) if (!inUse.some((used) => overlap(used, pool))) return pool;
  throw new EngineError("denied", "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network", {
    hint: "remove networks that are not used, or give --subnet",
  });
}

type IpamConfig = NetworkRecord["IPAM"]["Config"][number];

/** The addresses of one network. The lowest that is free is given first, as Docker does. */
export class AddressPool {
  readonly subnet: Subnet;
  readonly gateway: number;
  readonly #range: Subnet;
  readonly #taken = new Map<number, string>();
  readonly #label: string;

  /** EngineError "invalid" for a configuration that does not hold together. `label`: how errors name the network. */
  constructor(config: IpamConfig, label: string) {
    const subnet = parseCidr(config.Subnet ?? "");
    if (subnet === undefined) throw new EngineError("invalid", `invalid subnet ${config.Subnet ?? ""}: want an IPv4 range as in 10.1.0.0/16`);
    this.subnet = { network: subnet.network, prefix: subnet.prefix };
    this.#label = label;
    const gateway = config.Gateway === undefined || config.Gateway === "" ? subnet.network + 1 : parseAddress(config.Gateway);
    if (gateway === undefined || !contains(this.subnet, gateway)) throw new EngineError("invalid", `no matching subnet for gateway ${config.Gateway}`);
    this.gateway = gateway;
    const range = config.IPRange === undefined || config.IPRange === "" ? this.subnet : parseCidr(config.IPRange);
    if (range === undefined || !contains(this.subnet, range.network) || !contains(this.subnet, lastOf(range))) {
      throw new EngineError("invalid", `no matching subnet for range ${config.IPRange}`);
    }
    this.#range = range;
    if (subnet.prefix < 31) {
      this.#taken.set(subnet.network, "network");
      this.#taken.set(lastOf(subnet), "broadcast");
    }
    this.#taken.set(gateway, "gateway");
    for (const [name, text] of Object.entries(config.AuxiliaryAddresses ?? {})) {
      const address = parseAddress(text);
      if (address === undefined || !contains(this.subnet, address)) throw new EngineError("invalid", `no matching subnet for aux-address ${text}`);
      this.#taken.set(address, name);
    }
  }

  /** Takes `wanted`, or the lowest free address; `holder` is for people. EngineError "denied" with Docker's texts. */
  take(holder: string, wanted?: number): number {
    if (wanted !== undefined) {
      if (!contains(this.subnet, wanted)) {
        throw new EngineError("invalid", `invalid address ${formatAddress(wanted)}: It does not belong to any of this network's subnets`, {
          hint: `the network's range is ${formatSubnet(this.subnet)}`,
        });
      }
      if (this.#taken.has(wanted))
        throw new EngineError("denied", "Address already in use", { hint: `${formatAddress(wanted)} is held by ${this.#taken.get(wanted)}` });
      this.#taken.set(wanted, holder);
      return wanted;
    }
    for (let address = this.#range.network, end = lastOf(this.#range); address <= end; address++) {
      if (this.#taken.has(address)) continue;
      this.#taken.set(address, holder);
      return address;
    }
    throw new EngineError("denied", `no available IPv4 addresses on this network's address pools: ${this.#label}`, {
      hint: `all ${sizeOf(this.#range)} addresses are taken`,
    });
  }

  /** Takes an address that is known to be in use already. */
  adopt(address: number, holder: string): void {
    this.#taken.set(address, holder);
  }

  free(address: number): void {
    this.#taken.delete(address);
  }
}
