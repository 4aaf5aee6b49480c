import { type ChildProcess, spawn } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errnoOf } from "#core/errors.ts";

/** Directories that Debian's tools lie in: the daemon may have been started with less. */
const searchPath = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/** Of a program that fails, so many lines are shown. */
const keptLines = 12;
const killAfterMs = 5_000;

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** Lines of stderr as they come, and of stdout where `report` is set. */
  readonly onLine?: (line: string) => void;
  /** What the program prints is for people. */
  readonly report?: boolean;
}

/** Path of a program, or undefined when it is not installed. */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of searchPath) {
    const path = join(directory, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch (error) {
      if (!["ENOENT", "EACCES", "ENOTDIR"].includes(errnoOf(error) ?? "")) throw error;
    }
  }
  return undefined;
}

/** Runs a program to its end; EngineError with its last lines when it fails. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  let output = "";
  for await (const chunk of runStreaming(program, args, options)) {
    output += Buffer.from(chunk).toString("utf8");
    if (output.length > 4 * 1024 * 1024) output = output.slice(-1024 * 1024);
  }
  return output;
}

/**
 * What a program writes to stdout. It is the one place of wherry that forks Node: making a base image is rare, and takes so long that the
 * milliseconds which a fork stops the daemon for do not show.
 */
export async function* runStreaming(program: string, args: readonly string[], options: RunOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
  if (options.signal?.aborted) throw cancelled(program, options.signal);
  const child = spawn(program, args, {
    cwd: options.cwd ?? "/",
    // A group of its own, so that all of it can be ended.
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: searchPath.join(":"), LC_ALL: "C.UTF-8", HOME: "/root", ...options.env },
  });
  const ended = new Promise<{ readonly error?: Error; readonly code?: number | null; readonly by?: NodeJS.Signals | null }>((resolve) => {
    child.once("error", (error) => resolve({ error }));
    child.once("close", (code, by) => resolve({ code, by }));
  });
  const stop = () => endGroup(child);
  options.signal?.addEventListener("abort", stop, { once: true });
  const last: string[] = [];
  const lines = new Lines((line) => {
    last.push(line);
    if (last.length > keptLines) last.shift();
    options.onLine?.(line);
  });
  child.stderr.on("data", (chunk: Buffer) => lines.add(chunk));
  let finished = false;
  try {
    for await (const chunk of child.stdout) {
      if (options.report === true) lines.add(chunk as Buffer);
      yield chunk as Buffer;
    }
    const { error, code, by } = await ended;
    finished = true;
    lines.end();
    if (options.signal?.aborted) throw cancelled(program, options.signal);
    if (error !== undefined) throw new EngineError("unavailable", `${program} cannot be run: ${error.message}`, { cause: error });
    if (code !== 0) throw new EngineError("internal", `${program} failed (${by ?? `exit code ${code}`}): ${last.join("; ") || "it says nothing of why"}`);
  } finally {
    options.signal?.removeEventListener("abort", stop);
    if (!finished) {
      endGroup(child);
      await ended;
    }
  }
}

/** TERM, and KILL for what does not heed it. */
function endGroup(child: ChildProcess): void {
  const { pid } = child;
  if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const send = (signal: NodeJS.Signals) => {
    try {
      process.kill(-pid, signal);
    } catch (error) {
      if (errnoOf(error) !== "ESRCH") throw error;
    }
  };
  send("SIGTERM");
  const timer = setTimeout(() => send("SIGKILL"), killAfterMs);
  child.once("close", () => clearTimeout(timer));
}

function cancelled(program: string, signal: AbortSignal): EngineError {
  return new EngineError("cancelled", `cancelled while ${program} was running`, { cause: signal.reason });
}

class Lines {
  readonly #take: (line: string) => void;
  #rest = "";

  constructor(take: (line: string) => void) {
    this.#take = take;
  }

  add(chunk: Buffer): void {
    const parts = (this.#rest + chunk.toString("utf8")).split(/\r?\n/);
    this.#rest = (parts.pop() ?? "").slice(-4096);
    for (const line of parts) if (line !== "") this.#take(line);
  }

  end(): void {
    if (this.#rest !== "") this.#take(this.#rest);
    this.#rest = "";
  }
}
