import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { OciResources } from "#core/runtime-spec.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { Step } from "#linux/plan.ts";
import { type DevicePolicy, devicePolicy } from "../device-rules.ts";
import { openCgroups } from "../open-cgroups.ts";
import { compileDeviceProgram } from "./device-program.ts";
import { cpuWeight, ioWeight, memoryWrites } from "./limits.ts";
import { ioEntries, parsePressure } from "./stats.ts";

const facts = {
  cgroup: { mode: "v2", v2Root: "/absent", v1: {}, v2Controllers: ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"], own: { "": "/" }, kill: true },
  swapAccounting: true,
  cpus: 2,
  memoryBytes: 8 * 1024 ** 3,
} as unknown as HostFacts; // the cgroup manager reads no other fact

const cgroups = openCgroups(facts);

function show(steps: readonly Step[]): string[] {
  return steps.map((step) => {
    if (step.op === "mkdir" || step.op === "openat") return `${step.op} ${step.path}`;
    if (step.op === "write") return `write ${step.path.split("/").at(-1)} ${Buffer.from(step.data).toString()}`;
    if (step.op === "bpf_device") return `bpf_device ${step.program.length / 8} instructions`;
    return step.op;
  });
}

describe("plan", () => {
  test("one directory, and the child is cloned into it", () => {
    const plan = cgroups.plan("", "c1", {}, 7);
    expect(show(plan.create)).toEqual(["mkdir /absent/wherry/c1"]);
    expect(show(plan.cloneInto?.steps ?? [])).toEqual(["openat /absent/wherry/c1"]);
    expect(plan.cloneInto?.slot).toBe(7);
    expect(plan.join).toEqual([]);
    expect(plan.exitReports).toEqual(["/absent/wherry/c1/memory.events", "/absent/wherry/c1/memory.peak", "/absent/wherry/c1/memory.pressure"]);
  });

  test("limits, translated", () => {
    const resources: OciResources = {
      memory: { limit: 1000, swap: 3000, reservation: 500 },
      cpu: { shares: 1024, quota: 50_000, period: 100_000, cpus: "0-1", mems: "0" },
      pids: { limit: -1 },
      blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1024 }], throttleWriteIOPSDevice: [{ major: 8, minor: 0, rate: 10 }] },
      hugepageLimits: [{ pageSize: "2MB", limit: 0 }],
      devices: [
        { allow: false, access: "rwm" },
        { allow: true, type: "c", major: 1, minor: 3, access: "rwm" },
      ],
      unified: { "memory.high": "900" },
    };
    const { create, warnings } = cgroups.plan("", "c1", resources, 1);
    expect(show(create)).toEqual([
      "mkdir /absent/wherry/c1",
      "write cpu.weight 100",
      "write cpu.max 50000 100000",
      "write cpuset.cpus 0-1",
      "write cpuset.mems 0",
      "write memory.swap.max 2000",
      "write memory.max 1000",
      "write memory.low 500",
      "write io.max 8:0 rbps=1024",
      "write io.max 8:0 wiops=10",
      "write pids.max max",
      "write hugetlb.2MB.max 0",
      "write memory.high 900",
      "bpf_device 13 instructions",
    ]);
    expect(warnings).toEqual([]);
  });

  test("privileged containers need no program", () => {
    expect(show(cgroups.plan("", "c1", { devices: [{ allow: true, access: "rwm" }] }, 1).create)).toEqual(["mkdir /absent/wherry/c1"]);
  });

  test("what v2 has no counterpart for is dropped, in docker's words", () => {
    const { create, warnings } = cgroups.plan("", "c1", { memory: { swappiness: 10, disableOOMKiller: true }, cpu: { realtimeRuntime: 5 } }, 1);
    expect(show(create)).toEqual(["mkdir /absent/wherry/c1"]);
    expect(warnings).toEqual([
      "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
      "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
      "Your kernel does not support CPU real-time scheduler. CPU real-time limits discarded.",
    ]);
  });

  test("a unified key is a file's name", () => {
    expect(() => cgroups.plan("", "c1", { unified: { "../x": "1" } }, 1)).toThrow("must be a file name");
  });
});

describe("memory and swap", () => {
  const show_ = (memory: OciResources["memory"]) => memoryWrites(memory).map(({ file, value }) => `${file}=${value}`);

  test("v1's sum becomes swap alone", () => {
    expect(show_({ limit: 100, swap: 100 })).toEqual(["memory.swap.max=0", "memory.max=100"]);
    expect(show_({ limit: 100, swap: -1 })).toEqual(["memory.swap.max=max", "memory.max=100"]);
    expect(show_({ limit: -1 })).toEqual(["memory.swap.max=max", "memory.max=max"]);
    expect(show_({ limit: 100 })).toEqual(["memory.max=100"]);
  });

  test("a sum that makes no sense is refused", () => {
    expect(() => show_({ swap: 100 })).toThrow("You should always set the Memory limit");
    expect(() => show_({ limit: 100, swap: 50 })).toThrow("Minimum memoryswap limit should be larger");
  });
});

test("shares and weights: ends, defaults, and never the other way round", () => {
  expect([0, 2, 1024, 2048, 262_144, 1e9].map(cpuWeight)).toEqual([1, 1, 100, 174, 10_000, 10_000]);
  expect([10, 500, 1000].map(ioWeight)).toEqual([1, 4950, 10_000]);
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 262_143 }), (shares) => {
      const weight = cpuWeight(shares);
      expect(weight).toBeGreaterThanOrEqual(1);
      expect(weight).toBeLessThanOrEqual(10_000);
      expect(cpuWeight(shares + 1)).toBeGreaterThanOrEqual(weight);
    }),
  );
});

test("rdma is bounded by the same lines as in v1", () => {
  const plan = cgroups.plan("", "c1", { rdma: { mlx5_0: { hcaHandles: 2, hcaObjects: 2000 }, mlx5_1: { hcaObjects: 7 } } }, 7);
  expect(show(plan.create)).toEqual(expect.arrayContaining(["write rdma.max mlx5_0 hca_handle=2 hca_object=2000", "write rdma.max mlx5_1 hca_object=7"]));
});

test("io.stat: the fields that docker's stats have", () => {
  expect(ioEntries("8:16 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=5 dios=6\n254:0 rbytes=1")).toEqual([
    { field: "io_service_bytes_recursive", major: 8, minor: 16, op: "read", value: 4096 },
    { field: "io_service_bytes_recursive", major: 8, minor: 16, op: "write", value: 0 },
    { field: "io_serviced_recursive", major: 8, minor: 16, op: "read", value: 1 },
    { field: "io_serviced_recursive", major: 8, minor: 16, op: "write", value: 0 },
    { field: "io_service_bytes_recursive", major: 254, minor: 0, op: "read", value: 1 },
  ]);
});

test("memory.pressure: percentages and microseconds; a file that is missing is no pressure", () => {
  const text = "some avg10=1.50 avg60=0.75 avg300=0.10 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=42";
  expect(parsePressure(text)).toEqual({
    some: { avg10: 1.5, avg60: 0.75, avg300: 0.1, totalUs: 123456 },
    full: { avg10: 0, avg60: 0, avg300: 0, totalUs: 42 },
  });
  // Before Linux 5.13 the CPU has no second line.
  expect(parsePressure(text.split("\n")[0])?.full).toEqual({ avg10: 0, avg60: 0, avg300: 0, totalUs: 0 });
  expect(parsePressure(undefined)).toBeUndefined();
});

describe("device program", () => {
  /** The kernel's BPF machine, as far as the program uses it. */
  function execute(program: Uint8Array, type: number, access: number, major: number, minor: number): number {
    const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
    const context = new Map([
      [0, (access << 16) | type],
      [4, major],
      [8, minor],
    ]);
    const r = new Array<number>(11).fill(0);
    for (let pc = 0; pc < program.length / 8; pc++) {
      const [code, registers] = [view.getUint8(pc * 8), view.getUint8(pc * 8 + 1)];
      const [dst, src, offset, imm] = [registers & 15, registers >> 4, view.getInt16(pc * 8 + 2, true), view.getInt32(pc * 8 + 4, true)];
      const [a, b] = [r[dst] ?? 0, r[src] ?? 0];
      if (code === 0x61) r[dst] = (context.get(offset) ?? Number.NaN) >>> 0;
      else if (code === 0x54) r[dst] = (a & imm) >>> 0;
      else if (code === 0x74) r[dst] = a >>> imm;
      else if (code === 0xbc) r[dst] = b;
      else if (code === 0xb7) r[dst] = imm;
      else if (code === 0x15) pc += a === imm ? offset : 0;
      else if (code === 0x55) pc += a !== imm ? offset : 0;
      else if (code === 0x5d) pc += a !== b ? offset : 0;
      else if (code === 0x95) return r[0] ?? 0;
      else throw new Error(`opcode 0x${code.toString(16)}`);
    }
    throw new Error("fell off the end");
  }

  /** What the policy says, read straight. */
  function allowed({ allowByDefault, exceptions }: DevicePolicy, type: "c" | "b", wanted: string, major: number, minor: number): boolean {
    const at = exceptions.filter((e) => e.type === type && (e.major ?? major) === major && (e.minor ?? minor) === minor);
    if (allowByDefault) return !at.some((e) => [...wanted].some((letter) => e.access.includes(letter)));
    return at.some((e) => [...wanted].every((letter) => e.access.includes(letter)));
  }

  const bits = (access: string) => [...access].reduce((sum, letter) => sum | ({ m: 1, r: 2, w: 4 }[letter] ?? 0), 0);
  const access = fc.subarray(["r", "w", "m"], { minLength: 1 }).map((letters) => letters.join(""));
  const number = fc.integer({ min: 0, max: 3 });
  const rule = fc.record({
    allow: fc.boolean(),
    type: fc.constantFrom("c" as const, "b" as const, "a" as const),
    major: fc.option(number, { nil: -1 }),
    minor: fc.option(number, { nil: -1 }),
    access,
  });

  test("decides as the policy does", () => {
    fc.assert(
      fc.property(
        fc.array(rule, { maxLength: 12 }),
        fc.constantFrom("c" as const, "b" as const),
        access,
        number,
        number,
        (rules, type, wanted, major, minor) => {
          const policy = devicePolicy(rules);
          const answer = execute(compileDeviceProgram(policy), type === "b" ? 1 : 2, bits(wanted), major, minor);
          expect(answer).toBe(allowed(policy, type, wanted, major, minor) ? 1 : 0);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("a rule's type is a, b or c; Go's clients may write a as nothing", () => {
    const rule = (type: string) => [{ allow: false, type: type as "a" }]; // what a spec may hold
    expect(devicePolicy(rule(""))).toEqual(devicePolicy(rule("a")));
    expect(() => devicePolicy(rule("x"))).toThrow('invalid device type "x"');
  });

  test("bytes of a small one", () => {
    const program = compileDeviceProgram(devicePolicy([{ allow: false }, { allow: true, type: "c", major: 1, minor: 3, access: "rw" }]));
    expect(Buffer.from(program).toString("hex").match(/.{16}/g)).toEqual([
      "6112000000000000", // r2 = access_type
      "54020000ffff0000", // r2 &= 0xffff: the type
      "6113000000000000", // r3 = access_type
      "7403000010000000", // r3 >>= 16: the access
      "6114040000000000", // r4 = major
      "6115080000000000", // r5 = minor
      "5502070002000000", // if r2 != char: next
      "bc31000000000000", // r1 = r3
      "5401000006000000", // r1 &= read | write
      "5d31040000000000", // if r1 != r3: next
      "5504030001000000", // if r4 != 1: next
      "5505020003000000", // if r5 != 3: next
      "b700000001000000", // r0 = 1
      "9500000000000000", // exit
      "b700000000000000", // r0 = 0
      "9500000000000000", // exit
    ]);
  });
});
