/**
 * `npm run conformance -- [--runtime PROGRAM]… [--only REGEXP] [--json FILE]`: one table, a column a runtime: wherry-runtime in processes of its own and
 * beside a warm daemon, and Debian's runc and crun where they run. Columns are filled at the same time, each in a thread, as many as there are CPUs.
 * @module
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { commandOf, RuntimeUnderTest, whyNot, wherryRuntime } from "../integration/oci-runtime.fixture.ts";
import { startWarmDaemon } from "../integration/warm-daemon.fixture.ts";
import { conformance, conformanceTable, type Result } from "./suite.ts";

const COLD = "wherry (no daemon)";
const WARM = "wherry (warm daemon)";

interface Column {
  readonly name: string;
  readonly only: string;
}

/** What a thread answers; `note` is for people. */
interface Filled {
  /** undefined: it is left out, and the note says why. */
  readonly results?: readonly Result[];
  readonly note?: string;
}

async function fill({ name, only }: Column): Promise<Filled> {
  const which = new RegExp(only);
  // Without a daemon it must find none, either.
  if (name === COLD) return { results: await conformance(["env", "WHERRY_HOST=unix:///nonexistent/wherry.sock", wherryRuntime], which) };
  if (name === WARM) return await fillWarm(which);
  const why = whyNot(name);
  return why === undefined ? { results: await conformance(commandOf(name), which) } : { note: `left out: ${why}` };
}

/** Says how many commands needed a process of their own all the same: else a column that is called warm might be the cold one once more. */
async function fillWarm(only: RegExp): Promise<Filled> {
  const directory = mkdtempSync(join(tmpdir(), "wherry-conformance-warm-"));
  const [node, log] = [join(directory, "node"), join(directory, "log")];
  writeFileSync(node, `#!/bin/sh\necho "$*" >>${log}\nexec ${process.execPath} "$@"\n`, { mode: 0o755 });
  const daemon = await startWarmDaemon();
  try {
    await awaitWarm(daemon.host);
    const results = await conformance(["env", `WHERRY_HOST=${daemon.host}`, `WHERRY_NODE=${node}`, wherryRuntime], only);
    const own = existsSync(log) ? readFileSync(log, "utf8").trim().split("\n").length : 0;
    return { results, note: `${own} commands were not for the daemon, and ran in processes of their own` };
  } finally {
    await daemon.stop();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The first command wakes the daemon's thread for the runtime; until it listens, commands run by themselves. */
async function awaitWarm(host: string): Promise<void> {
  const runtime = new RuntimeUnderTest(["env", `WHERRY_HOST=${host}`, "WHERRY_NODE=/nonexistent/node", wherryRuntime]);
  try {
    for (let tries = 0; !runtime.call(["state", "nobody"]).stderr.includes("does not exist"); tries++) {
      if (tries > 200) throw new Error("the daemon does not answer for the runtime");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  } finally {
    runtime.dispose();
  }
}

function inThread(column: Column): Promise<Filled> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: column });
    worker.once("message", resolve);
    worker.once("error", reject);
  });
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { runtime: { type: "string", multiple: true }, only: { type: "string" }, json: { type: "string" } } });
  const names = values.runtime ?? [COLD, WARM, "runc", "crun"];
  const filled = new Map<string, Filled>();
  const waiting = [...names];
  const fillNext = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) filled.set(name, await inThread({ name, only: values.only ?? "" }));
  };
  await Promise.all(Array.from({ length: availableParallelism() }, fillNext));
  const byRuntime = new Map<string, readonly Result[]>();
  for (const name of names) {
    const { results, note } = filled.get(name) ?? {};
    if (results !== undefined) byRuntime.set(name, results);
    if (note !== undefined) console.error(`${name}: ${note}`);
  }
  process.stdout.write(conformanceTable(byRuntime));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(Object.fromEntries(byRuntime), undefined, 2)}\n`);
}

if (isMainThread) await main();
else parentPort?.postMessage(await fill(workerData as Column)); // what inThread gave it
