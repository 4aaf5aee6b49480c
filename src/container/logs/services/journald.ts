/**
 * journald: a datagram of fields for each line.
 * @see https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
 * @module
 */
import { randomBytes } from "node:crypto";
import { stat } from "node:fs/promises";
import { rfc3339Nano } from "#core/clock.ts";
import type { Helper } from "#linux/helper.ts";
import type { LogEntry } from "../../mod.ts";
import { sendDatagrams } from "./datagrams.ts";
import type { LogService, LogSource } from "./mod.ts";
import { type LinePart, lineParts, type OpenLines, textOf } from "./text.ts";

const defaultSocket = "/run/systemd/journal/socket";

export class Journald implements LogService {
  readonly #helper: Pick<Helper, "call">;
  readonly #socket: string;
  readonly #fixed: readonly Uint8Array[];
  readonly #id: string;
  #open: OpenLines = {};
  /** Entries that have been sent. */
  #sent = 0;

  constructor(source: LogSource, helper: Pick<Helper, "call">, socket: string = defaultSocket) {
    this.#helper = helper;
    this.#socket = socket;
    const { id, name, tag, imageName, extra } = source;
    this.#id = id;
    const fields = {
      CONTAINER_ID: id.slice(0, 12),
      CONTAINER_ID_FULL: id,
      CONTAINER_NAME: name,
      CONTAINER_TAG: tag,
      IMAGE_NAME: imageName,
      SYSLOG_IDENTIFIER: tag,
      CONTAINER_LOG_EPOCH: randomBytes(32).toString("hex"), // in which CONTAINER_LOG_ORDINAL counts
      ...Object.fromEntries(Object.entries(extra).map(([key, value]) => [fieldName(key), value])),
    };
    this.#fixed = Object.entries(fields).map(([key, value]) => field(key, Buffer.from(value)));
  }

  async check(): Promise<void> {
    await stat(this.#socket).catch((cause: unknown) => {
      throw new Error("journald is not enabled on this host", { cause });
    });
  }

  async send(entries: readonly LogEntry[]): Promise<void> {
    const { parts, open } = lineParts(this.#id, entries, this.#open);
    await sendDatagrams(
      this.#helper,
      this.#socket,
      entries.map((entry, index) => this.#datagram(entry, parts[index], this.#sent + index + 1)),
    );
    this.#open = open; // not before it is sent: what is sent again is counted as it was
    this.#sent += entries.length;
  }

  #datagram(entry: LogEntry, part: LinePart | undefined, ordinal: number): Uint8Array {
    const fields = {
      PRIORITY: entry.stream === "stderr" ? "3" : "6",
      SYSLOG_TIMESTAMP: rfc3339Nano(entry.timeNs),
      CONTAINER_LOG_ORDINAL: String(ordinal),
      ...(part && { CONTAINER_PARTIAL_ID: part.id, CONTAINER_PARTIAL_ORDINAL: String(part.ordinal), CONTAINER_PARTIAL_LAST: String(part.last) }),
      ...(part?.last === false && { CONTAINER_PARTIAL_MESSAGE: "true" }),
    };
    return Buffer.concat([
      field("MESSAGE", textOf(entry).text),
      ...Object.entries(fields).map(([name, value]) => field(name, Buffer.from(value))),
      ...this.#fixed,
    ]);
  }

  close(): void {}
}

/** As docker makes names of labels: capitals, digits and underscores, none at the front. */
function fieldName(key: string): string {
  return key
    .toUpperCase()
    .replaceAll(/[^A-Z0-9_]/g, "_")
    .replace(/^_+/, "");
}

/** A value with a newline in it goes after its length. */
function field(name: string, value: Uint8Array): Uint8Array {
  if (!value.includes(0x0a)) return Buffer.concat([Buffer.from(`${name}=`), value, Buffer.from("\n")]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(value.length));
  return Buffer.concat([Buffer.from(`${name}\n`), length, value, Buffer.from("\n")]);
}
