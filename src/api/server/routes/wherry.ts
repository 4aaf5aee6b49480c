/** What Docker's API lacks: the plan of a start, base images from packages, an exec's end. @module */
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError } from "#core/errors.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { parseCreateBody } from "#api/types/container-create.ts";
import { asObject, wrongType } from "#api/types/fields.ts";
import type { ProgressLine } from "#api/types/progress.ts";
import type { NameTraceJson } from "#api/types/system-json.ts";
import type { ApiRequest, ApiResponse } from "#api/types/transport.ts";
import { emitted } from "../queue.ts";
import type { Context, Route } from "../router.ts";
import { volumeJson } from "../shape/resources.ts";
import { tarReply } from "./archive.ts";

/** Facts come from a file that `wherry system facts` wrote: enough is checked that another JSON is told apart. */
function parseFacts(value: unknown): HostFacts | undefined {
  if (value === undefined || value === null) return undefined;
  const facts = asObject(value, "facts");
  for (const name of ["kernel", "cgroup", "overlay", "seccomp", "rlimitCaps"]) asObject(facts[name], `facts.${name}`);
  for (const name of ["lsm", "namespaces"]) if (!Array.isArray(facts[name])) throw wrongType(`facts.${name}`, "a list", facts[name]);
  return facts as unknown as HostFacts; // checked as far as it branches the plan
}

async function explain(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const format = request.query.text("format") || "text";
  if (format !== "text" && format !== "json") throw new EngineError("invalid", `unknown format "${format.slice(0, 40)}": use text or json`);
  const body = await request.json();
  const { config, hostConfig, networkingConfig } = parseCreateBody(body, request.minor);
  const facts = parseFacts(asObject(body, "").facts);
  const text = await engine.containers.explain({ config, hostConfig, networkingConfig, ...(facts ? { facts } : {}) }, format);
  return { kind: "text", status: 200, contentType: format === "json" ? "application/json" : "text/plain; charset=utf-8", text };
}

function bootstrap(request: ApiRequest, { engine }: Context): ApiResponse {
  const what = request.query.text("what");
  if (what === "") throw new EngineError("invalid", "say what to bootstrap: busybox or debian[:SUITE]");
  const lines = emitted<ProgressLine>(async (emit) => {
    const image = await engine.images.bootstrap(what, (status) => emit({ status }), request.signal);
    emit({ aux: { ID: image.id, RepoTags: [...image.repoTags] } });
  });
  return { kind: "lines", status: 200, lines, eager: false };
}

/** Progress lines, and at the end how many images were left out as `aux`. */
function importStore(request: ApiRequest, { engine }: Context): ApiResponse {
  const directory = required(request.query, "dir");
  if (!directory.startsWith("/")) throw new EngineError("invalid", `the directory "${directory.slice(0, 100)}" is not absolute`);
  const lines = emitted<ProgressLine>(async (emit) => {
    let refused = 0;
    const named = (id: string, tags: readonly string[]) => (tags.length === 0 ? id : `${tags.join(", ")} (${id.slice(7, 19)})`);
    await engine.images.importStore(
      directory,
      (event) => {
        if (event.kind === "layer") return emit({ id: event.id.slice(7, 19), status: "Reading layer", progressDetail: { current: event.current } });
        if (event.kind === "refused") refused++;
        emit({ status: event.kind === "image" ? `Taken over: ${named(event.id, event.tags)}` : `Refused: ${named(event.id, event.tags)}: ${event.why}` });
      },
      request.signal,
    );
    emit({ aux: { Refused: refused } });
  });
  return { kind: "lines", status: 200, lines, eager: false };
}

/** Progress lines, and at the end each problem as `aux`. */
function check(request: ApiRequest, { engine }: Context): ApiResponse {
  const repair = request.query.flag("repair");
  const lines = emitted<ProgressLine>(async (emit) => {
    const problems = await engine.system.check({ repair, onProgress: (what) => emit({ status: `Checking ${what}` }), signal: request.signal });
    for (const problem of problems) emit({ aux: problem });
  });
  return { kind: "lines", status: 200, lines, eager: false };
}

async function compare(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const [a, b] = [request.query.text("a"), request.query.text("b")];
  if (a === "" || b === "") throw new EngineError("invalid", "name two images: a and b");
  return { kind: "json", status: 200, value: await engine.images.compare(a, b) };
}

async function traceName(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const [name, type, container] = ["name", "type", "container"].map((key) => request.query.text(key));
  if (!name) throw new EngineError("invalid", "say which name");
  if (type && type !== "A" && type !== "AAAA") throw new EngineError("invalid", `unknown type "${type.slice(0, 40)}": use A or AAAA`);
  const value: NameTraceJson = await engine.networks.traceName(name, type === "AAAA" ? "AAAA" : "A", container || undefined);
  return { kind: "json", status: 200, value };
}

async function compareStorage(request: ApiRequest, { engine }: Context): Promise<ApiResponse> {
  const large = Number(request.query.text("large") || "16");
  if (!Number.isInteger(large) || large < 1 || large > 1024) throw new EngineError("invalid", "large is a number of MiB from 1 to 1024");
  return {
    kind: "json",
    status: 200,
    value: await engine.system.compareStorage({
      largeBytes: large << 20,
      loop: request.query.text("loop") === "1",
      drivers: request.query.all("driver"),
      signal: request.signal,
    }),
  };
}

function required(query: ApiRequest["query"], name: string): string {
  const value = query.text(name);
  if (value === "") throw new EngineError("invalid", `the parameter "${name}" is missing`);
  return value;
}

/** How often a held session says something: a connection that is dead is found out by writing to it. */
const heartbeatMs = 20_000;

/** An answer that lasts as long as the session: when the client has gone, so has what it made. */
function holdSession(request: ApiRequest, { engine }: Context): ApiResponse {
  const id = required(request.query, "id");
  const release = engine.sessions.hold(id);
  const { signal } = request;
  async function* held(): AsyncGenerator<object, void, undefined> {
    try {
      yield { Id: id };
      for (;;) {
        await sleep(heartbeatMs, undefined, { signal, ref: false });
        yield {};
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      release();
    }
  }
  return { kind: "lines", status: 200, lines: held(), eager: true };
}

const volumeReply = (record: Parameters<typeof volumeJson>[0]): ApiResponse => ({ kind: "json", status: 201, value: volumeJson(record) });

export const wherryRoutes: readonly Route[] = [
  ["POST", "/wherry/explain", explain],
  ["POST", "/wherry/images/bootstrap", bootstrap],
  ["POST", "/wherry/images/import-store", importStore],
  ["POST", "/wherry/system/check", check],
  ["GET", "/wherry/images/mounts", async (_request, { engine }) => ({ kind: "json", status: 200, value: engine.images.mounts() })],
  [
    "POST",
    "/wherry/images/mounts",
    async ({ query }, { engine }) => ({ kind: "json", status: 200, value: await engine.images.mount(required(query, "image")) }),
  ],
  [
    "DELETE",
    "/wherry/images/mounts",
    async ({ query }, { engine }) => ({ kind: "json", status: 200, value: await engine.images.unmount(required(query, "image")) }),
  ],
  ["GET", "/wherry/images/tree", async (_request, { engine }) => ({ kind: "json", status: 200, value: await engine.images.tree() })],
  ["GET", "/wherry/images/diff", compare],
  ["GET", "/wherry/storage", async (_request, { engine }) => ({ kind: "json", status: 200, value: await engine.system.storageDrivers() })],
  ["POST", "/wherry/storage/compare", compareStorage],
  ["POST", "/wherry/sessions", holdSession],
  [
    "DELETE",
    "/wherry/sessions/{id}",
    async (_request, { engine }, id) => {
      await engine.sessions.end(id!);
      return { kind: "empty", status: 204 };
    },
  ],
  ["GET", "/wherry/dns", traceName],
  ["POST", "/wherry/volumes/{name}/clone", async ({ query }, { engine }, name) => volumeReply(await engine.volumes.clone(name!, required(query, "to")))],
  [
    "GET",
    "/wherry/volumes/{name}/export",
    async (_r, { engine }, name) => tarReply(async (onChanged) => ({ body: await engine.volumes.exportTar(name!, onChanged) })),
  ],
  ["POST", "/wherry/volumes/{name}/import", async (request, { engine }, name) => volumeReply(await engine.volumes.importTar(name!, request.body))],
  [
    "POST",
    "/wherry/volumes/{name}/rename",
    async ({ query }, { engine }, name) => {
      await engine.volumes.rename(name!, required(query, "to"));
      return { kind: "empty", status: 204 };
    },
  ],
  /** Settles when the exec's process has ended; its reply is that of a container's wait. */
  [
    "POST",
    "/wherry/exec/{id}/wait",
    (_request, { engine }, id) => {
      const { id: known } = engine.execs.get(id!);
      return { kind: "pending", status: 200, value: engine.execs.wait(known).then((code) => ({ StatusCode: code })) };
    },
  ],
  ["GET", "/wherry/facts", (_request, { engine }) => ({ kind: "json", status: 200, value: factsJson(engine.system.facts()) })],
];

/** Capabilities are a 64-bit mask; JSON carries it as hex, which is how facts are read again. */
function factsJson(facts: HostFacts): HostFacts {
  return { ...facts, capabilities: typeof facts.capabilities === "bigint" ? facts.capabilities.toString(16) : facts.capabilities };
}
