/**
 * What Docker asks for → the OCI runtime spec, as dockerd would make it. Pure.
 * @module
 */
import { own } from "#core/own.ts";
import type { ContainerConfig, HostConfig } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { OciLinux, OciProcess, OciSpec } from "#core/runtime-spec.ts";
import type { DeviceNode } from "#linux/devices.ts";
import { RLIMITS } from "#linux/flags.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { type IdMappings, mapLine, toHost } from "#core/id-mappings.ts";
import { containerCapabilities } from "./capabilities.ts";
import { type DeviceNumbers, deviceRules, limitsOf } from "./resources.ts";
import { SECCOMP_LOG, seccompFor } from "./seccomp.ts";
import { parseSecurityOptions, type SecurityOptions } from "./security-options.ts";
import { type SpecMountPoint, specMounts } from "./spec-mounts.ts";
import type { ResolvedUser } from "./users.ts";

export interface SpecInput {
  readonly id: string;
  /** With the image's defaults merged in. */
  readonly config: ContainerConfig;
  readonly hostConfig: HostConfig;
  /** What runs: entrypoint and command. */
  readonly args: readonly string[];
  readonly user: ResolvedUser;
  /** Binds, volumes and tmpfs of the container. */
  readonly mounts: readonly SpecMountPoint[];
  /** The engine's files that are bound over /etc/{hostname,hosts,resolv.conf}; absent = the image's own stays. */
  readonly files: { readonly hostname?: string; readonly hosts?: string; readonly resolvConf?: string };
  /** spec.linux.cgroupsPath. */
  readonly cgroupsPath: string;
  /** Host pid of the container whose namespaces `container:X` modes join. */
  readonly join?: { readonly pid?: number; readonly ipc?: number; readonly network?: number; readonly uts?: number };
  readonly facts: HostFacts;
  /** The maps of its user namespace; undefined = the host's users. */
  readonly userns?: IdMappings | undefined;
  /** @see MountsInput.ownersOnDisk */
  readonly ownersOnDisk?: boolean;
  /** Nodes of `--device`, with their cgroup permissions; with Privileged, the host's nodes (permissions ignored). */
  readonly devices?: readonly (DeviceNode & { readonly access: string })[];
  readonly deviceNumbers?: DeviceNumbers;
  /** "unconfined" or absent: none. */
  readonly appArmorProfile?: string;
  /** SELinux; "" or absent: none. */
  readonly processLabel?: string;
  readonly mountLabel?: string;
}

export interface SpecResult {
  readonly spec: OciSpec;
  /** Destinations whose source is a file; for PlanInput.files. */
  readonly files: ReadonlySet<string>;
  /** Sentences for people: what the host cannot give. */
  readonly warnings: readonly string[];
}

/** What dockerd would hand to runc. @throws EngineError "invalid" (bad request) or "unsupported" (this kernel) */
export function buildSpec(input: SpecInput): SpecResult {
  const { config, hostConfig, facts } = input;
  const warnings: string[] = [];
  const security = parseSecurityOptions(hostConfig.SecurityOpt);
  const mapping = input.userns;
  if (mapping !== undefined) {
    refuseWithUserns(hostConfig);
    requireMapped(mapping, input.user);
  }
  const capabilities = containerCapabilities(
    { add: hostConfig.CapAdd, drop: hostConfig.CapDrop, privileged: hostConfig.Privileged, userns: mapping !== undefined },
    facts,
  );
  warnings.push(...capabilities.warnings);
  const { mounts, files } = specMounts({ ...input, userns: mapping, writableCgroups: security.writableCgroups });
  const filter = hostConfig.Privileged && security.seccomp === "builtin" ? undefined : seccompFor(security.seccomp, capabilities.names, facts);
  if (security.seccompAudit && filter === undefined)
    throw new EngineError("invalid", "seccomp-audit has nothing to tell: no system call of this container is filtered", {
      hint: "it needs a seccomp profile: neither seccomp=unconfined nor --privileged",
    });
  const seccomp =
    security.seccompAudit && filter !== undefined ? { ...filter, flags: [...(filter.flags ?? ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), SECCOMP_LOG] } : filter;
  if (!facts.seccomp.supported && !hostConfig.Privileged && security.seccomp !== "unconfined")
    warnings.push("This kernel has no seccomp: the container's system calls are not filtered.");
  const privateUts = hostConfig.UTSMode !== "host";
  const linux: OciLinux = {
    namespaces: namespacesOf(input, mapping !== undefined),
    ...(mapping === undefined ? {} : { uidMappings: [...mapping.uids], gidMappings: [...mapping.gids] }),
    // A user namespace may not make device nodes: there they are binds.
    devices: mapping === undefined ? (input.devices ?? []).map(({ access: _access, hostPath: _hostPath, ...device }) => device) : [],
    cgroupsPath: input.cgroupsPath,
    resources: { ...limitsOf(hostConfig, input.deviceNumbers), devices: deviceRules(hostConfig.Privileged, input.devices ?? [], hostConfig.DeviceCgroupRules) },
    sysctl: sysctlsOf(hostConfig, mapping !== undefined),
    ...(seccomp === undefined ? {} : { seccomp }),
    ...(input.mountLabel === undefined ? {} : { mountLabel: input.mountLabel }),
    ...pathRules(hostConfig, security),
  };
  const spec: OciSpec = {
    ociVersion: "1.2.0",
    ...(privateUts && config.Hostname !== "" ? { hostname: config.Hostname } : {}),
    ...(privateUts && config.Domainname !== "" ? { domainname: config.Domainname } : {}),
    process: {
      ...processOf(input, capabilities.names, security.noNewPrivileges),
      rlimits: rlimitsOf(hostConfig, facts, warnings),
      oomScoreAdj: oomScoreAdjOf(hostConfig, facts, warnings),
      ...(input.appArmorProfile === undefined ? {} : { apparmorProfile: input.appArmorProfile }),
      ...(input.processLabel === undefined ? {} : { selinuxLabel: input.processLabel }),
    },
    root: { path: "rootfs", readonly: hostConfig.ReadonlyRootfs },
    mounts,
    linux,
    ...(hostConfig.Annotations === undefined ? {} : { annotations: hostConfig.Annotations }),
  };
  return { spec, files, warnings };
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The environment in dockerd's order: its own variables, then the container's; a name without "=" removes a variable. HOME last, as runc. */
export function environmentOf(config: Pick<ContainerConfig, "Env" | "Hostname" | "Domainname" | "Tty">, home: string): string[] {
  const host = config.Domainname === "" ? config.Hostname : `${config.Hostname}.${config.Domainname}`;
  const env = new Map<string, string>([
    ["PATH", DEFAULT_PATH],
    ["HOSTNAME", host],
  ]);
  if (config.Tty) env.set("TERM", "xterm");
  for (const entry of config.Env ?? []) {
    const [name = "", value] = entry.split(/=(.*)/s);
    if (value === undefined) env.delete(name);
    else env.set(name, value);
  }
  if ((env.get("HOME") ?? "") === "") env.set("HOME", home);
  return [...env].map(([name, value]) => `${name}=${value}`);
}

function processOf({ config, hostConfig, args, user }: SpecInput, capabilities: string[], noNewPrivileges: boolean): OciProcess {
  return {
    terminal: config.Tty,
    ...(config.Tty && hostConfig.ConsoleSize[0] > 0 ? { consoleSize: { height: hostConfig.ConsoleSize[0], width: hostConfig.ConsoleSize[1] } } : {}),
    user: { uid: user.uid, gid: user.gid, ...(user.additionalGids.length > 0 ? { additionalGids: [...user.additionalGids] } : {}) },
    args: [...args],
    env: environmentOf(config, user.home),
    cwd: config.WorkingDir === "" ? "/" : config.WorkingDir,
    capabilities: capabilitySets(capabilities, user.uid),
    noNewPrivileges,
  };
}

/** Only root starts with capabilities; others meet them again in set-uid programs, within the bounding set. As execve(2) would have it. */
export function capabilitySets(names: string[], uid: number): NonNullable<OciProcess["capabilities"]> {
  return uid === 0 ? { bounding: names, effective: names, permitted: names } : { bounding: names };
}

export const defaultMaskedPaths: readonly string[] = [
  "/proc/asound",
  "/proc/acpi",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/sys/firmware",
  "/sys/devices/virtual/powercap",
];
export const defaultReadonlyPaths: readonly string[] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

function pathRules(hostConfig: HostConfig, security: SecurityOptions): Pick<OciLinux, "maskedPaths" | "readonlyPaths"> {
  if (hostConfig.Privileged || security.systemPathsUnconfined) return { maskedPaths: [], readonlyPaths: [] };
  return { maskedPaths: [...(hostConfig.MaskedPaths ?? defaultMaskedPaths)], readonlyPaths: [...(hostConfig.ReadonlyPaths ?? defaultReadonlyPaths)] };
}

/** `container:X` of a namespace mode. */
function joinsContainer(mode: string): boolean {
  return mode.startsWith("container:");
}

function namespacesOf({ hostConfig, join }: SpecInput, userns: boolean): OciLinux["namespaces"] {
  const path = (kind: "pid" | "ipc" | "network" | "uts", file: string): string => {
    const pid = join?.[kind];
    if (pid === undefined) throw new EngineError("internal", `the ${kind} namespace of another container was asked for, but not which process holds it`);
    return `/proc/${pid}/ns/${file}`;
  };
  const one = (kind: "pid" | "ipc" | "network" | "uts", mode: string, file: string): OciLinux["namespaces"] =>
    mode === "host" ? [] : joinsContainer(mode) ? [{ type: kind, path: path(kind, file) }] : [{ type: kind }];
  return [
    ...(userns ? [{ type: "user" as const }] : []),
    { type: "mount" },
    ...one("uts", hostConfig.UTSMode, "uts"),
    ...one("pid", hostConfig.PidMode, "pid"),
    ...one("ipc", hostConfig.IpcMode, "ipc"),
    ...one("network", hostConfig.NetworkMode, "net"),
    ...(hostConfig.CgroupnsMode === "host" ? [] : [{ type: "cgroup" as const }]),
  ];
}

/** setresuid(2) would answer EINVAL. */
function requireMapped({ uids, gids }: IdMappings, { uid, gid, additionalGids }: ResolvedUser): void {
  const refuse = (what: string, id: number, map: IdMappings["uids"]) =>
    new EngineError("invalid", `${what} ${id} is not in the container's user namespace (${map.map(mapLine).join(", ")})`, {
      hint: "give it more ids with --userns, or another --user",
    });
  if (toHost(uids, uid) === undefined) throw refuse("uid", uid, uids);
  for (const id of [gid, ...additionalGids]) if (toHost(gids, id) === undefined) throw refuse("gid", id, gids);
}

/** Docker's refusals: these modes would hand host resources to a root that must not own them. */
function refuseWithUserns(hostConfig: HostConfig): void {
  if (hostConfig.Privileged)
    throw new EngineError(
      "invalid",
      "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
    );
  if (hostConfig.NetworkMode === "host") throw new EngineError("invalid", "cannot share the host's network namespace when user namespaces are enabled");
  if (hostConfig.PidMode === "host") throw new EngineError("invalid", "cannot share the host PID namespace when user namespaces are enabled");
}

const ipcSysctls = new Set([
  "kernel.msgmax",
  "kernel.msgmnb",
  "kernel.msgmni",
  "kernel.sem",
  "kernel.shmall",
  "kernel.shmmax",
  "kernel.shmmni",
  "kernel.shm_rmid_forced",
]);

/** `--sysctl`: only those that belong to a namespace the container has of its own. */
function sysctlsOf(hostConfig: HostConfig, userns: boolean): Record<string, string> {
  const own = (mode: string) => mode !== "host" && !joinsContainer(mode);
  const sysctls: Record<string, string> = {};
  if (own(hostConfig.NetworkMode)) {
    // Docker's since 20.10: ping without CAP_NET_RAW (the range is in host ids, so not within a mapping), low ports without being root.
    if (!userns) sysctls["net.ipv4.ping_group_range"] = "0 2147483647";
    sysctls["net.ipv4.ip_unprivileged_port_start"] = "0";
  }
  for (const [name, value] of Object.entries(hostConfig.Sysctls ?? {})) {
    const key = name.replaceAll("/", ".");
    const allowed =
      ipcSysctls.has(key) || key.startsWith("fs.mqueue.")
        ? own(hostConfig.IpcMode)
        : key.startsWith("net.")
          ? own(hostConfig.NetworkMode)
          : key === "kernel.domainname" && own(hostConfig.UTSMode);
    if (key === "kernel.hostname") throw new EngineError("invalid", `sysctl "${name}" is not allowed as it conflicts with the OCI "hostname" field`);
    if (!allowed) throw new EngineError("invalid", `sysctl "${name}" is not in a separate kernel namespace`);
    if (key.split(".").some((part) => part === "")) throw new EngineError("invalid", `sysctl "${name}" is not a name`);
    sysctls[name] = value;
  }
  return sysctls;
}

/** 2^64-1 as near as a JavaScript number comes. */
const UNLIMITED = 2 ** 64;

function rlimitsOf(hostConfig: HostConfig, facts: HostFacts, warnings: string[]): NonNullable<OciProcess["rlimits"]> {
  return (hostConfig.Ulimits ?? []).map(({ Name, Soft, Hard }) => {
    if (own(RLIMITS, Name) === undefined) throw new EngineError("invalid", `invalid ulimit type: ${Name}`);
    const ceiling = facts.rlimitCaps[Name] ?? UNLIMITED;
    const [soft, hard] = [Soft < 0 ? UNLIMITED : Soft, Hard < 0 ? UNLIMITED : Hard];
    if (soft > hard) throw new EngineError("invalid", `ulimit soft limit must be less than or equal to hard limit: ${Soft} > ${Hard}`);
    if (hard > ceiling)
      warnings.push(
        `The ulimit ${Name} cannot be raised to ${Hard < 0 ? "unlimited" : Hard} on this host (the engine lacks CAP_SYS_RESOURCE): it is ${ceiling}.`,
      );
    return { type: `RLIMIT_${Name.toUpperCase()}`, soft: Math.min(soft, ceiling), hard: Math.min(hard, ceiling) };
  });
}

function oomScoreAdjOf({ OomScoreAdj }: HostConfig, facts: HostFacts, warnings: string[]): number {
  if (OomScoreAdj < -1000 || OomScoreAdj > 1000) throw new EngineError("invalid", `Invalid value ${OomScoreAdj}, range for oom score adj is [-1000, 1000]`);
  if (OomScoreAdj >= facts.oomScoreAdjMin) return OomScoreAdj;
  if (OomScoreAdj < 0)
    warnings.push(`An OOM score of ${OomScoreAdj} needs CAP_SYS_RESOURCE, which the engine lacks on this host: it is ${facts.oomScoreAdjMin}.`);
  return facts.oomScoreAdjMin;
}
