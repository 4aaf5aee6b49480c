import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { OciSeccomp } from "#core/runtime-spec.ts";
import { compileSeccomp } from "./compile.ts";
import { runFilter } from "./interpreter.ts";
import { type DockerSeccompProfile, type ProfileContext, parseProfile, resolveProfile, type SeccompArch } from "./profile.ts";
import { multiplexed, type SyscallArch, syscallNumbers } from "./syscalls.ts";

const builtinText = readFileSync(new URL("../../runtime/seccomp-default.json", import.meta.url), "utf8");
const builtin = parseProfile(builtinText);
const defaultCaps = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
  .split(" ")
  .map((c) => `CAP_${c}`);

const ALLOW = 0x7fff0000;
const KILL = 0;
const errno = (n: number) => 0x00050000 | n;
const X32 = 0x40000000;

interface Machine {
  readonly arch: SeccompArch;
  readonly table: SyscallArch;
  readonly scmp: string;
  readonly audit: number;
  readonly bit: number;
  readonly wide: boolean;
}
const machines: readonly Machine[] = [
  { arch: "x86_64", table: "x86_64", scmp: "SCMP_ARCH_X86_64", audit: 0xc000003e, bit: 0, wide: true },
  { arch: "x86_64", table: "x32", scmp: "SCMP_ARCH_X32", audit: 0xc000003e, bit: X32, wide: false },
  { arch: "x86_64", table: "i386", scmp: "SCMP_ARCH_X86", audit: 0x40000003, bit: 0, wide: false },
  { arch: "aarch64", table: "aarch64", scmp: "SCMP_ARCH_AARCH64", audit: 0xc00000b7, bit: 0, wide: true },
  { arch: "aarch64", table: "arm", scmp: "SCMP_ARCH_ARM", audit: 0x40000028, bit: 0, wide: false },
];

type Args = NonNullable<NonNullable<OciSeccomp["syscalls"]>[number]["args"]>;

function codeOf(action: string, ret: number | undefined): number {
  const codes: Record<string, number> = {
    SCMP_ACT_ALLOW: ALLOW,
    SCMP_ACT_ERRNO: errno(ret ?? 1),
    SCMP_ACT_KILL: KILL,
    SCMP_ACT_KILL_PROCESS: 0x80000000,
    SCMP_ACT_TRAP: 0x30000,
    SCMP_ACT_LOG: 0x7ffc0000,
    SCMP_ACT_TRACE: 0x7ff00000 | (ret ?? 1),
  };
  return codes[action] ?? Number.NaN;
}

function holds({ index, value, valueTwo = 0, op }: Args[number], args: readonly bigint[], width: number): boolean | undefined {
  const [a, v, w] = [args[index] ?? 0n, BigInt(value), BigInt(valueTwo)].map((n) => BigInt.asUintN(width, n)) as [bigint, bigint, bigint];
  return {
    SCMP_CMP_EQ: a === v,
    SCMP_CMP_NE: a !== v,
    SCMP_CMP_LT: a < v,
    SCMP_CMP_LE: a <= v,
    SCMP_CMP_GT: a > v,
    SCMP_CMP_GE: a >= v,
    SCMP_CMP_MASKED_EQ: (a & v) === w,
  }[op];
}

/** What the JSON says, read rule by rule: no ranges, no trees. */
function oracle(seccomp: OciSeccomp, machine: Machine): (number: number) => (args: readonly bigint[]) => number {
  const numbers = syscallNumbers(machine.table);
  const fallback = codeOf(seccomp.defaultAction, seccomp.defaultErrnoRet);
  const lenient = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].includes(seccomp.defaultAction);
  const newest = Math.max(-1, ...(seccomp.syscalls ?? []).flatMap((rule) => rule.names.map((name) => numbers.get(name) ?? -1)).filter((n) => n < 0x0f0000));
  return (number) => {
    const rules: { action: number; args: Args }[] = [];
    for (const rule of seccomp.syscalls ?? []) {
      const action = codeOf(rule.action, rule.errnoRet);
      if (action === fallback) continue;
      const args = rule.args ?? [];
      for (const name of rule.names) {
        const common = machine.table === "i386" && args.length === 0 ? multiplexed.get(name) : undefined;
        if (common !== undefined && numbers.get(common.call) === number) rules.push({ action, args: [{ index: 0, value: common.number, op: "SCMP_CMP_EQ" }] });
        if (numbers.get(name) !== number) continue;
        if (new Set(args.map((arg) => arg.index)).size < args.length) for (const arg of args) rules.push({ action, args: [arg] });
        else rules.push({ action, args });
      }
    }
    const plain = rules.find((rule) => rule.args.length === 0);
    const otherwise = rules.length === 0 && !lenient && newest >= 0 && number > newest ? errno(38) : fallback;
    return (args) => plain?.action ?? rules.find((rule) => rule.args.every((arg) => holds(arg, args, machine.wide ? 64 : 32)))?.action ?? otherwise;
  };
}

/** Arguments on both sides of every number that the default profile compares with. */
const sampleArgs: readonly (readonly bigint[])[] = [
  0n,
  1n,
  8n,
  37n,
  38n,
  39n,
  40n,
  41n,
  0x20000n,
  0x20008n,
  0x7e020000n,
  0x10000000n,
  0xffffffffn,
  0x100000028n,
  0xffffffff00000000n,
  2n ** 64n - 1n,
].flatMap((a) => [
  [a, 0n, 0n, 0n, 0n, 0n],
  [3n, a, a, a, a, a],
]);

function numbersToTry(machine: Machine): number[] {
  const all = [...syscallNumbers(machine.table).values()];
  const last = Math.max(...all.filter((n) => n < 0x0f0000));
  return [...new Set([...Array.from({ length: last + 40 }, (_, n) => n), ...all.flatMap((n) => [n, n + 1]), 0x0effff, 0x0f0000, 0x3fffffff])];
}

const contexts: readonly [string, Omit<ProfileContext, "arch">][] = [
  ["the default capabilities", { kernel: { major: 6, minor: 18 }, capabilities: defaultCaps }],
  ["no capabilities", { kernel: { major: 5, minor: 10 }, capabilities: [] }],
  ["CAP_SYS_ADMIN and others", { kernel: { major: 6, minor: 1 }, capabilities: [...defaultCaps, "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYSLOG", "CAP_BPF"] }],
  ["a kernel before 4.8", { kernel: { major: 4, minor: 4 }, capabilities: defaultCaps }],
];

describe("the default profile", () => {
  for (const [what, context] of contexts) {
    for (const machine of machines) {
      it(`decides every ${machine.table} call as its JSON says, with ${what}`, () => {
        const seccomp = resolveProfile(builtin, { ...context, arch: machine.arch });
        const program = compileSeccomp(seccomp, machine.arch);
        const expected = oracle(seccomp, machine);
        for (const number of numbersToTry(machine)) {
          const decide = expected(number);
          for (const args of sampleArgs) {
            const { result } = runFilter(program, { nr: number | machine.bit, arch: machine.audit, args });
            if (result !== decide(args)) expect({ number, args, result }).toEqual({ number, args, result: decide(args) });
          }
        }
      });
    }
  }

  const program = compileSeccomp(resolveProfile(builtin, { arch: "x86_64", kernel: { major: 6, minor: 18 }, capabilities: defaultCaps }), "x86_64");
  const native = (nr: number, ...args: bigint[]) => runFilter(program, { nr, arch: 0xc000003e, args }).result;

  it("answers what people know it for", () => {
    const nr = (name: string) => syscallNumbers("x86_64").get(name) ?? -1;
    expect(native(nr("read"))).toBe(ALLOW);
    expect(native(nr("mount"))).toBe(errno(1));
    expect(native(nr("unshare"))).toBe(errno(1));
    expect(native(nr("clone"), 0x11n)).toBe(ALLOW); // fork
    expect(native(nr("clone"), 0x10000000n)).toBe(errno(1)); // CLONE_NEWUSER
    expect(native(nr("clone3"))).toBe(errno(38)); // its flags are behind a pointer: libc falls back to clone
    expect(native(nr("personality"), 0xffffffffn)).toBe(ALLOW);
    expect(native(nr("personality"), 0x0040000n)).toBe(errno(1)); // ADDR_NO_RANDOMIZE
    expect(native(nr("socket"), 2n)).toBe(ALLOW);
    expect(native(nr("socket"), 40n)).toBe(errno(1)); // AF_VSOCK
    expect(native(1000)).toBe(errno(38)); // newer than the profile
    expect(native(0xffffffff)).toBe(errno(38));
  });

  it("kills a call of an architecture that is not listed", () => {
    expect(runFilter(program, { nr: 0, arch: 0xc00000b7, args: [] }).result).toBe(KILL);
    const onlyNative = compileSeccomp({ defaultAction: "SCMP_ACT_ALLOW", architectures: [] }, "x86_64");
    expect(runFilter(onlyNative, { nr: 1, arch: 0x40000003, args: [] }).result).toBe(KILL);
    expect(runFilter(onlyNative, { nr: 1 | X32, arch: 0xc000003e, args: [] }).result).toBe(KILL);
    expect(runFilter(onlyNative, { nr: 1, arch: 0xc000003e, args: [] }).result).toBe(ALLOW);
  });

  it("is short: at most 14 instructions for a call without conditions", () => {
    for (const number of syscallNumbers("x86_64").values())
      expect(runFilter(program, { nr: number, arch: 0xc000003e, args: [] }).steps).toBeLessThanOrEqual(40);
    for (const name of ["read", "write", "openat", "futex", "mmap", "getpid"]) {
      expect(runFilter(program, { nr: syscallNumbers("x86_64").get(name) ?? -1, arch: 0xc000003e, args: [] }).steps).toBeLessThanOrEqual(14);
    }
    expect(program.length / 8).toBeLessThan(400); // what the kernel translates for each process
  });

  const spec = new URL("../../../../shared/spec/seccomp/default.json", import.meta.url);
  it.skipIf(!existsSync(spec))("is the file that dockerd embeds", () => expect(JSON.parse(builtinText)).toEqual(JSON.parse(readFileSync(spec, "utf8"))));
});

describe("any profile", () => {
  const op = fc.constantFrom("SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GT", "SCMP_CMP_GE", "SCMP_CMP_MASKED_EQ");
  const word = fc.oneof(
    fc.constantFrom(0n, 1n, 2n, 0xffffffffn, 0x100000000n, 0x100000001n, 2n ** 64n - 1n, 0xdeadbeef00000005n),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  );
  const arg = fc.record({ index: fc.integer({ min: 0, max: 2 }), value: word, valueTwo: word, op });
  const action = fc.constantFrom("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG", "SCMP_ACT_TRAP");
  const name = fc.constantFrom("read", "write", "openat", "clone", "socket", "semop", "accept4", "mseal", "socketcall", "cacheflush", "no_such_call");
  const rule = fc.record({
    names: fc.array(name, { minLength: 1, maxLength: 4 }),
    action,
    errnoRet: fc.integer({ min: 0, max: 200 }),
    args: fc.array(arg, { maxLength: 3 }),
  });
  const profile = fc.record({ defaultAction: action, syscalls: fc.array(rule, { maxLength: 8 }), architectures: fc.constant(machines.map((m) => m.scmp)) });

  it("compiles to what it says", () => {
    fc.assert(
      fc.property(profile, fc.constantFrom(...machines), fc.array(word, { minLength: 3, maxLength: 3 }), (seccomp, machine, args) => {
        const program = compileSeccomp(seccomp, machine.arch);
        const used = seccomp.syscalls.flatMap((r) => r.args).flatMap((a) => [a.value, a.valueTwo]);
        const numbers = [...new Set(seccomp.syscalls.flatMap((r) => r.names))].flatMap((n) => syscallNumbers(machine.table).get(n) ?? []);
        for (const number of [0, 1, 999, ...numbers, ...numbers.map((n) => n + 1)]) {
          for (const tried of [args, used.slice(0, 3), [...args].reverse()]) {
            expect(runFilter(program, { nr: number | machine.bit, arch: machine.audit, args: tried }).result).toBe(oracle(seccomp, machine)(number)(tried));
          }
        }
      }),
      { numRuns: 400 },
    );
  });

  it("jumps further than 255 instructions", () => {
    const many = Array.from({ length: 60 }, (_, value) => ({
      names: ["ioctl"],
      action: "SCMP_ACT_ALLOW",
      args: [
        { index: 1, value, op: "SCMP_CMP_EQ" },
        { index: 2, value: 7, op: "SCMP_CMP_EQ" },
      ],
    }));
    const seccomp = { defaultAction: "SCMP_ACT_ERRNO", architectures: [], syscalls: [{ names: ["openat"], action: "SCMP_ACT_ALLOW" }, ...many] };
    const program = compileSeccomp(seccomp, "x86_64");
    const run = (nr: number, ...args: bigint[]) => runFilter(program, { nr, arch: 0xc000003e, args }).result;
    expect(run(257)).toBe(ALLOW);
    expect(run(16, 0n, 59n, 7n)).toBe(ALLOW);
    expect(run(16, 0n, 60n, 7n)).toBe(errno(1));
  });

  it("refuses what it cannot express", () => {
    const compile = (partial: Partial<OciSeccomp>) => compileSeccomp({ defaultAction: "SCMP_ACT_ALLOW", ...partial }, "x86_64");
    expect(() => compile({ defaultAction: "SCMP_ACT_MAYBE" })).toThrow("seccomp action SCMP_ACT_MAYBE is unknown");
    expect(() => compile({ syscalls: [{ names: ["read"], action: "SCMP_ACT_ERRNO", errnoRet: 70000 }] })).toThrow("out of range");
    expect(() => compile({ syscalls: [{ names: ["read"], action: "SCMP_ACT_KILL", args: [{ index: 6, value: 0, op: "SCMP_CMP_EQ" }] }] })).toThrow(
      "argument index 6",
    );
    expect(() => compile({ syscalls: [{ names: ["read"], action: "SCMP_ACT_KILL", args: [{ index: 0, value: 0, op: "SCMP_CMP_ISH" }] }] })).toThrow(
      "SCMP_CMP_ISH is unknown",
    );
    const huge = Array.from({ length: 2000 }, (_, value) => ({ names: ["ioctl"], action: "SCMP_ACT_KILL", args: [{ index: 1, value, op: "SCMP_CMP_EQ" }] }));
    expect(() => compile({ syscalls: huge })).toThrow("instructions; the kernel takes 4096");
  });
});

describe("profiles in Docker's format", () => {
  const context: ProfileContext = { arch: "x86_64", kernel: { major: 5, minor: 15 }, capabilities: ["CAP_SYSLOG"] };
  const names = (profile: DockerSeccompProfile, ctx = context) => resolveProfile(profile, ctx).syscalls?.flatMap((rule) => rule.names);
  const rule = (rest: object) => ({ defaultAction: "SCMP_ACT_ERRNO", syscalls: [{ names: ["chmod"], action: "SCMP_ACT_ALLOW", ...rest }] });

  it("decides by capabilities, architecture and kernel", () => {
    expect(names(rule({ includes: { caps: ["CAP_SYSLOG"] } }))).toEqual(["chmod"]);
    expect(names(rule({ includes: { caps: ["CAP_SYSLOG", "CAP_BPF"] } }))).toEqual([]);
    expect(names(rule({ excludes: { caps: ["CAP_SYSLOG"] } }))).toEqual([]);
    expect(names(rule({ includes: { arches: ["arm64"] } }))).toEqual([]);
    expect(names(rule({ includes: { arches: ["arm64"] } }), { ...context, arch: "aarch64" })).toEqual(["chmod"]);
    expect(names(rule({ excludes: { arches: ["amd64"] } }))).toEqual([]);
    expect(names(rule({ includes: { minKernel: "5.15" } }))).toEqual(["chmod"]);
    expect(names(rule({ includes: { minKernel: "5.16" } }))).toEqual([]);
    expect(names(rule({ excludes: { minKernel: "4.8" } }))).toEqual([]);
  });

  it("takes the old form with one name a rule", () => {
    expect(
      names({ defaultAction: "SCMP_ACT_ERRNO", architectures: ["SCMP_ARCH_X86_64"], syscalls: [{ name: "accept", action: "SCMP_ACT_ALLOW", args: [] }] }),
    ).toEqual(["accept"]);
  });

  it("refuses contradictions and what is not a profile", () => {
    expect(() =>
      resolveProfile(
        { defaultAction: "SCMP_ACT_ALLOW", architectures: ["SCMP_ARCH_X86"], archMap: [{ architecture: "SCMP_ARCH_X86", subArchitectures: [] }] },
        context,
      ),
    ).toThrow("both 'architectures' and 'archMap'");
    expect(() => names(rule({ name: "chown" }))).toThrow("both 'name' and 'names'");
    expect(() => parseProfile("{")).toThrow("Decoding seccomp profile failed");
    expect(() => parseProfile("[]")).toThrow("want a JSON object");
    expect(() => parseProfile("{}")).toThrow("defaultAction is missing");
    expect(() => parseProfile('{"defaultAction":"SCMP_ACT_ALLOW","syscalls":{}}')).toThrow("syscalls is not an array");
  });
});

describe("system call numbers", () => {
  it("are the kernel's", () => {
    expect(syscallNumbers("x86_64").get("execve")).toBe(59);
    expect(syscallNumbers("i386").get("execve")).toBe(11);
    expect(syscallNumbers("aarch64").get("execve")).toBe(221);
    expect(syscallNumbers("arm").get("execve")).toBe(11);
    expect(syscallNumbers("x32").get("execve")).toBe(520);
    expect(syscallNumbers("arm").get("cacheflush")).toBe(0x0f0002);
    for (const { table } of machines) expect(syscallNumbers(table).get("close_range")).toBe(436);
  });
});
