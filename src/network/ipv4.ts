/**
 * IPv4 arithmetic. An address is an unsigned 32-bit number.
 * @module
 */

export interface Subnet {
  /** First address: host bits are zero. */
  readonly network: number;
  /** 0–32. */
  readonly prefix: number;
}

/** undefined for anything but four decimal bytes. */
export function parseAddress(text: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (parts === undefined || parts.some((part) => part > 255)) return undefined;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

export function formatAddress(address: number): string {
  return addressBytes(address).join(".");
}

/** Network byte order. */
export function addressBytes(address: number): Uint8Array {
  return Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address);
}

const maskOf = (prefix: number): number => (prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0);

/** `10.1.2.3/16` → its subnet and the address itself. */
export function parseCidr(text: string): (Subnet & { readonly address: number }) | undefined {
  const [, ip, bits] = /^([^/]+)\/(\d{1,2})$/.exec(text) ?? [];
  const address = ip === undefined ? undefined : parseAddress(ip);
  const prefix = Number(bits);
  if (address === undefined || prefix > 32) return undefined;
  return { address, prefix, network: (address & maskOf(prefix)) >>> 0 };
}

export const formatSubnet = ({ network, prefix }: Subnet): string => `${formatAddress(network)}/${prefix}`;
export const sizeOf = ({ prefix }: Subnet): number => 2 ** (32 - prefix);
export const lastOf = (subnet: Subnet): number => subnet.network + sizeOf(subnet) - 1;
export const contains = (subnet: Subnet, address: number): boolean => address >= subnet.network && address <= lastOf(subnet);
export const overlap = (a: Subnet, b: Subnet): boolean => a.network <= lastOf(b) && b.network <= lastOf(a);

/** Prefix length of a netmask; undefined when its ones are not contiguous. */
export function prefixOf(mask: number): number | undefined {
  const prefix = Math.clz32(~mask >>> 0);
  return maskOf(prefix) === mask >>> 0 ? prefix : undefined;
}
