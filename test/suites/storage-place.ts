/**
 * Where the storage suites work.
 * @module
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { Helper } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import { nativeHelper } from "./native-helper.ts";

export interface StoragePlace {
  /** A directory of the suite's own. */
  readonly base: string;
  readonly helper: Helper;
}

/** A directory below `above` and a helper with its sockets there; both go when the `describe` that asks for them has ended. */
export async function storagePlace(name: string, above: string = tmpdir()): Promise<StoragePlace> {
  const base = mkdtempSync(join(above, `${name}-`));
  const helper = await startHelper({ helperPath: nativeHelper(), execRoot: base, log: () => undefined });
  afterAll(async () => {
    await helper.close();
    // By descriptors: the paths in it may be too long for rmSync.
    execFileSync("rm", ["-rf", base]);
  });
  return { base, helper };
}
