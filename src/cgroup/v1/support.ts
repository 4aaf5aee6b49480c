/**
 * What can be limited on this v1 host.
 * @module
 */
import { existsSync } from "node:fs";
import type { HostFacts } from "#linux/host-facts.ts";
import type { LimitSupport } from "../support.ts";

/**
 * Looks for control files in the hierarchies' root, and for those that a root cgroup never has, in `parent` as well. Facts of another host, whose hierarchies are not
 * mounted here, are taken at their word: each controller then has its usual files.
 */
export function probeSupport({ cgroup, swapAccounting }: HostFacts, parent: string): LimitSupport {
  const has = (controller: string, file: string, usually = true): boolean => {
    const mount = cgroup.v1[controller];
    if (mount === undefined) return false;
    if (!existsSync(`${mount}/cgroup.procs`)) return usually;
    return existsSync(`${mount}/${file}`) || existsSync(`${mount}${parent}/${file}`);
  };
  const firstOf = (...files: string[]) => files.find((file) => has("blkio", file, false));
  return {
    version: 1,
    memory: has("memory", "memory.limit_in_bytes"),
    memoryReservation: has("memory", "memory.soft_limit_in_bytes"),
    swap: has("memory", "memory.memsw.limit_in_bytes", swapAccounting),
    swappiness: has("memory", "memory.swappiness"),
    oomKillDisable: has("memory", "memory.oom_control"),
    kernelMemoryTcp: has("memory", "memory.kmem.tcp.limit_in_bytes"),
    cpuShares: has("cpu", "cpu.shares"),
    cpuCfs: has("cpu", "cpu.cfs_quota_us"),
    cpuRealtime: has("cpu", "cpu.rt_period_us", false),
    cpuset: has("cpuset", "cpuset.cpus"),
    pids: cgroup.v1["pids"] !== undefined, // pids.max does not exist in the root
    devices: has("devices", "devices.allow"),
    blkioWeight: firstOf("blkio.weight", "blkio.bfq.weight"),
    blkioWeightDevice: firstOf("blkio.weight_device", "blkio.bfq.weight_device"),
    readBps: has("blkio", "blkio.throttle.read_bps_device"),
    writeBps: has("blkio", "blkio.throttle.write_bps_device"),
    readIops: has("blkio", "blkio.throttle.read_iops_device"),
    writeIops: has("blkio", "blkio.throttle.write_iops_device"),
    hugetlb: cgroup.v1["hugetlb"] !== undefined,
  };
}
