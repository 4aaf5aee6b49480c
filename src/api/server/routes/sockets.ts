/** Ours: sockets with limited rights. Only the engine's own socket has these routes. @module */
import { EngineError } from "#core/errors.ts";
import type { Context, Route } from "../router.ts";
import type { ScopedSockets } from "../scoped-sockets.ts";

function socketsOf({ sockets }: Context): ScopedSockets {
  if (sockets === undefined) throw new EngineError("denied", "sockets are not to be had on a socket with limited rights");
  return sockets;
}

export const socketRoutes: readonly Route[] = [
  ["GET", "/wherry/sockets", (_request, context) => ({ kind: "json", status: 200, value: socketsOf(context).list() })],
  ["POST", "/wherry/sockets", async (request, context) => ({ kind: "json", status: 201, value: await socketsOf(context).create(await request.json()) })],
  [
    "DELETE",
    "/wherry/sockets/{name}",
    async (_request, context, name) => {
      await socketsOf(context).remove(name!);
      return { kind: "empty", status: 204 };
    },
  ],
];
