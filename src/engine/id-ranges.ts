/**
 * Which ids of the host a container's user namespace gets. What is taken is what the records say, so nothing has to be given back, and a crash loses
 * nothing; only a creation that is under way holds its ranges here.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { IdMapping } from "#core/runtime-spec.ts";
import { checkMap, type IdMappings } from "#core/id-mappings.ts";
import { hostIdFiles, type IdFiles, readSubordinateIds, remapOf, type SubordinateIds } from "./subordinate-ids.ts";
import type { UsernsMode } from "./userns-mode.ts";

export interface IdRange {
  readonly start: number;
  readonly count: number;
}

/**
 * Of no system's users, by what is known of how ids are given out: behind those that systemd gives to its containers, and before its "foreign" ones.
 * @see https://systemd.io/UIDS-GIDS/
 */
const OWN_POOL: IdRange = { start: 0x7000_0000, count: 0x7ffe_0000 - 0x7000_0000 };
/** The first of them are those of `--userns=private`, which all such containers share. */
export const PRIVATE_RANGE: IdMapping = { containerID: 0, hostID: OWN_POOL.start, size: 65536 };
/** Whose lines in /etc/subuid and /etc/subgid are the pool of `auto`, where there are such: Podman's name for it. */
const POOL_OWNER = "containers";

export interface MappingRequest {
  readonly mode: UsernsMode;
  /** The container's user: for keep-id, which maps it. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
}

export class IdRanges {
  /** Of `--userns-remap`: what a container has that asks for nothing. */
  readonly remap: IdMappings | undefined;
  readonly #taken: () => Iterable<IdMappings>;
  readonly #files: IdFiles;
  readonly #pending = new Map<string, IdMappings>();

  /** `taken`: the mappings of all containers. */
  constructor(remap: IdMappings | undefined, taken: () => Iterable<IdMappings>, files: IdFiles = hostIdFiles) {
    this.remap = remap;
    this.#taken = taken;
    this.#files = files;
  }

  /** `remap`: as `--userns-remap` says it. @throws EngineError "invalid" for a remap of which the host knows nothing */
  static async open(options: { readonly remap?: string | undefined; readonly taken: () => Iterable<IdMappings>; readonly files?: IdFiles }): Promise<IdRanges> {
    const files = options.files ?? hostIdFiles;
    const wanted = options.remap === undefined || options.remap === "" ? undefined : options.remap;
    const remap = wanted === undefined ? undefined : ((await remapOf(wanted, files)) ?? common);
    return new IdRanges(remap, options.taken, files);
  }

  /** The mappings of a new container; undefined = the host's users. Ranges of its own are held for `id` until {@link release}. */
  async mappingsFor(id: string, { mode, user }: MappingRequest): Promise<IdMappings | undefined> {
    switch (mode.kind) {
      case "host":
        return undefined;
      case "default":
        return this.remap;
      case "private":
        return this.remap ?? common;
      case "map":
        return mode.mappings;
      case "auto":
        return this.#allocate(id, mode.size, mode.forced);
      case "keep-id":
        return this.#allocate(id, mode.size, keptIds(mode, user));
    }
  }

  /** The container is in the records now, or will not be. */
  release(id: string): void {
    this.#pending.delete(id);
  }

  async #allocate(id: string, size: number, forced: IdMappings): Promise<IdMappings> {
    const pool = await this.#pool();
    // From here on nothing is waited for: two creations cannot find the same range free.
    const taken = [...this.#taken(), ...this.#pending.values()];
    const mappings = {
      uids: withForced(forced.uids, size, (count) => this.#free("uid", pool.uids, taken, count)),
      gids: withForced(forced.gids, size, (count) => this.#free("gid", pool.gids, taken, count)),
    };
    checkMap(mappings.uids, "uid");
    checkMap(mappings.gids, "gid");
    this.#pending.set(id, mappings);
    return mappings;
  }

  #free(what: "uid" | "gid", pool: readonly IdRange[], taken: readonly IdMappings[], count: number): number {
    const ranges = taken.flatMap((m) => (what === "uid" ? m.uids : m.gids)).map(({ hostID, size }) => ({ start: hostID, count: size }));
    const start = firstFree(pool, ranges, count);
    if (start === undefined)
      throw new EngineError("unavailable", `no ${count} ${what}s are free for a user namespace of its own`, {
        hint: "remove containers, ask for fewer with auto:size=N, or give the user containers a larger range in /etc/subuid and /etc/subgid",
      });
    return start;
  }

  async #pool(): Promise<SubordinateIds> {
    const given = await readSubordinateIds([POOL_OWNER], [POOL_OWNER], this.#files);
    if (given.uids.length > 0 && given.gids.length > 0) return given;
    const own = [{ start: OWN_POOL.start + PRIVATE_RANGE.size, count: OWN_POOL.count - PRIVATE_RANGE.size }];
    return { uids: own, gids: own };
  }
}

const common: IdMappings = { uids: [PRIVATE_RANGE], gids: [PRIVATE_RANGE] };

function keptIds(mode: Extract<UsernsMode, { kind: "keep-id" }>, user: MappingRequest["user"]): IdMappings {
  const { hostUser, hostGroup } = mode;
  if (hostUser === undefined || hostUser === 0)
    throw new EngineError("invalid", "keep-id: the caller is root, whose id no container shall have", {
      hint: "call it with sudo, or say whose ids: --userns=keep-id:hostuid=N,hostgid=N",
    });
  const group = hostGroup ?? hostUser;
  const inside = { uid: mode.user ?? user?.uid ?? hostUser, gid: mode.group ?? user?.gid ?? group };
  return {
    uids: [{ containerID: inside.uid, hostID: hostUser, size: 1 }],
    gids: [{ containerID: inside.gid, hostID: group, size: 1 }],
  };
}

/** Fills the container ids below `size` that `forced` leaves from one range of the pool. Exported for its test. */
export function withForced(forced: readonly IdMapping[], size: number, take: (count: number) => number): IdMapping[] {
  const gaps: IdRange[] = [];
  let at = 0;
  for (const { containerID, size: count } of [...forced].sort((a, b) => a.containerID - b.containerID)) {
    if (containerID > at && at < size) gaps.push({ start: at, count: Math.min(containerID, size) - at });
    at = Math.max(at, containerID + count);
  }
  if (at < size) gaps.push({ start: at, count: size - at });
  const total = gaps.reduce((sum, gap) => sum + gap.count, 0);
  let hostID = total === 0 ? 0 : take(total);
  const filled = gaps.map(({ start, count }) => {
    const mapping = { containerID: start, hostID, size: count };
    hostID += count;
    return mapping;
  });
  return [...forced, ...filled].sort((a, b) => a.containerID - b.containerID);
}

/** The lowest place in the pool where `count` ids in a row are not taken. Exported for its test. */
export function firstFree(pool: readonly IdRange[], taken: readonly IdRange[], count: number): number | undefined {
  const sorted = [...taken].sort((a, b) => a.start - b.start);
  for (const { start, count: length } of [...pool].sort((a, b) => a.start - b.start)) {
    let at = start;
    for (const range of sorted) if (range.start < at + count && range.start + range.count > at) at = range.start + range.count;
    if (at + count <= start + length) return at;
  }
  return undefined;
}
