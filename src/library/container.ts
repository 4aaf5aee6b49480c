/** A container in a program's hands. @module */
import type { Readable } from "node:stream";
import type { ChangeItem, ContainerInspect, TopResult, WaitResult } from "#api/types/container-json.ts";
import type { StatsJson } from "#api/types/stats-json.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { framePieces } from "#core/stream-frame.ts";
import { abort, asStream, unixSeconds, unlessGone } from "./arguments.ts";
import type { Calls } from "./calls.ts";

/** For calls that a program may lose interest in. */
export interface Abortable {
  /** Aborted: the call rejects with the signal's reason, a stream ends with it. What the engine has begun it may still end. */
  readonly signal?: AbortSignal | undefined;
}

/** A line (or what a program wrote before it paused) of a container's output, without its line end. */
export interface LogLine {
  readonly stream: "stdout" | "stderr";
  readonly text: string;
}

export interface LogOptions extends Abortable {
  /** Goes on until the container ends. */
  readonly follow?: boolean;
  /** Only so many of the last. */
  readonly tail?: number;
  readonly since?: Date;
  readonly until?: Date;
}

export interface ExecOptions extends Abortable {
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly workdir?: string;
  readonly privileged?: boolean;
}

/** What a program that has ended left. */
export interface Output {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program that runs in a container. Read `output` to its end: it keeps back-pressure. */
export interface RunningProgram {
  /** end() closes its standard input; what it has to say goes on. */
  readonly stdin: NodeJS.WritableStream;
  readonly output: AsyncIterable<{ readonly stream: "stdout" | "stderr"; readonly data: Uint8Array }>;
  /** Settles when it has ended. */
  exitCode(options?: Abortable): Promise<number>;
}

/** What a connection carries, by stream. */
function pieces(stream: AsyncIterable<Uint8Array>, framed: boolean): RunningProgram["output"] {
  return framed ? framePieces(stream) : rawPieces(stream);
}

async function* rawPieces(source: AsyncIterable<Uint8Array>): RunningProgram["output"] {
  for await (const data of source) yield { stream: "stdout", data };
}

/**
 * A handle: it holds no state but its id, and may outlive the container (calls then throw EngineError "not-found").
 * `await using` removes the container at the end of the block, whatever state it is in.
 */
export class Container implements AsyncDisposable {
  /** 64 hexadecimal digits. */
  readonly id: string;
  readonly #calls: Calls;

  /** @internal */
  constructor(calls: Calls, id: string) {
    this.#calls = calls;
    this.id = id;
  }

  inspect({ signal }: Abortable = {}): Promise<ContainerInspect> {
    return this.#calls.json("GET", this.#path("json"), abort(signal));
  }

  /** Starting what runs already is no error. */
  async start({ signal }: Abortable = {}): Promise<void> {
    await this.#verb("start", {}, signal);
  }

  /** SIGTERM (or the image's signal), then SIGKILL after `timeoutSeconds`. Stopping what has ended is no error. */
  async stop({ timeoutSeconds, signal }: Abortable & { readonly timeoutSeconds?: number } = {}): Promise<void> {
    await this.#verb("stop", { t: timeoutSeconds }, signal);
  }

  async restart({ timeoutSeconds, signal }: Abortable & { readonly timeoutSeconds?: number } = {}): Promise<void> {
    await this.#verb("restart", { t: timeoutSeconds }, signal);
  }

  async kill(what: NodeJS.Signals = "SIGKILL", { signal }: Abortable = {}): Promise<void> {
    await this.#verb("kill", { signal: what }, signal);
  }

  async pause({ signal }: Abortable = {}): Promise<void> {
    await this.#verb("pause", {}, signal);
  }

  async unpause({ signal }: Abortable = {}): Promise<void> {
    await this.#verb("unpause", {}, signal);
  }

  async rename(name: string, { signal }: Abortable = {}): Promise<void> {
    await this.#verb("rename", { name }, signal);
  }

  /** Settles when the container has ended. @returns its exit code */
  async wait({ signal }: Abortable = {}): Promise<number> {
    return (await this.#wait("not-running", signal)).StatusCode;
  }

  /**
   * Settles when the health check has succeeded.
   * @throws EngineError "unavailable" when the container ends or turns unhealthy before that, or has no health check
   */
  async healthy({ signal }: Abortable = {}): Promise<void> {
    const { Error: failure } = await this.#wait("healthy", signal);
    if (failure) throw new EngineError("unavailable", failure.Message);
  }

  /** By lines, as they were written. */
  async *logs(options: LogOptions = {}): AsyncGenerator<LogLine, void, undefined> {
    const { follow = false, tail, since, until, signal } = options;
    const query = { stdout: true, stderr: true, follow, tail: tail ?? "all", since: unixSeconds(since), until: unixSeconds(until) };
    const { Config } = await this.inspect({ signal });
    const body = await this.#calls.stream("GET", this.#path("logs"), { query, ...abort(signal) });
    try {
      yield* linesOf(pieces(body, !Config.Tty));
    } catch (error) {
      throw signal?.aborted ? signal.reason : error;
    } finally {
      body.destroy();
    }
  }

  /** Runs a program in the container, to its end. The reply is kept in memory: for much output use {@link spawn}. */
  async exec(command: readonly string[], options: ExecOptions & { readonly stdin?: string | Uint8Array } = {}): Promise<Output> {
    const program = await this.spawn(command, options);
    program.stdin.end(options.stdin ?? "");
    return { ...(await gather(program.output)), exitCode: await program.exitCode(options) };
  }

  /** Starts a program in the container. */
  async spawn(command: readonly string[], { env, user, workdir, privileged, signal }: ExecOptions = {}): Promise<RunningProgram> {
    const body = {
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      Cmd: command,
      ...(env && { Env: Object.entries(env).map(([name, value]) => `${name}=${value}`) }),
      ...(user === undefined ? {} : { User: user }),
      ...(workdir === undefined ? {} : { WorkingDir: workdir }),
      ...(privileged === undefined ? {} : { Privileged: privileged }),
    };
    const { Id } = await this.#calls.json<{ Id: string }>("POST", this.#path("exec"), { body, ...abort(signal) });
    const { stream, framed } = await this.#calls.hijack("POST", `/exec/${Id}/start`, { body: { Detach: false, Tty: false }, ...abort(signal) });
    stream.on("error", () => undefined); // who reads the output gets it
    return {
      stdin: stream,
      output: pieces(stream, framed),
      exitCode: async (options = {}) => {
        const ended = await this.#calls.json<WaitResult>("POST", `/wherry/exec/${Id}/wait`, abort(options.signal));
        return ended.StatusCode;
      },
    };
  }

  /** The container's own streams, from now on. Before {@link start} nothing is lost. */
  async attach({ signal }: Abortable = {}): Promise<Pick<RunningProgram, "stdin" | "output">> {
    const query = { stream: true, stdin: true, stdout: true, stderr: true };
    const { stream, framed } = await this.#calls.hijack("POST", this.#path("attach"), { query, ...abort(signal) });
    return { stdin: stream, output: pieces(stream, framed) };
  }

  /** Where a published port is reached from this host. @throws EngineError "not-found" when it is not published */
  async port(container: number | string, { signal }: Abortable = {}): Promise<{ readonly host: string; readonly port: number }> {
    const key = typeof container === "number" || !container.includes("/") ? `${container}/tcp` : container;
    const { NetworkSettings } = await this.inspect({ signal });
    const binding = NetworkSettings.Ports[key]?.[0];
    if (binding === undefined) throw new EngineError("not-found", `port ${key} of container ${this.id.slice(0, 12)} is not published`);
    const everywhere = binding.HostIp === "" || binding.HostIp === "0.0.0.0" || binding.HostIp === "::";
    return { host: everywhere ? "127.0.0.1" : binding.HostIp, port: Number(binding.HostPort) };
  }

  /** One reading. */
  stats({ signal }: Abortable = {}): Promise<StatsJson> {
    return this.#calls.json("GET", this.#path("stats"), { query: { stream: false, "one-shot": true }, ...abort(signal) });
  }

  top({ signal }: Abortable = {}): Promise<TopResult> {
    return this.#calls.json("GET", this.#path("top"), abort(signal));
  }

  /** What differs from the image. */
  changes({ signal }: Abortable = {}): Promise<readonly ChangeItem[]> {
    return this.#calls.json("GET", this.#path("changes"), abort(signal));
  }

  /** A path of the container as a tar whose entries begin with the path's last component. */
  readArchive(path: string, { signal }: Abortable = {}): Promise<Readable> {
    return this.#calls.stream("GET", this.#path("archive"), { query: { path }, ...abort(signal) });
  }

  /** Unpacks a tar (perhaps compressed) in a directory of the container. */
  async writeArchive(path: string, tar: Uint8Array | AsyncIterable<Uint8Array>, { signal }: Abortable = {}): Promise<void> {
    await this.#calls.json("PUT", this.#path("archive"), { query: { path }, body: asStream(tar), ...abort(signal) });
  }

  /** With its anonymous volumes. Removing what is gone is no error. */
  async remove({ force = false, signal }: Abortable & { readonly force?: boolean } = {}): Promise<void> {
    await unlessGone(this.#calls.json("DELETE", `/containers/${this.id}`, { query: { force, v: true }, ...abort(signal) }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove({ force: true });
  }

  #path(what: string): string {
    return `/containers/${this.id}/${what}`;
  }

  #wait(condition: string, signal: AbortSignal | undefined): Promise<WaitResult> {
    return this.#calls.json("POST", this.#path("wait"), { query: { condition }, ...abort(signal) });
  }

  async #verb(verb: string, query: Readonly<Record<string, string | number | undefined>>, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#calls.json("POST", this.#path(verb), { query, ...abort(signal) });
    } catch (error) {
      if (!isEngineError(error, "not-modified")) throw error;
    }
  }
}

/** All of it as text. */
export async function gather(output: RunningProgram["output"]): Promise<Pick<Output, "stdout" | "stderr">> {
  const parts: { readonly stdout: Uint8Array[]; readonly stderr: Uint8Array[] } = { stdout: [], stderr: [] };
  for await (const { stream, data } of output) parts[stream].push(data);
  return { stdout: Buffer.concat(parts.stdout).toString("utf8"), stderr: Buffer.concat(parts.stderr).toString("utf8") };
}

/** Pieces as lines; each stream has its own beginning of a line. */
async function* linesOf(output: RunningProgram["output"]): AsyncGenerator<LogLine, void, undefined> {
  const begun = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
  for await (const { stream, data } of output) {
    let from = 0;
    for (let end = data.indexOf(0x0a); end >= 0; end = data.indexOf(0x0a, from)) {
      yield { stream, text: Buffer.concat([begun[stream], data.subarray(from, end)]).toString("utf8") };
      begun[stream] = Buffer.alloc(0);
      from = end + 1;
    }
    begun[stream] = Buffer.concat([begun[stream], data.subarray(from)]);
  }
  for (const stream of ["stdout", "stderr"] as const) if (begun[stream].length > 0) yield { stream, text: begun[stream].toString("utf8") };
}
