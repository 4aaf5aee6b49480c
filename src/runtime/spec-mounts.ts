/**
 * The mounts of a container, as dockerd lists them in the OCI spec: the kernel's own filesystems first, then the user's.
 * @module
 */
import { posix } from "node:path";
import type { HostConfig, MountSpec } from "#core/container-config.ts";
import { EngineError } from "#core/errors.ts";
import type { OciMount } from "#core/runtime-spec.ts";
import type { DeviceNode } from "#linux/devices.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { type IdMappings, toHost } from "#core/id-mappings.ts";
import { bindMappings } from "./bind-idmap.ts";

/** A mount point of the container; the same shape as container/ `MountPoint`, and whether its source is a file. */
export interface SpecMountPoint {
  readonly Type: "bind" | "volume" | "tmpfs" | "image";
  readonly Source: string;
  readonly Destination: string;
  readonly RW: boolean;
  readonly Propagation: string;
  /** tmpfs options. */
  readonly Options?: string;
  /** The source is not a directory. */
  readonly file?: boolean;
  /** Of a bind whose owners are mapped: how. See bind-idmap.ts. */
  readonly Idmap?: string;
  /** The source's, for `Idmap`. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

export interface MountsInput {
  readonly hostConfig: HostConfig;
  readonly mounts: readonly SpecMountPoint[];
  readonly files: { readonly hostname?: string; readonly hosts?: string; readonly resolvConf?: string };
  readonly devices?: readonly DeviceNode[];
  readonly join?: { readonly ipc?: number };
  readonly userns: IdMappings | undefined;
  /** With `userns`: volumes and the engine's files have the host's ids already. */
  readonly ownersOnDisk?: boolean;
  /** The container's user. */
  readonly user: { readonly uid: number; readonly gid: number };
  readonly writableCgroups: boolean;
  readonly facts: HostFacts;
}

const DEFAULT_SHM_BYTES = 64 * 1024 * 1024;
const quiet = ["nosuid", "noexec", "nodev"];

/** Mounts in order, and the destinations that are files. */
export function specMounts(input: MountsInput): { readonly mounts: OciMount[]; readonly files: ReadonlySet<string> } {
  const { hostConfig } = input;
  const own = userMounts(input);
  const taken = new Set(own.mounts.map((m) => m.destination));
  const below = (path: string) => taken.has("/dev") && path.startsWith("/dev/");
  const defaults = kernelMounts(input).filter((m) => !taken.has(m.destination) && !below(m.destination));
  if (hostConfig.ReadonlyRootfs) for (const mount of defaults) if (!staysWritable.has(mount.destination)) addOption(mount, "ro");
  const mounts = [...defaults, ...own.mounts];
  return { mounts, files: own.files };
}

/** With `--read-only`: a container could not run without these. */
const staysWritable = new Set(["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]);

function addOption(mount: OciMount, option: string): void {
  if (!mount.options?.includes(option)) mount.options = [...(mount.options ?? []), option];
}

function kernelMounts({ hostConfig, join, userns, writableCgroups, facts }: MountsInput): OciMount[] {
  const sys = hostConfig.Privileged ? [] : ["ro"];
  const cgroup = hostConfig.Privileged || writableCgroups ? [] : ["ro"];
  const mounts: OciMount[] = [
    { destination: "/proc", type: "proc", source: "proc", options: [...quiet] },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "strictatime", "mode=755", "size=65536k"] },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", ...ttyGroup(userns)],
    },
    { destination: "/sys", type: "sysfs", source: "sysfs", options: [...quiet, ...sys] },
    ...(facts.cgroup.mode === "none" ? [] : [{ destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: [...cgroup, ...quiet] }]),
  ];
  const ipc = hostConfig.IpcMode;
  // A fresh mount shows the IPC namespace that the process is in; over another's, a user namespace has no right.
  if (facts.mqueue && (userns === undefined || ipc !== "host")) {
    mounts.push(
      userns !== undefined && ipc.startsWith("container:")
        ? { destination: "/dev/mqueue", type: "bind", source: `/proc/${join?.ipc}/root/dev/mqueue`, options: ["bind", "rprivate", ...quiet] }
        : { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: [...quiet] },
    );
  }
  if (ipc === "host") mounts.push({ destination: "/dev/shm", type: "bind", source: "/dev/shm", options: ["rbind", "rprivate", ...quiet] });
  else if (ipc.startsWith("container:"))
    mounts.push({ destination: "/dev/shm", type: "bind", source: `/proc/${join?.ipc}/root/dev/shm`, options: ["bind", "rprivate", ...quiet] });
  else if (ipc !== "none")
    mounts.push({
      destination: "/dev/shm",
      type: "tmpfs",
      source: "shm",
      options: [...quiet, "mode=1777", `size=${hostConfig.ShmSize > 0 ? hostConfig.ShmSize : DEFAULT_SHM_BYTES}`],
    });
  return mounts;
}

/** Terminals belong to the group tty, where the user namespace has it. */
function ttyGroup(userns: IdMappings | undefined): string[] {
  return userns === undefined || toHost(userns.gids, TTY_GID) !== undefined ? [`gid=${TTY_GID}`] : [];
}
const TTY_GID = 5;

function userMounts(input: MountsInput): { mounts: OciMount[]; files: Set<string> } {
  const { hostConfig, mounts, files, userns, devices = [] } = input;
  const byDestination = new Map<string, OciMount>();
  const fileMounts = new Set<string>();
  const bindEngineFile = (destination: string, source: string | undefined) => {
    if (source === undefined) return;
    fileMounts.add(destination);
    byDestination.set(destination, {
      destination,
      type: "bind",
      source,
      options: ["rbind", "rprivate", ...(hostConfig.ReadonlyRootfs ? ["ro"] : [])],
      ...owners(input),
    });
  };
  bindEngineFile("/etc/resolv.conf", files.resolvConf);
  bindEngineFile("/etc/hostname", files.hostname);
  bindEngineFile("/etc/hosts", files.hosts);
  for (const device of userns === undefined ? [] : devices) {
    fileMounts.add(device.path);
    byDestination.set(device.path, { destination: device.path, type: "bind", source: device.hostPath, options: ["bind", "rprivate"] });
  }
  for (const [path, options] of Object.entries(hostConfig.Tmpfs ?? {})) byDestination.set(clean(path), tmpfs(clean(path), options, true));
  for (const point of mounts) {
    const destination = clean(point.Destination);
    fileMounts.delete(destination);
    if (point.file === true) fileMounts.add(destination);
    const wanted = hostConfig.Mounts?.find((m) => clean(m.Target) === destination);
    byDestination.set(destination, point.Type === "tmpfs" ? tmpfs(destination, point.Options ?? "", point.RW) : bind(point, destination, wanted, input));
  }
  // A mount hides what was mounted below it before: shallow ones first. Stable, so equal depths keep the user's order.
  const depth = (path: string) => path.split("/").filter(Boolean).length;
  return { mounts: [...byDestination.values()].sort((a, b) => depth(a.destination) - depth(b.destination)), files: fileMounts };
}

/** "/a//b/../c/" → "/a/c", as Go's filepath.Clean. */
function clean(path: string): string {
  return posix.normalize(`/${path}`).replace(/(.)\/$/, "$1");
}

/** What Docker takes. */
const tmpfsValues = new Set(["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"]);
const tmpfsFlags = new Set(
  "defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime noatime diratime nodiratime bind rbind unbindable runbindable private rprivate shared rshared slave rslave relatime norelatime strictatime nostrictatime".split(
    " ",
  ),
);

function tmpfs(destination: string, options: string, writable: boolean): OciMount {
  // The last of two contradicting options wins.
  const given = options.split(",").filter(Boolean);
  for (const option of given) {
    const [key = "", value] = option.split(/=(.*)/s);
    if (value === undefined ? !tmpfsFlags.has(key) : !tmpfsValues.has(key))
      throw new EngineError(
        "invalid",
        `invalid tmpfs option ${value === undefined ? JSON.stringify(key) : `[${JSON.stringify(key)} ${JSON.stringify(value)}]`}`,
      );
  }
  return { destination, type: "tmpfs", source: "tmpfs", options: ["noexec", "nosuid", "nodev", "rprivate", ...given, ...(writable ? [] : ["ro"])] };
}

function bind(point: SpecMountPoint, destination: string, wanted: MountSpec | undefined, input: MountsInput): OciMount {
  const { userns, facts, user } = input;
  const recursive = wanted?.BindOptions?.NonRecursive !== true;
  const propagation = point.Propagation === "" ? "rprivate" : point.Propagation;
  // Below a read-only bind everything is read-only (Docker 25), unless asked otherwise or the kernel has no recursive mount_setattr.
  const readonly = point.RW ? [] : [recursive && facts.mountSetattr && wanted?.BindOptions?.ReadOnlyNonRecursive !== true ? "rro" : "ro"];
  return {
    destination,
    type: "bind",
    source: point.Source,
    options: [recursive ? "rbind" : "bind", propagation, ...readonly],
    ...(point.Type === "volume" ? owners(input) : {}),
    ...(point.Idmap === undefined ? {} : asMount(bindMappings(point.Idmap, { owner: point.owner, user, userns }))),
  };
}

/** Volumes and files of the engine's: what belongs to root there shall belong to the container's root, as it would without a user namespace. */
function owners({ userns, facts, ownersOnDisk }: MountsInput): Pick<OciMount, "uidMappings" | "gidMappings"> {
  return userns === undefined || ownersOnDisk === true || !facts.idmappedMounts ? {} : asMount(userns);
}

function asMount({ uids, gids }: IdMappings): Pick<OciMount, "uidMappings" | "gidMappings"> {
  return { uidMappings: [...uids], gidMappings: [...gids] };
}
