/**
 * Mount namespace: the tree of mounts. It starts as a copy of the host's; the root filesystem of the container is attached to it, made `/`,
 * and the copy of the host's tree is cut off.
 *
 * A container always has one of its own: without it there would be no root of its own.
 * @see mount_namespaces(7)
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { CLONE, MS } from "#linux/flags.ts";
import { NO_SLOT } from "#linux/plan.ts";
import type { NamespaceKind } from "./kind.ts";

export const mountNamespace: NamespaceKind = {
  type: "mount",
  flag: CLONE.NEWNS,
  flagName: "NEWNS",
  file: "mnt",
  man: "mount_namespaces(7)",
  isolates: "what it mounts and unmounts is not seen by the host, and it will see only its own root",
  contribute({ membership }) {
    if (membership.how !== "new")
      throw new EngineError("unsupported", "a container without a mount namespace of its own is not supported: it would share its root with the host");
    return {
      cloneFlags: CLONE.NEWNS,
      root: [
        {
          op: "mount",
          source: "none",
          dir: NO_SLOT,
          path: "/",
          fstype: "",
          flags: MS.SLAVE | MS.REC,
          data: "",
          where: "child",
          why: "what is mounted from here on must not propagate to the host (its own changes may still arrive)",
          see: "mount_namespaces(7)",
        },
      ],
    };
  },
};
