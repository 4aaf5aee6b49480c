#!/usr/bin/env node
// Runs in small VMs what this machine's kernel lacks: every test/vm/*.vm.json names tests, and the kind of VM that they need.
//   node scripts/test-vm.mjs [NAME...] [-t PATTERN] [--kernel K] [--list]      (default: all suites)
// Suites that need the same kind of VM share one, one after the other; a table at the end says how each of them went.
// The VM runner is found at $WHERRY_VM_RUN or ../shared/vm/vm-run; without it everything is skipped, and the reason printed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildNative } from "./build-native.mjs";
import { bundleTests } from "./vm-bundle.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "test/vm");
/** What `vm-run` answers when the VM itself failed, and when its time was over. */
const VM_FAILED = 125;
const VM_TIMED_OUT = 124;
const bootMinutes = 10;
const kernels = { bookworm: "6.1", backports: "6.12", bullseye: "5.10", uml: "6.1 as a process" };

/** Path of the VM runner, or why there is none. */
export function findVmRun() {
  const given = process.env.WHERRY_VM_RUN;
  const path = given === undefined || given === "" ? resolve(root, "../shared/vm/vm-run") : given;
  if (!existsSync(path)) return { reason: `no VM runner at ${given ? path : "../shared/vm/vm-run"} (WHERRY_VM_RUN names another)` };
  if (process.getuid?.() !== 0) return { reason: "the VM runner needs root" };
  return { path };
}

/** The suites: file name without its ending → { why, vm: the kind of VM, limitMinutes, tests, tmp: for temporary files }. */
export function vmSuites() {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".vm.json"))
    .sort()
    .map((name) => {
      const { vm = {}, limitMinutes = 15, tmp = "/run", memoryMiB = 2048, ...rest } = JSON.parse(readFileSync(join(folder, name), "utf8"));
      return {
        name: name.slice(0, -".vm.json".length),
        ...rest,
        kernel: vm.kernel ?? "bookworm",
        systemd: vm.systemd === true,
        zfs: vm.zfs === true,
        limitMinutes,
        tmp,
        memoryMiB,
      };
    });
}

/** Suites that run in the same VM. */
export function groupSuites(suites) {
  const groups = new Map();
  for (const suite of suites) {
    const key = [suite.kernel, suite.systemd ? "systemd" : "", suite.zfs ? "zfs" : ""].filter(Boolean).join("+");
    groups.set(key, [...(groups.get(key) ?? []), suite]);
  }
  return groups;
}

/** Boots one VM and runs its suites; the rows of the table. */
async function runGroup(vmRun, key, suites, { helper, pattern }) {
  const results = join(root, "dist/vm", key);
  rmSync(results, { recursive: true, force: true });
  mkdirSync(results, { recursive: true });
  const bundled = join(results, "tests");
  const tests = [...new Set(suites.flatMap((suite) => suite.tests))];
  const files = await bundleTests(root, tests, bundled);
  const guests = suites.map((suite) => ({ ...suite, tests: suite.tests.map((test) => files[tests.indexOf(test)]) }));
  writeFileSync(join(results, "suites.json"), JSON.stringify({ helper, config: join(bundled, "vitest.config.mjs"), suites: guests }));
  const [{ kernel, systemd, zfs }] = suites;
  const minutes = bootMinutes + suites.reduce((sum, { limitMinutes }) => sum + limitMinutes, 0);
  // On a busy host an emulated timer may not tick in time for the kernel's check of it, which panics then.
  const options = ["--append", "no_timer_check", "--kernel", kernel, ...(systemd ? ["--systemd"] : []), ...(zfs ? ["--zfs"] : [])];
  options.push("--mem", String(Math.max(...suites.map(({ memoryMiB }) => memoryMiB))), "--timeout", String(minutes * 60));
  console.log(`\n=== VM ${key} (Linux ${kernels[kernel] ?? kernel}): ${suites.map(({ name }) => name).join(", ")}; at most ${minutes} minutes`);
  const command = ["node", "scripts/vm-guest.mjs", results, ...(pattern === undefined ? [] : ["-t", pattern])];
  const boot = () => spawnSync(vmRun, [...options, "--", ...command], { cwd: root, stdio: ["ignore", "inherit", "inherit"] }).status ?? VM_FAILED;
  let status = boot();
  if (status === VM_FAILED && !suites.some(({ name }) => existsSync(join(results, `${name}.ndjson`)))) {
    console.log(`--- the VM did not come up: once more`);
    status = boot();
  }
  return suites.map((suite) => rowOf(suite, key, join(results, `${suite.name}.ndjson`), status));
}

/** What one suite came to. */
function rowOf({ name, limitMinutes }, vm, file, vmStatus) {
  const lines = existsSync(file)
    ? readFileSync(file, "utf8")
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line))
    : [];
  const of = (state) => lines.filter((line) => line.state === state);
  const end = of("suite")[0];
  const row = { name, vm, passed: of("passed").length, failed: of("failed"), skipped: of("skipped").length, seconds: end?.seconds };
  const trouble =
    end?.timedOut === true
      ? `stopped after its limit of ${limitMinutes} minutes`
      : end !== undefined && of("ended").length === 1
        ? end.status !== 0 && row.failed.length === 0
          ? `vitest ended with ${end.status}`
          : undefined
        : end !== undefined
          ? `vitest did not end properly (${end.status})`
          : vmStatus === VM_TIMED_OUT
            ? "the VM's time was over"
            : `the VM ended before the suite did (${vmStatus})`;
  return { ...row, trouble, ok: trouble === undefined && row.failed.length === 0 && row.passed > 0 };
}

function printTable(rows) {
  const table = [["suite", "VM", "passed", "failed", "skipped", "time", ""]];
  for (const { name, vm, passed, failed, skipped, seconds, trouble, ok } of rows) {
    const time = seconds === undefined ? "-" : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    table.push([
      name,
      vm,
      String(passed),
      String(failed.length),
      String(skipped),
      time,
      ok ? "ok" : (trouble ?? (passed + failed.length === 0 ? "nothing ran" : "FAILED")),
    ]);
  }
  const widths = table[0].map((_, i) => Math.max(...table.map((line) => line[i].length)));
  console.log(
    `\n${table
      .map((line) =>
        line
          .map((cell, i) => cell.padEnd(widths[i]))
          .join("  ")
          .trimEnd(),
      )
      .join("\n")}`,
  );
  for (const { name, failed } of rows) for (const { name: test, why = "" } of failed) console.log(`FAILED ${name}: ${test}\n    ${why.split("\n")[0]}`);
}

async function main() {
  const { values, positionals: names } = parseArgs({
    allowPositionals: true,
    options: { pattern: { type: "string", short: "t" }, kernel: { type: "string" }, list: { type: "boolean" } },
  });
  const all = vmSuites().map((suite) => (values.kernel === undefined ? suite : { ...suite, kernel: values.kernel }));
  const unknown = names.filter((name) => !all.some((suite) => suite.name === name));
  if (unknown.length > 0) {
    console.error(`no such suite: ${unknown.join(", ")} (there are: ${all.map(({ name }) => name).join(", ")})`);
    return 1;
  }
  const groups = groupSuites(all.filter(({ name }) => names.length === 0 || names.includes(name)));
  if (values.list === true) {
    for (const [key, suites] of groups) for (const { name, why } of suites) console.log(`${name} (${key}): ${why}`);
    return 0;
  }
  const found = findVmRun();
  if (found.reason !== undefined) {
    console.log(`skipped: ${found.reason}`);
    return 0;
  }
  const options = { helper: buildNative(join(root, "dist/bin")), pattern: values.pattern };
  const rows = [];
  for (const [key, suites] of groups) rows.push(...(await runGroup(found.path, key, suites, options)));
  printTable(rows);
  return rows.every(({ ok }) => ok) ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exit(await main());
