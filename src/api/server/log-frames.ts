/**
 * Log entries as bytes for the wire: Docker's 8-byte-header frames, or raw for a terminal, with optional timestamps. What one read of the log gave becomes one
 * piece, because one write per line would make a million of them for 50 MB.
 * @module
 */
import type { LogEntry } from "#container/mod.ts";
import { copyBytes } from "#core/copy-bytes.ts";
import { frameHeadBytes, writeFrameHead } from "#core/stream-frame.ts";

export interface FrameOptions {
  readonly framed: boolean;
  readonly timestamps: boolean;
  readonly details: boolean;
}

const encoder = new TextEncoder();

/** RFC 3339 with all nine digits, as `logs -t` prints. The seconds' text is kept: entries come in order. */
function fixedTime(): (ns: bigint) => string {
  let second = -1n;
  let text = "";
  return (ns) => {
    const s = ns / 1_000_000_000n;
    if (s !== second) {
      second = s;
      text = new Date(Number(s) * 1000).toISOString().slice(0, 19);
    }
    return `${text}.${(ns % 1_000_000_000n).toString().padStart(9, "0")}Z`;
  };
}

/** `key=value,…` in the order of the keys, both as in a query string. */
function detailsOf({ attrs = {} }: LogEntry): string {
  const quoted = (text: string) => encodeURIComponent(text).replaceAll("%20", "+");
  return Object.entries(attrs)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${quoted(key)}=${quoted(value)}`)
    .join(",");
}

/** A batch of entries as one piece of bytes. */
export function frameEncoder(options: FrameOptions): (entries: readonly LogEntry[]) => Uint8Array {
  const time = fixedTime();
  const { framed, timestamps, details } = options;
  const prefixOf = (entry: LogEntry): Uint8Array => encoder.encode(`${timestamps ? `${time(entry.timeNs)} ` : ""}${details ? `${detailsOf(entry)} ` : ""}`);
  return (entries) => {
    const prefixes = timestamps || details ? entries.map(prefixOf) : undefined;
    let size = framed ? frameHeadBytes * entries.length : 0;
    for (const entry of entries) size += entry.log.length;
    for (const prefix of prefixes ?? []) size += prefix.length;
    const bytes = Buffer.allocUnsafe(size);
    let at = 0;
    for (let i = 0; i < entries.length; i++) {
      const { log, stream } = entries[i]!;
      const prefix = prefixes?.[i];
      if (framed) at = writeFrameHead(bytes, at, stream, (prefix?.length ?? 0) + log.length);
      if (prefix !== undefined) at = copyBytes(prefix, 0, prefix.length, bytes, at);
      at = copyBytes(log, 0, log.length, bytes, at);
    }
    return bytes;
  };
}

/** The log's bytes, one piece for each batch: the log is read as fast as the consumer takes it. */
export async function* logFrames(batches: AsyncIterable<readonly LogEntry[]>, options: FrameOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const encode = frameEncoder(options);
  for await (const entries of batches) if (entries.length > 0) yield encode(entries);
}
