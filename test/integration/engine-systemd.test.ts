/** A daemon whose containers' cgroups are systemd's (`--exec-opt native.cgroupdriver=systemd`), from create to the last trace. Needs systemd as pid 1 on cgroup v2: test/vm. */
import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { probeHost } from "#linux/probe-host.ts";
import { TestDaemon, whyNot, wherryPath } from "../compat/daemon.ts";
import { ok, run } from "../compat/run.ts";
import { patient } from "../patience.ts";
import { until } from "./engine-setup.ts";

const { cgroup } = await probeHost();
const reason =
  whyNot() ??
  (cgroup.mode !== "v2" || !existsSync("/run/systemd/system") ? "needs systemd as pid 1 on cgroup v2; scripts/test-vm.mjs runs it in a VM" : undefined);

if (reason !== undefined) test.skip(`an engine with the cgroup driver systemd: ${reason}`, () => undefined);
else
  describe("an engine with the cgroup driver systemd", () => {
    const name = `wherryengine${randomBytes(3).toString("hex")}`;
    const slice = `${name}-a.slice`;
    const sliceDir = `/sys/fs/cgroup/${name}.slice/${slice}`;
    const daemon = new TestDaemon({ args: ["--exec-opt", "native.cgroupdriver=systemd", "--cgroup-parent", slice] });
    const options = { env: { WHERRY_HOST: daemon.host }, timeoutMs: patient(60_000) };
    const wherry = (...args: string[]) => ok([wherryPath, ...args], options);
    const inspect = async (id: string, format: string) => wherry("inspect", "--format", format, id);
    const limits = ["--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--pids-limit", "40", "--cpuset-cpus", "0"];

    const units = () => readdirSync(sliceDir).filter((entry) => entry.endsWith(".scope"));
    const scopeOf = (id: string) => units().find((unit) => unit.endsWith(`-${id}.scope`)) ?? `no scope of ${id} among ${units().join(" ")}`;
    const file = (id: string, control: string) => readFileSync(`${sliceDir}/${scopeOf(id)}/${control}`, "utf8").trim();
    const show = (unit: string, ...properties: string[]) =>
      execFileSync("systemctl", ["show", unit, "--value", ...properties.map((property) => `--property=${property}`)], { encoding: "utf8" })
        .trim()
        .split(/\n+/);

    beforeAll(async () => {
      await daemon.start();
      await wherry("image", "bootstrap", "busybox");
    });
    afterAll(async () => {
      const left = await daemon.stop();
      expect(existsSync(sliceDir) ? units() : []).toEqual([]);
      expect(execFileSync("systemctl", ["list-units", "--all", "--plain", "--no-legend", "*.scope"], { encoding: "utf8" })).not.toContain(slice);
      spawnSync("systemctl", ["stop", slice, `${name}.slice`]);
      expect(left).toEqual([]);
    });

    test("info names it", async () => {
      expect(await wherry("info", "--format", "{{.CgroupDriver}} {{.CgroupVersion}}")).toBe("systemd 2");
    });

    test("a container is a scope in its slice, with its limits and every controller that was passed on", async () => {
      const conf = ["--cgroup-conf", "memory.high=50331648", "--cgroup-conf", "memory.oom.group=1"];
      const id = await wherry("run", "-d", "--network", "none", ...limits, ...conf, "busybox", "sleep", "1000");
      const unit = scopeOf(id);
      expect(show(unit, "ActiveState")).toEqual(["active"]);
      expect(show(unit, "Slice", "Delegate")).toEqual(expect.arrayContaining([slice, "yes"]));
      expect(show(unit, "MemoryMax")).toEqual([String(64 << 20)]);
      expect(show(unit, "MemoryHigh")).toEqual(["50331648"]);
      expect(show(unit, "CPUQuotaPerSecUSec")).toEqual(["500ms"]);
      expect(show(unit, "TasksMax")).toEqual(["40"]);
      expect(show(unit, "AllowedCPUs")).toEqual(["0"]);
      expect([file(id, "memory.max"), file(id, "memory.high"), file(id, "memory.oom.group"), file(id, "pids.max"), file(id, "cpu.max")]).toEqual([
        String(64 << 20),
        "50331648",
        "1",
        "40",
        "50000 100000",
      ]);
      // Top-down: each cgroup above passes them on.
      for (const above of ["/sys/fs/cgroup", `/sys/fs/cgroup/${name}.slice`, sliceDir])
        for (const controller of ["cpu", "cpuset", "io", "memory", "pids"])
          expect(readFileSync(`${above}/cgroup.subtree_control`, "utf8").split(/\s+/)).toContain(controller);
      const pid = await inspect(id, "{{.State.Pid}}");
      expect(readFileSync(`/proc/${pid}/cgroup`, "utf8").trim()).toBe(`0::/${name}.slice/${slice}/${unit}`);
      expect(await wherry("exec", id, "cat", "/proc/self/cgroup")).toBe("0::/");
      expect(file(id, "cgroup.procs").split("\n")).toEqual([pid]);

      await wherry("update", "--memory", "96m", "--memory-swap", "96m", "--pids-limit", "50", "--cpus", "0.25", id);
      execFileSync("systemctl", ["daemon-reload"]);
      expect(show(unit, "MemoryMax")).toEqual([String(96 << 20)]);
      expect(show(unit, "TasksMax")).toEqual(["50"]);
      expect([file(id, "memory.max"), file(id, "pids.max"), file(id, "cpu.max")]).toEqual([String(96 << 20), "50", "25000 100000"]);

      await wherry("pause", id);
      expect(file(id, "cgroup.events")).toContain("frozen 1");
      expect(await inspect(id, "{{.State.Status}}")).toBe("paused");
      await wherry("unpause", id);
      expect(file(id, "cgroup.events")).toContain("frozen 0");

      const stats = (await daemon.api("GET", `/containers/${id}/stats?stream=0&one-shot=1`)).json<{
        memory_stats: { limit: number; usage: number };
        pids_stats: { current: number; limit: number };
        cpu_stats: { cpu_usage: { total_usage: number } };
      }>();
      expect(stats.memory_stats.limit).toBe(96 << 20);
      expect(stats.memory_stats.usage).toBeGreaterThan(0);
      expect(stats.pids_stats).toMatchObject({ current: 1, limit: 50 });
      expect(stats.cpu_stats.cpu_usage.total_usage).toBeGreaterThan(0);

      await wherry("kill", id);
      await until(async () => (await inspect(id, "{{.State.Status}}")) === "exited");
      expect(await inspect(id, "{{.State.ExitCode}}")).toBe("137");
      await until(() => !existsSync(`${sliceDir}/${unit}`));
      // A scope of the same name again.
      await wherry("start", id);
      expect([file(id, "memory.max"), file(id, "memory.high")]).toEqual([String(96 << 20), "50331648"]);
      await wherry("rm", "-f", id);
      await until(() => units().length === 0);
      await expect.poll(() => show(unit, "LoadState")).toEqual(["not-found"]);
    });

    test("a cgroup that is handed on: the container makes cgroups of its own below, with controllers", async () => {
      const script = `cd /sys/fs/cgroup; mkdir own; echo 1 > own/cgroup.procs; echo $$ > own/cgroup.procs
        echo "+pids +memory" > cgroup.subtree_control && mkdir other && cat other/pids.max && echo 7 > other/pids.max && cat other/pids.max`;
      expect(await wherry("run", "--rm", "--network", "none", "--security-opt", "writable-cgroups=true", "busybox", "sh", "-c", script)).toBe("max\n7");
      await until(() => units().length === 0);
    });

    test("out of memory: one process is killed, or with memory.oom.group all of them", async () => {
      const memory = ["--memory", "24m", "--memory-swap", "24m"];
      const script = "head -c 300m /dev/zero | tail -c 299m >/dev/null; echo survived";
      expect(await wherry("run", "--rm", "--network", "none", ...memory, "busybox", "sh", "-c", script)).toBe("survived");
      const all = await run(
        [wherryPath, "run", "--name", "oomgroup", "--network", "none", ...memory, "--cgroup-conf", "memory.oom.group=1", "busybox", "sh", "-c", script],
        options,
      );
      expect([all.code, all.stdout]).toEqual([137, ""]);
      expect(await inspect("oomgroup", "{{.State.OOMKilled}}")).toBe("true");
      await wherry("rm", "oomgroup");
    });

    test("a daemon that was killed finds its scopes again, and sweeps those that nobody needs", async () => {
      const [stays, ends] = [
        await wherry("run", "-d", "--network", "none", ...limits, "busybox", "sleep", "1000"),
        await wherry("run", "-d", "--network", "none", "busybox", "sleep", "1000"),
      ];
      const pid = Number(await inspect(ends, "{{.State.Pid}}"));
      const [kept, swept] = [scopeOf(stays), scopeOf(ends)];
      await daemon.kill("SIGKILL");
      process.kill(pid, "SIGKILL");
      // A scope of this engine without a container.
      const orphan = `${kept.slice(0, -`${stays}.scope`.length)}${"ab".repeat(32)}.scope`;
      execFileSync("systemd-run", ["--scope", `--unit=${orphan}`, `--slice=${slice}`, "sh", "-c", "sleep 1000 & exit 0"], { stdio: "ignore" });
      expect(show(orphan, "ActiveState")).toEqual(["active"]);
      await daemon.start();
      expect(await inspect(stays, "{{.State.Status}}")).toBe("running");
      await until(async () => (await inspect(ends, "{{.State.Status}}")) === "exited");
      expect(await inspect(ends, "{{.State.ExitCode}}")).toBe("137");
      await until(() => units().join() === kept);
      for (const unit of [swept, orphan]) await expect.poll(() => show(unit, "LoadState")).toEqual(["not-found"]);
      await wherry("update", "--memory", "80m", "--memory-swap", "80m", stays);
      expect([show(kept, "MemoryMax")[0], file(stays, "memory.max")]).toEqual([String(80 << 20), String(80 << 20)]);
      await wherry("stop", "-t", "0", stays);
      expect(await inspect(stays, "{{.State.ExitCode}}")).toBe("137");
      await until(() => units().length === 0);
    });
  });
