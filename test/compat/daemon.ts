/**
 * A wherryd of the test's own: roots, socket, bridge and cgroup parent that nobody else uses. What it leaves behind is counted when it has ended.
 * @module
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { patient } from "../patience.ts";
import { CheckedSocket } from "./checked-socket.ts";
import { cleanEnv, eventually } from "./run.ts";

/** The build under test: `dist`, or another one that WHERRY_TEST_DIST names. */
const dist = process.env.WHERRY_TEST_DIST ?? fileURLToPath(new URL("../../dist/", import.meta.url));
export const wherrydPath: string = join(dist, "bin/wherryd");
export const wherryPath: string = join(dist, "bin/wherry");

/** Why a daemon cannot be started here; undefined when it can. */
export function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return "not root";
  if (!existsSync(wherrydPath)) return "not built (npm run build)";
  return undefined;
}

export const hasProgram = (name: string): boolean => spawnSync("sh", ["-c", `command -v "$0"`, name]).status === 0;

export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  json<T = Record<string, unknown>>(): T;
}

/** One HTTP request on a unix socket. */
export function httpCall(socketPath: string, method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const data = body === undefined ? undefined : body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body));
    const req = request({
      socketPath,
      method,
      path,
      headers: {
        ...(data ? { "Content-Type": body instanceof Uint8Array ? "application/x-tar" : "application/json", "Content-Length": data.length } : {}),
        ...headers,
      },
    });
    req.on("error", reject);
    req.on("response", (res) => {
      const chunks: Buffer[] = [];
      res.on("data", (chunk: Buffer) => chunks.push(chunk));
      res.on("error", reject);
      res.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        resolve({ status: res.statusCode ?? 0, headers: res.headers, text, json: <T>() => JSON.parse(text) as T });
      });
    });
    req.end(data);
  });
}

export interface DaemonOptions {
  /** Where its roots are made; a directory of its own by default. */
  readonly base?: string;
  /** False: clients speak to the daemon itself, and replies are not held against docker's description of them. For clients that are no HTTP. */
  readonly checked?: boolean;
  readonly args?: readonly string[];
  /** A program with its arguments that becomes the daemon, elsewhere: `nsenter …`. */
  readonly enter?: readonly string[];
}

export class TestDaemon {
  readonly id: string = randomBytes(3).toString("hex");
  readonly base: string;
  readonly dataRoot: string;
  readonly execRoot: string;
  /** For clients: every reply is checked ({@link CheckedSocket}) where docker's description of the API is there. */
  readonly socket: string;
  readonly host: string;
  /** Where the daemon itself listens. */
  readonly directSocket: string;
  readonly bridge: string;
  readonly cgroupParent: string;
  readonly #args: readonly string[];
  readonly #enter: readonly string[];
  readonly #ownBase: boolean;
  #child: ChildProcess | undefined;
  #checks: CheckedSocket | undefined;
  readonly #deviations = new Set<string>();

  constructor(options: DaemonOptions = {}) {
    this.#ownBase = options.base === undefined;
    this.base = options.base ?? mkdtempSync(join(tmpdir(), "wt-"));
    this.dataRoot = join(this.base, "data");
    this.execRoot = join(this.base, "run");
    mkdirSync(this.execRoot, { recursive: true });
    this.socket = join(this.execRoot, "wherry.sock");
    this.host = `unix://${this.socket}`;
    const checked = options.checked !== false && CheckedSocket.missing === undefined;
    this.directSocket = checked ? join(this.execRoot, "direct.sock") : this.socket;
    this.bridge = `wht${this.id}`;
    this.cgroupParent = `/wherry-test-${this.id}`;
    this.#args = options.args ?? [];
    this.#enter = options.enter ?? [];
  }

  /** Pid of the Node process. */
  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error("the daemon does not run");
    return this.#child.pid;
  }

  get logPath(): string {
    return join(this.base, "wherryd.log");
  }

  log(): string {
    return readFileSync(this.logPath, "utf8");
  }

  /** Starts and waits until it answers; resolves to the milliseconds that took. */
  async start(): Promise<number> {
    await this.#endChecks();
    const from = performance.now();
    const log = openSync(this.logPath, "a");
    const [program, ...args] = [
      ...this.#enter,
      wherrydPath,
      "--data-root",
      this.dataRoot,
      "--exec-root",
      this.execRoot,
      "--host",
      `unix://${this.directSocket}`,
      "--bridge",
      this.bridge,
      "--cgroup-parent",
      this.cgroupParent,
      ...this.#args,
    ] as [string, ...string[]];
    const child = spawn(program, args, { env: cleanEnv(), stdio: ["ignore", log, log] });
    closeSync(log);
    this.#child = child;
    for (;;) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`wherryd ended while starting:\n${this.log()}`);
      const answered = await httpCall(this.directSocket, "GET", "/_ping").then(
        (reply) => reply.status === 200,
        () => false,
      );
      if (answered) {
        const took = performance.now() - from;
        if (this.directSocket !== this.socket) this.#checks = await CheckedSocket.open(this.socket, this.directSocket);
        return took;
      }
      if (performance.now() - from > patient(60_000)) {
        await this.kill("SIGKILL");
        throw new Error(`wherryd does not answer:\n${this.log()}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  api(method: string, path: string, body?: unknown): Promise<Reply> {
    return httpCall(this.socket, method, `/v1.51${path}`, body);
  }

  /** Ends the Node process and waits until it has ended. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child && child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "exit");
      child.kill(signal);
      await exited;
    }
    await this.#endChecks();
  }

  /** Replies that were not as docker describes them, so far. */
  deviations(): string[] {
    return [...this.#deviations, ...(this.#checks?.problems ?? [])];
  }

  async #endChecks(): Promise<void> {
    const checks = this.#checks;
    this.#checks = undefined;
    if (checks === undefined) return;
    for (const problem of checks.problems) this.#deviations.add(problem);
    await checks.close();
  }

  /** Pid of the helper: the daemon's child that is the native program. */
  helperPid(): number {
    const children = processes().filter((p) => p.ppid === this.pid && p.threads === 1);
    if (children.length !== 1) throw new Error(`expected one helper below ${this.pid}, found ${JSON.stringify(children)}`);
    return children[0]!.pid;
  }

  /** Removes all containers, stops the daemon, and says what is left of it, and what it has answered otherwise than described. The test expects []. */
  async stop(): Promise<string[]> {
    if (this.#child) {
      const list = (await this.api("GET", "/containers/json?all=1")).json<{ Id: string }[]>();
      for (const { Id } of list) await this.api("DELETE", `/containers/${Id}?force=1&v=1`);
      const ids = list.map((c) => c.Id);
      await eventually(
        () => this.traces(ids),
        (left) => left.length === 0,
        patient(5000),
      ).catch(() => undefined);
      await this.kill("SIGTERM");
    }
    const left = await eventually(
      () => this.#left(),
      (list) => list.length === 0,
      patient(5000),
    ).catch(() => this.#left());
    spawnSync("ip", ["link", "del", this.bridge]);
    this.#removeCgroups();
    if (this.#ownBase && left.length === 0) rmSync(this.base, { recursive: true, force: true });
    return [...left, ...this.deviations()];
  }

  /** Anything on this machine that belongs to this daemon's containers: mounts, cgroups, interfaces, processes, directories named after them. */
  traces(containerIds: readonly string[]): string[] {
    const left: string[] = [];
    for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) if (line.includes(`${this.base}/`)) left.push(`mount ${line}`);
    for (const dir of this.#cgroupDirs()) for (const child of subdirectories(dir)) left.push(`cgroup ${child}`);
    for (const name of this.#enslaved()) left.push(`interface ${name}`);
    const known = new Set(containerIds);
    for (const p of processes()) {
      const id = containerIds.find((one) => p.cgroup.includes(one) || p.command.includes(one));
      if (id !== undefined) left.push(`process ${p.pid} ${p.command}`);
    }
    for (const path of listTree(this.base, 6)) if (known.has(path.slice(path.lastIndexOf("/") + 1))) left.push(`directory ${path}`);
    return left;
  }

  /** Gives all containers together the largest weight against whatever else this machine does. */
  preferCpu(): void {
    for (const dir of this.#cgroupDirs()) {
      for (const [file, value] of [
        ["cpu.shares", "262144"],
        ["cpu.weight", "10000"],
      ] as const) {
        if (existsSync(join(dir, file))) writeFileSync(join(dir, file), value);
      }
    }
  }

  #left(): string[] {
    const left = this.traces([]);
    for (const p of processes()) if (p.command.includes(this.base) || p.cgroup.includes(this.cgroupParent)) left.push(`process ${p.pid} ${p.command}`);
    for (const dir of ["containers"]) {
      const path = join(this.dataRoot, dir);
      if (existsSync(path)) for (const name of readdirSync(path)) left.push(`directory ${join(path, name)}`);
    }
    return left;
  }

  #cgroupDirs(): string[] {
    const roots = ["/sys/fs/cgroup", ...subdirectories("/sys/fs/cgroup")];
    return roots.map((root) => join(root, this.cgroupParent)).filter((dir) => existsSync(dir));
  }

  #removeCgroups(): void {
    for (const dir of this.#cgroupDirs()) rmdirQuietly(dir);
  }

  /** Interfaces on our bridge. */
  #enslaved(): string[] {
    const dir = `/sys/class/net/${this.bridge}/brif`;
    return existsSync(dir) ? readdirSync(dir) : [];
  }
}

function rmdirQuietly(dir: string): void {
  // `rmdir`, not a recursive removal: cgroupfs has files that cannot be unlinked.
  spawnSync("find", [dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
}

function subdirectories(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(dir, entry.name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" || (error as NodeJS.ErrnoException).code === "ENODEV") return [];
    throw error;
  }
}

function listTree(dir: string, depth: number): string[] {
  return subdirectories(dir).flatMap((child) => [child, ...(depth > 1 ? listTree(child, depth - 1) : [])]);
}

export interface ProcessInfo {
  readonly pid: number;
  readonly ppid: number;
  readonly threads: number;
  readonly command: string;
  readonly cgroup: string;
  readonly exe: string;
}

/** All processes now, kernel threads left out. */
export function processes(): ProcessInfo[] {
  const list: ProcessInfo[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const status = readFileSync(`/proc/${name}/status`, "utf8");
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      if (command === "") continue;
      const number = (key: string): number => Number(new RegExp(`^${key}:\\s*(\\d+)`, "m").exec(status)?.[1] ?? 0);
      list.push({
        pid: Number(name),
        ppid: number("PPid"),
        threads: number("Threads"),
        command,
        cgroup: readFileSync(`/proc/${name}/cgroup`, "utf8"),
        exe: readlinkSync(`/proc/${name}/exe`),
      });
    } catch (error) {
      // It ended while it was looked at.
      if (!["ENOENT", "ESRCH", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
  }
  return list;
}
