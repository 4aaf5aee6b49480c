/** Which proxy a request goes through, by Go's rules, which docker's users know. @module @see https://pkg.go.dev/golang.org/x/net/http/httpproxy */
import { BlockList, isIP } from "node:net";
import { EngineError } from "#core/errors.ts";
import type { ProxyConfig } from "./config.ts";

/** Undefined: none. EngineError invalid for a proxy that is no URL. */
export function proxyFor(url: URL, proxy: ProxyConfig): string | undefined {
  const address = url.protocol === "https:" ? proxy.https : proxy.http;
  if (address === undefined || !usesProxy(url, proxy.none ?? "")) return undefined;
  const text = /^[a-z0-9]+:\/\//i.test(address) ? address : `http://${address}`;
  try {
    const { protocol } = new URL(text);
    if (protocol === "http:" || protocol === "https:") return text;
  } catch {
    // told below, without the password that it may hold
  }
  throw new EngineError("invalid", `the proxy for ${url.protocol.slice(0, -1)} is not an http or https URL`);
}

/** False for loopback, and for what NO_PROXY names. */
export function usesProxy(url: URL, none: string): boolean {
  const host = url.hostname.toLowerCase().replace(/^\[|\]$/g, "");
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  if (host === "localhost" || (isIP(host) !== 0 && loopback.check(host, isIP(host) === 6 ? "ipv6" : "ipv4"))) return false;
  return !none
    .toLowerCase()
    .split(",")
    .map((entry) => entry.trim())
    .some((entry) => entry !== "" && matches(entry, host, port));
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

function matches(entry: string, host: string, port: string): boolean {
  if (entry === "*") return true;
  const range = /^(.+)\/(\d{1,3})$/.exec(entry);
  if (range !== null) return inRange(range[1]!, Number(range[2]), host);
  const withPort = isIP(entry) === 0 ? /^(.*):(\d+)$/.exec(entry) : null;
  if (withPort !== null && withPort[2] !== port) return false;
  const name = (withPort?.[1] ?? entry).replace(/^\[|\]$/g, "");
  if (isIP(name) !== 0) return name === host;
  // ".example.com" and "*.example.com" are what lies below; "example.com" is itself as well.
  const domain = name.replace(/^\*(?=\.)/, "");
  return domain.startsWith(".") ? host.endsWith(domain) : host === domain || host.endsWith(`.${domain}`);
}

function inRange(network: string, bits: number, host: string): boolean {
  const family = isIP(network);
  if (family === 0 || isIP(host) !== family || bits > (family === 4 ? 32 : 128)) return false;
  const list = new BlockList();
  list.addSubnet(network, bits, family === 4 ? "ipv4" : "ipv6");
  return list.check(host, family === 4 ? "ipv4" : "ipv6");
}
