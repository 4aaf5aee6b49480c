/** `npm run conformance -- [--runtime PROGRAM]… [--only REGEXP] [--json FILE]`: the table. Default: wherry-runtime, and Debian's runc and crun where they run. @module */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { commandOf, whyNot, wherryRuntime } from "../integration/oci-runtime.fixture.ts";
import { conformance, conformanceTable, type Result } from "./suite.ts";

const { values } = parseArgs({ options: { runtime: { type: "string", multiple: true }, only: { type: "string" }, json: { type: "string" } } });
const byRuntime = new Map<string, Result[]>();
for (const name of values.runtime ?? ["wherry-runtime", "runc", "crun"]) {
  const program = name === "wherry-runtime" ? wherryRuntime : name;
  const why = whyNot(program);
  if (why !== undefined) {
    console.error(`${name}: left out: ${why}`);
    continue;
  }
  byRuntime.set(name, await conformance(commandOf(program), new RegExp(values.only ?? "")));
}
process.stdout.write(conformanceTable(byRuntime));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(Object.fromEntries(byRuntime), undefined, 2)}\n`);
