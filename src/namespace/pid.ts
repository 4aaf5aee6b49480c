/**
 * PID namespace: the container's first process is number 1 in it, and sees no process outside.
 *
 * The kernel numbers a process once in its own namespace and once in every one above, so the host sees it too, under another number. When
 * process 1 ends, the kernel kills all others in the namespace: that is why a container stops when its main process does.
 *
 * setns(2) for a PID namespace does not move the caller, only the children it makes afterwards. Whoever is in the other container may see, and with
 * CAP_SYS_PTRACE take over, what is born there. So a process that joins is made outside, and reborn inside when it has nothing of the host any more.
 * @see pid_namespaces(7)
 * @module
 */
import { CLONE } from "#linux/flags.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import { joinSteps, membershipOf, type NamespaceKind } from "./kind.ts";

/** How a process outside of a PID namespace gets a /proc that shows it. */
export type ForeignProc =
  | { readonly how: "option" }
  /** A copy of the mount that this process has. */
  | { readonly how: "copy"; readonly pid: string };

/** Undefined: there is no way, so the process has to be born there. */
export function foreignProc(path: string, facts: HostFacts): ForeignProc | undefined {
  if (facts.procPidns === true) return { how: "option" };
  const pid = /^\/proc\/([1-9][0-9]*)\/ns\/pid$/.exec(path)?.[1];
  return pid === undefined ? undefined : { how: "copy", pid };
}

export const pidNamespace: NamespaceKind = {
  type: "pid",
  flag: CLONE.NEWPID,
  flagName: "NEWPID",
  file: "pid",
  man: "pid_namespaces(7)",
  isolates: "process numbers start at 1 again, and no process of the host can be seen or signalled",
  contribute({ membership, spec, facts, slot }) {
    if (membership.how === "new") return { cloneFlags: CLONE.NEWPID };
    if (membership.how === "shared") return {};
    const { path } = membership;
    if (foreignProc(path, facts) === undefined)
      return { before: joinSteps(pidNamespace, path, slot, "so that the child is born among the other container's processes") };
    const section = "Join the namespaces of another container";
    const why = `the pid namespace that ${path} stands for`;
    const join: readonly Step[] = [
      {
        op: "setns",
        fd: slot,
        flags: CLONE.NEWPID,
        where: "child",
        why: "its children are the other container's; it becomes one at the very end",
        see: "pid_namespaces(7)",
      },
      { op: "close", slot, where: "child", why: "joined; the descriptor is of no more use" },
    ];
    return {
      reborn: true,
      before: [{ op: "openat", dir: NO_SLOT, path, flags: 0n, mode: 0, out: slot, where: "host", why, see: "namespaces(7)", section }],
      host: [{ op: "close", slot, where: "host", why: "the child has it" }],
      // In a user namespace it would lack the right.
      ...(membershipOf(spec, "user").how === "shared" ? { late: join } : { enter: join }),
    };
  },
};
