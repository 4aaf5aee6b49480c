/** `wherry-runtime` beside a warm daemon: the same answers, computed elsewhere. That no Node is started shows by there being none. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RuntimeUnderTest, wherryRuntime } from "./oci-runtime.fixture.ts";
import { until } from "./engine-setup.ts";
import { startWarmDaemon, type WarmDaemon } from "./warm-daemon.fixture.ts";

const able = process.getuid?.() === 0 && existsSync(wherryRuntime) && existsSync("/bin/busybox");
if (!able) console.warn("skipped: the warm runtime needs root, a build and busybox-static");

describe.skipIf(!able)("wherry-runtime beside a daemon", () => {
  const before = { WHERRY_HOST: process.env["WHERRY_HOST"], WHERRY_NODE: process.env["WHERRY_NODE"] };
  let daemon: WarmDaemon;
  let runtime: RuntimeUnderTest;

  beforeAll(async () => {
    daemon = await startWarmDaemon();
    runtime = new RuntimeUnderTest(wherryRuntime);
    process.env["WHERRY_HOST"] = daemon.host;
    runtime.call(["state", "nobody"]); // wakes the thread
    process.env["WHERRY_NODE"] = "/nonexistent/node";
    await until(() => runtime.call(["state", "nobody"]).stderr.includes("does not exist"), 20_000);
  }, 60_000);

  afterAll(async () => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    if (daemon === undefined) return;
    runtime.dispose();
    await daemon.stop();
  });

  it("is for nobody else: the socket's directory is closed", () => {
    expect(statSync(join(daemon.root, "run/oci")).mode & 0o777).toBe(0o700);
  });

  it("runs a bundle: its streams are the caller's, its exit code the answer, and nothing is left", () => {
    const id = runtime.id();
    expect(runtime.call(["run", "--bundle", runtime.bundle("cat; echo out; echo err >&2; exit 7"), id], "in\n")).toEqual({
      code: 7,
      stdout: "in\nout\n",
      stderr: "err\n",
    });
    expect(runtime.left()).toEqual([]);
  });

  it("create, start, exec, state, kill, delete: paths are the caller's, and the container is not the daemon's descendant", async () => {
    const id = runtime.id();
    const bundle = runtime.bundle("sleep 100");
    const args = ["--root", runtime.root, "create", "--bundle", basename(bundle), "--pid-file", "pid-of-it", id];
    expect(spawnSync(wherryRuntime, args, { cwd: runtime.directory, stdio: "ignore", timeout: 30_000 }).status).toBe(0);
    const pid = readFileSync(join(runtime.directory, "pid-of-it"), "utf8");
    expect(runtime.status(id)).toBe("created");
    expect(runtime.call(["start", id])).toMatchObject({ code: 0, stderr: "" });
    expect(runtime.status(id)).toBe("running");
    expect(runtime.call(["exec", id, "echo", "again"])).toEqual({ code: 0, stdout: "again\n", stderr: "" });
    const ancestors: string[] = [];
    for (
      let at = pid;
      at !== "0" && at !== undefined;
      at =
        readFileSync(`/proc/${at}/stat`, "utf8")
          .replace(/^.*\) /, "")
          .split(" ")[1] ?? "0"
    )
      ancestors.push(at);
    expect(ancestors).not.toContain(String(daemon.pid));
    expect(runtime.call(["kill", id, "KILL"]).code).toBe(0);
    await until(() => runtime.status(id) === "stopped");
    expect(runtime.call(["delete", id])).toMatchObject({ code: 0, stderr: "" });
    expect(runtime.left()).toEqual([]);
  });

  it("tells failures as ever: on standard error, in the log, by the exit code", () => {
    const id = runtime.id();
    const bundle = runtime.bundle("true", (spec) => {
      spec.process.args = ["no-such-program"];
    });
    const answer = runtime.call(["--log", "its.log", "--log-format", "json", "run", "--bundle", bundle, id]);
    expect(answer.code).toBe(1);
    expect(answer.stderr).toContain("executable file not found");
    expect(JSON.parse(readFileSync(join(runtime.directory, "its.log"), "utf8"))).toMatchObject({ level: "error", msg: answer.stderr.trim() });
    expect(runtime.left()).toEqual([]);
  });

  it("tells warnings to the caller, who need not look for them in the daemon's output", () => {
    const bundle = runtime.bundle("echo ran", (spec) => {
      spec.process.capabilities = { bounding: ["CAP_FLY"] };
    });
    expect(runtime.call(["run", "--bundle", bundle, runtime.id()])).toEqual({
      code: 0,
      stdout: "ran\n",
      stderr: "warning: unknown capabilities are left out: CAP_FLY\n",
    });
  });

  it("passes the caller's signals on", async () => {
    const id = runtime.id();
    const bundle = runtime.bundle("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done");
    const child = spawn(wherryRuntime, ["--root", runtime.root, "run", "--bundle", bundle, id], { stdio: ["ignore", "pipe", "inherit"] });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGTERM");
    expect(await ended).toBe(9);
    expect(runtime.left()).toEqual([]);
  });

  it("what the daemon does not do for others, and who sees another machine than it does, needs a process of its own", () => {
    expect(runtime.call(["features"])).toMatchObject({ code: 125 });
    expect(runtime.within(["true"], ["state", "nobody"])).toMatchObject({ code: 125 });
    process.env["WHERRY_NODE"] = process.execPath;
    expect(runtime.call(["features"]).code).toBe(0);
    expect(runtime.within(["true"], ["state", "nobody"]).stderr).toContain("does not exist");
    process.env["WHERRY_NODE"] = "/nonexistent/node";
  });
});
