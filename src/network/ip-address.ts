/**
 * Addresses and ranges of both families. Text is always an address's shortest form.
 * @module
 * @see RFC 5952
 */
import { isIPv6 } from "node:net";

export type Family = 4 | 6;

export interface Address {
  readonly family: Family;
  readonly value: bigint;
}

export interface Subnet {
  readonly family: Family;
  /** First address: host bits are zero. */
  readonly network: bigint;
  /** 0–32, 0–128. */
  readonly prefix: number;
}

const bitsOf = (family: Family): number => (family === 4 ? 32 : 128);

/** undefined for anything but four decimal bytes, or an IPv6 address without a zone. */
export function parseAddress(text: string): Address | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (parts !== undefined)
    return parts.some((part) => part > 255) ? undefined : { family: 4, value: parts.reduce((sum, part) => sum * 256n + BigInt(part), 0n) };
  return isIPv6(text) && !text.includes("%") ? { family: 6, value: parseIPv6(text) } : undefined;
}

/** Of what is known to be one. */
function parseIPv6(text: string): bigint {
  const plain = text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_all, ...bytes: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(0, 4).map(Number);
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  });
  const [head = "", tail] = plain.split("::");
  const groups = (part: string) => part.split(":").filter((group) => group !== "");
  const [left, right] = [groups(head), groups(tail ?? "")];
  const all = tail === undefined ? left : [...left, ...new Array<string>(8 - left.length - right.length).fill("0"), ...right];
  return all.reduce((sum, group) => sum * 65536n + BigInt(Number.parseInt(group, 16)), 0n);
}

export function formatAddress(address: Address): string {
  const bytes = addressBytes(address);
  if (address.family === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16));
  // a URL writes it in the shortest form
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}

/** Network byte order. */
export function addressBytes({ family, value }: Address): Uint8Array {
  const bytes = new Uint8Array(bitsOf(family) / 8);
  for (let i = bytes.length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}

/** The inverse, of four or sixteen bytes. */
export const addressOf = (bytes: Uint8Array): Address => ({
  family: bytes.length === 16 ? 6 : 4,
  value: bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n),
});

/** The subnet that an address lies in. */
export const subnetAt = (address: Address, prefix: number): Subnet => ({ family: address.family, network: networkOf(address, prefix), prefix });

/** `10.1.2.3/16` → its subnet and the address itself. */
export function parseCidr(text: string): (Subnet & { readonly address: Address }) | undefined {
  const [, ip, bits] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const address = ip === undefined ? undefined : parseAddress(ip);
  const prefix = Number(bits);
  if (address === undefined || prefix > bitsOf(address.family)) return undefined;
  return { family: address.family, address, prefix, network: networkOf(address, prefix) };
}

function networkOf({ family, value }: Address, prefix: number): bigint {
  const host = BigInt(bitsOf(family) - prefix);
  return (value >> host) << host;
}

export const formatSubnet = (subnet: Subnet): string => `${formatAddress(firstOf(subnet))}/${subnet.prefix}`;
export const sizeOf = ({ family, prefix }: Subnet): bigint => 1n << BigInt(bitsOf(family) - prefix);
export const firstOf = ({ family, network }: Subnet): Address => ({ family, value: network });
export const lastOf = (subnet: Subnet): Address => ({ family: subnet.family, value: subnet.network + sizeOf(subnet) - 1n });
/** The address so many after the first. */
export const addressAt = ({ family, network }: Subnet, offset: bigint): Address => ({ family, value: network + offset });
export const contains = (subnet: Subnet, { family, value }: Address): boolean =>
  family === subnet.family && value >= subnet.network && value <= lastOf(subnet).value;
export const overlap = (a: Subnet, b: Subnet): boolean => a.family === b.family && a.network <= lastOf(b).value && b.network <= lastOf(a).value;
export const sameSubnet = (a: Subnet, b: Subnet): boolean => a.family === b.family && a.network === b.network && a.prefix === b.prefix;
