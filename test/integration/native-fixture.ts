/** A small root directory with busybox, a helper, and plans that run in it. @module */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { copyFile, mkdir, readdir, symlink } from "node:fs/promises";
import type { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Helper, LaunchRequest, LaunchStdio, MonitorLink } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import type { Op } from "#linux/ops.gen.ts";
import { NO_SLOT, type Step } from "#linux/plan.ts";

export const root: string = fileURLToPath(new URL("../..", import.meta.url));

/** Where the compiled programs are; compiles them when a source has changed. */
export async function nativeDirectory(): Promise<string> {
  // A script of the build, in JavaScript: it has no types of its own.
  const build = (await import(new URL("../../scripts/build-native.mjs", import.meta.url).href)) as { buildNative(outDir: string): string };
  build.buildNative(join(root, "dist/bin"));
  return join(root, "dist/bin");
}

export const CLONE = { NEWNS: 0x20000n, NEWUTS: 0x4000000n, NEWIPC: 0x8000000n, NEWUSER: 0x10000000n, NEWPID: 0x20000000n, NEWNET: 0x40000000n } as const;

export const host = (op: Op, ignore: readonly string[] = []): Step => ({ ...op, where: "host", why: "test", ignore });
export const child = (op: Op, ignore: readonly string[] = []): Step => ({ ...op, where: "child", why: "test", ignore });

export interface ContainerOptions {
  readonly argv: readonly string[];
  readonly stdio?: Partial<LaunchStdio>;
  readonly clone?: bigint;
  /** Host steps after the clone. */
  readonly host?: readonly Step[];
  /** Child steps before pivot_root. */
  readonly before?: readonly Step[];
  /** Child steps right before exec. */
  readonly after?: readonly Step[];
  readonly env?: readonly string[];
  readonly exitReports?: readonly string[];
  readonly request?: Partial<LaunchRequest>;
  readonly onListening?: (attach: MonitorLink["attach"]) => void;
}

export interface Container {
  readonly link: MonitorLink;
  readonly files: { readonly socket: string; readonly exit: string; readonly pid: string; readonly log: string };
  /** The log's entries, texts joined per stream. */
  output(): { stdout: string; stderr: string };
}

export class Lab {
  readonly directory: string;
  readonly rootfs: string;
  readonly helperPath: string;
  helper!: Helper;
  readonly messages: string[] = [];
  #count = 0;

  private constructor(directory: string, helperPath: string) {
    this.directory = directory;
    this.rootfs = join(directory, "rootfs");
    this.helperPath = helperPath;
  }

  static async open(helperPath?: string): Promise<Lab> {
    const lab = new Lab(mkdtempSync("/dev/shm/wherry-native-"), helperPath ?? join(await nativeDirectory(), "wherry-helper"));
    for (const name of ["bin", "proc", "dev/pts", "tmp", "etc"]) await mkdir(join(lab.rootfs, name), { recursive: true });
    await copyFile("/bin/busybox", join(lab.rootfs, "bin/busybox"));
    for (const applet of ["sh", "cat", "echo", "true", "sleep", "ls", "stty", "head", "dd", "yes", "ps", "kill", "id", "hostname", "trap"])
      await symlink("busybox", join(lab.rootfs, "bin", applet));
    await lab.start();
    return lab;
  }

  async start(): Promise<void> {
    this.helper = await startHelper({ helperPath: this.helperPath, execRoot: this.directory, log: (line) => this.messages.push(line) });
  }

  async close(): Promise<void> {
    await this.helper.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  steps({ argv, clone, host: hostSteps = [], before = [], after = [], env = ["PATH=/bin"], stdio }: ContainerOptions): Step[] {
    const tty = stdio?.tty === true;
    return [
      host({ op: "open_tree", dir: NO_SLOT, path: this.rootfs, flags: 1, out: 0 }),
      host({ op: "clone", flags: clone ?? CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWNET, cgroup: NO_SLOT }),
      ...hostSteps,
      child({ op: "mount", source: "none", dir: NO_SLOT, path: "/", fstype: "", flags: 0x44000n, data: "" }),
      child({ op: "move_mount", mnt: 0, dir: NO_SLOT, path: "/" }),
      child({ op: "mount", source: "proc", dir: 0, path: "proc", fstype: "proc", flags: 0n, data: "" }),
      child({ op: "mount", source: "tmpfs", dir: 0, path: "dev", fstype: "tmpfs", flags: 0n, data: "mode=755" }),
      child({ op: "mkdir", dir: 0, path: "dev/pts", mode: 0o755, uid: 0, gid: 0, parents: 0 }),
      child({ op: "mount", source: "devpts", dir: 0, path: "dev/pts", fstype: "devpts", flags: 0n, data: "newinstance,ptmxmode=0666,mode=620" }),
      child({ op: "mknod", dir: 0, path: "dev/null", mode: 0o20666, major: 1, minor: 3, uid: 0, gid: 0 }, ["EPERM"]),
      child({ op: "mknod", dir: 0, path: "dev/tty", mode: 0o20666, major: 5, minor: 0, uid: 0, gid: 0 }, ["EPERM"]),
      ...before,
      ...(tty ? [] : [child({ op: "setsid" })]),
      child({ op: "stdio", console: tty ? 1 : 0 }),
      child({ op: "pivot_root", root: 0 }),
      child({ op: "close", slot: 0 }),
      child({ op: "chdir", path: "/" }),
      ...after,
      child({ op: "exec", paths: [argv[0]?.includes("/") ? argv[0] : `/bin/${argv[0]}`], argv, envp: env }),
    ];
  }

  /** Launches a container. */
  async launch(options: ContainerOptions): Promise<Container> {
    const at = join(this.directory, `c${++this.#count}`);
    const files = { socket: `${at}.sock`, exit: `${at}.exit`, pid: `${at}.pid`, log: `${at}.log` };
    const link = await this.helper.launch(
      {
        plan: { steps: this.steps(options) },
        stdio: {
          tty: false,
          rows: 0,
          columns: 0,
          openStdin: false,
          stdinOnce: false,
          attachGate: 0,
          log: { path: files.log, maxBytes: 0, maxFiles: 1 },
          ...options.stdio,
        },
        socketPath: files.socket,
        exitPath: files.exit,
        pidPath: files.pid,
        exitReports: options.exitReports ?? [],
        ...options.request,
      },
      options.onListening,
    );
    return { link, files, output: () => readLog(files.log) };
  }

  /** Runs a shell command to its end. */
  async sh(script: string, options: Partial<ContainerOptions> = {}): Promise<{ code: number; signal: number; stdout: string; stderr: string }> {
    const container = await this.launch({ argv: ["sh", "-c", script], ...options });
    const { code, signal } = await container.link.exited;
    return { code, signal, ...container.output() };
  }
}

export function logEntries(path: string): { log: string; stream: string; time: string }[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as { log: string; stream: string; time: string });
}

function readLog(path: string): { stdout: string; stderr: string } {
  const entries = logEntries(path);
  const of = (stream: string) =>
    entries
      .filter((entry) => entry.stream === stream)
      .map((entry) => entry.log)
      .join("");
  return { stdout: of("stdout"), stderr: of("stderr") };
}

/** All bytes of a socket until its end. */
export async function drain(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Docker's frames, joined per stream. */
export function unframe(data: Buffer): { stdout: string; stderr: string } {
  const parts: [string[], string[]] = [[], []];
  for (let at = 0; at < data.length; ) {
    const size = data.readUInt32BE(at + 4);
    parts[(data[at] ?? 1) - 1]?.push(data.subarray(at + 8, at + 8 + size).toString("latin1"));
    at += 8 + size;
  }
  return { stdout: parts[0].join(""), stderr: parts[1].join("") };
}

/** Waits until something holds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(5)) if (await holds()) return;
  throw new Error(`not within ${timeoutMs} ms: ${what}`);
}

export const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readStatus(pid));
function readStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return "State: Z";
  }
}

/** Pids whose parent is `pid`. */
export async function childrenOf(pid: number): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^[0-9]+$/.test(name)).map(Number);
  return pids.filter((candidate) => new RegExp(`^PPid:\\s+${pid}$`, "m").test(readStatus(candidate)));
}

/** Monitors that have a launch, of a helper: not the one that waits for the next. */
export async function monitorsOf(helper: number): Promise<number[]> {
  return (await childrenOf(helper)).filter((pid) => /^Name:\s+wherry-monitor$/m.test(readStatus(pid)));
}

/** The monitor that waits for the next launch, once there is one. */
export async function spareOf(helper: number): Promise<number> {
  let found: number[] = [];
  await until("a monitor waits", async () => {
    found = (await childrenOf(helper)).filter((pid) => /^Name:\s+wherry-helper$/m.test(readStatus(pid)));
    return found.length === 1;
  });
  return found[0] ?? 0;
}

/** The pid of a lab's helper. */
export function helperPid(lab: Lab): number {
  const found = execFileSync(
    "sh",
    [
      "-c",
      `for p in /proc/[0-9]*; do [ "$(readlink $p/exe 2>/dev/null)" = "/memfd:wherry-helper (deleted)" ] && grep -q "^PPid:.*[^0-9]${process.pid}$" $p/status 2>/dev/null && echo \${p#/proc/}; done; true`,
    ],
    { encoding: "utf8" },
  );
  const pids = found.trim().split("\n").map(Number);
  if (pids.length !== 1 || !(pids[0]! > 1)) throw new Error(`expected one helper of ours (${lab.directory}), found: ${found}`);
  return pids[0]!;
}
