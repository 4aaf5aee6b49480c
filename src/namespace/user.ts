/**
 * User namespace: uids and gids mean something else inside. Root of the container is a user without rights on the host, and its
 * capabilities count only for what the namespace owns (the other new namespaces).
 *
 * Asked for with `--userns`. The maps can be written only once, from outside, after `clone` and before the child does anything as root.
 * @see user_namespaces(7)
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { IdMapping } from "#core/runtime-spec.ts";
import { CLONE } from "#linux/flags.ts";
import type { NamespaceKind } from "./kind.ts";

/** The kernel's text form: "inside outside count" a line. */
export function mapText(mappings: readonly IdMapping[]): string {
  return mappings.map((m) => `${m.containerID} ${m.hostID} ${m.size}\n`).join("");
}

export const userNamespace: NamespaceKind = {
  type: "user",
  flag: CLONE.NEWUSER,
  flagName: "NEWUSER",
  file: "user",
  man: "user_namespaces(7)",
  isolates: "its root is an ordinary user of the host, and its capabilities end at its own namespaces",
  contribute({ membership, spec, facts }) {
    if (membership.how === "shared") return {};
    if (membership.how === "join") throw new EngineError("unsupported", "joining a user namespace by path is not supported: give the mappings instead");
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
      root: [
        { op: "setresgid", gid: 0, where: "child", why: "group 0 of the new namespace, no longer the host's" },
        { op: "setresuid", uid: 0, where: "child", why: "root of the new namespace: all capabilities here, none outside" },
      ],
    };
  },
};
