/**
 * OCI resources → writes to control files of cgroup v1. Pure; the resources have been through `dropUnsupported`.
 * @module
 * @see kernel Documentation/admin-guide/cgroup-v1/
 */
import type { OciResources, OciThrottle } from "#core/runtime-spec.ts";
import type { ControlWrite } from "../control-files.ts";
import { type DeviceException, devicePolicy } from "../device-rules.ts";
import type { LimitSupport } from "../support.ts";
import { rdmaLines, rdmaWhy } from "../rdma.ts";

const write = (controller: string, file: string, value: number | string, why: string): ControlWrite => ({ controller, file, value: String(value), why });

/** memory, then memory+swap: in a new cgroup both are unlimited, and memory+swap may never be the smaller. */
export function memoryWrites(memory: OciResources["memory"]): ControlWrite[] {
  if (memory === undefined) return [];
  const { limit, reservation, kernelTCP, swappiness, disableOOMKiller } = memory;
  // Unlimited memory with a limit on memory+swap would be refused: lift both.
  const swap = limit === -1 && (memory.swap === undefined || memory.swap === 0) ? -1 : memory.swap;
  const writes: ControlWrite[] = [];
  if (limit !== undefined && limit !== 0) writes.push(write("memory", "memory.limit_in_bytes", limit, "bounds memory"));
  if (swap !== undefined && swap !== 0) writes.push(write("memory", "memory.memsw.limit_in_bytes", swap, "bounds memory and swap together"));
  if (reservation !== undefined && reservation !== 0)
    writes.push(write("memory", "memory.soft_limit_in_bytes", reservation, "is reclaimed down to this when memory is short"));
  if (kernelTCP !== undefined && kernelTCP !== 0)
    writes.push(write("memory", "memory.kmem.tcp.limit_in_bytes", kernelTCP, "bounds the buffers of its TCP connections"));
  if (swappiness !== undefined) writes.push(write("memory", "memory.swappiness", swappiness, "how eagerly memory is swapped"));
  if (disableOOMKiller === true) writes.push(write("memory", "memory.oom_control", 1, "processes wait for memory instead of being killed"));
  return writes;
}

/** Real-time first: the runtime of 0 that a new cgroup has refuses real-time tasks. */
export function cpuWrites(cpu: OciResources["cpu"]): ControlWrite[] {
  if (cpu === undefined) return [];
  const writes: ControlWrite[] = [];
  if (cpu.realtimePeriod) writes.push(write("cpu", "cpu.rt_period_us", cpu.realtimePeriod, "period of real-time scheduling"));
  if (cpu.realtimeRuntime) writes.push(write("cpu", "cpu.rt_runtime_us", cpu.realtimeRuntime, "real-time share of the period"));
  if (cpu.shares) writes.push(write("cpu", "cpu.shares", cpu.shares, "weight against its siblings when CPUs are busy"));
  if (cpu.period) writes.push(write("cpu", "cpu.cfs_period_us", cpu.period, "period that CPU time is counted in"));
  if (cpu.quota) writes.push(write("cpu", "cpu.cfs_quota_us", cpu.quota, "CPU time per period"));
  if (cpu.burst !== undefined) writes.push(write("cpu", "cpu.cfs_burst_us", cpu.burst, "CPU time that may be saved up"));
  if (cpu.idle !== undefined) writes.push(write("cpu", "cpu.idle", cpu.idle, "runs only when nothing else wants to"));
  if (cpu.cpus) writes.push(write("cpuset", "cpuset.cpus", cpu.cpus, "CPUs it may run on"));
  if (cpu.mems) writes.push(write("cpuset", "cpuset.mems", cpu.mems, "NUMA nodes it may take memory from"));
  return writes;
}

export function pidsWrites(pids: OciResources["pids"]): ControlWrite[] {
  return pids === undefined ? [] : [write("pids", "pids.max", pids.limit > 0 ? pids.limit : "max", "bounds the number of processes and threads")];
}

export function blkioWrites(blockIO: OciResources["blockIO"], support: LimitSupport): ControlWrite[] {
  if (blockIO === undefined) return [];
  const writes: ControlWrite[] = [];
  if (blockIO.weight && support.blkioWeight) writes.push(write("blkio", support.blkioWeight, blockIO.weight, "share of the disks' time"));
  for (const { major, minor, weight } of blockIO.weightDevice ?? []) {
    if (weight !== undefined && support.blkioWeightDevice)
      writes.push(write("blkio", support.blkioWeightDevice, `${major}:${minor} ${weight}`, "share of one disk's time"));
  }
  const throttle = (list: OciThrottle[] | undefined, file: string, why: string) => {
    for (const { major, minor, rate } of list ?? []) writes.push(write("blkio", `blkio.throttle.${file}`, `${major}:${minor} ${rate}`, why));
  };
  throttle(blockIO.throttleReadBpsDevice, "read_bps_device", "bytes read per second");
  throttle(blockIO.throttleWriteBpsDevice, "write_bps_device", "bytes written per second");
  throttle(blockIO.throttleReadIOPSDevice, "read_iops_device", "reads per second");
  throttle(blockIO.throttleWriteIOPSDevice, "write_iops_device", "writes per second");
  return writes;
}

/** The default first (one write), then what departs from it. Nothing when nothing is restricted. */
export function deviceWrites(rules: OciResources["devices"]): ControlWrite[] {
  if (rules === undefined) return [];
  const policy = devicePolicy(rules);
  const line = ({ type, major, minor, access }: DeviceException) => `${type} ${major ?? "*"}:${minor ?? "*"} ${access}`;
  if (policy.allowByDefault) return policy.exceptions.map((e) => write("devices", "devices.deny", line(e), "may not be used"));
  return [
    write("devices", "devices.deny", "a", "no device may be used, except:"),
    ...policy.exceptions.map((e) => write("devices", "devices.allow", line(e), "may be used")),
  ];
}

export function networkWrites(network: OciResources["network"]): ControlWrite[] {
  return [
    ...(network?.classID ? [write("net_cls", "net_cls.classid", network.classID, "tags its packets")] : []),
    ...(network?.priorities ?? []).map(({ name, priority }) =>
      write("net_prio", "net_prio.ifpriomap", `${name} ${priority}`, `priority of its packets at the host's interface ${name}`),
    ),
  ];
}

/** Huge pages and RDMA. */
export function otherWrites(resources: OciResources): ControlWrite[] {
  const writes: ControlWrite[] = [];
  for (const { pageSize, limit } of resources.hugepageLimits ?? [])
    writes.push(write("hugetlb", `hugetlb.${pageSize}.limit_in_bytes`, limit, "bounds huge pages"));
  for (const line of rdmaLines(resources.rdma)) writes.push(write("rdma", "rdma.max", line, rdmaWhy));
  return writes;
}

/** All limits of a new cgroup. */
export function limitWrites(resources: OciResources, support: LimitSupport): ControlWrite[] {
  return [
    ...cpuWrites(resources.cpu),
    ...memoryWrites(resources.memory),
    ...deviceWrites(resources.devices),
    ...blkioWrites(resources.blockIO, support),
    ...pidsWrites(resources.pids),
    ...networkWrites(resources.network),
    ...otherWrites(resources),
  ];
}
