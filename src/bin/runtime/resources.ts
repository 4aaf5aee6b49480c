/** `update`, `events` and `ps`. @module */
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { CgroupStats, Pressure } from "#cgroup/mod.ts";
import { EngineError } from "#core/errors.ts";
import type { OciResources } from "#core/runtime-spec.ts";
import { readJson } from "./bundle.ts";
import { cgroupManager, hostFacts, type RuntimeContext } from "./context.ts";
import { idOf, isSet, type Parsed, flagValue } from "./flags.ts";
import { checkResourcesShape } from "./spec-shape.ts";
import type { StoredState } from "./state.ts";
import { checkResources } from "./validate.ts";

type Cgroup = NonNullable<StoredState["cgroup"]>;

function cgroupOf({ cgroup, id }: StoredState): Cgroup {
  if (cgroup === undefined) throw new EngineError("unsupported", `container ${id} has no cgroup`);
  return cgroup;
}

/** Bytes: "512m" as well. */
function bytes(flags: Parsed, name: string): number | undefined {
  const text = flagValue(flags, name);
  if (text === undefined) return undefined;
  const [, digits, unit = ""] = /^(-?\d+)([bkmgt]?)b?$/i.exec(text) ?? [];
  if (digits === undefined) throw new EngineError("invalid", `invalid value for ${name}: "${text}"`);
  return Number(digits) * 1024 ** Math.max(0, "bkmgt".indexOf(unit.toLowerCase()));
}

function number(flags: Parsed, name: string): number | undefined {
  const text = flagValue(flags, name);
  if (text !== undefined && !/^-?\d+$/.test(text)) throw new EngineError("invalid", `invalid value for ${name}: "${text}"`);
  return text === undefined ? undefined : Number(text);
}

/** Only the entries that are set; undefined when none is. */
function given<T extends object>(entries: { [K in keyof T]: T[K] | undefined }): T | undefined {
  const set = Object.entries(entries).filter(([, value]) => value !== undefined);
  // The entries that are left are those of T that have a value.
  return set.length === 0 ? undefined : (Object.fromEntries(set) as T);
}

export async function update({ store }: RuntimeContext, flags: Parsed): Promise<number> {
  const stored = store.read(idOf(flags));
  if (store.status(stored) === "stopped") throw new EngineError("conflict", "container not running");
  const file = flagValue(flags, "resources");
  const resources = file === undefined ? fromFlags(flags) : checkResourcesShape(readJson(file));
  checkResources(resources, await hostFacts());
  await (await cgroupManager(stored)).update(cgroupOf(stored), resources);
  return 0;
}

function fromFlags(flags: Parsed): OciResources {
  for (const name of ["l3-cache-schema", "mem-bw-schema"])
    if (flagValue(flags, name) !== undefined)
      throw new EngineError("unsupported", `--${name} is not supported: no resctrl filesystem is managed by this runtime (Intel RDT)`);
  const pids = number(flags, "pids-limit");
  const weight = number(flags, "blkio-weight");
  const memory = given<NonNullable<OciResources["memory"]>>({
    limit: bytes(flags, "memory"),
    reservation: bytes(flags, "memory-reservation"),
    swap: bytes(flags, "memory-swap"),
  });
  const cpu = given<NonNullable<OciResources["cpu"]>>({
    shares: number(flags, "cpu-share"),
    quota: number(flags, "cpu-quota"),
    period: number(flags, "cpu-period"),
    burst: number(flags, "cpu-burst"),
    idle: number(flags, "cpu-idle"),
    realtimeRuntime: number(flags, "cpu-rt-runtime"),
    realtimePeriod: number(flags, "cpu-rt-period"),
    cpus: flagValue(flags, "cpuset-cpus"),
    mems: flagValue(flags, "cpuset-mems"),
  });
  return {
    ...(memory === undefined ? {} : { memory }),
    ...(cpu === undefined ? {} : { cpu }),
    ...(pids === undefined ? {} : { pids: { limit: pids } }),
    ...(weight === undefined ? {} : { blockIO: { weight } }),
  };
}

/** runc's form of statistics. */
function statsJson({ cpu, memory, pids, blkio, pressure = {} }: CgroupStats): object {
  const entries = (field: CgroupStats["blkio"][number]["field"]) => blkio.filter((entry) => entry.field === field).map(({ field: _field, ...entry }) => entry);
  return {
    cpu: {
      usage: { total: cpu.usageNs, percpu: cpu.perCpuNs, kernel: cpu.systemNs, user: cpu.userNs },
      throttling: { periods: cpu.periods, throttledPeriods: cpu.throttledPeriods, throttledTime: cpu.throttledNs },
      ...psi(pressure.cpu),
    },
    memory: {
      cache: memory.stats["cache"] ?? 0,
      usage: { limit: memory.limit, usage: memory.usage, max: memory.maxUsage, failcnt: memory.failcnt },
      raw: memory.stats,
      ...psi(pressure.memory),
    },
    pids: { current: pids.current, limit: pids.limit },
    blkio: { ioServiceBytesRecursive: entries("io_service_bytes_recursive"), ioServicedRecursive: entries("io_serviced_recursive"), ...psi(pressure.io) },
  };
}

function psi(pressure: Pressure | undefined): object {
  const line = ({ totalUs, ...averages }: Pressure["some"]) => ({ ...averages, total: totalUs });
  return pressure === undefined ? {} : { psi: { some: line(pressure.some), full: line(pressure.full) } };
}

/** How often, in seconds, it is looked whether the OOM killer was at work. */
const OOM_INTERVAL = 1;

/** With --stats one report, without one every --interval until the container has stopped, and word of each time that memory ran out. */
export async function events({ store }: RuntimeContext, flags: Parsed): Promise<number> {
  const id = idOf(flags);
  const stored = store.read(id);
  if (store.status(stored) === "stopped") throw new EngineError("conflict", `container with id ${id} is not running`);
  const [, seconds = "5"] = /^(\d+)s?$/.exec(flagValue(flags, "interval") ?? "5s") ?? [];
  const cgroups = await cgroupManager(stored);
  const tell = (event: object) => process.stdout.write(`${JSON.stringify({ ...event, id })}\n`);
  let kills = 0;
  for (let second = 0; ; second += OOM_INTERVAL) {
    const stats = await cgroups.stats(cgroupOf(stored));
    if (stats.memory.oomKills > kills && !isSet(flags, "stats")) tell({ type: "oom" });
    kills = stats.memory.oomKills;
    if (second % Math.max(1, Number(seconds)) === 0) tell({ type: "stats", data: statsJson(stats) });
    if (isSet(flags, "stats")) return 0;
    await sleep(OOM_INTERVAL * 1000);
    if (store.status(stored) === "stopped") return 0;
  }
}

export async function ps({ store }: RuntimeContext, flags: Parsed): Promise<number> {
  const stored = store.read(idOf(flags));
  const pids = await (await cgroupManager(stored)).pids(cgroupOf(stored));
  if (flagValue(flags, "format") === "json") {
    process.stdout.write(`${JSON.stringify(pids)}\n`);
    return 0;
  }
  const args = flags.rest.slice(1);
  const lines = execFileSync("ps", args.length === 0 ? ["-ef"] : args, { encoding: "utf8" }).split("\n");
  const column = (lines[0] ?? "").trim().split(/\s+/).indexOf("PID");
  if (column < 0) throw new EngineError("invalid", "couldn't find PID field in ps output");
  const ours = new Set(pids.map(String));
  const shown = lines.filter((line, index) => index === 0 || ours.has(line.trim().split(/\s+/)[column] ?? ""));
  process.stdout.write(`${shown.join("\n")}\n`);
  return 0;
}
