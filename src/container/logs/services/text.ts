/** A line without its end, and which part of a longer one it is. @module */
import { createHash } from "node:crypto";
import type { LogEntry } from "../../mod.ts";

const NEWLINE = 0x0a;

/** `partial`: the container's line goes on in the next entry (a line is split at 16 KiB), or ended with the container. */
export function textOf({ log }: Pick<LogEntry, "log">): { readonly text: Uint8Array; readonly partial: boolean } {
  const partial = log.at(-1) !== NEWLINE;
  return { text: partial ? log : log.subarray(0, -1), partial };
}

/** What docker says of an entry that is a part of a line. */
export interface LinePart {
  /** The same for all parts of a line. */
  readonly id: string;
  /** From 1. */
  readonly ordinal: number;
  readonly last: boolean;
}

/** The lines that are not at their end, one for each stream at most. */
export type OpenLines = Readonly<Partial<Record<LogEntry["stream"], LinePart>>>;

/**
 * Which part of a line each entry is; undefined for whole lines. `open` is what the call for the entries before answered. A line that is delivered again has the
 * same id again: it is made of the container's and of the time of the line's first part.
 */
export function lineParts(
  containerId: string,
  entries: readonly LogEntry[],
  open: OpenLines,
): { readonly parts: readonly (LinePart | undefined)[]; readonly open: OpenLines } {
  const now: Partial<Record<LogEntry["stream"], LinePart>> = { ...open };
  const parts = entries.map((entry) => {
    const { partial } = textOf(entry);
    const before = now[entry.stream];
    if (before === undefined && !partial) return undefined;
    const id = before?.id ?? createHash("sha256").update(`${containerId} ${entry.stream} ${entry.timeNs}`).digest("hex");
    const part = { id, ordinal: (before?.ordinal ?? 0) + 1, last: !partial };
    if (partial) now[entry.stream] = part;
    else delete now[entry.stream];
    return part;
  });
  return { parts, open: now };
}
