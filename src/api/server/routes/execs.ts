/** Execs: a further process in a running container. @module */
import { parseDetachKeys } from "#api/types/detach-keys.ts";
import { parseExecCreate, parseExecStart } from "#api/types/requests.ts";
import { type ApiRequest, type ApiResponse, streamType } from "#api/types/transport.ts";
import type { Context, Route } from "../router.ts";
import { execInspect } from "../shape/container.ts";
import { windowSize } from "./containers.ts";

async function createExec(request: ApiRequest, { engine }: Context, name: string): Promise<ApiResponse> {
  const { ConsoleSize: _size, ...config } = parseExecCreate(await request.json());
  parseDetachKeys(config.DetachKeys);
  return { kind: "json", status: 201, value: { Id: await engine.execs.create(name, config) } };
}

async function startExec(request: ApiRequest, { engine }: Context, id: string): Promise<ApiResponse> {
  const body = parseExecStart(await request.json(), "");
  const [rows, columns] = body.ConsoleSize ?? [];
  const size = rows !== undefined && columns !== undefined && rows > 0 && columns > 0 ? { rows, columns } : {};
  const attached = await engine.execs.start(id, { detach: body.Detach, tty: body.Tty, ...size, ...(request.direct ? { direct: request.direct } : {}) });
  if (!attached) return { kind: "empty", status: 200 };
  const { stream, framed } = attached;
  return { kind: "hijack", stream, framed, stdin: engine.execs.get(id).config.AttachStdin, contentType: streamType(framed, request.minor) };
}

export const execRoutes: readonly Route[] = [
  ["POST", "/containers/{id}/exec", createExec],
  ["POST", "/exec/{id}/start", startExec],
  ["GET", "/exec/{id}/json", (_request, { engine }, id) => ({ kind: "json", status: 200, value: execInspect(engine.execs.get(id!)) })],
  [
    "POST",
    "/exec/{id}/resize",
    async (request, { engine }, id) => {
      const { rows, columns } = windowSize(request.query);
      await engine.execs.resize(id!, rows, columns);
      return { kind: "empty", status: 200 };
    },
  ],
];
