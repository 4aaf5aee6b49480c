/**
 * What every {@link CgroupManager} must do, on the real kernel: plans are performed by the real helper.
 * @module
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type CgroupDriver, type CgroupManager, type CgroupPaths, openCgroups } from "#cgroup/mod.ts";
import type { OciResources } from "#core/runtime-spec.ts";
import type { ExitRecord, Helper, MonitorLink } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { deviceRules } from "#runtime/mod.ts";
import { patience, patient } from "../patience.ts";

const MiB = 1024 * 1024;

export interface CgroupSuite {
  readonly facts: HostFacts;
  readonly helperPath: string;
  /** Default "cgroupfs". */
  readonly driver?: CgroupDriver;
  /** A control file's text in the first directory that has it. */
  readonly controls: { readonly memory: string; readonly pids: string; readonly shares: { readonly file: string; readonly of2048: string } };
}

/** A process in a cgroup. */
interface Running {
  readonly id: string;
  readonly paths: CgroupPaths;
  readonly link: MonitorLink;
  readonly warnings: readonly string[];
  /** What it wrote. */
  output(): Promise<string>;
  end(): Promise<ExitRecord>;
}

export function cgroupManagerSuite(name: string, { facts, helperPath, controls, driver = "cgroupfs" }: CgroupSuite): void {
  const parent = driver === "systemd" ? `wherryt${process.pid}.slice` : `/wherry-t-${process.pid}-${name}`;
  /** What speaks of paths is not for a driver whose parents are slices. */
  const pathTest = driver === "systemd" ? test.skip : test;
  let folder: string;
  let helper: Helper;
  let cgroups: CgroupManager;
  let count = 0;
  const made: CgroupPaths[] = [];

  const stdio = { tty: false, rows: 0, columns: 0, openStdin: false, stdinOnce: false, attachGate: 0 };

  async function launch(
    script: string,
    before: readonly Step[],
    after: readonly Step[],
    slot: number,
    exitReports: readonly string[],
  ): Promise<Omit<Running, "id" | "paths" | "warnings">> {
    const base = join(folder, String(++count));
    const log = `${base}.log`;
    const steps: Step[] = [
      ...before,
      { op: "clone", where: "host", flags: 0n, cgroup: slot, why: "the process" },
      ...after,
      { op: "signal", where: "host", id: 2, why: "joined" },
      { op: "await", where: "child", id: 2, why: "until it is joined" },
      { op: "setsid", where: "child", why: "a session" },
      { op: "stdio", where: "child", console: 0, why: "its output" },
      { op: "exec", where: "child", paths: ["/bin/sh"], argv: ["sh", "-c", script], envp: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], why: "the program" },
    ];
    const link = await helper.launch({
      plan: { steps },
      stdio: { ...stdio, log: { path: log, maxBytes: 0, maxFiles: 1 } },
      socketPath: `${base}.sock`,
      exitPath: `${base}.exit`,
      pidPath: `${base}.pid`,
      exitReports,
    });
    return {
      link,
      output: async () => {
        await link.flush().catch(() => undefined); // it may have ended: then all is written
        const text = existsSync(log) ? await readFile(log, "utf8") : "";
        return text
          .split("\n")
          .filter(Boolean)
          .map((line) => (JSON.parse(line) as { log: string }).log)
          .join("");
      },
      end: () => link.exited,
    };
  }

  async function run(script: string, resources: OciResources = {}): Promise<Running> {
    const id = `${process.pid}0${count}`.padStart(64, "0");
    const plan = cgroups.plan("", id, resources, 1);
    made.push(plan.paths);
    const held = await cgroups.hold?.(plan);
    const started = await launch(
      script,
      [...plan.create, ...(plan.cloneInto?.steps ?? [])],
      plan.join,
      plan.cloneInto?.slot ?? NO_SLOT,
      plan.exitReports,
    ).finally(() => held?.release());
    return { ...started, id, paths: plan.paths, warnings: plan.warnings };
  }

  async function control({ dirs }: CgroupPaths, file: string): Promise<string> {
    for (const dir of Object.values(dirs)) if (existsSync(`${dir}/${file}`)) return (await readFile(`${dir}/${file}`, "utf8")).trim();
    throw new Error(`no ${file} in ${Object.values(dirs).join(" ")}`);
  }

  /** Directories that are left. */
  const left = ({ dirs }: CgroupPaths) => Object.values(dirs).filter((dir) => existsSync(dir));

  async function finish({ paths, link }: Running): Promise<void> {
    await cgroups.kill(paths);
    await link.exited;
    await cgroups.remove(paths);
    expect(left(paths)).toEqual([]);
  }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "wherry-cgroup-"));
    helper = await startHelper({ helperPath, execRoot: folder, log: (line) => console.error(line) });
    cgroups = openCgroups(facts, { parent, driver, helperPath });
    await cgroups.prepare();
  });

  afterAll(async () => {
    for (const paths of made) {
      if (left(paths).length === 0) continue;
      await cgroups.kill(paths);
      await cgroups.remove(paths);
    }
    const home = Object.entries(made[0]?.dirs ?? {}).map(([key, dir]) => [key, dir.slice(0, dir.lastIndexOf("/"))] as const);
    if (home.length > 0) await cgroups.remove({ version: cgroups.version, dirs: Object.fromEntries(home) });
    await helper.close();
    await rm(folder, { recursive: true, force: true });
  });

  describe(`CgroupManager ${name}`, () => {
    test("a process is born inside, its monitor stays outside, and both are gone after remove", async () => {
      const process1 = await run("exec sleep 60");
      const lines = (await readFile(`/proc/${process1.link.pid}/cgroup`, "utf8")).trim().split("\n");
      const monitor = (await readFile(`/proc/${process1.link.monitorPid}/cgroup`, "utf8")).trim();
      const own = `${parent.replace(/^\/?/, "/")}/${Object.values(process1.paths.dirs)[0]?.split("/").at(-1)}`;
      const where = lines.filter((line) => line.endsWith(`:${own}`)).length;
      expect(where).toBe(new Set(Object.values(process1.paths.dirs)).size);
      expect(monitor).not.toContain(own);
      expect(await cgroups.pids(process1.paths)).toEqual([process1.link.pid]);
      await finish(process1);
      expect((await process1.end()).signal).toBe(9);
    });

    test("limits arrive in their files", async () => {
      const running = await run("exec sleep 60", {
        memory: { limit: 64 * MiB, reservation: 32 * MiB },
        cpu: { shares: 2048, quota: 50_000, period: 100_000 },
        pids: { limit: 20 },
      });
      expect(await control(running.paths, controls.memory)).toBe(String(64 * MiB));
      expect(await control(running.paths, controls.pids)).toBe("20");
      expect(await control(running.paths, controls.shares.file)).toBe(controls.shares.of2048);
      expect(running.warnings).toEqual([]);
      await finish(running);
    });

    test("the OOM killer is told from other ends", async () => {
      const hungry = await run("head -c 300m /dev/zero | tail -c 299m | wc -c", { memory: { limit: 32 * MiB, swap: 32 * MiB } });
      const record = await hungry.end();
      expect(cgroups.wasOomKilled(record.reports)).toBe(true);
      const modest = await run("kill -9 $$", { memory: { limit: 32 * MiB } });
      const other = await modest.end();
      expect(other.signal).toBe(9);
      expect(cgroups.wasOomKilled(other.reports)).toBe(false);
      for (const each of [hungry, modest]) await cgroups.remove(each.paths);
    });

    test("half a CPU is half a CPU", async () => {
      const busy = await run("while :; do :; done", { cpu: { quota: 50_000, period: 100_000 } });
      // An emulated machine on a busy host has no peace at all: there it is told from a full CPU only.
      const least = patience === 1 ? 0.45 : 0.15;
      const shares: number[] = [];
      // Others may want the CPUs, too: two seconds of peace among twenty are enough. More than half it may never have; what the quota of
      // one period adds at the edges, and an emulated clock, must stay small against the span.
      while (shares.length < 10 && !shares.some((share) => share > least)) {
        // The clock is read outside of the usage: what lies between the readings never makes the share larger.
        const start = process.hrtime.bigint();
        const from = (await cgroups.stats(busy.paths)).cpu.usageNs;
        await sleep(2000);
        const used = (await cgroups.stats(busy.paths)).cpu.usageNs - from;
        shares.push(used / Number(process.hrtime.bigint() - start));
      }
      const throttled = (await cgroups.stats(busy.paths)).cpu.throttledPeriods;
      await finish(busy);
      expect(Math.max(...shares)).toBeGreaterThan(least);
      expect(Math.max(...shares)).toBeLessThan(0.57);
      expect(throttled).toBeGreaterThan(0);
    });

    test("a fork bomb stops at the limit of processes, and is killed to the last", async () => {
      const bomb = await run("f() { f | f & sleep 100; }; f 2>/dev/null; sleep 100", { pids: { limit: 20 } });
      await expect.poll(() => control(bomb.paths, "pids.events"), { timeout: patient(20_000) }).toMatch(/^max [1-9]/); // forks were refused
      const { pids } = await cgroups.stats(bomb.paths);
      expect(pids.limit).toBe(20);
      expect(pids.current).toBeGreaterThan(5);
      expect(pids.current).toBeLessThanOrEqual(20);
      expect((await cgroups.pids(bomb.paths)).length).toBeLessThanOrEqual(20);
      await cgroups.kill(bomb.paths);
      expect(await cgroups.pids(bomb.paths)).toEqual([]);
      await bomb.end();
      await cgroups.remove(bomb.paths);
      expect(left(bomb.paths)).toEqual([]);
    });

    test("a limit of one process leaves room for that one", async () => {
      const lonely = await run("echo alone; exec sleep 60", { pids: { limit: 1 } });
      await expect.poll(() => lonely.output(), { timeout: patient(10_000) }).toContain("alone");
      expect(await control(lonely.paths, controls.pids)).toBe("1");
      await finish(lonely);
    });

    test("only the listed devices may be opened", async () => {
      // /dev/kmsg (1:11) and /dev/null (1:3)
      const listed = await run("head -c1 /dev/null && echo null; head -c1 /dev/zero | wc -c; : </dev/kmsg && echo kmsg; mknod $1/n c 1 11 && echo made", {
        devices: deviceRules(false, [], null),
      });
      await listed.end();
      const text = await listed.output();
      expect(text).toContain("null\n1\n");
      expect(text).not.toContain("\nkmsg");
      expect(text).toMatch(/kmsg: Operation not permitted/);
      await cgroups.remove(listed.paths);
      const free = await run(": </dev/kmsg && echo kmsg", { devices: deviceRules(true, [], null) });
      await free.end();
      expect(await free.output()).toBe("kmsg\n");
      await cgroups.remove(free.paths);
    });

    test("an access that is listed in part is refused in full", async () => {
      const rules: OciResources["devices"] = [
        { allow: false, access: "rwm" },
        { allow: true, type: "c", major: 1, minor: 3, access: "r" },
        { allow: true, type: "c", major: 1, minor: 5, access: "r" },
        { allow: true, type: "c", major: 1, minor: 5, access: "w" },
      ];
      const running = await run(
        "(: </dev/null) && echo read; (: >/dev/null) || echo no write; (: <>/dev/null) || echo no both; (: <>/dev/zero) && echo zero both",
        { devices: rules },
      );
      await running.end();
      expect((await running.output()).split("\n").filter((line) => !line.includes(":"))).toEqual(["read", "no write", "no both", "zero both", ""]);
      await cgroups.remove(running.paths);
    });

    test("frozen means that nothing runs, thawed that it goes on", async () => {
      const busy = await run("while :; do :; done");
      await cgroups.freeze(busy.paths);
      const before = (await cgroups.stats(busy.paths)).cpu.usageNs;
      await sleep(200);
      expect((await cgroups.stats(busy.paths)).cpu.usageNs).toBe(before);
      await cgroups.thaw(busy.paths);
      await expect.poll(async () => (await cgroups.stats(busy.paths)).cpu.usageNs).toBeGreaterThan(before + 10_000_000);
      await cgroups.freeze(busy.paths);
      await finish(busy); // SIGKILL ends frozen processes, too
    });

    test("limits of a living cgroup go up and down", async () => {
      const running = await run("exec sleep 60", { memory: { limit: 64 * MiB, swap: 128 * MiB }, cpu: { quota: 50_000, period: 100_000 } });
      for (const limit of [512, 32, 256, 16]) {
        await cgroups.update(running.paths, { memory: { limit: limit * MiB, swap: 2 * limit * MiB } });
        expect(await control(running.paths, controls.memory)).toBe(String(limit * MiB));
      }
      await cgroups.update(running.paths, { memory: { limit: -1, swap: -1 } });
      expect((await cgroups.stats(running.paths)).memory.limit).toBe(facts.memoryBytes);
      await cgroups.update(running.paths, { cpu: { quota: 200_000, period: 200_000, shares: 2048 }, pids: { limit: 7 } });
      await cgroups.update(running.paths, { cpu: { quota: 10_000, period: 10_000 } });
      expect(await control(running.paths, controls.shares.file)).toBe(controls.shares.of2048);
      expect(await control(running.paths, controls.pids)).toBe("7");
      await cgroups.update(running.paths, { pids: { limit: -1 } });
      expect(await control(running.paths, controls.pids)).toBe("max");
      await expect(cgroups.update(running.paths, { cpu: { cpus: "100000" } })).rejects.toMatchObject({ code: "invalid" });
      await finish(running);
      await expect(cgroups.update(running.paths, { pids: { limit: 5 } })).rejects.toMatchObject({ code: "not-found" });
    });

    test("one more process joins", async () => {
      const first = await run("exec sleep 60", { pids: { limit: 20 } });
      const joined = cgroups.planJoin(first.paths, 3);
      const second = await launch("exec sleep 60", joined.cloneInto?.steps ?? [], joined.join, joined.cloneInto?.slot ?? NO_SLOT, []);
      expect((await cgroups.pids(first.paths)).sort()).toEqual([first.link.pid, second.link.pid].sort());
      await finish(first);
      await second.end();
    });

    test("stats count memory, processes and disk", async () => {
      const file = join(folder, "written");
      const running = await run(
        `dd if=/dev/zero of=${file} bs=1M count=8 oflag=direct 2>/dev/null || dd if=/dev/zero of=${file} bs=1M count=8; sync; sleep 60`,
      );
      await expect.poll(async () => existsSync(file) && (await readFile(file)).length, { timeout: patient(10_000) }).toBe(8 * MiB);
      const stats = await cgroups.stats(running.paths);
      expect(stats.memory.usage).toBeGreaterThan(0);
      expect(stats.memory.limit).toBe(facts.memoryBytes);
      expect(Object.keys(stats.memory.stats).length).toBeGreaterThan(10);
      expect(stats.pids.current).toBeGreaterThanOrEqual(1);
      expect(stats.cpu.usageNs).toBeGreaterThan(0); // user and system time are sampled at ticks on v1: a short life may have none
      if (existsSync("/proc/pressure/memory") && Object.keys(running.paths.dirs).join() === "") {
        expect(stats.pressure?.memory?.some.totalUs).toBeGreaterThanOrEqual(0);
        expect(stats.pressure?.io?.full.avg10).toBeLessThanOrEqual(100);
      }
      for (const entry of stats.blkio) expect(entry.op).toMatch(/^[A-Za-z]+$/);
      await finish(running);
    });

    test("what was made below goes as well; a missing cgroup is removed already", async () => {
      const running = await run("exec sleep 60");
      for (const dir of new Set(Object.values(running.paths.dirs))) await mkdir(`${dir}/inner/innermost`, { recursive: true });
      await finish(running);
      await cgroups.remove(running.paths);
    });

    test("a busy cgroup is not removed, and the error names who is inside", async () => {
      const running = await run("exec sleep 60");
      await expect(cgroups.remove(running.paths)).rejects.toThrow(new RegExp(`process.* ${running.link.pid}`));
      await finish(running);
    });

    test("orphans are those whose names are not known", async () => {
      const [one, two] = [await run("exec sleep 60"), await run("exec sleep 60")];
      const orphans = await cgroups.orphans(new Set([one.id]));
      expect(orphans).toEqual([two.paths]);
      for (const each of [one, two]) await finish(each);
      expect(await cgroups.orphans(new Set())).toEqual([]);
    });

    pathTest("a parent of the user's own", async () => {
      const own = `${parent}-own/a`;
      await cgroups.prepare(own);
      const plan = cgroups.plan(own, "x", { pids: { limit: 5 } }, 1);
      made.push(plan.paths);
      const { link } = await launch("exec sleep 60", [...plan.create, ...(plan.cloneInto?.steps ?? [])], plan.join, plan.cloneInto?.slot ?? NO_SLOT, []);
      expect(await readFile(`/proc/${link.pid}/cgroup`, "utf8")).toContain(`${own}/x\n`);
      await cgroups.kill(plan.paths);
      await link.exited;
      const top = Object.fromEntries(Object.entries(plan.paths.dirs).map(([key, dir]) => [key, dir.slice(0, -"/a/x".length)]));
      await cgroups.remove({ version: cgroups.version, dirs: top });
      expect(left({ version: cgroups.version, dirs: top })).toEqual([]);
    });

    pathTest("the parent that is named after the data root goes when nothing is left in it", async () => {
      const own = openCgroups(facts, { dataRoot: folder });
      const { paths } = own.plan("", "x", {}, 1);
      const parents = Object.values(paths.dirs).map((dir) => dir.slice(0, -"/x".length));
      const there = () => new Set(parents.filter((dir) => existsSync(dir)));
      await own.prepare();
      expect(there().size).toBe(new Set(parents).size);
      await mkdir(`${parents[0]}/x`);
      await own.close();
      expect([...there()]).toEqual([parents[0]]);
      await own.remove(paths);
      await own.close();
      expect(there().size).toBe(0);
      await cgroups.close(); // a parent that was asked for by name stays
      expect(existsSync(Object.values(cgroups.plan("", "x", {}, 1).paths.dirs)[0]?.slice(0, -"/x".length) ?? "")).toBe(true);
    });

    test("info tells what is there", () => {
      const { flags, warnings } = cgroups.info();
      for (const flag of ["MemoryLimit", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit"]) expect(flags).toHaveProperty(flag, true);
      expect(flags["OomKillDisable"]).toBe(cgroups.version === 1);
      expect(flags["SwapLimit"]).toBe(facts.swapAccounting);
      for (const line of warnings) expect(line).toMatch(/^WARNING: No .* support$/);
      expect(warnings.includes("WARNING: No blkio weight support") || warnings.includes("WARNING: No io.weight support")).toBe(flags["BlkioWeight"] === false);
    });
  });
}
