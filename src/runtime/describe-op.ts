/**
 * One operation as a person would write it down: the system call with symbolic names instead of numbers.
 * @module
 */
import { KEEP_ALL } from "./rebirth.ts";
import { capabilitiesOf } from "#linux/capabilities.ts";
import { AT_RECURSIVE, CLONE, FS_MAGIC, flagNames, MOUNT_ATTR, MS, O, PR, RLIM_INFINITY, RLIMITS } from "#linux/flags.ts";
import type { Op } from "#linux/ops.gen.ts";
import { NO_SLOT, SLOT_BASE } from "#linux/plan.ts";
import { slots } from "./slots.ts";

const decoder = new TextDecoder();

/** Remembers what each slot holds while a plan is read from its start, so that "[8]" can be printed as what it is. */
export class OpDescriber {
  readonly #names = new Map<number, string>([[slots.root, "root"]]);

  /** The call, e.g. `mount proc on root/proc (nosuid,nodev,noexec)`. */
  describe(op: Op): string {
    const text = this.#text(op);
    if ("out" in op) this.#names.set(op.out, op.out === slots.root ? "root" : this.#nameOf(op));
    return text;
  }

  #nameOf(op: Op): string {
    switch (op.op) {
      case "openat":
      case "open_tree":
        return op.path === "" ? "copy" : this.#at(op.dir, op.path);
      case "fsopen":
        return `new ${op.fstype}`;
      case "pidfd_open":
        return `process ${op.pid}`;
      case "userns_open":
        return "id map";
      case "child_ns":
      case "hold_ns":
        return `the child's ${op.name} namespace`;
      default:
        return op.op;
    }
  }

  #slot(slot: number): string {
    if (slot === NO_SLOT) return "";
    const name = this.#names.get(slot) ?? `slot ${slot}`;
    return name.startsWith("<") ? name : `<${name}>`;
  }

  #at(dir: number, path: string): string {
    if (dir === NO_SLOT) return path;
    return path === "" ? this.#slot(dir) : `${this.#slot(dir)}/${path}`;
  }

  /** A descriptor as the source of a bind: /proc/self/fd/N. */
  #source(source: string): string {
    const descriptor = /^\/proc\/self\/fd\/(\d+)$/.exec(source)?.[1];
    return descriptor === undefined ? source : this.#slot(Number(descriptor) - SLOT_BASE);
  }

  #text(op: Op): string {
    switch (op.op) {
      case "openat":
        return `open ${this.#at(op.dir, op.path)}${op.flags === 0n ? "" : ` (${flagNames(openFlags, op.flags)})`}`;
      case "expect_device":
        return `${this.#slot(op.slot)} must be device ${op.major}:${op.minor}`;
      case "expect_fs":
        return `${this.#slot(op.slot)} must lie on ${Object.entries(FS_MAGIC).find(([, magic]) => magic === op.magic)?.[0] ?? `filesystem 0x${op.magic.toString(16)}`}`;
      case "expect_procfs":
        return `${this.#slot(op.slot)} must be the proc filesystem of ${this.#slot(op.pidns)}`;
      case "child_proc":
        return `write ${quote(op.data)} to the child's /proc/PID/${op.name}`;
      case "netlink_watch":
        return "report what the kernel tells of changes";
      case "netlink_dump":
        return "report all that the kernel answers";
      case "names":
        return `bind a name server's sockets to ${[24, 16, 8, 0].map((shift) => (op.address >>> shift) & 255).join(".")}:${op.port} in the child's network`;
      case "close":
        return `close ${this.#slot(op.slot)}`;
      case "mkdir":
        return `mkdir ${this.#at(op.dir, op.path)} (${octal(op.mode)})`;
      case "mkfile":
        return `create ${this.#at(op.dir, op.path)} (${octal(op.mode)})`;
      case "mknod":
        return `mknod ${this.#at(op.dir, op.path)} ${(op.mode & 0o170000) === 0o060000 ? "b" : "c"} ${op.major}:${op.minor} (${octal(op.mode & 0o7777)})`;
      case "symlink":
        return `symlink ${this.#at(op.dir, op.path)} -> ${op.target}`;
      case "write":
        return `write ${quote(decoder.decode(op.data))} to ${this.#at(op.dir, op.path)}`;
      case "write_pid":
        return `write the child's pid to ${this.#at(op.dir, op.path)}`;
      case "report":
        return `read ${this.#at(op.dir, op.path)} (at most ${op.max} bytes)`;
      case "chown":
        return `chown ${this.#at(op.dir, op.path)} to ${op.uid === 0xffffffff ? "" : op.uid}:${op.gid === 0xffffffff ? "" : op.gid}`;
      case "rmdir":
      case "unlink":
        return `${op.op} ${this.#at(op.dir, op.path)}`;
      case "fsopen":
        return `fsopen ${op.fstype}`;
      case "fsconfig_str":
        return `fsconfig ${this.#slot(op.fs)} ${op.key}=${op.value}`;
      case "fsconfig_flag":
        return `fsconfig ${this.#slot(op.fs)} ${op.key}`;
      case "fsconfig_fd":
        return `fsconfig ${this.#slot(op.fs)} ${op.key}=${this.#slot(op.fd)}`;
      case "fsconfig_dirs":
        return `fsconfig ${this.#slot(op.fs)} ${op.paths.map((path) => `${op.key}=${this.#at(op.dir, path)}`).join(" ")}`;
      case "fsmount":
        return `fsmount ${this.#slot(op.fs)}${op.attrs === 0n ? "" : ` (${attrText(op.attrs)})`} -> ${op.out === slots.root ? "<root>" : `slot ${op.out}`}`;
      case "open_tree":
        return `open_tree ${this.#at(op.dir, op.path)} (clone${(op.flags & AT_RECURSIVE) === 0 ? "" : ",recursive"})${op.out === slots.root ? " -> <root>" : ""}`;
      case "mount_setattr":
        return `mount_setattr ${this.#slot(op.mnt)} ${this.#attributes(op)}`;
      case "move_mount":
        return `move_mount ${this.#slot(op.mnt)} onto ${this.#at(op.dir, op.path)}`;
      case "mount":
        return mountText(op, this.#source(op.source), this.#at(op.dir, op.path));
      case "umount":
        return `umount ${this.#at(op.dir, op.path)}`;
      case "pivot_root":
        return `pivot_root ${this.#slot(op.root)}`;
      case "chroot":
        return `chroot ${this.#slot(op.dir)}`;
      case "clone":
        return `clone ${op.flags === 0n ? "(no new namespaces)" : flagNames(CLONE, op.flags)}${op.cgroup === NO_SLOT ? "" : ` into ${this.#slot(op.cgroup)}`}`;
      case "unshare":
        return `unshare ${flagNames(CLONE, op.flags)}`;
      case "setns":
        return `setns ${this.#slot(op.fd)} ${flagNames(CLONE, op.flags)}`;
      case "pidfd_open":
        return `pidfd_open ${op.pid}`;
      case "userns_open":
        return `open an id map: uids ${maps(op.uidmap)}; gids ${maps(op.gidmap)}`;
      case "child_maps":
        return `write the child's uid_map ${maps(op.uidmap)}, gid_map ${maps(op.gidmap)}`;
      case "signal":
        return `signal the other side: point ${op.id}`;
      case "await":
        return `wait for the other side: point ${op.id}`;
      case "child_ns":
        return `open the child's ${op.name} namespace`;
      case "dial":
        return `connect to port ${op.port} and send ${op.request.length} bytes`;
      case "dial_through":
        return `connect to port ${op.port}, and pass bytes between it and ${op.path}`;
      case "datagrams":
        return `datagrams to ${op.path}: ${op.messages.length} bytes`;
      case "beside":
        return `start beside the container: ${op.argv.join(" ")}`;
      case "hold_ns":
        return `keep the child's ${op.name} namespace`;
      case "rmdir_late":
        return op.paths.length === 0 ? "tell when the mounts are down after the end" : `remove ${op.paths.join(", ")} after the end`;
      case "netlink":
        return `netlink: ${op.messages.length} bytes of messages`;
      case "bpf_device":
        return `attach a device filter of ${op.program.length / 8} instructions to ${this.#at(op.dir, op.path)}`;
      case "attach_gate":
        return "wait for attached clients";
      case "sethostname":
      case "setdomainname":
        return `${op.op} ${op.name}`;
      case "rlimit":
        return `setrlimit ${Object.entries(RLIMITS).find(([, r]) => r.number === op.resource)?.[0] ?? op.resource} soft ${limit(op.soft)} hard ${limit(op.hard)}`;
      case "cap_bset":
        return `drop from the bounding set all but ${capabilities(op.keep)}`;
      case "capset":
        return `capset effective ${capabilities(op.effective)}${op.permitted === op.effective ? "" : `, permitted ${capabilities(op.permitted)}`}${op.inheritable === 0n ? "" : `, inheritable ${capabilities(op.inheritable)}`}`;
      case "cap_ambient":
        return `raise ambient ${capabilities(op.mask)}`;
      case "prctl":
        return `prctl ${Object.entries(PR).find(([, n]) => n === op.option)?.[0] ?? op.option} ${op.arg}`;
      case "seccomp":
        return `seccomp: a filter of ${op.filter.length / 8} instructions`;
      case "setgroups":
        return `setgroups ${op.gids.length === 0 ? "(none)" : op.gids.join(" ")}`;
      case "setresgid":
        return `setresgid ${op.gid}`;
      case "setresuid":
        return `setresuid ${op.uid}`;
      case "fs_ids":
        return `setfsuid ${op.uid}, setfsgid ${op.gid}`;
      case "umask":
        return `umask ${octal(op.mask)}`;
      case "chdir":
        return `chdir ${op.path}`;
      case "rebirth":
        return `go on as a new process${op.keep === 0 || op.keep === KEEP_ALL ? "" : `, with ${op.keep} more descriptors`}`;
      case "setsid":
        return "setsid";
      case "block_signals":
        return "block all signals";
      case "keyring":
        return `join session keyring ${op.name}`;
      case "stdio":
        return (op.console & 1) === 1 ? "open a terminal, also as /dev/console" : "connect descriptors 0, 1, 2";
      case "close_range":
        return `close_range ${op.first} and up (on exec)`;
      case "engine_gate":
        return "wait for the engine";
      case "exec_gate":
        return op.fifo === NO_SLOT ? "part from the launcher" : "part from the launcher, wait for the start";
      case "hook":
        return `run ${op.argv.map(quote).join(" ")}${op.timeout_ms === 0 ? "" : ` (at most ${op.timeout_ms} ms)`}`;
      case "preserve_fds":
        return `${op.count} descriptors at 3 and up`;
      case "ioctl":
        return `ioctl ${this.#slot(op.fd)} 0x${op.request.toString(16)} (${op.arg.length} bytes)`;
      case "loop":
        return `loop device of ${op.path}`;
      case "quotactl":
        return `quotactl ${op.special === "" ? this.#slot(op.fd) : op.special} 0x${op.cmd.toString(16)} id ${op.id}`;
      case "fuse":
        return `run ${op.argv.map(quote).join(" ")} on ${op.path}`;
      case "program":
        return `run ${op.argv.map(quote).join(" ")} to its end`;
      case "personality":
        return `personality ${op.persona.toString(16)}`;
      case "sched_attr":
        return `scheduling policy ${op.policy}, nice ${op.nice}, priority ${op.priority}`;
      case "ioprio":
        return `I/O priority class ${op.value >> 13}, level ${op.value & 0x1fff}`;
      case "affinity":
        return `CPUs by mask ${Buffer.from(op.mask).reverse().toString("hex")}`;
      case "seccomp_notify":
        return op.filter.length === 0 ? `connect to ${op.socket}` : `seccomp: a filter of ${op.filter.length / 8} instructions, its listener sent away`;
      case "copy_tree":
        return `copy what is in ${this.#slot(op.from)} into ${this.#slot(op.to)}`;
      case "exec":
        return `exec ${op.argv.map(quote).join(" ")}`;
    }
  }

  #attributes(op: Extract<Op, { op: "mount_setattr" }>): string {
    const idmap = (op.set & MOUNT_ATTR.IDMAP) !== 0n;
    const set = op.set & ~MOUNT_ATTR.IDMAP;
    const words = [
      idmap ? `idmap=${this.#slot(op.userns)}` : "",
      set === 0n ? "" : attrText(set),
      op.clr === 0n ? "" : `not ${attrText(op.clr)}`,
      op.propagation === 0n ? "" : flagNames(propagationFlags, op.propagation).toLowerCase(),
      op.recursive === 1 ? "recursive" : "",
    ];
    return words.filter((w) => w !== "").join(",");
  }
}

const openFlags = { DIRECTORY: O.DIRECTORY, PATH: O.PATH, NOFOLLOW: O.NOFOLLOW, RDWR: O.RDWR, WRONLY: O.WRONLY };
const propagationFlags = { PRIVATE: MS.PRIVATE, SLAVE: MS.SLAVE, SHARED: MS.SHARED, UNBINDABLE: MS.UNBINDABLE };
const { ATIME: _field, ...attrNames } = MOUNT_ATTR;

function attrText(attrs: bigint): string {
  return flagNames(attrNames, attrs)
    .toLowerCase()
    .replaceAll("|", ",")
    .replace(/\brdonly\b/, "ro");
}

function mountText(op: Extract<Op, { op: "mount" }>, source: string, target: string): string {
  const options = [
    flagNames(MS, op.flags)
      .toLowerCase()
      .replaceAll("|", ",")
      .replace(/\brdonly\b/, "ro"),
    op.data,
  ]
    .filter((t) => t !== "")
    .join(",");
  const shown = options === "" ? "" : ` (${options})`;
  const changes = (op.flags & (MS.REMOUNT | MS.PRIVATE | MS.SLAVE | MS.SHARED | MS.UNBINDABLE)) !== 0n;
  return changes ? `mount: change ${target}${shown}` : `mount ${/^[/<]/.test(source) ? source : op.fstype} on ${target}${shown}`;
}

function maps(text: string): string {
  return text
    .trim()
    .split("\n")
    .map((line) => {
      const [inside = 0, outside = 0, count = 0] = line.split(" ").map(Number);
      return count === 1 ? `${inside}=${outside}` : `${inside}-${inside + count - 1}=${outside}-${outside + count - 1}`;
    })
    .join(" ");
}

function limit(value: bigint): string {
  return value === RLIM_INFINITY ? "unlimited" : String(value);
}

function capabilities(mask: bigint): string {
  const names = capabilitiesOf(mask).map((name) => name.slice(4).toLowerCase());
  if (names.length === 0) return "(none)";
  return `${names.join(" ")} (${mask.toString(16).padStart(16, "0")})`;
}

function octal(mode: number): string {
  return `0${mode.toString(8)}`;
}

/** As a shell would need it; long texts are cut. */
function quote(text: string): string {
  const shown = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return /^[\w@%+=:,./-]+$/.test(shown) ? shown : JSON.stringify(shown);
}
