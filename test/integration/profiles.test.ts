/** What a container may do and have, option by option, as it is seen from inside; and what is refused. Messages beside dockerd's: test/compat/profile-messages. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ContainerConfig, HostConfig } from "#core/container-config.ts";
import { openEngine } from "#engine/open-engine.ts";
import { probeHost } from "#linux/probe-host.ts";
import { TestEngine, until } from "./engine-setup.ts";

const facts = await probeHost();
const root = process.getuid?.() === 0;
const v2 = facts.cgroup.mode === "v2";
const [major = 0, minor = 0] = release().split(".").map(Number);

interface Case {
  readonly host?: Partial<HostConfig>;
  readonly config?: Partial<ContainerConfig>;
  readonly script: string;
  readonly shows: string | RegExp;
  /** Why it cannot be seen here. */
  readonly not?: string | false | undefined;
}

/** A file of the container's own cgroup: v1's controller and name, v2's name. */
const limit = (v1: string, name2: string): string => `cat /sys/fs/cgroup/${v2 ? name2 : v1} 2>&1`;
const noFile = (v1: string): string | false => (facts.cgroup.v1[v1.split("/")[0] ?? ""] === undefined && !v2 ? "no such controller" : false);
const onlyV1 = (v1: string): string | false => (v2 ? "a limit of cgroup v1" : noFile(v1));
const seccomp = (profile: object): Partial<HostConfig> => ({ SecurityOpt: [`seccomp=${JSON.stringify(profile)}`] });
const noMkdir = { names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO", errnoRet: 95 };
const allowed = {
  defaultAction: "SCMP_ACT_ALLOW",
  archMap: [
    { architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86"] },
    { architecture: "SCMP_ARCH_AARCH64", subArchitectures: [] },
  ],
};
const mkdirSays = "mkdir /tmp/d 2>&1 && echo made";
const refusedByFilter = /Operation not supported/;
const caps = "grep CapBnd /proc/self/status | cut -f2";

/** A loop device: no disk of the machine is slowed down by it. */
const loop = "/dev/loop6";
const loopNumbers = "7:6";
const weight = (file: string): string | false =>
  !v2 && [`blkio.${file}`, `blkio.bfq.${file}`].some((name) => existsSync(`${facts.cgroup.v1["blkio"] ?? "/none"}/${name}`))
    ? false
    : "no disk scheduler with weights";
const realtime = !v2 && existsSync(`${facts.cgroup.v1["cpu"] ?? "/none"}/cpu.rt_runtime_us`);
const throttled = (host: Partial<HostConfig>, v1: string, v2Text: string, rate: number): Case => ({
  host,
  script: v2 ? "cat /sys/fs/cgroup/io.max" : `cat /sys/fs/cgroup/blkio/blkio.throttle.${v1}`,
  shows: v2 ? new RegExp(`${loopNumbers} .*${v2Text}`) : `${loopNumbers} ${rate}`,
  not: !existsSync(loop) ? `no ${loop} here` : noFile("blkio/"),
});

const cases: Readonly<Record<string, Case>> = {
  // seccomp
  "seccomp in Docker's form": { host: seccomp({ ...allowed, syscalls: [noMkdir] }), script: mkdirSays, shows: refusedByFilter },
  "seccomp in OCI's form": {
    host: seccomp({ defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"], syscalls: [noMkdir] }),
    script: mkdirSays,
    shows: refusedByFilter,
  },
  "seccomp: a name in the old form": {
    host: seccomp({
      ...allowed,
      syscalls: [
        { name: "mkdir", action: "SCMP_ACT_ERRNO", errnoRet: 95 },
        { name: "mkdirat", action: "SCMP_ACT_ERRNO", errnoRet: 95 },
      ],
    }),
    script: mkdirSays,
    shows: refusedByFilter,
  },
  "seccomp: excludes a capability that it has": {
    host: { ...seccomp({ ...allowed, syscalls: [{ ...noMkdir, excludes: { caps: ["CAP_NET_ADMIN"] } }] }), CapAdd: ["NET_ADMIN"] },
    script: mkdirSays,
    shows: "made",
  },
  "seccomp: excludes a capability that it lacks": {
    host: seccomp({ ...allowed, syscalls: [{ ...noMkdir, excludes: { caps: ["CAP_NET_ADMIN"] } }] }),
    script: mkdirSays,
    shows: refusedByFilter,
  },
  "seccomp: includes a capability that it lacks": {
    host: seccomp({ ...allowed, syscalls: [{ ...noMkdir, includes: { caps: ["CAP_NET_ADMIN"] } }] }),
    script: mkdirSays,
    shows: "made",
  },
  "seccomp: for newer kernels only": {
    host: seccomp({ ...allowed, syscalls: [{ ...noMkdir, includes: { minKernel: `${major + 1}.0` } }] }),
    script: mkdirSays,
    shows: "made",
  },
  "seccomp: for this kernel on": {
    host: seccomp({ ...allowed, syscalls: [{ ...noMkdir, includes: { minKernel: `${major}.${minor}` } }] }),
    script: mkdirSays,
    shows: refusedByFilter,
  },
  "seccomp: of another architecture": {
    host: seccomp({ ...allowed, syscalls: [{ ...noMkdir, includes: { arches: ["s390x"] } }] }),
    script: mkdirSays,
    shows: "made",
  },
  "seccomp: by an argument": {
    // S_IFMT of mknod's mode: a FIFO is refused, a file is not.
    host: seccomp({
      ...allowed,
      syscalls: [
        { names: ["mknod"], action: "SCMP_ACT_ERRNO", errnoRet: 95, args: [{ index: 1, value: 0o170000, valueTwo: 0o010000, op: "SCMP_CMP_MASKED_EQ" }] },
        { names: ["mknodat"], action: "SCMP_ACT_ERRNO", errnoRet: 95, args: [{ index: 2, value: 0o170000, valueTwo: 0o010000, op: "SCMP_CMP_MASKED_EQ" }] },
      ],
    }),
    script: "mkfifo /tmp/f 2>&1; mknod /tmp/n c 1 3 && echo node",
    shows: /Operation not supported[\s\S]*node/,
  },
  "seccomp builtin": { host: { SecurityOpt: ["seccomp=builtin"] }, script: "grep Seccomp: /proc/self/status | cut -f2", shows: "2" },
  "seccomp unconfined": { host: { SecurityOpt: ["seccomp=unconfined"] }, script: "grep Seccomp: /proc/self/status | cut -f2", shows: "0" },
  // rights
  "no-new-privileges": { host: { SecurityOpt: ["no-new-privileges"] }, script: "grep NoNewPrivs /proc/self/status | cut -f2", shows: "1" },
  "no-new-privileges:false": { host: { SecurityOpt: ["no-new-privileges:false"] }, script: "grep NoNewPrivs /proc/self/status | cut -f2", shows: "0" },
  "default capabilities": { script: caps, shows: "00000000a80425fb" },
  "cap-drop ALL": { host: { CapDrop: ["ALL"] }, script: caps, shows: "0000000000000000" },
  "cap-drop ALL, cap-add one": { host: { CapDrop: ["ALL"], CapAdd: ["chown"] }, script: caps, shows: "0000000000000001" },
  "cap-add with the prefix": { host: { CapDrop: ["all"], CapAdd: ["CAP_NET_ADMIN"] }, script: caps, shows: "0000000000001000" },
  "cap-add ALL, cap-drop one": { host: { CapAdd: ["ALL"], CapDrop: ["CHOWN"] }, script: `${caps} | tail -c 2`, shows: "e" },
  "masked and read-only paths": { script: "wc -c < /proc/keys; (echo 1 > /proc/sys/kernel/domainname) 2>&1", shows: /^0\b[\s\S]*Read-only/ },
  "systempaths=unconfined": { host: { SecurityOpt: ["systempaths=unconfined"] }, script: "grep -c ' /proc/kcore ' /proc/self/mountinfo; true", shows: "0" },
  "cgroups are read-only": { script: "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x 2>&1 | grep -c Read-only", shows: /[12]/ },
  "writable-cgroups=true": {
    host: { SecurityOpt: ["writable-cgroups=true"] },
    script: `D=/sys/fs/cgroup/${v2 ? "" : "pids/"}x; mkdir $D && echo made; rmdir $D`,
    shows: "made",
  },
  "label=disable": { host: { SecurityOpt: ["label=disable"] }, script: "echo ran", shows: "ran" },
  "group-add": { host: { GroupAdd: ["mail", "4242"] }, script: "id -G", shows: /\b8\b.*\b4242\b/ },
  "a user's groups": { config: { User: "33:33" }, host: { GroupAdd: ["7"] }, script: "id -G", shows: "33 7" },
  // devices
  "device by path, with permissions": {
    host: { Devices: [{ PathOnHost: "/dev/full", PathInContainer: "/dev/mine", CgroupPermissions: "r" }] },
    script: "head -c1 /dev/mine | wc -c; stat -c %t:%T /dev/mine",
    shows: "1\n1:7",
  },
  "device: all below a directory": {
    host: { Devices: [{ PathOnHost: "/dev/net", PathInContainer: "/dev/mynet", CgroupPermissions: "rwm" }] },
    script: "stat -c %t:%T /dev/mynet/tun",
    shows: "a:c8",
    not: (await import("node:fs")).existsSync("/dev/net/tun") ? false : "no /dev/net/tun",
  },
  "device-cgroup-rule": {
    host: { DeviceCgroupRules: ["c 10:229 r"] },
    // Whether such a device is there or not: it is not the cgroup that refuses it.
    script: "for n in 229 228; do mknod /tmp/$n c 10 $n; (: < /tmp/$n) 2>&1 | grep -c 'not permitted'; done",
    shows: "0\n1",
  },
  "another device is refused": { script: "mknod /tmp/k c 1 11; head -c1 /tmp/k 2>&1", shows: /Operation not permitted/ },
  // kernel settings
  "sysctl of its IPC namespace": { host: { Sysctls: { "kernel.shmmni": "123" } }, script: "cat /proc/sys/kernel/shmmni", shows: "123" },
  "sysctl of its network": { host: { Sysctls: { "net.ipv4.ip_forward": "1" } }, script: "cat /proc/sys/net/ipv4/ip_forward", shows: "1" },
  "sysctl of message queues": { host: { Sysctls: { "fs.mqueue.msg_max": "12" } }, script: "cat /proc/sys/fs/mqueue/msg_max", shows: "12" },
  ulimit: { host: { Ulimits: [{ Name: "nofile", Soft: 100, Hard: 200 }] }, script: "ulimit -Sn; ulimit -Hn", shows: "100\n200" },
  "shm-size": { host: { ShmSize: 4 << 20 }, script: "df -k /dev/shm | tail -1 | awk '{print $2}'", shows: "4096" },
  domainname: { config: { Hostname: "h", Domainname: "d.test" }, script: "hostname; cat /proc/sys/kernel/domainname", shows: "h\nd.test" },
  "ipc none": { host: { IpcMode: "none" }, script: "grep -c ' /dev/shm ' /proc/self/mountinfo", shows: "0" },
  "cgroupns private": { host: { CgroupnsMode: "private" }, script: "cut -d: -f3 /proc/self/cgroup | sort -u", shows: "/" },
  "cgroupns host": { host: { CgroupnsMode: "host" }, script: "grep -c [0-9a-f]\\\\{64\\\\} /proc/self/cgroup", shows: /[1-9]/ },
  "cgroup-parent": {
    host: { CgroupnsMode: "host", CgroupParent: "/wherry-prof-parent" },
    script: "grep -c /wherry-prof-parent/ /proc/self/cgroup",
    shows: /[1-9]/,
  },
  umask: { script: "umask", shows: "0022" },
  // limits
  memory: { host: { Memory: 64 << 20 }, script: limit("memory/memory.limit_in_bytes", "memory.max"), shows: String(64 << 20) },
  "memory-reservation": {
    host: { Memory: 64 << 20, MemoryReservation: 32 << 20 },
    script: limit("memory/memory.soft_limit_in_bytes", "memory.low"),
    shows: String(32 << 20),
  },
  "memory-swap": {
    host: { Memory: 64 << 20, MemorySwap: 96 << 20 },
    script: limit("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    shows: String((v2 ? 32 : 96) << 20),
    not: facts.swapAccounting ? false : "no swap accounting",
  },
  "memory of TCP buffers": {
    host: { KernelMemoryTCP: 8 << 20 },
    script: limit("memory/memory.kmem.tcp.limit_in_bytes", ""),
    shows: String(8 << 20),
    not: onlyV1("memory/"),
  },
  "memory-swappiness": { host: { MemorySwappiness: 7 }, script: limit("memory/memory.swappiness", ""), shows: "7", not: onlyV1("memory/") },
  "oom-kill-disable": {
    host: { OomKillDisable: true, Memory: 64 << 20 },
    script: "grep oom_kill_disable /sys/fs/cgroup/memory/memory.oom_control",
    shows: "oom_kill_disable 1",
    not: onlyV1("memory/"),
  },
  "oom-score-adj": { host: { OomScoreAdj: 500 }, script: "cat /proc/self/oom_score_adj", shows: "500" },
  "pids-limit": { host: { PidsLimit: 33 }, script: limit("pids/pids.max", "pids.max"), shows: "33" },
  "cpu-shares": { host: { CpuShares: 512 }, script: limit("cpu/cpu.shares", "cpu.weight"), shows: v2 ? /^\d+$/ : "512" },
  cpus: { host: { NanoCpus: 500_000_000 }, script: limit("cpu/cpu.cfs_quota_us", "cpu.max"), shows: v2 ? "50000 100000" : "50000" },
  "cpu-period and cpu-quota": {
    host: { CpuPeriod: 20000, CpuQuota: 10000 },
    script: limit("cpu/cpu.cfs_quota_us", "cpu.max"),
    shows: v2 ? "10000 20000" : "10000",
  },
  "cpuset-cpus": { host: { CpusetCpus: "0" }, script: "grep Cpus_allowed_list /proc/self/status | cut -f2", shows: "0" },
  "cpu-rt-period and cpu-rt-runtime": {
    host: { CpuRealtimePeriod: 500_000, CpuRealtimeRuntime: 2000 },
    script: "cd /sys/fs/cgroup/cpu; cat cpu.rt_period_us cpu.rt_runtime_us",
    shows: "500000\n2000",
    not: realtime ? false : "no real-time group scheduling",
  },
  "blkio-weight": {
    host: { BlkioWeight: 300 },
    script: "cat /sys/fs/cgroup/blkio/blkio*weight",
    shows: /300/,
    not: weight("weight"),
  },
  "blkio-weight-device": {
    host: { BlkioWeightDevice: [{ Path: loop, Weight: 300 }] },
    script: "cat /sys/fs/cgroup/blkio/blkio*weight_device",
    shows: new RegExp(`${loopNumbers} 300`),
    not: weight("weight_device"),
  },
  "device-read-bps": throttled({ BlkioDeviceReadBps: [{ Path: loop, Rate: 1 << 20 }] }, "read_bps_device", "rbps=1048576", 1 << 20),
  "device-write-bps": throttled({ BlkioDeviceWriteBps: [{ Path: loop, Rate: 2 << 20 }] }, "write_bps_device", "wbps=2097152", 2 << 20),
  "device-read-iops": throttled({ BlkioDeviceReadIOps: [{ Path: loop, Rate: 100 }] }, "read_iops_device", "riops=100", 100),
  "device-write-iops": throttled({ BlkioDeviceWriteIOps: [{ Path: loop, Rate: 200 }] }, "write_iops_device", "wiops=200", 200),
  "cgroup-conf memory.high and memory.oom.group": {
    host: { WherryUnified: { "memory.high": "50331648", "memory.oom.group": "1" } },
    script: "cd /sys/fs/cgroup; cat memory.high memory.oom.group",
    shows: "50331648\n1",
    not: v2 ? false : "files of cgroup v2",
  },
  "cpuset-mems": { host: { CpusetMems: "0" }, script: limit("cpuset/cpuset.mems", "cpuset.mems"), shows: "0" },
};

const refusals: Readonly<Record<string, readonly [Partial<HostConfig>, string]>> = {
  "sysctl of the host": [{ Sysctls: { "kernel.panic": "1" } }, 'sysctl "kernel.panic" is not in a separate kernel namespace'],
  "sysctl with the host's IPC": [{ IpcMode: "host", Sysctls: { "kernel.shmmni": "1" } }, 'sysctl "kernel.shmmni" is not in a separate kernel namespace'],
  "sysctl that is the hostname": [
    { Sysctls: { "kernel.hostname": "x" } },
    'sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field',
  ],
  "device that is not there": [
    { Devices: [{ PathOnHost: "/dev/zzz", PathInContainer: "/dev/zzz", CgroupPermissions: "rwm" }] },
    'error gathering device information while adding custom device "/dev/zzz": no such file or directory',
  ],
  "device that is none": [
    { Devices: [{ PathOnHost: "/etc/passwd", PathInContainer: "/dev/x", CgroupPermissions: "rwm" }] },
    'error gathering device information while adding custom device "/etc/passwd": not a device node',
  ],
  "device rule": [{ DeviceCgroupRules: ["x 1:2 r"] }, "invalid device cgroup rule format: 'x 1:2 r'"],
  "profile with two kinds of architectures": [
    seccomp({ defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_X86"], archMap: [{ architecture: "SCMP_ARCH_X86_64", subArchitectures: [] }] }),
    "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
  ],
  "CDI device that is not there": [
    { DeviceRequests: [{ Driver: "cdi", Count: 0, DeviceIDs: ["acme.com/thing=9"], Capabilities: null, Options: null }] },
    "CDI device injection failed: unresolvable CDI devices acme.com/thing=9",
  ],
  "GPUs of an unknown maker": [
    { DeviceRequests: [{ Driver: "other", Count: -1, DeviceIDs: null, Capabilities: [["gpu"]], Options: null }] },
    'could not select device driver "other" with capabilities: [[gpu]]',
  ],
  "more GPUs than there are": [
    { DeviceRequests: [{ Driver: "", Count: 3, DeviceIDs: null, Capabilities: [["gpu"]], Options: null }] },
    "3 devices of acme.com/gpu were asked for, and there are 2",
  ],
  "a device that needs a part of the cache": [
    { DeviceRequests: [{ Driver: "cdi", Count: 0, DeviceIDs: ["acme.com/hooked=rdt"], Capabilities: null, Options: null }] },
    "the CDI device acme.com/hooked=rdt needs intelRdt, which this engine does not do",
  ],
};

describe.skipIf(!root)("profiles", () => {
  let t: TestEngine;
  let work: string;
  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), "wherry-prof-"));
    const [etc, run] = [join(work, "etc"), join(work, "run")];
    for (const dir of [etc, run]) mkdirSync(dir);
    writeFileSync(join(work, "lib"), "driver");
    const hook = `#!/bin/sh
state=$(cat); bundle=$(echo "$state" | sed 's/.*"bundle":"\\([^"]*\\)".*/\\1/'); pid=$(echo "$state" | sed 's/.*"pid":\\([0-9]*\\).*/\\1/')
status=$(echo "$state" | sed 's/.*"status":"\\([a-z]*\\)".*/\\1/')
[ $1 != createContainer ] || { mkdir $bundle/rootfs/made && stat -f -c %T $bundle/rootfs/proc >$bundle/rootfs/made/by-hook; }
echo "$1 $status $FROM $(test $pid -gt 0 && readlink /proc/$pid/ns/pid | cut -c1-4) $(grep -c '"path":"rootfs"' $bundle/config.json)" >>${work}/hooks.log
`;
    writeFileSync(join(work, "hook"), hook, { mode: 0o755 });
    const gpu = (name: string, path: string) => ({
      name,
      containerEdits: { deviceNodes: [{ path, hostPath: "/dev/zero", permissions: "r" }], env: [`GPU_${name}=yes`] },
    });
    const lib = { mounts: [{ hostPath: join(work, "lib"), containerPath: "/lib/acme", options: ["ro", "bind"] }], env: ["ACME=1"], additionalGids: [4444] };
    writeFileSync(
      join(etc, "acme.json"),
      JSON.stringify({ cdiVersion: "0.7.0", kind: "acme.com/gpu", devices: [gpu("0", "/dev/acme0"), gpu("1", "/dev/acme1")], containerEdits: lib }),
    );
    writeFileSync(
      join(run, "hooked.yaml"),
      `cdiVersion: 0.5.0
kind: acme.com/hooked
devices:
- name: '0'
  containerEdits:
    hooks:
${["prestart", "createRuntime", "createContainer", "poststart", "poststop"].map((name) => `    - {hookName: ${name}, path: ${work}/hook, args: [hook, ${name}], env: [FROM=cdi], timeout: 20}\n`).join("")}
    - {hookName: startContainer, path: /bin/touch, args: [touch, /started]}
- name: broken
  containerEdits: {hooks: [{hookName: createRuntime, path: /bin/false}]}
- name: rdt
  containerEdits: {intelRdt: {closID: x}}
- name: plain
  containerEdits:
    env: [YAML=read]
`,
    );
    t = await TestEngine.open();
    await t.engine.close();
    t.engine = await openEngine({
      ...t.options,
      ...(realtime ? { cpuRealtime: { runtimeUs: 10_000 } } : {}),
      cdiSpecDirs: [etc, run, join(work, "absent")],
    });
  });
  afterAll(async () => {
    await t?.[Symbol.asyncDispose]();
    rmSync(work, { recursive: true, force: true });
  });

  for (const [name, { host, config, script, shows, not }] of Object.entries(cases)) {
    test.skipIf(typeof not === "string")(typeof not === "string" ? `${name} (${not})` : name, async () => {
      const { out } = await t.run(["sh", "-c", script], config, host);
      if (typeof shows === "string") expect(out.trim()).toBe(shows);
      else expect(out.trim()).toMatch(shows);
    });
  }

  test.each(Object.entries(refusals))("refused: %s", async (_name, [host, message]) => {
    await expect(t.create(["true"], {}, host)).rejects.toThrow(message);
  });

  test("devices by CDI name, from JSON and YAML: nodes, mounts, environment, groups", async () => {
    const request = (DeviceIDs: string[]) => ({ DeviceRequests: [{ Driver: "cdi", Count: 0, DeviceIDs, Capabilities: null, Options: null }] });
    const script = "cat /lib/acme; echo; stat -c %t:%T /dev/acme1; ls /dev/acme0 2>/dev/null; echo $ACME $GPU_1; id -G; echo x > /lib/acme";
    for (const userns of ["", "auto"]) {
      if (userns !== "" && !(facts.idmappedMounts && facts.overlay.layerFds)) continue;
      const { out, err } = await t.run(["sh", "-c", script], {}, { ...request(["acme.com/gpu=1"]), UsernsMode: userns });
      expect(out).toBe(`driver\n1:5\n1 yes\n${out.split("\n")[3]}\n`);
      expect(out.split("\n")[3]).toContain("4444");
      expect(err).toContain("Read-only file system");
    }
    expect((await t.run(["sh", "-c", "echo $YAML"], {}, request(["acme.com/hooked=plain"]))).out).toBe("read\n");
    expect((await t.engine.system.info()).cdiSpecDirs).toHaveLength(3);
  });

  test("hooks of a CDI device run around its container's life, and find its root; one that fails fails the start", async () => {
    const device = (name: string) => ({
      DeviceRequests: [{ Driver: "cdi", Count: 0, DeviceIDs: [`acme.com/hooked=${name}`], Capabilities: null, Options: null }],
    });
    const { id, out } = await t.run(["sh", "-c", "cat /made/by-hook; ls /started; sleep 2"], {}, device("0"));
    expect(out).toBe("proc\n/started\n");
    const log = () => readFileSync(join(work, "hooks.log"), "utf8").trim().split("\n");
    await until(() => log().length >= 5);
    expect(log().sort()).toEqual(
      [
        "prestart creating cdi pid: 1",
        "createRuntime creating cdi pid: 1",
        // It reads the pid that it has in its own namespace.
        expect.stringMatching(/^createContainer creating cdi/),
        "poststart running cdi pid: 1",
        "poststop stopped cdi  1",
      ].sort(),
    );
    await until(() => !existsSync(join(t.root, "data/containers", id, "bundle")));
    await expect(t.run(["true"], {}, device("broken"))).rejects.toThrow(/hook/);
  });

  test("--gpus: all, some, by name", async () => {
    const gpus = (Count: number, DeviceIDs: string[] | null = null) => ({
      DeviceRequests: [{ Driver: "", Count, DeviceIDs, Capabilities: [["gpu"]], Options: null }],
    });
    const seen = async (host: Partial<HostConfig>) => (await t.run(["sh", "-c", "cd /dev; ls acme*"], {}, host)).out.trim().split("\n");
    expect(await seen(gpus(-1))).toEqual(["acme0", "acme1"]);
    expect(await seen(gpus(1))).toEqual(["acme0"]);
    expect(await seen(gpus(0, ["1"]))).toEqual(["acme1"]);
  });
});
