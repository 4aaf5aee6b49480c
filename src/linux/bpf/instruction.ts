/**
 * Classic BPF as seccomp runs it: an accumulator, jumps forward only, `struct seccomp_data` as its input.
 * @module
 * @see seccomp(2), linux/filter.h, https://docs.kernel.org/networking/filter.html
 */

/** struct sock_filter: jt and jf count instructions to skip, 0–255. */
export interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

/** The operations that a filter needs. */
export const BPF = {
  /** A = 32-bit word at offset k. */
  LOAD: 0x20, // LD | W | ABS
  /** A = A & k. */
  AND: 0x54, // ALU | AND | K
  /** Skips k instructions: the only jump of more than 255. */
  JUMP: 0x05, // JMP | JA
  JEQ: 0x15,
  JGT: 0x25,
  JGE: 0x35,
  RETURN: 0x06, // RET | K
} as const;

/** Offsets in struct seccomp_data. */
export const DATA = {
  nr: 0,
  arch: 4,
  argLow: (index: number): number => 16 + 8 * index,
  argHigh: (index: number): number => 20 + 8 * index,
} as const;

export const MAX_INSTRUCTIONS = 4096;

export function load(offset: number): Instruction {
  return { code: BPF.LOAD, jt: 0, jf: 0, k: offset };
}

export function ret(value: number): Instruction {
  return { code: BPF.RETURN, jt: 0, jf: 0, k: value };
}

/** `condition k ? then : otherwise`, whatever the length of the two. Both must end in a return. */
export function branch(condition: number, k: number, then: readonly Instruction[], otherwise: readonly Instruction[]): Instruction[] {
  if (otherwise.length <= 255) return [{ code: condition, jt: otherwise.length, jf: 0, k }, ...otherwise, ...then];
  return [{ code: condition, jt: 0, jf: 1, k }, { code: BPF.JUMP, jt: 0, jf: 0, k: otherwise.length }, ...otherwise, ...then];
}

/** An array of struct sock_filter, little endian: 8 bytes each. */
export function encode(program: readonly Instruction[]): Uint8Array {
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [index, { code, jt, jf, k }] of program.entries()) {
    view.setUint16(index * 8, code, true);
    view.setUint8(index * 8 + 2, jt);
    view.setUint8(index * 8 + 3, jf);
    view.setUint32(index * 8 + 4, k >>> 0, true);
  }
  return bytes;
}
