/** Plans performed on the real kernel: what a process in a container sees and may do. */
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { planReadRootFiles } from "#runtime/mod.ts";
import { listHostDevices } from "#linux/devices.ts";
import { probeHost } from "#linux/probe-host.ts";
import { until } from "./engine-setup.ts";
import { Sandbox } from "./sandbox.ts";

const facts = await probeHost();
const needsRoot = process.getuid?.() !== 0;
if (needsRoot) it.skip("runtime: needs root", () => undefined);
const box = needsRoot ? (undefined as never) : await Sandbox.open(facts);
afterAll(async () => {
  if (!needsRoot) await box[Symbol.asyncDispose]();
});
const sh = (script: string) => ["sh", "-c", script];
const lines = (text: string) => text.trim().split("\n");

describe.skipIf(needsRoot)("a default container", () => {
  it("passes output and exit code on", async () => {
    expect(await box.run({ args: sh("echo out; echo err >&2; exit 3") })).toMatchObject({ code: 3, stdout: "out\n", stderr: "err\n" });
    expect(await box.run({ args: ["cat"], stdin: "through\n" })).toMatchObject({ code: 0, stdout: "through\n" });
    expect(await box.run({ args: sh("kill -9 $$") })).toMatchObject({ signal: 0 }); // process 1 cannot kill itself
  });

  it("is alone: process 1, its own name, no System V objects, only lo", async () => {
    const { stdout } = await box.run({
      args: sh(
        "echo $$; ps -o pid,comm; hostname; hostname other; hostname; ipcs | grep -c 0x; ip -o link | wc -l; ip -o -4 addr | tr -s ' ' | cut -d' ' -f2-4; ping -c1 -w1 127.0.0.1 | grep -c '1 packets received'",
      ),
    });
    expect(lines(stdout)).toEqual([
      "1",
      expect.stringMatching(/PID/),
      expect.stringMatching(/1 sh/),
      expect.stringMatching(/2 ps/),
      "boxed",
      "boxed",
      "0",
      "1",
      "lo inet 127.0.0.1/8",
      "1",
    ]);
    expect(hostname()).not.toBe("boxed");
  });

  it("has Docker's capabilities and a filter", async () => {
    const { stdout } = await box.run({ args: sh("cat /proc/1/status") });
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(stdout)?.[1];
    for (const set of ["CapEff", "CapPrm", "CapBnd"]) expect(field(set)).toBe("00000000a80425fb");
    for (const set of ["CapInh", "CapAmb"]) expect(field(set)).toBe("0000000000000000");
    expect([field("Seccomp"), field("NoNewPrivs"), field("Umask")]).toEqual(["2", "0", "0022"]);
  });

  it("is refused what a container does not need", async () => {
    const refused = async (command: string) => (await box.run({ args: sh(`(${command}) 2>&1; echo "=$?"`) })).stdout;
    expect(await refused("mount -t tmpfs none /tmp")).toMatch(/ermission|not permitted[\s\S]*=[1-9]/);
    expect(await refused("unshare -U true")).toMatch(/not permitted[\s\S]*=1/);
    expect(await refused("echo 1 > /proc/sys/kernel/panic")).toMatch(/Read-only file system/);
    expect(await refused("echo b > /proc/sysrq-trigger")).toMatch(/Read-only file system|nonexistent/);
    expect(await refused("echo 1 > /sys/kernel/mm/ksm/run; touch /sys/x")).toMatch(/Read-only file system|=1/);
    expect(await refused("date -s 2001-01-01")).toMatch(/not permitted/);
    expect(await refused("mknod /tmp/disk b 254 0 && cat /tmp/disk")).toMatch(/not permitted[\s\S]*=1/);
  });

  it("sees masked paths empty", async () => {
    const { stdout } = await box.run({
      args: sh(
        "for p in keys timer_list sched_debug kcore; do if [ -e /proc/$p ]; then wc -c < /proc/$p; fi; done; ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v :$ | grep -c .",
      ),
    });
    expect(new Set(lines(stdout))).toEqual(new Set(["0"]));
  });

  it("has Docker's devices, and can use them", async () => {
    const script =
      "ls /dev | tr '\\n' ' '; echo; head -c 3 /dev/zero | wc -c; echo x > /dev/null && cat /dev/null | wc -c; head -c 8 /dev/urandom | wc -c; echo x > /dev/full; ls /dev/pts";
    const { stdout, stderr } = await box.run({ args: sh(script) });
    expect(lines(stdout)).toEqual(["core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ", "3", "0", "8", "ptmx"]);
    expect(stderr).toContain("No space left on device");
  });

  it("has nothing of the engine open", async () => {
    const running = await box.start({ args: ["sleep", "60"] });
    expect(readdirSync(`/proc/${running.link.pid}/fd`)).toEqual(["0", "1", "2"]);
    await running.link.kill(9);
    await running.finish();
    const { stdout } = await box.run({ args: sh("tr '\\0' '\\n' < /proc/1/environ; cat /proc/keys; ls /proc/1/root") });
    expect(stdout).toContain("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOSTNAME=boxed\nHOME=/root\n");
    expect(lines(stdout).slice(3)).toEqual(["bin", "dev", "etc", "proc", "root", "sbin", "sys", "tmp", "usr", "var"]);
  });

  it("copies on write, and leaves the layers and other containers alone", async () => {
    const root = box.overlay();
    const { stdout } = await box.run({ root, args: sh("echo mine > /etc/plain; rm /bin/junk; mkdir /new; cat /etc/plain; stat -c %d:%i /bin/busybox") });
    expect(lines(stdout)[0]).toBe("mine");
    expect(readFileSync(join(box.dir, "base/etc/plain"), "utf8")).toBe("a lower file\n");
    expect(readFileSync(join(root.upper ?? "", "etc/plain"), "utf8")).toBe("mine\n");
    expect(statSync(join(root.upper ?? "", "bin/junk")).isCharacterDevice()).toBe(true);
    const again = await box.run({ root, args: sh("cat /etc/plain; ls /bin/junk; ls -d /new") });
    expect(again.stdout).toBe("mine\n/new\n");
    expect((await box.run({ args: sh("cat /etc/plain; ls /bin/junk") })).stdout).toBe("a lower file\n/bin/junk\n");
  });

  it("has the engine's files, which it may write", async () => {
    const { stdout } = await box.run({ args: sh("cat /etc/hosts /etc/hostname /etc/resolv.conf; echo '# more' >> /etc/hosts && echo ok") });
    expect(stdout).toBe("127.0.0.1 localhost\nboxed\nnameserver 192.0.2.1\nok\n");
  });

  it("sees its own cgroup as the root, read-only", async () => {
    const { stdout, stderr } = await box.run({
      args: sh(
        "cut -d: -f3 /proc/self/cgroup | sort -u; cat /sys/fs/cgroup/*/cgroup.procs | sort -u | head -1; echo 0 > /sys/fs/cgroup/pids/pids.max || echo 1 > /sys/fs/cgroup/pids.max; touch /sys/fs/cgroup/x",
      ),
      hostConfig: { PidsLimit: 33 },
    });
    expect(lines(stdout)[0]).toBe("/");
    expect(stderr).toMatch(/Read-only file system[\s\S]*Read-only file system/);
  });
});

describe.skipIf(needsRoot)("who it is", () => {
  it("is the user that was asked for, without capabilities", async () => {
    const { stdout } = await box.run({
      args: sh("id -u; id -g; id -G; grep CapEff /proc/self/status; echo $HOME; echo hi > /dev/stdout; touch /etc/x 2>&1"),
      config: { User: "www-data" },
      hostConfig: { GroupAdd: ["4242"] },
    });
    expect(lines(stdout)).toEqual(["33", "33", "33 8 4242", "CapEff:\t0000000000000000", "/var/www", "hi", expect.stringContaining("Permission denied")]);
  });

  it("gets only what CapDrop and CapAdd leave", async () => {
    const { stdout } = await box.run({
      args: sh("grep Cap /proc/self/status; chown 1 /etc/plain 2>&1"),
      hostConfig: { CapDrop: ["ALL"], CapAdd: ["NET_BIND_SERVICE"] },
    });
    expect(stdout).toContain("CapBnd:\t0000000000000400");
    expect(stdout).toContain("Operation not permitted");
  });

  it("gains nothing from set-uid programs with no-new-privileges", async () => {
    const script =
      "cp /bin/busybox /tmp/id; chmod 4755 /tmp/id; su www-data -s /bin/sh -c 'true' 2>/dev/null; grep NoNew /proc/self/status; grep Seccomp: /proc/self/status";
    const { stdout } = await box.run({ args: sh(script), hostConfig: { SecurityOpt: ["no-new-privileges"] } });
    expect(lines(stdout)).toEqual(["NoNewPrivs:\t1", "Seccomp:\t2"]);
    const asUser = await box.run({
      args: sh("grep -E 'NoNew|Seccomp:|CapEff' /proc/self/status"),
      config: { User: "33" },
      hostConfig: { SecurityOpt: ["no-new-privileges"] },
    });
    expect(asUser.stdout).toContain("NoNewPrivs:\t1");
  });

  it("may do nearly anything when privileged", async () => {
    const devices = (await listHostDevices()).map((device) => ({ ...device, access: "rwm" }));
    const { stdout } = await box.run({
      args: sh(
        "grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs none /tmp && echo mounted; ls /dev | wc -l; wc -c < /proc/keys; touch /sys/fs/cgroup/*/x 2>/dev/null; echo",
      ),
      devices,
      hostConfig: { Privileged: true },
    });
    expect(stdout).toContain(`CapEff:\t${typeof facts.capabilities === "string" ? facts.capabilities : ""}`);
    expect(stdout).toContain("Seccomp:\t0");
    expect(stdout).toContain("mounted");
    expect(Number(lines(stdout)[3])).toBeGreaterThan(20);
  });

  it("takes a profile of its own", async () => {
    const profile = JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 28 }] });
    const { stdout } = await box.run({ args: sh("mkdir /x 2>&1"), hostConfig: { SecurityOpt: [`seccomp=${profile}`] } });
    expect(stdout).toContain("No space left on device");
    expect((await box.run({ args: sh("grep Seccomp: /proc/self/status"), hostConfig: { SecurityOpt: ["seccomp=unconfined"] } })).stdout).toBe("Seccomp:\t0\n");
  });
});

describe.skipIf(needsRoot)("what was asked for", () => {
  it("binds, volumes and tmpfs, read-only where they should be", async () => {
    const dir = join(box.dir, "shared");
    mkdirSync(join(dir, "deep"), { recursive: true });
    writeFileSync(join(dir, "f"), "shared\n");
    writeFileSync(join(box.dir, "single"), "one file\n");
    const mounts = [
      { Type: "bind" as const, Source: dir, Destination: "/rw", RW: true, Propagation: "" },
      { Type: "bind" as const, Source: dir, Destination: "/not/there/yet", RW: false, Propagation: "" },
      { Type: "bind" as const, Source: join(box.dir, "single"), Destination: "/etc/single.conf", RW: false, Propagation: "", file: true },
    ];
    const { stdout, stderr } = await box.run({
      args: sh(
        "cat /rw/f /etc/single.conf; echo new > /rw/g; cat /not/there/yet/g; echo x > /not/there/yet/h; echo x > /etc/single.conf; echo t > /run/t && cat /run/t; df /run | tail -1 | tr -s ' ' | cut -d' ' -f2",
      ),
      mounts,
      hostConfig: { Tmpfs: { "/run": "size=1m" } },
    });
    expect(stdout).toBe("shared\none file\nnew\nt\n1024\n");
    expect(stderr.match(/Read-only file system/g)).toHaveLength(2);
    expect(readFileSync(join(dir, "g"), "utf8")).toBe("new\n");
  });

  it("more binds than there are slots", async () => {
    const mounts = Array.from({ length: 70 }, (_, i) => ({
      Type: "bind" as const,
      Source: join(box.dir, "base/etc"),
      Destination: `/many/${i}`,
      RW: i % 2 === 0,
      Propagation: "",
    }));
    expect((await box.run({ args: sh("cat /many/0/plain /many/69/plain; ls /many | wc -l"), mounts })).stdout).toBe("a lower file\na lower file\n70\n");
  });

  it("a read-only root with writable places", async () => {
    const { stdout, stderr } = await box.run({
      args: sh("touch /x; touch /dev/shm/y && echo shm; touch /etc/hosts; touch /run/z && echo run"),
      hostConfig: { ReadonlyRootfs: true, Tmpfs: { "/run": "" } },
    });
    expect(stdout).toBe("shm\nrun\n");
    expect(stderr.match(/Read-only file system/g)).toHaveLength(2);
  });

  it("a working directory that the image lacks", async () => {
    expect((await box.run({ args: ["pwd"], config: { WorkingDir: "/a/b" } })).stdout).toBe("/a/b\n");
  });

  it("ulimits, OOM score, sysctls, shm size", async () => {
    const hostConfig = {
      Ulimits: [
        { Name: "nofile", Soft: 64, Hard: 128 },
        { Name: "core", Soft: 0, Hard: 0 },
      ],
      OomScoreAdj: 700,
      Sysctls: { "kernel.msgmax": "4096", "net.ipv4.ip_forward": "1" },
      ShmSize: 8 << 20,
    };
    const { stdout } = await box.run({
      args: sh(
        "ulimit -n; ulimit -Hn; cat /proc/1/oom_score_adj /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
      ),
      hostConfig,
    });
    expect(lines(stdout)).toEqual(["64", "128", "700", "4096", "1", "8192"]);
  });

  it("an init that reaps and passes signals and exit codes on", async () => {
    expect(
      await box.run({ args: sh("ps -o pid,args | grep -c 'docker-init --'; (sleep 0.01 &) ; sleep 0.1; ps | grep -c Z; exit 7"), hostConfig: { Init: true } }),
    ).toMatchObject({ code: 7 });
    // At once: docker-init may not have its handlers yet, and process 1 has no default actions.
    const running = await box.start({ args: ["sleep", "60"], hostConfig: { Init: true } });
    await running.link.kill(15);
    expect(await running.finish()).toMatchObject({ code: 143 });
  });

  it("limits", async () => {
    const { stdout, stderr } = await box.run({
      args: sh(
        "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max; for i in 1 2 3 4 5 6 7 8; do sleep 1 & done",
      ),
      hostConfig: { PidsLimit: 5, Memory: 64 << 20 },
    });
    expect(lines(stdout)).toEqual(["5", String(64 << 20)]);
    expect(stderr).toMatch(/fork/);
  });

  it("a directory as the root", async () => {
    const dir = join(box.dir, "tree");
    cpSync(join(box.dir, "base"), dir, { recursive: true, verbatimSymlinks: true });
    // A root that lies about its directories: links that lead out must stay inside.
    symlinkSync("/tmp", join(dir, "data"));
    const mounts = [{ Type: "bind" as const, Source: join(box.dir, "base/etc"), Destination: "/data/in", RW: true, Propagation: "" }];
    const { stdout } = await box.run({
      root: { kind: "bind", source: dir, readonly: false },
      mounts,
      args: sh("ls /tmp/in/plain; mount | grep -c ' on / '; ls -d /proc/1"),
    });
    expect(lines(stdout)).toEqual(["/tmp/in/plain", "1", "/proc/1"]);
    expect(existsSync("/tmp/in")).toBe(false);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(box.dir);
  });
});

describe.skipIf(needsRoot)("a terminal", () => {
  it("is the container's own, with the window's size, and is /dev/console", async () => {
    const running = await box.start({ args: ["sh"], config: { Tty: true } });
    running.type("tty; stty size; ls -l /dev/console | cut -c1; ls /dev/pts; echo hi > /dev/console; test -t 0 && echo yes; exit 5\n");
    const { code, stdout } = await running.finish();
    expect(code).toBe(5);
    for (const text of ["/dev/pts/0", "24 80", "hi", "yes"]) expect(stdout).toContain(text);
  });

  it("sends Ctrl-C to the process in front", async () => {
    const running = await box.start({ args: sh("trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.1; done"), config: { Tty: true } });
    await until(() => running.output().stdout.includes("ready"));
    running.type("\u0003");
    const { code, stdout } = await running.finish();
    expect(code).toBe(4);
    expect(stdout).toContain("interrupted");
  });

  it("works for an ordinary user", async () => {
    const running = await box.start({ args: sh("tty; echo hi > $(tty)"), config: { Tty: true, User: "33" } });
    expect((await running.finish()).stdout).toContain("hi");
  });
});

describe.skipIf(needsRoot || !facts.overlay.layerFds || !facts.idmappedMounts)("a user namespace", () => {
  const mapping = [{ containerID: 0, hostID: 200000, size: 65536 }];
  const userns = { uids: mapping, gids: mapping };

  it("makes root an ordinary user of the host, and files on disk root's all the same", async () => {
    const root = box.overlay();
    const running = await box.start({
      root,
      userns,
      args: sh(
        "id -u; cat /proc/self/uid_map | tr -s ' '; stat -c %u /etc/plain /etc/hosts; echo x > /etc/made; chown 33 /etc/made; echo x >> /etc/hosts && echo wrote; mkdir /d && rm -r /d && rm /bin/junk && echo removed; sleep 0.3",
      ),
    });
    expect(statSync(`/proc/${running.link.pid}`).uid).toBe(200000);
    const { stdout, stderr } = await running.finish();
    expect(stderr).toBe("");
    expect(lines(stdout)).toEqual(["0", " 0 200000 65536", "0", "0", "wrote", "removed"]);
    expect(statSync(join(root.upper ?? "", "etc/made")).uid).toBe(33);
  });

  it("has all the rest of a container", async () => {
    const { stdout, stderr } = await box.run({
      userns,
      args: sh(
        "echo $$; hostname; ip -o link | wc -l; head -c 2 /dev/zero | wc -c; grep -E 'CapEff|Seccomp:' /proc/self/status; cut -d: -f3 /proc/self/cgroup | sort -u; wc -c < /proc/keys; mknod /tmp/n c 1 3 2>&1; mount | grep -c cgroup",
      ),
    });
    expect(lines(stdout).slice(0, 8)).toEqual(["1", "boxed", "1", "2", "CapEff:\t00000000a80425fb", "Seccomp:\t2", "/", "0"]);
    expect(stdout).toContain("Operation not permitted");
    expect(stderr).toBe("");
  });

  it("works with a terminal, volumes, another user, a directory as root, and exec", async () => {
    const volume = join(box.dir, "volume");
    mkdirSync(volume, { recursive: true });
    const mounts = [{ Type: "volume" as const, Source: volume, Destination: "/v", RW: true, Propagation: "" }];
    const tty = await box.start({ userns, mounts, args: sh("tty; stat -c %u /v; touch /v/f; id -u"), config: { Tty: true } });
    expect((await tty.finish()).stdout.replaceAll("\r", "")).toContain("/dev/pts/0\n0\n0\n");
    expect(statSync(join(volume, "f")).uid).toBe(0);
    const user = await box.run({ userns, args: sh("id -u; touch /x 2>&1; echo hi > /dev/stdout"), config: { User: "33" } });
    expect(lines(user.stdout)).toEqual(["33", expect.stringContaining("Permission denied"), "hi"]);
    const dir = await box.run({ userns, root: { kind: "bind", source: join(box.dir, "base"), readonly: false }, args: sh("stat -c %u /etc/plain; id -u") });
    expect(dir.stdout).toBe("0\n0\n");
    const running = await box.start({ userns, args: ["sleep", "60"] });
    expect((await box.exec(running, sh("id -u; hostname; cat /proc/self/uid_map | tr -s ' '; grep CapEff /proc/self/status"))).stdout).toBe(
      "0\nboxed\n 0 200000 65536\nCapEff:\t00000000a80425fb\n",
    );
    expect((await box.exec(running, ["tty"], { tty: true })).stdout).toContain("/dev/pts/0");
    await running.link.kill(9);
    await running.finish();
  });
});

describe.skipIf(needsRoot)("namespaces of others", () => {
  it("the host's, when asked", async () => {
    const { stdout } = await box.run({
      args: sh(
        "for n in pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done; test $$ -gt 1 && echo many; cat /proc/self/cgroup | grep -c wherry-rt; ls /sys/fs/cgroup/*/cgroup.procs | head -1 | wc -l",
      ),
      hostConfig: { PidMode: "host", IpcMode: "host", UTSMode: "host", NetworkMode: "host", CgroupnsMode: "host" },
    });
    const own = ["pid", "ipc", "uts", "net", "cgroup"].map((n) => execFileSync("readlink", [`/proc/self/ns/${n}`], { encoding: "utf8" }).trim());
    expect(lines(stdout).slice(0, 6)).toEqual([...own, "many"]);
    expect(Number(lines(stdout)[6])).toBeGreaterThan(0);
  });

  it("another container's: processes, shared memory, network, name", async () => {
    const first = await box.start({ args: sh("echo secret > /dev/shm/s; sleep 60") });
    await until(async () => (await box.exec(first, ["cat", "/dev/shm/s"])).stdout === "secret\n");
    const pid = first.link.pid;
    const { stdout } = await box.run({
      args: sh("cat /dev/shm/s; ps | grep -c 'sleep 60'; readlink /proc/self/ns/net; echo back > /dev/shm/t; test $$ -gt 1 && echo joined"),
      hostConfig: { PidMode: "container:x", IpcMode: "container:x", NetworkMode: "container:x" },
      join: { pid, ipc: pid, network: pid },
    });
    const net = execFileSync("readlink", [`/proc/${pid}/ns/net`], { encoding: "utf8" }).trim();
    expect(lines(stdout)).toEqual(["secret", expect.stringMatching(/^[1-9]/), net, "joined"]);
    expect((await box.exec(first, ["cat", "/dev/shm/t"])).stdout).toBe("back\n");
    await first.link.kill(9);
    await first.finish();
  });

  it.skipIf(!facts.namespaces.includes("time"))("a time namespace with its offset", async () => {
    const { stdout } = await box.run({
      args: sh("cut -d. -f1 /proc/uptime"),
      amend: (spec) => {
        spec.linux?.namespaces.push({ type: "time" });
        if (spec.linux !== undefined) spec.linux.timeOffsets = { boottime: { secs: 1_000_000 } };
      },
    });
    expect(Number(stdout)).toBeGreaterThan(1_000_000);
  });
});

describe.skipIf(needsRoot)("exec", () => {
  it("runs among the container's processes, in its root and cgroups, with its limits", async () => {
    const running = await box.start({ args: ["sleep", "60"] });
    const { stdout } = await box.exec(
      running,
      sh(
        "hostname; ps | grep -c 'sleep 60'; cut -d: -f3 /proc/self/cgroup | sort -u; grep -E 'CapEff|Seccomp:' /proc/self/status; ls /proc/self/fd | wc -l; cat /etc/plain; ip -o link | wc -l",
      ),
    );
    expect(lines(stdout)).toEqual(["boxed", expect.stringMatching(/^[1-9]$/), "/", "CapEff:\t00000000a80425fb", "Seccomp:\t2", "4", "a lower file", "1"]);
    expect(await box.exec(running, sh("exit 9"))).toMatchObject({ code: 9 });
    const asUser = await box.exec(running, sh("id -u; pwd"), {
      amend: (p) => Object.assign(p, { user: { uid: 33, gid: 33 }, cwd: "/tmp", capabilities: { bounding: p.capabilities?.bounding ?? [] } }),
    });
    expect(asUser.stdout).toBe("33\n/tmp\n");
    expect((await box.exec(running, sh("tty; stty size"), { tty: true })).stdout.replaceAll("\r", "")).toBe("/dev/pts/0\n24 80\n");
    await running.link.kill(9);
    expect(await running.finish()).toMatchObject({ code: 137, signal: 9 });
  });

  it("refuses with Docker's words", async () => {
    const running = await box.start({ args: ["sleep", "60"] });
    await expect(box.exec(running, ["nope"])).rejects.toMatchObject({
      message: expect.stringContaining('exec: "nope": executable file not found in $PATH'),
      details: { exitCode: 127 },
    });
    await expect(box.exec(running, ["ls"], { amend: (p) => Object.assign(p, { cwd: "/nowhere" }) })).rejects.toMatchObject({
      message: expect.stringContaining('chdir to cwd ("/nowhere")'),
      details: { exitCode: 127 },
    });
    await running.link.kill(9);
    await running.finish();
    await expect(box.exec(running, ["ls"])).rejects.toThrow("no such process");
  });
});

describe.skipIf(needsRoot)("what fails", () => {
  it("says so in Docker's words, with Docker's exit codes", async () => {
    const cases: [string, string, number][] = [
      ["foo", 'exec: "foo": executable file not found in $PATH', 127],
      ["/foo", 'exec: "/foo": stat /foo: no such file or directory', 127],
      ["/etc/plain", 'exec: "/etc/plain": permission denied', 126],
      ["/etc", 'exec: "/etc": permission denied', 126],
      ["/bin/junk", 'exec: "/bin/junk": exec format error', 126],
    ];
    for (const [command, message, exitCode] of cases)
      await expect(box.run({ args: [command] })).rejects.toMatchObject({ message: `failed to create task for container: ${message}`, details: { exitCode } });
  });

  it("names the step: a file on a directory, a missing source, a lying working directory", async () => {
    writeFileSync(join(box.dir, "file"), "");
    const bind = (Source: string, file: boolean) =>
      box.run({ args: ["true"], mounts: [{ Type: "bind", Source, Destination: "/etc", RW: true, Propagation: "", file }] });
    await expect(bind(join(box.dir, "file"), true)).rejects.toThrow("Are you trying to mount a directory onto a file");
    await expect(bind(join(box.dir, "missing"), false)).rejects.toMatchObject({
      message: expect.stringContaining("no such file or directory"),
      hint: expect.stringContaining("exist on the host?"),
    });
    for (const WorkingDir of ["/proc/self/fd/101", "/proc/self/fd/107"])
      await expect(box.run({ args: ["pwd"], config: { WorkingDir } })).rejects.toThrow(/chdir to cwd|mkdir/);
    await expect(box.run({ args: ["pwd"], config: { WorkingDir: "/etc/plain" } })).rejects.toThrow("not a directory");
  });

  it("leaves nothing behind", async () => {
    await expect(box.run({ args: ["/foo"] })).rejects.toThrow();
    await until(() => !readFileSync("/proc/self/mountinfo", "utf8").includes(box.dir));
    expect(await box.cgroups.orphans(new Set())).toEqual([]);
  });
});

describe.skipIf(needsRoot)("as on an older kernel", () => {
  it("mounts layers with long names the old way, and changes binds after attaching them", async () => {
    const old = { mountSetattr: false, idmappedMounts: false, overlay: { ...facts.overlay, lowerdirPlus: false, layerFds: false } };
    const base = box.overlay();
    const lower = Array.from({ length: 6 }, (_, i) => join(box.dir, `${"long-".repeat(12)}${i}`));
    for (const [i, dir] of lower.entries()) {
      mkdirSync(dir, { recursive: true });
      writeFileSync(join(dir, `layer${i}`), "");
      if (!existsSync(join(box.dir, `s${i}`))) symlinkSync(dir, join(box.dir, `s${i}`));
    }
    const root = { ...base, lower: [...lower, ...base.lower], links: [...lower.map((_, i) => `s${i}`), ...base.links] };
    const mounts = [{ Type: "bind" as const, Source: join(box.dir, "base/etc"), Destination: "/ro", RW: false, Propagation: "" }];
    const { stdout, stderr } = await box.run({
      root,
      mounts,
      facts: old,
      hostConfig: { ReadonlyRootfs: true },
      // In a shell of its own: this one would have an end of the pipe, or keep its output's descriptor.
      args: sh(
        "ls -d /layer* | wc -l; cat /ro/plain; touch /ro/x; touch /y; echo 1 > /proc/sys/kernel/panic; (ls /proc/1/fd > /dev/shm/fds); wc -l < /dev/shm/fds",
      ),
    });
    expect(lines(stdout)).toEqual(["6", "a lower file", "3"]);
    expect(stderr.match(/Read-only file system/g)).toHaveLength(3);
  });
});

describe.skipIf(needsRoot)("planReadRootFiles", () => {
  it("reads as the container would, links within the root, and misses what is not there", async () => {
    const root = box.overlay();
    mkdirSync(join(root.upper ?? "", "etc"), { recursive: true });
    symlinkSync("/etc/plain", join(root.upper ?? "", "etc/link"));
    symlinkSync("../../../../../../etc/hostname", join(root.upper ?? "", "etc/out"));
    writeFileSync(join(root.upper ?? "", "etc/group"), "changed:x:1:\n");
    const files = ["/etc/passwd", "/etc/group", "/etc/link", "/etc/none", "/etc/out"].map((path, tag) => ({ path, tag, max: 4096 }));
    for (const some of [facts, { ...facts, overlay: { ...facts.overlay, lowerdirPlus: false } }]) {
      const reports = await box.helper.call(planReadRootFiles(root, files, some));
      const text = (tag: number) => (reports.get(tag) === undefined ? undefined : Buffer.from(reports.get(tag) ?? []).toString());
      expect(text(0)).toContain("root:x:0:0");
      expect([text(1), text(2), text(3), text(4)]).toEqual(["changed:x:1:\n", "a lower file\n", undefined, ""]);
    }
  });
});

describe.skipIf(needsRoot || spawnSync("runc", ["--version"]).status !== 0)("beside runc", () => {
  it("shows a process the same world", async () => {
    const script =
      "id; grep -E 'Cap|Secc|NoNew|Groups|Umask' /proc/1/status; cut -d' ' -f5- /proc/self/mountinfo | sort; ls -ln /dev /dev/pts; hostname; ip -o a; cat /proc/self/cgroup; env | sort; cat /proc/self/limits; cat /proc/sys/net/ipv4/ping_group_range; ps -o pid,ppid,pgid,sid,tty | head -2; ls -ld /proc/acpi /sys/firmware";
    const running = await box.start({ args: sh(script) });
    const mine = await running.finish();
    const bundle = join(box.dir, "bundle");
    mkdirSync(join(bundle, "rootfs"), { recursive: true });
    for (const layer of ["base", "init"]) cpSync(join(box.dir, layer), join(bundle, "rootfs"), { recursive: true, verbatimSymlinks: true });
    chmodSync(join(bundle, "rootfs"), 0o755);
    const spec = structuredClone(running.spec);
    if (spec.linux !== undefined) spec.linux.cgroupsPath = `/wherry-rt-runc-${running.id.slice(0, 12)}`;
    writeFileSync(join(bundle, "config.json"), JSON.stringify(spec));
    const theirs = execFileSync("runc", ["--root", join(box.dir, "runc"), "run", "--bundle", bundle, "beside"], { encoding: "utf8" });
    // Known to differ: the root itself, the state of the tmpfs that holds v1 hierarchies (ours is read-only), /dev/core (runc looks whether it is of use).
    const known = /^\/ |^\/sys\/fs\/cgroup |cgroup\/systemd |core ->|^total|_\d+:$/;
    const comparable = (text: string) =>
      lines(text)
        .filter((line) => !known.test(line))
        .map((line) => line.replace(/\w{3} +\d+ \d\d:\d\d/, "DATE").replace(/^([dr]\S+) +\d+ /, "$1 N "));
    expect(comparable(mine.stdout)).toEqual(comparable(theirs));
  });
});
