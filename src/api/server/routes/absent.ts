/** Routes of Docker that answer, truthfully, that the thing is not here: swarm, plugins, and what later versions will bring. @module */
import { EngineError } from "#core/errors.ts";
import type { Handler, Route } from "../router.ts";

const emptyList: Handler = () => ({ kind: "json", status: 200, value: [] });

const noSwarm: Handler = () => {
  throw new EngineError(
    "unavailable",
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
  );
};

const later =
  (what: string): Handler =>
  () => {
    throw new EngineError("unsupported", `${what} is not supported by this version of wherry`);
  };

const noPlugin: Handler = (_request, _context, name) => {
  throw new EngineError("not-found", `plugin "${name ?? ""}" not found`);
};

const swarmKinds = ["nodes", "services", "tasks", "secrets", "configs"] as const;

export const absentRoutes: readonly Route[] = [
  ["GET", "/plugins", emptyList],
  ["GET", "/plugins/privileges", later("a plugin")],
  ["GET", "/plugins/{name:.*}/json", noPlugin],
  ["POST", "/plugins/create", later("a plugin")],
  ["POST", "/plugins/pull", later("a plugin")],
  ...["disable", "enable", "push", "set", "upgrade"].map((verb): Route => ["POST", `/plugins/{name:.*}/${verb}`, noPlugin]),
  ["DELETE", "/plugins/{name:.*}", noPlugin],
  [
    "PUT",
    "/volumes/{name}",
    () => {
      throw new EngineError("unavailable", "volume update only valid for cluster volumes, but swarm is unavailable");
    },
  ],
  ...swarmKinds.flatMap((kind): Route[] => [
    ["GET", `/${kind}`, noSwarm],
    ["GET", `/${kind}/{id:.*}`, noSwarm],
    ["POST", `/${kind}/{id:.*}`, noSwarm],
    ["DELETE", `/${kind}/{id:.*}`, noSwarm],
  ]),
  ["GET", "/swarm", noSwarm],
  ["GET", "/swarm/unlockkey", noSwarm],
  ["POST", "/swarm/init", later("swarm mode")],
  ["POST", "/swarm/join", later("swarm mode")],
  ["POST", "/swarm/leave", noSwarm],
  ["POST", "/swarm/update", noSwarm],
  ["POST", "/swarm/unlock", noSwarm],
  ["POST", "/build/cancel", later("building an image")],
  ["GET", "/containers/{id}/checkpoints", later("a checkpoint")],
  ["POST", "/containers/{id}/checkpoints", later("a checkpoint")],
  ["DELETE", "/containers/{id}/checkpoints/{name}", later("a checkpoint")],
];
