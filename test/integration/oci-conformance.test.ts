/** The conformance suite: `wherry-runtime` passes every case that Debian's runc or crun passes. */
import { existsSync } from "node:fs";
import { expect, it } from "vitest";
import { conformance, conformanceTable, type Result } from "../conformance/suite.ts";
import { commandOf, whyNot, wherryRuntime } from "./oci-runtime.fixture.ts";

const able = process.getuid?.() === 0 && existsSync(wherryRuntime) && existsSync("/bin/busybox");
if (!able) console.warn("skipped: the conformance suite needs root, a build and busybox-static");

it.skipIf(!able)("passes what runc or crun passes, and fails nothing", { timeout: 280_000 }, async () => {
  const byRuntime = new Map<string, readonly Result[]>([["wherry-runtime", await conformance([wherryRuntime])]]);
  for (const name of ["runc", "crun"]) {
    const why = whyNot(name);
    if (why === undefined) byRuntime.set(name, await conformance(commandOf(name)));
    else console.warn(`skipped: conformance is not compared with ${name}: ${why}`);
  }
  const [ours = [], ...others] = byRuntime.values();
  const behind = ours.filter(({ outcome }, index) => outcome !== "pass" && others.some((results) => results[index]?.outcome === "pass"));
  expect(behind, conformanceTable(byRuntime)).toEqual([]);
  expect(ours.filter(({ outcome }) => outcome === "fail")).toEqual([]);
});
