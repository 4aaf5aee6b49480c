/**
 * User namespace: uids and gids mean something else inside. Root of the container is a user without rights on the host, and its
 * capabilities count only for what the namespace owns (the other new namespaces).
 *
 * Asked for with `--userns`. The maps can be written only once, from outside, after `clone` and before the child does anything as root.
 * Joined by path, it must own what else is new, or its root could not mount there: the child joins it first, and makes the others then.
 * @see user_namespaces(7)
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { IdMapping } from "#core/runtime-spec.ts";
import { CLONE } from "#linux/flags.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";
import type { NamespaceKind } from "./kind.ts";

/** The kernel's text form: "inside outside count" a line. */
export function mapText(mappings: readonly IdMapping[]): string {
  return mappings.map((m) => `${m.containerID} ${m.hostID} ${m.size}\n`).join("");
}

const becomeRoot: readonly Step[] = [
  { op: "setresgid", gid: 0, where: "child", why: "group 0 of the new namespace, no longer the host's" },
  { op: "setresuid", uid: 0, where: "child", why: "root of the new namespace: all capabilities here, none outside" },
];

export const userNamespace: NamespaceKind = {
  type: "user",
  flag: CLONE.NEWUSER,
  flagName: "NEWUSER",
  file: "user",
  man: "user_namespaces(7)",
  isolates: "its root is an ordinary user of the host, and its capabilities end at its own namespaces",
  contribute({ membership, spec, facts, slot }) {
    if (membership.how === "shared") return {};
    if (membership.how === "join") {
      const section = "Join the namespaces of another container";
      const why = `the user namespace that ${membership.path} stands for`;
      return {
        before: [{ op: "openat", dir: NO_SLOT, path: membership.path, flags: 0n, mode: 0, out: slot, where: "host", why, see: "namespaces(7)", section }],
        enter: [
          { op: "setns", fd: slot, flags: CLONE.NEWUSER, where: "child", why: "its users are the other's", see: "user_namespaces(7)" },
          { op: "close", slot, where: "child", why: "joined; the descriptor is of no more use" },
          ...becomeRoot,
        ],
      };
    }
    const uids = spec.linux?.uidMappings ?? [];
    const gids = spec.linux?.gidMappings ?? [];
    if (!facts.namespaces.includes("user")) throw new EngineError("unsupported", "this kernel has no user namespaces (CONFIG_USER_NS)");
    if (uids.length === 0 || gids.length === 0) throw new EngineError("invalid", "a user namespace needs uidMappings and gidMappings");
    return {
      cloneFlags: CLONE.NEWUSER,
      host: [
        {
          op: "child_maps",
          uidmap: mapText(uids),
          gidmap: mapText(gids),
          setgroups: "allow",
          where: "host",
          why: `root of the container is uid ${uids[0]?.hostID} of the host`,
          section: "Map its users",
        },
      ],
      root: becomeRoot,
    };
  },
};
