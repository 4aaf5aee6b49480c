/**
 * Which right each route needs. The table is closed: a route that is not in it (a test compares it with all routes) is for nobody but the engine's own socket.
 * @module
 */
import { EngineError } from "#core/errors.ts";
import { type Right, rights } from "#api/types/socket-json.ts";

/** "free": every socket. "owner": only the engine's own. */
type Need = Right | "free" | "owner";

/** Routes by need, `METHOD pattern` as in the router's table. */
const needs: Readonly<Record<Need, readonly string[]>> = {
  free: ["GET /_ping", "HEAD /_ping", "GET /version"],
  "containers:read": [
    "GET /containers/json",
    "GET /containers/{id}/json",
    "GET /containers/{id}/logs",
    "GET /containers/{id}/top",
    "GET /containers/{id}/stats",
    "GET /containers/{id}/changes",
    "POST /containers/{id}/wait",
    "GET /containers/{id}/checkpoints",
  ],
  "containers:write": [
    "POST /containers/create",
    "POST /containers/prune",
    "POST /containers/{id}/start",
    "POST /containers/{id}/stop",
    "POST /containers/{id}/restart",
    "POST /containers/{id}/kill",
    "POST /containers/{id}/pause",
    "POST /containers/{id}/unpause",
    "POST /containers/{id}/rename",
    "POST /containers/{id}/update",
    "DELETE /containers/{id}",
    "POST /containers/{id}/checkpoints",
    "DELETE /containers/{id}/checkpoints/{name}",
  ],
  "containers:exec": [
    "POST /containers/{id}/exec",
    "POST /exec/{id}/start",
    "GET /exec/{id}/json",
    "POST /exec/{id}/resize",
    "POST /wherry/exec/{id}/wait",
    "POST /containers/{id}/attach",
    "GET /containers/{id}/attach/ws",
    "POST /containers/{id}/resize",
    "GET /containers/{id}/export",
    "HEAD /containers/{id}/archive",
    "GET /containers/{id}/archive",
    "PUT /containers/{id}/archive",
  ],
  "images:read": [
    "GET /images/json",
    "GET /images/get",
    "GET /images/{name:.*}/get",
    "GET /images/{name:.*}/json",
    "GET /images/{name:.*}/history",
    "GET /wherry/images/tree",
    "GET /wherry/images/diff",
    "GET /wherry/images/{name:.*}/root",
  ],
  "images:write": [
    "POST /images/create",
    "POST /images/load",
    "POST /images/prune",
    "POST /images/{name:.*}/tag",
    "POST /images/{name:.*}/push",
    "DELETE /images/{name:.*}",
    "POST /commit",
    "POST /wherry/images/bootstrap",
  ],
  "volumes:read": ["GET /volumes", "GET /volumes/{name}", "GET /wherry/volumes/{name}/export"],
  "volumes:write": [
    "POST /volumes/create",
    "POST /volumes/prune",
    "PUT /volumes/{name}",
    "DELETE /volumes/{name}",
    "POST /wherry/volumes/{name}/clone",
    "POST /wherry/volumes/{name}/import",
    "POST /wherry/volumes/{name}/rename",
  ],
  "networks:read": ["GET /networks", "GET /networks/{id}"],
  "networks:write": ["POST /networks/create", "POST /networks/prune", "POST /networks/{id}/connect", "POST /networks/{id}/disconnect", "DELETE /networks/{id}"],
  build: ["POST /build"],
  events: ["GET /events"],
  system: ["GET /info", "GET /system/df", "GET /wherry/facts", "GET /wherry/storage"],
  registry: ["POST /auth", "GET /images/search", "GET /distribution/{name:.*}/json"],
  // It is no right to a route: it lifts what scoped-engine.ts refuses.
  host: [],
  owner: [],
};

const needOf: ReadonlyMap<string, Need> = new Map(Object.entries(needs).flatMap(([need, routes]) => routes.map((route) => [route, need as Need] as const)));

/** Routes of the table; for its test. */
export const knownRoutes: readonly string[] = [...needOf.keys()];

/** A socket's rights. */
export class Rights {
  readonly #has: ReadonlySet<Right>;

  constructor(allow: readonly Right[]) {
    this.#has = new Set(allow);
  }

  has(right: Right): boolean {
    // Who may change things may see them.
    return this.#has.has(right) || (right.endsWith(":read") && this.#has.has(right.replace(":read", ":write") as Right));
  }

  /** @throws EngineError "denied" with what is missing */
  check(method: string, pattern: string): void {
    const need = needOf.get(`${method} ${pattern}`) ?? "owner";
    if (need === "free" || (need !== "owner" && this.has(need))) return;
    throw new EngineError("denied", need === "owner" ? "this is not to be had on a socket with limited rights" : `this socket does not allow ${need}`);
  }
}

/** `containers:read,events` or `images`, as a user writes it. @throws EngineError "invalid" */
export function parseRights(words: readonly string[]): Right[] {
  const found = words.flatMap((word): Right[] => {
    const matching = rights.filter((right) => right === word || right.startsWith(`${word}:`));
    if (word === "" || matching.length === 0) throw new EngineError("invalid", `unknown right "${word.slice(0, 60)}": use ${rights.join(", ")}`);
    return matching;
  });
  if (found.length === 0) throw new EngineError("invalid", `say what the socket allows: ${rights.join(", ")}`);
  return rights.filter((right) => found.includes(right));
}
