/**
 * Ranges that the host itself has routes for.
 * @module
 */
import { readFile } from "node:fs/promises";
import { errnoOf } from "#core/errors.ts";
import { prefixOf, type Subnet } from "./ip-address.ts";

export type HostRoute = Subnet & { readonly interface: string };

/** Destinations of the IPv4 main table with their interface; the default route is left out. */
export function parseRoutes(text: string): HostRoute[] {
  return text
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const fields = line.split("\t");
      const [name, destination, , , , , , mask] = fields;
      if (name === undefined || destination === undefined || mask === undefined) return [];
      const prefix = prefixOf(hostOrder(mask));
      return prefix === undefined || prefix === 0 ? [] : [{ interface: name.trim(), family: 4, network: BigInt(hostOrder(destination)), prefix }];
    });
}

/** /proc/net/route prints network byte order as a little-endian number. */
function hostOrder(hex: string): number {
  const value = Number.parseInt(hex, 16);
  return (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

/** The same of /proc/net/ipv6_route; link-local and multicast ranges are every interface's. */
export function parseIPv6Routes(text: string): HostRoute[] {
  return text.split("\n").flatMap((line) => {
    const [destination, bits, , , , , , , , name] = line.trim().split(/\s+/);
    if (destination === undefined || bits === undefined || name === undefined || name === "lo" || /^(fe[89ab]|ff)/.test(destination)) return [];
    const prefix = Number.parseInt(bits, 16);
    return prefix === 0 ? [] : [{ interface: name, family: 6, network: BigInt(`0x${destination}`), prefix }];
  });
}

/** What the host routes, without routes through `ours`. */
export async function hostRanges(ours: ReadonlySet<string>): Promise<Subnet[]> {
  const routes = [...parseRoutes(await readFile("/proc/net/route", "utf8")), ...parseIPv6Routes(await readIfThere("/proc/net/ipv6_route"))];
  return routes.filter((route) => !ours.has(route.interface));
}

/** "" where the kernel has no IPv6. */
async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return "";
    throw error;
  }
}
