/**
 * Which limits this host has, told by the files that exist; and what is said and done when a limit is missing: Docker drops it with a warning.
 * @module
 */
import type { OciResources } from "#core/runtime-spec.ts";

/** What can be limited here. */
export interface LimitSupport {
  readonly version: 1 | 2;
  readonly memory: boolean;
  readonly memoryReservation: boolean;
  readonly swap: boolean;
  readonly swappiness: boolean;
  readonly oomKillDisable: boolean;
  readonly kernelMemoryTcp: boolean;
  readonly cpuShares: boolean;
  readonly cpuCfs: boolean;
  readonly cpuRealtime: boolean;
  readonly cpuset: boolean;
  readonly pids: boolean;
  readonly devices: boolean;
  /** File that holds the weight (`blkio.weight`, `blkio.bfq.weight`, `io.weight`, `io.bfq.weight`). */
  readonly blkioWeight: string | undefined;
  readonly blkioWeightDevice: string | undefined;
  readonly readBps: boolean;
  readonly writeBps: boolean;
  readonly readIops: boolean;
  readonly writeIops: boolean;
  readonly hugetlb: boolean;
}

type Memory = NonNullable<OciResources["memory"]>;
type Cpu = NonNullable<OciResources["cpu"]>;
type BlockIo = NonNullable<OciResources["blockIO"]>;

/** The resources without what this host lacks, and a sentence of Docker's for each that was asked for and dropped. */
export function dropUnsupported(resources: OciResources, support: LimitSupport): { readonly resources: OciResources; readonly warnings: readonly string[] } {
  const warnings: string[] = [];
  /** A copy of `part` without `keys`; warns once when one of them was set. */
  const without = <T extends object>(part: T | undefined, keys: readonly (keyof T)[], has: boolean, warning: string): T | undefined => {
    if (part === undefined || has || !keys.some((key) => part[key] !== undefined)) return part;
    warnings.push(warning);
    const rest = { ...part };
    for (const key of keys) delete rest[key];
    return rest;
  };
  const missing = (what: string, dropped: string) => `Your kernel does not support ${what} or the cgroup is not mounted. ${dropped} discarded.`;

  let memory: Memory | undefined = resources.memory;
  memory = without(memory, ["limit", "swap"], support.memory, missing("memory limit capabilities", "Limitation"));
  // -1: without a limit, which is what there is where swap is not accounted.
  if (!support.swap && memory?.swap === -1) {
    const { swap: _unlimited, ...rest } = memory;
    memory = rest;
  }
  memory = without(
    memory,
    ["swap"],
    support.swap,
    "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
  );
  memory = without(memory, ["reservation"], support.memoryReservation, missing("memory soft limit capabilities", "Limitation"));
  memory = without(memory, ["kernelTCP"], support.kernelMemoryTcp, missing("kernel memory TCP limit capabilities", "Limitation"));
  memory = without(memory, ["swappiness"], support.swappiness, missing("memory swappiness capabilities", "Memory swappiness"));
  memory = without(memory, ["disableOOMKiller"], support.oomKillDisable, "Your kernel does not support OomKillDisable. OomKillDisable discarded.");

  let cpu: Cpu | undefined = resources.cpu;
  cpu = without(cpu, ["shares"], support.cpuShares, missing("CPU shares", "Shares"));
  cpu = without(cpu, ["period", "quota", "burst"], support.cpuCfs, "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.");
  cpu = without(
    cpu,
    ["realtimePeriod", "realtimeRuntime"],
    support.cpuRealtime,
    "Your kernel does not support CPU real-time scheduler. CPU real-time limits discarded.",
  );
  cpu = without(cpu, ["cpus", "mems"], support.cpuset, missing("cpuset", "Cpuset"));

  let blockIO: BlockIo | undefined = resources.blockIO;
  blockIO = without(blockIO, ["weight"], support.blkioWeight !== undefined, missing("Block I/O weight", "Weight"));
  blockIO = without(blockIO, ["weightDevice"], support.blkioWeightDevice !== undefined, missing("Block I/O weight_device", "Weight-device"));
  blockIO = without(blockIO, ["throttleReadBpsDevice"], support.readBps, missing("BPS Block I/O read limit", "Block I/O BPS read limit"));
  blockIO = without(blockIO, ["throttleWriteBpsDevice"], support.writeBps, missing("BPS Block I/O write limit", "Block I/O BPS write limit"));
  blockIO = without(blockIO, ["throttleReadIOPSDevice"], support.readIops, missing("IOPS Block read limit", "Block I/O IOPS read limit"));
  blockIO = without(blockIO, ["throttleWriteIOPSDevice"], support.writeIops, missing("IOPS Block write limit", "Block I/O IOPS write limit"));

  const top = without(resources, ["pids"], support.pids, missing("PIDs limit capabilities", "PIDs limit")) ?? {};
  const { memory: _m, cpu: _c, blockIO: _b, ...rest } = top;
  return { resources: { ...rest, ...(memory && { memory }), ...(cpu && { cpu }), ...(blockIO && { blockIO }) }, warnings };
}

/** The booleans of Docker's `/info`. */
export function infoFlags(support: LimitSupport): Record<string, boolean> {
  return {
    MemoryLimit: support.memory,
    SwapLimit: support.swap,
    KernelMemory: false, // taken out of the kernel in 5.16, out of Docker in 24
    KernelMemoryTCP: support.kernelMemoryTcp,
    CpuCfsPeriod: support.cpuCfs,
    CpuCfsQuota: support.cpuCfs,
    CPUShares: support.cpuShares,
    CPUSet: support.cpuset,
    PidsLimit: support.pids,
    OomKillDisable: support.oomKillDisable,
    CPURealtime: support.cpuRealtime,
    BlkioWeight: support.blkioWeight !== undefined,
    BlkioWeightDevice: support.blkioWeightDevice !== undefined,
    BlkioReadBpsDevice: support.readBps,
    BlkioWriteBpsDevice: support.writeBps,
    BlkioReadIOpsDevice: support.readIops,
    BlkioWriteIOpsDevice: support.writeIops,
  };
}

/** The WARNING lines that `docker info` ends with, in its order. */
export function infoWarnings(support: LimitSupport): string[] {
  const v2 = support.version === 2;
  const lines: readonly (readonly [boolean, string])[] = [
    [support.memory, "memory limit"],
    [support.swap, "swap limit"],
    [support.oomKillDisable || v2, "oom kill disable"],
    [support.cpuCfs, "cpu cfs quota"],
    [support.cpuCfs, "cpu cfs period"],
    [support.cpuShares, "cpu shares"],
    [support.cpuset, "cpuset"],
    [support.blkioWeight !== undefined, v2 ? "io.weight" : "blkio weight"],
    [support.blkioWeightDevice !== undefined, v2 ? "io.weight (per device)" : "blkio weight_device"],
    [support.readBps, v2 ? "io.max (rbps)" : "blkio throttle.read_bps_device"],
    [support.writeBps, v2 ? "io.max (wbps)" : "blkio throttle.write_bps_device"],
    [support.readIops, v2 ? "io.max (riops)" : "blkio throttle.read_iops_device"],
    [support.writeIops, v2 ? "io.max (wiops)" : "blkio throttle.write_iops_device"],
  ];
  return lines.filter(([has]) => !has).map(([, what]) => `WARNING: No ${what} support`);
}
