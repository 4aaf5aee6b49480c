/** A few seconds of `npm run fuzz` for OCI specs and create bodies; the decoders' are in native-checked.test.ts. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { expect, it } from "vitest";

it("mutated specs and create bodies are planned or refused, never a crash", async () => {
  const directory = mkdtempSync(join(tmpdir(), "wherry-fuzz-"));
  try {
    const file = (name: string) => fileURLToPath(new URL(`../fuzz/${name}`, import.meta.url));
    await build({ entryPoints: [file("spec.ts")], bundle: true, platform: "node", format: "esm", outfile: join(directory, "spec.mjs") });
    const seed = String(Date.now() % 1_000_000);
    const { status, stderr, stdout } = spawnSync(process.execPath, [join(directory, "spec.mjs"), "5", seed, file("corpus")], { encoding: "utf8" });
    expect({ seed, status, stderr }).toEqual({ seed, status: 0, stderr: "" });
    expect(Number(/^(\d+) specs/.exec(stdout)?.[1])).toBeGreaterThan(200);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
