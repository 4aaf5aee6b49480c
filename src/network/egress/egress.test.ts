import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytes, concat, uint16be } from "#linux/netlink/attributes.ts";
import { encodeMessages } from "#linux/netlink/message.ts";
import { type Address, parseAddress } from "../ip-address.ts";
import type { Refused } from "../mod.ts";
import { type Box, boxesOf, egressList, mayAsk, neighboursOf, openingsFor, parseEgress } from "./egress-rules.ts";
import { EgressState } from "./egress-state.ts";
import type { Learned } from "./egress-table.ts";
import { logGroup, refusedPackets } from "./refusals.ts";

const ip = (text: string): Address => parseAddress(text)!;
const holds = (boxes: readonly Box[], to: string, protocol: number, port: number) =>
  boxes.filter(
    ({ first, last, protocols, ports }) =>
      first <= ip(to).value && last >= ip(to).value && protocols.first <= protocol && protocols.last >= protocol && ports.first <= port && ports.last >= port,
  ).length;

describe("rules as text", () => {
  test.each([
    ["deny", []],
    ["allow=registry.example:443,10.0.0.0/8", ["registry.example:443", "10.0.0.0/8"]],
    ["10.0.0.1, *:53/udp", ["10.0.0.1", "*:53/udp"]],
  ])("%s", (text, list) => {
    expect(egressList(text)).toEqual(list);
  });

  test.each(["", "deny,a.example", "allow="])("%j is refused", (text) => {
    expect(() => egressList(text)).toThrow(/^invalid egress rule/);
  });

  test.each([
    "a b",
    "10.0.0.0/33",
    "1.2.3",
    "x:0",
    "x:70000",
    "x:9-8",
    "x:1-100",
    "x/tcp",
    "10.0.0.1:80/gre",
    "-x",
    "a..b",
    "[fd00::1",
    "é.example",
    `${"a".repeat(64)}.example`,
  ])("%j is refused", (text) => {
    expect(() => parseEgress([text])).toThrow(/^invalid egress rule/);
  });

  test("no more than can be looked at", () => {
    expect(() => parseEgress(new Array<string>(65).fill("10.0.0.1"))).toThrow("65 egress rules: at most 64 are supported");
  });
});

describe("addresses", () => {
  test("ranges, ports and protocols", () => {
    const rules = parseEgress(["10.0.0.0/8", "10.1.0.0/16:443", "192.0.2.1:80-90/tcp", "*:53", "[fd00::1]:443", "fd01::/16"]);
    const [four, six] = [boxesOf(rules, 4, []), boxesOf(rules, 6, [])];
    const seen = (boxes: readonly Box[], to: string, ...flows: [protocol: number, port: number][]) =>
      flows.map(([protocol, port]) => holds(boxes, to, protocol, port));
    expect(seen(four, "10.1.2.3", [6, 443], [17, 1], [1, 0])).toEqual([1, 1, 1]);
    expect(seen(four, "192.0.2.1", [6, 80], [6, 90], [6, 91], [17, 80], [17, 53], [1, 0])).toEqual([1, 1, 0, 0, 1, 0]);
    expect(seen(four, "8.8.8.8", [6, 53], [17, 53], [17, 54], [132, 53])).toEqual([1, 1, 0, 0]);
    expect(seen(six, "fd00::1", [6, 443], [6, 444], [17, 443])).toEqual([1, 0, 1]);
    expect(seen(six, "fd01::7", [58, 0], [6, 1])).toEqual([1, 1]);
    expect(boxesOf(parseEgress([]), 4, [])).toEqual([]);
  });

  test("a container's own network, without the host", () => {
    const near = neighboursOf(ip("10.9.0.0").value, ip("10.9.0.255").value, ip("10.9.0.1"));
    const boxes = boxesOf(parseEgress([]), 4, near);
    expect(["10.9.0.0", "10.9.0.1", "10.9.0.2", "10.9.0.255", "10.9.1.0"].map((to) => holds(boxes, to, 6, 80))).toEqual([1, 0, 1, 1, 0]);
  });

  test("boxes never overlap, and hold what the rules say", () => {
    const rule = fc.tuple(
      fc.integer({ min: 0, max: 3 }),
      fc.integer({ min: 22, max: 32 }),
      fc.option(fc.integer({ min: 1, max: 6 })),
      fc.constantFrom("", "/tcp", "/udp"),
    );
    const flow = fc.tuple(fc.integer({ min: 0, max: 1023 }), fc.constantFrom(1, 6, 17), fc.integer({ min: 1, max: 7 }));
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 6 }), fc.array(flow, { minLength: 5, maxLength: 20 }), (list, flows) => {
        const texts = list.map(([third, bits, port, protocol]) => `10.0.${third}.0/${bits}${port === null ? "" : `:${port}-${port + 1}`}${protocol}`);
        const boxes = boxesOf(parseEgress(texts), 4, []);
        for (const [offset, protocol, port] of flows) {
          const value = ip("10.0.0.0").value + BigInt(offset);
          const wanted = list.some(([third, bits, from, name]) => {
            const size = 1n << BigInt(32 - bits);
            const first = ((ip("10.0.0.0").value + BigInt(third * 256)) / size) * size;
            const named = name === "" ? from === null || protocol !== 1 : protocol === (name === "/tcp" ? 6 : 17);
            return value >= first && value < first + size && named && (from === null || port === from || port === from + 1);
          });
          const found = boxes.filter(
            (box) =>
              box.first <= value &&
              box.last >= value &&
              box.protocols.first <= protocol &&
              box.protocols.last >= protocol &&
              box.ports.first <= port &&
              box.ports.last >= port,
          );
          expect(found).toHaveLength(wanted ? 1 : 0);
        }
      }),
      { numRuns: 200 },
    );
  });
});

test("names: which are asked of others, and what their addresses are opened for", () => {
  const rules = parseEgress(["registry.example:443", "*.cdn.example", "Db.Example:5432/tcp"]);
  expect(
    ["registry.example", "REGISTRY.example", "a.b.cdn.example", "cdn.example", "evil.example", "xregistry.example"].map((name) => mayAsk(rules, name)),
  ).toEqual([true, true, true, false, false, false]);
  expect(openingsFor(rules, "registry.example")).toEqual([
    { protocol: 6, port: 443 },
    { protocol: 17, port: 443 },
  ]);
  expect(openingsFor(rules, "x.cdn.example")).toEqual([undefined]);
  expect(openingsFor(rules, "db.example")).toEqual([{ protocol: 6, port: 5432 }]);
  expect(mayAsk(parseEgress(["10.0.0.0/8"]), "anything.example")).toBe(true);
  expect(mayAsk(parseEgress([]), "anything.example")).toBe(false);
});

describe("what is told", () => {
  const nflog = (packet: string) => {
    const body = concat([Uint8Array.of(2, 0), uint16be(7), bytes(9, Buffer.from(packet.replace(/ /g, ""), "hex"))]);
    return encodeMessages([{ type: 4 << 8, flags: 0, body }]);
  };

  test("packets of both families; what is cut off or of no family is none", () => {
    const tcp = "4500003c 00004000 40060000 0a090002 c0000201 9c4001bb";
    expect(refusedPackets(nflog(tcp))).toEqual([{ source: ip("10.9.0.2"), destination: ip("192.0.2.1"), protocol: 6, port: 443 }]);
    const udp6 = `60000000 00081140 fd000000000000000000000000000002 fd010000000000000000000000000001 9c400035`;
    expect(refusedPackets(nflog(udp6))).toEqual([{ source: ip("fd00::2"), destination: ip("fd01::1"), protocol: 17, port: 53 }]);
    expect(refusedPackets(nflog(tcp.slice(0, 30)))).toEqual([]);
    expect(refusedPackets(nflog("20"))).toEqual([]);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 90 }), (packet) => {
        for (const { port = 0 } of refusedPackets(nflog(Buffer.from(packet).toString("hex")))) expect(port).toBeLessThan(65_536);
      }),
    );
  });

  test("each daemon listens to a group of its own", () => {
    expect(logGroup("wherry")).not.toBe(logGroup("wherry-1"));
    for (const table of ["wherry", "x"]) expect(logGroup(table)).toBeGreaterThanOrEqual(0x7000);
  });

  test("the same refusal once, and of one container not too many", () => {
    const told: Refused[] = [];
    const state = new EgressState({
      endpointsOf: () => [],
      open: async () => undefined,
      close: async () => undefined,
      onRefused: (_id, what) => told.push(what),
    });
    state.add("c", parseEgress([]));
    for (let i = 0; i < 100; i++) state.packet("c", { source: ip("10.9.0.2"), destination: ip("192.0.2.1"), protocol: 6, port: 443 });
    expect(told).toEqual([{ address: "192.0.2.1", protocol: "tcp", port: 443 }]);
    for (let i = 0; i < 100; i++) expect(state.mayAsk("c", `n${i}.example`)).toBe(false);
    expect(told).toHaveLength(20);
    expect(state.mayAsk("other", "n.example")).toBe(true);
  });
});

test("answers open their addresses, once for each time that they hold", async () => {
  const opened: (readonly Learned[])[] = [];
  const closed: Learned[] = [];
  const confined = { containerId: "c", cable: "veth1", addresses: [ip("10.9.0.2")], boxes: { 4: [], 6: [] } };
  const state = new EgressState({
    endpointsOf: () => [confined],
    open: async (learned) => void opened.push(learned),
    close: async (learned) => void closed.push(...learned),
    onRefused: () => undefined,
  });
  state.add("c", parseEgress(["a.example:443/tcp"]));
  const answer = (ttl: number) => [
    { type: "CNAME", ttl, data: "b.example" },
    { type: "A", ttl, data: "192.0.2.1" },
    { type: "AAAA", ttl, data: "fd01::1" },
  ];
  await state.answered("c", "a.example", answer(60));
  await state.answered("c", "A.Example", answer(30));
  await state.answered("c", "b.example", answer(60));
  expect(opened).toMatchObject([[{ source: ip("10.9.0.2"), destination: ip("192.0.2.1"), opening: { protocol: 6, port: 443 } }]]);
  expect(state.learned()).toHaveLength(1);
  await state.answered("c", "a.example", answer(600));
  expect(opened).toHaveLength(2);
  expect(state.take(confined)).toHaveLength(1);
  expect(state.learned()).toEqual([]);
  const late = state.answered("c", "a.example", answer(600));
  state.forget("c");
  await late;
  expect(closed).toHaveLength(1); // the address may be another's by now
});
