/** `wherry-runtime` as containerd, dockerd and podman call it; what can be compared is compared with Debian's runc and crun. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, it } from "vitest";
import type { OciSpec } from "#core/runtime-spec.ts";
import { commandOf, consoleServer, RuntimeUnderTest, whyNot, wherryRuntime } from "./oci-runtime.fixture.ts";

const able = process.getuid?.() === 0 && existsSync(wherryRuntime) && existsSync("/bin/busybox");
if (!able) console.warn("skipped: wherry-runtime needs root, a build and busybox-static");

const logHook = (name: string, file: string) => [
  { path: "/bin/sh", args: ["sh", "-c", `printf '%s %s\\n' ${name} "$(cat)" >>${file}`], env: ["PATH=/bin:/usr/bin"] },
];

/** Gone, or a zombie that its new parent has not reaped yet. */
function ended(pid: string): boolean {
  return !existsSync(`/proc/${pid}`) || /^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
}

describe.skipIf(!able)("wherry-runtime", () => {
  const runtime = new RuntimeUnderTest(wherryRuntime);
  afterAll(() => runtime.dispose());

  it("runs a bundle: its streams and exit code are the caller's", () => {
    const bundle = runtime.bundle("cat; echo err >&2; exit 7");
    const answer = runtime.call(["run", "--bundle", bundle, runtime.id()], "from stdin\n");
    expect(answer).toEqual({ code: 7, stdout: "from stdin\n", stderr: "err\n" });
    expect(runtime.left()).toEqual([]);
  });

  it("goes through created, running, stopped, and refuses what does not fit (runtime.md, Operations)", () => {
    const id = runtime.id();
    const bundle = runtime.bundle("echo begun; sleep 100");
    const pidFile = join(bundle, "pid");
    expect(runtime.create(id, bundle, ["--pid-file", pidFile])).toMatchObject({ code: 0 });
    const state = JSON.parse(runtime.call(["state", id]).stdout) as Record<string, unknown>;
    expect(state).toMatchObject({ ociVersion: "1.2.0", id, status: "created", bundle, pid: Number(readFileSync(pidFile, "utf8")) });
    expect(readFileSync(join(bundle, "out"), "utf8"), "nothing runs before start").toBe("");
    expect(runtime.create(id, bundle).code, "a second container of this id").toBe(1);
    expect(readFileSync(join(bundle, "err"), "utf8")).toMatch(/already exists/);
    expect(runtime.create(id, bundle).code).toBe(1);
    expect(runtime.call(["start", id]).code).toBe(0);
    expect(runtime.status(id)).toBe("running");
    expect(runtime.call(["start", id]).stderr).toMatch(/already running/);
    expect(runtime.call(["delete", id]).stderr).toMatch(/not stopped/);
    expect(runtime.call(["pause", id]).code).toBe(0);
    expect(runtime.status(id)).toBe("paused");
    expect(runtime.call(["exec", id, "true"]).stderr).toMatch(/paused/);
    expect(runtime.call(["resume", id]).code).toBe(0);
    expect(runtime.call(["kill", id, "KILL"]).code).toBe(0);
    expect(runtime.call(["delete", id]).code).toBe(0);
    expect(runtime.call(["state", id]).stderr).toMatch(/does not exist/);
    expect(runtime.call(["kill", id]).code).toBe(1);
  });

  it("has no process of ours between the container and its caller", () => {
    const id = runtime.id();
    const bundle = runtime.bundle("sleep 100");
    runtime.create(id, bundle, ["--pid-file", join(bundle, "pid")]);
    const pid = readFileSync(join(bundle, "pid"), "utf8");
    const parent = /^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    expect(readFileSync(`/proc/${parent}/cmdline`, "utf8")).not.toMatch(/wherry|launch/);
    expect(runtime.call(["delete", "--force", id]).code).toBe(0);
    expect(ended(pid)).toBe(true);
  });

  it("executes further processes in it, with their streams and exit code", () => {
    const id = runtime.id();
    const bundle = runtime.bundle("sleep 100");
    runtime.create(id, bundle);
    runtime.call(["start", id]);
    expect(runtime.call(["exec", id, "sh", "-c", "cat; readlink /proc/1/exe; exit 5"], "typed\n")).toEqual({
      code: 5,
      stdout: "typed\n/bin/busybox\n",
      stderr: "",
    });
    const file = join(bundle, "process.json");
    writeFileSync(file, JSON.stringify({ user: { uid: 1000, gid: 1000 }, args: ["id", "-u"], cwd: "/", env: ["PATH=/bin"] }));
    expect(runtime.call(["exec", "--process", file, id]).stdout).toBe("1000\n");
    const pids = JSON.parse(runtime.call(["ps", "--format", "json", id]).stdout) as number[];
    expect(pids).toHaveLength(1);
    const stats = JSON.parse(runtime.call(["events", "--stats", id]).stdout) as { data: { memory: { usage: { usage: number } }; pids: { current: number } } };
    expect(stats.data.pids.current).toBe(1);
    expect(runtime.call(["update", "--resources", "-", id], JSON.stringify({ pids: { limit: 77 } })).code).toBe(0);
    const after = JSON.parse(runtime.call(["events", "--stats", id]).stdout) as { data: { pids: { limit: number } } };
    expect(after.data.pids.limit).toBe(77);
    runtime.call(["delete", "--force", id]);
  });

  it("events tells that memory ran out, and reports until the end", () => {
    const id = runtime.id();
    const limited = runtime.bundle("sleep 1; tail /dev/zero; sleep 2", (spec) => {
      spec.linux = { ...spec.linux, namespaces: spec.linux?.namespaces ?? [], resources: { memory: { limit: 16 << 20, swap: 16 << 20 } } };
    });
    expect(runtime.create(id, limited)).toMatchObject({ code: 0 });
    runtime.call(["start", id]);
    const { stdout, code } = runtime.call(["events", "--interval", "1s", id]);
    const told = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { type: string; id: string });
    expect(code).toBe(0);
    expect(told.filter(({ type }) => type === "oom")).toEqual([{ type: "oom", id }]);
    expect(told.filter(({ type }) => type === "stats").length).toBeGreaterThan(1);
    runtime.call(["delete", "--force", id]);
  });

  it("says on stderr and in the log, as runc does, why a program cannot be run", () => {
    const bundle = runtime.bundle("", (spec) => (spec.process.args = ["nonexistent"]));
    const log = join(bundle, "log.json");
    const answer = runtime.call(["--log", log, "--log-format", "json", "create", "--bundle", bundle, runtime.id()]);
    expect(answer.code).toBe(1);
    expect(answer.stderr).toContain('exec: "nonexistent": executable file not found in $PATH');
    const line = JSON.parse(readFileSync(log, "utf8")) as Record<string, string>;
    expect(line).toMatchObject({ level: "error", msg: answer.stderr.trim() });
    expect(Date.parse(line["time"] ?? "")).not.toBeNaN();
    expect(runtime.left()).toEqual([]);
  });

  it("runs hooks of all six kinds in order, each with the state on its stdin", () => {
    const id = runtime.id();
    const bundle = runtime.bundle("cat /log");
    const log = join(bundle, "hooks.log");
    const spec = JSON.parse(readFileSync(join(bundle, "config.json"), "utf8")) as OciSpec;
    spec.root.readonly = false;
    spec.annotations = { "org.example": "x" };
    const outside = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    spec.hooks = { ...Object.fromEntries(outside.map((name) => [name, logHook(name, log)])), startContainer: logHook("startContainer", "/log") };
    writeFileSync(join(bundle, "config.json"), JSON.stringify(spec));
    const { stdout, stderr } = runtime.call(["run", "--bundle", bundle, id]);
    expect(stderr).toBe("");
    const entries = (text: string) =>
      text
        .trim()
        .split("\n")
        .map((line) => [line.slice(0, line.indexOf(" ")), JSON.parse(line.slice(line.indexOf(" "))) as Record<string, unknown>] as const);
    const seen = entries(readFileSync(log, "utf8"));
    expect(seen.map(([name]) => name)).toEqual(outside);
    const statuses = Object.fromEntries([...seen, ...entries(stdout)].map(([name, state]) => [name, state["status"]]));
    expect(statuses).toMatchObject({
      prestart: "creating",
      createRuntime: "creating",
      createContainer: "creating",
      startContainer: "created",
      poststop: "stopped",
    });
    for (const [, state] of seen) expect(state).toMatchObject({ id, bundle, annotations: { "org.example": "x" }, pid: expect.any(Number) });
  });

  it.each([
    ["createRuntime", { path: "/bin/sh", args: ["sh", "-c", "echo why >&2; exit 3"] }, /createRuntime hook .*exit status 3.*why/],
    ["createRuntime", { path: "/bin/sleep", args: ["sleep", "20"], timeout: 1 }, /timed out/],
    ["createContainer", { path: "/bin/sleep", args: ["sleep", "20"], timeout: 1 }, /ETIMEDOUT/],
    ["createContainer", { path: "/bin/false" }, /false/],
  ])("a %s hook that fails (%j) ends the creation, and nothing is left", (kind, hook, expected) => {
    const bundle = runtime.bundle("echo never", (spec) => (spec.hooks = { [kind]: [hook] }));
    const answer = runtime.call(["run", "--bundle", bundle, runtime.id()]);
    expect(answer).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(expected) });
    expect(runtime.left()).toEqual([]);
  });

  it("sends the terminal's master over the console socket", async () => {
    const id = runtime.id();
    const bundle = runtime.bundle("echo $(tty) $(stty size); sleep 100", (spec) => {
      spec.process.terminal = true;
      spec.process.consoleSize = { height: 30, width: 90 };
    });
    expect(runtime.create(id, bundle).code, "without a console socket").toBe(1);
    const socket = join(bundle, "console");
    const server = await consoleServer(socket);
    expect(runtime.create(id, bundle, ["--console-socket", socket]).code).toBe(0);
    runtime.call(["start", id]);
    expect(await server.line).toBe("/dev/pts/0 30 90");
    runtime.call(["delete", "--force", id]);
  });

  it("takes away what a creation that was killed has left", async () => {
    const id = runtime.id();
    const reached = join(runtime.directory, `reached-${id}`);
    const hook = { path: "/bin/sh", args: ["sh", "-c", `: >${reached}; exec sleep 20`], env: ["PATH=/bin:/usr/bin"] };
    const bundle = runtime.bundle("", (spec) => (spec.hooks = { createRuntime: [hook] }));
    const creating = spawn(wherryRuntime, ["--root", runtime.root, "create", "--bundle", bundle, id], { stdio: "ignore" });
    const ended = once(creating, "exit");
    while (!existsSync(reached) && creating.exitCode === null) await sleep(20);
    creating.kill("SIGKILL");
    expect(await ended).toEqual([null, "SIGKILL"]);
    expect(runtime.status(id)).toBe("creating");
    expect(runtime.call(["kill", id]).stderr).toMatch(/not running/);
    expect(runtime.call(["delete", id]).code).toBe(1);
    expect(runtime.call(["delete", "--force", id])).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(runtime.status(id)).toBeUndefined();
  });

  it("refuses what it does not do, with a reason", () => {
    const reason = (args: string[]) => runtime.call(args).stderr;
    expect(reason(["checkpoint", "x"])).toMatch(/CRIU/);
    expect(reason(["--systemd-cgroup", "create", "--bundle", runtime.bundle(""), runtime.id()])).toMatch(/systemd/);
    expect(reason(["create", "--bundle", runtime.bundle("", (spec) => Object.assign(spec.linux ?? {}, { intelRdt: {} })), runtime.id()])).toMatch(/intelRdt/);
    expect(reason(["create", "--bundle", runtime.bundle("", (spec) => (spec.ociVersion = "2.0.0")), runtime.id()])).toMatch(/version/);
    expect(reason(["state", "../x"])).toMatch(/invalid container ID/);
    expect(reason(["create", "--nonsense", "x"])).toMatch(/nonsense/);
    expect(runtime.left()).toEqual([]);
  });

  it("a shim cleans up behind a container that never was, from a directory that is gone", () => {
    const gone = join(runtime.directory, "gone");
    const script = 'mkdir -p "$0" && cd "$0" && rmdir "$0" && exec "$@"';
    const { status, stderr } = spawnSync("sh", ["-c", script, gone, wherryRuntime, "--root", runtime.root, "delete", "--force", "never-was"], {
      encoding: "utf8",
    });
    expect([status, stderr]).toEqual([0, ""]);
  });

  it("tells its features", () => {
    const features = JSON.parse(runtime.call(["features"]).stdout) as {
      ociVersionMax: string;
      hooks: string[];
      mountOptions: string[];
      linux: { seccomp: object };
    };
    expect(features).toMatchObject({ ociVersionMin: "1.0.0", ociVersionMax: "1.2.0" });
    expect(features.hooks).toHaveLength(6);
    expect(features.mountOptions).toEqual(expect.arrayContaining(["rro", "rnosuid", "idmap", "ridmap", "rbind", "runbindable", "tmpcopyup", "nosymfollow"]));
    expect(features.linux.seccomp).toMatchObject({
      operators: expect.arrayContaining(["SCMP_CMP_MASKED_EQ"]),
      supportedFlags: expect.arrayContaining(["SECCOMP_FILTER_FLAG_LOG"]),
    });
  });
});

/** What a container sees of the same spec. */
const views: Readonly<Record<string, { readonly script: string; readonly amend?: (spec: OciSpec) => void }>> = {
  identity: { script: "id; hostname; readlink /proc/self/cwd; cat /proc/self/oom_score_adj" },
  rights: { script: "busybox grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status" },
  devices: {
    script: "ls /dev | busybox grep -v core; for d in null zero full random urandom tty; do busybox stat -c '%n %t:%T %a' /dev/$d; done; readlink /dev/fd",
  },
  "read-only paths": {
    script: "for p in / /proc/sys /proc/bus /sys; do touch $p/x 2>/dev/null && echo $p writable; done; cat /proc/kcore 2>&1 | busybox head -c 10; echo end",
  },
  limits: { script: "ulimit -n; ulimit -c" },
  user: {
    script: "id; umask; touch /tmp/x; busybox stat -c %u:%g:%a /tmp/x",
    amend: (spec) => {
      spec.process.user = { uid: 1000, gid: 1001, additionalGids: [5, 6], umask: 0o077 };
      spec.mounts?.push({ destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["mode=1777"] });
    },
  },
  "exit of a signal": { script: "kill -9 $$; sleep 1", amend: (spec) => spec.linux?.namespaces.splice(0, 1) },
};

/** Debian's runtimes that can run anything on this machine. */
const others = (["runc", "crun"] as const).filter((name) => {
  if (!able) return false;
  const why = whyNot(name);
  if (why !== undefined) console.warn(`skipped: nothing is compared with ${name}: ${why}`);
  return why === undefined;
});

describe.skipIf(others.length === 0).each(others)("beside %s", (name) => {
  const ours = new RuntimeUnderTest(wherryRuntime);
  const theirs = new RuntimeUnderTest(commandOf(name));
  afterAll(() => {
    ours.dispose();
    theirs.dispose();
  });

  it.each(Object.entries(views))("%s: a container sees the same", (_view, { script, amend }) => {
    const [mine, other] = [ours, theirs].map((runtime) => runtime.call(["run", "--bundle", runtime.bundle(script, amend), runtime.id()]));
    expect(mine?.stdout).toBe(other?.stdout);
    expect(mine?.code).toBe(other?.code);
  });
});
