import dns from "dns-packet";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { answers, encodeAnswer, encodeQuestion, parseQuery, type Query, RCODE, rcodeOf, TYPE } from "./dns-message.ts";
import { NameServer } from "./name-server.ts";
import { addressOfReverse, type NamedEndpoint, NameTable } from "./name-table.ts";

const endpoint = (containerId: string, networkName: string, names: string[], ipv4: string, more: Partial<NamedEndpoint> = {}): NamedEndpoint => ({
  containerId,
  networkId: `id-${networkName}`,
  networkName,
  names,
  links: {},
  ipv4,
  ipv6: "",
  ...more,
});

const table = new NameTable([
  endpoint("c1", "back", ["web", "www", "c1short"], "10.1.0.2", { ipv6: "fd00::2", links: { database: "db" } }),
  endpoint("c2", "back", ["db", "www"], "10.1.0.3"),
  endpoint("c2", "other.net", ["db"], "10.2.0.3"),
  endpoint("c3", "other.net", ["secret"], "10.2.0.4"),
]);

describe("names", () => {
  const addresses = (containerId: string, name: string) => table.find(containerId, name)?.endpoints.map(({ ipv4 }) => ipv4);
  test("of one's own networks, in any case, with the network's name behind or without", () => {
    expect(addresses("c1", "DB")).toEqual(["10.1.0.3"]);
    expect(addresses("c1", "www")).toEqual(["10.1.0.2", "10.1.0.3"]);
    expect(addresses("c1", "c1short")).toEqual(["10.1.0.2"]);
    expect(addresses("c1", "db.back")).toEqual(["10.1.0.3"]);
    expect(addresses("c3", "db.other.net")).toEqual(["10.2.0.3"]);
    expect(addresses("c1", "secret")).toBeUndefined();
    expect(addresses("nobody", "web")).toBeUndefined();
  });
  test("links are names for one container only", () => {
    expect(addresses("c1", "database")).toEqual(["10.1.0.3"]);
    expect(addresses("c2", "database")).toBeUndefined();
  });
  test("of addresses", () => {
    expect(addressOfReverse("3.0.1.10.in-addr.arpa")).toBe("10.1.0.3");
    expect(addressOfReverse(`2.${"0.".repeat(27)}0.0.d.f.ip6.arpa`)).toBe("fd00::2");
    expect(addressOfReverse("3.0.1.in-addr.arpa")).toBeUndefined();
    expect(table.nameOf("c1", "10.1.0.3")).toBe("db.back");
    expect(table.nameOf("c1", "fd00::2")).toBe("web.back");
    expect(table.nameOf("c1", "10.2.0.4")).toBeUndefined();
  });
});

describe("messages", () => {
  const query = (name = "web", type = "A", fields: object = {}) =>
    dns.encode({ type: "query", id: 4242, flags: 0x0100, questions: [{ name, type }], ...fields });
  const parsed = (message: Buffer) => parseQuery(message) as Query;

  test("what is needed of a query", () => {
    expect(parsed(query("Web.Back"))).toMatchObject({ id: 4242, name: "Web.Back", type: TYPE.A, internet: true, udpBytes: undefined });
    const edns = query("web", "AAAA", { additionals: [{ type: "OPT", name: ".", udpPayloadSize: 4096, flags: 0, options: [] }] });
    expect(parsed(edns)).toMatchObject({ type: TYPE.AAAA, udpBytes: 4096 });
  });

  test("what cannot be answered is told so, or not answered at all", () => {
    expect(parseQuery(Buffer.alloc(11))).toBeUndefined();
    expect(parseQuery(dns.encode({ type: "response", id: 1, flags: 0, questions: [] }))).toBeUndefined();
    const status = query();
    status.writeUInt16BE(0x1000, 2);
    expect(parseQuery(status)).toBe(RCODE.NOTIMP);
    const two = query();
    two.writeUInt16BE(2, 4);
    expect(parseQuery(two)).toBe(RCODE.FORMERR);
    expect(parseQuery(query().subarray(0, 14))).toBe(RCODE.FORMERR);
    const looped = query();
    looped.writeUInt16BE(0xc00c, 12); // a name that points at itself
    expect(parseQuery(looped)).toBe(RCODE.FORMERR);
  });

  test("answers fit what the client takes, and say when something is left out", () => {
    const records = Array.from({ length: 100 }, (_, i) => ({ type: "A" as const, data: `10.0.0.${i}` }));
    const small = encodeAnswer(parsed(query()), "udp", RCODE.NOERROR, records);
    expect(small.length).toBeLessThanOrEqual(512);
    expect(small.readUInt16BE(2) & 0x0200).toBe(0x0200);
    const whole = dns.decode(encodeAnswer(parsed(query()), "tcp", RCODE.NOERROR, records));
    expect(whole).toMatchObject({ id: 4242, rcode: "NOERROR", flag_tc: false, flag_ra: true, flag_rd: true });
    expect(whole.answers).toHaveLength(100);
    const refused = encodeAnswer({ ...parsed(query()), type: 65_280 }, "udp", RCODE.REFUSED);
    expect([rcodeOf(refused), refused.readUInt16BE(refused.length - 4)]).toEqual([RCODE.REFUSED, 65_280]);
  });

  test("an answer from outside must be to this question", () => {
    const asked = encodeQuestion("a.example", "A");
    const { end } = parsed(asked);
    const good = dns.encode({ type: "response", id: 0, flags: 0, questions: [{ name: "A.example", type: "A" }], answers: [] });
    expect(answers(good, asked, end)).toBe(true);
    expect(answers(dns.encode({ type: "response", id: 1, flags: 0, questions: [{ name: "a.example", type: "A" }] }), asked, end)).toBe(false);
    expect(answers(dns.encode({ type: "response", id: 0, flags: 0, questions: [{ name: "b.example", type: "A" }] }), asked, end)).toBe(false);
    expect(answers(asked, asked, end)).toBe(false);
  });
});

describe("the server", () => {
  const asking: string[] = [];
  const server = new NameServer({
    table: () => table,
    resolvers: async () => {
      asking.push("host");
      return [];
    },
    mayAsk: (id) => id !== "c3",
  });
  const ask = async (containerId: string, name: string, type = "A") => {
    const message = dns.encode({ type: "query", id: 7, flags: 0x0100, questions: [{ name, type }] });
    const answer = await server.answer({ containerId, servers: null }, message, "udp");
    const { rcode, answers: records = [] } = dns.decode(answer ?? Buffer.alloc(0));
    return [rcode, records.map(({ data }) => data).sort()];
  };

  test("addresses of both kinds, names of addresses; a name without such an address is no error", async () => {
    expect(await ask("c1", "web")).toEqual(["NOERROR", ["10.1.0.2"]]);
    expect(await ask("c1", "web", "AAAA")).toEqual(["NOERROR", ["fd00::2"]]);
    expect(await ask("c1", "db", "AAAA")).toEqual(["NOERROR", []]);
    expect(await ask("c1", "www")).toEqual(["NOERROR", ["10.1.0.2", "10.1.0.3"]]);
    expect(await ask("c1", "3.0.1.10.in-addr.arpa", "PTR")).toEqual(["NOERROR", ["db.back"]]);
  });

  test("everybody gets a turn at the first place", async () => {
    const first = new Set<unknown>();
    for (let i = 0; i < 100; i++) {
      const answer = await server.answer({ containerId: "c1", servers: null }, encodeQuestion("www", "A"), "udp");
      first.add(dns.decode(answer ?? Buffer.alloc(0)).answers?.[0]?.data);
    }
    expect(first.size).toBe(2);
  });

  test("the rest is asked of the resolvers, but not for a container without a way out", async () => {
    asking.length = 0;
    expect(await ask("c1", "example.com")).toEqual(["SERVFAIL", []]);
    expect(asking).toEqual(["host"]);
    expect(await ask("c3", "example.com")).toEqual(["SERVFAIL", []]);
    expect(asking).toEqual(["host"]);
  });

  test("whatever comes, it neither throws nor asks with nonsense", async () => {
    const valid = encodeQuestion("web.back", "A");
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 600 }),
      // a good query with some bytes changed
      fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 6 }).map((changes) => {
        const message = Buffer.from(valid);
        for (const [at, byte] of changes) message[at] = byte;
        return message;
      }),
    );
    await fc.assert(
      fc.asyncProperty(bytes, async (message) => {
        const answer = await server.answer({ containerId: "c1", servers: null }, Buffer.from(message), "udp");
        if (answer === undefined) return;
        expect(answer.length).toBeGreaterThanOrEqual(12);
        expect(answer.length).toBeLessThanOrEqual(1232);
        expect(answer.readUInt16BE(0)).toBe(Buffer.from(message).readUInt16BE(0));
        dns.decode(answer);
      }),
      { numRuns: 2000 },
    );
  });
});
