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

/** How far {@link tighten} lets a conditional jump go, which can skip 255: something may yet be written between it and its first target. */
const REACH = 253;

/**
 * The same program with each answer, and whatever else stands in it more than once, written once per reach of a jump. The kernel reads, checks and
 * translates a filter anew for each process that installs it, in a time that grows with its length.
 */
export function tighten(program: readonly Instruction[]): Instruction[] {
  /** From the end on: an instruction's place is its distance from there. */
  const out: Instruction[] = [];
  /** Of the old instructions. */
  const places: number[] = [];
  const answers = new Map<number, number>();
  const written = new Map<string, number>();
  /** A place, at most `most` instructions away from what is written next, where the same happens as at the old place. */
  const reach = (at: number, most: number): number => {
    const { code, k } = program[at] as Instruction; // jumps stay within a program
    if (code === BPF.JUMP) return reach(at + 1 + k, most);
    const answer = code === BPF.RETURN;
    const place = answer ? answers.get(k) : places[at];
    if (place !== undefined && out.length - place <= most) return place;
    const nearer = out.push(answer ? ret(k) : { code: BPF.JUMP, jt: 0, jf: 0, k: out.length - (place ?? 0) });
    if (answer) answers.set(k, nearer);
    return nearer;
  };
  for (let at = program.length - 1; at >= 0; at--) {
    const { code, jt, jf, k } = program[at] as Instruction; // within its length
    if (code === BPF.RETURN || code === BPF.JUMP) continue;
    const branches = code === BPF.JEQ || code === BPF.JGT || code === BPF.JGE;
    const [yes, no] = branches ? [reach(at + 1 + jt, REACH), reach(at + 1 + jf, REACH)] : [reach(at + 1, 0), out.length];
    const key = `${code} ${k} ${yes} ${no}`;
    const place = written.get(key) ?? out.push({ code, jt: out.length - yes, jf: out.length - no, k });
    written.set(key, place);
    places[at] = place;
  }
  reach(0, 0);
  return out.reverse();
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
