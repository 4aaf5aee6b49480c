/** What the listing commands share. @module */
import { type Flag, one } from "./flags.ts";

export const formatFlag: Flag = one("format", 'How to print: "table", "table TEMPLATE", "json", or a Go template for each line');

/** The `filters` query of `--filter` flags; undefined when there are none. */
export function filtersQuery(pairs: readonly (readonly [string, string])[]): string | undefined {
  if (pairs.length === 0) return undefined;
  const filters: Record<string, string[]> = {};
  for (const [key, value] of pairs) (filters[key] ??= []).push(value);
  return JSON.stringify(filters);
}
