/** A line without its end. @module */
import type { LogEntry } from "../../mod.ts";

const NEWLINE = 0x0a;

/** `partial`: the container's line goes on in the next entry (a line is split at 16 KiB), or ended with the container. */
export function textOf({ log }: LogEntry): { readonly text: Uint8Array; readonly partial: boolean } {
  const partial = log.at(-1) !== NEWLINE;
  return { text: partial ? log : log.subarray(0, -1), partial };
}
