/**
 * The native helper for tests.
 * @module
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";

/** Path of the helper; builds it when its sources have changed. `WHERRY_HELPER`: one that was built elsewhere (a VM has no compiler). */
export function nativeHelper(): string {
  const script = join(import.meta.dirname, "../../scripts/build-native.mjs");
  return process.env["WHERRY_HELPER"] ?? execFileSync(process.execPath, [script], { encoding: "utf8" }).trim();
}
