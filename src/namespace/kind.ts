/**
 * What the eight kinds of namespace have in common. A namespace wraps one resource of the kernel so that the processes in it see an
 * instance of their own. A container is a process for which enough of them are new.
 * @see namespaces(7)
 * @module
 */
import type { NamespaceType, OciSpec } from "#core/runtime-spec.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";

/** New (made by clone), shared with the engine's own, or one that lives already and is joined by its file. */
export type Membership = { readonly how: "new" } | { readonly how: "shared" } | { readonly how: "join"; readonly path: string };

export interface NamespaceRequest {
  readonly membership: Membership;
  readonly spec: OciSpec;
  readonly facts: HostFacts;
  /** A slot that is free again when the steps have run (those of `late`, for the PID namespace). */
  readonly slot: number;
}

/** What a kind adds to a plan. Missing = nothing. */
export interface Contribution {
  /** For the `clone` step. */
  readonly cloneFlags?: bigint;
  /** In the monitor before `clone`: what the child is to inherit. */
  readonly before?: readonly Step[];
  /** In the child before it makes the other namespaces, which `clone` then does not. */
  readonly enter?: readonly Step[];
  /** In the monitor after `clone`: what only the host may write for the child. */
  readonly host?: readonly Step[];
  /** In the child first of all: becoming root of its user namespace, parting from the host's mounts. */
  readonly root?: readonly Step[];
  /** In the child, when its root is furnished. */
  readonly child?: readonly Step[];
  /** In the child, after the host has joined it to its cgroups and wired its network. */
  readonly ready?: readonly Step[];
  /** In the child, when it is in its root and still has all its rights. */
  readonly late?: readonly Step[];
  /** Its process joins when it is reborn, and must not be seen there before. */
  readonly reborn?: true;
}

export interface NamespaceKind {
  readonly type: NamespaceType;
  /** CLONE_NEW… */
  readonly flag: bigint;
  /** The flag's name, as clone(2) has it. */
  readonly flagName: string;
  /** Name of the file below /proc/PID/ns. */
  readonly file: string;
  readonly man: string;
  /** What a process in a new one sees, in one sentence for a learner. */
  readonly isolates: string;
  contribute(request: NamespaceRequest): Contribution;
}

/** How this spec wants a kind. */
export function membershipOf(spec: OciSpec, type: NamespaceType): Membership {
  const entry = spec.linux?.namespaces.find((n) => n.type === type);
  if (entry === undefined) return { how: "shared" };
  return entry.path === undefined || entry.path === "" ? { how: "new" } : { how: "join", path: entry.path };
}

/**
 * Joins by file, in the monitor before `clone`: a child inherits its parent's namespaces, and the host's rights are needed, which a child in
 * a new user namespace would no longer have. The monitor itself is in nobody's way there: it only copies bytes.
 */
export function joinSteps(kind: NamespaceKind, path: string, slot: number, why: string): Step[] {
  const section = "Join the namespaces of another container";
  return [
    {
      op: "openat",
      dir: NO_SLOT,
      path,
      flags: 0n,
      mode: 0,
      out: slot,
      where: "host",
      why: `the ${kind.type} namespace that ${path} stands for`,
      see: "namespaces(7)",
      section,
    },
    { op: "setns", fd: slot, flags: kind.flag, where: "host", why, see: kind.man },
    { op: "close", slot, where: "host", why: "joined; the descriptor is of no more use" },
  ];
}

/** The contribution of a kind that needs nothing but its clone flag, or to be joined. */
export function plainContribution(kind: NamespaceKind, { membership, slot }: NamespaceRequest, joinWhy: string): Contribution {
  if (membership.how === "new") return { cloneFlags: kind.flag };
  if (membership.how === "join") return { before: joinSteps(kind, membership.path, slot, joinWhy) };
  return {};
}
