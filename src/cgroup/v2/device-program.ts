/**
 * A device policy → a BPF program for BPF_PROG_TYPE_CGROUP_DEVICE: called for each open or mknod of a device with struct bpf_cgroup_dev_ctx
 * {u32 access << 16 | type, u32 major, u32 minor}; 1 allows, 0 refuses with EPERM.
 * @module
 * @see kernel Documentation/bpf/standardization/instruction-set.rst, include/uapi/linux/bpf.h
 */
import type { DeviceException, DevicePolicy } from "../device-rules.ts";

const TYPE = { b: 1, c: 2 } as const;
const ACCESS: Readonly<Record<string, number>> = { m: 1, r: 2, w: 4 };
const ALL = 7;

/** Registers: r1 the context, then scratch. */
const [R0, R1, TYPE_REG, ACCESS_REG, MAJOR_REG, MINOR_REG] = [0, 1, 2, 3, 4, 5] as const;

/** Opcodes: class | source | operation. */
const OP = {
  LDX_W: 0x61, // dst = *(u32 *)(src + offset)
  AND32_K: 0x54,
  RSH32_K: 0x74,
  MOV32_X: 0xbc,
  MOV64_K: 0xb7,
  JEQ_K: 0x15,
  JNE_K: 0x55,
  JNE_X: 0x5d,
  EXIT: 0x95,
} as const;

/** One instruction; a jump's `offset` counts the instructions that it skips. */
interface Instruction {
  readonly code: number;
  readonly dst?: number;
  readonly src?: number;
  readonly offset?: number;
  readonly imm?: number;
}

/** The program's bytes, eight for each instruction. */
export function compileDeviceProgram(policy: DevicePolicy): Uint8Array {
  const program: Instruction[] = [
    { code: OP.LDX_W, dst: TYPE_REG, src: R1, offset: 0 },
    { code: OP.AND32_K, dst: TYPE_REG, imm: 0xffff },
    { code: OP.LDX_W, dst: ACCESS_REG, src: R1, offset: 0 },
    { code: OP.RSH32_K, dst: ACCESS_REG, imm: 16 },
    { code: OP.LDX_W, dst: MAJOR_REG, src: R1, offset: 4 },
    { code: OP.LDX_W, dst: MINOR_REG, src: R1, offset: 8 },
    ...policy.exceptions.flatMap((exception) => exceptionBlock(exception, policy.allowByDefault)),
    ...answer(policy.allowByDefault),
  ];
  return encode(program);
}

const answer = (allowed: boolean): Instruction[] => [{ code: OP.MOV64_K, dst: R0, imm: allowed ? 1 : 0 }, { code: OP.EXIT }];

/** Answers when the request matches, else falls through. An allowed access must cover the whole request; a denied one need only touch it. */
function exceptionBlock({ type, major, minor, access }: DeviceException, allowByDefault: boolean): Instruction[] {
  const bits = [...access].reduce((sum, letter) => sum | (ACCESS[letter] ?? 0), 0);
  const tests: Instruction[] = [{ code: OP.JNE_K, dst: TYPE_REG, imm: TYPE[type] }];
  if (bits !== ALL) {
    tests.push({ code: OP.MOV32_X, dst: R1, src: ACCESS_REG }, { code: OP.AND32_K, dst: R1, imm: bits });
    tests.push(allowByDefault ? { code: OP.JEQ_K, dst: R1, imm: 0 } : { code: OP.JNE_X, dst: R1, src: ACCESS_REG });
  }
  if (major !== undefined) tests.push({ code: OP.JNE_K, dst: MAJOR_REG, imm: major });
  if (minor !== undefined) tests.push({ code: OP.JNE_K, dst: MINOR_REG, imm: minor });
  const end = answer(!allowByDefault);
  const length = tests.length + end.length;
  const jumps: ReadonlySet<number> = new Set([OP.JEQ_K, OP.JNE_K, OP.JNE_X]);
  return [...tests.map((test, i) => (jumps.has(test.code) ? { ...test, offset: length - i - 1 } : test)), ...end];
}

function encode(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  program.forEach(({ code, dst = 0, src = 0, offset = 0, imm = 0 }, i) => {
    view.setUint8(i * 8, code);
    view.setUint8(i * 8 + 1, (src << 4) | dst);
    view.setInt16(i * 8 + 2, offset, true);
    view.setInt32(i * 8 + 4, imm | 0, true);
  });
  return bytes;
}
