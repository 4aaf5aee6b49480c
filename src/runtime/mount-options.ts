/**
 * Mount options as fstab writes them → flags of mount(2) and attributes of mount_setattr(2).
 * @module
 * @see mount(8), runtime-spec config.md "Mounts"
 */
import { own } from "#core/own.ts";
import { MOUNT_ATTR, MS } from "#linux/flags.ts";

export interface MountOptions {
  /** MS_* without propagation. */
  readonly flags: bigint;
  /** MS_PRIVATE/SLAVE/SHARED/UNBINDABLE, or 0n. */
  readonly propagation: bigint;
  readonly propagationRecursive: boolean;
  /** Attributes for a bind: what to set and clear. */
  readonly set: bigint;
  readonly clr: bigint;
  /** The attributes are for everything below, too ("rro" …). */
  readonly recursiveSet: bigint;
  readonly recursiveClr: bigint;
  readonly recursiveBind: boolean;
  /** The owners of all below are shifted, too: "ridmap", and a recursive bind that does not say "idmap". */
  readonly recursiveIdmap: boolean;
  /** "tmpcopyup": a tmpfs begins with what the directory below it holds. */
  readonly copyUp: boolean;
  /** What is left is for the filesystem: "size=64m,mode=755". */
  readonly data: string;
}

const attributes: Readonly<Record<string, readonly [ms: bigint, attr: bigint, clear: boolean]>> = {
  ro: [MS.RDONLY, MOUNT_ATTR.RDONLY, false],
  rw: [MS.RDONLY, MOUNT_ATTR.RDONLY, true],
  nosuid: [MS.NOSUID, MOUNT_ATTR.NOSUID, false],
  suid: [MS.NOSUID, MOUNT_ATTR.NOSUID, true],
  nodev: [MS.NODEV, MOUNT_ATTR.NODEV, false],
  dev: [MS.NODEV, MOUNT_ATTR.NODEV, true],
  noexec: [MS.NOEXEC, MOUNT_ATTR.NOEXEC, false],
  exec: [MS.NOEXEC, MOUNT_ATTR.NOEXEC, true],
  noatime: [MS.NOATIME, MOUNT_ATTR.NOATIME, false],
  atime: [MS.NOATIME, MOUNT_ATTR.NOATIME, true],
  nodiratime: [MS.NODIRATIME, MOUNT_ATTR.NODIRATIME, false],
  diratime: [MS.NODIRATIME, MOUNT_ATTR.NODIRATIME, true],
  strictatime: [MS.STRICTATIME, MOUNT_ATTR.STRICTATIME, false],
  nosymfollow: [MS.NOSYMFOLLOW, MOUNT_ATTR.NOSYMFOLLOW, false],
  symfollow: [MS.NOSYMFOLLOW, MOUNT_ATTR.NOSYMFOLLOW, true],
};
/** Relative atime is the kernel's default: attribute value 0 of the atime field. */
const relatime = MS.RELATIME;
const plainFlags: Readonly<Record<string, bigint>> = {
  sync: MS.SYNCHRONOUS,
  dirsync: MS.DIRSYNC,
  mand: MS.MANDLOCK,
  silent: MS.SILENT,
  lazytime: MS.LAZYTIME,
  remount: MS.REMOUNT,
};
const propagations: Readonly<Record<string, bigint>> = { private: MS.PRIVATE, slave: MS.SLAVE, shared: MS.SHARED, unbindable: MS.UNBINDABLE };
const idmaps = ["idmap", "ridmap"];
const relatimes = ["relatime", "norelatime", "nostrictatime"];
const ignored = new Set(["defaults", "async", "loud", "nomand", "nolazytime", ...relatimes, ...idmaps, "tmpcopyup", ""]);

/** Every option that is not handed to the filesystem, sorted. */
export function mountOptionNames(): string[] {
  const recursive = [...Object.keys(attributes), ...Object.keys(propagations), ...relatimes];
  const plain = [...ignored, ...Object.keys(plainFlags), "bind", "rbind"].filter((name) => name !== "");
  return [...new Set([...plain, ...recursive, ...recursive.map((name) => `r${name}`)])].sort();
}

/** Later options win over earlier ones, as in mount(8). */
export function parseMountOptions(options: readonly string[]): MountOptions {
  let [flags, propagation, set, clr, recursiveSet, recursiveClr] = [0n, 0n, 0n, 0n, 0n, 0n];
  let [propagationRecursive, recursiveBind] = [false, false];
  const data = new Map<string, string>();
  for (const option of options) {
    const recursive =
      option.startsWith("r") && (own(attributes, option.slice(1)) ?? own(propagations, option.slice(1))) !== undefined && own(attributes, option) === undefined;
    const name = recursive ? option.slice(1) : option;
    const attribute = own(attributes, name);
    const propagates = own(propagations, name);
    const flag = own(plainFlags, option);
    if (attribute !== undefined) {
      const [ms, attr, clear] = attribute;
      flags = clear ? flags & ~ms : flags | ms;
      set = clear ? set & ~attr : set | attr;
      clr = clear ? clr | attr : clr & ~attr;
      if (recursive) {
        recursiveSet = clear ? recursiveSet & ~attr : recursiveSet | attr;
        recursiveClr = clear ? recursiveClr | attr : recursiveClr & ~attr;
      }
    } else if (propagates !== undefined) {
      propagation = propagates;
      propagationRecursive = recursive;
    } else if (option === "rrelatime" || option === "rnostrictatime" || option === "rnorelatime") {
      // Relative atime is the atime field's 0.
      set &= ~MOUNT_ATTR.ATIME;
      recursiveSet &= ~MOUNT_ATTR.ATIME;
      recursiveClr |= MOUNT_ATTR.ATIME;
    } else if (option === "bind") recursiveBind = false;
    else if (option === "rbind") recursiveBind = true;
    else if (option === "relatime") flags |= relatime;
    else if (flag !== undefined) flags |= flag;
    else if (!ignored.has(option)) data.set(option.split("=")[0] ?? option, option);
  }
  // An atime attribute is a field, not a bit: setting one of its values means clearing the field first.
  if ((set & MOUNT_ATTR.ATIME) !== 0n) clr |= MOUNT_ATTR.ATIME;
  if ((clr & MOUNT_ATTR.ATIME) !== 0n) clr |= MOUNT_ATTR.ATIME;
  if (((recursiveSet | recursiveClr) & MOUNT_ATTR.ATIME) !== 0n) recursiveClr |= MOUNT_ATTR.ATIME;
  return {
    flags,
    propagation,
    propagationRecursive,
    set,
    clr,
    recursiveSet,
    recursiveClr,
    recursiveBind,
    recursiveIdmap: options.includes("ridmap") || (recursiveBind && !options.includes("idmap")),
    copyUp: options.includes("tmpcopyup"),
    data: [...data.values()].join(","),
  };
}
