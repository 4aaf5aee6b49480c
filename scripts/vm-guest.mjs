// Runs suites one after the other inside of a VM that test-vm.mjs has started:
//   node scripts/vm-guest.mjs FOLDER [vitest arguments]
// FOLDER/suites.json says which; FOLDER/NAME.ndjson gets the results (vm-reporter.mjs).
import { spawnSync } from "node:child_process";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";

const [folder, ...more] = process.argv.slice(2);
const { helper, config, suites } = JSON.parse(readFileSync(join(folder, "suites.json"), "utf8"));
for (const { name, why, tests, limitMinutes, tmp } of suites) {
  console.log(`\n--- ${name}: ${why}`);
  const results = join(folder, `${name}.ndjson`);
  const env = { ...process.env, WHERRY_HELPER: helper, WHERRY_IN_VM: "1", WHERRY_VM_RESULTS: results, TMPDIR: tmp };
  const vitest = [
    "node_modules/vitest/vitest.mjs",
    "run",
    "--config",
    config,
    "--configLoader",
    "native",
    "--reporter",
    "verbose",
    "--reporter",
    "./scripts/vm-reporter.mjs",
  ];
  const started = Date.now();
  // timeout(1) ends the whole group of processes. By way of cat: on a terminal, as User-Mode Linux has it, vitest would paint a screen.
  const limited = ["-k", "20", String(limitMinutes * 60), "bash", "-o", "pipefail", "-c", '"$@" | cat', "vitest"];
  const { status, signal } = spawnSync("timeout", [...limited, process.execPath, ...vitest, ...tests, ...more], { env, stdio: "inherit" });
  const seconds = Math.round((Date.now() - started) / 1000);
  const timedOut = status === 124 || status === 137 || signal !== null;
  if (timedOut) console.log(`--- ${name}: stopped after its limit of ${limitMinutes} minutes`);
  appendFileSync(results, `${JSON.stringify({ state: "suite", seconds, status, timedOut })}\n`);
}
