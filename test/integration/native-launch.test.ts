import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parsePressure } from "#cgroup/v2/stats.ts";
import { readExitRecord } from "#linux/exit-record.ts";
import { PlanError } from "#linux/helper.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { probeHost } from "#linux/probe-host.ts";
import { CLONE, child, helperPid, host, isAlive, Lab, logEntries, monitorsOf, until } from "./native-fixture.ts";

const { v2Root } = (await probeHost()).cgroup;
let lab: Lab;
beforeAll(async () => {
  lab = await Lab.open();
});
afterAll(() => lab.close());

describe("a plan without clone", () => {
  it("performs its steps and sends reports", async () => {
    writeFileSync(join(lab.directory, "in"), "x".repeat(100_000));
    const reports = await lab.helper.call({
      steps: [
        host({ op: "write", dir: NO_SLOT, path: join(lab.directory, "out"), flags: 0o100n | 1n, data: Buffer.from("hello") }),
        host({ op: "report", dir: NO_SLOT, path: join(lab.directory, "out"), tag: 7, max: 100 }),
        host({ op: "report", dir: NO_SLOT, path: join(lab.directory, "in"), tag: 8, max: 1 << 20 }),
        host({ op: "report", dir: NO_SLOT, path: join(lab.directory, "missing"), tag: 9, max: 100 }),
      ],
    });
    expect(Buffer.from(reports.get(7)!).toString()).toBe("hello");
    expect(reports.get(8)).toHaveLength(100_000);
    expect(reports.has(9)).toBe(true);
    expect(reports.get(9)).toBeUndefined();
  });

  it("names the step and the errno that failed, and ignores what the step says", async () => {
    const missing = join(lab.directory, "no/such/file");
    const steps = [host({ op: "unlink", dir: NO_SLOT, path: missing }, ["ENOENT"]), host({ op: "rmdir", dir: NO_SLOT, path: missing })];
    const error = await lab.helper.call({ steps }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(PlanError);
    expect(error).toMatchObject({ step: 1, errno: "ENOENT", errnoNumber: 2 });
  });

  it("refuses a step of the child", async () => {
    await expect(lab.helper.call({ steps: [child({ op: "setsid" })] })).rejects.toThrow("bad message");
  });
});

describe("a launch", () => {
  it("runs a program in new namespaces and tells its exit code", async () => {
    const result = await lab.sh('echo "pid $$"; hostname; echo oops >&2; exit 3', { before: [child({ op: "sethostname", name: "inside" })] });
    expect(result).toEqual({ code: 3, signal: 0, stdout: "pid 1\ninside\n", stderr: "oops\n" });
  });

  it("tells the signal that ended it", async () => {
    const container = await lab.launch({ argv: ["sleep", "100"] });
    expect(await container.link.kill(9)).toBe(true);
    expect(await container.link.exited).toMatchObject({ code: 137, signal: 9 });
    expect(await container.link.kill(15)).toBe(false);
  });

  it("lets go of mounts and directories a moment after it has told the end, or when asked", async () => {
    const ended = async (name: string, fill: (directory: string) => void, soon: boolean) => {
      const directory = join(lab.directory, name);
      mkdirSync(directory);
      fill(directory);
      const { link } = await lab.launch({
        argv: ["true"],
        host: [host({ op: "hold_ns", name: "mnt" }), host({ op: "rmdir_late", paths: [directory, `${directory}-missing`] })],
      });
      await link.exited;
      if (soon) link.letGo();
      return [await link.left, existsSync(directory)];
    };
    expect(await ended("late", () => undefined, false)).toEqual([true, false]);
    expect(await ended("late-asked", () => undefined, true)).toEqual([true, false]);
    expect(await ended("late-full", (directory) => writeFileSync(join(directory, "file"), ""), false)).toEqual([false, true]);
    const killed = await lab.launch({ argv: ["sleep", "100"], host: [host({ op: "rmdir_late", paths: [] })] });
    process.kill(killed.link.monitorPid, "SIGKILL");
    expect(await killed.link.left).toBe(false);
  });

  it("writes pid file before exec and exit record before the exit is reported", async () => {
    writeFileSync(join(lab.directory, "events"), 'oom_kill 1\n"quoted" \x01');
    const before = Date.now();
    const container = await lab.launch({ argv: ["sh", "-c", "exit 7"], exitReports: [join(lab.directory, "events"), join(lab.directory, "none")] });
    const [monitor, pid, start] = readFileSync(container.files.pid, "utf8").trim().split(" ").map(Number);
    expect([monitor, pid, BigInt(start!)]).toEqual([container.link.monitorPid, container.link.pid, container.link.startTime]);
    const record = await container.link.exited;
    expect(record).toMatchObject({ code: 7, signal: 0, reports: ['oom_kill 1\n"quoted" \x01', undefined] });
    expect(Number(record.atNs / 1_000_000n)).toBeGreaterThanOrEqual(before);
    expect(Number(record.atNs / 1_000_000n)).toBeLessThanOrEqual(Date.now());
    expect(await readExitRecord(container.files.exit)).toEqual(record);
    await until("the monitor ends", () => !isAlive(container.link.monitorPid));
    expect(existsSync(container.files.socket)).toBe(false);
  });

  it.runIf(existsSync(join(v2Root ?? "/absent", "cpu.pressure")))("tells that processes wait, once a minute", async () => {
    const cgroup = join(v2Root ?? "", `wherry-psi-${randomBytes(4).toString("hex")}`);
    mkdirSync(cgroup);
    // That of the CPU, which is easily made, in place of that of memory.
    const report = join(lab.directory, "memory.pressure");
    symlinkSync(join(cgroup, "cpu.pressure"), report);
    const loop = "while :; do :; done";
    try {
      const container = await lab.launch({
        argv: ["sh", "-c", `${loop} & ${loop} & ${loop} & ${loop} & ${loop}`],
        host: [host({ op: "write_pid", dir: NO_SLOT, path: join(cgroup, "cgroup.procs") })],
        exitReports: [report],
      });
      const told: string[] = [];
      container.link.onPressure = (text) => void told.push(text);
      await until("it is told", () => told.length > 0);
      expect(parsePressure(told[0])?.some.totalUs).toBeGreaterThan(100_000);
      await container.link.kill(9);
      expect((await container.link.exited).reports).toEqual([expect.stringMatching(/^some avg10=/)]);
      expect(told).toHaveLength(1);
    } finally {
      await until("its processes have ended", () => readFileSync(join(cgroup, "cgroup.procs"), "utf8") === "");
      rmdirSync(cgroup);
    }
  });

  it("keeps a namespace for the time after the end, in its monitor only", async () => {
    const hold = host({ op: "hold_ns", name: "mnt" });
    const container = await lab.launch({ argv: ["sleep", "100"], host: [hold] });
    const namespaces = (pid: number) => readdirSync(`/proc/${pid}/fd`).filter((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("mnt:["));
    expect(namespaces(container.link.monitorPid)).toHaveLength(1);
    expect(namespaces(container.link.pid)).toEqual([]);
    await container.link.kill(9);
    expect(await container.link.exited).toMatchObject({ signal: 9 });
    await until("the monitor ends, and the namespace with it", () => !isAlive(container.link.monitorPid));
  });

  it("fails with the child's step, and leaves no process and no socket", async () => {
    const request = { socketPath: join(lab.directory, "failing.sock"), pidPath: join(lab.directory, "failing.pid") };
    const helper = helperPid(lab);
    const before = new Set(await monitorsOf(helper));
    const error = await lab.launch({ argv: ["nosuch"], request }).catch((e: unknown) => e);
    expect(error).toMatchObject({ name: "PlanError", errno: "ENOENT" });
    const { plan, step } = error as PlanError;
    expect(plan.steps[step]?.op).toBe("exec");
    await until("the monitor is gone", async () => (await monitorsOf(helper)).every((pid) => before.has(pid)));
    expect(existsSync(request.socketPath)).toBe(false);
    expect(existsSync(request.pidPath)).toBe(false);
  });

  it.each([
    ["a directory", "/tmp", "EACCES"],
    ["not a program", "/text", "ENOEXEC"],
    ["an interpreter that is missing", "/script", "ENOENT"],
  ])("tells why exec failed: %s", async (_, path, errno) => {
    writeFileSync(join(lab.rootfs, "text"), "hello", { mode: 0o755 });
    writeFileSync(join(lab.rootfs, "script"), "#!/no/such\n", { mode: 0o755 });
    await expect(lab.launch({ argv: [path] })).rejects.toMatchObject({ name: "PlanError", errno });
  });

  it("executes nothing when a host step fails after the clone", async () => {
    const marker = join(lab.rootfs, "ran");
    const failing = lab.launch({ argv: ["sh", "-c", "echo > /ran"], host: [host({ op: "rmdir", dir: NO_SLOT, path: "/proc/nosuch" })] });
    await expect(failing).rejects.toMatchObject({ name: "PlanError", step: 2, errno: "ENOENT" });
    expect(existsSync(marker)).toBe(false);
  });

  it("orders the two sides with signal and await", async () => {
    const file = join(lab.directory, "order");
    const put = (text: string) => ({ op: "write", dir: NO_SLOT, path: file, flags: 0o2100n | 1n, data: Buffer.from(text) }) as const;
    const container = await lab.launch({
      argv: ["true"],
      clone: CLONE.NEWPID | CLONE.NEWNS,
      host: [host({ op: "await", id: 16 }), host(put("2")), host({ op: "signal", id: 17 }), host({ op: "await", id: 18 }), host(put("4"))],
      before: [child(put("1")), child({ op: "signal", id: 16 }), child({ op: "await", id: 17 }), child(put("3")), child({ op: "signal", id: 18 })],
    });
    await container.link.exited;
    expect(readFileSync(file, "utf8")).toBe("1234");
  });

  it("fails when a side waits for what the other will never signal", async () => {
    await expect(lab.launch({ argv: ["true"], host: [host({ op: "await", id: 3 })] })).rejects.toMatchObject({ errno: "EDEADLK", step: 2 });
    const error = await lab.launch({ argv: ["true"], before: [child({ op: "await", id: 3 })] }).catch((e: unknown) => e);
    expect(error).toMatchObject({ errno: "EDEADLK" });
    expect((error as PlanError).plan.steps[(error as PlanError).step]?.op).toBe("await");
  });

  it("tells which step killed the child", async () => {
    // ret KILL_PROCESS: the filter ends whoever installs it at its next system call.
    const filter = Buffer.from([0x06, 0, 0, 0, 0, 0, 0, 0x80]);
    const error = await lab.launch({ argv: ["true"], after: [child({ op: "seccomp", flags: 0, filter })] }).catch((e: unknown) => e);
    expect(error).toMatchObject({ name: "PlanError", errno: "ECHILD" });
    expect((error as PlanError).plan.steps[(error as PlanError).step]?.op).toMatch(/seccomp|exec/);
  });
});

describe("the program", () => {
  it("gets no descriptor, no blocked or ignored signal, and no environment of ours", async () => {
    const { stdout } = await lab.sh("ls /proc/self/fd; grep -E '^Sig(Blk|Ign)|^CapEff' /proc/self/status; cat /proc/self/environ | tr '\\0' '\\n'", {
      env: ["PATH=/bin", "A=b c"],
    });
    // 3 is the directory that ls itself has open.
    expect(stdout).toMatch(/^0\n1\n2\n3\nSigBlk:\t0{16}\nSigIgn:\t0{16}\n/);
    expect(stdout).toContain("A=b c\n");
    expect(stdout).not.toContain("LOGNAME");
  });

  it("can open /dev/stdout as an unprivileged user", async () => {
    const asUser = [child({ op: "setgroups", gids: [5] }), child({ op: "setresgid", gid: 1000 }), child({ op: "setresuid", uid: 1000 })];
    const { stdout, code } = await lab.sh("echo through > /proc/self/fd/1; id", { after: asUser });
    expect({ stdout, code }).toEqual({ stdout: "through\nuid=1000 gid=1000 groups=5\n", code: 0 });
  });

  it("belongs to its user namespace, and so do its pipes", async () => {
    const map = "0 100000 65536";
    const script = "id -u; cat /proc/self/uid_map; echo again > /proc/self/fd/1";
    const { stdout, stderr } = await lab.sh(script, {
      request: {
        plan: {
          steps: lab.steps({ argv: ["sh", "-c", script], clone: CLONE.NEWUSER | CLONE.NEWNS | CLONE.NEWPID }).flatMap((step) => {
            if (step.op === "clone") {
              return [
                step,
                host({ op: "child_maps", uidmap: map, gidmap: map, setgroups: "" }),
                host({ op: "signal", id: 1 }),
                child({ op: "await", id: 1 }),
                child({ op: "setresgid", gid: 0 }),
                child({ op: "setresuid", uid: 0 }),
              ];
            }
            return [step];
          }),
        },
      },
    });
    expect(stderr).toBe("");
    expect(stdout.split("\n").map((line) => line.trim().replace(/ +/g, " "))).toEqual(["0", "0 100000 65536", "again", ""]);
  });

  it("cannot be given a working directory outside of its root", async () => {
    // CVE-2024-21626: a descriptor of a host directory, by its number in /proc/self/fd.
    const leak = [child({ op: "openat", dir: NO_SLOT, path: "/", flags: 0o200000n, mode: 0, out: 20 })];
    const steps = lab.steps({ argv: ["ls"], before: leak }).map((step) => (step.op === "chdir" ? child({ op: "chdir", path: "/proc/self/fd/120" }) : step));
    await expect(lab.launch({ argv: ["ls"], request: { plan: { steps } } })).rejects.toMatchObject({ name: "PlanError", errno: "ELOOP" });
  });

  it("does not outlive its monitor", async () => {
    const container = await lab.launch({ argv: ["sleep", "1000"] });
    process.kill(container.link.monitorPid, "SIGKILL");
    await until("init is gone", () => !isAlive(container.link.pid));
    await expect(container.link.exited).rejects.toThrow("left no exit record");
  });

  it("loses no output when it ends at once", async () => {
    for (let i = 0; i < 20; i++) expect((await lab.sh(`echo ${i}; echo e${i} >&2`)).stdout).toBe(`${i}\n`);
  });

  it("is not waited for by who keeps its output open", async () => {
    const container = await lab.launch({ argv: ["sh", "-c", "sleep 600 & echo $!"], clone: CLONE.NEWNS });
    await container.link.exited;
    const sleeper = Number(container.output().stdout);
    expect(isAlive(sleeper)).toBe(true);
    process.kill(sleeper, "SIGKILL");
  });
});

describe("paths below a slot", () => {
  it("cannot leave it, whatever the links inside say", async () => {
    const outside = join(lab.directory, "outside");
    const steps = [
      host({ op: "mkdir", dir: NO_SLOT, path: `${lab.directory}/below/a`, mode: 0o700, uid: 0, gid: 0, parents: 1 }),
      host({ op: "openat", dir: NO_SLOT, path: `${lab.directory}/below`, flags: 0o10000000n, mode: 0, out: 3 }),
      host({ op: "symlink", dir: 3, path: "abs", target: outside }),
      host({ op: "symlink", dir: 3, path: "up", target: "../../../../outside" }),
      host({ op: "mkfile", dir: 3, path: "abs/one", mode: 0o644, parents: 1 }),
      host({ op: "mkfile", dir: 3, path: "up/two", mode: 0o644, parents: 1 }),
      host({ op: "mkdir", dir: 3, path: "a/../../../three", mode: 0o755, uid: 1, gid: 2, parents: 1 }),
    ];
    await lab.helper.call({ steps });
    expect(existsSync(outside)).toBe(false);
    expect(existsSync(`${lab.directory}/below${outside}/one`)).toBe(true);
    expect(existsSync(`${lab.directory}/below/outside/two`)).toBe(true);
    expect(existsSync(`${lab.directory}/below/three`)).toBe(true);
    expect(existsSync(`${lab.directory}/three`)).toBe(false);
  });
});

describe("the log", () => {
  it("has one JSON object per line, as Docker writes it", async () => {
    const container = await lab.launch({ argv: ["sh", "-c", "printf 'a<b>&\\t\"q\"\\\\\\001\\177\\n\\342\\200\\250\\303\\251\\377\\300\\200\\n\\nlast'"] });
    await container.link.exited;
    const lines = readFileSync(container.files.log, "utf8").split("\n");
    const logs = lines
      .slice(0, 4)
      .map((line) => /^{"log":"(.*)","stream":"stdout","time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?Z"}$/.exec(line)?.[1]);
    expect(logs).toEqual(['a\\u003cb\\u003e\\u0026\\u0009\\"q\\"\\\\\\u0001\x7f\\n', "\\u2028\u00e9\\ufffd\\ufffd\\ufffd\\n", "\\n", "last"]);
    expect(lines.slice(4)).toEqual([""]);
  });

  it("can keep bytes that are no text, each as a code point that no text has", async () => {
    const container = await lab.launch({
      argv: ["sh", "-c", "printf '\\303\\251\\377\\300\\200\\303\\n'"],
      stdio: { log: { path: join(lab.directory, "exact.log"), maxBytes: 0, maxFiles: 1, exact: true } },
    });
    await container.link.exited;
    expect(readFileSync(join(lab.directory, "exact.log"), "utf8")).toContain('{"log":"\u00e9\\udcff\\udcc0\\udc80\\udcc3\\n"');
  });

  it("splits long lines at 16 KiB, all parts with one time", async () => {
    const container = await lab.launch({
      argv: ["sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; head -c 16384 /dev/zero | tr '\\0' y; echo; echo z"],
      before: [child({ op: "mknod", dir: 0, path: "dev/zero", mode: 0o20666, major: 1, minor: 5, uid: 0, gid: 0 })],
    });
    await container.link.exited;
    const entries = logEntries(container.files.log);
    expect(entries.map((entry) => entry.log.length)).toEqual([16384, 16384, 40000 - 2 * 16384 + 1, 16384, 1, 2]);
    expect(new Set(entries.slice(0, 3).map((entry) => entry.time)).size).toBe(1);
  });

  it("rotates by size and count", async () => {
    const log = join(lab.directory, "rotated.log");
    const container = await lab.launch({
      argv: ["sh", "-c", "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done"],
      stdio: { log: { path: log, maxBytes: 2000, maxFiles: 3 } },
    });
    await container.link.exited;
    const files = [`${log}.2`, `${log}.1`, log];
    for (const file of files) expect(existsSync(file)).toBe(true);
    expect(existsSync(`${log}.3`)).toBe(false);
    const lines = files.flatMap((file) => logEntries(file).map((entry) => entry.log.trim()));
    expect(lines.at(-1)).toBe("line 99");
    const first = Number(lines[0]!.split(" ")[1]);
    expect(lines).toEqual(Array.from({ length: 100 - first }, (_, i) => `line ${first + i}`));
    for (const file of files.slice(0, 2)) expect(readFileSync(file).length).toBeLessThan(2000 + 100);
  });
});
