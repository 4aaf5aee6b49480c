import { EngineError } from "#core/errors.ts";
import { textIfThere } from "#linux/text-if-there.ts";
import type { IdMapping } from "#core/runtime-spec.ts";
import type { IdMappings } from "#core/id-mappings.ts";
import { parseGroup, parsePasswd } from "#runtime/users.ts";
import type { IdRange } from "./id-ranges.ts";

export interface SubordinateIds {
  readonly uids: readonly IdRange[];
  readonly gids: readonly IdRange[];
}

/** Where the files are; tests have their own. */
export interface IdFiles {
  readonly passwd: string;
  readonly group: string;
  readonly subuid: string;
  readonly subgid: string;
}
export const hostIdFiles: IdFiles = { passwd: "/etc/passwd", group: "/etc/group", subuid: "/etc/subuid", subgid: "/etc/subgid" };

/** Lines `owner:first:count`; the owner is a name or a number. Lines that are none are left out, as shadow does. */
export function parseSubordinateIds(text: string, owners: readonly string[]): IdRange[] {
  return text.split("\n").flatMap((line) => {
    const [, owner, start, count] = /^([^:#]+):([0-9]{1,10}):([0-9]{1,10})\s*$/.exec(line) ?? [];
    return owner !== undefined && owners.includes(owner) && Number(count) > 0 ? [{ start: Number(start), count: Number(count) }] : [];
  });
}

/** Of one user and one group of the same or of different names. */
export async function readSubordinateIds(user: readonly string[], group: readonly string[], files: IdFiles): Promise<SubordinateIds> {
  const [uids, gids] = await Promise.all([textOf(files.subuid), textOf(files.subgid)]);
  return { uids: parseSubordinateIds(uids, user), gids: parseSubordinateIds(gids, group) };
}

async function textOf(path: string): Promise<string> {
  try {
    return await textIfThere(path);
  } catch (error) {
    throw new EngineError("storage", `cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** The user that dockerd's `--userns-remap=default` stands for. */
const DEFAULT_REMAP_USER = "dockremap";

/**
 * `--userns-remap`: "default", or user[:group] by name or number. undefined: "default", and the host has no ranges for it.
 * @throws EngineError "invalid"
 */
export async function remapOf(option: string, files: IdFiles = hostIdFiles): Promise<IdMappings | undefined> {
  const byDefault = option === "default";
  const [user = "", group, ...more] = (byDefault ? DEFAULT_REMAP_USER : option).split(":");
  if (user === "" || group === "" || more.length > 0) throw new EngineError("invalid", `invalid user/group specification in --userns-remap: "${option}"`);
  const [passwd, groups] = await Promise.all([textOf(files.passwd), textOf(files.group)]);
  const userEntry = parsePasswd(passwd).find((u) => u.name === user || String(u.uid) === user);
  const groupName = group ?? userEntry?.name ?? user;
  const groupEntry = parseGroup(groups).find((g) => g.name === groupName || String(g.gid) === groupName);
  const { uids, gids } = await readSubordinateIds(
    [user, ...(userEntry === undefined ? [] : [userEntry.name, String(userEntry.uid)])],
    [groupName, ...(groupEntry === undefined ? [] : [groupEntry.name, String(groupEntry.gid)])],
    files,
  );
  if (byDefault && uids.length === 0 && gids.length === 0) return undefined;
  const missing = (what: string, whose: string, name: string) =>
    new EngineError("invalid", `Can't create ID mappings: No ${what} ranges found for ${whose} "${name}"`, { hint: `add a line to /etc/${what}` });
  if (uids.length === 0) throw missing("subuid", "user", userEntry?.name ?? user);
  if (gids.length === 0) throw missing("subgid", "group", groupEntry?.name ?? groupName);
  return { uids: inSuccession(uids), gids: inSuccession(gids) };
}

/** Container ids from 0 on, range after range. */
function inSuccession(ranges: readonly IdRange[]): IdMapping[] {
  let containerID = 0;
  return [...ranges]
    .sort((a, b) => a.start - b.start)
    .map(({ start, count }) => {
      const mapping = { containerID, hostID: start, size: count };
      containerID += count;
      return mapping;
    });
}
