/** moby.buildkit.v1.Control: builds, their status, the cache. @module */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { EngineError } from "#core/errors.ts";
import type { Engine, SolvedBuild } from "#engine/mod.ts";
import { type Bytes, duplexOf } from "./client-services.ts";
import { outputsOf, putOut } from "./outputs.ts";
import { failureOf } from "./failures.ts";
import { solveFrontend } from "./frontend.ts";
import { type Control, type SolveRequest, StatusResponseSchema } from "./gen/control_pb.ts";
import { Job } from "./jobs.ts";
import { timestamp } from "./progress.ts";
import { Queue } from "./queue.ts";
import { sessionHead } from "./sessions.ts";
import type { BuildKitState } from "./state.ts";
import { workerOf } from "./worker.ts";

export function controlService(state: BuildKitState): Partial<ServiceImpl<typeof Control>> {
  const { engine, version, jobs, sessions, log } = state;
  return {
    info: async () => ({ buildkitVersion: { package: "wherry", version } }),
    listWorkers: async () => ({ record: [workerOf(await engine.system.info(), version)] }),
    solve: (request, context) => solve(state, request, context),
    async *status({ Ref }) {
      const job = await jobs.get(Ref).catch((error: unknown) => {
        throw failureOf(error, "Status", log);
      });
      for await (const status of job.progress.status) yield create(StatusResponseSchema, status);
    },
    diskUsage: async () => ({ record: usage(engine) }),
    async *prune({ all, keepDuration, reservedSpace, filter }) {
      const filters = { ...parseFilters(filter), ...(keepDuration > 0n ? { until: [`${keepDuration / 1_000_000n}ms`] } : {}) };
      const before = new Map(usage(engine).map((record) => [record.ID, record]));
      const { deleted } = await engine.builds
        .prune({ all, keepBytes: reservedSpace > 0n ? Number(reservedSpace) : undefined, filters })
        .catch((error: unknown) => {
          throw failureOf(error, "Prune", log);
        });
      for (const id of deleted) {
        const record = before.get(id);
        if (record !== undefined) yield record;
      }
    },
    async *session(messages, { requestHeader, signal }) {
      const out = new Queue<Bytes>();
      // The client's bytes are what its server side reads and writes.
      const socket = duplexOf(out, messages);
      try {
        const session = sessions.add(sessionHead(Object.fromEntries(requestHeader)), socket);
        session.gone.addEventListener("abort", () => out.end(), { once: true });
        signal.addEventListener("abort", () => session.close(), { once: true });
      } catch (error) {
        throw failureOf(error, "Session", log);
      }
      for await (const { data } of out) yield { data };
    },
    // Builds are not kept after they have ended: there is no history.
    async *listenBuildHistory() {},
  };
}

async function solve(state: BuildKitState, request: SolveRequest, { signal: gone }: HandlerContext): Promise<{ ExporterResponse: Record<string, string> }> {
  const { sessions, jobs, log } = state;
  if (request.Definition.byteLength > 0) throw rawLlb();
  const end = new AbortController();
  const signal = AbortSignal.any([gone, end.signal]);
  const session = async () => {
    if (request.Session === "") return undefined;
    const found = await sessions.get(request.Session, signal);
    found.gone.addEventListener("abort", () => end.abort(found.gone.reason), { once: true });
    return found;
  };
  const job = new Job(request.Ref, session, request.Cache?.Exports ?? [], signal);
  try {
    jobs.begin(request.Ref, job);
  } catch (error) {
    throw failureOf(error, "Solve", log);
  }
  try {
    // Before the work: what cannot be put out is not worth building.
    const outputs = outputsOf(request);
    void job.caches;
    const result = request.Frontend === "" ? await returnedBy(job) : await solveFrontend(state, job, request.Frontend, request.FrontendAttrs);
    if (result === undefined) return { ExporterResponse: {} };
    return { ExporterResponse: await putOut(state.engine, job, outputs, result) };
  } catch (error) {
    throw failureOf(error, `build ${request.Ref}`, log);
  } finally {
    // What its other calls wait for does not come any more.
    end.abort(new EngineError("cancelled", "the build has ended"));
    await job.end();
    jobs.end(request.Ref);
  }
}

/** What the client makes the build's result; undefined: it has only asked. */
async function returnedBy(job: Job): Promise<SolvedBuild | undefined> {
  const { result, error } = await job.returned;
  if (error !== undefined) throw new ConnectError(error, Code.Unknown);
  if (result === undefined) return undefined;
  const found = job.results.get(result);
  if (found === undefined) throw new EngineError("invalid", `no such result ${result}`);
  return found;
}

export function rawLlb(): ConnectError {
  return new ConnectError("raw LLB is not supported: this engine builds Dockerfiles (frontend dockerfile.v0)", Code.Unimplemented);
}

function usage({ builds }: Engine) {
  return builds.records().map(({ key, inUse, shared, layer, usedAtMs, created, uses, text }) => ({
    ID: key,
    Mutable: false,
    InUse: inUse,
    Size: BigInt(layer?.size ?? 0),
    CreatedAt: timestamp(Date.parse(created) || 0),
    LastUsedAt: timestamp(usedAtMs),
    UsageCount: BigInt(uses),
    Description: text,
    RecordType: "regular",
    Shared: shared,
    Parents: [],
  }));
}

/** `id==x`, `description~=y` as buildx writes them. */
function parseFilters(texts: readonly string[]): Record<string, string[]> {
  const filters: Record<string, string[]> = {};
  for (const text of texts.flatMap((one) => one.split(",")).filter(Boolean)) {
    const [, name, value] = /^([a-z-]+)(?:==|~=|=)(.*)$/.exec(text) ?? [];
    if (name === undefined || value === undefined || !["id", "description", "until", "unused-for"].includes(name))
      throw new ConnectError(`invalid filter ${JSON.stringify(text.slice(0, 100))}`, Code.InvalidArgument);
    filters[name] = [...(filters[name] ?? []), value.replace(/^"(.*)"$/, "$1")];
  }
  return filters;
}
