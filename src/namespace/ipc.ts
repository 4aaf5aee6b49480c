/**
 * IPC namespace: System V shared memory, semaphores and message queues, and POSIX message queues. (POSIX shared memory is files: it is
 * private because /dev/shm is a mount of the container's own.)
 * @see ipc_namespaces(7)
 * @module
 */
import { CLONE } from "#linux/flags.ts";
import { type NamespaceKind, plainContribution } from "./kind.ts";

export const ipcNamespace: NamespaceKind = {
  type: "ipc",
  flag: CLONE.NEWIPC,
  flagName: "NEWIPC",
  file: "ipc",
  man: "ipc_namespaces(7)",
  isolates: "shared memory segments, semaphores and message queues of the host do not exist here",
  contribute: (request) => plainContribution(ipcNamespace, request, "so that both containers can share memory"),
};
