/** `wherry stats`. @module */
import type { ApiClient } from "#api/client/mod.ts";
import type { ContainerInspect, ContainerSummary, CpuStatsJson, StatsJson } from "#api/types/mod.ts";
import { decodeLines } from "#api/types/ndjson.ts";
import { any, type Call, type Command, command } from "./command.ts";
import { containerPath } from "./each.ts";
import { errorText, ExitError } from "./errors.ts";
import { onOff } from "./flags.ts";
import { binarySize, humanSize, truncateId } from "./format/human.ts";
import { type Columns, formatList } from "./format/list.ts";
import { formatFlag } from "./list-flags.ts";
import { write } from "./output.ts";

const table = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
const refreshMs = 500;

/** What is known of one container; `now` undefined: nothing yet, or it does not run. */
interface Reading {
  readonly asked: string;
  readonly now: StatsJson | undefined;
}

export const statsCommand: Command = command({
  usage: "[OPTIONS] [CONTAINER...]",
  about: "Show what containers use, live",
  examples: [["stats --no-stream", "once"]],
  flags: [onOff("all,a", "Stopped containers too"), formatFlag, onOff("no-stream", "Print once and end"), onOff("no-trunc", "Do not shorten")],
  arity: [0, any],
  run: async (call) => {
    const { args, client, io } = call;
    for (const name of args) await client.json<ContainerInspect>("GET", containerPath(name, "/json"), { signal: io.gone });
    return call.flags.on("no-stream") ? once(call) : live(call);
  },
});

async function runningNames(client: ApiClient, all: boolean, signal: AbortSignal): Promise<string[]> {
  const containers = await client.json<ContainerSummary[]>("GET", "/containers/json", { query: { all: all ? 1 : undefined }, signal });
  return containers.map((container) => container.Id);
}

async function once(call: Call): Promise<number> {
  const { args, client, flags, io } = call;
  const names = args.length > 0 ? args : await runningNames(client, flags.on("all"), io.gone);
  const failures: string[] = [];
  const readings = await Promise.all(
    names.map(async (asked): Promise<Reading> => {
      try {
        return { asked, now: await client.json<StatsJson>("GET", containerPath(asked, "/stats"), { query: { stream: 0 }, signal: io.gone }) };
      } catch (error) {
        // One that was removed while we looked is no failure of a list.
        if (args.length > 0) failures.push(errorText(error));
        return { asked, now: undefined };
      }
    }),
  );
  await write(io.stdout, render(readings, call));
  if (failures.length > 0) throw new ExitError(1, failures.join("\n"));
  return 0;
}

/** Prints until the caller goes (or every named container has). */
async function live(call: Call): Promise<number> {
  const { args, client, flags, io } = call;
  const readings = new Map<string, Reading>();
  const following = new Set<string>();
  const follow = async (name: string): Promise<void> => {
    following.add(name);
    try {
      const { body } = await client.stream("GET", containerPath(name, "/stats"), { query: { stream: 1 }, signal: io.gone });
      for await (const value of decodeLines(body)) readings.set(name, { asked: name, now: value as StatsJson }); // the shape of this route's lines
    } catch {
      // It was removed, or the daemon went: the row goes with it.
    } finally {
      readings.delete(name);
      following.delete(name);
    }
  };
  while (!io.gone.aborted) {
    const names = args.length > 0 ? args : await runningNames(client, flags.on("all"), io.gone);
    for (const name of names) {
      if (following.has(name)) continue;
      if (!readings.has(name)) readings.set(name, { asked: name, now: undefined });
      void follow(name);
    }
    const text = render([...readings.values()], call);
    // On a terminal the new table overwrites the old one.
    await write(io.stdout, io.isTty.stdout ? `\u001b[H${text.replaceAll("\n", "\u001b[K\n")}\u001b[J` : text);
    await new Promise((resolve) => setTimeout(resolve, refreshMs));
    if (args.length > 0 && following.size === 0) return 0;
  }
  return 0;
}

function render(readings: readonly Reading[], { flags }: Call): string {
  const limited = readings.some(({ now }) => now?.wherry_network_rate !== undefined);
  const shown = limited ? table.replace("{{.NetIO}}", "{{.NetIO}}\t{{.NetLimit}}") : table;
  return formatList(readings, { columns: statsColumns(flags.on("no-trunc")), format: flags.text("format"), table: shown });
}

/** Between two readings: share of one CPU, times 100. */
export function cpuPercent(now: CpuStatsJson, before: CpuStatsJson): number {
  const used = now.cpu_usage.total_usage - before.cpu_usage.total_usage;
  const host = (now.system_cpu_usage ?? 0) - (before.system_cpu_usage ?? 0);
  const cpus = now.online_cpus || (now.cpu_usage.percpu_usage?.length ?? 0);
  return host > 0 && used > 0 ? (used / host) * cpus * 100 : 0;
}

/** Without the page cache that can be dropped: v1 and v2 name it differently. */
export function memoryUsed({ usage = 0, stats = {} }: StatsJson["memory_stats"]): number {
  const inactive = stats["total_inactive_file"] ?? stats["inactive_file"] ?? 0;
  return inactive < usage ? usage - inactive : usage;
}

function networkText({ networks = {} }: StatsJson): string {
  const total = (field: string) => Object.values(networks).reduce((sum, counters) => sum + (counters[field] ?? 0), 0);
  return `${humanSize(total("rx_bytes"))} / ${humanSize(total("tx_bytes"))}`;
}

/** Limits into the container and out of it, and what is done to every packet. */
export function limitText({ wherry_network_rate: limits = {} }: Pick<StatsJson, "wherry_network_rate">): string {
  const { rate, ingress = rate, egress = rate, latency, loss } = limits;
  const rates = ingress === undefined && egress === undefined ? [] : [`${ingress ?? "--"} / ${egress ?? "--"}`];
  return [...rates, ...(latency === undefined ? [] : [`+${latency}`]), ...(loss === undefined ? [] : [`loss ${loss}`])].join(" ") || "--";
}

function blockText({ blkio_stats: stats }: StatsJson): string {
  const total = (letter: string) =>
    (stats.io_service_bytes_recursive ?? []).filter((entry) => entry.op.toLowerCase().startsWith(letter)).reduce((sum, entry) => sum + entry.value, 0);
  return `${humanSize(total("r"))} / ${humanSize(total("w"))}`;
}

function statsColumns(noTrunc: boolean): Columns<Reading> {
  const shown =
    (work: (stats: StatsJson) => string, missing = "--") =>
    (reading: Reading) =>
      reading.now === undefined ? missing : work(reading.now);
  return {
    Container: { header: "CONTAINER", value: (reading) => reading.asked },
    ID: { header: "CONTAINER ID", value: shown((s) => (noTrunc ? s.id : truncateId(s.id)), "") },
    Name: { header: "NAME", value: shown((s) => s.name.replace(/^\//, "")) },
    CPUPerc: { header: "CPU %", value: shown((s) => `${cpuPercent(s.cpu_stats, s.precpu_stats).toFixed(2)}%`) },
    MemUsage: {
      header: "MEM USAGE / LIMIT",
      value: shown((s) => `${binarySize(memoryUsed(s.memory_stats))} / ${binarySize(s.memory_stats.limit ?? 0)}`, "-- / --"),
    },
    MemPerc: {
      header: "MEM %",
      value: shown(({ memory_stats: memory }) => `${(memory.limit ? (memoryUsed(memory) / memory.limit) * 100 : 0).toFixed(2)}%`),
    },
    NetIO: { header: "NET I/O", value: shown(networkText) },
    NetLimit: { header: "NET LIMIT", value: shown(limitText) },
    BlockIO: { header: "BLOCK I/O", value: shown(blockText) },
    PIDs: { header: "PIDS", value: shown((s) => String(s.pids_stats.current ?? 0)) },
  };
}
