/**
 * Ranges that the host itself uses: what it has routes for in any of its tables (a VPN's are often in one of its own), and the networks of its interfaces, whether
 * they are up or not.
 * @module
 */
import type { Helper } from "#linux/helper.ts";
import { encodeMessages, NETLINK_ROUTE } from "#linux/netlink/message.ts";
import { dumpAddresses, dumpedAddresses, dumpedRoutes, dumpRoutes } from "#linux/netlink/rtnetlink.ts";
import type { Step } from "#linux/plan.ts";
import { addressOf, type Subnet, subnetAt } from "./ip-address.ts";

export type HostRange = Subnet & { readonly index: number | undefined };

const ROUTES = 0;
const ADDRESSES = 1;
/** What every interface has: link-local and multicast. */
const isEverywhere = ({ family, network }: Subnet): boolean => family === 6 && (network >> 118n === 0xfe80n >> 6n || network >> 120n === 0xffn);
const isLoopback = ({ family, network, prefix }: Subnet): boolean => (family === 4 ? network >> 24n === 127n : network === 1n && prefix === 128);

/** The ranges in the answers to dumps of routes and addresses. Default routes are left out. RangeError when a length does not fit. */
export function parseRanges(routes: Uint8Array, addresses: Uint8Array): HostRange[] {
  const all = [...dumpedRoutes(routes), ...dumpedAddresses(addresses)];
  return all.flatMap(({ destination, prefix, index }) => {
    if (prefix === 0) return [];
    const range = { ...subnetAt(addressOf(destination), prefix), index };
    return isEverywhere(range) || isLoopback(range) ? [] : [range];
  });
}

/** What the host uses, without what is there by interfaces of these numbers. */
export async function hostRanges(helper: Pick<Helper, "call">, ours: ReadonlySet<number>): Promise<Subnet[]> {
  const dump = (message: ReturnType<typeof dumpRoutes>, tag: number, why: string): Step => ({
    op: "netlink_dump",
    where: "host",
    protocol: NETLINK_ROUTE,
    message: encodeMessages([message]),
    tag,
    why,
  });
  const steps = [dump(dumpRoutes(), ROUTES, "ranges that the host has routes for"), dump(dumpAddresses(), ADDRESSES, "networks of its interfaces")];
  const reports = await helper.call({ steps });
  const [routes, addresses] = [ROUTES, ADDRESSES].map((tag) => reports.get(tag) ?? new Uint8Array(0));
  return parseRanges(routes ?? new Uint8Array(0), addresses ?? new Uint8Array(0)).filter(({ index }) => index === undefined || !ours.has(index));
}
