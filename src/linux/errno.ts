/**
 * Linux error numbers (asm-generic, the same on x86-64 and arm64): names and texts.
 * @module
 * @see errno(3)
 */
import { errnoTable } from "./errno-table.ts";

const byNumber = new Map(errnoTable.map((row) => [row[0], row] as const));
const byName = new Map(errnoTable.map((row) => [row[1], row] as const));
// Two names for one number.
const aliases: Readonly<Record<string, string>> = { EWOULDBLOCK: "EAGAIN", ENOTSUP: "EOPNOTSUPP", EDEADLOCK: "EDEADLK" };

/** "ENOENT" for 2; "E123" for a number without a name. */
export function errnoName(number: number): string {
  return byNumber.get(number)?.[1] ?? `E${number}`;
}

/** "no such file or directory" for 2 or "ENOENT". */
export function errnoMessage(errno: number | string): string {
  const row = typeof errno === "number" ? byNumber.get(errno) : byName.get(aliases[errno] ?? errno);
  return row?.[2] ?? `error ${errno}`;
}

/** 2 for "ENOENT"; undefined for a name that Linux does not have. */
export function errnoNumber(name: string): number | undefined {
  return byName.get(aliases[name] ?? name)?.[0];
}
