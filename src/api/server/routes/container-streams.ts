/** Containers: what streams or waits — attach, logs, wait, stats, export. @module */
import { setTimeout as sleep } from "node:timers/promises";
import { rfc3339Nano, nowNs } from "#core/clock.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import type { WaitCondition } from "#engine/mod.ts";
import { parseDetachKeys } from "#api/types/detach-keys.ts";
import type { StatsJson } from "#api/types/stats-json.ts";
import { type ApiRequest, type ApiResponse, streamType } from "#api/types/transport.ts";
import type { WaitResult } from "#api/types/container-json.ts";
import { logFrames } from "../log-frames.ts";
import type { Context, Route } from "../router.ts";
import { readHostCpu, type Sample, statsJson } from "../shape/stats.ts";
import { messageOf } from "../status.ts";
import { tarReply } from "./archive.ts";

/** Over a WebSocket; without a word about streams all three are attached, as docker does it. */
async function attachWebSocket(request: ApiRequest, { engine }: Context, name: string): Promise<ApiResponse> {
  const { query, headers } = request;
  const record = engine.containers.get(name);
  if (!/\bwebsocket\b/i.test(String(headers.upgrade ?? ""))) throw new EngineError("invalid", "this route needs a WebSocket (Upgrade: websocket)");
  const keys = parseDetachKeys(query.text("detachKeys"));
  const all = !["stdin", "stdout", "stderr"].some((which) => query.has(which));
  const stdin = all || query.flag("stdin");
  const { stream, framed } = await engine.containers.attach(record.id, {
    stdin,
    stdout: all || query.flag("stdout"),
    stderr: all || query.flag("stderr"),
    stream: query.flag("stream", all),
    logs: query.flag("logs"),
    detachKeys: record.config.Tty ? keys : new Uint8Array(0),
  });
  return { kind: "hijack", stream, framed, stdin, contentType: "", webSocket: true };
}

async function attach(request: ApiRequest, { engine }: Context, name: string): Promise<ApiResponse> {
  const { query } = request;
  const record = engine.containers.get(name);
  const keys = parseDetachKeys(query.text("detachKeys"));
  const stdin = query.flag("stdin");
  const { stream, framed } = await engine.containers.attach(record.id, {
    stdin,
    stdout: query.flag("stdout"),
    stderr: query.flag("stderr"),
    stream: query.flag("stream"),
    logs: query.flag("logs"),
    // Without a terminal every byte is data.
    detachKeys: record.config.Tty ? keys : new Uint8Array(0),
  });
  return { kind: "hijack", stream, framed, stdin, contentType: streamType(framed, request.minor) };
}

async function logs(request: ApiRequest, { engine }: Context, name: string): Promise<ApiResponse> {
  const { query } = request;
  const stdout = query.flag("stdout");
  const stderr = query.flag("stderr");
  if (!stdout && !stderr) throw new EngineError("invalid", "Bad parameters: you must choose at least one stream");
  const record = engine.containers.get(name);
  const tail = query.text("tail");
  const entries = engine.containers.logs(
    record.id,
    {
      stdout,
      stderr,
      follow: query.flag("follow"),
      tail: /^\d{1,12}$/.test(tail) ? Number(tail) : undefined,
      sinceNs: query.timeNs("since"),
      untilNs: query.timeNs("until"),
    },
    request.signal,
  );
  const framed = !record.config.Tty;
  const body = logFrames(entries, { framed, timestamps: query.flag("timestamps"), details: query.flag("details") });
  return { kind: "bytes", status: 200, contentType: streamType(framed, request.minor), body };
}

const conditions: Readonly<Record<string, WaitCondition>> = {
  "": "not-running",
  "not-running": "not-running",
  "next-exit": "next-exit",
  removed: "removed",
  healthy: "healthy",
};

async function wait(request: ApiRequest, { engine }: Context, name: string): Promise<ApiResponse> {
  const condition = Object.hasOwn(conditions, request.query.text("condition")) ? conditions[request.query.text("condition")] : undefined;
  if (condition === undefined) throw new EngineError("invalid", `invalid condition: "${request.query.text("condition").slice(0, 60)}"`);
  const { id } = engine.containers.get(name); // not found must be a status, before the header goes out
  const value = engine.containers.wait(id, condition, request.signal).then(
    (result): WaitResult => ({
      StatusCode: result.exitCode,
      ...(result.error === undefined || result.error === "" ? {} : { Error: { Message: result.error } }),
      ...(result.reason === undefined ? {} : { Reason: result.reason }),
    }),
    (error: unknown): WaitResult => ({ StatusCode: 125, Error: { Message: messageOf(error) } }),
  );
  // Before 1.30 the header came with the body.
  return request.minor < 30 ? { kind: "json", status: 200, value: await value } : { kind: "pending", status: 200, value };
}

const statsIntervalMs = 1000;

/** One reading a second. Ends when the container is removed or the client has gone. */
async function* readings(request: ApiRequest, context: Context, id: string): AsyncGenerator<StatsJson, void, undefined> {
  const { engine } = context;
  const { query, signal } = request;
  const stream = query.flag("stream", true);
  const facts = engine.system.facts();
  let before: Sample | undefined;
  const take = async (): Promise<StatsJson> => {
    const [stats, host] = await Promise.all([engine.containers.stats(id), readHostCpu()]);
    const sample: Sample = { stats, host, read: rfc3339Nano(nowNs()) };
    const name = engine.containers.get(id).name;
    const v1 = engine.containers.get(id).cgroup?.version === 1;
    const json = statsJson({ id, name, v1, hostMemory: facts.memoryBytes }, sample, before);
    before = sample;
    return json;
  };
  const first = await take();
  if (!stream) {
    // A single answer has a rate in it only if it waits for a second reading.
    if (query.flag("one-shot") || before?.stats === undefined) {
      yield first;
      return;
    }
    await sleep(statsIntervalMs, undefined, { signal });
    yield await take();
    return;
  }
  yield first;
  while (!signal.aborted) {
    await sleep(statsIntervalMs, undefined, { signal });
    yield await take();
  }
}

async function* untilGone<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void, undefined> {
  try {
    yield* source;
  } catch (error) {
    if (!signal.aborted && !isEngineError(error, "not-found")) throw error;
  }
}

async function stats(request: ApiRequest, context: Context, name: string): Promise<ApiResponse> {
  const { id } = context.engine.containers.get(name);
  const source = readings(request, context, id);
  if (request.query.flag("stream", true)) return { kind: "lines", status: 200, lines: untilGone(source, request.signal), eager: false };
  const item = await source.next();
  return { kind: "json", status: 200, value: item.value };
}

export const containerStreamRoutes: readonly Route[] = [
  ["POST", "/containers/{id}/attach", attach],
  ["GET", "/containers/{id}/attach/ws", attachWebSocket],
  ["GET", "/containers/{id}/logs", logs],
  ["POST", "/containers/{id}/wait", wait],
  ["GET", "/containers/{id}/stats", stats],
  [
    "GET",
    "/containers/{id}/export",
    async (_request, { engine }, name) => tarReply(async (onChanged) => ({ body: await engine.containers.exportTree(name!, onChanged) })),
  ],
];
