/**
 * OCI runtime spec → the steps that start a container. Pure.
 *
 * In outline: the monitor makes the root filesystem and the cgroup, clones a child into new namespaces, and wires its network; the child
 * furnishes its root (/proc, /dev, binds), moves into it, gives up its rights and becomes the program.
 * @module
 */
import { own } from "#core/own.ts";
import { EngineError } from "#core/errors.ts";
import type { OciMount, OciSpec } from "#core/runtime-spec.ts";
import { AT_RECURSIVE, CLONE, MNT_DETACH, MOUNT_ATTR, MS, OPEN_TREE_CLONE } from "#linux/flags.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { type Contribution, foreignProc, membershipOf, namespaceKinds } from "#namespace/mod.ts";
import { Draft } from "./draft.ts";
import type { PlanInput, Planner } from "./mod.ts";
import { planCgroupMount } from "./plan-cgroup-mount.ts";
import { planDelegation } from "./plan-delegation.ts";
import { planDevices } from "./plan-devices.ts";
import { inRoot, isBind, openBinds, openForeignProc, openForeignSysfs, planMounts } from "./plan-mounts.ts";
import { closeKernelTrees, type KernelTrees, kernelPath, openKernelTrees } from "./kernel-trees.ts";
import { planMaskedPaths, planReadonlyPaths } from "./plan-paths.ts";
import { planLabels } from "./process-attributes.ts";
import { planHooks, planListener, planOomScore, planProcess, planStartFifo } from "./plan-process.ts";
import { planLegacyOverlay, labelledRoot, planRoot } from "./plan-root.ts";
import { KEEP_ALL } from "./rebirth.ts";
import { seccompFlags } from "./seccomp.ts";
import { points, slots } from "./slots.ts";

/** Where `--init` is seen. */
const INIT_PATH = "/sbin/docker-init";

/** @see PlanInput */
export const planContainer: Planner = (given) => {
  const { spec, facts } = given;
  const input = { ...given, root: labelledRoot(given.root, { files: spec.linux?.mountLabel, processes: spec.process.selinuxLabel }) };
  const draft = new Draft();
  const userns = membershipOf(spec, "user").how !== "shared";
  // A namespace that is joined has its mappings already.
  const { uidMappings: uids = [], gidMappings: gids = [] } = membershipOf(spec, "user").how === "new" ? (spec.linux ?? {}) : {};
  const mapping = userns && uids.length > 0 ? { uids, gids } : undefined;
  const mounts = withInit(spec.mounts ?? [], input.initBinary);
  const context = {
    facts,
    label: spec.linux?.mountLabel,
    files: new Set([...(input.files ?? []), ...(input.initBinary === undefined ? [] : [INIT_PATH])]),
    userns,
  };
  // For joining namespaces; kept until that is done, since binds are opened before.
  const [joinSlot, userSlot, pidSlot] = [draft.take(), draft.take(), draft.take()];
  const slotOf = (type: string) => (type === "user" ? userSlot : type === "pid" ? pidSlot : joinSlot);
  const namespaces = namespaceKinds.map((kind) => kind.contribute({ membership: membershipOf(spec, kind.type), spec, facts, slot: slotOf(kind.type) }));
  const reborn = namespaces.some((kind) => kind.reborn === true);
  if (reborn && userns && (input.hooks?.createContainer ?? []).length > 0)
    throw new EngineError("unsupported", "createContainer hooks cannot run for a container that joins a PID namespace and has a user namespace", {
      hint: "a hook would be seen by the other container's processes, with the engine's view of the host",
    });

  draft.add(...(input.preparation ?? []));
  const root = planRoot(draft, input.root, { facts, mapping });
  const binds = openBinds(draft, mounts, context);
  const fifo = planStartFifo(draft, input.detached);
  planListener(draft, input.detached);
  const foreign = userns && membershipOf(spec, "network").how === "join";
  const hostSlots = planClone(draft, input, namespaces, () => {
    if (foreign) openForeignSysfs(draft, mounts, binds);
    const pid = membershipOf(spec, "pid");
    const from = pid.how === "join" ? foreignProc(pid.path, facts) : undefined;
    if (from !== undefined) openForeignProc(draft, mounts, binds, { from, pidns: pidSlot });
  });
  draft.release(joinSlot);
  draft.release(userSlot);
  if (!reborn) draft.release(pidSlot);
  const waits = planHostAfterClone(draft, input, namespaces, userns);

  // The child.
  draft.section("A root of its own");
  if (waits.mapped) draft.child({ op: "await", id: points.mapped }, "until its users are mapped");
  if (!userns) planOomScore(draft, spec.process);
  if (reborn) planLabels(draft, spec.process); // while /proc is the host's: in the container's it has no number yet
  for (const { root: steps } of namespaces) draft.add(...(steps ?? []));
  draft.child({ op: "umask", mask: 0 }, "the modes of what is made next are meant exactly");
  attachRoot(draft, input, root);
  draft.section("The kernel's filesystems, and what was asked for");
  planMounts(draft, mounts, binds, context);
  planWorkingDirectory(draft, spec);
  if (!mounts.some((m) => m.destination === "/dev" && isBind(m))) planDevices(draft, spec.linux?.devices ?? [], userns);
  for (const { child } of namespaces) draft.add(...(child ?? []));
  planReady(draft, input, namespaces, waits.ready);
  const kernel = openKernelTrees(draft, mounts);
  planSysctls(draft, spec, kernel);
  planTerminal(draft, input, reborn);
  planContainerHooks(draft, input);
  planMaskedPaths(draft, spec.linux?.maskedPaths ?? [], kernel);
  planReadonlyPaths(draft, spec.linux?.readonlyPaths ?? [], facts, kernel);
  closeKernelTrees(draft, kernel);
  enterRoot(draft, input, hostSlots, namespaces);
  planProcess(draft, {
    process: spec.process,
    seccomp: input.seccomp,
    seccompFlags: seccompFlags(spec.linux?.seccomp),
    personality: spec.linux?.personality,
    ...(reborn ? { rebirth: { arch: facts.kernel.arch }, labelled: true } : {}),
    ...(input.detached === undefined ? {} : { detached: input.detached, fifo }),
    startContainer: input.hooks?.startContainer,
    ...(input.initBinary === undefined ? {} : { init: { path: INIT_PATH, argv: [INIT_PATH, "--", ...spec.process.args] } }),
  });
  return draft.plan();
};

function withInit(mounts: readonly OciMount[], initBinary: string | undefined): readonly OciMount[] {
  if (initBinary === undefined) return mounts;
  return [...mounts, { destination: INIT_PATH, type: "bind", source: initBinary, options: ["bind", "rprivate", "ro"] }];
}

/** Steps under the heading of the paragraph they are put in. */
function unheaded(steps: readonly Step[]): Step[] {
  return steps.map(({ section: _section, ...step }) => step);
}

/** Cgroup, namespaces that are joined, and the clone itself. Returns the slots that hold things of the host, which the child must close. */
function planClone(draft: Draft, { cgroup, spec, facts }: PlanInput, namespaces: readonly Contribution[], joined: () => void): number[] {
  if (cgroup !== undefined) {
    draft.section("Limits and accounting: its cgroup");
    draft.add(...unheaded(cgroup.create));
    planDelegation(draft, spec, cgroup, facts);
  }
  for (const { before } of namespaces) draft.add(...(before ?? []));
  joined();
  const hostSlots: number[] = [];
  if (cgroup?.cloneInto !== undefined) {
    draft.add(...unheaded(cgroup.cloneInto.steps));
    if (cgroup.cloneInto.slot !== NO_SLOT) hostSlots.push(cgroup.cloneInto.slot);
  }
  const flags = namespaces.reduce((all, { cloneFlags = 0n }) => all | cloneFlags, 0n);
  // The user namespace last: with it the host's rights go.
  const enter = namespaces.toReversed().flatMap(({ enter: steps }) => steps ?? []);
  draft.section("The process, in new namespaces");
  draft.host(
    { op: "clone", flags: enter.length > 0 ? 0n : flags, cgroup: cgroup?.cloneInto?.slot ?? NO_SLOT },
    enter.length > 0
      ? "the process that will make its namespaces itself"
      : "one call makes the container's first process and the namespaces that it alone is in",
    { see: "namespaces(7)" },
  );
  if (enter.length > 0) {
    draft.add(...enter);
    draft.child({ op: "unshare", flags }, "namespaces of its own, which belong to the user namespace that it is in now", { see: "namespaces(7)" });
    if ((flags & CLONE.NEWPID) !== 0n)
      draft.child({ op: "rebirth", keep: KEEP_ALL, also: NO_SLOT }, "only a child of it is in the new PID namespace", { see: "pid_namespaces(7)" });
    draft.child({ op: "signal", id: points.born }, "its namespaces are there");
    draft.host({ op: "await", id: points.born }, "until the container's first process and its namespaces are there");
  }
  return hostSlots;
}

/** What the monitor does while the child furnishes its root, and what the child has to wait for. */
function planHostAfterClone(
  draft: Draft,
  { spec, cgroup, network, attachGate, lateUnmount, lateRemoval, hooks }: PlanInput,
  namespaces: readonly Contribution[],
  userns: boolean,
): { mapped: boolean; ready: boolean } {
  draft.add(...unheaded(cgroup?.join ?? []));
  for (const { host } of namespaces) draft.add(...(host ?? []));
  if (userns) planOomScore(draft, spec.process, true);
  if (userns) draft.host({ op: "signal", id: points.mapped }, "the child may become root of its namespace");
  const wires = network.filter((step) => step.where === "host");
  if (wires.length > 0) {
    draft.section("Wire its network");
    draft.add(...wires);
  }
  planHooks(draft, hooks?.createRuntime, "a hook of the spec, before the container goes on", "host");
  // With cloneInto the child is born in its cgroup.
  const ready = (hooks?.createRuntime ?? []).length > 0 || wires.length > 0 || (cgroup !== undefined && cgroup.cloneInto === undefined);
  if (ready) draft.host({ op: "signal", id: points.ready }, "the child may go on");
  if (lateUnmount === true && membershipOf(spec, "mount").how === "new") {
    // A child that is gone already has failed, and will say so itself.
    draft.host({ op: "hold_ns", name: "mnt" }, "its mounts are taken down when its end has been told: nobody waits for that", {
      ignore: ["ENOENT", "ESRCH", "EACCES"],
    });
  }
  if (lateRemoval !== undefined)
    draft.host(
      { op: "rmdir_late", paths: lateRemoval },
      "its cgroup goes when its end has been told: nobody waits for that, and the engine need not see to it",
    );
  if (attachGate) draft.host({ op: "attach_gate" }, "the program starts when those who want its output from the start are listening");
  return { mapped: userns, ready };
}

/** Brings the detached root into the child's mount namespace: on top of the old root, where nothing looks until pivot_root. */
function attachRoot(draft: Draft, input: PlanInput, root: "detached" | "in-child"): void {
  if (root === "in-child" && input.root.kind === "overlay") planLegacyOverlay(draft, input.root);
  else {
    if (input.root.kind === "bind" && input.facts.mountSetattr) {
      draft.child(
        { op: "mount_setattr", mnt: slots.root, set: 0n, clr: 0n, propagation: MS.PRIVATE, recursive: 1, userns: NO_SLOT },
        "what it mounts inside does not appear in the directory on the host",
      );
    }
    draft.child({ op: "move_mount", mnt: slots.root, dir: NO_SLOT, path: "/" }, "attaches the container's root on top of the old one");
    if (input.root.kind === "bind" && !input.facts.mountSetattr) {
      draft.child(
        { op: "mount", source: "none", dir: slots.root, path: "", fstype: "", flags: MS.PRIVATE | MS.REC, data: "" },
        "what it mounts inside does not appear in the directory on the host",
      );
    }
  }
}

/** They see the container's mounts as they will be, at a place of its own mount namespace that ends with pivot_root. */
function planContainerHooks(draft: Draft, { hooks }: PlanInput): void {
  const run = hooks?.createContainer ?? [];
  if (run.length === 0) return;
  if (hooks?.rootAt !== undefined) {
    const copy = draft.take();
    draft.child({ op: "open_tree", dir: slots.root, path: "", flags: OPEN_TREE_CLONE | AT_RECURSIVE, out: copy }, "the container's root once more");
    draft.child({ op: "move_mount", mnt: copy, dir: NO_SLOT, path: hooks.rootAt }, "where hooks look for it");
    draft.child({ op: "close", slot: copy }, "attached");
    draft.release(copy);
  }
  planHooks(draft, run, "a hook of the spec, before the container's root is entered");
}

/** From here on the child is in its cgroup and its interfaces exist. */
function planReady(draft: Draft, { spec, facts, cgroup, network }: PlanInput, namespaces: readonly Contribution[], wait: boolean): void {
  if (wait) draft.child({ op: "await", id: points.ready }, "until the host has joined it to its cgroup and wired its network");
  draft.add(...network.filter((step): step is Step => step.where === "child"));
  for (const { ready } of namespaces) draft.add(...(ready ?? []));
  const ownNamespace = membershipOf(spec, "cgroup").how !== "shared";
  for (const mount of spec.mounts ?? []) {
    if (mount.type === "cgroup" || mount.type === "cgroup2") planCgroupMount(draft, mount, facts, ownNamespace, cgroup?.paths);
  }
}

function planSysctls(draft: Draft, spec: OciSpec, kernel: KernelTrees): void {
  const sysctls = Object.entries(spec.linux?.sysctl ?? {});
  if (sysctls.length > 0) draft.section("Kernel settings of its namespaces");
  for (const [name, value] of sysctls) {
    draft.child(
      { op: "write", ...kernelPath(kernel, `/proc/sys/${sysctlPath(name)}`), flags: 0n, data: new TextEncoder().encode(value) },
      `${name} = ${value}`,
      { see: "sysctl(8)" },
    );
  }
}

/** "net.ipv4.ip_forward" → "net/ipv4/ip_forward"; with "/" first, dots are part of names (interfaces), as in sysctl(8). */
export function sysctlPath(name: string): string {
  const separator = /[./]/.exec(name)?.[0];
  const path = separator === "/" ? name : name.replace(/[./]/g, (c) => (c === "." ? "/" : "."));
  if (path.split("/").some((part) => part === "" || part === "." || part === "..")) throw new EngineError("invalid", `sysctl "${name}" is not a name`);
  return path;
}

function planTerminal(draft: Draft, { tty, detached }: PlanInput, reborn: boolean): void {
  draft.section(tty ? "Its terminal" : "Its standard streams");
  draft.child({ op: "setsid" }, "a session of its own, so that it gets no signals from the engine's terminal");
  if (detached !== undefined && !tty) return; // its descriptors 0, 1 and 2 are the caller's
  if (tty) draft.child({ op: "mkfile", dir: slots.root, path: "dev/console", mode: 0o600, parents: 1 }, "the place of /dev/console");
  draft.child(
    { op: "stdio", console: tty ? (reborn ? 3 : 1) : 0 },
    tty ? "a new terminal as its descriptors 0, 1 and 2, and as /dev/console" : "descriptors 0, 1 and 2 are the monitor's pipes",
  );
}

/** Docker makes a WORKDIR that the image lacks. */
function planWorkingDirectory(draft: Draft, spec: OciSpec): void {
  const cwd = inRoot(spec.process.cwd);
  if (cwd !== "")
    draft.child({ op: "mkdir", dir: slots.root, path: cwd, mode: 0o755, uid: 0, gid: 0, parents: 1 }, "the working directory, if the image lacks it");
}

/** pivot_root, and no way back. */
function enterRoot(draft: Draft, { spec, facts, id, detached }: PlanInput, hostSlots: readonly number[], namespaces: readonly Contribution[]): void {
  draft.section("Move in");
  if (spec.root.readonly === true) {
    if (facts.mountSetattr)
      draft.child(
        { op: "mount_setattr", mnt: slots.root, set: MOUNT_ATTR.RDONLY, clr: 0n, propagation: 0n, recursive: 0, userns: NO_SLOT },
        "the root filesystem itself is read-only; volumes and tmpfs are not",
      );
    else
      draft.child(
        { op: "mount", source: "none", dir: slots.root, path: "", fstype: "", flags: MS.BIND | MS.REMOUNT | MS.RDONLY, data: "" },
        "the root filesystem itself is read-only; volumes and tmpfs are not",
      );
  }
  if (detached?.noPivot === true) planChroot(draft, spec);
  else draft.child({ op: "pivot_root", root: slots.root }, "the container's root becomes /, and the host's tree is gone for it");
  const wanted = spec.linux?.rootfsPropagation ?? "";
  const propagation = own(rootPropagation, wanted);
  if (wanted !== "" && propagation === undefined) throw new EngineError("invalid", `rootfsPropagation "${wanted}" is unknown`);
  if (propagation !== undefined)
    draft.child(
      { op: "mount", source: "none", dir: NO_SLOT, path: "/", fstype: "", flags: propagation, data: "" },
      `how mounts propagate: ${spec.linux?.rootfsPropagation}`,
    );
  for (const { late } of namespaces) draft.add(...(late ?? []));
  // A descriptor of a host directory would be a way out, by way of /proc/self/fd (CVE-2024-21626).
  for (const slot of hostSlots) draft.child({ op: "close", slot }, "a descriptor of a host directory would be a way out");
  draft.child({ op: "close", slot: slots.root }, "no descriptor of the engine is left when paths of the container are used");
  if (detached?.noKeyring !== true)
    draft.child({ op: "keyring", name: `_ses.${id ?? ""}` }, "a session keyring of its own: the engine's keys stay the engine's", {
      see: "session-keyring(7)",
      ignore: ["ENOSYS"],
    });
}

/**
 * The kernel moves no root that is the initial ramdisk. The container's root covers it: who breaks out of the chroot comes to the same place again. But a
 * /proc that is mounted anywhere in the namespace, with nothing hidden, is leave to mount another.
 */
function planChroot(draft: Draft, spec: OciSpec): void {
  if (membershipOf(spec, "user").how !== "shared")
    throw new EngineError("unsupported", "--no-pivot is not supported with a user namespace: the host's /proc could not be taken away from the container");
  for (const path of ["/proc", "/sys"])
    draft.child({ op: "umount", dir: NO_SLOT, path, flags: MNT_DETACH }, `the host's ${path} is no leave to mount one without masks`, {
      ignore: ["EINVAL", "ENOENT"],
    });
  draft.child({ op: "chroot", dir: slots.root }, "the container's root becomes /: the host's tree is below it, where nothing leads", { see: "chroot(2)" });
}

const rootPropagation: Readonly<Record<string, bigint>> = {
  shared: MS.SHARED,
  rshared: MS.SHARED | MS.REC,
  slave: MS.SLAVE,
  rslave: MS.SLAVE | MS.REC,
  private: MS.PRIVATE,
  rprivate: MS.PRIVATE | MS.REC,
  unbindable: MS.UNBINDABLE,
  runbindable: MS.UNBINDABLE | MS.REC,
};
