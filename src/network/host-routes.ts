/**
 * Ranges that the host itself has routes for.
 * @module
 */
import { readFile } from "node:fs/promises";
import { prefixOf, type Subnet } from "./ipv4.ts";

/** Destinations of the main table with their interface; the default route is left out. */
export function parseRoutes(text: string): (Subnet & { readonly interface: string })[] {
  return text
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const fields = line.split("\t");
      const [name, destination, , , , , , mask] = fields;
      if (name === undefined || destination === undefined || mask === undefined) return [];
      const prefix = prefixOf(hostOrder(mask));
      return prefix === undefined || prefix === 0 ? [] : [{ interface: name.trim(), network: hostOrder(destination), prefix }];
    });
}

/** /proc/net/route prints network byte order as a little-endian number. */
function hostOrder(hex: string): number {
  const value = Number.parseInt(hex, 16);
  return (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

/** What the host routes, without routes through `ours`. */
export async function hostRanges(ours: ReadonlySet<string>): Promise<Subnet[]> {
  return parseRoutes(await readFile("/proc/net/route", "utf8")).filter((route) => !ours.has(route.interface));
}
