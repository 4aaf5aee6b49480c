/**
 * Addresses: which ranges networks are given, and which address of its network an endpoint is given.
 * @module
 */
import { randomBytes } from "node:crypto";
import { EngineError } from "#core/errors.ts";
import {
  type Address,
  addressAt,
  contains,
  type Family,
  firstOf,
  formatAddress,
  formatSubnet,
  lastOf,
  overlap,
  parseAddress,
  parseCidr,
  type Subnet,
  sizeOf,
} from "./ip-address.ts";
import type { NetworkRecord } from "./mod.ts";

const ipv4 = (first: number, second: number, third: number, prefix: number): Subnet => ({
  family: 4,
  network: BigInt((first * 256 + second) * 65536 + third * 256),
  prefix,
});

/** Docker's ranges, 172.17.0.0 to 172.31.255.255 and then 192.168.0.0/16: the default network gets sixteen bits of them, those of users a /24 each. */
export function* defaultPools(prefix: 16 | 24): Generator<Subnet> {
  const step = prefix === 16 ? 256 : 1;
  for (let second = 17; second <= 31; second++) for (let third = 0; third < 256; third += step) yield ipv4(172, second, third, prefix);
  for (let third = 0; third < 256; third += prefix === 16 ? 16 : 1) yield ipv4(192, 168, third, prefix === 16 ? 20 : 24);
}

/** The first default pool that touches nothing in use. EngineError "denied" with Docker's text when none is left. */
export function choosePool(inUse: readonly Subnet[], prefix: 16 | 24): Subnet {
  for (const pool of defaultPools(prefix)) if (!inUse.some((used) => overlap(used, pool))) return pool;
  throw new EngineError("denied", "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network", {
    hint: "remove networks that are not used, or give --subnet",
  });
}

const ULA_PREFIX = 0xfdn;

/** A /64 of a random unique local range: nobody else has it. @see RFC 4193 */
export function chooseIPv6(inUse: readonly Subnet[]): Subnet {
  for (;;) {
    const random = BigInt(`0x${randomBytes(7).toString("hex")}`);
    const pool: Subnet = { family: 6, network: ((ULA_PREFIX << 56n) | random) << 64n, prefix: 64 };
    if (!inUse.some((used) => overlap(used, pool))) return pool;
  }
}

export type IpamConfig = NetworkRecord["IPAM"]["Config"][number];

/** The range of a configuration's subnet. EngineError "invalid" with Docker's text. */
export function subnetOf(config: IpamConfig): Subnet {
  const subnet = parseCidr(config.Subnet ?? "");
  if (subnet === undefined) throw new EngineError("invalid", `invalid subnet ${config.Subnet ?? ""}: want a range as in 10.1.0.0/16 or fd00:1::/64`);
  return { family: subnet.family, network: subnet.network, prefix: subnet.prefix };
}

/** The addresses of one network, of one family. The lowest that is free is given first, as Docker does. */
export class AddressPool {
  readonly subnet: Subnet;
  readonly gateway: Address;
  readonly #range: Subnet;
  readonly #taken = new Map<bigint, string>();
  readonly #label: string;

  /** EngineError "invalid" for a configuration that does not hold together. `label`: how errors name the network. */
  constructor(config: IpamConfig, label: string) {
    this.subnet = subnetOf(config);
    this.#label = label;
    const gateway = config.Gateway === undefined || config.Gateway === "" ? addressAt(this.subnet, 1n) : parseAddress(config.Gateway);
    if (gateway === undefined || !contains(this.subnet, gateway)) throw new EngineError("invalid", `no matching subnet for gateway ${config.Gateway}`);
    this.gateway = gateway;
    const range = config.IPRange === undefined || config.IPRange === "" ? this.subnet : parseCidr(config.IPRange);
    if (range === undefined || !contains(this.subnet, firstOf(range)) || !contains(this.subnet, lastOf(range))) {
      throw new EngineError("invalid", `no matching subnet for range ${config.IPRange}`);
    }
    this.#range = range;
    if (sizeOf(this.subnet) > 2n) {
      this.#taken.set(this.subnet.network, "network");
      if (this.subnet.family === 4) this.#taken.set(lastOf(this.subnet).value, "broadcast");
    }
    this.#taken.set(gateway.value, "gateway");
    for (const [name, text] of Object.entries(config.AuxiliaryAddresses ?? {})) {
      const address = parseAddress(text);
      if (address === undefined || !contains(this.subnet, address)) throw new EngineError("invalid", `no matching subnet for aux-address ${text}`);
      this.#taken.set(address.value, name);
    }
  }

  /** Takes `wanted`, or the lowest free address; `holder` is for people. EngineError "denied" with Docker's texts. */
  take(holder: string, wanted?: Address): Address {
    if (wanted !== undefined) {
      if (!contains(this.subnet, wanted)) {
        throw new EngineError("invalid", `invalid address ${formatAddress(wanted)}: It does not belong to any of this network's subnets`, {
          hint: `the network's range is ${formatSubnet(this.subnet)}`,
        });
      }
      if (this.#taken.has(wanted.value))
        throw new EngineError("denied", "Address already in use", { hint: `${formatAddress(wanted)} is held by ${this.#taken.get(wanted.value)}` });
      this.#taken.set(wanted.value, holder);
      return wanted;
    }
    for (let value = this.#range.network, end = lastOf(this.#range).value; value <= end; value++) {
      if (this.#taken.has(value)) continue;
      this.#taken.set(value, holder);
      return { family: this.subnet.family, value };
    }
    throw new EngineError("denied", `no available IPv${this.subnet.family} addresses on this network's address pools: ${this.#label}`, {
      hint: `all ${sizeOf(this.#range)} addresses are taken`,
    });
  }

  /** Takes an address that is known to be in use already. */
  adopt(address: Address, holder: string): void {
    this.#taken.set(address.value, holder);
  }

  free(address: Address): void {
    this.#taken.delete(address.value);
  }
}

/** A network's addresses: IPv4 always, IPv6 where it has it. */
export interface Pools {
  readonly ipv4: AddressPool;
  readonly ipv6: AddressPool | undefined;
}

/** EngineError "invalid" when there is no IPv4 range. */
export function poolsOf(configs: readonly IpamConfig[], label: string): Pools {
  const of = (family: Family) => configs.find((config) => subnetOf(config).family === family);
  const six = of(6);
  return { ipv4: new AddressPool(of(4) ?? {}, label), ipv6: six === undefined ? undefined : new AddressPool(six, label) };
}
