import { describe, expect, test } from "vitest";
import { decodeAttributes, textOf } from "#linux/netlink/attributes.ts";
import { decodeMessages, encodeMessages, type NetlinkMessage, NLM_F } from "#linux/netlink/message.ts";
import { NFT_MSG, NFTA } from "#linux/netlink/nftables.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import type { Plan, Step } from "#linux/plan.ts";
import { parseAddress, parseCidr } from "../ip-address.ts";
import type { BridgeSettings } from "../network-records.ts";
import { BridgeHost, macOf, tableName } from "./bridge-host.ts";
import { type Cable, type EndpointWiring, endpointSteps } from "./endpoint-steps.ts";
import { additionTransaction, freshTransactions, type PublishedPort, publishTransactions, rulesTransaction, unpublishTransactions } from "./rules.ts";

const ip = (text: string) => parseAddress(text)!;
const blue: BridgeSettings = {
  networkName: "blue",
  interfaceName: "blue0",
  ipv4: { subnet: parseCidr("172.30.0.0/16")!, gateway: ip("172.30.0.1"), masquerade: true, source: undefined, mode: "nat", onHost: true },
  ipv6: undefined,
  macvlan: undefined,
  mtu: 1500,
  icc: true,
  internal: false,
  interfacePrefix: "eth",
  trusted: [],
  hostBinding: undefined,
};
const web: PublishedPort = { protocol: "tcp", hostAddress: undefined, hostPort: 8080, address: ip("172.30.0.2"), port: 80 };

/** `newrule forward` and so on. */
function show(messages: readonly NetlinkMessage[]): string[] {
  const names: Record<number, string> = Object.fromEntries(Object.entries(NFT_MSG).map(([name, number]) => [0x0a00 | number, name.toLowerCase()]));
  return messages.map(({ type, body }) => {
    const attributes = decodeAttributes(body.subarray(4));
    const name = names[type] ?? { 16: "begin", 17: "end" }[type] ?? String(type);
    const second = [NFT_MSG.NEWCHAIN].some((chain) => type === (0x0a00 | chain)) ? NFTA.CHAIN.NAME : 2;
    const which = attributes.get(second);
    return type < 0x0a00 || name.endsWith("table") || which === undefined ? name : `${name} ${textOf(which)}`;
  });
}

const count = (list: readonly string[], what: string) => list.filter((each) => each === what).length;

describe("rules", () => {
  test("one transaction: table, maps, chains, flush, rules", () => {
    const lines = show(rulesTransaction({ table: "t", bridges: [blue], closeForwarding: [] }));
    expect(lines.slice(0, 6)).toEqual(["begin", "newtable", "newset ports", "newset addressed_ports", "newset ports6", "newset addressed_ports6"]);
    expect(lines).toContain("newchain user");
    expect(lines).not.toContain("delrule user");
    expect(lines.at(-1)).toBe("end");
    expect(lines.indexOf("delrule forward")).toBeLessThan(lines.indexOf("newrule forward"));
    expect(lines).not.toContain("deltable");
    expect({
      published: count(lines, "newrule published"),
      guard: count(lines, "newrule guard"),
      postrouting: count(lines, "newrule postrouting"),
      forward: count(lines, "newrule forward"),
    }).toEqual({
      published: 4,
      guard: 1,
      postrouting: 3,
      forward: 5,
    });
  });

  test("an internal network has no masquerading, and two refusals; closed forwarding stands before the networks", () => {
    const internal = show(rulesTransaction({ table: "t", bridges: [{ ...blue, internal: true }], closeForwarding: [4] }));
    expect(count(internal, "newrule postrouting")).toBe(1);
    expect(count(internal, "newrule forward")).toBe(5);
    const chains = rulesTransaction({ table: "t", bridges: [], closeForwarding: [4] });
    expect(show(chains).slice(-3)).toEqual(["newrule forward", "newrule forward", "end"]); // the user's chain, and this
    const plain = show(rulesTransaction({ table: "t", bridges: [{ ...blue, ipv4: { ...blue.ipv4, masquerade: false } }], closeForwarding: [] }));
    expect(count(plain, "newrule postrouting")).toBe(2);
  });

  test("one more network adds what a whole table has of it at its end, and takes nothing away", () => {
    const green = { ...blue, networkName: "green", interfaceName: "green0" };
    const both = rulesTransaction({ table: "t", bridges: [blue, green], closeForwarding: [4] });
    const added = additionTransaction("t", green);
    expect(show(added).every((line) => /^(begin|newrule \w+|end)$/.test(line))).toBe(true);
    const rules = added.slice(1, -1);
    expect(both.slice(-1 - rules.length, -1)).toEqual(rules);
  });

  test("IPv6 adds its masquerading; who opens a network lets everybody in", () => {
    const six = {
      subnet: parseCidr("fd00::/64")!,
      gateway: ip("fd00::1"),
      masquerade: true,
      source: undefined,
      mode: "nat-unprotected" as const,
      onHost: true,
    };
    const lines = show(rulesTransaction({ table: "t", bridges: [{ ...blue, ipv6: six }], closeForwarding: [6] }));
    expect(count(lines, "newrule postrouting")).toBe(5);
    expect(count(lines, "newrule forward")).toBe(7);
  });

  test("a fresh table keeps the user's chain and loses all ports", () => {
    const lines = show(freshTransactions({ table: "t", bridges: [], closeForwarding: [] }, { ports: [], confined: [], learned: [] }, 0).flat());
    expect(lines).not.toContain("deltable");
    expect(lines).toEqual(expect.arrayContaining(["delsetelem ports", "delsetelem addressed_ports", "delsetelem ports6", "delsetelem addressed_ports6"]));
    expect(lines.slice(-3)).toEqual(["delset learned6", "delset learned_any6", "end"]); // nobody is confined
  });

  test("confined endpoints are so in the same transaction; what answers have opened stays", () => {
    const confined = { containerId: "c", cable: "veth1", addresses: [ip("172.30.0.2")], boxes: { 4: [], 6: [] } };
    const options = { table: "t", bridges: [blue], closeForwarding: [], egress: { group: 9 } };
    const [first = [], ...more] = freshTransactions(options, { ports: [], confined: new Array(101).fill(confined), learned: [] }, 0);
    const lines = show(first);
    expect(lines).toEqual(
      expect.arrayContaining(["delsetelem confined", "delsetelem allowed", "newsetelem confined", "newrule egress", "newchain veth1", "newrule veth1"]),
    );
    expect(lines).not.toContain("delsetelem learned");
    expect([count(lines, "newsetelem confined"), more.length]).toEqual([100, 1]);
    expect(encodeMessages(first).length).toBeLessThan(1 << 20);
  });

  test("hundreds of bridges still fit in one plan step (1 MiB)", () => {
    const bridges = Array.from({ length: 300 }, (_, i) => ({ ...blue, interfaceName: `br-${i}` }));
    expect(encodeMessages(rulesTransaction({ table: "wherry", bridges, closeForwarding: [4, 6] })).length).toBeLessThan(1 << 20);
  });
});

describe("published ports", () => {
  test("by address or for all of them, in two maps", () => {
    const [messages, ...more] = publishTransactions("t", [web, { ...web, protocol: "udp", hostAddress: ip("127.0.0.1") }]);
    expect(more).toEqual([]);
    expect(show(messages ?? [])).toEqual(["begin", "newsetelem ports", "newsetelem addressed_ports", "end"]);
    expect(show(unpublishTransactions("t", [web])[0] ?? [])).toEqual(["begin", "delsetelem ports", "end"]);
    const elements = decodeAttributes((messages ?? [])[1]!.body.subarray(4)).get(NFTA.ELEMENTS.LIST)!;
    // { tcp . 8080 : 172.30.0.2 . 80 }
    expect(Buffer.from(elements).toString("hex")).toContain(`0c000100${"06000000"}${"1f900000"}`);
    expect(Buffer.from(elements).toString("hex")).toContain(`0c000100${"ac1e0002"}${"00500000"}`);
    expect(publishTransactions("t", [])).toEqual([]);
  });

  test("ten thousand in a few transactions, each small enough", () => {
    const ports = Array.from({ length: 10_000 }, (_, i) => ({ ...web, hostPort: i + 1, port: i + 1 }));
    const transactions = publishTransactions("t", ports);
    expect(transactions.length).toBe(10);
    for (const messages of transactions) {
      const encoded = encodeMessages(messages);
      expect(encoded.length).toBeLessThan(100_000);
      expect(decodeMessages(encoded).filter(({ flags }) => (flags & NLM_F.ACK) !== 0)).toHaveLength(1);
    }
  });
});

describe("steps of an endpoint", () => {
  const cable: Cable = { kind: "cable", bridge: { name: "blue0", index: 7, mtu: 1500, icc: true }, host: { name: "veth1234567", index: 70 } };
  const wiring: EndpointWiring = {
    slot: 4,
    link: cable,
    container: {
      name: "eth0",
      index: 100,
      mac: macOf(ip("172.30.0.2")),
      ipv4: { ...blue.ipv4, address: ip("172.30.0.2") },
      ipv6: undefined,
      linkLocal: [],
      sysctls: [],
    },
    table: "t",
    ports: [],
    shaping: undefined,
    confined: undefined,
    names: false,
  };
  const line = (step: Step) =>
    `${step.where} ${step.op}${
      step.op === "netlink"
        ? ` ${decodeMessages(step.messages)
            .map(({ type }) => type)
            .join(",")}`
        : ""
    }: ${step.why}`;

  test("host first, then the child", () => {
    expect(endpointSteps(wiring).map(line)).toEqual([
      "host child_ns: the container's network namespace",
      "host netlink 16: a virtual cable: veth1234567, a port of the bridge blue0, and eth0 inside the container",
      "host close: the namespace's descriptor is not needed any more",
      "child write: the network has no IPv6",
      "child netlink 20,16,24: address 172.30.0.2/16, default route through the bridge at 172.30.0.1",
    ]);
  });

  test("ports add a hairpin and a transaction, isolation a setting, no gateway no route", () => {
    const steps = endpointSteps({
      ...wiring,
      link: { ...cable, bridge: { ...cable.bridge, icc: false } },
      container: { ...wiring.container, ipv4: { ...wiring.container.ipv4, gateway: undefined } },
      ports: [web],
    });
    expect(steps.map(line)).toEqual([
      "host child_ns: the container's network namespace",
      "host netlink 16,19: a virtual cable: veth1234567, a port of the bridge blue0, and eth0 inside the container",
      "host close: the namespace's descriptor is not needed any more",
      "host netlink 16,2572,17: published ports lead to 172.30.0.2",
      "child write: the network has no IPv6",
      "child netlink 20,16: address 172.30.0.2/16",
    ]);
  });
});

test("names that keep daemons apart", () => {
  expect(["wherry0", "wherry-0a1b2c3d", "test0"].map(tableName)).toEqual(["wherry", "wherry-0a1b2c3d", "wherry-test0"]);
});

test("a kernel without nf_tables, or with iptables alone: the reason is said", async () => {
  const call = async (plan: Plan) => {
    throw new PlanError(plan, 0, 95, "EOPNOTSUPP");
  };
  const host = new BridgeHost({
    helper: { call } as unknown as Helper, // only plans are called here
    table: "t",
    forwarding: { turnedOn: [], remember: async () => undefined },
    watch: { start: async () => undefined },
    refusals: { start: async () => undefined },
    firewalld: { add: async () => undefined, remove: async () => undefined },
    log: () => undefined,
  });
  const reason = "bridge networks need nf_tables, which this kernel does not have (it answered EOPNOTSUPP)";
  await expect(host.publish([web], undefined)).rejects.toMatchObject({ code: "unsupported", message: reason });
  await expect(host.requireEgress()).rejects.toMatchObject({ code: "unsupported", message: expect.stringContaining("egress rules are not supported") });
});
