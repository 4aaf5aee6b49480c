/** Building images: the classic `POST /build`, and the build cache. @module */
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import type { BuildOptions, NamedContextSource } from "#engine/mod.ts";
import { EngineError } from "#core/errors.ts";
import { shortId } from "#core/ids.ts";
import { contextPlace } from "#api/types/build-context.ts";
import { parseBuildContexts, parseBuildQuery } from "#api/types/build-query.ts";
import { parseRegistryConfig } from "#api/types/auth.ts";
import { filterKeys, parseFilters } from "#api/types/filters.ts";
import { errorLine, type ProgressLine } from "#api/types/progress.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import { emitted } from "../queue.ts";
import type { Context, Route } from "../router.ts";
import { classicLines, eventLines } from "../shape/build-lines.ts";
import { blameRequest, messageOf } from "../status.ts";

function build(request: ApiRequest, context: Context): ApiResponse {
  const { query, headers } = request;
  const files = contextOf(request);
  const credentials = parseRegistryConfig(headers["x-registry-config"]);
  const secrets = parseSecrets(headers["x-wherry-secrets"]);
  if (query.text("version") === "2") throw new EngineError("unsupported", "BuildKit (version=2) is not supported by this version");
  const options = parseBuildQuery(query);
  // Through a socket it would be a way to any file of the host.
  if (request.directory === undefined && [...options.cacheFrom, ...options.cacheTo].some(({ kind }) => kind === "directory"))
    throw new EngineError("denied", "a cache in a directory is read and written for a local client that builds from a directory only");
  const quiet = query.flag("q");
  const lines = emitted<ProgressLine>(async (emit) => {
    let begun = false;
    const tell = (line: ProgressLine) => {
      begun = true;
      emit(line);
    };
    try {
      const report = query.text("progress") === "events" ? eventLines(tell) : quiet ? () => undefined : classicLines(tell);
      const built = await context.engine.builds.build(
        {
          ...options,
          context: files,
          namedContexts: namedContexts(request),
          secret: async (id) => secrets.get(id),
          sshAgent: async (id) => agentOf(request, id),
          credentials,
        },
        report,
        request.signal,
      );
      if (quiet) {
        emit({ stream: `${built.id}\n` });
        return;
      }
      const unused = built.unusedArgs;
      if (unused.length > 0) tell({ stream: `[Warning] One or more build-args [${unused.join(" ")}] were not consumed\n` });
      tell({ aux: { ID: built.id } });
      tell({ stream: `Successfully built ${shortId(built.id)}\n` });
      for (const tag of options.tags) tell({ stream: `Successfully tagged ${tag}\n` });
    } catch (error) {
      // Before the first line it becomes a status.
      if (!begun || !(error instanceof EngineError)) throw blameRequest(error);
      const code = error.details["commandExitCode"];
      emit(errorLine(messageOf(error), typeof code === "number" ? code : undefined));
    }
  });
  return { kind: "lines", status: 200, lines, eager: false };
}

/** The body, unless the query says where else the files are. */
function contextOf({ query, body, headers, directory }: ApiRequest): BuildOptions["context"] {
  if (directory !== undefined) return { kind: "directory", directory };
  const remote = query.text("remote");
  // Ours: a Dockerfile that is not among the files.
  const text = headers["x-wherry-dockerfile"];
  if (remote === "") return { kind: "tar", stream: body, ...(typeof text === "string" ? { dockerfile: Buffer.from(text, "base64").toString("utf8") } : {}) };
  if (contextPlace(remote).kind === "url") return { kind: "url", url: remote };
  throw new EngineError("invalid", `remoteURL (${remote.slice(0, 120)}) could not be recognized as URL`);
}

/** Ours: `buildcontexts`, JSON, name → `docker-image://NAME` or an URL; directories come with a caller in this process. EngineError invalid. */
function namedContexts({ query, directory }: ApiRequest): BuildOptions["namedContexts"] {
  const given = Object.entries(parseBuildContexts(query)).map(([name, value]): [string, NamedContextSource] => {
    const place = contextPlace(value);
    if (place.kind === "image" || place.kind === "url") return [name, place];
    throw new EngineError("invalid", `invalid build context ${name}=${value.slice(0, 200)}: a directory, docker-image://NAME or an URL is expected`);
  });
  const local = Object.entries(directory?.named ?? {}).map(([name, path]): [string, NamedContextSource] => [name, { kind: "directory", path }]);
  return new Map([...given, ...local]);
}

/** Of a caller in this process: a socket of this host. */
function agentOf({ directory }: ApiRequest, id: string): (() => Duplex) | undefined {
  const path = directory !== undefined && Object.hasOwn(directory.agents, id) ? directory.agents[id] : undefined;
  return path === undefined ? undefined : () => connect(path);
}

/** Ours: base64 of JSON, id → base64 of the secret. A header, for what is in the query is in logs. EngineError invalid. */
function parseSecrets(header: string | string[] | undefined): Map<string, Uint8Array> {
  if (header === undefined || typeof header !== "string" || header === "") return new Map();
  try {
    const texts = JSON.parse(Buffer.from(header, "base64").toString("utf8")) as Record<string, string>;
    return new Map(Object.entries(texts).map(([id, text]) => [id, Buffer.from(text, "base64")]));
  } catch {
    // The cause would quote the secret.
    throw new EngineError("invalid", "invalid X-Wherry-Secrets header");
  }
}

async function prune(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const { query } = request;
  const keep = query.int("keep-storage") ?? query.int("reserved-space");
  const pruned = await engine.builds.prune({
    all: query.flag("all"),
    keepBytes: keep === undefined || keep === 0 ? undefined : keep,
    filters: parseFilters(query.text("filters"), filterKeys.pruneBuilds),
  });
  return { kind: "json", status: 200, value: { CachesDeleted: pruned.deleted, SpaceReclaimed: pruned.bytes } };
}

export const buildRoutes: readonly Route[] = [
  [
    "GET",
    "/wherry/images/{name:.*}/root",
    async (_request, { engine }, name) => {
      await engine.images.get(name!);
      return { kind: "bytes", status: 200, contentType: "application/x-tar", body: await engine.builds.root(name!) };
    },
  ],
  ["POST", "/build", build],
  ["POST", "/build/prune", prune],
];
