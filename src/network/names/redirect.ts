/**
 * The rules in a container's namespace that lead port 53 of its name server to the port where its sockets really are, so that a name server of the container's own
 * may listen on 0.0.0.0:53. Packets are rewritten one by one, without connection tracking: thousands of questions a second would fill its table.
 * @module
 */
import { encodeMessages, NETLINK_NETFILTER, type NetlinkMessage } from "#linux/netlink/message.ts";
import * as nft from "#linux/netlink/nft-expressions.ts";
import { type NftChain, newChain, newRule, newTable, nftBatch } from "#linux/netlink/nftables.ts";
import type { Step } from "#linux/plan.ts";

/** Where containers find their name server, as Docker's users expect. */
export const NAME_SERVER = "127.0.0.11";
export const NAME_SERVER_ADDRESS = 0x7f00000b;
const PORT = 53;
/** Above the ports that the kernel gives away by itself. */
export const NAME_SERVER_PORT = 64_053;

const TABLE = "wherry-names";
const CHAIN: NftChain = { name: "output", hook: { type: "filter", hook: "output", priority: -300 } };

function redirect(): NetlinkMessage[] {
  const address = Uint8Array.from(NAME_SERVER.split("."), Number);
  const rules = (["tcp", "udp"] as const).flatMap((protocol) => [
    [nft.destinationIn(address, 32), nft.protocolIs(protocol), nft.destinationPortIs(PORT), nft.setPort(protocol, "destination", NAME_SERVER_PORT)],
    [nft.sourceIn(address, 32), nft.protocolIs(protocol), nft.sourcePortIs(NAME_SERVER_PORT), nft.setPort(protocol, "source", PORT)],
  ]);
  return nftBatch([newTable(TABLE), newChain(TABLE, CHAIN), ...rules.map((parts) => newRule(TABLE, CHAIN.name, parts.flat()))]);
}

/** `where`: "child" in the plan of a start, "host" in a call that has entered the namespace. */
export function redirectStep(where: "host" | "child"): Step {
  const why = `questions to ${NAME_SERVER}, port ${PORT}, lead to the engine's sockets`;
  return { op: "netlink", where, protocol: NETLINK_NETFILTER, messages: encodeMessages(redirect()), why, see: "nft(8)", section: "network" };
}

/** Opens them, in the plan of a start. */
export const namesStep: Step = {
  op: "names",
  where: "host",
  address: NAME_SERVER_ADDRESS,
  port: NAME_SERVER_PORT,
  why: `sockets of the container's name server, ${NAME_SERVER}, which the engine serves`,
  section: "network",
};
