import { describe, expect, it } from "vitest";
import type { HostConfig } from "#core/container-config.ts";
import { buildSpec, environmentOf, type SpecInput } from "./default-spec.ts";
import { exampleConfig, exampleFacts, exampleHostConfig } from "./example.fixture.ts";
import { resolveUser } from "./users.ts";

function build(hostConfig: Partial<HostConfig> = {}, rest: Partial<SpecInput> = {}) {
  return buildSpec({
    id: "c1",
    config: exampleConfig,
    hostConfig: { ...exampleHostConfig, ...hostConfig },
    args: ["sh"],
    user: resolveUser("", "", ""),
    mounts: [],
    files: {},
    cgroupsPath: "/wherry/c1",
    facts: exampleFacts,
    ...rest,
  });
}
const mapping = [{ containerID: 0, hostID: 200000, size: 1000 }];
const userns = { uids: mapping, gids: mapping };
const mountAt = (result: ReturnType<typeof build>, path: string) => result.spec.mounts?.find((m) => m.destination === path);
const kinds = (result: ReturnType<typeof build>) => result.spec.linux?.namespaces.map((n) => (n.path === undefined ? n.type : `${n.type}=${n.path}`));
const weakFacts = { ...exampleFacts, capabilities: "000001fffeffffff", rlimitCaps: { nofile: 20000 }, oomScoreAdjMin: 0 };

describe("buildSpec: mounts", () => {
  it("has dockerd's mounts in dockerd's order", () => {
    const { spec } = build();
    expect(spec.mounts?.map((m) => [m.destination, m.type])).toEqual([
      ["/proc", "proc"],
      ["/dev", "tmpfs"],
      ["/dev/pts", "devpts"],
      ["/sys", "sysfs"],
      ["/sys/fs/cgroup", "cgroup"],
      ["/dev/mqueue", "mqueue"],
      ["/dev/shm", "tmpfs"],
    ]);
    expect(mountAt(build(), "/dev/shm")?.options).toContain("size=67108864");
    expect(mountAt(build({ ShmSize: 4096 }), "/dev/shm")?.options).toContain("size=4096");
  });

  it("puts the user's mounts last, shallow ones first, and lets them replace the kernel's", () => {
    const mount = (Destination: string) => ({ Type: "volume" as const, Source: "/v", Destination, RW: true, Propagation: "" });
    const { spec } = build({}, { mounts: [mount("/a/b/c"), mount("/dev/shm"), mount("/a//"), mount("/z")] });
    expect(spec.mounts?.slice(-4).map((m) => m.destination)).toEqual(["/a", "/z", "/dev/shm", "/a/b/c"]);
    expect(spec.mounts?.filter((m) => m.destination === "/dev/shm").map((m) => m.type)).toEqual(["bind"]);
  });

  it("drops its own /dev and all below when /dev is bound", () => {
    const result = build({}, { mounts: [{ Type: "bind", Source: "/dev", Destination: "/dev", RW: true, Propagation: "" }] });
    expect(result.spec.mounts?.map((m) => m.destination)).toEqual(["/proc", "/sys", "/sys/fs/cgroup", "/dev"]);
  });

  it("binds the engine's files, and reports which mounts are files", () => {
    const result = build(
      {},
      {
        files: { hosts: "/h", hostname: "/n", resolvConf: "/r" },
        mounts: [{ Type: "bind", Source: "/f", Destination: "/f", RW: true, Propagation: "", file: true }],
      },
    );
    expect(mountAt(result, "/etc/hosts")).toEqual({ destination: "/etc/hosts", type: "bind", source: "/h", options: ["rbind", "rprivate"] });
    expect([...result.files].sort()).toEqual(["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/f"]);
    const replaced = build({}, { files: { hosts: "/h" }, mounts: [{ Type: "bind", Source: "/mine", Destination: "/etc/hosts", RW: true, Propagation: "" }] });
    expect(mountAt(replaced, "/etc/hosts")?.source).toBe("/mine");
    expect(replaced.files.size).toBe(0);
  });

  it("makes read-only binds read-only with all below, unless asked otherwise or the kernel cannot", () => {
    const mounts = [{ Type: "bind" as const, Source: "/s", Destination: "/s", RW: false, Propagation: "rslave" }];
    expect(mountAt(build({}, { mounts }), "/s")?.options).toEqual(["rbind", "rslave", "rro"]);
    expect(mountAt(build({ Mounts: [{ Type: "bind", Target: "/s", BindOptions: { ReadOnlyNonRecursive: true } }] }, { mounts }), "/s")?.options).toEqual([
      "rbind",
      "rslave",
      "ro",
    ]);
    expect(mountAt(build({ Mounts: [{ Type: "bind", Target: "/s/", BindOptions: { NonRecursive: true } }] }, { mounts }), "/s")?.options).toEqual([
      "bind",
      "rslave",
      "ro",
    ]);
    expect(mountAt(build({}, { mounts, facts: { ...exampleFacts, mountSetattr: false } }), "/s")?.options).toEqual(["rbind", "rslave", "ro"]);
  });

  it("gives --tmpfs Docker's options, the user's last", () => {
    expect(mountAt(build({ Tmpfs: { "/run": "exec,size=1m" } }), "/run")?.options).toEqual(["noexec", "nosuid", "nodev", "rprivate", "exec", "size=1m"]);
  });

  it("keeps what must be writable writable with --read-only", () => {
    const result = build({ ReadonlyRootfs: true }, { files: { hosts: "/h" } });
    expect(result.spec.root.readonly).toBe(true);
    expect(mountAt(result, "/dev")?.options).not.toContain("ro");
    expect(mountAt(result, "/etc/hosts")?.options).toContain("ro");
  });

  it("shares what belongs to an IPC namespace", () => {
    expect(mountAt(build({ IpcMode: "host" }), "/dev/shm")).toMatchObject({ type: "bind", source: "/dev/shm" });
    expect(mountAt(build({ IpcMode: "host" }), "/dev/mqueue")?.type).toBe("mqueue");
    expect(mountAt(build({ IpcMode: "host" }, { userns }), "/dev/mqueue")).toBeUndefined();
    expect(mountAt(build({ IpcMode: "container:x" }, { join: { ipc: 42 } }), "/dev/shm")?.source).toBe("/proc/42/root/dev/shm");
    expect(mountAt(build({ IpcMode: "none" }), "/dev/shm")).toBeUndefined();
  });
});

describe("buildSpec: namespaces", () => {
  it("has all but user and time by default", () => expect(kinds(build())).toEqual(["mount", "uts", "pid", "ipc", "network", "cgroup"]));
  it("leaves those of the host out", () => {
    expect(kinds(build({ PidMode: "host", IpcMode: "host", UTSMode: "host", NetworkMode: "host", CgroupnsMode: "host" }))).toEqual(["mount"]);
    expect(build({ UTSMode: "host" }).spec.hostname).toBeUndefined();
  });
  it("joins another container's by the process that holds them", () => {
    const modes = { PidMode: "container:x", IpcMode: "container:x", NetworkMode: "container:y" };
    expect(kinds(build(modes, { join: { pid: 7, ipc: 7, network: 8 } }))).toEqual([
      "mount",
      "uts",
      "pid=/proc/7/ns/pid",
      "ipc=/proc/7/ns/ipc",
      "network=/proc/8/ns/net",
      "cgroup",
    ]);
    expect(() => build(modes)).toThrow("which process holds it");
  });
  it("maps users when asked", () => {
    const { spec } = build({}, { userns });
    expect(spec.linux?.uidMappings).toEqual([{ containerID: 0, hostID: 200000, size: 1000 }]);
    expect(spec.linux?.namespaces[0]).toEqual({ type: "user" });
    expect(() => build({}, { userns, user: resolveUser("1000", "", "") })).toThrow("uid 1000 is not in the container's user namespace (0:200000:1000)");
    const few = { uids: [{ containerID: 0, hostID: 7, size: 1 }], gids: [{ containerID: 0, hostID: 7, size: 1 }] };
    expect(mountAt(build({}, { userns: few }), "/dev/pts")?.options).not.toContain("gid=5");
  });
  it("refuses what Docker refuses together with a user namespace", () => {
    expect(() => build({ Privileged: true }, { userns })).toThrow("privileged mode is incompatible with user namespaces");
    expect(() => build({ NetworkMode: "host" }, { userns })).toThrow("cannot share the host's network namespace when user namespaces are enabled");
    expect(() => build({ PidMode: "host" }, { userns })).toThrow("cannot share the host PID namespace when user namespaces are enabled");
  });
  it("shifts the owners of volumes, binds devices in a user namespace", () => {
    const device = { path: "/dev/x", hostPath: "/dev/y", type: "c" as const, major: 1, minor: 2, fileMode: 0o600, uid: 0, gid: 0, access: "rwm" };
    const result = build({}, { userns, devices: [device], mounts: [{ Type: "volume", Source: "/v", Destination: "/v", RW: true, Propagation: "" }] });
    expect(mountAt(result, "/v")?.uidMappings).toEqual([{ containerID: 0, hostID: 200000, size: 1000 }]);
    expect(result.spec.linux?.devices).toEqual([]);
    expect(mountAt(result, "/dev/x")).toMatchObject({ type: "bind", source: "/dev/y" });
    expect(result.files.has("/dev/x")).toBe(true);
  });
});

describe("buildSpec: what the process may do", () => {
  it("gives root Docker's 14 capabilities and others none to start with", () => {
    const root = build().spec.process.capabilities;
    expect(root?.effective).toHaveLength(14);
    expect(root?.bounding).toEqual(root?.permitted);
    expect(root?.inheritable).toBeUndefined();
    const user = build({}, { user: resolveUser("1000", "", "") }).spec.process.capabilities;
    expect(user).toEqual({ bounding: root?.bounding });
  });
  it("adds and drops capabilities by any spelling", () => {
    const of = (hostConfig: Partial<HostConfig>) => build(hostConfig).spec.process.capabilities?.effective;
    expect(of({ CapDrop: ["all"] })).toEqual([]);
    expect(of({ CapDrop: ["ALL"], CapAdd: ["net_admin", "CAP_SYS_TIME"] })).toEqual(["CAP_NET_ADMIN", "CAP_SYS_TIME"]);
    expect(of({ CapAdd: ["ALL"], CapDrop: ["SYS_ADMIN"] })).toHaveLength(40);
    expect(of({ CapDrop: ["chown"] })).toHaveLength(13);
    expect(of({ Privileged: true })).toHaveLength(41);
    expect(() => build({ CapAdd: ["NET_ADMINN"] })).toThrow('invalid CapAdd: unknown capability: "CAP_NET_ADMINN"');
    expect(() => build({ CapDrop: ["X"] })).toThrow('invalid CapDrop: unknown capability: "CAP_X"');
  });
  it("asks for no capability that the engine lacks, and says so", () => {
    const result = build({ CapAdd: ["SYS_RESOURCE"] }, { facts: weakFacts });
    expect(result.spec.process.capabilities?.effective).toHaveLength(14);
    expect(result.warnings).toEqual(["This host gives the engine no CAP_SYS_RESOURCE: the container runs without it."]);
    expect(build({ Privileged: true }, { facts: weakFacts })).toMatchObject({ warnings: [] });
    // Its own user namespace gives it all the same.
    expect(build({ CapAdd: ["SYS_RESOURCE"] }, { facts: weakFacts, userns }).spec.process.capabilities?.effective).toContain("CAP_SYS_RESOURCE");
  });
  it("lowers ulimits and OOM scores to what the host allows, with a warning", () => {
    const result = build(
      {
        Ulimits: [
          { Name: "nofile", Soft: 1024, Hard: 1048576 },
          { Name: "core", Soft: -1, Hard: -1 },
        ],
        OomScoreAdj: -500,
      },
      { facts: weakFacts },
    );
    expect(result.spec.process.rlimits).toEqual([
      { type: "RLIMIT_NOFILE", soft: 1024, hard: 20000 },
      { type: "RLIMIT_CORE", soft: 2 ** 64, hard: 2 ** 64 },
    ]);
    expect(result.spec.process.oomScoreAdj).toBe(0);
    expect(result.warnings).toHaveLength(2);
    expect(build({ OomScoreAdj: -500 })).toMatchObject({ warnings: [], spec: { process: { oomScoreAdj: -500 } } });
    expect(() => build({ OomScoreAdj: -1001 })).toThrow("Invalid value -1001, range for oom score adj is [-1000, 1000]");
    expect(() => build({ Ulimits: [{ Name: "files", Soft: 1, Hard: 1 }] })).toThrow("invalid ulimit type: files");
    expect(() => build({ Ulimits: [{ Name: "nofile", Soft: 2, Hard: 1 }] })).toThrow("ulimit soft limit must be less than or equal to hard limit: 2 > 1");
  });
  it("filters system calls unless told not to", () => {
    expect(build().spec.linux?.seccomp?.defaultAction).toBe("SCMP_ACT_ERRNO");
    expect(build().spec.linux?.seccomp).toBe(build().spec.linux?.seccomp);
    expect(build({ Privileged: true }).spec.linux?.seccomp).toBeUndefined();
    expect(build({ SecurityOpt: ["seccomp=unconfined"] }).spec.linux?.seccomp).toBeUndefined();
    expect(build({ SecurityOpt: ['seccomp={"defaultAction":"SCMP_ACT_LOG"}'] }).spec.linux?.seccomp?.defaultAction).toBe("SCMP_ACT_LOG");
    expect(() => build({ SecurityOpt: ["seccomp={}"] })).toThrow("Decoding seccomp profile failed");
    const none = build({}, { facts: { ...exampleFacts, seccomp: { supported: false, actions: [] } } });
    expect(none.spec.linux?.seccomp).toBeUndefined();
    expect(none.warnings[0]).toContain("no seccomp");
  });
  it("reads --security-opt", () => {
    expect(build({ SecurityOpt: ["no-new-privileges"] }).spec.process.noNewPrivileges).toBe(true);
    expect(build({ SecurityOpt: ["no-new-privileges:false", "label=disable", "apparmor=unconfined"] }).spec.process.noNewPrivileges).toBe(false);
    expect(build({ SecurityOpt: ["systempaths=unconfined"] }).spec.linux).toMatchObject({ maskedPaths: [], readonlyPaths: [] });
    expect(() => build({ SecurityOpt: ["what"] })).toThrow('invalid --security-opt 1: "what"');
    expect(() => build({ SecurityOpt: ["what=ever"] })).toThrow('invalid --security-opt 2: "what=ever"');
  });
  it("masks and protects Docker's paths, or those given", () => {
    expect(build().spec.linux?.maskedPaths).toContain("/proc/kcore");
    expect(build({ MaskedPaths: ["/a"], ReadonlyPaths: [] }).spec.linux).toMatchObject({ maskedPaths: ["/a"], readonlyPaths: [] });
    expect(build({ Privileged: true }).spec.linux?.maskedPaths).toEqual([]);
  });
  it("allows sysctls of its own namespaces only", () => {
    expect(build().spec.linux?.sysctl).toEqual({ "net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0" });
    expect(build({ NetworkMode: "host" }).spec.linux?.sysctl).toEqual({});
    expect(build({ Sysctls: { "kernel.shmmax": "1", "net.core.somaxconn": "2" } }).spec.linux?.sysctl).toMatchObject({
      "kernel.shmmax": "1",
      "net.core.somaxconn": "2",
    });
    for (const name of ["kernel.panic", "vm.swappiness", "net/../kernel/panic", "kernel.domainname.x"])
      expect(() => build({ Sysctls: { [name]: "1" } })).toThrow(/is not in a separate kernel namespace|is not a name/);
    expect(() => build({ Sysctls: { "kernel.hostname": "x" } })).toThrow('conflicts with the OCI "hostname" field');
    expect(() => build({ Sysctls: { "kernel.msgmax": "1" }, IpcMode: "host" })).toThrow('sysctl "kernel.msgmax" is not in a separate kernel namespace');
  });
});

describe("buildSpec: limits", () => {
  const resources = (hostConfig: Partial<HostConfig>) => build(hostConfig).spec.linux?.resources;
  it("sets none by default but the devices", () => {
    const { devices, ...rest } = resources({}) ?? {};
    expect(rest).toEqual({});
    expect(devices?.[0]).toEqual({ allow: false, access: "rwm" });
    expect(resources({ Privileged: true })?.devices).toEqual([{ allow: true, access: "rwm" }]);
  });
  it("translates memory with swap twice the memory", () => {
    expect(resources({ Memory: 1000, MemoryReservation: 500 })?.memory).toEqual({ limit: 1000, reservation: 500, swap: 2000 });
    expect(resources({ Memory: 1000, MemorySwap: -1, MemorySwappiness: 0, OomKillDisable: true })?.memory).toEqual({
      limit: 1000,
      swap: -1,
      swappiness: 0,
      disableOOMKiller: true,
    });
  });
  it("translates CPUs, pids and block I/O", () => {
    expect(resources({ NanoCpus: 1.5e9, CpuShares: 512, CpusetCpus: "0-1" })?.cpu).toEqual({ period: 100000, quota: 150000, shares: 512, cpus: "0-1" });
    expect(resources({ CpuPeriod: 50000, CpuQuota: -1 })?.cpu).toEqual({ period: 50000, quota: -1 });
    expect(resources({ PidsLimit: 20 })?.pids).toEqual({ limit: 20 });
    expect(resources({ PidsLimit: 0 })?.pids).toEqual({ limit: -1 });
    const read = { BlkioDeviceReadBps: [{ Path: "/dev/sda", Rate: 5 }] };
    expect(build(read, { deviceNumbers: { "/dev/sda": { major: 8, minor: 0 } } }).spec.linux?.resources?.blockIO).toEqual({
      throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 5 }],
    });
    expect(() => build(read)).toThrow('no such device: "/dev/sda"');
  });
  it("adds devices and rules", () => {
    const device = { path: "/dev/x", hostPath: "/dev/x", type: "b" as const, major: 9, minor: 3, fileMode: 0o660, uid: 0, gid: 6, access: "r" };
    const result = build({ DeviceCgroupRules: ["c 42:* rwm"] }, { devices: [device] });
    expect(result.spec.linux?.resources?.devices?.slice(-2)).toEqual([
      { allow: true, type: "b", major: 9, minor: 3, access: "r" },
      { allow: true, type: "c", major: 42, access: "rwm" },
    ]);
    expect(result.spec.linux?.devices).toEqual([{ path: "/dev/x", type: "b", major: 9, minor: 3, fileMode: 0o660, uid: 0, gid: 6 }]);
    expect(() => build({ DeviceCgroupRules: ["c 42 rwm"] })).toThrow("invalid device cgroup rule format: 'c 42 rwm'");
  });
});

describe("environmentOf", () => {
  const config = { Hostname: "h", Domainname: "", Tty: false, Env: [] as string[] };
  it("has dockerd's variables, and HOME from passwd", () => {
    expect(environmentOf(config, "/root")).toEqual(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=h", "HOME=/root"]);
    expect(environmentOf({ ...config, Domainname: "d", Tty: true }, "/")).toEqual(expect.arrayContaining(["HOSTNAME=h.d", "TERM=xterm"]));
  });
  it("lets the container's replace and remove them", () => {
    expect(environmentOf({ ...config, Env: ["PATH=/bin", "A=1=2", "HOSTNAME", "HOME=/h", "A=3", "EMPTY="] }, "/root")).toEqual([
      "PATH=/bin",
      "A=3",
      "HOME=/h",
      "EMPTY=",
    ]);
  });
});
