/**
 * Cgroup namespace: the container sees the cgroup it is in as the root of the hierarchy.
 *
 * The namespace's root is the cgroup that its maker is in at that moment. So the child makes it itself with unshare(2), and only after the
 * host has joined it to its cgroups; made by clone(2), its root would be the engine's own cgroup.
 * @see cgroup_namespaces(7)
 * @module
 */
import { CLONE } from "#linux/flags.ts";
import { joinSteps, type NamespaceKind } from "./kind.ts";

export const cgroupNamespace: NamespaceKind = {
  type: "cgroup",
  flag: CLONE.NEWCGROUP,
  flagName: "NEWCGROUP",
  file: "cgroup",
  man: "cgroup_namespaces(7)",
  isolates: "the container's cgroup looks like the root, and nothing above it can be named",
  contribute({ membership, slot }) {
    if (membership.how === "shared") return {};
    if (membership.how === "join") return { before: joinSteps(cgroupNamespace, membership.path, slot, "so that both containers see one cgroup root") };
    return {
      ready: [
        {
          op: "unshare",
          flags: CLONE.NEWCGROUP,
          where: "child",
          why: "makes the cgroup that it is in now the root of what it can see",
          see: "cgroup_namespaces(7)",
          section: "Cgroups inside",
        },
      ],
    };
  },
};
