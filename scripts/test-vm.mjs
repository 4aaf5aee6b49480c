#!/usr/bin/env node
// Runs in a small VM what this machine's kernel lacks: every test/vm/*.vm.json names the tests and the kind of VM.
//   node scripts/test-vm.mjs [NAME...]      (default: all)
// The VM runner is found at $WHERRY_VM_RUN or ../shared/vm/vm-run; without it everything is skipped, and the reason printed.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { buildNative } from "./build-native.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "test/vm");
/** What `vm-run` answers when the VM itself failed. */
const VM_FAILED = 125;

/** Path of the VM runner, or why there is none. */
export function findVmRun() {
  const given = process.env.WHERRY_VM_RUN;
  const path = given === undefined || given === "" ? resolve(root, "../shared/vm/vm-run") : given;
  if (!existsSync(path)) return { reason: `no VM runner at ${given ? path : "../shared/vm/vm-run"} (WHERRY_VM_RUN names another)` };
  if (process.getuid?.() !== 0) return { reason: "the VM runner needs root" };
  return { path };
}

/** The kinds of VM: file name without its ending → { why, options, tests, tmp: for temporary files }. */
export function vmRuns() {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".vm.json"))
    .sort()
    .map((name) => ({ name: name.slice(0, -".vm.json".length), ...JSON.parse(readFileSync(join(folder, name), "utf8")) }));
}

/** One VM: prints what the tests print; the exit status. */
function run(vmRun, { name, why, options, tests, tmp = "/run" }, helper) {
  console.log(`vm ${name}: ${why}`);
  const vitest = [
    "node",
    "node_modules/vitest/vitest.mjs",
    "run",
    "--project",
    "integration",
    "--reporter",
    "verbose",
    "--testTimeout",
    "900000",
    "--hookTimeout",
    "300000",
    ...tests,
  ];
  const command = ["env", `WHERRY_HELPER=${helper}`, "WHERRY_IN_VM=1", `TMPDIR=${tmp}`, ...vitest];
  const { status } = spawnSync(vmRun, [...options, "--", ...command], { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  return status ?? VM_FAILED;
}

function main(names) {
  const found = findVmRun();
  if (found.reason !== undefined) {
    console.log(`skipped: ${found.reason}`);
    return 0;
  }
  const runs = vmRuns().filter(({ name }) => names.length === 0 || names.includes(name));
  const unknown = names.filter((name) => !runs.some((each) => each.name === name));
  if (unknown.length > 0) {
    console.error(
      `no such VM: ${unknown.join(", ")} (there are: ${vmRuns()
        .map(({ name }) => name)
        .join(", ")})`,
    );
    return 1;
  }
  const helper = buildNative(join(root, "dist/bin"));
  const failed = runs.filter((each) => run(found.path, each, helper) !== 0).map(({ name }) => name);
  console.log(failed.length === 0 ? `${runs.length} VM${runs.length === 1 ? "" : "s"} passed` : `failed: ${failed.join(", ")}`);
  return failed.length === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exit(main(process.argv.slice(2)));
