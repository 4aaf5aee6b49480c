/** Networks. @module */
import { EngineError } from "#core/errors.ts";
import { filterKeys, parseFilters } from "#api/types/filters.ts";
import { parseNetworkConnect, parseNetworkCreate, parseNetworkDisconnect } from "#api/types/requests.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import type { Context, Route } from "../router.ts";
import { networkJson } from "../shape/resources.ts";

function inspect(_request: ApiRequest, { engine }: Context, name: string): ApiResponse {
  const record = engine.networks.get(name);
  return { kind: "json", status: 200, value: networkJson(record, engine.networks.members(record.Id)) };
}

async function connect(request: ApiRequest, { engine }: Context, name: string): Promise<ApiResponse> {
  const body = parseNetworkConnect(await request.json(), "");
  if (!engine.networks.connect) throw new EngineError("unsupported", "connecting an existing container to a network is not supported by this version");
  await engine.networks.connect(name, body.Container, body.EndpointConfig);
  return { kind: "empty", status: 200 };
}

async function disconnect(request: ApiRequest, { engine }: Context, name: string): Promise<ApiResponse> {
  const body = parseNetworkDisconnect(await request.json(), "");
  if (!engine.networks.disconnect) throw new EngineError("unsupported", "disconnecting a container from a network is not supported by this version");
  await engine.networks.disconnect(name, body.Container, body.Force);
  return { kind: "empty", status: 200 };
}

export const networkRoutes: readonly Route[] = [
  [
    "GET",
    "/networks",
    (request, { engine }) => ({
      kind: "json",
      status: 200,
      value: engine.networks.list(parseFilters(request.query.text("filters"), filterKeys.networks)).map((record) => networkJson(record, [])),
    }),
  ],
  [
    "POST",
    "/networks/create",
    async (request, { engine }) => {
      const created = await engine.networks.create(parseNetworkCreate(await request.json()));
      return { kind: "json", status: 201, value: { Id: created.id, Warning: created.warning } };
    },
  ],
  [
    "POST",
    "/networks/prune",
    async (request, { engine }) => ({
      kind: "json",
      status: 200,
      value: { NetworksDeleted: await engine.networks.prune(parseFilters(request.query.text("filters"), filterKeys.pruneNetworks)) },
    }),
  ],
  ["GET", "/networks/{id}", inspect],
  [
    "DELETE",
    "/networks/{id}",
    async (_request, { engine }, name) => {
      await engine.networks.remove(name!);
      return { kind: "empty", status: 204 };
    },
  ],
  ["POST", "/networks/{id}/connect", connect],
  ["POST", "/networks/{id}/disconnect", disconnect],
];
