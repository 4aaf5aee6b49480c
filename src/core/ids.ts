/** Container ids, names and generated names. @module */
import { randomBytes } from "node:crypto";

/** A new id: 64 hex digits (never all decimal in its first 12, as Docker: a hostname must not be a number). */
export function newId(): string {
  for (;;) {
    const id = randomBytes(32).toString("hex");
    if (!/^[0-9]+$/.test(id.slice(0, 12))) return id;
  }
}

/** The 12 characters that people see. */
export function shortId(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}
