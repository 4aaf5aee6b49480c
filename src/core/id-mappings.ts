/**
 * Which ids of a user namespace are which of the host: arithmetic on uid and gid maps. Pure.
 * @module
 * @see user_namespaces(7)
 */
import { EngineError } from "./errors.ts";
import type { IdMapping } from "./runtime-spec.ts";

/** The two maps of a user namespace. */
export interface IdMappings {
  readonly uids: readonly IdMapping[];
  readonly gids: readonly IdMapping[];
}

/** The kernel takes so many lines in a map (since Linux 4.15). */
const MAX_LINES = 340;
/** 2^32-1 means "no id". */
const NO_ID = 2 ** 32 - 1;

/** The host's number of an id inside; undefined: it means nothing there. */
export function toHost(map: readonly IdMapping[], id: number): number | undefined {
  const line = map.find((m) => id >= m.containerID && id < m.containerID + m.size);
  return line === undefined ? undefined : line.hostID + id - line.containerID;
}

/** The number inside of an id of the host; undefined: it is shown as nobody's. */
export function toContainer(map: readonly IdMapping[], id: number): number | undefined {
  const line = map.find((m) => id >= m.hostID && id < m.hostID + m.size);
  return line === undefined ? undefined : line.containerID + id - line.hostID;
}

/** The mapping shows a host id as this one inside, or as nobody. */
export function shownInside(map: readonly IdMapping[], id: number): number {
  return toContainer(map, id) ?? OVERFLOW_ID;
}

/** Ids that a user namespace does not know, as the kernel shows them. */
const OVERFLOW_ID = 65534;

/**
 * Refuses what the kernel would refuse (EINVAL), in words; and a map without id 0: a container is furnished by its own root.
 * @throws EngineError "invalid"
 */
export function checkMap(map: readonly IdMapping[], what: "uid" | "gid"): void {
  const bad = (why: string) => new EngineError("invalid", `invalid ${what} mapping: ${why}`);
  if (map.length > MAX_LINES) throw bad(`${map.length} ranges are more than the kernel takes (${MAX_LINES})`);
  for (const m of map) {
    if (m.size <= 0) throw bad(`${mapLine(m)} maps nothing`);
    if (m.containerID + m.size > NO_ID || m.hostID + m.size > NO_ID) throw bad(`${mapLine(m)} ends behind the last id`);
  }
  for (const side of ["containerID", "hostID"] as const) {
    const sorted = [...map].sort((a, b) => a[side] - b[side]);
    for (const [i, m] of sorted.entries()) {
      const next = sorted[i + 1];
      if (next !== undefined && m[side] + m.size > next[side]) throw bad(`${mapLine(m)} and ${mapLine(next)} overlap`);
    }
  }
  if (toHost(map, 0) === undefined) throw bad("it has no container id 0");
}

/** "0:100000:65536", as Podman and newuidmap(1) write it. */
export function mapLine({ containerID, hostID, size }: IdMapping): string {
  return `${containerID}:${hostID}:${size}`;
}
