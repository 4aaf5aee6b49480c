/**
 * Runs containers from plans, without an engine: a busybox layer on disk, the native helper, and what a test wants of the spec.
 * @module
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CgroupManager, openCgroups } from "#cgroup/mod.ts";
import type { ContainerConfig, HostConfig } from "#core/container-config.ts";
import type { OciSpec } from "#core/runtime-spec.ts";
import type { ExitRecord, Helper, MonitorLink } from "#linux/helper.ts";
import { PlanError } from "#linux/helper.ts";
import { startHelper } from "#linux/helper-client.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { Step } from "#linux/plan.ts";
import { buildSpec, planContainer, planExec, renderPlanError, resolveUser, type SpecInput, seccompProgram, slots } from "#runtime/mod.ts";
import type { RootMountData } from "#runtime/root-mount.ts";
import { exampleConfig, exampleHostConfig } from "../../src/runtime/example.fixture.ts";
import { nativeHelper } from "../suites/native-helper.ts";

export interface RunOptions {
  readonly args: string[];
  readonly config?: Partial<ContainerConfig>;
  readonly hostConfig?: Partial<HostConfig>;
  readonly mounts?: SpecInput["mounts"];
  readonly devices?: NonNullable<SpecInput["devices"]>;
  readonly join?: NonNullable<SpecInput["join"]>;
  readonly userns?: SpecInput["userns"];
  readonly root?: RootMountData;
  readonly stdin?: string;
  /** Overrides of the host's facts: to plan as for an older kernel. */
  readonly facts?: Partial<HostFacts>;
  /** Changes the spec before it is planned. */
  readonly amend?: (spec: OciSpec) => void;
  /** Changes the plan before it is performed: takes a defence out. */
  readonly alter?: (steps: readonly Step[]) => readonly Step[];
}

export interface Running {
  readonly id: string;
  readonly link: MonitorLink;
  readonly spec: OciSpec;
  readonly userns: boolean;
  readonly cgroup: ReturnType<CgroupManager["plan"]>;
  /** Output so far. */
  readonly output: () => { readonly stdout: string; readonly stderr: string };
  readonly type: (text: string) => void;
  /** Waits for the end, and removes the cgroup. */
  finish(): Promise<Finished>;
}

export interface Finished {
  readonly code: number;
  readonly signal: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly record: ExitRecord;
}

const passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www:/var/www:/bin/sh\n";
const group = "root:x:0:\ntty:x:5:\nwww-data:x:33:\nmail:x:8:www-data\n";

export class Sandbox implements AsyncDisposable {
  readonly dir: string;
  readonly facts: HostFacts;
  readonly helper: Helper;
  readonly cgroups: CgroupManager;
  readonly #parent: string;

  private constructor(dir: string, facts: HostFacts, helper: Helper, cgroups: CgroupManager, parent: string) {
    this.dir = dir;
    this.facts = facts;
    this.helper = helper;
    this.cgroups = cgroups;
    this.#parent = parent;
  }

  static async open(facts: HostFacts, base = "/tmp", helperPath: string = nativeHelper()): Promise<Sandbox> {
    const dir = mkdtempSync(join(base, "wherry-rt-"));
    mkdirSync(join(dir, "run"), { mode: 0o700 });
    const helper = await startHelper({ helperPath, execRoot: join(dir, "run"), log: (line) => console.error(`helper: ${line}`) });
    const parent = `/wherry-rt-${randomBytes(4).toString("hex")}`;
    const cgroups = openCgroups(facts, { parent });
    await cgroups.prepare();
    makeBase(join(dir, "base"), join(dir, "init"));
    for (const [name, text] of Object.entries({ hostname: "boxed\n", hosts: "127.0.0.1 localhost\n", "resolv.conf": "nameserver 192.0.2.1\n" }))
      writeFileSync(join(dir, name), text);
    return new Sandbox(dir, facts, helper, cgroups, parent);
  }

  /** A fresh writable layer over the base. */
  overlay(): Extract<RootMountData, { kind: "overlay" }> {
    const key = join(this.dir, `c-${randomBytes(4).toString("hex")}`);
    for (const part of ["diff", "work"]) mkdirSync(join(key, part), { recursive: true });
    return {
      kind: "overlay",
      lower: [join(this.dir, "init"), join(this.dir, "base")],
      links: ["init", "base"],
      linkDir: this.dir,
      upper: join(key, "diff"),
      work: join(key, "work"),
      options: [],
    };
  }

  /** Starts a container; rejects with the rendered error when a step fails. */
  async start(options: RunOptions): Promise<Running> {
    const id = randomBytes(32).toString("hex");
    const facts = { ...this.facts, ...options.facts };
    const config = { ...exampleConfig, Hostname: "boxed", ...options.config };
    const hostConfig = { ...exampleHostConfig, ...options.hostConfig };
    const { spec, files } = buildSpec({
      id,
      config,
      hostConfig,
      args: options.args,
      user: resolveUser(config.User, passwd, group, hostConfig.GroupAdd ?? []),
      mounts: options.mounts ?? [],
      files: { hostname: join(this.dir, "hostname"), hosts: join(this.dir, "hosts"), resolvConf: join(this.dir, "resolv.conf") },
      cgroupsPath: `${this.#parent}/${id}`,
      facts,
      userns: options.userns,
      ...(options.join === undefined ? {} : { join: options.join }),
      ...(options.devices === undefined ? {} : { devices: options.devices }),
    });
    options.amend?.(spec);
    const cgroup = this.cgroups.plan("", id, spec.linux?.resources ?? {}, slots.cgroup);
    const initBinary = hostConfig.Init === true ? nativeHelper() : undefined;
    const plan = planContainer({
      spec,
      root: options.root ?? this.overlay(),
      facts,
      cgroup,
      network: [],
      tty: config.Tty,
      seccomp: seccompProgram(spec.linux?.seccomp, facts),
      attachGate: true,
      files,
      id,
      ...(initBinary === undefined ? {} : { initBinary }),
    });
    const altered = { ...plan, steps: options.alter?.(plan.steps) ?? plan.steps };
    const running = await this.#launch(id, altered, config.Tty, options.stdin, "start", () => this.cgroups.remove(cgroup.paths));
    return { ...running, id, spec, cgroup, userns: spec.linux?.uidMappings !== undefined };
  }

  /** Runs one more process in a container. */
  async exec(
    target: Running,
    args: string[],
    options: { readonly tty?: boolean; readonly amend?: (process: OciSpec["process"]) => void; readonly alter?: RunOptions["alter"] } = {},
  ): Promise<Finished> {
    const process = { ...target.spec.process, args };
    options.amend?.(process);
    const plan = planExec({
      target: { pid: target.link.pid, startTime: target.link.startTime },
      process,
      namespaces: (target.spec.linux?.namespaces ?? []).map((n) => n.type),
      facts: this.facts,
      cgroup: this.cgroups.planJoin(target.cgroup.paths, slots.cgroup),
      tty: options.tty ?? false,
      seccomp: seccompProgram(target.spec.linux?.seccomp, this.facts),
      attachGate: true,
      userns: target.userns,
      id: target.id,
    });
    const altered = { ...plan, steps: options.alter?.(plan.steps) ?? plan.steps };
    return await (await this.#launch(randomBytes(6).toString("hex"), altered, options.tty ?? false, undefined, "exec", async () => undefined)).finish();
  }

  async run(options: RunOptions): Promise<Finished> {
    return await (await this.start(options)).finish();
  }

  async #launch(
    id: string,
    plan: Parameters<Helper["launch"]>[0]["plan"],
    tty: boolean,
    stdin: string | undefined,
    action: "start" | "exec",
    cleanUp: () => Promise<unknown>,
  ): Promise<Pick<Running, "link" | "output" | "type" | "finish">> {
    const path = (suffix: string) => join(this.dir, "run", `${id.slice(0, 12)}.${suffix}`);
    const collected = new Demultiplexer(!tty);
    let attached: Promise<{ readonly socket: import("node:net").Socket; readonly ended: Promise<void> }> | undefined;
    let link: MonitorLink;
    try {
      link = await this.helper.launch(
        {
          plan,
          stdio: { tty, rows: 24, columns: 80, openStdin: stdin !== undefined || tty, stdinOnce: true, attachGate: 1 },
          socketPath: path("sock"),
          exitPath: path("exit"),
          pidPath: path("pid"),
          exitReports: [],
        },
        (attach) => {
          attached = attach({ stdin: true, stdout: true, stderr: true, detachKeys: new Uint8Array() }).then((socket) => {
            socket.on("data", (data) => collected.push(data));
            socket.on("error", () => undefined); // input for a process that has ended
            socket.on("end", () => socket.end());
            return { socket, ended: new Promise<void>((resolve) => socket.once("close", () => resolve())) };
          });
          attached.catch(() => undefined); // the launch tells why
        },
      );
    } catch (error) {
      await cleanUp();
      throw error instanceof PlanError ? renderPlanError(error, { action }) : error;
    }
    const attachment = await attached;
    if (attachment === undefined) throw new Error("the monitor never listened");
    const { socket, ended } = attachment;
    // Without bytes: an empty write to a monitor that has gone already is an error, and what it sent before would be lost with it.
    if (!tty) {
      if (stdin === undefined) socket.end();
      else socket.end(stdin);
    }
    return {
      link,
      output: () => collected.text(),
      type: (text) => void socket.write(text),
      finish: async () => {
        const record = await link.exited;
        await ended;
        await cleanUp();
        return { code: record.code, signal: record.signal, ...collected.text(), record };
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What a failed test left running.
    for (const paths of await this.cgroups.orphans(new Set())) {
      await this.cgroups.kill(paths);
      await this.cgroups.remove(paths);
    }
    await this.helper.close();
    const { paths } = this.cgroups.plan("", "x", {}, slots.cgroup);
    const parent = Object.fromEntries(Object.entries(paths.dirs).map(([key, dir]) => [key, dir.replace(/\/x$/, "")]));
    await this.cgroups.remove({ version: paths.version, dirs: parent });
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Docker's frames: 1 byte stream, 3 zero, 4 length (big endian). */
class Demultiplexer {
  readonly #framed: boolean;
  #pending = Buffer.alloc(0);
  readonly #streams: Record<number, Buffer[]> = { 1: [], 2: [] };
  constructor(framed: boolean) {
    this.#framed = framed;
  }
  push(data: Buffer): void {
    if (!this.#framed) {
      this.#streams[1]?.push(data);
      return;
    }
    this.#pending = Buffer.concat([this.#pending, data]);
    while (this.#pending.length >= 8 && this.#pending.length >= 8 + this.#pending.readUInt32BE(4)) {
      const length = this.#pending.readUInt32BE(4);
      this.#streams[this.#pending[0] ?? 0]?.push(this.#pending.subarray(8, 8 + length));
      this.#pending = this.#pending.subarray(8 + length);
    }
  }
  text(): { stdout: string; stderr: string } {
    const of = (stream: number) => Buffer.concat(this.#streams[stream] ?? []).toString("utf8");
    return { stdout: of(1), stderr: of(2) };
  }
}

/** Busybox with its applets, and the init layer that the storage owner makes for each container. */
function makeBase(base: string, init: string): void {
  for (const dir of ["bin", "etc", "root", "tmp", "var/www", "usr/bin", "sbin"]) mkdirSync(join(base, dir), { recursive: true });
  cpSync("/bin/busybox", join(base, "bin/busybox"), { dereference: true });
  for (const applet of execFileSync("/bin/busybox", ["--list"], { encoding: "utf8" }).trim().split("\n"))
    if (applet !== "busybox") symlinkSync("busybox", join(base, "bin", applet));
  writeFileSync(join(base, "etc/passwd"), passwd);
  writeFileSync(join(base, "etc/group"), group);
  writeFileSync(join(base, "etc/plain"), "a lower file\n");
  writeFileSync(join(base, "bin/junk"), "\0\0not a program", { mode: 0o755 });
  for (const dir of ["proc", "sys", "dev/pts", "dev/shm", "etc"]) mkdirSync(join(init, dir), { recursive: true });
  for (const file of ["etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv"]) writeFileSync(join(init, file), "");
}
