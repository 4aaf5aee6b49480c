/**
 * syslog, to the local service or over UDP, TCP or TLS.
 * @see RFC 3164, RFC 5424, RFC 5425
 * @module
 */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { hostname } from "node:os";
import type { ConnectionOptions } from "node:tls";
import { EngineError } from "#core/errors.ts";
import { type Helper, PlanError } from "#linux/helper.ts";
import type { LogEntry } from "../../mod.ts";
import { Connection } from "./connection.ts";
import { sendDatagrams } from "./datagrams.ts";
import type { LogService, LogSource } from "./mod.ts";
import { textOf } from "./text.ts";

const facilities = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp".split(" ");
const localSockets = ["/dev/log", "/var/run/syslog", "/var/run/log"];

interface Address {
  readonly network: "local" | "udp" | "tcp" | "tcp+tls" | "unix" | "unixgram";
  readonly path: string;
  readonly host: string;
  readonly port: number;
}

/** What carries the messages of one service. */
interface Transport {
  check(): Promise<void>;
  send(messages: readonly Uint8Array[], signal: AbortSignal): Promise<void>;
  close(): void;
}

/** @throws EngineError "invalid" */
export function parseSyslogAddress(text: string | undefined): Address {
  if (text === undefined || text === "") return { network: "local", path: "", host: "", port: 0 };
  const [, network, rest = ""] = /^(udp|tcp|tcp\+tls|unix|unixgram):\/\/(.+)$/.exec(text) ?? [];
  if (network === undefined) throw new EngineError("invalid", `syslog-address should be in form proto://address, got ${text}`);
  if (network.startsWith("unix")) return { network: network as Address["network"], path: rest, host: "", port: 0 };
  const [, six, host = six ?? "", port] = /^(?:\[([^\]]+)\]|([^:]+))(?::([0-9]{1,5}))?$/.exec(rest) ?? [];
  if (host === "" || Number(port ?? 0) > 65535) throw new EngineError("invalid", `syslog-address should be in form proto://address, got ${text}`);
  return { network: network as Address["network"], path: "", host, port: Number(port ?? 514) };
}

/** @throws EngineError "invalid" */
export function parseFacility(text: string | undefined): number {
  if (text === undefined || text === "") return facilities.indexOf("daemon");
  const local = /^local([0-7])$/.exec(text)?.[1];
  const number = local === undefined ? (/^[0-9]+$/.test(text) ? Number(text) : facilities.indexOf(text)) : 16 + Number(local);
  if (number < 0 || number > 23) throw new EngineError("invalid", "invalid syslog facility");
  return number;
}

type Format = (entry: LogEntry) => Uint8Array;

/** @throws EngineError "invalid" */
export function syslogFormat(source: Pick<LogSource, "tag" | "options">, network: Address["network"]): Format {
  const facility = parseFacility(source.options["syslog-facility"]) << 3;
  const head = headOf(source.options["syslog-format"] ?? "", source.tag);
  const counted = network === "tcp+tls" && (source.options["syslog-format"] ?? "").startsWith("rfc5424");
  const stream = network === "tcp" || network === "tcp+tls" || network === "unix";
  return (entry) => {
    const start = Buffer.from(`<${facility + (entry.stream === "stderr" ? 3 : 6)}>${head(entry)}`);
    const message = Buffer.concat([start, textOf(entry).text, ...(stream && !counted ? [Buffer.from("\n")] : [])]);
    return counted ? Buffer.concat([Buffer.from(`${message.length} `), message]) : message;
  };
}

function headOf(format: string, tag: string): (entry: LogEntry) => string {
  const date = (entry: LogEntry) => new Date(Number(entry.timeNs / 1_000_000n));
  const micro = (entry: LogEntry) => `${date(entry).toISOString().slice(0, 19)}.${String((entry.timeNs / 1000n) % 1_000_000n).padStart(6, "0")}Z`;
  switch (format) {
    case "":
      return (entry) => `${stamp(date(entry))} ${tag}[${process.pid}]: `;
    case "rfc3164":
      return (entry) => `${stamp(date(entry))} ${hostname()} ${tag}[${process.pid}]: `;
    case "rfc5424":
      return (entry) => `1 ${date(entry).toISOString().slice(0, 19)}Z ${hostname()} ${tag} ${process.pid} ${tag} - `;
    case "rfc5424micro":
      return (entry) => `1 ${micro(entry)} ${hostname()} ${tag} ${process.pid} ${tag} - `;
    default:
      throw new EngineError("invalid", `Invalid syslog format: ${format}`);
  }
}

const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

/** "Nov  9 13:05:59", of the host's time zone, as syslog has it. */
function stamp(date: Date): string {
  const two = (n: number) => String(n).padStart(2, "0");
  return `${months[date.getMonth()]} ${String(date.getDate()).padStart(2)} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export class Syslog implements LogService {
  readonly #format: Format;
  readonly #transport: Transport;

  constructor(source: LogSource, helper: Pick<Helper, "call">) {
    const address = parseSyslogAddress(source.options["syslog-address"]);
    this.#format = syslogFormat(source, address.network);
    this.#transport = transportTo(address, source.options, helper);
  }

  check(): Promise<void> {
    return this.#transport.check();
  }

  send(entries: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    return this.#transport.send(entries.map(this.#format), signal);
  }

  close(): void {
    this.#transport.close();
  }
}

function transportTo(address: Address, options: LogSource["options"], helper: Pick<Helper, "call">): Transport {
  const { network, path, host, port } = address;
  switch (network) {
    case "local":
      return new LocalTransport(localSockets, helper);
    case "unixgram":
      return new LocalTransport([path], helper);
    case "udp":
      return new UdpTransport(host, port);
    case "unix":
      return new StreamTransport(new Connection({ network: "unix", address: path, to: { path } }));
    default:
      return new StreamTransport(
        new Connection({ network, address: `${host}:${port}`, to: { host, port }, ...(network === "tcp+tls" ? { tls: tlsOptions(host, options) } : {}) }),
      );
  }
}

function tlsOptions(host: string, options: LogSource["options"]): ConnectionOptions {
  const file = (name: string) => {
    const path = options[`syslog-tls-${name}`];
    return path === undefined || path === "" ? undefined : readFileSync(path);
  };
  const [ca, cert, key] = [file("ca-cert"), file("cert"), file("key")];
  return {
    servername: host,
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    rejectUnauthorized: !["1", "t", "true"].includes((options["syslog-tls-skip-verify"] ?? "").toLowerCase()),
  };
}

class StreamTransport implements Transport {
  readonly #connection: Connection;
  constructor(connection: Connection) {
    this.#connection = connection;
  }
  async check(): Promise<void> {
    await this.#connection.open();
  }
  async send(messages: readonly Uint8Array[], signal: AbortSignal): Promise<void> {
    await this.#connection.write(Buffer.concat(messages), signal);
  }
  close(): void {
    this.#connection.close();
  }
}

/** A unix socket of datagrams; where the service has one of streams instead, that. */
class LocalTransport implements Transport {
  readonly #paths: readonly string[];
  readonly #helper: Pick<Helper, "call">;
  readonly #streams = new Map<string, Connection>();
  constructor(paths: readonly string[], helper: Pick<Helper, "call">) {
    this.#paths = paths;
    this.#helper = helper;
  }

  async check(): Promise<void> {
    await this.send([], new AbortController().signal);
  }

  async send(messages: readonly Uint8Array[], signal: AbortSignal): Promise<void> {
    let reason = "";
    for (const path of this.#paths) {
      try {
        const stream = this.#streams.get(path);
        if (stream !== undefined) await stream.write(Buffer.concat(messages.flatMap((m) => [m, Buffer.from("\n")])), signal);
        else if (messages.length > 0) await sendDatagrams(this.#helper, path, messages);
        else await this.#helper.call({ steps: [{ op: "datagrams", where: "host", path, messages: Buffer.alloc(0), why: "to see that syslog is there" }] });
        return;
      } catch (error) {
        if (!(error instanceof PlanError)) throw error;
        reason = error.errno;
        if (error.errno === "EPROTOTYPE") {
          this.#streams.set(path, new Connection({ network: "unix", address: path, to: { path } }));
          return this.send(messages, signal);
        }
      }
    }
    throw new Error(`Unix syslog delivery error: ${this.#paths.join(", ")}: ${reason}`);
  }

  close(): void {
    for (const stream of this.#streams.values()) stream.close();
  }
}

class UdpTransport implements Transport {
  readonly #host: string;
  readonly #port: number;
  #socket: UdpSocket | undefined;
  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }
  async check(): Promise<void> {}

  async send(messages: readonly Uint8Array[]): Promise<void> {
    this.#socket ??= createSocket(isIPv6(this.#host) ? "udp6" : "udp4").unref();
    const socket = this.#socket;
    socket.on("error", () => this.close()); // told by send's callback
    for (const message of messages)
      await new Promise<void>((resolve, reject) => socket.send(message, this.#port, this.#host, (error) => (error === null ? resolve() : reject(error))));
    socket.removeAllListeners("error");
  }
  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }
}
