/** wherryd's command line and configuration file. @module */
import { readFileSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { parseArgs } from "node:util";
import { validateLogConfig } from "#container/logs/log-drivers.ts";
import type { RegistryConfig } from "#registry/mod.ts";
import { registryConfig, type RegistryFile, registryFlags, registryHelp } from "./registry-options.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";
const logLevels: readonly LogLevel[] = ["debug", "info", "warn", "error"];

export interface DaemonOptions {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly hosts: readonly string[];
  readonly pidFile: string | undefined;
  readonly logLevel: LogLevel;
  readonly storageDriver: string | undefined;
  readonly storageOpts: readonly string[];
  readonly bridge: { readonly name: string; readonly subnet?: string } | undefined;
  readonly cgroupParent: string | undefined;
  readonly cgroupDriver: "cgroupfs" | "systemd";
  readonly logDriver: string;
  /** Microseconds, for all containers together; undefined = the parent's cgroup is left as it is. */
  readonly cpuRealtime: { readonly periodUs?: number; readonly runtimeUs?: number } | undefined;
  readonly logOpts: Readonly<Record<string, string>>;
  readonly labels: readonly string[];
  readonly usernsRemap: string | undefined;
  readonly selinuxEnabled: boolean;
  readonly cdiSpecDirs: readonly string[] | undefined;
  readonly storageBudgetBytes: number | undefined;
  readonly buildCacheBudgetBytes: number | undefined;
  readonly registry: RegistryConfig;
  /** For TCP addresses; the flags are dockerd's. */
  readonly tls: TlsFiles | undefined;
}

/** PEM files. `ca`: clients must have a certificate that it has signed. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | undefined;
}

/** Wrong flags or a wrong file: for people, without a stack. */
export class UsageError extends Error {}

export const help: string = `Usage: wherryd [OPTIONS]

The wherry daemon: a container engine behind the Docker Engine API.

Options:
      --data-root DIR         Images, containers, volumes (default /var/lib/wherry)
      --exec-root DIR         Sockets and the state of what runs; a tmpfs (default /run/wherry)
  -H, --host ADDRESS          Where to listen: unix:///path, tcp://address:port, or fd:// (the sockets of a systemd
                              socket unit); may be given more than once
                              (default unix://EXEC-ROOT/wherry.sock)
      --pidfile FILE          Write the process id there
      --log-level LEVEL       debug, info, warn or error (default info)
      --storage-driver NAME   overlay2, erofs, btrfs, zfs, fuse-overlayfs, aufs, overlay, devicemapper or vfs
                              (default: the one that the data root was used with, else the best that works here)
      --storage-opt KEY=VALUE Option of the storage driver, e.g. overlay2.size=20G or dm.basesize=20G; may be given more than once
      --build-cache-budget SIZE
                              Bytes that the build cache may take: before more are added, the least recently used steps go (default: a tenth
                              of the filesystem)
      --storage-budget SIZE   Bytes that images may take, e.g. 20G: before one is added, those that no container uses are removed, the least
                              recently used first (default: no limit)
      --bridge NAME           Interface of the default network (default wherry0)
      --bip SUBNET            Address and range of the default network, e.g. 172.30.0.1/16
      --cgroup-parent PATH    Where containers' cgroups are made (default /wherry; with the driver systemd a slice, default system.slice)
      --cpu-rt-period US      Period of real-time scheduling for all containers together, in microseconds (cgroup v1)
      --cpu-rt-runtime US     Real-time share of that period; what --cpu-rt-runtime of containers may take of
      --exec-opt KEY=VALUE    native.cgroupdriver=cgroupfs (default) or systemd: who makes containers' cgroups
      --log-driver NAME       Where containers' output goes when they do not say: json-file (default), local, journald, syslog, fluentd, none
      --log-opt KEY=VALUE     Default option of that driver, e.g. max-size=10m, max-file=3; may be given more than once
      --label KEY=VALUE       Label of this daemon, shown by info; may be given more than once
      --userns-remap WHO      Give containers a user namespace: default, or user[:group] of /etc/subuid and /etc/subgid
      --selinux-enabled       Give containers SELinux labels, where the kernel runs with SELinux
      --cdi-spec-dir DIR      Where CDI files lie; may be given more than once (default /etc/cdi and /var/run/cdi)
${registryHelp}      --tls                   TCP speaks TLS; needs --tlscert and --tlskey
      --tlsverify             TCP speaks TLS, and clients need a certificate signed by --tlscacert
      --tlscacert FILE        Whose certificates are trusted (PEM)
      --tlscert FILE          This daemon's certificate (PEM)
      --tlskey FILE           Its key (PEM)
      --config-file FILE      JSON with the same names (default /etc/wherry/daemon.json); flags win over it
  -v, --version               Print the version and quit
      --help                  Print this and quit

Containers go on when the daemon ends. SIGTERM and SIGINT end it in good order.
`;

const flags = {
  "data-root": { type: "string" },
  "exec-root": { type: "string" },
  host: { type: "string", short: "H", multiple: true },
  pidfile: { type: "string" },
  "log-level": { type: "string" },
  "storage-driver": { type: "string" },
  "storage-opt": { type: "string", multiple: true },
  "storage-budget": { type: "string" },
  "build-cache-budget": { type: "string" },
  bridge: { type: "string" },
  bip: { type: "string" },
  "cgroup-parent": { type: "string" },
  "cpu-rt-period": { type: "string" },
  "cpu-rt-runtime": { type: "string" },
  "exec-opt": { type: "string", multiple: true },
  "log-driver": { type: "string" },
  "log-opt": { type: "string", multiple: true },
  label: { type: "string", multiple: true },
  "userns-remap": { type: "string" },
  "selinux-enabled": { type: "boolean" },
  "cdi-spec-dir": { type: "string", multiple: true },
  ...registryFlags,
  tls: { type: "boolean" },
  tlsverify: { type: "boolean" },
  tlscacert: { type: "string" },
  tlscert: { type: "string" },
  tlskey: { type: "string" },
  "config-file": { type: "string" },
  version: { type: "boolean", short: "v" },
  help: { type: "boolean", short: "h" },
} as const;

const DEFAULT_CONFIG_FILE = "/etc/wherry/daemon.json";

/** @throws UsageError */
export function parseDaemonOptions(args: readonly string[]): DaemonOptions | "help" | "version" {
  const given = parseFlags(args);
  if (given.help === true) return "help";
  if (given.version === true) return "version";
  const file = readConfigFile(given["config-file"]);
  const text = (flag: keyof FileText): string | undefined => given[flag] ?? file[flag];
  const execRoot = absolute("exec-root", text("exec-root") ?? "/run/wherry");
  const hosts = given.host ?? file.hosts ?? [];
  const [bridge, subnet] = [text("bridge"), text("bip")];
  return {
    dataRoot: absolute("data-root", text("data-root") ?? "/var/lib/wherry"),
    execRoot,
    hosts: hosts.length > 0 ? hosts : [`unix://${execRoot}/wherry.sock`],
    pidFile: text("pidfile"),
    logLevel: logLevelOf(text("log-level") ?? "info"),
    storageDriver: text("storage-driver"),
    storageOpts: given["storage-opt"] ?? file["storage-opts"] ?? [],
    bridge: bridge === undefined && subnet === undefined ? undefined : { name: bridge ?? "wherry0", ...(subnet === undefined ? {} : { subnet }) },
    cgroupParent: text("cgroup-parent"),
    cpuRealtime: realtimeOf(numberOf("cpu-rt-period", given, file), numberOf("cpu-rt-runtime", given, file)),
    cgroupDriver: cgroupDriverOf(given["exec-opt"] ?? file["exec-opts"] ?? []),
    ...logConfigOf(text("log-driver") ?? "json-file", { ...file["log-opts"], ...pairs("log-opt", given["log-opt"] ?? []) }),
    labels: given.label ?? file.labels ?? [],
    tls: tlsFiles(given.tls ?? file.tls ?? false, given.tlsverify ?? file.tlsverify ?? false, text),
    usernsRemap: text("userns-remap"),
    selinuxEnabled: given["selinux-enabled"] ?? file["selinux-enabled"] ?? false,
    cdiSpecDirs: (given["cdi-spec-dir"] ?? file["cdi-spec-dirs"])?.map((dir) => absolute("cdi-spec-dir", dir)),
    storageBudgetBytes: budgetOf(text("storage-budget")),
    buildCacheBudgetBytes: budgetOf(text("build-cache-budget"), "build-cache-budget"),
    registry: registryConfig(given, file, process.env, (message) => new UsageError(message)),
  };
}

type NumberFlag = "cpu-rt-period" | "cpu-rt-runtime";

function numberOf(flag: NumberFlag, given: { readonly [K in NumberFlag]?: string | undefined }, file: ConfigFile): number | undefined {
  const text = given[flag];
  if (text === undefined) return file[flag];
  if (!/^\d{1,12}$/.test(text)) throw new UsageError(`invalid argument "${text}" for "--${flag}" flag: a number of microseconds is expected`);
  return Number(text);
}

function realtimeOf(periodUs: number | undefined, runtimeUs: number | undefined): DaemonOptions["cpuRealtime"] {
  if (periodUs === undefined && runtimeUs === undefined) return undefined;
  return { ...(periodUs === undefined ? {} : { periodUs }), ...(runtimeUs === undefined ? {} : { runtimeUs }) };
}

function tlsFiles(tls: boolean, verify: boolean, text: (flag: "tlscacert" | "tlscert" | "tlskey") => string | undefined): TlsFiles | undefined {
  const [ca, cert, key] = [text("tlscacert"), text("tlscert"), text("tlskey")];
  if (!tls && !verify) {
    if (ca !== undefined || cert !== undefined || key !== undefined) throw new UsageError("--tlscacert, --tlscert and --tlskey need --tls or --tlsverify");
    return undefined;
  }
  if (cert === undefined || key === undefined) throw new UsageError("TLS needs --tlscert and --tlskey");
  if (verify && ca === undefined) throw new UsageError("--tlsverify needs --tlscacert");
  return { cert, key, ca: verify ? ca : undefined };
}

function parseFlags(args: readonly string[]): ReturnType<typeof parse> {
  try {
    return parse(args);
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split(". ")[0]}\nSee 'wherryd --help'.`);
  }
}

const parse = (args: readonly string[]) => parseArgs({ args: [...args], options: flags, strict: true }).values;

type FileText = Partial<
  Record<
    | "data-root"
    | "exec-root"
    | "pidfile"
    | "log-level"
    | "storage-driver"
    | "log-driver"
    | "storage-budget"
    | "build-cache-budget"
    | "bridge"
    | "bip"
    | "cgroup-parent"
    | "userns-remap"
    | "tlscacert"
    | "tlscert"
    | "tlskey",
    string
  >
>;
type ConfigFile = FileText &
  RegistryFile & {
    readonly tls?: boolean;
    readonly tlsverify?: boolean;
    readonly "selinux-enabled"?: boolean;
    readonly "cpu-rt-period"?: number;
    readonly "cpu-rt-runtime"?: number;
    readonly hosts?: string[];
    readonly labels?: string[];
    readonly "cdi-spec-dirs"?: string[];
    readonly "exec-opts"?: string[];
    readonly "storage-opts"?: string[];
    readonly "log-opts"?: Record<string, string>;
  };

const textKeys: readonly string[] = [
  "data-root",
  "exec-root",
  "pidfile",
  "log-level",
  "storage-driver",
  "log-driver",
  "storage-budget",
  "build-cache-budget",
  "bridge",
  "bip",
  "cgroup-parent",
  "userns-remap",
  "tlscacert",
  "tlscert",
  "tlskey",
];

const numberKeys: readonly string[] = ["cpu-rt-period", "cpu-rt-runtime", "max-concurrent-downloads", "max-concurrent-uploads"];
const listKeys: readonly string[] = ["hosts", "labels", "cdi-spec-dirs", "exec-opts", "storage-opts", "insecure-registries", "registry-mirrors"];

function readConfigFile(path: string | undefined): ConfigFile {
  const file = path ?? DEFAULT_CONFIG_FILE;
  let content: string;
  try {
    content = readFileSync(file, "utf8");
  } catch (error) {
    if (path === undefined && (error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new UsageError(`unable to configure the daemon with file ${file}: ${(error as Error).message}`);
  }
  const bad = (why: string) => new UsageError(`unable to configure the daemon with file ${file}: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (error) {
    throw bad((error as Error).message);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad("it does not hold a JSON object");
  for (const [key, entry] of Object.entries(value)) {
    const isText = (v: unknown) => typeof v === "string";
    const fits = textKeys.includes(key)
      ? isText(entry)
      : numberKeys.includes(key)
        ? Number.isSafeInteger(entry)
        : ["tls", "tlsverify", "selinux-enabled"].includes(key)
          ? typeof entry === "boolean"
          : listKeys.includes(key)
            ? Array.isArray(entry) && entry.every(isText)
            : key === "log-opts" || key === "proxies"
              ? typeof entry === "object" && entry !== null && Object.values(entry).every(isText)
              : undefined;
    if (fits === undefined) throw bad(`the following directives don't match any configuration option: ${key}`);
    if (!fits) throw bad(`${key} has a value of the wrong type`);
  }
  return value as ConfigFile; // every key was checked
}

function absolute(flag: string, path: string): string {
  if (path === "") throw new UsageError(`--${flag} must not be empty`);
  return isAbsolute(path) ? resolve(path) : resolve(process.cwd(), path);
}

/** Units of 1024, as docker's sizes: 20G, 500m, 1073741824. */
function budgetOf(text: string | undefined, flag = "storage-budget"): number | undefined {
  if (text === undefined) return undefined;
  const [, digits = "", unit = ""] = /^([0-9]{1,12})([kmgt]?)b?$/i.exec(text) ?? [];
  const bytes = Number(digits) * 1024 ** " kmgt".indexOf(unit.toLowerCase() || " ");
  if (digits === "" || bytes === 0) throw new UsageError(`invalid --${flag} "${text}": use a size such as 20G`);
  return bytes;
}

function logConfigOf(logDriver: string, logOpts: DaemonOptions["logOpts"]): Pick<DaemonOptions, "logDriver" | "logOpts"> {
  try {
    validateLogConfig({ Type: logDriver, Config: logOpts });
  } catch (error) {
    throw new UsageError(`failed to set log opts: ${(error as Error).message}`);
  }
  return { logDriver, logOpts };
}

function logLevelOf(text: string): LogLevel {
  const level = logLevels.find((l) => l === text);
  if (level === undefined) throw new UsageError(`invalid --log-level "${text}": use ${logLevels.join(", ")}`);
  return level;
}

function cgroupDriverOf(execOpts: readonly string[]): DaemonOptions["cgroupDriver"] {
  const { "native.cgroupdriver": driver = "cgroupfs", ...others } = pairs("exec-opt", execOpts);
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw new UsageError(`invalid --exec-opt "${unknown}": only native.cgroupdriver is known`);
  if (driver !== "cgroupfs" && driver !== "systemd") throw new UsageError(`invalid native.cgroupdriver "${driver}": use cgroupfs or systemd`);
  return driver;
}

function pairs(flag: string, entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const [key = "", value] = entry.split(/=(.*)/s);
      if (key === "" || value === undefined) throw new UsageError(`invalid --${flag} "${entry}": use KEY=VALUE`);
      return [key, value];
    }),
  );
}
