/**
 * fluentd and fluent-bit: the forward protocol, one message for each line, in MessagePack.
 * @see https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1
 * @module
 */
import { randomBytes } from "node:crypto";
import { EngineError } from "#core/errors.ts";
import type { LogEntry } from "../../mod.ts";
import { Connection, type Peer } from "./connection.ts";
import { type FluentdTuning, fluentdTuning } from "./fluentd-tuning.ts";
import { EventTime, pack } from "./msgpack.ts";
import type { LogService, LogSource } from "./mod.ts";
import { type LinePart, lineParts, type OpenLines, textOf } from "./text.ts";

/** @throws EngineError "invalid" */
export function parseFluentdAddress(text: string | undefined): Peer {
  if (text === undefined || text === "") return { network: "tcp", address: "127.0.0.1:24224", to: { host: "127.0.0.1", port: 24224 } };
  const [, scheme = "tcp", rest = ""] = /^(?:([a-z+]+):\/\/)?(.*)$/.exec(text) ?? [];
  if (scheme === "unix") return { network: "unix", address: rest, to: { path: rest } };
  const [, host = "", port] = /^([^:/]*)(?::([0-9]{1,5}))?$/.exec(rest) ?? [];
  if ((scheme !== "tcp" && scheme !== "tls") || (host === "" && port === undefined) || Number(port ?? 0) > 65535)
    throw new EngineError("invalid", `invalid fluentd-address ${text}: expected tcp://host:port, tls://host:port or unix:///path`);
  const to = { host: host || "127.0.0.1", port: Number(port ?? 24224) };
  return { network: scheme === "tls" ? "tcp+tls" : "tcp", address: `${to.host}:${to.port}`, to, ...(scheme === "tls" ? { tls: { servername: to.host } } : {}) };
}

const on = (text: string | undefined) => ["1", "t", "true"].includes((text ?? "").toLowerCase());

export class Fluentd implements LogService {
  readonly #source: LogSource;
  readonly #connection: Connection;
  readonly #acknowledged: boolean;
  readonly #tuning: FluentdTuning;
  #open: OpenLines = {};
  readonly retry: { readonly firstMs: number; readonly times: number };

  constructor(source: LogSource) {
    this.#source = source;
    this.#tuning = fluentdTuning(source.options);
    this.retry = { firstMs: this.#tuning.retryWaitMs, times: this.#tuning.maxRetries };
    this.#connection = new Connection(parseFluentdAddress(source.options["fluentd-address"]), { writeTimeoutMs: this.#tuning.writeTimeoutMs });
    this.#acknowledged = on(source.options["fluentd-request-ack"]);
  }

  async check(): Promise<void> {
    const { options } = this.#source;
    if (on(options["fluentd-async"]) || on(options["fluentd-async-connect"])) return;
    await this.#connection.open();
  }

  async send(entries: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    const chunk = this.#acknowledged ? randomBytes(16).toString("base64") : undefined;
    const { parts, open } = lineParts(this.#source.id, entries, this.#open);
    const messages = entries.map((entry, index) => this.#message(entry, parts[index], index === entries.length - 1 ? chunk : undefined));
    if (this.#tuning.reconnectMs !== undefined) this.#connection.renew(this.#tuning.reconnectMs);
    const socket = await this.#connection.write(Buffer.concat(messages), signal);
    if (chunk !== undefined) await acknowledged(socket, chunk, { signal, timeoutMs: this.#tuning.readTimeoutMs });
    this.#open = open;
  }

  /** `[tag, time, record]`, the last of a batch with `{chunk}`: the service answers in order. */
  #message(entry: LogEntry, part: LinePart | undefined, chunk: string | undefined): Uint8Array {
    const { tag, id, name, extra, options } = this.#source;
    const time = on(options["fluentd-sub-second-precision"]) ? new EventTime(entry.timeNs) : Number(entry.timeNs / 1_000_000_000n);
    const record = {
      container_id: id,
      container_name: `/${name}`,
      source: entry.stream,
      log: textOf(entry).text,
      ...extra,
      ...(part && { partial_message: "true", partial_id: part.id, partial_ordinal: String(part.ordinal), partial_last: String(part.last) }),
    };
    return pack(chunk === undefined ? [tag, time, record] : [tag, time, record, { chunk }]);
  }

  close(): void {
    this.#connection.close();
  }
}

/** Until `{"ack": chunk}` has come; its bytes hold the chunk as they are. */
function acknowledged(
  socket: import("node:net").Socket,
  chunk: string,
  { signal, timeoutMs }: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = "";
    const end = (error?: Error) => {
      clearTimeout(timer);
      socket.off("data", read).off("close", closed);
      signal.removeEventListener("abort", abort);
      if (error === undefined) return resolve();
      socket.destroy();
      reject(error);
    };
    const read = (data: Buffer) => {
      seen = (seen + data.toString("latin1")).slice(-1024);
      if (seen.includes(chunk)) end();
    };
    const closed = () => end(new Error("fluentd closed the connection before it had said that it has the message"));
    const abort = () => end(signal.reason as Error);
    const timer = setTimeout(() => end(new Error("fluentd does not say that it has the message: i/o timeout")), timeoutMs);
    signal.addEventListener("abort", abort, { once: true });
    socket.on("data", read).once("close", closed);
  });
}
