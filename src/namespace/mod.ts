/**
 * Namespaces: one file per kind says what it isolates and what it adds to a container's plan. Nothing here acts.
 * @module
 * @see namespaces(7)
 */
import { cgroupNamespace } from "./cgroup.ts";
import { ipcNamespace } from "./ipc.ts";
import type { NamespaceKind } from "./kind.ts";
import { mountNamespace } from "./mount.ts";
import { netNamespace } from "./net.ts";
import { pidNamespace } from "./pid.ts";
import { timeNamespace } from "./time.ts";
import { userNamespace } from "./user.ts";
import { utsNamespace } from "./uts.ts";

/** In the order in which their steps come in a plan: user first, for the others belong to it. */
export const namespaceKinds: readonly NamespaceKind[] = [
  userNamespace,
  mountNamespace,
  utsNamespace,
  ipcNamespace,
  netNamespace,
  pidNamespace,
  cgroupNamespace,
  timeNamespace,
];

export { membershipOf, type Contribution, type Membership, type NamespaceKind } from "./kind.ts";
export { type ForeignProc, foreignProc } from "./pid.ts";
export { mapText } from "./user.ts";
