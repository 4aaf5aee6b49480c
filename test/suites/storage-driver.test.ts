import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe } from "vitest";
import type { Helper } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import { driverNames } from "#unionfs/open-driver.ts";
import { storageDriverSuite } from "./storage-driver.suite.ts";

const root = join(import.meta.dirname, "../..");

describe.runIf(process.getuid?.() === 0)("storage drivers (as root)", () => {
  const base = mkdtempSync(join(tmpdir(), "storage-"));
  let helper: Helper;

  beforeAll(async () => {
    execFileSync(process.execPath, [join(root, "scripts/build-native.mjs"), join(root, "dist/bin")], { stdio: ["ignore", "ignore", "inherit"] });
    helper = await startHelper({ helperPath: join(root, "dist/bin/wherry-helper"), execRoot: base, log: () => undefined });
  });
  afterAll(async () => {
    await helper.close();
    rmSync(base, { recursive: true, force: true });
  });

  for (const name of driverNames) storageDriverSuite(name, { helper: () => helper, base });
});
