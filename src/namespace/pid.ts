/**
 * PID namespace: the container's first process is number 1 in it, and sees no process outside.
 *
 * The kernel numbers a process once in its own namespace and once in every one above, so the host sees it too, under another number. When
 * process 1 ends, the kernel kills all others in the namespace: that is why a container stops when its main process does.
 * @see pid_namespaces(7)
 * @module
 */
import { CLONE } from "#linux/flags.ts";
import { type NamespaceKind, plainContribution } from "./kind.ts";

export const pidNamespace: NamespaceKind = {
  type: "pid",
  flag: CLONE.NEWPID,
  flagName: "NEWPID",
  file: "pid",
  man: "pid_namespaces(7)",
  isolates: "process numbers start at 1 again, and no process of the host can be seen or signalled",
  // setns(2) for a PID namespace does not move the caller, only the children it makes afterwards: before `clone` is the only right place.
  contribute: (request) => plainContribution(pidNamespace, request, "so that the child is born among the other container's processes"),
};
