/**
 * `--userns`: what was asked for. Pure; which ids of the host that means is said by id-ranges.ts.
 *
 *     host                                         the host's users
 *     private                                      the engine's common range
 *     auto[:size=N][,uidmapping=C:H:N][,gidmapping=C:H:N]   a range that no other container has
 *     keep-id[:uid=C][,gid=C][,hostuid=H][,hostgid=H]        as auto, but the container's user is a user of the host
 *     map:[u|g]C:H:N[,…]                           these ids; u and g: for users, for groups only
 *     H:N                                          the same as map:0:H:N
 * @module
 */
import { EngineError } from "#core/errors.ts";
import type { IdMapping } from "#core/runtime-spec.ts";
import { checkMap, type IdMappings } from "#core/id-mappings.ts";

export type UsernsMode =
  | { readonly kind: "default" | "host" | "private" }
  | { readonly kind: "auto"; readonly size: number; readonly forced: IdMappings }
  | {
      readonly kind: "keep-id";
      readonly size: number;
      readonly user?: number;
      readonly group?: number;
      readonly hostUser?: number;
      readonly hostGroup?: number;
    }
  | { readonly kind: "map"; readonly mappings: IdMappings };

/** As many as an image can be expected to name: all 16-bit ids. */
export const DEFAULT_SIZE = 65536;

/** @throws EngineError "invalid" */
export function parseUsernsMode(mode: string): UsernsMode {
  const [, kind = "", rest] = /^([a-z-]*)(?::(.*))?$/s.exec(mode) ?? [];
  if (mode === "") return { kind: "default" };
  if ((kind === "host" || kind === "private") && rest === undefined) return { kind };
  if (kind === "auto") return parseAuto(mode, rest);
  if (kind === "keep-id") return parseKeepId(mode, rest);
  if (kind === "map" && rest !== undefined) return { kind: "map", mappings: checked(parseEntries(mode, rest)) };
  const [, host, size] = /^([0-9]{1,10}):([0-9]{1,10})$/.exec(mode) ?? [];
  if (host === undefined || size === undefined) throw invalid(mode);
  const mapping = [{ containerID: 0, hostID: Number(host), size: Number(size) }];
  return { kind: "map", mappings: checked({ uids: mapping, gids: mapping }) };
}

function invalid(mode: string, why = ""): EngineError {
  return new EngineError("invalid", `invalid USER mode: ${mode}${why === "" ? "" : `: ${why}`}`, {
    hint: "use host, private, auto[:size=N], keep-id[:uid=N,gid=N] or map:CONTAINER:HOST:COUNT[,…]",
  });
}

function checked(mappings: IdMappings): IdMappings {
  checkMap(mappings.uids, "uid");
  checkMap(mappings.gids, "gid");
  return mappings;
}

/** "size=1024,uidmapping=…" → pairs. */
function options(mode: string, text: string | undefined, known: readonly string[]): readonly (readonly [string, string])[] {
  if (text === undefined || text === "") return [];
  return text.split(",").map((option) => {
    const [, key = "", value = ""] = /^([a-z]+)=(.+)$/.exec(option) ?? [];
    if (!known.includes(key)) throw invalid(mode, `unknown option "${option}"`);
    return [key, value];
  });
}

function number(mode: string, text: string): number {
  if (!/^[0-9]{1,10}$/.test(text)) throw invalid(mode, `"${text}" is no id`);
  return Number(text);
}

function parseAuto(mode: string, text: string | undefined): UsernsMode {
  let size = DEFAULT_SIZE;
  const forced = { uids: [] as IdMapping[], gids: [] as IdMapping[] };
  for (const [key, value] of options(mode, text, ["size", "uidmapping", "gidmapping"])) {
    if (key === "size") size = number(mode, value);
    else (key === "uidmapping" ? forced.uids : forced.gids).push(parseTriple(mode, value));
  }
  if (size < 1) throw invalid(mode, "a container needs at least one id");
  return { kind: "auto", size, forced };
}

const keepIdFields = { uid: "user", gid: "group", hostuid: "hostUser", hostgid: "hostGroup" } as const;

function parseKeepId(mode: string, text: string | undefined): UsernsMode {
  const given: Partial<Record<(typeof keepIdFields)[keyof typeof keepIdFields], number>> = {};
  let size = DEFAULT_SIZE;
  for (const [key, value] of options(mode, text, ["size", ...Object.keys(keepIdFields)])) {
    if (key === "size") size = number(mode, value);
    else given[keepIdFields[key as keyof typeof keepIdFields]] = number(mode, value); // `options` lets only known keys through
  }
  return { kind: "keep-id", size, ...given };
}

function parseTriple(mode: string, text: string): IdMapping {
  const [, container, host, size] = /^([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})$/.exec(text) ?? [];
  if (container === undefined) throw invalid(mode, `"${text}" is not CONTAINER:HOST:COUNT`);
  return { containerID: Number(container), hostID: Number(host), size: Number(size) };
}

function parseEntries(mode: string, text: string): IdMappings {
  const uids: IdMapping[] = [];
  const gids: IdMapping[] = [];
  for (const entry of text.split(",")) {
    const only = /^[ug]/.exec(entry)?.[0];
    const mapping = parseTriple(mode, only === undefined ? entry : entry.slice(1));
    if (only !== "g") uids.push(mapping);
    if (only !== "u") gids.push(mapping);
  }
  return { uids, gids };
}
