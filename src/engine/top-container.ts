/**
 * `top`: the processes of a container, as ps(1) of the host would print them. Read from /proc; no program is run.
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import type { Container } from "#container/container.ts";
import { isRunning } from "#container/state.ts";
import { EngineError } from "#core/errors.ts";
import type { EngineContext } from "./context.ts";

export interface TopResult {
  Titles: string[];
  Processes: string[][];
}

export async function topContainer(ctx: EngineContext, name: string, psArgs: string): Promise<TopResult> {
  const container = ctx.registry.get(name);
  const columns = parsePsArgs(psArgs);
  if (!isRunning(container.state) || container.record.cgroup === undefined) throw new EngineError("conflict", `container ${container.id} is not running`);
  return { Titles: columns.map((c) => c.title), Processes: await listProcesses(ctx, container, columns) };
}

async function listProcesses(ctx: EngineContext, { record }: Container, columns: readonly Column[]): Promise<string[][]> {
  const pids = record.cgroup === undefined ? [] : await ctx.cgroups.pids(record.cgroup);
  const host = await hostFacts();
  const found = await Promise.all([...new Set(pids)].sort((a, b) => a - b).map((pid) => readProcess(pid, host)));
  return found.filter((p) => p !== undefined).map((p) => columns.map((column) => column.value(p)));
}

interface HostClock {
  readonly bootMs: number;
  readonly uptimeS: number;
  readonly memoryKb: number;
  readonly userNames: ReadonlyMap<number, string>;
}

interface Process {
  readonly pid: number;
  readonly ppid: number;
  readonly pgid: number;
  readonly sid: number;
  readonly state: string;
  readonly tty: string;
  readonly foreground: boolean;
  readonly priority: number;
  readonly nice: number;
  readonly threads: number;
  readonly cpuSeconds: number;
  readonly startMs: number;
  readonly elapsedS: number;
  readonly vszKb: number;
  readonly rssKb: number;
  readonly memoryKb: number;
  readonly uid: number;
  readonly gid: number;
  readonly user: string;
  readonly comm: string;
  readonly args: string;
}

/** USER_HZ: 100 on every Linux that this engine runs on. */
const HZ = 100;
const PAGE_KB = 4;

async function hostFacts(): Promise<HostClock> {
  const [procStat, uptime, meminfo, passwd] = await Promise.all([
    readFile("/proc/stat", "utf8"),
    readFile("/proc/uptime", "utf8"),
    readFile("/proc/meminfo", "utf8"),
    readFile("/etc/passwd", "utf8").catch(() => ""),
  ]);
  const names = passwd.split("\n").map((line) => line.split(":"));
  return {
    bootMs: Number(/^btime (\d+)$/m.exec(procStat)?.[1] ?? 0) * 1000,
    uptimeS: Number(uptime.split(" ")[0]),
    memoryKb: Number(/^MemTotal:\s+(\d+)/m.exec(meminfo)?.[1] ?? 1),
    userNames: new Map(names.map(([name = "", , uid]) => [Number(uid), name])),
  };
}

/** undefined: it has ended meanwhile. */
async function readProcess(pid: number, host: HostClock): Promise<Process | undefined> {
  try {
    const [line, cmdline, owner] = await Promise.all([readFile(`/proc/${pid}/stat`, "utf8"), readFile(`/proc/${pid}/cmdline`, "utf8"), stat(`/proc/${pid}`)]);
    const comm = line.slice(line.indexOf("(") + 1, line.lastIndexOf(")"));
    // Field n of proc(5) is f[n - 3].
    const f = line
      .slice(line.lastIndexOf(")") + 2)
      .trim()
      .split(" ");
    const number = (field: number) => Number(f[field - 3]);
    const startS = number(22) / HZ;
    const args = cmdline.replace(/\0+$/, "").replaceAll("\0", " ");
    return {
      pid,
      ppid: number(4),
      pgid: number(5),
      sid: number(6),
      state: f[0] ?? "?",
      tty: ttyName(number(7)),
      foreground: number(8) === number(5),
      priority: number(18),
      nice: number(19),
      threads: number(20),
      cpuSeconds: Math.floor((number(14) + number(15)) / HZ),
      startMs: host.bootMs + startS * 1000,
      elapsedS: Math.max(0, Math.floor(host.uptimeS - startS)),
      vszKb: Math.floor(number(23) / 1024),
      rssKb: number(24) * PAGE_KB,
      memoryKb: host.memoryKb,
      uid: owner.uid,
      gid: owner.gid,
      user: host.userNames.get(owner.uid) ?? String(owner.uid),
      comm,
      args: args === "" ? `[${comm}]` : args,
    };
  } catch {
    return undefined; // /proc answers ENOENT or ESRCH for what is gone
  }
}

/** Device number of a controlling terminal → ps's name. */
function ttyName(device: number): string {
  const [major, minor] = [(device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00)];
  if (device === 0) return "?";
  return major >= 136 && major <= 143 ? `pts/${(major - 136) * 256 + minor}` : major === 4 ? `tty${minor}` : "?";
}

interface Column {
  readonly title: string;
  readonly value: (p: Process) => string;
}

const two = (n: number) => String(n).padStart(2, "0");

/** [[dd-]hh:]mm:ss */
function elapsed(seconds: number): string {
  const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  return `${d > 0 ? `${d}-` : ""}${d > 0 || h > 0 ? `${two(h)}:` : ""}${two(m)}:${two(s)}`;
}

/** [dd-]hh:mm:ss */
function cpuTime(seconds: number): string {
  const days = Math.floor(seconds / 86400);
  return `${days > 0 ? `${two(days)}-` : ""}${two(Math.floor(seconds / 3600) % 24)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

const months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

/** HH:MM today, MonDD this year, else the year. */
function startTime(ms: number): string {
  const [start, now] = [new Date(ms), new Date()];
  if (now.getTime() - ms < 86_400_000 && start.getDate() === now.getDate()) return `${two(start.getHours())}:${two(start.getMinutes())}`;
  return start.getFullYear() === now.getFullYear() ? `${months[start.getMonth()]}${two(start.getDate())}` : String(start.getFullYear());
}

const cpuPercent = (p: Process) => (p.elapsedS === 0 ? 0 : (p.cpuSeconds * 100) / p.elapsedS);

/** State as BSD's ps adds to it: session leader, threads, foreground, nice. */
const stateFlags = (p: Process) =>
  `${p.state}${p.nice < 0 ? "<" : p.nice > 0 ? "N" : ""}${p.sid === p.pid ? "s" : ""}${p.threads > 1 ? "l" : ""}${p.foreground ? "+" : ""}`;

const column = (title: string, value: (p: Process) => string | number): Column => ({ title, value: (p) => String(value(p)) });

/** The format specifiers of ps(1) that are served. */
const specifiers: Readonly<Record<string, Column>> = {
  pid: column("PID", (p) => p.pid),
  tgid: column("TGID", (p) => p.pid),
  ppid: column("PPID", (p) => p.ppid),
  pgid: column("PGID", (p) => p.pgid),
  sid: column("SID", (p) => p.sid),
  sess: column("SESS", (p) => p.sid),
  uid: column("UID", (p) => p.uid),
  euid: column("EUID", (p) => p.uid),
  user: column("USER", (p) => p.user),
  euser: column("EUSER", (p) => p.user),
  uname: column("USER", (p) => p.user),
  ruser: column("RUSER", (p) => p.user),
  gid: column("GID", (p) => p.gid),
  s: column("S", (p) => p.state),
  state: column("S", (p) => p.state),
  stat: column("STAT", stateFlags),
  tty: column("TT", (p) => p.tty),
  tt: column("TT", (p) => p.tty),
  tname: column("TTY", (p) => p.tty),
  c: column("C", (p) => Math.floor(cpuPercent(p))),
  pcpu: column("%CPU", (p) => cpuPercent(p).toFixed(1)),
  pmem: column("%MEM", (p) => ((p.rssKb * 100) / p.memoryKb).toFixed(1)),
  pri: column("PRI", (p) => 39 - p.priority),
  ni: column("NI", (p) => p.nice),
  nice: column("NI", (p) => p.nice),
  nlwp: column("NLWP", (p) => p.threads),
  thcount: column("THCNT", (p) => p.threads),
  vsz: column("VSZ", (p) => p.vszKb),
  vsize: column("VSZ", (p) => p.vszKb),
  rss: column("RSS", (p) => p.rssKb),
  rssize: column("RSS", (p) => p.rssKb),
  sz: column("SZ", (p) => Math.floor(p.vszKb / PAGE_KB)),
  stime: column("STIME", (p) => startTime(p.startMs)),
  start_time: column("START", (p) => startTime(p.startMs)),
  bsdstart: column("START", (p) => startTime(p.startMs)),
  lstart: column("STARTED", (p) => new Date(p.startMs).toString().slice(0, 24)),
  etime: column("ELAPSED", (p) => elapsed(p.elapsedS)),
  etimes: column("ELAPSED", (p) => p.elapsedS),
  time: column("TIME", (p) => cpuTime(p.cpuSeconds)),
  cputime: column("TIME", (p) => cpuTime(p.cpuSeconds)),
  bsdtime: column("TIME", (p) => `${Math.floor(p.cpuSeconds / 60)}:${two(p.cpuSeconds % 60)}`),
  comm: column("COMMAND", (p) => p.comm),
  ucmd: column("CMD", (p) => p.comm),
  cmd: column("CMD", (p) => p.args),
  args: column("COMMAND", (p) => p.args),
  command: column("COMMAND", (p) => p.args),
};

const named = (names: string, titles: Readonly<Record<string, string>> = {}): Column[] =>
  names.split(" ").map((name) => ({ ...(specifiers[name] as Column), ...(titles[name] === undefined ? {} : { title: titles[name] }) }));

/** What ps(1) prints for the usual sets of options. */
const layouts = {
  plain: () => named("pid tname time ucmd"),
  full: () => named("user pid ppid c stime tname time cmd", { user: "UID" }),
  long: () => named("s uid pid ppid c pri ni sz tname time ucmd"),
  user: () => named("user pid pcpu pmem vsz rss tname stat bsdstart bsdtime command"),
  bsd: () => named("pid tname stat bsdtime command"),
};

/** ps(1)'s arguments → columns. @throws EngineError "invalid" for what is not served */
export function parsePsArgs(text: string): Column[] {
  const words = text.split(/\s+/).filter(Boolean);
  const chosen: Column[] = [];
  let layout: keyof typeof layouts | undefined;
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string;
    const [, format] = /^(?:-o|o|-O|--format=?)(.*)$/.exec(word) ?? [];
    if (format !== undefined) {
      const list = format !== "" ? format : words[++i];
      if (list === undefined) throw new EngineError("invalid", "ps: error: option requires an argument: -o");
      chosen.push(...list.split(",").map(parseSpecifier));
      continue;
    }
    const letters = word.startsWith("-") ? word.slice(1) : word;
    if (!/^[AaedfljwxuHLmTgrN]+$/.test(letters))
      throw new EngineError("invalid", `ps: error: unsupported option: ${word}`, { hint: "supported: -ef, -eF, -l, aux, ax, -o COLUMN,…" });
    if (word.startsWith("-")) layout = letters.includes("f") ? "full" : letters.includes("l") ? "long" : (layout ?? "plain");
    else layout = letters.includes("u") ? "user" : letters.includes("l") ? "long" : (layout ?? "bsd");
  }
  return chosen.length > 0 ? chosen : layouts[layout ?? "full"]();
}

/** `pid`, `%cpu`, `pid=TITLE`. */
function parseSpecifier(text: string): Column {
  const [name = "", title] = text.split(/=(.*)/s);
  const found = specifiers[name.toLowerCase().replace(/^%(cpu|mem)$/, "p$1")];
  if (found === undefined) throw new EngineError("invalid", `ps: error: unknown user-defined format specifier "${name}"`);
  return title === undefined ? found : { ...found, title };
}
