/**
 * Network namespace: interfaces, addresses, routes, firewall rules, ports, abstract unix sockets. A new one holds only a loopback
 * interface, and that is down.
 * @see network_namespaces(7)
 * @module
 */
import { CLONE } from "#linux/flags.ts";
import { encodeMessages, NETLINK_ROUTE } from "#linux/netlink/message.ts";
import { linkUp } from "#linux/netlink/rtnetlink.ts";
import { type NamespaceKind, plainContribution } from "./kind.ts";

/** The loopback interface is the first that a namespace has, always number 1. */
const LOOPBACK_INDEX = 1;

export const netNamespace: NamespaceKind = {
  type: "network",
  flag: CLONE.NEWNET,
  flagName: "NEWNET",
  file: "net",
  man: "network_namespaces(7)",
  isolates: "there are no interfaces but a loopback of its own, no routes, no ports in use",
  contribute(request) {
    const plain = plainContribution(netNamespace, request, "so that both containers have one set of interfaces and ports");
    if (request.membership.how !== "new") return plain;
    return {
      ...plain,
      child: [
        {
          op: "netlink",
          protocol: NETLINK_ROUTE,
          messages: encodeMessages([linkUp(LOOPBACK_INDEX)]),
          where: "child",
          why: "brings the loopback interface up, so that 127.0.0.1 works",
          see: "rtnetlink(7)",
          section: "Network",
        },
      ],
    };
  },
};
