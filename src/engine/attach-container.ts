/** `attach`, `resize`, `logs`: a container's streams. @module */
import { Duplex, PassThrough } from "node:stream";
import type { Container } from "#container/container.ts";
import { readLog } from "#container/logs/read-log.ts";
import type { LogEntry, LogQuery } from "#container/mod.ts";
import { isReadable } from "#container/logs/log-drivers.ts";
import { isRunning } from "#container/state.ts";
import { EngineError } from "#core/errors.ts";
import { frameHead } from "#core/stream-frame.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";
import type { AttachedStream, AttachRequest } from "./mod.ts";

export async function attachContainer(ctx: EngineContext, name: string, given: AttachRequest): Promise<AttachedStream> {
  const container = ctx.registry.get(name);
  const { record } = container;
  const { status } = record.state;
  if (status === "paused") throw new EngineError("conflict", `container ${name} is paused, unpause the container before attach`);
  if (status === "restarting") throw new EngineError("conflict", `container ${name} is restarting, wait until the container is running`);
  const request = { ...given, stdin: given.stdin && record.config.OpenStdin };
  const framed = !record.config.Tty;
  const live = given.stream ? await liveStream(ctx, container, request) : undefined;
  publishContainerEvent(ctx, container, "attach");
  if (!given.logs || record.logPath === "") return { stream: live ?? ended(), framed };
  const replay = await begun(replayed(container, request, framed));
  return { stream: live === undefined ? Duplex.from(replay) : new ReplayedStream(replay, live), framed };
}

function liveStream(ctx: EngineContext, container: Container, request: AttachRequest): Promise<Duplex> | Duplex {
  const { link } = container;
  if (link === undefined || !isRunning(container.state)) return ctx.attaches.add(container.id, request);
  const { stdin, stdout, stderr, detachKeys } = request;
  return link.attach({ stdin, stdout, stderr, detachKeys });
}

function ended(): Duplex {
  const stream = new PassThrough();
  stream.end();
  return stream;
}

/** What the log holds now, as an attached client would have got it. */
async function* replayed(container: Container, { stdout, stderr }: AttachRequest, framed: boolean): AsyncGenerator<Uint8Array> {
  for await (const entries of readContainerLogs(container, { stdout, stderr, follow: false, tail: undefined, sinceNs: undefined, untilNs: undefined })) {
    yield Buffer.concat(framed ? entries.flatMap(({ stream, log }) => [frameHead(stream, log.length), log]) : entries.map(({ log }) => log));
  }
}

/** Has read the beginning: where the past ends is settled, then. */
async function begun(source: AsyncGenerator<Uint8Array>): Promise<AsyncGenerator<Uint8Array>> {
  const first = await source.next();
  async function* all(): AsyncGenerator<Uint8Array> {
    if (first.done === true) return;
    yield first.value;
    yield* source;
  }
  return all();
}

/** Reads the past and then the present; what is written goes to the present at once. */
class ReplayedStream extends Duplex {
  readonly #live: Duplex;
  readonly #source: AsyncIterator<Uint8Array>;
  #reading = false;

  constructor(past: AsyncIterable<Uint8Array>, live: Duplex) {
    super({ allowHalfOpen: true });
    this.#live = live;
    async function* all(): AsyncGenerator<Uint8Array> {
      yield* past;
      // Its end is the end of the output: input may still be on its way.
      yield* live.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>;
    }
    this.#source = all();
    live.on("error", (error) => this.destroy(error));
  }

  override _read(): void {
    if (this.#reading) return;
    this.#reading = true;
    this.#source.next().then(
      ({ value, done }) => {
        this.#reading = false;
        this.push(done === true ? null : value);
      },
      (error: Error) => this.destroy(error),
    );
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, callback: () => void): void {
    if (this.#live.writable) this.#live.write(chunk, () => callback());
    else callback();
  }

  override _final(callback: () => void): void {
    if (this.#live.writable) this.#live.end();
    callback();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#live.destroy();
    callback(error);
  }
}

export async function resizeContainer(ctx: EngineContext, name: string, rows: number, columns: number): Promise<void> {
  const container = ctx.registry.get(name);
  if (container.link === undefined) throw new EngineError("conflict", `container ${container.id} is not running`);
  await container.link.resize(rows, columns);
  publishContainerEvent(ctx, container, "resize", { height: String(rows), width: String(columns) });
}

export async function* readContainerLogs(container: Container, query: LogQuery, signal?: AbortSignal): AsyncGenerator<LogEntry[]> {
  const { record, link } = container;
  if (record.logPath === "" || !isReadable(record.hostConfig.LogConfig))
    throw new EngineError("unsupported", "configured logging driver does not support reading");
  // What the process has written before the request is in the answer.
  if (link !== undefined) await link.flush();
  yield* readLog(record.logPath, query, link?.exited, signal);
}
