/** config-linux.md: control groups and seccomp. @module */
import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { OciResources, OciSeccomp } from "#core/runtime-spec.ts";
import { seccompAgent } from "../integration/oci-runtime.fixture.ts";
import { type Amendable, type Case, Skip, set } from "./case.ts";

const v1 = (controller: string): boolean => existsSync(`/sys/fs/cgroup/${controller}/tasks`);

/** A file of a v1 controller holds this for a container with these resources. */
function limit(controller: string, file: string, value: string | RegExp, resources: OciResources, what = file): Case {
  return {
    section: "config-linux.md Control groups",
    must: what,
    check: (lab) =>
      lab.created(
        "sleep 100",
        (spec) => {
          if (!v1(controller)) throw new Skip(`this machine has no v1 controller ${controller}`);
          spec.linux.resources = { ...spec.linux.resources, ...resources };
        },
        (_id, bundle) => {
          const spec = JSON.parse(readFileSync(join(bundle, "config.json"), "utf8")) as Amendable;
          const path = `/sys/fs/cgroup/${controller}${spec.linux.cgroupsPath}/${file}`;
          if (!existsSync(path)) throw new Skip(`this kernel has no ${file}`);
          const text = readFileSync(path, "utf8").trim();
          if (typeof value === "string") assert.equal(text, value);
          else assert.match(text, value);
        },
      ),
  };
}

/** A block device that this machine has, for throttles. */
function blockDevice(): { major: number; minor: number } {
  const [, , , name] = (readFileSync("/proc/partitions", "utf8").split("\n")[2] ?? "").trim().split(/\s+/);
  const { rdev } = statSync(`/dev/${name ?? "absent"}`);
  return { major: rdev >> 8, minor: rdev & 0xff };
}
const throttle = (): { major: number; minor: number; rate: number } => ({ ...blockDevice(), rate: 1_048_576 });

const cgroups: Case[] = [
  {
    section: "config-linux.md Cgroups Path",
    must: "an absolute path starts at the cgroups' mount point",
    check: (lab) =>
      lab.created(
        "sleep 100",
        () => {},
        (_id, bundle) => {
          const spec = JSON.parse(readFileSync(join(bundle, "config.json"), "utf8")) as Amendable;
          assert.ok(readFileSync(`/proc/${lab.pid(bundle)}/cgroup`, "utf8").includes(`pids:${spec.linux.cgroupsPath}\n`));
        },
      ),
  },
  {
    section: "config-linux.md Cgroups Path",
    must: "a path directly below the root",
    check: (lab) =>
      lab.created(
        "sleep 100",
        (spec) => (spec.linux.cgroupsPath = "/wherry-conformance-top"),
        (_id, bundle) => assert.match(readFileSync(`/proc/${lab.pid(bundle)}/cgroup`, "utf8"), /pids:\/wherry-conformance-top\n/),
      ),
  },
  {
    section: "config-linux.md Memory",
    must: "checkBeforeUpdate: a limit below what is used is refused, and the container goes on",
    check: (lab) =>
      lab.created(
        "busybox head -c 25m /dev/zero >/dev/shm/used; echo full; exec busybox sleep 100",
        (spec) => (spec.linux.resources = { memory: { limit: 60 << 20, swap: 60 << 20 } }),
        (id, bundle) => {
          assert.equal(lab.call(["start", id]).code, 0);
          lab.until(() => readFileSync(join(bundle, "out"), "utf8").includes("full"), "the memory is used");
          const limits = { memory: { limit: 10 << 20, swap: 10 << 20, checkBeforeUpdate: true } };
          assert.notEqual(lab.call(["update", "--resources", "-", id], JSON.stringify(limits)).code, 0, "no error");
          assert.equal(lab.status(id), "running");
        },
      ),
  },
  {
    section: "config-linux.md Cgroups Path",
    must: "a relative path always means the same place",
    check(lab) {
      const place = () =>
        lab.created(
          "sleep 100",
          (spec) => (spec.linux.cgroupsPath = "wherry-conformance/relative"),
          (_id, bundle) => readFileSync(`/proc/${lab.pid(bundle)}/cgroup`, "utf8"),
        );
      const first = place();
      assert.match(first, /pids:.*wherry-conformance\/relative\n/);
      assert.equal(place(), first);
    },
  },
  limit("memory", "memory.limit_in_bytes", "67108864", { memory: { limit: 67_108_864 } }),
  limit("memory", "memory.soft_limit_in_bytes", "33554432", { memory: { reservation: 33_554_432 } }),
  limit("memory", "memory.memsw.limit_in_bytes", "134217728", { memory: { limit: 67_108_864, swap: 134_217_728 } }),
  limit("memory", "memory.kmem.tcp.limit_in_bytes", "8388608", { memory: { kernelTCP: 8_388_608 } }),
  limit("memory", "memory.swappiness", "7", { memory: { swappiness: 7 } }),
  limit("memory", "memory.oom_control", /^oom_kill_disable 1$/m, { memory: { limit: 67_108_864, disableOOMKiller: true } }),
  limit("cpu", "cpu.shares", "512", { cpu: { shares: 512 } }),
  limit("cpu", "cpu.cfs_quota_us", "50000", { cpu: { quota: 50_000, period: 100_000 } }),
  limit("cpu", "cpu.cfs_period_us", "200000", { cpu: { quota: 50_000, period: 200_000 } }),
  limit("cpu", "cpu.cfs_burst_us", "10000", { cpu: { quota: 50_000, period: 100_000, burst: 10_000 } }),
  limit("cpu", "cpu.idle", "1", { cpu: { idle: 1 } }),
  limit("cpuset", "cpuset.cpus", "0", { cpu: { cpus: "0" } }),
  limit("cpuset", "cpuset.mems", "0", { cpu: { mems: "0" } }),
  limit("pids", "pids.max", "77", { pids: { limit: 77 } }),
  limit("pids", "pids.max", "max", { pids: { limit: -1 } }, "pids.max: -1 is no limit"),
  limit("blkio", "blkio.weight", "300", { blockIO: { weight: 300 } }),
  limit("net_cls", "net_cls.classid", "1048577", { network: { classID: 1_048_577 } }),
  limit("net_prio", "net_prio.ifpriomap", /^lo 7$/m, { network: { priorities: [{ name: "lo", priority: 7 }] } }),
  limit("hugetlb", "hugetlb.2MB.limit_in_bytes", "2097152", { hugepageLimits: [{ pageSize: "2MB", limit: 2_097_152 }] }),
  limit("rdma", "rdma.max", /mlx/, { rdma: { mlx5_0: { hcaHandles: 3 } } } as OciResources),
  ...(["Read", "Write"] as const).flatMap((way) =>
    (["BPS", "IOPS"] as const).map((unit): Case => {
      const key = `throttle${way}${unit === "BPS" ? "Bps" : unit}Device`;
      const make = () => limit("blkio", `blkio.throttle.${way.toLowerCase()}_${unit.toLowerCase()}_device`, / 1048576$/, { blockIO: { [key]: [throttle()] } });
      return { section: "config-linux.md Control groups", must: key, check: (lab) => make().check(lab) };
    }),
  ),
  {
    section: "config-linux.md Allowed Device list",
    must: "entries are applied in the listed order",
    check: (lab) =>
      lab.shows(
        "allowed denied",
        "for n in 1 2; do busybox head -c 0 /dev/misc$n 2>&1 | busybox grep -q 'not permitted' && echo denied || echo allowed; done | busybox xargs",
        (spec) => {
          const at = (n: number) => ({ type: "c" as const, major: 10, minor: 249 + n });
          spec.linux.devices = [1, 2].map((n) => ({ path: `/dev/misc${n}`, ...at(n) }));
          spec.linux.resources = {
            devices: [
              { allow: false, access: "rwm" },
              { allow: true, ...at(1), access: "rwm" },
              { allow: true, ...at(2), access: "rwm" },
              { allow: false, ...at(2), access: "rw" },
            ],
          };
        },
      ),
  },
  {
    section: "config-linux.md Block IO",
    must: "weightDevice has a weight or a leafWeight",
    check: (lab) => lab.refuses((spec) => (spec.linux.resources = { blockIO: { weightDevice: [{ major: 7, minor: 0 }] } })),
  },
  {
    section: "config-linux.md RDMA",
    must: "an entry has hcaHandles or hcaObjects",
    check: (lab) => lab.refuses((spec) => (spec.linux.resources = { rdma: { mlx5_1: {} } })),
  },
  {
    section: "config-linux.md Unified",
    must: "an error where the files' controller is not there",
    check: (lab) => lab.refuses((spec) => set(spec.linux, { resources: { unified: { "nonsense.max": "1" } } })),
  },
  {
    section: "config-linux.md Huge page limits",
    must: "an error for a page size that the machine does not have",
    check: (lab) => lab.refuses((spec) => (spec.linux.resources = { hugepageLimits: [{ pageSize: "3MB", limit: 3_145_728 }] })),
  },
];

const profile = (seccomp: OciSeccomp) => (spec: Amendable) => set(spec.linux, { seccomp });
const chmod = "busybox chmod 600 /dev/shm 2>&1; echo";

const seccomp: Case[] = [
  {
    section: "config-linux.md Seccomp",
    must: "SCMP_ACT_ERRNO answers EPERM by default",
    check: (lab) =>
      lab.shows(
        /Operation not permitted/,
        chmod,
        profile({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["chmod", "fchmodat"], action: "SCMP_ACT_ERRNO" }] }),
      ),
  },
  {
    section: "config-linux.md Seccomp",
    must: "errnoRet is the answer",
    check: (lab) =>
      lab.shows(
        /Device or resource busy/,
        chmod,
        profile({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["chmod", "fchmodat"], action: "SCMP_ACT_ERRNO", errnoRet: 16 }] }),
      ),
  },
  {
    section: "config-linux.md Seccomp",
    must: "errnoRet with an action that has none is an error",
    check: (lab) => lab.refuses(profile({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["chmod"], action: "SCMP_ACT_KILL", errnoRet: 16 }] })),
  },
  {
    section: "config-linux.md Seccomp",
    must: "defaultErrnoRet with a default action that has none is an error",
    check: (lab) => lab.refuses(profile({ defaultAction: "SCMP_ACT_KILL_PROCESS", ...{ defaultErrnoRet: 16 }, syscalls: [] })),
  },
  {
    section: "config-linux.md Seccomp",
    must: "names has at least one entry",
    check: (lab) => lab.refuses(profile({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: [], action: "SCMP_ACT_ERRNO" }] })),
  },
  {
    section: "config-linux.md Seccomp",
    must: "listenerMetadata without a listenerPath is an error",
    check: (lab) =>
      lab.refuses(
        profile({ defaultAction: "SCMP_ACT_ALLOW", ...{ listenerMetadata: "x" }, syscalls: [{ names: ["chmod", "fchmodat"], action: "SCMP_ACT_ERRNO" }] }),
      ),
  },
  {
    section: "config-linux.md Seccomp",
    must: "listenerPath is ignored when no action is SCMP_ACT_NOTIFY",
    check: (lab) =>
      lab.shows(
        /Operation not permitted/,
        chmod,
        profile({
          defaultAction: "SCMP_ACT_ALLOW",
          ...{ listenerPath: "/run/wherry-conformance-absent.sock" },
          syscalls: [{ names: ["chmod", "fchmodat"], action: "SCMP_ACT_ERRNO" }],
        }),
      ),
  },
  {
    section: "config-linux.md Seccomp",
    must: "args: the rule holds for these values only",
    check: (lab) =>
      lab.shows(
        "no yes",
        "busybox chmod 600 /dev/shm 2>/dev/null && echo -n 'yes ' || echo -n 'no '; busybox chmod 700 /dev/shm && echo yes",
        profile({
          defaultAction: "SCMP_ACT_ALLOW",
          syscalls: [
            { names: ["chmod"], action: "SCMP_ACT_ERRNO", args: [{ index: 1, value: 0o600, op: "SCMP_CMP_EQ" }] },
            { names: ["fchmodat"], action: "SCMP_ACT_ERRNO", args: [{ index: 2, value: 0o600, op: "SCMP_CMP_EQ" }] },
          ],
        }),
      ),
  },
  {
    section: "config-linux.md Seccomp",
    must: "SCMP_ACT_KILL_PROCESS ends the process",
    check: (lab) =>
      lab.shows(
        "159",
        "(busybox chmod 600 /dev/shm); echo $?",
        profile({ defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["chmod", "fchmodat"], action: "SCMP_ACT_KILL_PROCESS" }] }),
      ),
  },
  {
    section: "config-linux.md Seccomp",
    must: "an action that does not exist is an error",
    check: (lab) => lab.refuses(profile({ defaultAction: "SCMP_ACT_NONSENSE" })),
  },
  ...(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"] as const).map(
    (flag): Case => ({
      section: "config-linux.md Seccomp",
      must: `flags: ${flag}`,
      check: (lab) =>
        lab.shows(
          "2",
          "busybox sed -n 's/^Seccomp:[ \t]*//p' /proc/self/status",
          profile({ defaultAction: "SCMP_ACT_ALLOW", flags: [flag], syscalls: [{ names: ["chmod"], action: "SCMP_ACT_ERRNO" }] }),
        ),
    }),
  ),
  {
    section: "config-linux.md Seccomp",
    must: "a flag that does not exist is an error",
    check: (lab) => lab.refuses(profile({ defaultAction: "SCMP_ACT_ALLOW", flags: ["SECCOMP_FILTER_FLAG_NONSENSE"] })),
  },
  {
    section: "config-linux.md Seccomp",
    must: "SCMP_ACT_NOTIFY: listenerPath gets one container process state and the descriptor",
    async check(lab) {
      const listenerPath = join("/run", `wherry-conformance-${process.pid}.sock`);
      const agent = await seccompAgent(listenerPath);
      const id = lab.id();
      const bundle = lab.make(
        "busybox chmod 600 /dev/shm 2>&1; exec sleep 100",
        profile({
          defaultAction: "SCMP_ACT_ALLOW",
          ...{ listenerPath, listenerMetadata: "opaque" },
          syscalls: [{ names: ["chmod", "fchmodat"], action: "SCMP_ACT_NOTIFY" }],
        }),
      );
      try {
        assert.equal(lab.create(id, bundle).code, 0, readFileSync(join(bundle, "err"), "utf8"));
        assert.equal(lab.call(["start", id]).code, 0);
        const told = (await agent.told) as { fds: string[]; pid: number; metadata: string; state: Record<string, unknown> };
        assert.deepEqual([told.fds, told.metadata, told.state["id"], told.state["bundle"]], [["seccompFd"], "opaque", id, bundle]);
        assert.equal(typeof told.pid, "number");
        lab.until(() => /Exec format error/.test(readFileSync(join(bundle, "out"), "utf8")), "the agent's answer");
      } finally {
        lab.call(["delete", "--force", id]);
        agent.close();
      }
    },
  },
  {
    section: "config-linux.md Seccomp",
    must: "a listenerPath where nobody listens is an error",
    check: (lab) =>
      lab.refuses(
        profile({
          defaultAction: "SCMP_ACT_ALLOW",
          ...{ listenerPath: "/run/wherry-conformance-absent.sock" },
          syscalls: [{ names: ["chmod"], action: "SCMP_ACT_NOTIFY" }],
        }),
      ),
  },
];

export const resourceCases: readonly Case[] = [...cgroups, ...seccomp];
