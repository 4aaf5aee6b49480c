/**
 * What an engine calls the things that the whole host sees (cgroups, bridges, tables): engines with different data roots must not take each other's for leavings
 * of their own.
 * @module
 */
import { createHash } from "node:crypto";

export const DEFAULT_DATA_ROOT = "/var/lib/wherry";

/** `wherry` for the default data root, `wherry-` and eight hex digits for another: short enough for an interface's name. */
export function instanceName(dataRoot: string): string {
  const path = dataRoot.replace(/\/+$/, "");
  return path === DEFAULT_DATA_ROOT ? "wherry" : `wherry-${createHash("sha256").update(path).digest("hex").slice(0, 8)}`;
}
