/**
 * Asks the host once what it can do. Reads small files of /proc and /sys only; a few milliseconds.
 * @module
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { parseCapabilityMask } from "./capabilities.ts";
import { RLIMITS } from "./flags.ts";
import type { CgroupFacts, HostFacts } from "./host-facts.ts";

const CAP_SYS_RESOURCE = 24n;

/** Text of a file; "" when it does not exist or may not be read: then the host lacks what it would tell. */
async function text(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return "";
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

/** Reads the facts. Never rejects for a missing file. */
export async function probeHost(): Promise<HostFacts> {
  const parameter = (name: string) => text(`/sys/module/overlay/parameters/${name}`).then((t) => t.trim() === "Y");
  const [release, status, limits, filesystems, meminfo, mountinfo, ownCgroup, actions, lsm, lastCap, oom, cmdline, nsFiles, metacopy, redirectDir, index] =
    await Promise.all([
      text("/proc/sys/kernel/osrelease"),
      text("/proc/self/status"),
      text("/proc/self/limits"),
      text("/proc/filesystems"),
      text("/proc/meminfo"),
      text("/proc/self/mountinfo"),
      text("/proc/self/cgroup"),
      text("/proc/sys/kernel/seccomp/actions_avail"),
      text("/sys/kernel/security/lsm"),
      text("/proc/sys/kernel/cap_last_cap"),
      text("/proc/self/oom_score_adj"),
      text("/proc/cmdline"),
      readdir("/proc/self/ns").catch(() => [] as string[]),
      parameter("metacopy"),
      parameter("redirect_dir"),
      parameter("index"),
    ]);
  const selinux = lsm.includes("selinux") ? await probeSelinux() : undefined;
  const memoryNodes = (await text("/sys/devices/system/node/has_memory")).trim();
  const kernel = parseRelease(release.trim());
  const atLeast = (major: number, minor: number) => kernel.major > major || (kernel.major === major && kernel.minor >= minor);
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1]?.trim() ?? "";
  const capabilities = field("CapEff") || "0";
  const mayRaise = (parseCapabilityMask(capabilities) >> CAP_SYS_RESOURCE) & 1n;
  const hasFs = (name: string) => new RegExp(`\\t${name}$`, "m").test(filesystems);
  const overlay = hasFs("overlay") || (await hasModule("overlay", release.trim()));
  const delegate = (await text("/sys/kernel/cgroup/delegate")).split("\n").filter((name) => /^[a-z]+\.[a-z_.]+$/.test(name));
  const cgroup = { ...(await probeCgroups(mountinfo, ownCgroup, atLeast(5, 14))), ...(delegate.length === 0 ? {} : { delegate }) };
  return {
    kernel,
    cgroup,
    overlay: {
      supported: overlay,
      lowerdirPlus: overlay && atLeast(6, 5),
      layerFds: overlay && atLeast(6, 13),
      metacopyDefault: metacopy,
      redirectDirDefault: redirectDir,
      indexDefault: index,
    },
    mountSetattr: atLeast(5, 12),
    procPidns: atLeast(6, 18),
    idmappedMounts: atLeast(5, 12) && nsFiles.includes("user"),
    seccomp: { supported: actions !== "" && field("Seccomp") !== "", actions: actions.trim().split(/\s+/).filter(Boolean) },
    lsm: lsm.trim().split(",").filter(Boolean),
    ...(selinux === undefined ? {} : { selinux }),
    namespaces: (["pid", "mnt", "uts", "ipc", "net", "user", "cgroup", "time"] as const).filter((kind) => nsFiles.includes(kind)),
    mqueue: hasFs("mqueue"),
    capabilities,
    lastCap: Number(lastCap.trim() || 40),
    cpus: countBits(field("Cpus_allowed")) || 1,
    ...(memoryNodes === "" ? {} : { memoryNodes }),
    memoryBytes: Number(/^MemTotal:\s*(\d+) kB/m.exec(meminfo)?.[1] ?? 0) * 1024,
    swapAccounting: await probeSwapAccounting(cgroup, cmdline),
    rlimitCaps: mayRaise ? {} : hardLimits(limits),
    oomScoreAdjMin: mayRaise ? -1000 : Number(oom.trim() || 0),
  };
}

/** @see selinux_lxc_contexts_path(3) */
async function probeSelinux(): Promise<HostFacts["selinux"]> {
  const [config, mls] = await Promise.all([text("/etc/selinux/config"), text("/sys/fs/selinux/mls")]);
  const type = /^\s*SELINUXTYPE\s*=\s*(\S+)/m.exec(config)?.[1] ?? "targeted";
  return parseContainerContexts(await text(`/etc/selinux/${type}/contexts/lxc_contexts`), mls.trim() === "1");
}

/** Lines as `process = "system_u:system_r:container_t:s0"`. Exported for its test. */
export function parseContainerContexts(contexts: string, mls: boolean): HostFacts["selinux"] {
  const label = (key: string) => new RegExp(`^\\s*${key}\\s*=\\s*"([^"]+)"`, "m").exec(contexts)?.[1];
  const [process, file] = [label("process"), label("file")];
  return process === undefined || file === undefined ? undefined : { process, file, mls };
}

function parseRelease(release: string): HostFacts["kernel"] {
  const [, major = "0", minor = "0"] = /^(\d+)\.(\d+)/.exec(release) ?? [];
  return { release, major: Number(major), minor: Number(minor), arch: process.arch === "arm64" ? "aarch64" : "x86_64" };
}

/** Bits in the kernel's "ffffffff,0000000f". */
function countBits(mask: string): number {
  return [...mask.replaceAll(",", "")].reduce((sum, digit) => sum + Number.parseInt(digit, 16).toString(2).replaceAll("0", "").length, 0);
}

/** A filesystem that the kernel would load when first mounted. */
async function hasModule(name: string, release: string): Promise<boolean> {
  const lists = await Promise.all([text(`/lib/modules/${release}/modules.dep`), text(`/lib/modules/${release}/modules.builtin`)]);
  return lists.some((list) => list.includes(`/${name}.ko`));
}

/** Hard limits by name, those that are finite: without CAP_SYS_RESOURCE nothing above them can be asked for. */
function hardLimits(limits: string): Record<string, number> {
  const caps: Record<string, number> = {};
  for (const { proc, name } of Object.entries(RLIMITS).map(([key, value]) => ({ proc: value.proc, name: key }))) {
    const hard = new RegExp(`^${proc}\\s+\\S+\\s+(\\d+|unlimited)`, "m").exec(limits)?.[1];
    if (hard !== undefined && hard !== "unlimited") caps[name] = Number(hard);
  }
  return caps;
}

/** v1, hybrid or v2, from the mount table. Exported for its test. */
export async function probeCgroups(mountinfo: string, ownCgroup: string, kernelHasKill: boolean): Promise<CgroupFacts> {
  const v1: Record<string, string> = {};
  let v2Root: string | undefined;
  for (const line of mountinfo.split("\n")) {
    const [left, right] = line.split(" - ");
    if (left === undefined || right === undefined) continue;
    const mountPoint = (left.split(" ")[4] ?? "").replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    const [fstype = "", , superOptions = ""] = right.split(" ");
    if (fstype === "cgroup2") v2Root ??= mountPoint;
    if (fstype !== "cgroup") continue;
    for (const option of superOptions.split(",")) {
      if (!v1NotControllers.has(option) && !option.includes("=")) v1[option] ??= mountPoint;
      if (option.startsWith("name=")) v1[option] ??= mountPoint;
    }
  }
  const own: Record<string, string> = {};
  for (const line of ownCgroup.trim().split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    for (const controller of controllers.split(",")) own[controller] = path;
  }
  const hasV1 = Object.keys(v1).length > 0;
  return {
    mode: hasV1 ? (v2Root === undefined ? "v1" : "hybrid") : v2Root === undefined ? "none" : "v2",
    ...(v2Root === undefined ? {} : { v2Root }),
    v1,
    v2Controllers: v2Root === undefined ? [] : (await text(`${v2Root}/cgroup.controllers`)).trim().split(/\s+/).filter(Boolean),
    own,
    kill: kernelHasKill && v2Root !== undefined,
  };
}
const v1NotControllers = new Set(["rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode", "none", "favordynmods"]);

async function probeSwapAccounting(cgroup: CgroupFacts, cmdline: string): Promise<boolean> {
  if (cgroup.v1["memory"] !== undefined) return await exists(`${cgroup.v1["memory"]}/memory.memsw.limit_in_bytes`);
  if (cgroup.v2Root === undefined || !cgroup.v2Controllers.includes("memory")) return false;
  // The v2 root has no memory.swap.max, and a child has it only once the controller is enabled for it. A kernel before 6.1 may be built to count swap only when it is told to.
  const children = await readdir(cgroup.v2Root, { withFileTypes: true }).catch(() => []);
  const others = children.filter((entry) => entry.isDirectory()).map(({ name }) => `/${name}`);
  for (const path of [cgroup.own[""] ?? "/", ...others])
    if (await exists(`${cgroup.v2Root}${path}/memory.max`)) return await exists(`${cgroup.v2Root}${path}/memory.swap.max`);
  return !/\bswapaccount=0\b/.test(cmdline);
}
