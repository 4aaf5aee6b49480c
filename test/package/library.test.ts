// The README's program runs: one import, no daemon.
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";

const root = dirname(dirname(import.meta.dirname));
const work = mkdtempSync(join(tmpdir(), "wherry-library-"));
afterAll(() => rmSync(work, { recursive: true, force: true }));

test("the README's program for Node prints what its container printed", async () => {
  const code = /```js\n([\s\S]*?)```/.exec(readFileSync(join(root, "README.md"), "utf8"))?.[1];
  expect(code).toContain("openEngine");
  mkdirSync(join(work, "node_modules"));
  symlinkSync(root, join(work, "node_modules/wherry"));
  writeFileSync(join(work, "package.json"), JSON.stringify({ type: "module" }));
  writeFileSync(join(work, "use.js"), (code ?? "").replace("/var/lib/mine", join(work, "data")).replace("/run/mine", join(work, "run")));
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ["use.js"], { cwd: work, timeout: 60_000 });
  expect([stdout, stderr]).toEqual(["hi\nexit code 0\n", ""]);
});
