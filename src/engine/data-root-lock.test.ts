import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lockDataRoot, processStartTime } from "./data-root-lock.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "wherry-lock-"));
});
afterEach(() => rm(root, { recursive: true }));

test("a second owner is refused and told who has it; after release it may", async () => {
  const release = await lockDataRoot(root, "/run/somewhere");
  await expect(lockDataRoot(root, "/run/other")).rejects.toMatchObject({
    code: "conflict",
    message: `the data root ${root} belongs to process ${process.pid}, which is running`,
    details: { execRoot: "/run/somewhere" },
  });
  await release();
  await (await lockDataRoot(root, "/run/other"))();
});

test("a lock of a dead process, of another boot, or torn, is taken over", async () => {
  const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
  const startTime = await processStartTime(process.pid);
  let number = 0;
  for (const stale of [JSON.stringify({ pid: process.pid, startTime: "1", boot }), JSON.stringify({ pid: process.pid, startTime, boot: "x" }), '{"pid":', ""]) {
    await writeFile(join(root, `wherry.lock.${++number}`), stale);
    await (await lockDataRoot(root, "/run/x"))();
    expect(await readdir(root)).toEqual([`wherry.lock.${++number}`]);
  }
});

test("of many that race for a stale lock, one gets it", async () => {
  await writeFile(join(root, "wherry.lock.9"), "");
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => lockDataRoot(root, "/run/x")));
  expect(results.filter((r) => r.status === "fulfilled")).toHaveLength(1);
  expect(await readdir(root)).toEqual(["wherry.lock.10"]);
});
