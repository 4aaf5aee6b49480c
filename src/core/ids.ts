/** Container ids, names and generated names. @module */
import { randomFillSync } from "node:crypto";

const ID_BYTES = 32;
/** A call for random bytes costs as much as a hundred ids: they are fetched for so many. */
const pool = Buffer.allocUnsafeSlow(ID_BYTES * 64);
let used = pool.length;

/** A new id: 64 hex digits (never all decimal in its first 12, as Docker: a hostname must not be a number). */
export function newId(): string {
  for (;;) {
    if (used === pool.length) {
      randomFillSync(pool);
      used = 0;
    }
    const id = pool.toString("hex", used, used + ID_BYTES);
    used += ID_BYTES;
    if (!/^[0-9]+$/.test(id.slice(0, 12))) return id;
  }
}

/** The 12 characters that people see. */
export function shortId(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}
