/**
 * Refuses resource limits that Docker refuses, in its words; warns about those that this host lacks. Pure.
 * @module
 */
import type { ResourceConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { HostFacts } from "#linux/host-facts.ts";

const MINIMUM_MEMORY = 6 * 1024 * 1024;

export function refuse(message: string): never {
  throw new EngineError("invalid", message);
}

/** Limits of a new container, or all those of one after an update. @throws EngineError "invalid". Returns warnings; limits that cannot be are taken out of `r`. */
export function validateResources(r: ResourceConfig, facts: HostFacts): string[] {
  const warnings: string[] = [];
  validateMemory(r);
  validateCpu(r, facts);
  if (r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000)) refuse("Range of blkio weight is from 10 to 1000");
  for (const { Path, Weight } of r.BlkioWeightDevice ?? [])
    if (Weight !== 0 && (Weight < 10 || Weight > 1000)) refuse(`invalid weight for device: ${Path}:${Weight}`);
  for (const file of Object.keys(r.WherryUnified ?? {})) {
    if (!/^[a-z][a-z0-9_]*\.[A-Za-z0-9_.]+$/.test(file) || file.startsWith("cgroup."))
      refuse(`invalid cgroup file "${file.slice(0, 60)}": want one of a controller, such as memory.high`);
    if (facts.cgroup.mode !== "v2")
      throw new EngineError("unsupported", `${file} is a file of cgroup v2, and this host has ${facts.cgroup.mode}`, { hint: "leave --cgroup-conf out" });
  }
  validateNetworkTags(r, facts);
  if (!facts.swapAccounting && r.Memory > 0 && r.MemorySwap !== -1) {
    if (r.MemorySwap > 0) warnings.push("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.");
    r.MemorySwap = -1;
  }
  return warnings;
}

const UINT32_MAX = 0xffff_ffff;

/** Never dropped with a warning: filters of the host's rely on them. */
function validateNetworkTags({ WherryNetworkClassId: classId = 0, WherryNetworkPriorities: priorities = {} }: ResourceConfig, { cgroup }: HostFacts): void {
  if (classId < 0 || classId > UINT32_MAX) refuse(`invalid network class ${classId}: want 0 to 0xffffffff`);
  for (const [name, priority] of Object.entries(priorities))
    if (!/^[^\s/:]{1,15}$/.test(name) || priority < 0 || priority > UINT32_MAX)
      refuse(`invalid network priority ${name.slice(0, 60)}:${priority}: want an interface of the host and 0 to 4294967295`);
  const needs = (controller: string, what: string) => {
    if (cgroup.v1[controller] !== undefined) return;
    const why = cgroup.mode === "v2" ? "cgroup v2 has no such controller" : "that hierarchy of cgroup v1 is not mounted";
    throw new EngineError("unsupported", `${what} needs the controller ${controller}: ${why}`, {
      hint:
        cgroup.mode === "v2"
          ? "bandwidth is limited by --network-rate"
          : `mount it and start the engine again: mount -t cgroup -o ${controller} none DIRECTORY`,
    });
  };
  if (classId > 0) needs("net_cls", "a network class");
  if (Object.keys(priorities).length > 0) needs("net_prio", "a network priority");
}

function validateMemory(r: ResourceConfig): void {
  if (r.Memory !== 0 && r.Memory < MINIMUM_MEMORY) refuse("Minimum memory limit allowed is 6MB");
  if (r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory) refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
  if (r.Memory === 0 && r.MemorySwap > 0) refuse("You should always set the Memory limit when using Memoryswap limit, see usage");
  if (r.MemorySwap < -1) refuse(`Invalid memory swap: ${r.MemorySwap}`);
  if (r.MemorySwappiness !== null && r.MemorySwappiness !== -1 && (r.MemorySwappiness < 0 || r.MemorySwappiness > 100))
    refuse(`Invalid value: ${r.MemorySwappiness}, valid memory swappiness range is 0-100`);
  if (r.MemoryReservation !== 0 && r.MemoryReservation < MINIMUM_MEMORY) refuse("Minimum memory reservation allowed is 6MB");
  if (r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation)
    refuse("Minimum memory limit can not be less than memory reservation limit, see usage");
}

function validateCpu(r: ResourceConfig, { cpus, memoryNodes = "" }: HostFacts): void {
  if (r.NanoCpus > 0 && r.CpuPeriod > 0) refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
  if (r.NanoCpus > 0 && r.CpuQuota > 0) refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
  if (r.NanoCpus < 0 || (r.NanoCpus > 0 && r.NanoCpus < 10_000_000) || r.NanoCpus > cpus * 1e9)
    refuse(`Range of CPUs is from 0.01 to ${cpus}.00, as there are only ${cpus} CPUs available`);
  if (r.CpuShares < 0) refuse(`invalid CPU shares (${r.CpuShares}): value must be a positive integer`);
  if (r.CpuPeriod !== 0 && (r.CpuPeriod < 1000 || r.CpuPeriod > 1_000_000))
    refuse("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
  if (r.CpuQuota > 0 && r.CpuQuota < 1000) refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
  const wanted = parseCpuList(r.CpusetCpus);
  if (wanted === undefined) refuse(`Invalid value ${r.CpusetCpus} for cpuset cpus: invalid format: ${r.CpusetCpus}`);
  if (wanted.some((cpu) => cpu >= cpus)) refuse(`Requested CPUs are not available - requested ${r.CpusetCpus}, available: 0-${cpus - 1}`);
  const nodes = parseCpuList(r.CpusetMems);
  if (nodes === undefined) refuse(`Invalid value ${r.CpusetMems} for cpuset mems: invalid format: ${r.CpusetMems}`);
  const known = parseCpuList(memoryNodes) ?? [];
  if (known.length > 0 && nodes.some((node) => !known.includes(node)))
    refuse(`Requested memory nodes are not available - requested ${r.CpusetMems}, available: ${memoryNodes}`);
}

/** "0-2,7" → [0,1,2,7]; undefined when it is no list. @see cpuset(7) */
export function parseCpuList(text: string): number[] | undefined {
  const all: number[] = [];
  if (text === "") return all;
  for (const part of text.split(",")) {
    const [, from, to] = /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(part) ?? [];
    if (from === undefined || Number(to ?? from) < Number(from)) return undefined;
    for (let n = Number(from); n <= Number(to ?? from); n++) all.push(n);
  }
  return all;
}
