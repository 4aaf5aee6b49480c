#!/usr/bin/env node
// Bundles test/conformance and runs it: see `npm run conformance -- --help`, or test/conformance/main.ts. Needs root and a build.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
if (process.argv.includes("--help")) {
  console.log(
    "npm run conformance -- [--runtime PROGRAM]… [--only REGEXP] [--json FILE]\n\nAsks OCI runtimes about every MUST of the runtime spec and prints a table.\nWithout --runtime: 'wherry (no daemon)', 'wherry (warm daemon)', runc and crun.",
  );
  process.exit(0);
}
const out = mkdtempSync(join(tmpdir(), "wherry-conformance-"));
try {
  const program = join(out, "main.mjs");
  await build({
    entryPoints: [join(root, "test/conformance/main.ts")],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    logLevel: "warning",
  });
  execFileSync(process.execPath, [program, ...process.argv.slice(2)], { stdio: "inherit", env: { ...process.env, WHERRY_TEST_DIST: join(root, "dist") } });
} catch (error) {
  if (typeof error.status !== "number") throw error;
  process.exitCode = error.status;
} finally {
  rmSync(out, { recursive: true, force: true });
}
