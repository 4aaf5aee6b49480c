/**
 * Who a container's process is: `--user` against the container's own passwd and group files.
 * @module
 * @see passwd(5), group(5)
 */
import { EngineError } from "#core/errors.ts";

export interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups, the primary group first: a program with the set-group-ID bit must not get rid of it (CVE-2022-36109). */
  readonly additionalGids: readonly number[];
  /** From passwd; "/" when the user is not in it. */
  readonly home: string;
}

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

const MAX_ID = 2 ** 31 - 1;

/** Go's Atoi: a decimal number or undefined. */
function number(text: string | undefined): number | undefined {
  return text !== undefined && /^[+-]?[0-9]+$/.test(text) ? Number(text) : undefined;
}

function inRange(id: number): number {
  if (id < 0 || id > MAX_ID) throw new EngineError("invalid", `uids and gids must be in range 0-${MAX_ID}`);
  return id;
}

function lines(content: string): string[][] {
  return content
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(":"));
}

/** A line that lacks a number counts as 0 there, as in Docker: such a line is only ever matched by its name. */
export function parsePasswd(content: string): PasswdEntry[] {
  return lines(content).map(([name = "", , uid, gid, , home = ""]) => ({ name, uid: number(uid) ?? 0, gid: number(gid) ?? 0, home }));
}

/** @see parsePasswd */
export function parseGroup(content: string): GroupEntry[] {
  return lines(content).map(([name = "", , gid, members = ""]) => ({ name, gid: number(gid) ?? 0, members: members.split(",").filter(Boolean) }));
}

/**
 * Resolves `--user` ("", name, uid, name:group, uid:gid …) and `--group-add`. `passwd` and `group` are the files' contents ("" = missing).
 * @throws EngineError "invalid" with Docker's words: `unable to find user X: no matching entries in passwd file`.
 */
export function resolveUser(spec: string, passwd: string, group: string, groupAdd: readonly string[] = []): ResolvedUser {
  const [userPart = "", groupPart = ""] = spec.split(/:(.*)/s);
  const wantedUid = number(userPart);
  const groups = parseGroup(group);
  const entry = parsePasswd(passwd).find((u) => (userPart === "" ? u.uid === 0 : u.name === userPart || u.uid === wantedUid));
  if (entry === undefined && userPart !== "" && wantedUid === undefined) {
    throw new EngineError("invalid", `unable to find user ${userPart}: no matching entries in passwd file`);
  }
  // Of a file of the container, too: -1 would be "no change" for setresuid(2), which is the engine's root.
  const uid = inRange(entry?.uid ?? wantedUid ?? 0);
  const primary = groupPart === "" ? undefined : findGroup(groupPart, groups, (name) => `unable to find group ${name}: no matching entries in group file`);
  const gid = primary ?? inRange(entry?.gid ?? 0);
  // A group that was asked for replaces the user's own ones.
  const memberships = groupPart === "" && entry !== undefined ? groups.filter((g) => g.members.includes(entry.name)).map((g) => inRange(g.gid)) : [];
  const added = groupAdd.map((name) => findGroup(name, groups, () => `Unable to find group ${name}: no matching entries in group file`));
  return {
    uid,
    gid,
    additionalGids: [...new Set([gid, ...memberships, ...added])],
    home: entry?.home || "/",
  };
}

/** By name, else by number, in or outside the file. */
function findGroup(wanted: string, groups: readonly GroupEntry[], missing: (name: string) => string): number {
  const asNumber = number(wanted);
  const found = groups.find((g) => g.name === wanted || g.gid === asNumber);
  if (found !== undefined) return inRange(found.gid);
  if (asNumber === undefined) throw new EngineError("invalid", missing(wanted));
  return inRange(asNumber);
}
