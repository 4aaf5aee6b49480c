/** Runs programs for tests: output as bytes, exit code, pseudo-terminals. @module */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** Ends the program (SIGKILL) when it takes longer. */
  readonly timeoutMs?: number;
}

/** This process's environment without what would lead a client elsewhere. */
export function cleanEnv(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const env = Object.fromEntries(Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined));
  for (const name of ["NODE_EXTRA_CA_CERTS", "DOCKER_HOST", "WHERRY_HOST", "DOCKER_CONTEXT", "DOCKER_API_VERSION", "DOCKER_CONFIG"]) delete env[name];
  return { ...env, ...extra };
}

/** Exit code as a shell gives it. */
function codeOf(child: ChildProcess, code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? (signal === "SIGKILL" && child.killed ? 124 : 128);
}

/** Runs to the end. Never rejects for an exit code. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<Result> {
  const child = spawn(command[0]!, command.slice(1), { env: cleanEnv(options.env), stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 60_000);
  const texts = Promise.all([text(child.stdout!), text(child.stderr!)]);
  // A program may end without reading its input.
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(options.input);
  const [code, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  clearTimeout(timer);
  const [stdout, stderr] = await texts;
  return { code: codeOf(child, code, signal), stdout, stderr };
}

async function text(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/** Runs to the end and throws unless the code is 0; resolves to standard output without the last newline. */
export async function ok(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(command, options);
  if (result.code !== 0) throw new Error(`${command.join(" ")}: exit ${result.code}\n${result.stderr}${result.stdout}`.trim());
  return result.stdout.replace(/\n$/, "");
}

/** A program on a terminal of its own. */
export interface Terminal {
  /** All that the terminal has shown. */
  shown(): string;
  type(text: string): void;
  resize(rows: number, columns: number): void;
  /** Waits until the screen has shown a text. */
  until(part: string | RegExp, timeoutMs?: number): Promise<string>;
  /** The program's exit code. */
  readonly exited: Promise<number>;
  kill(): void;
}

const ptyProgram = fileURLToPath(new URL("on-terminal.py", import.meta.url));

export function terminal(
  command: readonly string[],
  options: { readonly rows: number; readonly columns: number; readonly env?: Readonly<Record<string, string>> },
): Terminal {
  const child = spawn("python3", [ptyProgram, String(options.rows), String(options.columns), ...command], {
    env: cleanEnv({ TERM: "xterm", ...options.env }),
    stdio: ["pipe", "pipe", "inherit", "pipe"],
  });
  let screen = "";
  child.stdout!.on("data", (chunk: Buffer) => {
    screen += chunk.toString("utf8");
  });
  const exited = once(child, "exit").then(([code]) => Number(code));
  const control = child.stdio[3] as Writable;
  for (const stream of [child.stdin!, control]) stream.on("error", () => undefined); // typing into a program that has ended
  return {
    shown: () => screen,
    type: (typed) => void child.stdin!.write(typed),
    resize: (rows, columns) => void control.write(`${rows} ${columns}`),
    async until(part, timeoutMs = 10_000) {
      const from = Date.now();
      for (;;) {
        if (typeof part === "string" ? screen.includes(part) : part.test(screen)) return screen;
        if (Date.now() - from > timeoutMs) throw new Error(`waited for ${String(part)}; the terminal shows:\n${screen}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    exited,
    kill: () => void child.kill("SIGKILL"),
  };
}

/** Asks again until the answer is the one that is waited for. */
export async function eventually<T>(ask: () => Promise<T> | T, done: (answer: T) => boolean, timeoutMs = 10_000): Promise<T> {
  const from = Date.now();
  for (;;) {
    const answer = await ask();
    if (done(answer)) return answer;
    if (Date.now() - from > timeoutMs) throw new Error(`still ${JSON.stringify(answer)} after ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
