/**
 * journald: a datagram of fields for each line.
 * @see https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
 * @module
 */
import { stat } from "node:fs/promises";
import { rfc3339Nano } from "#core/clock.ts";
import type { Helper } from "#linux/helper.ts";
import type { LogEntry } from "../../mod.ts";
import { sendDatagrams } from "./datagrams.ts";
import type { LogService, LogSource } from "./mod.ts";
import { textOf } from "./text.ts";

const defaultSocket = "/run/systemd/journal/socket";

export class Journald implements LogService {
  readonly #helper: Pick<Helper, "call">;
  readonly #socket: string;
  readonly #fixed: readonly Uint8Array[];

  constructor(source: LogSource, helper: Pick<Helper, "call">, socket: string = defaultSocket) {
    this.#helper = helper;
    this.#socket = socket;
    const { id, name, tag, imageName, extra } = source;
    const fields = {
      CONTAINER_ID: id.slice(0, 12),
      CONTAINER_ID_FULL: id,
      CONTAINER_NAME: name,
      CONTAINER_TAG: tag,
      IMAGE_NAME: imageName,
      SYSLOG_IDENTIFIER: tag,
      ...Object.fromEntries(Object.entries(extra).map(([key, value]) => [fieldName(key), value])),
    };
    this.#fixed = Object.entries(fields).map(([key, value]) => field(key, Buffer.from(value)));
  }

  async check(): Promise<void> {
    await stat(this.#socket).catch((cause: unknown) => {
      throw new Error("journald is not enabled on this host", { cause });
    });
  }

  send(entries: readonly LogEntry[]): Promise<void> {
    return sendDatagrams(
      this.#helper,
      this.#socket,
      entries.map((entry) => this.#datagram(entry)),
    );
  }

  #datagram(entry: LogEntry): Uint8Array {
    const { text, partial } = textOf(entry);
    return Buffer.concat([
      field("MESSAGE", text),
      field("PRIORITY", Buffer.from(entry.stream === "stderr" ? "3" : "6")),
      field("SYSLOG_TIMESTAMP", Buffer.from(rfc3339Nano(entry.timeNs))),
      ...(partial ? [field("CONTAINER_PARTIAL_MESSAGE", Buffer.from("true"))] : []),
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
