/**
 * Numbers of the kernel's interface that plans are made of, under the kernel's names.
 * @module
 * @see linux/sched.h, linux/mount.h, asm-generic/fcntl.h
 */

/** Namespace flags of clone(2), unshare(2) and setns(2). */
export const CLONE = {
  PARENT: 0x8000n,
  PARENT_SETTID: 0x100000n,
  NEWTIME: 0x80n,
  NEWNS: 0x20000n,
  NEWCGROUP: 0x2000000n,
  NEWUTS: 0x4000000n,
  NEWIPC: 0x8000000n,
  NEWUSER: 0x10000000n,
  NEWPID: 0x20000000n,
  NEWNET: 0x40000000n,
} as const;

/** mount(2). */
export const MS = {
  RDONLY: 1n,
  NOSUID: 2n,
  NODEV: 4n,
  NOEXEC: 8n,
  SYNCHRONOUS: 16n,
  REMOUNT: 32n,
  MANDLOCK: 64n,
  DIRSYNC: 128n,
  NOSYMFOLLOW: 256n,
  NOATIME: 1024n,
  NODIRATIME: 2048n,
  BIND: 4096n,
  REC: 16384n,
  SILENT: 32768n,
  UNBINDABLE: 0x20000n,
  PRIVATE: 0x40000n,
  SLAVE: 0x80000n,
  SHARED: 0x100000n,
  RELATIME: 0x200000n,
  STRICTATIME: 0x1000000n,
  LAZYTIME: 0x2000000n,
} as const;

/** fsmount(2), mount_setattr(2). */
export const MOUNT_ATTR = {
  RDONLY: 1n,
  NOSUID: 2n,
  NODEV: 4n,
  NOEXEC: 8n,
  NOATIME: 0x10n,
  STRICTATIME: 0x20n,
  ATIME: 0x70n,
  NODIRATIME: 0x80n,
  IDMAP: 0x100000n,
  NOSYMFOLLOW: 0x200000n,
} as const;

/** umount2(2): out of sight at once, gone when nobody uses it any more. */
export const MNT_DETACH = 2;

/** open_tree(2); AT_RECURSIVE may be added to a clone. */
export const OPEN_TREE_CLONE = 1;
export const AT_RECURSIVE = 0x8000;

/** openat2(2), the generic (x86) values. */
export const O = {
  RDONLY: 0n,
  WRONLY: 1n,
  RDWR: 2n,
  DIRECTORY: 0o200000n,
  NOFOLLOW: 0o400000n,
  CLOEXEC: 0o2000000n,
  PATH: 0o10000000n,
} as const;

/** Magic numbers of statfs(2). */
export const FS_MAGIC = { proc: 0x9fa0, sysfs: 0x62656572 } as const;

/** prctl(2). */
export const PR = { SET_PDEATHSIG: 1, SET_DUMPABLE: 4, SET_KEEPCAPS: 8, SET_NO_NEW_PRIVS: 38 } as const;

/** RLIMIT_* numbers by Docker's name, and the name that /proc/PID/limits uses. @see getrlimit(2) */
export const RLIMITS: Readonly<Record<string, { readonly number: number; readonly proc: string }>> = {
  cpu: { number: 0, proc: "Max cpu time" },
  fsize: { number: 1, proc: "Max file size" },
  data: { number: 2, proc: "Max data size" },
  stack: { number: 3, proc: "Max stack size" },
  core: { number: 4, proc: "Max core file size" },
  rss: { number: 5, proc: "Max resident set" },
  nproc: { number: 6, proc: "Max processes" },
  nofile: { number: 7, proc: "Max open files" },
  memlock: { number: 8, proc: "Max locked memory" },
  as: { number: 9, proc: "Max address space" },
  locks: { number: 10, proc: "Max file locks" },
  sigpending: { number: 11, proc: "Max pending signals" },
  msgqueue: { number: 12, proc: "Max msgqueue size" },
  nice: { number: 13, proc: "Max nice priority" },
  rtprio: { number: 14, proc: "Max realtime priority" },
  rttime: { number: 15, proc: "Max realtime timeout" },
};
export const RLIM_INFINITY: bigint = (1n << 64n) - 1n;

/** Names of the bits that are set, in the table's order; rest in hex. For people. */
export function flagNames(table: Readonly<Record<string, bigint>>, flags: bigint): string {
  const names: string[] = [];
  let rest = flags;
  for (const [name, bit] of Object.entries(table)) {
    if (bit === 0n || (rest & bit) !== bit) continue;
    names.push(name);
    rest &= ~bit;
  }
  if (rest !== 0n) names.push(`0x${rest.toString(16)}`);
  return names.join("|");
}
