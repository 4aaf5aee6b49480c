/** The conformance suite, as `npm run conformance` runs it: `wherry-runtime`, without and beside a daemon, passes every case that Debian's runc or crun passes. */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import type { Result } from "../conformance/suite.ts";
import { patient } from "../patience.ts";
import { wherryRuntime } from "./oci-runtime.fixture.ts";

const able = process.getuid?.() === 0 && existsSync(wherryRuntime) && existsSync("/bin/busybox");
if (!able) console.warn("skipped: the conformance suite needs root, a build and busybox-static");

it.skipIf(!able)("passes what runc or crun passes, and fails nothing", { timeout: patient(1_200_000) }, async () => {
  const directory = mkdtempSync(join(tmpdir(), "wherry-conformance-"));
  try {
    const [script, json] = [fileURLToPath(new URL("../../scripts/conformance.mjs", import.meta.url)), join(directory, "results.json")];
    const { stdout: table, stderr } = await promisify(execFile)(process.execPath, [script, "--json", json], { maxBuffer: 1 << 24 });
    for (const [, name, why] of stderr.matchAll(/^(\S+): left out: (.*)$/gm)) console.warn(`skipped: conformance is not compared with ${name}: ${why}`);
    // The sums; all of it stands in the message of a failure.
    console.log(
      table
        .split("\n")
        .filter((line) => /^( +wherry|(pass|fail|skipped) )/.test(line))
        .join("\n"),
    );
    const {
      "wherry (no daemon)": cold = [],
      "wherry (warm daemon)": warm = [],
      ...others
    } = JSON.parse(readFileSync(json, "utf8")) as Record<string, Result[]>;
    for (const ours of [cold, warm]) {
      expect(ours.length).toBeGreaterThan(200);
      const behind = ours.filter(({ outcome }, index) => outcome !== "pass" && Object.values(others).some((results) => results[index]?.outcome === "pass"));
      expect(behind, table).toEqual([]);
      expect(ours.filter(({ outcome }) => outcome === "fail")).toEqual([]);
    }
    // Descriptors, terminals and what is seldom asked for are not the daemon's business; all else is.
    expect(Number(/^wherry \(warm daemon\): (\d+) commands/m.exec(stderr)?.[1])).toBeLessThan(100);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
