/** `stats`: the raw counters of a running container. @module */
import { readFile } from "node:fs/promises";
import { isRunning } from "#container/state.ts";
import { errnoOf } from "#core/errors.ts";
import type { EngineContext } from "./context.ts";
import type { Containers } from "./mod.ts";

/** undefined when it does not run. */
export async function containerStats(ctx: EngineContext, name: string): ReturnType<Containers["stats"]> {
  const { record } = ctx.registry.get(name);
  if (!isRunning(record.state) || record.cgroup === undefined) return undefined;
  const [counters, networks] = await Promise.all([
    ctx.cgroups.stats(record.cgroup),
    record.hostConfig.NetworkMode === "host" ? {} : interfaceCounters(record.state.pid),
  ]);
  const { WherryNetworkRate: networkRate } = record.hostConfig;
  return { ...counters, networks, ...(networkRate && { networkRate }) };
}

const fields = ["rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "", "", "", "", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped"];

/** Counters of the interfaces that a process sees, but for the loopback's. @see proc(5) /proc/net/dev */
async function interfaceCounters(pid: number): Promise<Record<string, Record<string, number>>> {
  let text: string;
  try {
    text = await readFile(`/proc/${pid}/net/dev`, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "EINVAL") return {}; // it has just ended
    throw error;
  }
  const found: Record<string, Record<string, number>> = {};
  for (const line of text.split("\n").slice(2)) {
    const [, name, numbers] = /^\s*([^:]+):\s*(.*)$/.exec(line) ?? [];
    if (name === undefined || numbers === undefined || name === "lo") continue;
    const values = numbers.trim().split(/\s+/).map(Number);
    found[name] = Object.fromEntries(fields.flatMap((field, i) => (field === "" ? [] : [[field, values[i] ?? 0]])));
  }
  return found;
}
