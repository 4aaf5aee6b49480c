/**
 * Paths of /proc and /sys that a container may not read, or not write.
 *
 * Each target is opened once and then used by its descriptor, so that nothing can be put in its place between two steps (CVE-2021-30465,
 * CVE-2019-19921 were such races).
 * @module
 */
import { AT_RECURSIVE, MOUNT_ATTR, MS, O, OPEN_TREE_CLONE } from "#linux/flags.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT, SLOT_BASE } from "#linux/plan.ts";
import type { Draft } from "./draft.ts";
import { type KernelTrees, kernelPath } from "./kernel-trees.ts";
import { slots } from "./slots.ts";

/** What is a directory among the paths that are masked by default; a kernel without the feature lacks the path. */
const knownDirectories = new Set(["/proc/asound", "/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"]);
const knownFiles = new Set([
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/sched_debug",
  "/proc/interrupts",
]);

const maskWhy: Readonly<Record<string, string>> = {
  "/proc/asound": "sound hardware of the host",
  "/proc/acpi": "the host's power management",
  "/proc/kcore": "the host's memory",
  "/proc/keys": "the host's keyrings",
  "/proc/latency_stats": "what the host's kernel waits for",
  "/proc/timer_list": "timers of all the host's processes",
  "/proc/timer_stats": "timers of all the host's processes",
  "/proc/sched_debug": "tasks of the whole host",
  "/proc/scsi": "disks of the host (and commands to remove them)",
  "/sys/firmware": "the host's firmware and its tables",
  "/sys/devices/virtual/powercap": "power meters, from which secrets of other programs can be guessed",
};

/** Covers files with the container's own /dev/null and directories with an empty read-only tmpfs. */
export function planMaskedPaths(draft: Draft, paths: readonly string[], kernel: KernelTrees): void {
  if (paths.length === 0) return;
  draft.section("What it must not see of the host");
  const nothing = draft.take();
  draft.child({ op: "openat", dir: slots.root, path: "dev/null", flags: O.PATH, mode: 0, out: nothing }, "the container's own /dev/null, to cover files with");
  // CVE-2025-31133: some other file in its place would be shown instead of being hidden.
  draft.child({ op: "expect_device", slot: nothing, major: 1, minor: 3 }, "it may be something else where /dev is the image's or a volume's");
  for (const path of paths) {
    const why = `hides ${maskWhy[path] ?? path}`;
    const at = kernelPath(kernel, path);
    const file = () =>
      draft.child({ op: "mount", source: `/proc/self/fd/${SLOT_BASE + nothing}`, ...at, fstype: "", flags: MS.BIND, data: "" }, why, {
        ignore: knownFiles.has(path) ? ["ENOENT"] : ["ENOENT", "ENOTDIR"],
      });
    const directory = () =>
      draft.child({ op: "mount", source: "tmpfs", ...at, fstype: "tmpfs", flags: MS.RDONLY, data: "" }, why, {
        ignore: knownDirectories.has(path) ? ["ENOENT"] : ["ENOENT", "ENOTDIR"],
      });
    // A plan cannot look: where it is not known which it is, one of the two is refused with ENOTDIR and the other works.
    if (!knownDirectories.has(path)) file();
    if (!knownFiles.has(path)) directory();
  }
  draft.release(nothing);
}

const readonlyWhy: Readonly<Record<string, string>> = {
  "/proc/bus": "settings of the host's buses",
  "/proc/fs": "settings of the host's filesystems",
  "/proc/irq": "which CPU serves the host's interrupts",
  "/proc/sys": "the kernel's settings, most of which are the whole host's",
  "/proc/sysrq-trigger": "one letter written here can reboot the host",
};

/** Mounts each path over itself, read-only. */
export function planReadonlyPaths(draft: Draft, paths: readonly string[], facts: HostFacts, kernel: KernelTrees): void {
  if (paths.length === 0) return;
  draft.section("What it must not change of the host");
  const [target, copy] = [draft.take(), draft.take()];
  for (const path of paths) {
    const why = `protects ${readonlyWhy[path] ?? path}`;
    const missing = { ignore: ["ENOENT"] };
    if (!facts.mountSetattr) {
      // Linux 5.10 and 5.11 cannot change a mount before it is attached.
      const at = { op: "mount", ...kernelPath(kernel, path), fstype: "", data: "" } as const;
      draft.child({ op: "openat", ...kernelPath(kernel, path), flags: O.PATH, mode: 0, out: target }, `the place of ${path}`, missing);
      draft.child({ ...at, source: `/proc/self/fd/${SLOT_BASE + target}`, flags: MS.BIND | MS.REC }, "mounted over itself", missing);
      draft.child({ ...at, source: "none", flags: MS.BIND | MS.REMOUNT | MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC }, why, missing);
      continue;
    }
    // Where the path does not exist, the steps that follow find an empty slot: EBADF says just that.
    const skipped = { ignore: ["EBADF"] };
    draft.child({ op: "openat", ...kernelPath(kernel, path), flags: O.PATH, mode: 0, out: target }, `the place of ${path}`, missing);
    draft.child({ op: "open_tree", dir: target, path: "", flags: OPEN_TREE_CLONE | AT_RECURSIVE, out: copy }, "a second mount of it", skipped);
    draft.child({ op: "mount_setattr", mnt: copy, set: MOUNT_ATTR.RDONLY, clr: 0n, propagation: 0n, recursive: 1, userns: NO_SLOT }, why, skipped);
    draft.child({ op: "move_mount", mnt: copy, dir: target, path: "" }, `over ${path} itself`, skipped);
    draft.child({ op: "close", slot: target }, "done with this one", skipped);
  }
  draft.release(target);
  draft.release(copy);
}
