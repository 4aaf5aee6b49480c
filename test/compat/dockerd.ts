/** Debian's dockerd as a second engine with roots of its own, to compare with. @module */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { hasProgram, httpCall } from "./daemon.ts";
import { cleanEnv, eventually } from "./run.ts";

export class Dockerd {
  /** Why there is none to compare with. */
  static readonly missing: string | undefined = hasProgram("docker") ? (hasProgram("dockerd") ? undefined : "no dockerd") : "no docker client";
  readonly host: string;
  readonly #work: string;
  readonly #socket: string;
  #process: ChildProcess | undefined;

  readonly #args: readonly string[];
  readonly #enter: readonly string[];

  /**
   * `work`: an existing directory for its roots, socket and pid file. `args`: what it may do to the host's network; by default nothing. `enter`: a program with its
   * arguments that becomes the daemon, elsewhere.
   */
  constructor(work: string, args: readonly string[] = ["--bridge", "none", "--iptables=false"], enter: readonly string[] = []) {
    this.#work = work;
    this.#args = args;
    this.#enter = enter;
    this.#socket = join(work, "docker.sock");
    this.host = `unix://${this.#socket}`;
  }

  async start(): Promise<void> {
    const roots = ["data-root", "exec-root"].flatMap((root) => [`--${root}`, join(this.#work, `dockerd-${root}`)]);
    const args = [...roots, "--pidfile", join(this.#work, "pid"), "-H", this.host, ...this.#args];
    const [program, ...rest] = [...this.#enter, "dockerd", ...args] as [string, ...string[]];
    this.#process = spawn(program, rest, { stdio: "ignore", env: cleanEnv() });
    await eventually(
      () =>
        httpCall(this.#socket, "GET", "/_ping").then(
          ({ status }) => status,
          () => 0,
        ),
      (status) => status === 200,
      30_000,
    );
  }

  async stop(): Promise<void> {
    if (this.#process === undefined) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
  }
}
