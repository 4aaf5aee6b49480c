/**
 * OCI resources (which speak v1) → writes to control files of cgroup v2. Pure; the resources have been through `dropUnsupported`.
 * @module
 * @see kernel Documentation/admin-guide/cgroup-v2.rst
 */
import { EngineError } from "#core/errors.ts";
import type { OciResources, OciThrottle } from "#core/runtime-spec.ts";
import type { ControlWrite } from "../control-files.ts";
import type { LimitSupport } from "../support.ts";
import { rdmaLines, rdmaWhy } from "../rdma.ts";

const write = (file: string, value: number | string, why: string): ControlWrite => ({ controller: "", file, value: String(value), why });
const orMax = (value: number): number | "max" => (value < 0 ? "max" : value);

/**
 * CPU shares (2–262144, default 1024) → weight (1–10000, default 100) so that both ends and both defaults meet: a quadratic in log2.
 * @see https://github.com/opencontainers/cgroups/pull/20 (runc 1.4; before, the line through the ends made 1024 a weight of 39)
 */
export function cpuWeight(shares: number): number {
  if (shares <= 2) return 1;
  if (shares >= 262_144) return 10_000;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

/** blkio weight (10–1000) → io.weight (1–10000); bfq takes the old number. */
export function ioWeight(weight: number): number {
  return 1 + Math.floor(((weight - 10) * 9999) / 990);
}

/** v1 counts memory and swap together, v2 swap alone. */
export function memoryWrites(memory: OciResources["memory"]): ControlWrite[] {
  if (memory === undefined) return [];
  const { limit, reservation } = memory;
  const swap = limit === -1 && (memory.swap === undefined || memory.swap === 0) ? -1 : memory.swap;
  const writes: ControlWrite[] = [];
  if (swap !== undefined && swap !== 0) writes.push(write("memory.swap.max", swapMax(swap, limit), "bounds swap"));
  if (limit !== undefined && limit !== 0) writes.push(write("memory.max", orMax(limit), "bounds memory"));
  if (reservation !== undefined && reservation !== 0) writes.push(write("memory.low", orMax(reservation), "is protected up to this when memory is short"));
  return writes;
}

function swapMax(swap: number, limit: number | undefined): number | "max" {
  if (swap < 0) return "max";
  if (limit === undefined || limit <= 0) throw new EngineError("invalid", "You should always set the Memory limit when using Memoryswap limit, see usage");
  if (swap < limit) throw new EngineError("invalid", "Minimum memoryswap limit should be larger than memory limit, see usage");
  return swap - limit;
}

function cpuWrites(cpu: OciResources["cpu"]): ControlWrite[] {
  if (cpu === undefined) return [];
  const writes: ControlWrite[] = [];
  // idle first: an idle cgroup takes no weight
  if (cpu.idle !== undefined) writes.push(write("cpu.idle", cpu.idle, "runs only when nothing else wants to"));
  if (cpu.shares && cpu.idle !== 1)
    writes.push(write("cpu.weight", cpuWeight(cpu.shares), `weight against its siblings when CPUs are busy (${cpu.shares} shares)`));
  if (cpu.quota || cpu.period) {
    const quota = cpu.quota !== undefined && cpu.quota > 0 ? cpu.quota : "max";
    writes.push(write("cpu.max", cpu.period ? `${quota} ${cpu.period}` : quota, "CPU time per period (µs)"));
  }
  if (cpu.burst !== undefined) writes.push(write("cpu.max.burst", cpu.burst, "CPU time that may be saved up"));
  if (cpu.cpus) writes.push(write("cpuset.cpus", cpu.cpus, "CPUs it may run on"));
  if (cpu.mems) writes.push(write("cpuset.mems", cpu.mems, "NUMA nodes it may take memory from"));
  return writes;
}

function ioWrites(blockIO: OciResources["blockIO"], support: LimitSupport): ControlWrite[] {
  if (blockIO === undefined) return [];
  const writes: ControlWrite[] = [];
  const scaled = (weight: number) => (support.blkioWeight === "io.bfq.weight" ? weight : ioWeight(weight));
  if (blockIO.weight && support.blkioWeight) writes.push(write(support.blkioWeight, `default ${scaled(blockIO.weight)}`, "share of the disks' time"));
  for (const { major, minor, weight } of blockIO.weightDevice ?? []) {
    if (weight !== undefined && support.blkioWeightDevice)
      writes.push(write(support.blkioWeightDevice, `${major}:${minor} ${scaled(weight)}`, "share of one disk's time"));
  }
  const throttle = (list: OciThrottle[] | undefined, key: string, why: string) => {
    for (const { major, minor, rate } of list ?? []) writes.push(write("io.max", `${major}:${minor} ${key}=${rate === 0 ? "max" : rate}`, why));
  };
  throttle(blockIO.throttleReadBpsDevice, "rbps", "bytes read per second");
  throttle(blockIO.throttleWriteBpsDevice, "wbps", "bytes written per second");
  throttle(blockIO.throttleReadIOPSDevice, "riops", "reads per second");
  throttle(blockIO.throttleWriteIOPSDevice, "wiops", "writes per second");
  return writes;
}

/** All limits but devices, which are a program. `unified` last: who speaks v2 means it. */
export function limitWrites(resources: OciResources, support: LimitSupport): ControlWrite[] {
  const { pids } = resources;
  return [
    ...cpuWrites(resources.cpu),
    ...memoryWrites(resources.memory),
    ...ioWrites(resources.blockIO, support),
    ...(pids === undefined ? [] : [write("pids.max", pids.limit > 0 ? pids.limit : "max", "bounds the number of processes and threads")]),
    ...(resources.hugepageLimits ?? []).map(({ pageSize, limit }) => write(`hugetlb.${pageSize}.max`, limit, "bounds huge pages")),
    ...rdmaLines(resources.rdma).map((line) => write("rdma.max", line, rdmaWhy)),
    ...Object.entries(resources.unified ?? {}).map(([file, value]) => {
      if (file.includes("/")) throw new EngineError("invalid", `unified resource "${file}" must be a file name`);
      return write(file, value, "as asked for");
    }),
  ];
}
