/**
 * A process that joins a container is seen there from its birth in the PID namespace on. Who may trace it (CAP_SYS_PTRACE) has all that it has: a root
 * and descriptors of the host, rights that it has not given up yet. So it is born last of all: what joins stays outside until it is no more
 * than the program may be, and then goes on as a child of itself in the PID namespace (CVE-2016-9962 and what remained of it).
 * @module
 */
import { runFilter } from "#linux/bpf/interpreter.ts";
import type { SeccompArch } from "#linux/bpf/profile.ts";
import { syscallNumbers } from "#linux/bpf/syscalls.ts";
import { CLONE } from "#linux/flags.ts";
import { NO_SLOT } from "#linux/plan.ts";
import type { Draft } from "./draft.ts";

const SIGCHLD = 17n;
const PR_SET_PDEATHSIG = 1n;
const TIOCSCTTY = 0x540en;
const AUDIT_ARCH: Readonly<Record<SeccompArch, number>> = { x86_64: 0xc000003e, aarch64: 0xc00000b7 };
/** SECCOMP_RET_LOG and SECCOMP_RET_ALLOW: nothing above stops a call. */
const LEAST_ALLOWED = 0x7ffc0000;

/** The calls of `rebirth` (native/plan.c). */
const calls: readonly (readonly [name: string, ...args: bigint[]])[] = [
  ["fcntl"],
  ["close"],
  ["close_range"],
  ["clone", CLONE.PARENT | CLONE.PARENT_SETTID | SIGCHLD],
  ["setsid"],
  ["prctl", PR_SET_PDEATHSIG],
  ["ioctl", 0n, TIOCSCTTY],
];

/** Can a process be reborn that this filter binds already? */
export function letsBeReborn(filter: Uint8Array | undefined, arch: SeccompArch): boolean {
  if (filter === undefined) return true;
  const numbers = syscallNumbers(arch);
  return calls.every(([name, ...args]) => runFilter(filter, { nr: numbers.get(name) ?? -1, arch: AUDIT_ARCH[arch], args }).result >= LEAST_ALLOWED);
}

/** For `keep`: all descriptors, and the session as well. */
export const KEEP_ALL = 0xffffffff;

/** `keep`: that many descriptors from 3 on; `also`: a slot. */
export function planRebirth(draft: Draft, keep: number, also: number = NO_SLOT): void {
  draft.child({ op: "rebirth", keep, also }, "only now a process of the container: who may trace it there finds nothing that the program will not have", {
    see: "ptrace(2)",
  });
}
