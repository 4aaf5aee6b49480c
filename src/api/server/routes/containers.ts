/** Containers: list, inspect and the verbs that answer at once. @module */
import { EngineError, isEngineError } from "#core/errors.ts";
import type { ContainerRecord } from "#container/mod.ts";
import { parseCreateBody } from "#api/types/container-create.ts";
import type { ChangeItem, ContainerInspect, ContainerSummary } from "#api/types/container-json.ts";
import { filterKeys, parseFilters } from "#api/types/filters.ts";
import { resourceUpdate } from "#api/types/host-config.ts";
import type { Query } from "#api/types/query.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import type { Context, Handler, Route } from "../router.ts";
import { containerInspect, containerSummary, type NetworkId, type SizeJson } from "../shape/container.ts";

const done: ApiResponse = { kind: "empty", status: 204 };
const changeKinds = { modify: 0, add: 1, delete: 2 } as const;

function networkIds({ engine }: Context): NetworkId {
  let ids: ReadonlyMap<string, string> | undefined;
  return (name) => {
    ids ??= new Map(engine.networks.list({}).map((network) => [network.Name, network.Id]));
    return ids.get(name) ?? "";
  };
}

/** The image's name as given, if it still names the same image; else its id. Each name is looked up once. */
function imageNames({ engine }: Context): (record: ContainerRecord) => Promise<string> {
  const known = new Map<string, Promise<string | undefined>>();
  return async (record) => {
    const name = record.config.Image;
    if (name === "" || record.imageId === "") return name;
    let id = known.get(name);
    if (id === undefined) {
      id = engine.images.find(name).then((image) => image?.id);
      known.set(name, id);
    }
    return (await id) === record.imageId ? name : record.imageId;
  };
}

/** Records as list entries. `sizeOf` is called for each when sizes are wanted; one that is removed meanwhile is left out. */
export async function summaries(
  records: readonly ContainerRecord[],
  request: ApiRequest,
  context: Context,
  sizeOf: ((id: string) => Promise<SizeJson>) | undefined,
): Promise<ContainerSummary[]> {
  const name = imageNames(context);
  const networkId = networkIds(context);
  const now = Date.now();
  const result: ContainerSummary[] = [];
  for (const record of records) {
    try {
      result.push(containerSummary(record, { now, minor: request.minor, image: await name(record), networkId, size: await sizeOf?.(record.id) }));
    } catch (error) {
      if (!isEngineError(error, "not-found")) throw error;
    }
  }
  return result;
}

async function listContainers(request: ApiRequest, context: Context): Promise<ApiResponse> {
  const { query } = request;
  const limit = query.int("limit");
  const records = context.engine.containers.list({
    all: query.flag("all"),
    limit: limit !== undefined && limit > 0 ? limit : undefined,
    filters: parseFilters(query.text("filters"), filterKeys.containers),
  });
  const sizeOf = query.flag("size") ? (id: string) => context.engine.containers.size(id) : undefined;
  return { kind: "json", status: 200, value: await summaries(records, request, context, sizeOf) };
}

/** What `inspect` has answered for a record: records are replaced, not changed. `networks`: the ids that it looked up. */
interface Inspected {
  readonly minor: number;
  readonly networks: ReadonlyMap<string, string>;
  readonly value: ContainerInspect;
}
const inspected = new WeakMap<ContainerRecord, Inspected>();

async function inspectContainer(request: ApiRequest, context: Context, name: string): Promise<ApiResponse> {
  const { engine } = context;
  const { minor } = request;
  const record = engine.containers.get(name);
  const networkId = networkIds(context);
  const size = request.query.flag("size") ? await engine.containers.size(record.id) : undefined;
  const execIds = engine.execs.ids?.(record.id) ?? [];
  if (size !== undefined || execIds.length > 0)
    return { kind: "json", status: 200, value: containerInspect(record, { minor, networkId, execIds, graph: {}, size }) };

  const before = inspected.get(record);
  if (before?.minor === minor && [...before.networks].every(([network, id]) => networkId(network) === id))
    return { kind: "json", status: 200, value: before.value, lasting: true };
  const networks = new Map<string, string>();
  const remembered: NetworkId = (network) => {
    const id = networkId(network);
    networks.set(network, id);
    return id;
  };
  const value = containerInspect(record, { minor, networkId: remembered, execIds, graph: {} });
  inspected.set(record, { minor, networks, value });
  return { kind: "json", status: 200, value, lasting: true };
}

async function createContainer(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const body = parseCreateBody(await request.json(), request.minor);
  const platform = request.query.text("platform");
  const name = request.query.text("name").replace(/^\//, "");
  const created = await engine.containers.create({
    name: name === "" ? undefined : name,
    config: body.config,
    hostConfig: body.hostConfig,
    networkingConfig: body.networkingConfig,
    ...(platform === "" ? {} : { platform }),
  });
  return { kind: "json", status: 201, value: { Id: created.id, Warnings: [...body.warnings, ...created.warnings] } };
}

/** `t` and `signal` of stop and restart. */
function stopOptions(query: Query): { readonly timeout: number | undefined; readonly signal: string | undefined } {
  return { timeout: query.int("t"), signal: query.text("signal") || undefined };
}

const verb =
  (act: (context: Context, name: string, query: Query) => Promise<void>): Handler =>
  async (request, context, name) => {
    await act(context, name!, request.query);
    return done;
  };

/** `DELETE …?link=1`: the links of a container are those that it was made with, and its own name, which docker counts among them, stays. Never removes the container. */
async function removeLink({ containers }: Context["engine"], name: string): Promise<void> {
  const [parent = "", alias] = name.replace(/^\//, "").split("/");
  containers.get(parent);
  if (alias === undefined) throw new EngineError("conflict", "Conflict, cannot remove the default link name of the container");
  throw new EngineError("unsupported", `links are not removed: make ${parent} again without ${alias}`);
}

/** Rows and columns of a terminal. */
export function windowSize(query: Query): { readonly rows: number; readonly columns: number } {
  const size = (name: "h" | "w", word: string): number => {
    const text = query.text(name);
    if (!/^\d{1,5}$/.test(text) || Number(text) > 65535) throw new EngineError("invalid", `invalid resize ${word} "${text.slice(0, 40)}": invalid syntax`);
    return Number(text);
  };
  return { rows: size("h", "height"), columns: size("w", "width") };
}

async function resizeContainer(request: ApiRequest, { engine }: Context, name: string): Promise<ApiResponse> {
  const { rows, columns } = windowSize(request.query);
  try {
    await engine.containers.resize(name, rows, columns);
  } catch (error) {
    // `docker run -t` sends its first resize beside the start; the pty that is not there yet will ask again on SIGWINCH.
    if (!(isEngineError(error, "conflict") && engine.containers.get(name).state.status === "created")) throw error;
  }
  return { kind: "empty", status: 200 };
}

export const containerRoutes: readonly Route[] = [
  ["GET", "/containers/json", listContainers],
  ["POST", "/containers/create", createContainer],
  [
    "POST",
    "/containers/prune",
    async (request, { engine }) => {
      const pruned = await engine.containers.prune(parseFilters(request.query.text("filters"), filterKeys.pruneContainers));
      return { kind: "json", status: 200, value: { ContainersDeleted: pruned.deleted, SpaceReclaimed: pruned.bytes } };
    },
  ],
  ["GET", "/containers/{id}/json", inspectContainer],
  [
    "POST",
    "/containers/{id}/start",
    async (request, { engine }, name) => {
      if (request.query.has("checkpoint")) throw new EngineError("unsupported", "checkpoints are not supported");
      await engine.containers.start(name!, request.direct ? { direct: request.direct } : {});
      return done;
    },
  ],
  ["POST", "/containers/{id}/stop", verb(({ engine }, name, query) => engine.containers.stop(name, stopOptions(query)))],
  ["POST", "/containers/{id}/restart", verb(({ engine }, name, query) => engine.containers.restart(name, stopOptions(query)))],
  ["POST", "/containers/{id}/kill", verb(({ engine }, name, query) => engine.containers.kill(name, query.text("signal") || "SIGKILL"))],
  ["POST", "/containers/{id}/pause", verb(({ engine }, name) => engine.containers.pause(name))],
  ["POST", "/containers/{id}/unpause", verb(({ engine }, name) => engine.containers.unpause(name))],
  [
    "POST",
    "/containers/{id}/rename",
    verb(({ engine }, name, query) => {
      const newName = query.text("name").replace(/^\//, "");
      if (newName === "") throw new EngineError("invalid", "Neither old nor new names may be empty");
      return engine.containers.rename(name, newName);
    }),
  ],
  [
    "POST",
    "/containers/{id}/update",
    async (request, { engine }, name) => {
      const { resources, restartPolicy } = resourceUpdate(await request.json());
      const { warnings } = await engine.containers.update(name!, resources, restartPolicy);
      return { kind: "json", status: 200, value: { Warnings: warnings.length === 0 ? null : warnings } };
    },
  ],
  ["POST", "/containers/{id}/resize", resizeContainer],
  [
    "DELETE",
    "/containers/{id}",
    verb(({ engine }, name, query) => {
      // A link is named /container/alias, or by the container's own name, which stays.
      if (query.flag("link")) return removeLink(engine, name);
      return engine.containers.remove(name, { force: query.flag("force"), volumes: query.flag("v") });
    }),
  ],
  [
    "GET",
    "/containers/{id}/top",
    async (request, { engine }, name) => ({ kind: "json", status: 200, value: await engine.containers.top(name!, request.query.text("ps_args") || "-ef") }),
  ],
  [
    "GET",
    "/containers/{id}/changes",
    async (_request, { engine }, name) => {
      const changes = await engine.containers.changes(name!);
      return { kind: "json", status: 200, value: changes.map((change): ChangeItem => ({ Path: change.path, Kind: changeKinds[change.kind] })) };
    },
  ],
];
