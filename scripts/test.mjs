#!/usr/bin/env node
// `npm test [-- vitest arguments]`: sets everything up and runs all tests.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ensureBuild, ensureDependencies, root } from "./setup.mjs";

ensureDependencies();
ensureBuild();
const env = { ...process.env };
delete env.NODE_EXTRA_CA_CERTS; // 60 ms at every Node start, and no test leaves this machine
const r = spawnSync(process.execPath, [join(root, "node_modules/vitest/vitest.mjs"), "run", ...process.argv.slice(2)], { cwd: root, stdio: "inherit", env });
process.exit(r.status ?? 1);
