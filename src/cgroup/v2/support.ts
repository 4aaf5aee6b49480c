/**
 * What can be limited on this v2 host.
 * @module
 */
import { existsSync } from "node:fs";
import type { HostFacts } from "#linux/host-facts.ts";
import type { LimitSupport } from "../support.ts";

/** A controller's files do not exist in the root: those that depend on the kernel's configuration are looked for in `parentDir`, once it exists. */
export function probeSupport({ cgroup, swapAccounting }: HostFacts, parentDir: string): LimitSupport {
  const has = (controller: string) => cgroup.v2Controllers.includes(controller);
  const here = existsSync(parentDir);
  const fileOf = (controller: string, ...files: string[]) => (has(controller) ? files.find((file) => existsSync(`${parentDir}/${file}`)) : undefined);
  const weight = fileOf("io", "io.bfq.weight", "io.weight");
  const ioMax = has("io") && (!here || existsSync(`${parentDir}/io.max`));
  return {
    version: 2,
    memory: has("memory"),
    memoryReservation: has("memory"),
    swap: has("memory") && (here ? existsSync(`${parentDir}/memory.swap.max`) : swapAccounting),
    swappiness: false, // v2 has none per cgroup
    oomKillDisable: false,
    kernelMemoryTcp: false,
    cpuShares: has("cpu"),
    cpuCfs: has("cpu"),
    cpuRealtime: false,
    cpuset: has("cpuset"),
    pids: has("pids"),
    devices: true,
    blkioWeight: weight,
    blkioWeightDevice: weight,
    readBps: ioMax,
    writeBps: ioMax,
    readIops: ioMax,
    writeIops: ioMax,
    hugetlb: has("hugetlb"),
  };
}
