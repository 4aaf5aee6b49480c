import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openCgroups } from "#cgroup/mod.ts";
import { probeHost } from "#linux/probe-host.ts";
import { patient } from "../patience.ts";
import { cgroupManagerSuite } from "./cgroup-manager.suite.ts";
import { nativeHelper } from "./native-helper.ts";

const facts = await probeHost();
const booted = existsSync("/run/systemd/system");
const reason =
  process.getuid?.() !== 0
    ? "needs root"
    : booted && facts.cgroup.mode === "v2"
      ? undefined
      : "needs systemd as pid 1 on cgroup v2; scripts/test-vm.mjs runs it in a VM";

if (!booted)
  test("where systemd is not the first process the driver is refused with a reason", () => {
    expect(() => openCgroups(facts, { driver: "systemd", helperPath: "/nowhere" })).toThrow("needs systemd as the first process");
  });

if (reason !== undefined) test.skip(`CgroupManager systemd: ${reason}`, () => undefined);
else {
  const helperPath = nativeHelper();
  cgroupManagerSuite("systemd", {
    facts,
    helperPath,
    driver: "systemd",
    controls: { memory: "memory.max", pids: "pids.max", shares: { file: "cpu.weight", of2048: "174" } },
  });

  describe("the driver systemd", () => {
    const show = (unit: string, ...names: string[]) =>
      Object.fromEntries(
        execFileSync("systemctl", ["show", unit, ...names.map((name) => `--property=${name}`)], { encoding: "utf8" })
          .trim()
          .split("\n")
          .map((line) => line.split("=", 2)),
      ) as Record<string, string>;
    const id = "ab".repeat(32);

    test("scope, slice and limits are systemd's, stay after daemon-reload, change, and go", async () => {
      const cgroups = openCgroups(facts, { driver: "systemd", helperPath });
      const parent = "wherryown-a.slice";
      await cgroups.prepare(parent);
      const limits = { memory: { limit: 64 << 20 }, cpu: { shares: 2048, quota: 50_000, period: 100_000, cpus: "0" }, pids: { limit: 9 } };
      const plan = cgroups.plan(parent, id, limits, 1);
      const held = await cgroups.hold?.(plan);
      const dir = `/sys/fs/cgroup/wherryown.slice/wherryown-a.slice/wherry-${id}.scope`;
      expect(plan.paths).toEqual({ version: 2, dirs: { "": dir }, unit: `wherry-${id}.scope` });
      const unit = `wherry-${id}.scope`;
      const properties = ["ActiveState", "Slice", "Delegate", "MemoryMax", "CPUWeight", "CPUQuotaPerSecUSec", "TasksMax", "AllowedCPUs"];
      const expected = {
        ActiveState: "active",
        Slice: parent,
        Delegate: "yes",
        MemoryMax: String(64 << 20),
        CPUWeight: "174",
        CPUQuotaPerSecUSec: "500ms",
        TasksMax: "9",
        AllowedCPUs: "0",
      };
      expect(show(unit, ...properties)).toEqual(expected);
      await cgroups.update(plan.paths, { memory: { limit: 32 << 20 }, pids: { limit: -1 } });
      execFileSync("systemctl", ["daemon-reload"]);
      expect(show(unit, ...properties)).toEqual({ ...expected, MemoryMax: String(32 << 20), TasksMax: "infinity" });
      expect(readFileSync(`${dir}/memory.max`, "utf8")).toBe(`${32 << 20}\n`);
      expect(readFileSync(`${dir}/cgroup.controllers`, "utf8")).toMatch(/cpu.*memory.*pids/);
      await expect(cgroups.hold?.(plan)).rejects.toThrow(/systemd cannot start .*already/);
      await held?.release();
      await cgroups.remove(plan.paths);
      expect(existsSync(dir)).toBe(false);
      expect(show(unit, "LoadState")).toEqual({ LoadState: "not-found" });
      await cgroups.close();
    });

    test("a parent that is no slice is refused, as dockerd does", () => {
      const cgroups = openCgroups(facts, { driver: "systemd", helperPath });
      for (const parent of ["/foo", "foo", "a/b.slice", "-a.slice", "a--b.slice", "../x.slice"])
        expect(() => cgroups.plan(parent, id, {}, 1)).toThrow('should be a valid slice named as "xxx.slice"');
    });

    test("a launch that never came leaves nothing", async () => {
      const folder = await mkdtemp(join(tmpdir(), "wherry-systemd-"));
      const cgroups = openCgroups(facts, { driver: "systemd", helperPath, dataRoot: folder });
      await cgroups.prepare();
      const plan = cgroups.plan("", id, {}, 1);
      await (await cgroups.hold?.(plan))?.release();
      await expect.poll(() => existsSync(plan.paths.dirs[""] ?? ""), { timeout: patient(10_000) }).toBe(false);
      await cgroups.remove(plan.paths);
      await rm(folder, { recursive: true });
    });
  });
}
