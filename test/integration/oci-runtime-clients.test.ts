/** `wherry-runtime` in the place of runc: below dockerd (and its containerd, and as a swarm of one node), containerd's `ctr`, and podman. */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { patient } from "../patience.ts";
import { RuntimeUnderTest, wherryRuntime } from "./oci-runtime.fixture.ts";

const has = (name: string) => spawnSync("sh", ["-c", 'command -v "$0"', name]).status === 0;
const able = process.getuid?.() === 0 && existsSync(wherryRuntime) && existsSync("/bin/busybox");
for (const name of ["dockerd", "containerd", "podman"])
  if (!able || !has(name)) console.warn(`skipped: wherry-runtime below ${name} (needs root, a build and ${name})`);

const AT_ONCE = 50;

describe.skipIf(!able || !has("dockerd") || !has("docker"))("below dockerd", () => {
  const lab = new RuntimeUnderTest(wherryRuntime);
  const home = lab.directory;
  let dockerd: ChildProcess;
  const cli = (...args: string[]) => spawnSync("docker", ["-H", `unix://${home}/sock`, ...args], { encoding: "utf8", timeout: patient(120_000) });

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

  it(`runs ${AT_ONCE} at once, and leaves nothing behind`, { timeout: patient(300_000) }, async () => {
    const run = promisify(execFile);
    const outputs = await Promise.all(
      Array.from({ length: AT_ONCE }, (_, i) =>
        run("docker", ["-H", `unix://${home}/sock`, "run", "--rm", "--network", "none", "bb", "echo", String(i)], { timeout: patient(280_000) }),
      ),
    );
    expect(outputs.map(({ stdout }) => stdout.trim())).toEqual(Array.from({ length: AT_ONCE }, (_, i) => String(i)));
    const states = join(home, "exec/runtime-runc/moby"); // dockerd's name for the directory that it gives as --root
    expect(readdirSync(states)).toEqual([]);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(join(home, "exec/containerd"));
  });
});

describe.skipIf(!able || !has("dockerd") || !has("docker"))("as a swarm of one node", () => {
  const lab = new RuntimeUnderTest(wherryRuntime);
  const home = lab.directory;
  const socket = `unix://${home}/sock`;
  let dockerd: ChildProcess;
  const cli = (...args: string[]) => spawnSync("docker", ["-H", socket, ...args], { encoding: "utf8", timeout: patient(120_000) });
  const tasks = () => cli("ps", "-q").stdout.split("\n").filter(Boolean);
  const until = async (holds: () => boolean) => {
    for (let i = 0; i < 300 && !holds(); i++) await sleep(200);
    expect(holds()).toBe(true);
  };

  beforeAll(async () => {
    mkdirSync(home);
    const roots = ["--data-root", join(home, "data"), "--exec-root", join(home, "exec"), "--pidfile", join(home, "pid"), "-H", socket];
    const network = ["--bridge", "none", "--iptables=false", "--ip6tables=false"];
    const runtime = ["--storage-driver", "vfs", "--add-runtime", `wherry=${wherryRuntime}`, "--default-runtime", "wherry"];
    dockerd = spawn("dockerd", [...roots, ...network, ...runtime], { stdio: "ignore", cwd: "/" });
    await until(() => cli("version").status === 0);
    const rootfs = join(lab.bundle(""), "rootfs");
    expect(spawnSync("sh", ["-c", `tar -C "$0" -c . | docker -H ${socket} import - bb`, rootfs]).status).toBe(0);
    const loopback = ["--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:23771", "--data-path-addr", "127.0.0.1"];
    expect(cli("swarm", "init", ...loopback).status).toBe(0);
  });
  afterAll(async () => {
    cli("swarm", "leave", "--force");
    const ended = new Promise((resolve) => dockerd.once("exit", resolve));
    dockerd.kill("SIGTERM");
    await ended;
    spawnSync("umount", [join(home, "exec/netns/default")], { stdio: "ignore" }); // dockerd's own, for --network host
    lab.dispose();
  });

  it("runs a replicated service, and replaces a killed task", async () => {
    const created = cli("service", "create", "--detach", "--name", "s", "--network", "host", "--replicas", "2", "--no-resolve-image", "bb", "sleep", "1000");
    expect(created, created.stderr).toMatchObject({ status: 0 });
    await until(() => tasks().length === 2);
    const [first = "", second = ""] = tasks();
    expect(cli("inspect", "-f", "{{.HostConfig.Runtime}}", first, second).stdout).toBe("wherry\nwherry\n");
    expect(cli("kill", first).status).toBe(0);
    await until(() => tasks().length === 2 && !tasks().includes(first));
    expect(tasks()).toContain(second);
    expect(cli("service", "rm", "s").status).toBe(0);
    await until(() => tasks().length === 0);
    await until(() => readdirSync(join(home, "exec/runtime-runc/moby")).length === 0);
  });
});

describe.skipIf(!able || !has("containerd") || !has("ctr"))("below containerd", () => {
  const lab = new RuntimeUnderTest(wherryRuntime);
  const home = lab.directory;
  let containerd: ChildProcess;
  const words = (...args: string[]) => ["-a", join(home, "sock"), ...args];
  const ctr = (...args: string[]) => spawnSync("ctr", words(...args), { encoding: "utf8", timeout: patient(120_000), cwd: "/" });
  const flags = ["--rootfs", "--env", "PATH=/bin", "--runc-binary", wherryRuntime];
  let rootfs: string;

  beforeAll(async () => {
    rootfs = join(lab.bundle(""), "rootfs");
    const file = join(home, "config.toml");
    const ttrpc = `[ttrpc]\n  address = "${home}/ttrpc"\n`;
    writeFileSync(
      file,
      `version = 2\nroot = "${home}/root"\nstate = "${home}/run"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "${home}/sock"\n${ttrpc}`,
    );
    containerd = spawn("containerd", ["-c", file], { stdio: "ignore", cwd: "/" });
    for (let i = 0; i < 200 && ctr("version").status !== 0; i++) await sleep(100);
  });
  afterAll(async () => {
    const ended = new Promise((resolve) => containerd.once("exit", resolve));
    containerd.kill("SIGTERM");
    await ended;
    lab.dispose();
  });

  it("runs, executes in, kills and removes a container", () => {
    const ran = ctr("run", "--rm", ...flags, rootfs, "one", "echo", "out");
    expect(ran, ran.stderr).toMatchObject({ status: 0, stdout: "out\n" });
    expect(ctr("run", "-d", ...flags, rootfs, "life", "sleep", "1000").status).toBe(0);
    expect(ctr("task", "exec", "--exec-id", "e", "life", "sh", "-c", "echo in; exit 5")).toMatchObject({ status: 5, stdout: "in\n" });
    expect(ctr("task", "rm", "--force", "life").stderr).toMatch(/137|^$/);
    expect(ctr("container", "rm", "life").status).toBe(0);
  });

  it(`runs ${AT_ONCE} at once, and leaves nothing behind`, { timeout: patient(300_000) }, async () => {
    const run = promisify(execFile);
    const one = (i: number) => run("ctr", words("run", "--rm", ...flags, rootfs, `n${i}`, "echo", String(i)), { timeout: patient(280_000), cwd: "/" });
    const outputs = await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => one(i)));
    expect(outputs.map(({ stdout }) => stdout.trim())).toEqual(Array.from({ length: AT_ONCE }, (_, i) => String(i)));
    expect(ctr("container", "ls", "-q").stdout).toBe("");
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(join(home, "run"));
  });
});

describe.skipIf(!able || !has("podman"))("below podman", () => {
  const lab = new RuntimeUnderTest(wherryRuntime);
  const home = lab.directory;
  const roots = ["--root", join(home, "podman/root"), "--runroot", join(home, "podman/run"), "--storage-driver", "vfs"];
  const words = [...roots, "--runtime", wherryRuntime, "--cgroup-manager", "cgroupfs", "--events-backend", "file"];
  const podman = (...args: string[]) => spawnSync("podman", [...words, ...args], { encoding: "utf8", timeout: patient(120_000), cwd: "/" });
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

  it(`runs ${AT_ONCE} at once, and leaves nothing behind`, { timeout: patient(300_000) }, async () => {
    const rootfs = join(lab.bundle(""), "rootfs");
    const run = promisify(execFile);
    const args = (i: number) => [...words, "run", "--rm", "--network", "none", ...limits, "--rootfs", rootfs, "echo", String(i)];
    const outputs = await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => run("podman", args(i), { timeout: patient(280_000), cwd: "/" })));
    expect(outputs.map(({ stdout }) => stdout.trim())).toEqual(Array.from({ length: AT_ONCE }, (_, i) => String(i)));
    expect(podman("ps", "-a", "-q").stdout).toBe("");
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(`${home}/podman/run`);
  });
});
