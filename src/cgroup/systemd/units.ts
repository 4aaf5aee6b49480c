/**
 * systemd's words for cgroups: slices, scopes and their properties. Pure.
 * @module
 * @see systemd.slice(5), systemd.scope(5), systemd.resource-control(5), org.freedesktop.systemd1(5)
 */
import { EngineError } from "#core/errors.ts";
import { type DbusValue, type Variant, variant } from "#linux/dbus/marshal.ts";

export type Properties = readonly (readonly [name: string, value: Variant])[];

/** A scope to be made. */
export interface TransientUnit {
  readonly name: string;
  readonly slice: string;
  readonly properties: Properties;
  /** What the process that holds the scope open would not leave room for: set when it has gone. */
  readonly late: Properties;
}

/** The slice of a `--cgroup-parent`. EngineError "invalid" with Docker's text. */
export function sliceName(parent: string): string {
  if (!/^(-|[A-Za-z0-9:_.\\]+(-[A-Za-z0-9:_.\\]+)*)\.slice$/.test(parent))
    throw new EngineError("invalid", `cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice", not "${parent.slice(0, 100)}"`);
  return parent;
}

/** Where a slice's cgroup lies: "a-b.slice" → "/a.slice/a-b.slice"; the root slice "-.slice" → "". */
export function slicePath(slice: string): string {
  if (slice === "-.slice") return "";
  const parts = slice.slice(0, -".slice".length).split("-");
  return parts.map((_, i) => `/${parts.slice(0, i + 1).join("-")}.slice`).join("");
}

/** systemd's "infinity". */
const INFINITY = 2n ** 64n - 1n;
const count = (value: string): Variant => variant("t", value === "max" ? INFINITY : BigInt(value));

/** CPU numbers "0-2,7" as systemd's bit mask, lowest byte first. */
export function cpuMask(list: string): number[] {
  const bytes: number[] = [];
  for (const part of list.split(",")) {
    const [, from = "", to = from] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim()) ?? [];
    if (from === "") throw new EngineError("invalid", `invalid list of CPUs or memory nodes: "${list.slice(0, 100)}"`);
    for (let n = Number(from); n <= Number(to); n++) {
      while (bytes.length <= n >> 3) bytes.push(0);
      bytes[n >> 3] = (bytes[n >> 3] ?? 0) | (1 << (n & 7));
    }
  }
  return bytes;
}

/** systemd keeps CPU time per second in steps of 10 ms, rounded up so that nobody gets less than was asked for. */
function cpuMax(value: string): [string, Variant][] {
  const [quota = "max", period = "100000"] = value.split(" ");
  const perSecond = quota === "max" ? INFINITY : (((BigInt(quota) * 1_000_000n) / BigInt(period) + 9_999n) / 10_000n) * 10_000n;
  return [
    ["CPUQuotaPeriodUSec", variant("t", BigInt(period))],
    ["CPUQuotaPerSecUSec", variant("t", perSecond)],
  ];
}

const byFile: Readonly<Record<string, (value: string) => [string, Variant][]>> = {
  "memory.max": (value) => [["MemoryMax", count(value)]],
  "memory.high": (value) => [["MemoryHigh", count(value)]],
  "memory.low": (value) => [["MemoryLow", count(value)]],
  "memory.min": (value) => [["MemoryMin", count(value)]],
  "memory.swap.max": (value) => [["MemorySwapMax", count(value)]],
  "cpu.weight": (value) => [["CPUWeight", count(value)]],
  "cpu.max": cpuMax,
  "pids.max": (value) => [["TasksMax", count(value)]],
  "cpuset.cpus": (value) => [["AllowedCPUs", variant("ay", cpuMask(value))]],
  "cpuset.mems": (value) => [["AllowedMemoryNodes", variant("ay", cpuMask(value))]],
  "io.weight": (value) => (value.startsWith("default ") ? [["IOWeight", count(value.slice("default ".length))]] : []),
};

/**
 * What systemd has a property for: it writes those files itself, and would write them again (`daemon-reload`) with what it knows. The rest (io.max, hugetlb, misc,
 * memory.oom.group, devices …) is ours alone.
 */
export function propertiesOf(writes: readonly { readonly file: string; readonly value: string }[]): Properties {
  return writes.flatMap(({ file, value }) => (/^(max|default \d+|[\d, -]+|max \d+)$/.test(value) ? (byFile[file]?.(value) ?? []) : []));
}

/** A scope's properties besides its limits. Delegate: systemd leaves what is below to us, with every controller that it knows. */
export function scopeProperties({ slice, properties, name }: TransientUnit, pid: number): DbusValue {
  const all: Properties = [
    ["Description", variant("s", `container ${name}`)],
    ["Slice", variant("s", slice)],
    ["Delegate", variant("b", true)],
    ["DefaultDependencies", variant("b", false)],
    ["PIDs", variant("au", [pid])],
    ...properties,
  ];
  return all;
}
