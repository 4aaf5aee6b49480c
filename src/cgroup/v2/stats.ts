/**
 * Counters of a v2 cgroup.
 * @module
 */
import { keyedIn, numberIn, readControl } from "../control-files.ts";
import type { CgroupStats, Pressure, PressureLine } from "../mod.ts";

/** `memoryBytes` of the host stands for "max", as in Docker's stats. */
export async function readStats(dir: string, memoryBytes: number): Promise<CgroupStats> {
  const read = async (file: string) => await readControl(`${dir}/${file}`);
  const [cpuStat, current, peak, max, events, memStat, pids, pidsMax, ioStat, ...pressures] = await Promise.all([
    read("cpu.stat"),
    read("memory.current"),
    read("memory.peak"), // 5.19
    read("memory.max"),
    read("memory.events"),
    read("memory.stat"),
    read("pids.current"),
    read("pids.max"),
    read("io.stat"),
    read("cpu.pressure"),
    read("memory.pressure"),
    read("io.pressure"),
  ]);
  const cpu = keyedIn(cpuStat);
  const nanoseconds = (key: string) => (cpu[key] ?? 0) * 1000;
  return {
    cpu: {
      usageNs: nanoseconds("usage_usec"),
      userNs: nanoseconds("user_usec"),
      systemNs: nanoseconds("system_usec"),
      perCpuNs: [], // v2 does not count it
      periods: cpu["nr_periods"] ?? 0,
      throttledPeriods: cpu["nr_throttled"] ?? 0,
      throttledNs: nanoseconds("throttled_usec"),
    },
    memory: {
      usage: numberIn(current),
      maxUsage: numberIn(peak),
      limit: Math.min(numberIn(max, memoryBytes), memoryBytes),
      failcnt: keyedIn(events)["max"] ?? 0,
      oomKills: keyedIn(events)["oom_kill"] ?? 0,
      stats: keyedIn(memStat),
    },
    pids: { current: numberIn(pids), limit: numberIn(pidsMax) },
    ...pressureOf(pressures),
    blkio: ioEntries(ioStat),
  };
}

function pressureOf([cpu, memory, io]: readonly (string | undefined)[]): Pick<CgroupStats, "pressure"> {
  const found = Object.entries({ cpu: parsePressure(cpu), memory: parsePressure(memory), io: parsePressure(io) }).filter(
    ([, pressure]) => pressure !== undefined,
  );
  return found.length === 0 ? {} : { pressure: Object.fromEntries(found) };
}

/** Lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"; `full` of the CPU is there since Linux 5.13. Undefined: the file is missing. */
export function parsePressure(text: string | undefined): Pressure | undefined {
  if (text === undefined || text === "") return undefined;
  const line = (name: string): PressureLine => {
    const [, fields = ""] = new RegExp(`^${name} (.*)$`, "m").exec(text) ?? [];
    const values = new Map(fields.split(" ").map((field) => field.split("=") as [string, string]));
    const value = (key: string) => Number(values.get(key) ?? 0);
    return { avg10: value("avg10"), avg60: value("avg60"), avg300: value("avg300"), totalUs: value("total") };
  };
  return { some: line("some"), full: line("full") };
}

const keys: Readonly<Record<string, readonly [CgroupStats["blkio"][number]["field"], string]>> = {
  rbytes: ["io_service_bytes_recursive", "read"],
  wbytes: ["io_service_bytes_recursive", "write"],
  rios: ["io_serviced_recursive", "read"],
  wios: ["io_serviced_recursive", "write"],
};

/** Lines "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0". */
export function ioEntries(text: string | undefined): CgroupStats["blkio"] {
  return (text ?? "").split("\n").flatMap((line) => {
    const [device, ...pairs] = line.split(" ");
    const [major, minor] = (device ?? "").split(":").map(Number);
    return pairs.flatMap((pair) => {
      const [key, value] = pair.split("=");
      const known = keys[key ?? ""];
      return known === undefined || major === undefined || minor === undefined ? [] : [{ field: known[0], major, minor, op: known[1], value: Number(value) }];
    });
  });
}
