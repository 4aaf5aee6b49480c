/** Where a registry answers: its mirrors, itself, and, where that is allowed, itself without TLS. @module */
import { lookup } from "node:dns/promises";
import { BlockList, isIP } from "node:net";
import { EngineError } from "#core/errors.ts";
import type { RegistryConfig } from "./config.ts";

export interface Endpoint {
  /** `https://host[:port]`, for a mirror perhaps with a path; no slash at the end. */
  readonly base: string;
  /** `host[:port]`, as in names and below certs.d. */
  readonly host: string;
  /** Asked first, for reading only, without the registry's credentials. */
  readonly mirror: boolean;
  /** Certificates are not verified. */
  readonly insecure: boolean;
}

const dockerHub = "registry-1.docker.io";

/** The endpoints of a registry (`docker.io`, `localhost:5000`), in the order in which they are tried. EngineError invalid for a mirror that is no URL. */
export async function endpointsOf(domain: string, config: RegistryConfig): Promise<Endpoint[]> {
  const mirrors: Endpoint[] = [];
  for (const text of config.mirrors[domain] ?? []) {
    const url = mirrorUrl(text);
    const base = `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
    mirrors.push({ base, host: url.host, mirror: true, insecure: await isInsecure(url.host, config) });
  }
  const host = domain === "docker.io" ? dockerHub : domain;
  const insecure = await isInsecure(host, config);
  const own = (scheme: string): Endpoint => ({ base: `${scheme}://${host}`, host, mirror: false, insecure });
  return [...mirrors, own("https"), ...(insecure ? [own("http")] : [])];
}

/** Docker's rules for a mirror: an URL without user, query and fragment. */
export function mirrorUrl(text: string): URL {
  const bad = (why: string) => new EngineError("invalid", `invalid mirror: ${why} in "${text.slice(0, 200)}"`);
  let url: URL;
  try {
    url = new URL(text);
  } catch (error) {
    throw new EngineError("invalid", `invalid mirror: "${text.slice(0, 200)}" is not a valid URI`, { cause: error });
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") throw bad(`unsupported scheme "${url.protocol.slice(0, -1)}"`);
  if (url.username !== "" || url.password !== "") throw bad("username/password not allowed");
  if (url.search !== "" || url.hash !== "") throw bad("query or fragment");
  return url;
}

/** By name, or because an address of it lies in an insecure range; loopback always does. */
export async function isInsecure(host: string, { insecure }: Pick<RegistryConfig, "insecure">): Promise<boolean> {
  const name = host.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  if (insecure.includes(host) || insecure.includes(name)) return true;
  const ranges = new BlockList();
  ranges.addSubnet("127.0.0.0", 8, "ipv4");
  ranges.addAddress("::1", "ipv6");
  for (const entry of insecure) {
    const [address = "", bits = ""] = entry.split("/");
    const family = isIP(address);
    if (family !== 0 && /^\d{1,3}$/.test(bits)) ranges.addSubnet(address, Number(bits), family === 4 ? "ipv4" : "ipv6");
  }
  const addresses = isIP(name) === 0 ? await addressesOf(name) : [name];
  return addresses.some((address) => ranges.check(address, isIP(address) === 4 ? "ipv4" : "ipv6"));
}

async function addressesOf(name: string): Promise<string[]> {
  try {
    return (await lookup(name, { all: true })).map(({ address }) => address);
  } catch {
    // What cannot be resolved is not reached either: the connection will say why. (Behind a proxy, the proxy resolves.)
    return [];
  }
}
