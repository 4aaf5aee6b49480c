/**
 * What a container may call: rules as the user wrote them, parsed, and as disjoint ranges of addresses, protocols and ports. Pure.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { type Address, type Family, lastOf, parseAddress, parseCidr } from "../ip-address.ts";

/** Label for clients that know no such option: `deny`, or `allow=LIST`. */
export const EGRESS_LABEL = "wherry.egress";

/** Inclusive. */
export interface Span {
  readonly first: number;
  readonly last: number;
}

/** Where something may be sent. */
interface Service {
  /** undefined: any, and where there are ports, any port. */
  readonly ports: Span | undefined;
  /** undefined: any; with ports, TCP and UDP. */
  readonly protocol: number | undefined;
}

interface AddressRule extends Service {
  /** undefined: everywhere. */
  readonly range: { readonly family: Family; readonly first: bigint; readonly last: bigint } | undefined;
}

interface NameRule extends Service {
  /** Lower case; `.example.org` stands for all names below that. */
  readonly name: string;
}

/** Everything that none of these allows is refused. */
export interface EgressRules {
  readonly addresses: readonly AddressRule[];
  readonly names: readonly NameRule[];
}

/** A part of all there is to be sent: addresses × protocols × ports, inclusive. */
export interface Box {
  readonly first: bigint;
  readonly last: bigint;
  readonly protocols: Span;
  readonly ports: Span;
}

/** What an answer opens: a port of the address, or (undefined) all of it. */
export type Opening = { readonly protocol: number; readonly port: number } | undefined;

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };
const MAX_RULES = 64;
/** Each port of a name is an element of its own, for each of its addresses. */
const MAX_NAME_PORTS = 16;
const ANY_PORT: Span = { first: 0, last: 0xffff };
const ANY_PROTOCOL: Span = { first: 0, last: 0xff };

const invalid = (text: string, why: string): EngineError =>
  new EngineError("invalid", `invalid egress rule "${text.slice(0, 100)}": ${why}`, {
    hint: "use deny, or allow=LIST of NAME:PORT, *.NAME:PORT, ADDRESS, RANGE/BITS, *:PORT, each with /tcp or /udp at the end if only that is meant",
  });

/** What the option or the label says: `deny`, `allow=a,b`, or the list alone. */
export function egressList(text: string): string[] {
  const list =
    text.trim() === "deny"
      ? []
      : text
          .trim()
          .replace(/^allow=/, "")
          .split(",");
  return list
    .map((rule) => rule.trim())
    .map((rule) => {
      if (rule === "" || rule === "deny") throw invalid(text, "an empty rule, or deny beside others");
      return rule;
    });
}

/** An empty list allows nothing. EngineError "invalid". */
export function parseEgress(list: readonly string[]): EgressRules {
  if (list.length > MAX_RULES) throw new EngineError("invalid", `${list.length} egress rules: at most ${MAX_RULES} are supported`);
  const addresses: AddressRule[] = [];
  const names: NameRule[] = [];
  for (const text of list) {
    const { host, ...service } = parseRule(text);
    if (host === "*") addresses.push({ range: undefined, ...service });
    else if (typeof host !== "string") addresses.push({ range: host, ...service });
    else names.push(nameRule(text, host, service));
  }
  return { addresses, names };
}

function parseRule(text: string): { readonly host: string | NonNullable<AddressRule["range"]> } & Service {
  const [, rest = "", protocolName] = /^(.*?)(?:\/([a-z]+))?$/.exec(text) ?? [];
  const protocol = protocolName === undefined ? undefined : PROTOCOLS[protocolName];
  if (protocolName !== undefined && protocol === undefined) throw invalid(text, `unknown protocol ${protocolName}`);
  const whole = rangeOf(rest); // an IPv6 address without brackets has no port
  if (whole !== undefined) return { host: whole, ports: undefined, protocol };
  const [, host = "", from, to = from] = /^(.+?)(?::(\d{1,5})(?:-(\d{1,5}))?)?$/.exec(rest) ?? [];
  const ports = from === undefined ? undefined : { first: Number(from), last: Number(to) };
  if (ports !== undefined && !(ports.first >= 1 && ports.last <= 0xffff && ports.first <= ports.last)) throw invalid(text, "ports are 1 to 65535");
  return { host: rangeOf(host.replace(/^\[(.*)\]/, "$1")) ?? host.toLowerCase(), ports, protocol };
}

function rangeOf(text: string): AddressRule["range"] {
  const address = parseAddress(text);
  if (address !== undefined) return { family: address.family, first: address.value, last: address.value };
  const subnet = parseCidr(text);
  return subnet && { family: subnet.family, first: subnet.network, last: lastOf(subnet).value };
}

function nameRule(text: string, host: string, service: Service): NameRule {
  const name = host.replace(/\.$/, "").replace(/^\*\./, ".");
  if (
    name.length > 253 ||
    !/^\.?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/.test(name) ||
    /^[\d.]+$/.test(name)
  )
    throw invalid(text, "neither an address nor a name");
  if (service.ports === undefined && service.protocol !== undefined) throw invalid(text, "a name's protocol needs a port");
  if (service.ports !== undefined && service.ports.last - service.ports.first >= MAX_NAME_PORTS)
    throw invalid(text, `at most ${MAX_NAME_PORTS} ports of a name`);
  return { name, ...service };
}

const matches = (rule: NameRule, name: string): boolean => (rule.name.startsWith(".") ? name.endsWith(rule.name) : name === rule.name);

/**
 * Whether the host's resolvers may be asked for a name: when a rule names it, or when one allows addresses, whose names nobody knows beforehand. Otherwise a question
 * would be a way out by itself.
 */
export function mayAsk({ addresses, names }: EgressRules, name: string): boolean {
  return addresses.length > 0 || names.some((rule) => matches(rule, name.toLowerCase()));
}

/** What addresses of a name may be used for. */
export function openingsFor({ names }: EgressRules, name: string): Opening[] {
  return names
    .filter((rule) => matches(rule, name.toLowerCase()))
    .flatMap(({ ports, protocol }): Opening[] => {
      if (ports === undefined) return [undefined];
      const protocols = protocol === undefined ? [PROTOCOLS["tcp"] as number, PROTOCOLS["udp"] as number] : [protocol]; // both are in the table
      return Array.from({ length: ports.last - ports.first + 1 }, (_, i) => ports.first + i).flatMap((port) =>
        protocols.map((each) => ({ protocol: each, port })),
      );
    });
}

/**
 * The address rules of one family as boxes that do not overlap, as the kernel wants them; with `neighbours`, ranges that a container reaches without leaving its
 * network.
 */
export function boxesOf({ addresses }: EgressRules, family: Family, neighbours: readonly { readonly first: bigint; readonly last: bigint }[]): Box[] {
  const end = (1n << (family === 4 ? 32n : 128n)) - 1n;
  const flat = addresses
    .filter(({ range }) => range === undefined || range.family === family)
    .flatMap(({ range = { first: 0n, last: end }, ports, protocol }): Box[] => {
      const one = (protocols: Span): Box => ({ first: range.first, last: range.last, protocols, ports: ports ?? ANY_PORT });
      if (protocol !== undefined) return [one({ first: protocol, last: protocol })];
      return ports === undefined ? [one(ANY_PROTOCOL)] : ["tcp", "udp"].map((name) => one({ first: PROTOCOLS[name] ?? 0, last: PROTOCOLS[name] ?? 0 }));
    });
  const all = [...flat, ...neighbours.filter(({ first, last }) => first <= last).map((range): Box => ({ ...range, protocols: ANY_PROTOCOL, ports: ANY_PORT }))];
  const edges = [...new Set(all.flatMap(({ first, last }) => [first, last + 1n]))].sort((a, b) => (a < b ? -1 : 1));
  return edges.slice(0, -1).flatMap((first, i) => {
    const last = (edges[i + 1] ?? first) - 1n;
    const here = all.filter((box) => box.first <= first && box.last >= last);
    return protocolsOf(here).map(({ protocols, ports }) => ({ first, last, protocols, ports }));
  });
}

/** The union of boxes of the same addresses. */
function protocolsOf(boxes: readonly Box[]): { readonly protocols: Span; readonly ports: Span }[] {
  const edges = [...new Set(boxes.flatMap(({ protocols: { first, last } }) => [first, last + 1]))].sort((a, b) => a - b);
  return edges.slice(0, -1).flatMap((first, i) => {
    const here = boxes.filter(({ protocols }) => protocols.first <= first && protocols.last >= first);
    return union(here.map(({ ports }) => ports)).map((ports) => ({ protocols: { first, last: (edges[i + 1] ?? first) - 1 }, ports }));
  });
}

function union(spans: readonly Span[]): Span[] {
  const result: Span[] = [];
  for (const span of [...spans].sort((a, b) => a.first - b.first)) {
    const before = result.at(-1);
    if (before !== undefined && span.first <= before.last + 1) result[result.length - 1] = { first: before.first, last: Math.max(before.last, span.last) };
    else result.push(span);
  }
  return result;
}

/** All addresses of a network but the gateway's, which is the host. */
export function neighboursOf(first: bigint, last: bigint, gateway: Address): { readonly first: bigint; readonly last: bigint }[] {
  return [
    { first, last: gateway.value - 1n },
    { first: gateway.value + 1n, last },
  ];
}
