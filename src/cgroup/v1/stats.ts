/**
 * Counters of a v1 cgroup.
 * @module
 */
import { keyedIn, numberIn, readControl } from "../control-files.ts";
import type { CgroupPaths, CgroupStats } from "../mod.ts";

/** `memoryBytes` of the host stands for "unlimited", as in Docker's stats. */
export async function readStats({ dirs }: CgroupPaths, memoryBytes: number): Promise<CgroupStats> {
  const read = async (controller: string, file: string) => (dirs[controller] === undefined ? undefined : await readControl(`${dirs[controller]}/${file}`));
  const [usage, perCpu, user, system, cpuStat, memUsage, memMax, memLimit, failcnt, oom, memStat, pids, pidsMax, bytes, counts] = await Promise.all([
    read("cpuacct", "cpuacct.usage"),
    read("cpuacct", "cpuacct.usage_percpu"),
    read("cpuacct", "cpuacct.usage_user"),
    read("cpuacct", "cpuacct.usage_sys"),
    read("cpu", "cpu.stat"),
    read("memory", "memory.usage_in_bytes"),
    read("memory", "memory.max_usage_in_bytes"),
    read("memory", "memory.limit_in_bytes"),
    read("memory", "memory.failcnt"),
    read("memory", "memory.oom_control"),
    read("memory", "memory.stat"),
    read("pids", "pids.current"),
    read("pids", "pids.max"),
    read("blkio", "blkio.throttle.io_service_bytes_recursive"),
    read("blkio", "blkio.throttle.io_serviced_recursive"),
  ]);
  const cpu = keyedIn(cpuStat);
  return {
    cpu: {
      usageNs: numberIn(usage),
      userNs: numberIn(user),
      systemNs: numberIn(system),
      perCpuNs: perCpu?.split(" ").filter(Boolean).map(Number) ?? [],
      periods: cpu["nr_periods"] ?? 0,
      throttledPeriods: cpu["nr_throttled"] ?? 0,
      throttledNs: cpu["throttled_time"] ?? 0,
    },
    memory: {
      usage: numberIn(memUsage),
      maxUsage: numberIn(memMax),
      limit: Math.min(numberIn(memLimit, memoryBytes), memoryBytes),
      failcnt: numberIn(failcnt),
      oomKills: keyedIn(oom)["oom_kill"] ?? 0,
      stats: keyedIn(memStat),
    },
    pids: { current: numberIn(pids), limit: numberIn(pidsMax) },
    blkio: [...blkioEntries("io_service_bytes_recursive", bytes), ...blkioEntries("io_serviced_recursive", counts)],
  };
}

/** Lines "8:0 Read 4096"; the last, "Total 8192", has no device. */
export function blkioEntries(field: CgroupStats["blkio"][number]["field"], text: string | undefined): CgroupStats["blkio"] {
  return (text ?? "").split("\n").flatMap((line) => {
    const [, major, minor, op, value] = /^(\d+):(\d+) (\w+) (\d+)$/.exec(line) ?? [];
    return op === undefined ? [] : [{ field, major: Number(major), minor: Number(minor), op, value: Number(value) }];
  });
}
