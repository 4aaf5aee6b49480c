/** `wherry-runtime` in the place of runc: below dockerd (and its containerd), and below podman. */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RuntimeUnderTest, wherryRuntime } from "./oci-runtime.fixture.ts";

const has = (name: string) => spawnSync("sh", ["-c", 'command -v "$0"', name]).status === 0;
const able = process.getuid?.() === 0 && existsSync(wherryRuntime) && existsSync("/bin/busybox");
for (const name of ["dockerd", "podman"]) if (!able || !has(name)) console.warn(`skipped: wherry-runtime below ${name} (needs root, a build and ${name})`);

const AT_ONCE = 12;

describe.skipIf(!able || !has("dockerd") || !has("docker"))("below dockerd", () => {
  const lab = new RuntimeUnderTest(wherryRuntime);
  const home = lab.directory;
  let dockerd: ChildProcess;
  const cli = (...args: string[]) => spawnSync("docker", ["-H", `unix://${home}/sock`, ...args], { encoding: "utf8", timeout: 60_000 });

  beforeAll(async () => {
    mkdirSync(home);
    const roots = ["--data-root", join(home, "data"), "--exec-root", join(home, "exec"), "--pidfile", join(home, "pid"), "-H", `unix://${home}/sock`];
    const network = ["--bridge", "none", "--iptables=false", "--ip6tables=false"];
    const runtime = ["--storage-driver", "vfs", "--add-runtime", `wherry=${wherryRuntime}`, "--default-runtime", "wherry"];
    dockerd = spawn("dockerd", [...roots, ...network, ...runtime], { stdio: "ignore", cwd: "/" });
    for (let i = 0; i < 200 && cli("version").status !== 0; i++) await sleep(100);
    const rootfs = join(lab.bundle(""), "rootfs");
    expect(spawnSync("sh", ["-c", `tar -C "$0" -c . | docker -H unix://${home}/sock import - bb`, rootfs]).status).toBe(0);
  });
  afterAll(async () => {
    const ended = new Promise((resolve) => dockerd.once("exit", resolve));
    dockerd.kill("SIGTERM");
    await ended;
    lab.dispose();
  });

  it("runs, executes in, pauses, updates, stops and removes containers", () => {
    expect(cli("run", "--rm", "--network", "none", "bb", "sh", "-c", "echo out; exit 3")).toMatchObject({ status: 3, stdout: "out\n" });
    expect(cli("run", "-d", "--name", "life", "--network", "none", "-m", "64m", "bb", "sleep", "1000").status).toBe(0);
    expect(cli("exec", "life", "sh", "-c", "id -u; exit 5")).toMatchObject({ status: 5, stdout: "0\n" });
    expect(cli("exec", "-u", "1000:1000", "life", "id", "-u").stdout).toBe("1000\n");
    for (const command of ["pause", "unpause"]) expect(cli(command, "life").status).toBe(0);
    expect(cli("update", "-m", "32m", "--memory-swap", "64m", "life").status).toBe(0);
    expect(cli("kill", "life").status).toBe(0);
    expect(cli("inspect", "-f", "{{.HostConfig.Runtime}} {{.State.ExitCode}}", "life").stdout).toBe("wherry 137\n");
    expect(cli("rm", "life").status).toBe(0);
  });

  it("answers as with runc when a program is missing", () => {
    const answer = cli("run", "--rm", "--network", "none", "bb", "nonexistent");
    expect(answer.status).toBe(127);
    expect(answer.stderr).toContain('exec: "nonexistent": executable file not found in $PATH');
  });

  it(`runs ${AT_ONCE} at once, and leaves nothing behind`, async () => {
    const run = promisify(execFile);
    const outputs = await Promise.all(
      Array.from({ length: AT_ONCE }, (_, i) =>
        run("docker", ["-H", `unix://${home}/sock`, "run", "--rm", "--network", "none", "bb", "echo", String(i)], { timeout: 100_000 }),
      ),
    );
    expect(outputs.map(({ stdout }) => stdout.trim())).toEqual(Array.from({ length: AT_ONCE }, (_, i) => String(i)));
    const states = join(home, "exec/runtime-runc/moby"); // dockerd's name for the directory that it gives as --root
    expect(readdirSync(states)).toEqual([]);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(join(home, "exec/containerd"));
  });
});

describe.skipIf(!able || !has("podman"))("below podman", () => {
  const lab = new RuntimeUnderTest(wherryRuntime);
  const home = lab.directory;
  const roots = ["--root", join(home, "podman/root"), "--runroot", join(home, "podman/run"), "--storage-driver", "vfs"];
  const podman = (...args: string[]) =>
    spawnSync("podman", [...roots, "--runtime", wherryRuntime, "--cgroup-manager", "cgroupfs", "--events-backend", "file", ...args], {
      encoding: "utf8",
      timeout: 60_000,
      cwd: "/",
    });
  // podman's own defaults ask for more than a host without CAP_SYS_RESOURCE may give.
  const limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
  afterAll(() => {
    podman("rm", "-f", "-a", "-t", "0");
    spawnSync("umount", [join(home, "podman/root/vfs")], { stdio: "ignore" });
    lab.dispose();
  });

  it("runs, executes in, stops and removes a container", () => {
    const rootfs = join(lab.bundle(""), "rootfs");
    const answer = podman("run", "--rm", "--network", "none", ...limits, "--rootfs", rootfs, "sh", "-c", "echo out; exit 3");
    expect(answer, answer.stderr).toMatchObject({ status: 3, stdout: "out\n" });
    expect(podman("run", "-d", "--name", "life", "--network", "none", ...limits, "--rootfs", rootfs, "sleep", "1000").status).toBe(0);
    expect(podman("exec", "life", "sh", "-c", "echo in; exit 5")).toMatchObject({ status: 5, stdout: "in\n" });
    expect(podman("stop", "-t", "0", "life").status).toBe(0);
    expect(podman("rm", "life").status).toBe(0);
  });
});
