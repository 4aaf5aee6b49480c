/**
 * Programs that keep credentials: `docker-credential-<name> get|store|erase|list`, JSON on their pipes. They run in the caller's environment. Forking Node takes the daemon some
 * milliseconds; a helper that a person has set up, and that takes longer itself, is worth that.
 * @module
 * @see https://github.com/docker/docker-credential-helpers#development
 */
import { spawn } from "node:child_process";
import { isObject } from "#core/json.ts";
import type { CliIo } from "../io.ts";

export interface HelperCredentials {
  readonly Username: string;
  readonly Secret: string;
}

const timeoutMs = 60_000;
const maxOutput = 1024 * 1024;
/** How a helper says that it has nothing. */
const notFound = /credentials not found in native keychain|no credentials server URL|no credentials username/i;

export class CredentialHelper {
  readonly #io: CliIo;
  readonly #program: string;

  constructor(io: CliIo, suffix: string) {
    if (!/^[A-Za-z0-9._-]+$/.test(suffix)) throw new Error(`invalid credential helper "${suffix.slice(0, 100)}"`);
    this.#io = io;
    this.#program = `docker-credential-${suffix}`;
  }

  /** Undefined: it has none for this registry. */
  async get(server: string): Promise<HelperCredentials | undefined> {
    const { code, stdout } = await this.#run("get", server);
    if (code !== 0) {
      if (notFound.test(stdout)) return undefined;
      throw this.#failure("getting", code, stdout);
    }
    const value = this.#parse(stdout);
    if (typeof value["Username"] !== "string" || typeof value["Secret"] !== "string")
      throw new Error(`error getting credentials: ${this.#program} answers without Username and Secret`);
    return { Username: value["Username"], Secret: value["Secret"] };
  }

  async store(server: string, { Username, Secret }: HelperCredentials): Promise<void> {
    const { code, stdout } = await this.#run("store", JSON.stringify({ ServerURL: server, Username, Secret }));
    if (code !== 0) throw this.#failure("storing", code, stdout);
  }

  async erase(server: string): Promise<void> {
    const { code, stdout } = await this.#run("erase", server);
    if (code !== 0 && !notFound.test(stdout)) throw this.#failure("erasing", code, stdout);
  }

  #failure(what: string, code: number, stdout: string): Error {
    return new Error(`error ${what} credentials - err: exit status ${code}, out: \`${stdout.trim().slice(0, 500)}\``);
  }

  #parse(text: string): Readonly<Record<string, unknown>> {
    try {
      const value: unknown = JSON.parse(text);
      if (isObject(value)) return value;
    } catch {
      // What it printed may be a secret: it is not shown.
    }
    throw new Error(`error getting credentials: ${this.#program} does not answer with JSON`);
  }

  #run(action: string, input: string): Promise<{ readonly code: number; readonly stdout: string }> {
    const { env, cwd, gone } = this.#io;
    return new Promise((resolve, reject) => {
      const child = spawn(this.#program, [action], { cwd, env, stdio: ["pipe", "pipe", "ignore"], signal: gone, timeout: timeoutMs, killSignal: "SIGKILL" });
      let stdout = "";
      child.stdout.on("data", (chunk: Buffer) => {
        stdout += chunk.toString("utf8");
        if (stdout.length > maxOutput) child.kill("SIGKILL");
      });
      // A helper may end without reading what it is told.
      child.stdin.on("error", () => undefined);
      child.stdin.end(input);
      child.on("error", (error: NodeJS.ErrnoException) => {
        const why = error.code === "ENOENT" ? `exec: "${this.#program}": executable file not found in $PATH` : error.message;
        reject(new Error(`error getting credentials - err: ${why}, out: \`\``));
      });
      child.on("close", (code) => resolve({ code: code ?? 1, stdout }));
    });
  }
}
