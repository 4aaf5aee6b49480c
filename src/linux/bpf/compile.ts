/**
 * A seccomp section of an OCI spec → a BPF program, with libseccomp's and runc's decisions:
 *  - an architecture that is not listed is killed; the machine's own always counts as listed
 *  - of several rules for one call, one without conditions decides; else the first whose conditions hold; else the default action
 *  - a rule that names one argument twice is a rule per condition (either suffices)
 *  - a call newer than all that the profile names is answered ENOSYS, so that libraries fall back, not EPERM
 *
 * Calls are found by binary search over ranges of equal treatment: about ten comparisons.
 * @module
 * @see seccomp(2), runtime-spec config-linux.md "Seccomp"
 */
import { own } from "#core/own.ts";
import { EngineError } from "#core/errors.ts";
import type { OciSeccomp } from "#core/runtime-spec.ts";
import { BPF, branch, DATA, encode, type Instruction, load, MAX_INSTRUCTIONS, ret, tighten } from "./instruction.ts";
import type { SeccompArch } from "./profile.ts";
import { multiplexed, type SyscallArch, syscallNumbers } from "./syscalls.ts";

type Rule = NonNullable<OciSeccomp["syscalls"]>[number];
type Arg = NonNullable<Rule["args"]>[number];

/** What happens to one system call: the first alternative whose conditions hold, else `otherwise`. */
interface Decision {
  readonly alternatives: readonly { readonly args: readonly Arg[]; readonly action: number }[];
  readonly otherwise: number;
}

const ENOSYS = 38;
const EPERM = 1;
const KILL_THREAD = 0;
const ERRNO = 0x00050000;
const X32_BIT = 0x40000000;
/** ARM's own calls (cacheflush, set_tls …) live far above the others. */
const ARM_PRIVATE = 0x0f0000;

/** Which system calls a machine has besides its own. */
const families: Readonly<Record<SeccompArch, Readonly<Record<string, { readonly audit: number; readonly table: SyscallArch; readonly wide: boolean }>>>> = {
  x86_64: {
    SCMP_ARCH_X86_64: { audit: 0xc000003e, table: "x86_64", wide: true },
    SCMP_ARCH_X86: { audit: 0x40000003, table: "i386", wide: false },
    // x32 calls come as x86_64 with a bit in the number.
    SCMP_ARCH_X32: { audit: 0xc000003e, table: "x32", wide: false },
  },
  aarch64: {
    SCMP_ARCH_AARCH64: { audit: 0xc00000b7, table: "aarch64", wide: true },
    SCMP_ARCH_ARM: { audit: 0x40000028, table: "arm", wide: false },
  },
};

/** The architectures whose calls a filter can tell apart on this machine. */
export function seccompArchitectures(arch: SeccompArch): string[] {
  return Object.keys(families[arch]);
}

/** How an argument can be compared. */
export const seccompOperators: readonly string[] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"].map((name) => `SCMP_CMP_${name}`);

/** The program as an array of struct sock_filter (little endian). @throws EngineError "invalid" for a profile that cannot be compiled */
export function compileSeccomp(seccomp: OciSeccomp, arch: SeccompArch): Uint8Array {
  const family = families[arch];
  const native = Object.keys(family)[0] ?? "";
  const listed = new Set([native, ...(seccomp.architectures ?? []).filter((name) => own(family, name) !== undefined)]);
  const trees = new Map<string, Instruction[]>();
  for (const name of listed) {
    const entry = own(family, name);
    if (entry !== undefined) trees.set(name, compileCalls(seccomp, entry.table, entry.wide));
  }
  // Per audit architecture, the native one first.
  let program: Instruction[] = [ret(KILL_THREAD)];
  for (const name of [...listed].reverse()) {
    const entry = own(family, name);
    const tree = trees.get(name);
    if (entry === undefined || tree === undefined || name === "SCMP_ARCH_X32") continue;
    const body = name === "SCMP_ARCH_X86_64" ? withX32(tree, trees.get("SCMP_ARCH_X32")) : tree;
    program = branch(BPF.JEQ, entry.audit, [load(DATA.nr), ...body], program);
  }
  program = tighten([load(DATA.arch), ...program]);
  if (program.length > MAX_INSTRUCTIONS)
    throw new EngineError("invalid", `the seccomp profile makes ${program.length} instructions; the kernel takes ${MAX_INSTRUCTIONS}`);
  return encode(program);
}

/** Splits x32 off from x86_64. Number -1 is what a tracer leaves behind to skip a call: it is no x32 call. */
function withX32(native: Instruction[], x32: Instruction[] | undefined): Instruction[] {
  const other = x32 ?? [ret(KILL_THREAD)];
  return branch(BPF.JGE, X32_BIT, branch(BPF.JEQ, 0xffffffff, [ret(ERRNO | ENOSYS)], other), native);
}

/** Code for one table of calls; the accumulator holds the number. */
function compileCalls(seccomp: OciSeccomp, table: SyscallArch, wide: boolean): Instruction[] {
  const fallback = actionOf(seccomp.defaultAction, seccomp.defaultErrnoRet);
  const decisions = decide(seccomp, table, fallback);
  const bit = table === "x32" ? X32_BIT : 0;
  const ranges: { start: number; code: Instruction[] }[] = [];
  const push = (start: number, code: Instruction[]) => {
    const last = ranges.at(-1)?.code;
    if (last !== undefined && last.length === 1 && code.length === 1 && last[0]?.k === code[0]?.k) return;
    ranges.push({ start: start + bit, code });
  };
  const unknown = unknownCalls(seccomp, table);
  // Of calls that no rule names, those within the profile's knowledge were left out on purpose; those beyond it are newer.
  const codeFor = (number: number): Instruction[] => {
    const decision = decisions.get(number);
    if (decision !== undefined) return emit(decision, wide);
    return [ret(number >= unknown.from ? (unknown.action ?? fallback) : fallback)];
  };
  const boundaries = new Set([0, unknown.from, ...[...decisions.keys()].flatMap((number) => [number, number + 1])]);
  for (const number of [...boundaries].sort((a, b) => a - b)) push(number, codeFor(number));
  return search(ranges);
}

/** From which number on a call is newer than the profile, and the answer then (undefined: the default action does). */
function unknownCalls(seccomp: OciSeccomp, table: SyscallArch): { from: number; action: number | undefined } {
  const numbers = syscallNumbers(table);
  let last = -1;
  for (const { names } of seccomp.syscalls ?? []) {
    for (const name of names) {
      const number = numbers.get(name);
      if (number !== undefined && number < ARM_PRIVATE) last = Math.max(last, number);
    }
  }
  const permissive = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].includes(seccomp.defaultAction);
  return { from: last + 1, action: permissive || last < 0 ? undefined : ERRNO | ENOSYS };
}

/** Number → decision, for every call that a rule names. */
function decide(seccomp: OciSeccomp, table: SyscallArch, fallback: number): Map<number, Decision> {
  const numbers = syscallNumbers(table);
  const decisions = new Map<number, { alternatives: Decision["alternatives"][number][]; final: number | undefined }>();
  const add = (number: number, args: readonly Arg[], action: number) => {
    const entry = decisions.get(number) ?? { alternatives: [], final: undefined };
    decisions.set(number, entry);
    if (args.length === 0) entry.final ??= action;
    else entry.alternatives.push({ args, action });
  };
  for (const rule of seccomp.syscalls ?? []) {
    const action = actionOf(rule.action, rule.errnoRet);
    if (action === fallback) continue;
    for (const name of rule.names) {
      const number = numbers.get(name);
      if (number !== undefined) for (const args of alternativesOf(rule)) add(number, args, action);
      const common = table === "i386" ? multiplexed.get(name) : undefined;
      const commonNumber = common === undefined ? undefined : numbers.get(common.call);
      // The other arguments are behind a pointer, where a filter cannot look.
      if (common !== undefined && commonNumber !== undefined && (rule.args ?? []).length === 0)
        add(commonNumber, [{ index: 0, value: common.number, op: "SCMP_CMP_EQ" }], action);
    }
  }
  return new Map(
    [...decisions].map(([number, { alternatives, final }]) => [
      number,
      final === undefined ? { alternatives, otherwise: fallback } : { alternatives: [], otherwise: final },
    ]),
  );
}

/** Conditions on different arguments must all hold; of two on the same one, either (runc's reading of old profiles). */
function alternativesOf(rule: Rule): (readonly Arg[])[] {
  const args = rule.args ?? [];
  const repeated = new Set(args.map((arg) => arg.index)).size < args.length;
  return repeated ? args.map((arg) => [arg]) : [args];
}

const actions: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: KILL_THREAD,
  SCMP_ACT_KILL_THREAD: KILL_THREAD,
  SCMP_ACT_KILL_PROCESS: 0x80000000,
  SCMP_ACT_TRAP: 0x00030000,
  SCMP_ACT_ERRNO: ERRNO,
  SCMP_ACT_NOTIFY: 0x7fc00000,
  SCMP_ACT_TRACE: 0x7ff00000,
  SCMP_ACT_LOG: 0x7ffc0000,
  SCMP_ACT_ALLOW: 0x7fff0000,
};

function actionOf(name: string, data: number | undefined): number {
  const action = own(actions, name);
  if (action === undefined) throw new EngineError("invalid", `seccomp action ${name} is unknown`);
  if (name !== "SCMP_ACT_ERRNO" && name !== "SCMP_ACT_TRACE") return action;
  const value = data ?? EPERM;
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) throw new EngineError("invalid", `seccomp errnoRet ${value} is out of range`);
  return action | value;
}

/** Binary search: the accumulator is in the last range whose start it reaches. */
function search(ranges: readonly { readonly start: number; readonly code: Instruction[] }[]): Instruction[] {
  const [only] = ranges;
  if (only === undefined) throw new EngineError("internal", "a seccomp filter without ranges");
  if (ranges.length === 1) return only.code;
  const middle = ranges.length >> 1;
  return branch(BPF.JGE, ranges[middle]?.start ?? 0, search(ranges.slice(middle)), search(ranges.slice(0, middle)));
}

function emit({ alternatives, otherwise }: Decision, wide: boolean): Instruction[] {
  return [...alternatives.flatMap(({ args, action }) => emitRule(args, action, wide)), ret(otherwise)];
}

/** A jump target within a rule: on, to the next condition, or to the next rule. */
type Target = "next" | "pass" | "fail";
interface Draft {
  readonly code: number;
  readonly k: number;
  readonly then?: Target;
  readonly otherwise?: Target;
}

/** All conditions hold → returns the action; else falls through to what follows. */
function emitRule(args: readonly Arg[], action: number, wide: boolean): Instruction[] {
  const conditions = args.map((arg) => compare(arg, wide));
  const total = conditions.reduce((sum, code) => sum + code.length, 0) + 1;
  const out: Instruction[] = [];
  for (const condition of conditions) {
    const end = out.length + condition.length;
    for (const { code, k, then = "next", otherwise = "next" } of condition) {
      const here = out.length;
      const skip = (target: Target) => (target === "next" ? 0 : (target === "pass" ? end : total) - here - 1);
      out.push({ code, k, jt: skip(then), jf: skip(otherwise) });
    }
  }
  return [...out, ret(action)];
}

/** One condition on a 64-bit argument in 32-bit steps, high word first; `wide` = false compares the low word only (32-bit calls). */
function compare({ index, value, valueTwo = 0, op }: Arg, wide: boolean): Draft[] {
  if (!Number.isInteger(index) || index < 0 || index > 5) throw new EngineError("invalid", `seccomp argument index ${index} is not 0 to 5`);
  const split = (number: number | bigint) => {
    const big = BigInt.asUintN(64, BigInt(number));
    return { high: Number(big >> 32n), low: Number(big & 0xffffffffn) };
  };
  const want = split(op === "SCMP_CMP_MASKED_EQ" ? valueTwo : value);
  const mask = split(value);
  const high: Draft = { code: BPF.LOAD, k: DATA.argHigh(index) };
  const low: Draft = { code: BPF.LOAD, k: DATA.argLow(index) };
  const is = (code: number, k: number, then: Target, otherwise: Target): Draft => ({ code, k, then, otherwise });
  const ordered = (lowTest: number, yes: Target, no: Target): Draft[] => [
    ...(wide ? [high, is(BPF.JGT, want.high, yes, "next"), is(BPF.JEQ, want.high, "next", no)] : []),
    low,
    is(lowTest, want.low, yes, no),
  ];
  switch (op) {
    case "SCMP_CMP_EQ":
      return [...(wide ? [high, is(BPF.JEQ, want.high, "next", "fail")] : []), low, is(BPF.JEQ, want.low, "pass", "fail")];
    case "SCMP_CMP_NE":
      return [...(wide ? [high, is(BPF.JEQ, want.high, "next", "pass")] : []), low, is(BPF.JEQ, want.low, "fail", "pass")];
    case "SCMP_CMP_GT":
      return ordered(BPF.JGT, "pass", "fail");
    case "SCMP_CMP_GE":
      return ordered(BPF.JGE, "pass", "fail");
    case "SCMP_CMP_LE":
      return ordered(BPF.JGT, "fail", "pass");
    case "SCMP_CMP_LT":
      return ordered(BPF.JGE, "fail", "pass");
    case "SCMP_CMP_MASKED_EQ": {
      const checkHigh = wide && (mask.high !== 0 || want.high !== 0);
      return [
        ...(checkHigh ? [high, { code: BPF.AND, k: mask.high }, is(BPF.JEQ, want.high, "next", "fail")] : []),
        low,
        { code: BPF.AND, k: mask.low },
        is(BPF.JEQ, want.low, "pass", "fail"),
      ];
    }
    default:
      throw new EngineError("invalid", `seccomp operator ${op} is unknown`);
  }
}
