/**
 * Docker's limits → the OCI resources that cgroups are given.
 * @module
 */
import type { ResourceConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { OciResources, OciThrottle } from "#core/runtime-spec.ts";
import type { DeviceNode } from "#linux/devices.ts";

/** Path of a block device → its numbers, for `--device-read-bps` and its kin; asked of the host by the caller. */
export type DeviceNumbers = Readonly<Record<string, { readonly major: number; readonly minor: number }>>;

type DeviceRule = NonNullable<OciResources["devices"]>[number];

/** The CFS period that `--cpus` is expressed in: 100 ms. */
const CPUS_PERIOD_US = 100_000;

/** Limits of a {@link ResourceConfig} without devices; also what `update` applies. Only what is set appears. */
export function limitsOf(config: ResourceConfig, numbers: DeviceNumbers = {}): OciResources {
  const memory = {
    ...positive("limit", config.Memory),
    ...positive("reservation", config.MemoryReservation),
    ...positive("kernelTCP", config.KernelMemoryTCP ?? 0),
    // Docker's rule: memory and swap together are twice the memory, unless said otherwise.
    ...(config.MemorySwap !== 0 ? { swap: config.MemorySwap } : config.Memory > 0 ? { swap: config.Memory * 2 } : {}),
    ...(config.MemorySwappiness !== null && config.MemorySwappiness >= 0 ? { swappiness: config.MemorySwappiness } : {}),
    ...(config.OomKillDisable === true ? { disableOOMKiller: true } : {}),
  };
  const cpu = {
    ...positive("shares", config.CpuShares),
    ...(config.NanoCpus > 0
      ? { period: CPUS_PERIOD_US, quota: Math.floor((config.NanoCpus * CPUS_PERIOD_US) / 1e9) }
      : { ...positive("period", config.CpuPeriod), ...(config.CpuQuota !== 0 ? { quota: config.CpuQuota } : {}) }),
    ...positive("realtimePeriod", config.CpuRealtimePeriod),
    ...positive("realtimeRuntime", config.CpuRealtimeRuntime),
    ...(config.CpusetCpus !== "" ? { cpus: config.CpusetCpus } : {}),
    ...(config.CpusetMems !== "" ? { mems: config.CpusetMems } : {}),
  };
  const throttle = (list: { Path: string; Rate: number }[] | null): OciThrottle[] =>
    (list ?? []).map(({ Path, Rate }) => ({ ...numbersOf(numbers, Path), rate: Rate }));
  const blockIO = {
    ...positive("weight", config.BlkioWeight),
    ...nonEmpty(
      "weightDevice",
      (config.BlkioWeightDevice ?? []).map(({ Path, Weight }) => ({ ...numbersOf(numbers, Path), weight: Weight })),
    ),
    ...nonEmpty("throttleReadBpsDevice", throttle(config.BlkioDeviceReadBps)),
    ...nonEmpty("throttleWriteBpsDevice", throttle(config.BlkioDeviceWriteBps)),
    ...nonEmpty("throttleReadIOPSDevice", throttle(config.BlkioDeviceReadIOps)),
    ...nonEmpty("throttleWriteIOPSDevice", throttle(config.BlkioDeviceWriteIOps)),
  };
  const network = {
    ...positive("classID", config.WherryNetworkClassId ?? 0),
    ...nonEmpty(
      "priorities",
      Object.entries(config.WherryNetworkPriorities ?? {}).map(([name, priority]) => ({ name, priority })),
    ),
  };
  return {
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(Object.keys(network).length > 0 ? { network } : {}),
    ...(config.PidsLimit !== null ? { pids: { limit: config.PidsLimit > 0 ? config.PidsLimit : -1 } } : {}),
    ...(Object.keys(blockIO).length > 0 ? { blockIO } : {}),
    ...(config.WherryUnified !== undefined && Object.keys(config.WherryUnified).length > 0 ? { unified: config.WherryUnified } : {}),
  };
}

/** Block devices that {@link limitsOf} needs the numbers of. */
export function devicePathsOf(config: ResourceConfig): string[] {
  const lists = [config.BlkioWeightDevice, config.BlkioDeviceReadBps, config.BlkioDeviceWriteBps, config.BlkioDeviceReadIOps, config.BlkioDeviceWriteIOps];
  return [...new Set(lists.flatMap((list) => (list ?? []).map(({ Path }) => Path)))];
}

function numbersOf(numbers: DeviceNumbers, path: string): { major: number; minor: number } {
  const found = numbers[path];
  if (found === undefined) throw new EngineError("invalid", `no such device: "${path}"`);
  return { ...found };
}

function positive<K extends string>(key: K, value: number): { [P in K]?: number } {
  return value > 0 ? ({ [key]: value } as { [P in K]?: number }) : {};
}

function nonEmpty<K extends string, T>(key: K, list: T[]): { [P in K]?: T[] } {
  return list.length > 0 ? ({ [key]: list } as { [P in K]?: T[] }) : {};
}

const allow = (type: "c" | "b", major: number | undefined, minor: number | undefined, access: string): DeviceRule => ({
  allow: true,
  type,
  ...(major === undefined ? {} : { major }),
  ...(minor === undefined ? {} : { minor }),
  access,
});

/** Docker's list: any node may be made, but only these may be opened. */
export const defaultDeviceRules: readonly DeviceRule[] = [
  { allow: false, access: "rwm" },
  allow("c", undefined, undefined, "m"),
  allow("b", undefined, undefined, "m"),
  allow("c", 1, 3, "rwm"), // null
  allow("c", 1, 5, "rwm"), // zero
  allow("c", 1, 7, "rwm"), // full
  allow("c", 1, 8, "rwm"), // random
  allow("c", 1, 9, "rwm"), // urandom
  allow("c", 5, 0, "rwm"), // tty
  allow("c", 5, 1, "rwm"), // console
  allow("c", 5, 2, "rwm"), // ptmx
  allow("c", 136, undefined, "rwm"), // pts/*
];

/** The device rules of a container: everything when privileged, else the default list, `--device` nodes and `--device-cgroup-rule`s. */
export function deviceRules(
  privileged: boolean,
  devices: readonly (DeviceNode & { readonly access: string })[],
  extraRules: readonly string[] | null,
): DeviceRule[] {
  const extra = (extraRules ?? []).map(parseDeviceRule);
  if (privileged) return [{ allow: true, access: "rwm" }];
  return [...defaultDeviceRules, ...devices.map((d) => allow(d.type, d.major, d.minor, d.access)), ...extra];
}

function parseDeviceRule(rule: string): DeviceRule {
  const [, type, major, minor, access] = /^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$/.exec(rule) ?? [];
  if (type === undefined || major === undefined || minor === undefined || access === undefined)
    throw new EngineError("invalid", `invalid device cgroup rule format: '${rule}'`);
  return {
    allow: true,
    type: type as "a" | "b" | "c", // the pattern says so
    ...(major === "*" ? {} : { major: Number(major) }),
    ...(minor === "*" ? {} : { minor: Number(minor) }),
    access,
  };
}
