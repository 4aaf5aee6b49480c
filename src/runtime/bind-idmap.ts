/**
 * A bind whose owners are mapped (`-v src:dst:idmap[=…]`, `--mount type=bind,…,idmap[=…]`): who owns on disk what a user of the container owns.
 *
 *     owner   the owner of the source, on disk, is the container's user; all others are nobody there, and cannot make files
 *     same    on disk the ids are those inside the container, as in a volume (needs a user namespace)
 *     uids=DISK-HOST-COUNT[#…];gids=…    as Podman; with @ before DISK, the second number is an id of the container
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { IdMapping } from "#core/runtime-spec.ts";
import { type IdMappings, toContainer, toHost } from "#core/id-mappings.ts";

export interface BindOwners {
  /** Of the source; undefined: not known yet. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
  readonly user: { readonly uid: number; readonly gid: number };
  readonly userns: IdMappings | undefined;
}

const triple = "@?[0-9]{1,10}-[0-9]{1,10}-[0-9]{1,10}";
const custom = new RegExp(`^(?:[ug]ids=${triple}(?:#${triple})*)(?:;[ug]ids=${triple}(?:#${triple})*)?$`);

/** "" is "owner". @throws EngineError "invalid" */
export function parseIdmap(text: string): string {
  if (text === "") return "owner";
  if (text === "owner" || text === "same" || custom.test(text)) return text;
  throw new EngineError("invalid", `invalid idmap option: ${text}`, { hint: "use idmap, idmap=same, or idmap=uids=DISK-HOST-COUNT;gids=DISK-HOST-COUNT" });
}

/** On disk (containerID of each range) → on the host (hostID). @throws EngineError "invalid" */
export function bindMappings(idmap: string, { owner, user, userns }: BindOwners): IdMappings {
  const host = (what: "uid" | "gid", id: number): number => {
    const found = userns === undefined ? id : toHost(what === "uid" ? userns.uids : userns.gids, id);
    if (found === undefined) throw new EngineError("invalid", `idmap: ${what} ${id} is not in the container's user namespace`);
    return found;
  };
  if (idmap === "same") {
    if (userns === undefined) throw new EngineError("invalid", "idmap=same: the container has no user namespace, so owners are the same already");
    return userns;
  }
  if (idmap === "owner") {
    const { uid, gid } = owner ?? user;
    return { uids: [{ containerID: uid, hostID: host("uid", user.uid), size: 1 }], gids: [{ containerID: gid, hostID: host("gid", user.gid), size: 1 }] };
  }
  const maps: { uids: IdMapping[]; gids: IdMapping[] } = { uids: [], gids: [] };
  for (const part of idmap.split(";")) {
    const [what = "", list = ""] = part.split("=");
    const kind = what === "uids" ? "uid" : "gid";
    for (const text of list.split("#")) {
      const [disk = 0, id = 0, size = 0] = text.replace("@", "").split("-").map(Number);
      maps[kind === "uid" ? "uids" : "gids"].push({ containerID: disk, hostID: text.startsWith("@") ? host(kind, id) : id, size });
    }
  }
  // One that is not said is as the other: files have both.
  return { uids: maps.uids.length > 0 ? maps.uids : maps.gids, gids: maps.gids.length > 0 ? maps.gids : maps.uids };
}

/**
 * Owners on disk (containerID) → ids in the container (hostID): as its processes see a bind. Undefined: as they are on disk.
 * Ids of the host that the container has no number for are left out: they are nobody's.
 */
export function seenInside(idmap: string | undefined, owners: BindOwners): IdMappings | undefined {
  const { userns } = owners;
  if (idmap === "same" || (idmap === undefined && userns === undefined)) return undefined;
  const inside = (map: readonly IdMapping[], back: readonly IdMapping[] | undefined) =>
    map.flatMap(({ containerID, hostID, size }) => {
      const id = back === undefined ? hostID : toContainer(back, hostID);
      return id === undefined ? [] : [{ containerID, hostID: id, size }];
    });
  const everything = (map: readonly IdMapping[]) => map.map(({ hostID, size }) => ({ containerID: hostID, hostID, size }));
  const { uids, gids } =
    idmap === undefined && userns !== undefined ? { uids: everything(userns.uids), gids: everything(userns.gids) } : bindMappings(idmap ?? "", owners);
  return { uids: inside(uids, userns?.uids), gids: inside(gids, userns?.gids) };
}
