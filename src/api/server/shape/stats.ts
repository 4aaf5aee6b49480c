/** Cgroup counters as Docker's stats JSON. Pure but for {@link readHostCpu}. @module */
import { readFile } from "node:fs/promises";
import type { CgroupStats } from "#cgroup/mod.ts";
import { zeroTime } from "#core/clock.ts";
import type { ContainerStats } from "#engine/mod.ts";
import type { BlkioJson, CpuStatsJson, StatsJson } from "#api/types/stats-json.ts";

/** The host's CPU time over all CPUs. */
export interface HostCpu {
  readonly usageNs: number;
  readonly online: number;
}

/** /proc/stat counts in ticks of 1/100 s (USER_HZ, fixed by the kernel's ABI on the architectures we run on). */
const nsPerTick = 10_000_000;

/** Parses /proc/stat; user, nice, system, idle, iowait, irq and softirq count, as Docker adds them up. @see proc(5) */
export function parseHostCpu(text: string): HostCpu {
  const lines = text.split("\n");
  const ticks = (lines[0] ?? "").trim().split(/\s+/).slice(1, 8);
  return { usageNs: ticks.reduce((sum, n) => sum + Number(n) * nsPerTick, 0), online: lines.filter((line) => /^cpu\d/.test(line)).length };
}

export async function readHostCpu(): Promise<HostCpu> {
  return parseHostCpu(await readFile("/proc/stat", "utf8"));
}

export interface Sample {
  readonly stats: ContainerStats | undefined;
  readonly host: HostCpu;
  /** RFC 3339. */
  readonly read: string;
}

const emptyCpu = (): CpuStatsJson => ({
  cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
  throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
});

function cpuJson(sample: Sample | undefined): CpuStatsJson {
  if (!sample?.stats) return emptyCpu();
  const { cpu } = sample.stats;
  return {
    cpu_usage: {
      total_usage: cpu.usageNs,
      ...(cpu.perCpuNs.length === 0 ? {} : { percpu_usage: [...cpu.perCpuNs] }),
      usage_in_kernelmode: cpu.systemNs,
      usage_in_usermode: cpu.userNs,
    },
    system_cpu_usage: sample.host.usageNs,
    online_cpus: sample.host.online,
    throttling_data: { periods: cpu.periods, throttled_periods: cpu.throttledPeriods, throttled_time: cpu.throttledNs },
  };
}

const blkioNames = [
  "io_service_bytes_recursive",
  "io_serviced_recursive",
  "io_queue_recursive",
  "io_service_time_recursive",
  "io_wait_time_recursive",
  "io_merged_recursive",
  "io_time_recursive",
  "sectors_recursive",
] as const;

/** cgroup v1 answers empty lists for what it did not count, v2 null. */
function blkioJson(stats: CgroupStats | undefined, v1: boolean): StatsJson["blkio_stats"] {
  const lists = Object.fromEntries(blkioNames.map((name) => [name, v1 && stats ? ([] as BlkioJson[]) : null])) as StatsJson["blkio_stats"]; // every name is in the table
  for (const { field, major, minor, op, value } of stats?.blkio ?? []) {
    const list = lists[field] ?? [];
    list.push({ major, minor, op, value });
    lists[field] = list;
  }
  return lists;
}

/** v1 has a high-water mark and a failure count (left out while it is 0), v2 neither. No limit is the host's memory. */
function memoryJson(stats: CgroupStats | undefined, v1: boolean, hostMemory: number): StatsJson["memory_stats"] {
  if (!stats) return {};
  const { memory } = stats;
  const limit = memory.limit <= 0 || memory.limit > hostMemory ? hostMemory : memory.limit;
  return {
    usage: memory.usage,
    ...(v1 ? { max_usage: memory.maxUsage } : {}),
    stats: { ...memory.stats },
    ...(v1 && memory.failcnt > 0 ? { failcnt: memory.failcnt } : {}),
    limit,
  };
}

export interface StatsContext {
  readonly id: string;
  readonly name: string;
  readonly v1: boolean;
  readonly hostMemory: number;
}

/** One reading, with the CPU counters of the one before. */
export function statsJson(context: StatsContext, sample: Sample, before: Sample | undefined): StatsJson {
  const { stats } = sample;
  return {
    name: `/${context.name}`,
    id: context.id,
    read: stats ? sample.read : zeroTime,
    preread: before?.stats ? before.read : zeroTime,
    pids_stats: stats ? { current: stats.pids.current, ...(stats.pids.limit > 0 && Number.isFinite(stats.pids.limit) ? { limit: stats.pids.limit } : {}) } : {},
    blkio_stats: blkioJson(stats, context.v1),
    num_procs: 0,
    storage_stats: {},
    cpu_stats: cpuJson(sample),
    precpu_stats: cpuJson(before),
    memory_stats: memoryJson(stats, context.v1, context.hostMemory),
    ...(stats && Object.keys(stats.networks).length > 0
      ? { networks: Object.fromEntries(Object.entries(stats.networks).map(([name, counters]) => [name, { ...counters }])) }
      : {}),
    ...(stats?.networkRate && { wherry_network_rate: { ...stats.networkRate } }),
  };
}
