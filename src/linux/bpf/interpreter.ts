/** Runs a seccomp program as the kernel would: what tests compare the compiler with. @module */

export interface SeccompData {
  readonly nr: number;
  /** AUDIT_ARCH_*. */
  readonly arch: number;
  readonly args: readonly bigint[];
}

/** struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]. */
function wordAt({ nr, arch, args }: SeccompData, offset: number): number {
  if (offset === 0) return nr >>> 0;
  if (offset === 4) return arch >>> 0;
  if (offset < 16 || offset >= 64 || offset % 4 !== 0) throw new Error(`a filter may not load offset ${offset}`);
  const arg = args[(offset - 16) >> 3] ?? 0n;
  return Number(((offset - 16) % 8 === 0 ? arg : arg >> 32n) & 0xffffffffn);
}

/** The return value, and how many instructions ran. Throws where the kernel's checker would refuse the program. */
export function runFilter(program: Uint8Array, data: SeccompData): { readonly result: number; readonly steps: number } {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const count = program.length / 8;
  let accumulator = 0;
  for (let at = 0, steps = 1; ; at++, steps++) {
    if (at >= count) throw new Error("the program runs off its end");
    const code = view.getUint16(at * 8, true);
    const [jt, jf, k] = [view.getUint8(at * 8 + 2), view.getUint8(at * 8 + 3), view.getUint32(at * 8 + 4, true)];
    const jump = (condition: boolean) => {
      at += condition ? jt : jf;
    };
    if (code === 0x20) accumulator = wordAt(data, k);
    else if (code === 0x54) accumulator = (accumulator & k) >>> 0;
    else if (code === 0x05) at += k;
    else if (code === 0x15) jump(accumulator === k);
    else if (code === 0x25) jump(accumulator > k);
    else if (code === 0x35) jump(accumulator >= k);
    else if (code === 0x06) return { result: k, steps };
    else throw new Error(`unknown instruction ${code.toString(16)} at ${at}`);
  }
}
