/**
 * What an OCI spec may ask of a process beside its identity: scheduling, I/O priority, CPUs, execution domain, LSM labels.
 * @module
 * @see runtime-spec config.md "Linux Process", config-linux.md "Personality"
 */
import { EngineError } from "#core/errors.ts";
import type { OciLinux, OciProcess } from "#core/runtime-spec.ts";
import { O } from "#linux/flags.ts";
import { NO_SLOT } from "#linux/plan.ts";
import type { Draft } from "./draft.ts";

/** @see linux/sched.h */
const policies: Readonly<Record<string, number>> = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_ISO: 4,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
};
const schedulerFlags: Readonly<Record<string, bigint>> = {
  SCHED_FLAG_RESET_ON_FORK: 1n,
  SCHED_FLAG_RECLAIM: 2n,
  SCHED_FLAG_DL_OVERRUN: 4n,
  SCHED_FLAG_KEEP_POLICY: 8n,
  SCHED_FLAG_KEEP_PARAMS: 16n,
  SCHED_FLAG_UTIL_CLAMP_MIN: 32n,
  SCHED_FLAG_UTIL_CLAMP_MAX: 64n,
};
/** @see ioprio_set(2) */
const ioClasses: Readonly<Record<string, number>> = { IOPRIO_CLASS_RT: 1, IOPRIO_CLASS_BE: 2, IOPRIO_CLASS_IDLE: 3 };
const domains: Readonly<Record<string, number>> = { LINUX: 0, LINUX32: 8 };

function known<T>(table: Readonly<Record<string, T>>, name: string, what: string): T {
  const value = Object.hasOwn(table, name) ? table[name] : undefined;
  if (value === undefined) throw new EngineError("invalid", `${what} "${name}" is unknown: one of ${Object.keys(table).join(", ")} is expected`);
  return value;
}

/** While the process still has the rights that these take. */
export function planScheduling(draft: Draft, process: OciProcess): void {
  const { scheduler, ioPriority } = process;
  if (scheduler !== undefined && scheduler !== null) {
    const { policy, nice = 0, priority = 0, flags = [], runtime = 0, deadline = 0, period = 0 } = scheduler;
    draft.child(
      {
        op: "sched_attr",
        policy: known(policies, policy, "scheduler policy"),
        flags: flags.reduce((all, name) => all | known(schedulerFlags, name, "scheduler flag"), 0n),
        nice,
        priority,
        runtime: BigInt(runtime),
        deadline: BigInt(deadline),
        period: BigInt(period),
      },
      `how it is scheduled: ${policy}`,
      { see: "sched(7)" },
    );
  }
  if (ioPriority !== undefined && ioPriority !== null) {
    const { priority = 0 } = ioPriority;
    if (!Number.isInteger(priority) || priority < 0 || priority > 7) throw new EngineError("invalid", `ioPriority ${priority} is not 0 to 7`);
    const value = (known(ioClasses, ioPriority.class, "ioPriority class") << 13) | priority;
    draft.child({ op: "ioprio", value }, "who goes first when the disk is busy");
  }
}

export function planPersonality(draft: Draft, personality: OciLinux["personality"]): void {
  if (personality === undefined || personality === null) return;
  if ((personality.flags ?? []).length > 0) throw new EngineError("invalid", "personality flags are not supported by the specification yet");
  draft.child({ op: "personality", persona: known(domains, personality.domain, "personality domain") }, `the kernel answers as ${personality.domain}`);
}

/** "0-2,7" → a bit for each CPU, little endian. Exported for its test. */
export function cpuMask(list: string): Uint8Array {
  const mask = new Uint8Array(1024);
  for (const part of list.split(",")) {
    const [, from, to = from] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part) ?? [];
    const [first, last] = [Number(from), Number(to)];
    if (from === undefined || last < first || last >= mask.length * 8) throw new EngineError("invalid", `CPU list "${list}" cannot be understood`);
    for (let cpu = first; cpu <= last; cpu++) mask[cpu >> 3] = (mask[cpu >> 3] ?? 0) | (1 << (cpu & 7));
  }
  return mask.slice(0, mask.findLastIndex((byte) => byte !== 0) + 1);
}

export function planAffinity(draft: Draft, cpus: string | undefined, why: string): void {
  if (cpus !== undefined && cpus !== "") draft.child({ op: "affinity", mask: cpuMask(cpus) }, why);
}

/** From sys/vfs.h's f_type: that it is the kernel's /proc, and nothing that the image put there (CVE-2019-19921). */
const PROC_MAGIC = 0x9fa0;

/** The label comes into force with exec. The kernel refuses one that it does not know. */
export function planLabels(draft: Draft, { apparmorProfile = "", selinuxLabel = "" }: OciProcess): void {
  const write = (path: string, text: string, why: string) => {
    const proc = draft.take();
    draft.child({ op: "openat", dir: NO_SLOT, path: "/proc", flags: O.PATH | O.DIRECTORY, mode: 0, out: proc }, "the kernel's own /proc …");
    draft.child({ op: "expect_fs", slot: proc, magic: PROC_MAGIC }, "… and nothing that only looks like it");
    draft.child({ op: "write", dir: proc, path, flags: 0n, data: new TextEncoder().encode(text) }, why, { see: "proc(5)" });
    draft.child({ op: "close", slot: proc }, "no descriptor is left");
    draft.release(proc);
  };
  if (apparmorProfile !== "" && apparmorProfile !== "unconfined") write("self/attr/exec", `exec ${apparmorProfile}`, `AppArmor profile ${apparmorProfile}`);
  if (selinuxLabel !== "") write("self/attr/exec", selinuxLabel, `SELinux label ${selinuxLabel}`);
}
