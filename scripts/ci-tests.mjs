#!/usr/bin/env node
// `ci-tests.mjs COUNTS [VITEST ARGS]`: `npm test` for `.ci/run`; writes "PASSED FAILED SKIPPED" to the file COUNTS.
// A test file that failed is run a second time, alone: this tells a fault from a test that could not wait long enough on a busy machine. What
// passed only then is named as unsteady, to be mended. When many files fail, something is broken and none gets a second chance.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

const SECOND_CHANCES = 4;
const work = mkdtempSync(join(tmpdir(), "ci-tests-"));

/** Runs `npm test -- ARGS`; undefined where it wrote no report. */
function run(name, args) {
  const report = join(work, `${name}.json`);
  const { status } = spawnSync("npm", ["test", "--", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...args], { stdio: "inherit" });
  try {
    return { status, files: JSON.parse(readFileSync(report, "utf8")).testResults };
  } catch (error) {
    console.log(`no report of the tests: ${error.message}`);
    return undefined;
  }
}

const failedIn = (file) => file.assertionResults.filter((a) => a.status === "failed");
/** A file that failed as a whole (set-up, an import, an error outside of its tests) counts as one failure. */
const faultsOf = (file) => (file.status === "failed" ? Math.max(1, failedIn(file).length) : 0);

const first = run("all", process.argv.slice(3));
let files = first?.files ?? [];
let faults = first === undefined ? 1 : 0;
const broken = files.filter((file) => faultsOf(file) > 0);
// An error that belongs to no file ends the run with a status and no failed test.
if (first && first.status !== 0 && broken.length === 0) faults++;
if (broken.length > 0 && broken.length <= SECOND_CHANCES) {
  const names = broken.map((file) => file.name);
  console.log(`\nonce more, alone: ${names.join(" ")}`);
  const again = new Map((run("again", names)?.files ?? []).map((file) => [file.name, file]));
  files = files.map((file) => again.get(file.name) ?? file);
  for (const file of broken) {
    const now = again.get(file.name);
    if (now === undefined || faultsOf(now) > 0) continue;
    for (const test of failedIn(file)) console.log(`unsteady (failed, then passed alone): ${file.name} > ${test.fullName}`);
    if (failedIn(file).length === 0) console.log(`unsteady (failed, then passed alone): ${file.name}`);
  }
}
const seconds = (file) => (file.endTime - file.startTime) / 1000;
const slowest = [...files].sort((a, b) => seconds(b) - seconds(a)).slice(0, 15);
console.log(`slowest files: ${slowest.map((file) => `${relative(process.cwd(), file.name)} ${seconds(file).toFixed(0)} s`).join(", ")}`);
const count = (status) => files.reduce((sum, file) => sum + file.assertionResults.filter((a) => a.status === status).length, 0);
faults += files.reduce((sum, file) => sum + faultsOf(file), 0);
writeFileSync(process.argv[2], `${count("passed")} ${faults} ${count("skipped") + count("pending") + count("todo")}\n`);
rmSync(work, { recursive: true, force: true });
process.exitCode = faults === 0 ? 0 : 1;
