/**
 * Health checks that need no program in the image: `HTTP` and `TCP` as the first word of a test. The engine connects from inside the container's network namespace, so
 * `localhost` is the container. Pure.
 * @module
 */
import { X509Certificate } from "node:crypto";
import { isIP, isIPv6 } from "node:net";
import { EngineError } from "#core/errors.ts";

export interface NetworkTest {
  /** 4 or 16 bytes, in the order in which they are tried. */
  readonly addresses: readonly Uint8Array[];
  readonly port: number;
  /** What is sent; empty: a connection is enough. */
  readonly request: Uint8Array;
  /** What is sent and answered goes by TLS. `ca` (PEM): whose certificates are believed, for this `name`; undefined: any certificate is. */
  readonly tls?: { readonly name: string; readonly ca: string | undefined };
  /** For people: "TCP localhost:5432". */
  readonly text: string;
}

const refuse = (message: string): never => {
  throw new EngineError("invalid", message);
};

/** `5432`, `:5432`, `localhost:5432`, `[::1]:5432`. @throws EngineError "invalid" */
export function parseTcpTest(text: string): NetworkTest {
  const [, six, name, port] = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^[\]:/]*)):)?([0-9]{1,5})$/.exec(text) ?? [];
  if (port === undefined) return refuse(`invalid health check TCP "${text}": use a port, or address:port`);
  return { addresses: addressesOf(six ?? name ?? "", text), port: portOf(port, text), request: new Uint8Array(), text: `TCP ${text}` };
}

/** `http://localhost:8080/health`, or short: `:8080/health`, `8080`; `https://…`, with the certificates of those who are believed or without. @throws EngineError "invalid" */
export function parseHttpTest(text: string, ca?: string): NetworkTest {
  const full = /^[0-9]+(\/|$)/.test(text) ? `http://localhost:${text}` : text.startsWith(":") ? `http://localhost${text}` : text;
  const url = URL.canParse(full) ? new URL(full) : undefined;
  if (url?.protocol !== "http:" && url?.protocol !== "https:")
    return refuse(`invalid health check HTTP "${text}": use http://localhost:PORT/PATH, :PORT/PATH or https://localhost:PORT/PATH`);
  const secure = url.protocol === "https:";
  if (ca !== undefined) requireCertificates(ca, secure);
  const name = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const head = `GET ${url.pathname}${url.search} HTTP/1.0\r\nHost: ${url.host}\r\nUser-Agent: wherry-health\r\nAccept: */*\r\nConnection: close\r\n\r\n`;
  return {
    addresses: addressesOf(name, text),
    port: portOf(url.port === "" ? (secure ? "443" : "80") : url.port, text),
    request: Buffer.from(head),
    text: `HTTP ${full}`,
    ...(secure ? { tls: { name, ca } } : {}),
  };
}

function requireCertificates(ca: string, secure: boolean): void {
  if (!secure) refuse("invalid health check HTTP: certificates are for https://");
  try {
    new X509Certificate(ca);
  } catch (error) {
    refuse(`invalid health check HTTP: its certificates are not PEM (${(error as Error).message})`);
  }
}

/** Success is 200–399, as for those who check from outside. */
export function httpOutcome(answer: Uint8Array): { readonly exitCode: number; readonly output: string } {
  const text = Buffer.from(answer).toString();
  const status = /^HTTP\/1\.[01] ([0-9]{3})/.exec(text)?.[1];
  if (status === undefined) return { exitCode: 1, output: "the answer is not HTTP" };
  const body = text.split("\r\n\r\n").slice(1).join("\r\n\r\n");
  return { exitCode: Number(status) >= 200 && Number(status) < 400 ? 0 : 1, output: `${text.split("\r\n")[0]}${body === "" ? "" : `\n${body}`}` };
}

function portOf(text: string, all: string): number {
  const port = Number(text);
  return port >= 1 && port <= 65535 ? port : refuse(`invalid health check port in "${all}"`);
}

function addressesOf(name: string, all: string): Uint8Array[] {
  if (name === "" || name === "localhost") return [addressBytes("127.0.0.1"), addressBytes("::1")];
  return isIP(name) === 0 ? refuse(`invalid health check address in "${all}": use localhost or an IP address`) : [addressBytes(name)];
}

function addressBytes(text: string): Uint8Array {
  if (!isIPv6(text)) return Buffer.from(text.split(".").map(Number));
  const [, dotted] = /:([0-9]+(?:\.[0-9]+){3})$/.exec(text) ?? [];
  const words = (dotted === undefined ? text : text.replace(dotted, "0:0"))
    .split("::")
    .map((half) => (half === "" ? [] : half.split(":").map((w) => Number.parseInt(w, 16))));
  const [front = [], back = []] = words;
  const all = words.length === 1 ? front : [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
  const bytes = Buffer.from(all.flatMap((word) => [word >> 8, word & 0xff]));
  if (dotted !== undefined) bytes.set(dotted.split(".").map(Number), 12);
  return bytes;
}
