/** `npm run conformance -- [--runtime PROGRAM]… [--only REGEXP] [--json FILE]`: the table. Default: wherry-runtime without and beside a daemon, and Debian's runc and crun where they run. @module */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { commandOf, whyNot, wherryRuntime } from "../integration/oci-runtime.fixture.ts";
import { startWarmDaemon } from "../integration/warm-daemon.fixture.ts";
import { conformance, conformanceTable, type Result } from "./suite.ts";

const { values } = parseArgs({ options: { runtime: { type: "string", multiple: true }, only: { type: "string" }, json: { type: "string" } } });
const byRuntime = new Map<string, Result[]>();
const only = new RegExp(values.only ?? "");
const WARM = "wherry-runtime (warm)";
for (const name of values.runtime ?? ["wherry-runtime", WARM, "runc", "crun"]) {
  if (name === "wherry-runtime" || name === WARM) {
    const daemon = name === WARM ? await startWarmDaemon() : undefined;
    // Without one it must find none, either.
    byRuntime.set(name, await conformance(["env", `WHERRY_HOST=${daemon?.host ?? "unix:///nonexistent/wherry.sock"}`, wherryRuntime], only));
    await daemon?.stop();
    continue;
  }
  const why = whyNot(name);
  if (why !== undefined) {
    console.error(`${name}: left out: ${why}`);
    continue;
  }
  byRuntime.set(name, await conformance(commandOf(name), only));
}
process.stdout.write(conformanceTable(byRuntime));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(Object.fromEntries(byRuntime), undefined, 2)}\n`);
