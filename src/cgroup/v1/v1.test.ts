import { describe, expect, test } from "vitest";
import type { OciResources } from "#core/runtime-spec.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { openCgroups } from "../open-cgroups.ts";
import { distinct, mountedControllers } from "./hierarchies.ts";
import { deviceWrites, memoryWrites } from "./limits.ts";
import { blkioEntries } from "./stats.ts";
import { orderMemory } from "./update.ts";

/** A host that is not this one: nothing is mounted at its mount points. */
const facts = {
  cgroup: {
    mode: "hybrid",
    v2Root: "/absent/unified",
    v1: {
      cpu: "/absent/cpu,cpuacct",
      cpuacct: "/absent/cpu,cpuacct",
      memory: "/absent/memory",
      cpuset: "/absent/cpuset",
      pids: "/absent/pids",
      devices: "/absent/devices",
      freezer: "/absent/freezer",
      blkio: "/absent/blkio",
      "name=systemd": "/absent/systemd",
    },
    v2Controllers: [],
    own: {},
    kill: false,
  },
  swapAccounting: true,
  cpus: 2,
  memoryBytes: 8 * 1024 ** 3,
} as unknown as HostFacts; // the cgroup manager reads no other fact

const cgroups = openCgroups(facts);

/** `write memory/memory.limit_in_bytes 1`, without the mount point's parent. */
function show(steps: readonly Step[]): string[] {
  const short = (path: string) => path.replace("/absent/", "").replace("/wherry/c1", "/C");
  return steps.map((step) => {
    if (step.op === "mkdir") return `mkdir ${short(step.path)}`;
    if (step.op === "write") return `write ${short(step.path)} ${Buffer.from(step.data).toString()}`;
    return step.op;
  });
}

const all = ["cpuset", "cpu,cpuacct", "memory", "devices", "freezer", "blkio", "pids", "systemd"];

describe("plan", () => {
  test("without limits: a directory in each hierarchy, in through each, out again", () => {
    const plan = cgroups.plan("", "c1", {}, 1);
    expect(show(plan.create)).toEqual(all.map((name) => `mkdir ${name}/C`));
    expect(show(plan.cloneInto?.steps ?? [])).toEqual(all.map((name) => `write ${name}/C/tasks 0`));
    expect(plan.cloneInto?.slot).toBe(NO_SLOT);
    expect(show(plan.join)).toEqual(all.map((name) => `write ${name}/wherry/tasks 0`));
    expect(plan.exitReports).toEqual(["/absent/memory/wherry/c1/memory.oom_control", "/absent/memory/wherry/c1/memory.max_usage_in_bytes"]);
    expect(plan.warnings).toEqual([]);
    expect(plan.paths.dirs["cpuacct"]).toBe("/absent/cpu,cpuacct/wherry/c1");
  });

  test("limits, in the order that the kernel takes them", () => {
    const resources: OciResources = {
      memory: { limit: 1000, swap: 3000, reservation: 500, swappiness: 0, disableOOMKiller: true },
      cpu: { shares: 512, quota: 50_000, period: 100_000, cpus: "0-1", mems: "0" },
      pids: { limit: 20 },
      blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1_048_576 }], throttleWriteIOPSDevice: [{ major: 8, minor: 16, rate: 10 }] },
      hugepageLimits: [{ pageSize: "2MB", limit: 0 }],
    };
    const { create, warnings } = cgroups.plan("", "c1", resources, 1);
    expect(show(create).filter((line) => line.startsWith("write"))).toEqual([
      "write cpu,cpuacct/C/cpu.shares 512",
      "write cpu,cpuacct/C/cpu.cfs_period_us 100000",
      "write cpu,cpuacct/C/cpu.cfs_quota_us 50000",
      "write cpuset/C/cpuset.cpus 0-1",
      "write cpuset/C/cpuset.mems 0",
      "write memory/C/memory.limit_in_bytes 1000",
      "write memory/C/memory.memsw.limit_in_bytes 3000",
      "write memory/C/memory.soft_limit_in_bytes 500",
      "write memory/C/memory.swappiness 0",
      "write memory/C/memory.oom_control 1",
      "write blkio/C/blkio.throttle.read_bps_device 8:0 1048576",
      "write blkio/C/blkio.throttle.write_iops_device 8:16 10",
      "write pids/C/pids.max 20",
    ]);
    expect(warnings).toEqual([]);
  });

  test("room for one process only is made after the monitor has left", () => {
    const { create, join } = cgroups.plan("", "c1", { pids: { limit: 1 } }, 1);
    expect(show(create).some((line) => line.includes("pids.max"))).toBe(false);
    expect(show(join).at(-1)).toBe("write pids/C/pids.max 1");
  });

  test("what the host lacks is dropped, in docker's words", () => {
    const poor = openCgroups({ ...facts, swapAccounting: false, cgroup: { ...facts.cgroup, v1: { memory: "/absent/memory" } } });
    const { create, warnings } = poor.plan(
      "",
      "c1",
      { memory: { limit: 1000, swap: 2000 }, cpu: { shares: 2, cpus: "0" }, pids: { limit: 5 }, blockIO: { weight: 500 } },
      1,
    );
    expect(show(create)).toEqual(["mkdir memory/C", "write memory/C/memory.limit_in_bytes 1000"]);
    expect(warnings).toEqual([
      "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
      "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
      "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
      "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
      "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
    ]);
  });

  test("a parent of the user's own; paths that lead elsewhere are refused", () => {
    expect(cgroups.plan("batch/night", "c1", {}, 1).paths.dirs["memory"]).toBe("/absent/memory/batch/night/c1");
    for (const parent of ["/../x", "a/../../b", "/", "a\nb"]) expect(() => cgroups.plan(parent, "c1", {}, 1)).toThrow("invalid cgroup-parent");
    for (const name of ["", "..", "a/b", ".hidden"]) expect(() => cgroups.plan("", name, {}, 1)).toThrow("invalid cgroup name");
  });

  test("what exec has cloned goes into the directories that the container has, by itself", () => {
    const { paths } = cgroups.plan("own", "c1", {}, 1);
    const { cloneInto, join } = cgroups.planJoin(paths, 1);
    expect(cloneInto).toBeUndefined();
    expect(show(join)).toEqual(all.map((name) => `write ${name}/own/c1/tasks 0`));
    expect(new Set(join.map(({ where }) => where))).toEqual(new Set(["child"]));
  });
});

describe("devices", () => {
  test("one write denies all, then one for each exception", () => {
    const rules: OciResources["devices"] = [
      { allow: false, access: "rwm" },
      { allow: true, type: "c", access: "m" },
      { allow: true, type: "c", major: 1, minor: 3, access: "rwm" },
      { allow: true, type: "b", major: 8, minor: -1, access: "r" },
    ];
    expect(deviceWrites(rules).map(({ file, value }) => `${file} ${value}`)).toEqual([
      "devices.deny a",
      "devices.allow c *:* m",
      "devices.allow c 1:3 rwm",
      "devices.allow b 8:* r",
    ]);
  });

  test("rules for one device add up; what allows everything writes nothing", () => {
    const first = { allow: false, access: "rwm" };
    const device = { type: "c" as const, major: 1, minor: 3 };
    const writes = (rules: OciResources["devices"]) => deviceWrites(rules).map(({ file, value }) => `${file} ${value}`);
    expect(writes([first, { ...device, allow: true, access: "w" }, { ...device, allow: true, access: "r" }])).toEqual([
      "devices.deny a",
      "devices.allow c 1:3 rw",
    ]);
    expect(writes([first, { ...device, allow: true, access: "rw" }, { ...device, allow: false, access: "w" }])).toEqual([
      "devices.deny a",
      "devices.allow c 1:3 r",
    ]);
    expect(writes([first, { ...device, allow: true, access: "rw" }, { ...device, allow: false, access: "rwm" }])).toEqual(["devices.deny a"]);
    expect(writes([first, { allow: true, access: "rwm" }])).toEqual([]);
    expect(
      writes([
        { allow: true, access: "rwm" },
        { ...device, allow: false, access: "w" },
      ]),
    ).toEqual(["devices.deny c 1:3 w"]);
    expect(() => writes([{ ...device, allow: true, access: "rx" }])).toThrow('invalid device access "rx"');
  });
});

describe("memory", () => {
  const values = (list: ReturnType<typeof memoryWrites>) => list.map(({ file, value }) => `${file.replace("memory.", "")}=${value}`);

  test("unlimited memory lifts the limit on memory and swap, too", () => {
    expect(values(memoryWrites({ limit: -1 }))).toEqual(["limit_in_bytes=-1", "memsw.limit_in_bytes=-1"]);
    expect(values(memoryWrites({ limit: 100, swap: 0 }))).toEqual(["limit_in_bytes=100"]);
  });

  test("an update writes the sum first when it rises above the present limit", () => {
    const raise = memoryWrites({ limit: 200, swap: 400 });
    expect(values(orderMemory(raise, 100))).toEqual(["memsw.limit_in_bytes=400", "limit_in_bytes=200"]);
    expect(values(orderMemory(memoryWrites({ limit: 50, swap: 80 }), 100))).toEqual(["limit_in_bytes=50", "memsw.limit_in_bytes=80"]);
    expect(values(orderMemory(memoryWrites({ limit: -1, swap: -1 }), 100))).toEqual(["memsw.limit_in_bytes=-1", "limit_in_bytes=-1"]);
    expect(values(orderMemory(memoryWrites({ limit: 50 }), 100))).toEqual(["limit_in_bytes=50"]);
  });
});

test("out of memory is told by the counter", () => {
  expect(cgroups.wasOomKilled(["oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"])).toBe(false);
  expect(cgroups.wasOomKilled(["oom_kill_disable 0\nunder_oom 0\noom_kill 12\n"])).toBe(true);
  expect(cgroups.wasOomKilled([undefined, "oom_kill_disable 1"])).toBe(false);
  expect(cgroups.wasOomKilled([])).toBe(false);
});

test("hierarchies: known controllers only, shared directories once", () => {
  const odd = { ...facts.cgroup, v1: { memory: "/m/", unknown: "/u", cpu: "/c", cpuacct: "/c" } };
  expect(mountedControllers(odd)).toEqual([
    ["cpu", "/c"],
    ["cpuacct", "/c"],
    ["memory", "/m"],
  ]);
  expect(distinct({ cpu: "/c/x", cpuacct: "/c/x", memory: "/m/x" })).toEqual(["/c/x", "/m/x"]);
});

test("lines of blkio files; the total is not a device's", () => {
  expect(blkioEntries("io_serviced_recursive", "8:0 Read 4\n8:0 Total 4\n254:16 Write 2\nTotal 6")).toEqual([
    { field: "io_serviced_recursive", major: 8, minor: 0, op: "Read", value: 4 },
    { field: "io_serviced_recursive", major: 8, minor: 0, op: "Total", value: 4 },
    { field: "io_serviced_recursive", major: 254, minor: 16, op: "Write", value: 2 },
  ]);
  expect(blkioEntries("io_serviced_recursive", undefined)).toEqual([]);
});
