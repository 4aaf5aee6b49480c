/** Debian's docker-registry on 127.0.0.1, with a configuration that the test makes. @module */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { hasProgram } from "./daemon.ts";
import { cleanEnv, eventually } from "./run.ts";

export interface RegistryOptions {
  /** TLS with this certificate; clients must show one of `clientCa`. */
  readonly tls?: { readonly certificate: string; readonly key: string; readonly clientCa?: string };
  /** Lines of the section `auth`. */
  readonly auth?: readonly string[];
  /** It fetches from there what it lacks. */
  readonly proxyOf?: string;
}

export class DockerRegistry {
  /** Why there is none here. */
  static readonly missing: string | undefined = hasProgram("docker-registry") ? undefined : "docker-registry is not installed";
  /** `127.0.0.1:5000` */
  readonly host: string;
  readonly #child: ChildProcess;
  readonly #logPath: string;

  private constructor(host: string, child: ChildProcess, logPath: string) {
    this.host = host;
    this.#child = child;
    this.#logPath = logPath;
  }

  /** `directory`: where it keeps its files; made when it is not there. */
  static async start(directory: string, options: RegistryOptions = {}): Promise<DockerRegistry> {
    mkdirSync(directory, { recursive: true });
    const port = await freePort();
    const { tls, auth, proxyOf } = options;
    const lines = [
      "version: 0.1",
      "log: {accesslog: {disabled: false}}",
      "storage:",
      `  filesystem: {rootdirectory: ${join(directory, "data")}}`,
      "  delete: {enabled: true}",
      ...(auth === undefined ? [] : ["auth:", ...auth.map((line) => `  ${line}`)]),
      ...(proxyOf === undefined ? [] : [`proxy: {remoteurl: "${proxyOf}"}`]),
      "http:",
      `  addr: 127.0.0.1:${port}`,
      "  secret: for-tests-only",
      ...(tls === undefined ? [] : ["  tls:", `    certificate: ${tls.certificate}`, `    key: ${tls.key}`]),
      ...(tls?.clientCa === undefined ? [] : [`    clientcas: [${tls.clientCa}]`]),
    ];
    writeFileSync(join(directory, "config.yml"), `${lines.join("\n")}\n`);
    const logPath = join(directory, "log");
    const log = openSync(logPath, "a");
    const child = spawn("docker-registry", ["serve", join(directory, "config.yml")], { stdio: ["ignore", log, log], env: cleanEnv() });
    closeSync(log);
    const registry = new DockerRegistry(`127.0.0.1:${port}`, child, logPath);
    await eventually(
      () => (child.exitCode === null ? listens(port) : Promise.reject(new Error(`docker-registry ended:\n${registry.log()}`))),
      (answers) => answers,
      20_000,
    );
    return registry;
  }

  log(): string {
    return readFileSync(this.#logPath, "utf8");
  }

  /** Requests so far that contain all these words: `["GET", "/blobs/"]`. */
  requests(...words: readonly string[]): string[] {
    return this.log()
      .split("\n")
      .filter((line) => / - - \[/.test(line) && words.every((word) => line.includes(word)));
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }
}

/** A port that nobody has; nothing keeps it from being taken before it is used. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

async function listens(port: number): Promise<boolean> {
  const { connect } = await import("node:net");
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}
