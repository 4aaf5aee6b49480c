/**
 * `exec`: one more process in a running container, with a monitor of its own.
 * @module
 */
import type { Duplex } from "node:stream";
import type { Container } from "#container/container.ts";
import type { ExecRecord } from "#container/mod.ts";
import { isRunning } from "#container/state.ts";
import type { OciProcess, OciSpec } from "#core/runtime-spec.ts";
import { parseDetachKeys } from "#core/detach-keys.ts";
import { EngineError } from "#core/errors.ts";
import { newId } from "#core/ids.ts";
import { frameHead } from "#core/stream-frame.ts";
import { type ExitRecord, type MonitorLink, PlanError } from "#linux/helper.ts";
import type { Plan } from "#linux/plan.ts";
import { PlanPattern } from "#linux/plan-pattern.ts";
import type { ResolvedUser } from "#runtime/users.ts";
import { capabilitySets, environmentOf, planExec, renderPlanError, seccompFor, seccompProgram, slots } from "#runtime/mod.ts";
import { containerCapabilities } from "#runtime/capabilities.ts";
import { parseSecurityOptions } from "#runtime/security-options.ts";
import { connectAll, endAll, launchedWith } from "./attach-stream.ts";
import { joinedProcesses, specOf } from "./container-spec.ts";
import { type EngineContext, monitorFiles, publishContainerEvent } from "./context.ts";
import { type Exec, newExec } from "./exec-table.ts";
import type { AttachedStream, Execs } from "./mod.ts";
import { userOfExec } from "./resolve-user.ts";

export async function createExec(ctx: EngineContext, name: string, config: ExecRecord["config"]): Promise<string> {
  const container = ctx.registry.get(name);
  requireRunning(container, name);
  if (config.Cmd.length === 0) throw new EngineError("invalid", "No exec command specified");
  const record: ExecRecord = { id: newId(), containerId: container.id, config, running: false, exitCode: null, pid: 0, openStdin: config.AttachStdin };
  ctx.execs.add(record, container);
  publishContainerEvent(ctx, container, `exec_create: ${commandText(config.Cmd)}`, { execID: record.id });
  return record.id;
}

/**
 * A process of the engine's own in a container: no exec instance that a client could look up, but its events. Its output comes framed; its stdin is empty.
 * `started` rejects in Docker's words.
 */
export function runUnlisted(
  ctx: EngineContext,
  container: Container,
  cmd: readonly string[],
): { readonly exec: Exec; readonly stream: Duplex; readonly started: Promise<void> } {
  const config = {
    AttachStdin: false,
    AttachStdout: true,
    AttachStderr: true,
    DetachKeys: "",
    Tty: false,
    Cmd: [...cmd],
    Env: null,
    WorkingDir: "",
    User: "",
    Privileged: false,
  };
  const record: ExecRecord = { id: newId(), containerId: container.id, config, running: false, exitCode: null, pid: 0, openStdin: false };
  const exec = newExec(record, container);
  exec.started = true;
  publishContainerEvent(ctx, container, `exec_create: ${commandText(cmd)}`, { execID: record.id });
  const stream = ctx.attaches.add(record.id, { stdin: false, stdout: true, stderr: true, stream: true, logs: false, detachKeys: new Uint8Array() });
  const pending = ctx.attaches.take(record.id);
  const started = start(ctx, exec, false, pending, { detach: false, tty: false });
  started.catch(() => endAll(pending));
  return { exec, stream, started };
}

/** As docker puts it together: there is a space behind a program without arguments, too. */
function commandText([program = "", ...args]: readonly string[]): string {
  return `${program} ${args.join(" ")}`;
}

function requireRunning(container: Container, name: string): void {
  const { status } = container.state;
  if (status === "paused") throw new EngineError("conflict", `Container ${name} is paused, unpause the container before exec`);
  if (status === "restarting") throw new EngineError("conflict", `Container ${name} is restarting, wait until the container is running`);
  if (!isRunning(container.state)) throw new EngineError("conflict", `container ${container.id} is not running`);
}

export async function startExec(ctx: EngineContext, id: string, options: Parameters<Execs["start"]>[1]): Promise<AttachedStream | undefined> {
  const exec = ctx.execs.get(id);
  const { container, record } = exec;
  if (record.running) throw new EngineError("conflict", `exec command ${record.id} is already running`);
  if (exec.started) throw new EngineError("conflict", `exec command ${record.id} has already run`);
  requireRunning(container, container.id);
  exec.started = true;
  const { config } = record;
  const tty = config.Tty || options.tty;
  if (options.detach || options.direct !== undefined) {
    await start(ctx, exec, tty, [], options);
    return undefined;
  }
  // Docker's client is told of a failure in the stream, once it is attached.
  const failure = async () => {
    const error = await started.then(
      () => undefined,
      (reason: EngineError) => reason,
    );
    if (error !== undefined) return failureText(error, tty);
    // Whoever has seen the stream's end may ask for the exit code.
    await exec.ended;
    return undefined;
  };
  const request = {
    stdin: config.AttachStdin,
    stdout: config.AttachStdout,
    stderr: config.AttachStderr,
    stream: true,
    logs: false,
    detachKeys: tty ? parseDetachKeys(config.DetachKeys) : new Uint8Array(),
  };
  const stream = ctx.attaches.add(record.id, request, failure);
  const pending = ctx.attaches.take(record.id);
  const started = start(ctx, exec, tty, pending, options);
  started.catch(() => endAll(pending));
  return { stream, framed: !tty };
}

function failureText({ message }: EngineError, tty: boolean): Uint8Array {
  const text = Buffer.from(`${message}\r\n`);
  return tty ? text : Buffer.concat([frameHead("stdout", text.length), text]);
}

/** @throws EngineError in Docker's words; the exec has then an exit code */
async function start(
  ctx: EngineContext,
  exec: Exec,
  tty: boolean,
  pending: Parameters<typeof connectAll>[0],
  options: Parameters<Execs["start"]>[1],
): Promise<void> {
  const { container, record } = exec;
  try {
    const link = await launchExec(ctx, exec, tty, pending, options);
    exec.link = link;
    exec.record = { ...exec.record, running: true, pid: link.pid };
    publishContainerEvent(ctx, container, `exec_start: ${commandText(record.config.Cmd)}`, { execID: record.id });
    watchExec(ctx, exec, link);
  } catch (error) {
    const failure = asExecError(error);
    finish(ctx, exec, failure.details.exitCode ?? 126);
    throw failure;
  }
}

function asExecError(error: unknown): EngineError {
  if (error instanceof PlanError) {
    const { code, message, hint, details, cause } = renderPlanError(error, { action: "exec" });
    // containerd's word at the end of every error that is not one of its own.
    return new EngineError(code, `${message}: unknown`, { cause, details, ...(hint === undefined ? {} : { hint }) });
  }
  return error instanceof EngineError ? error : new EngineError("internal", `OCI runtime exec failed: ${(error as Error).message}`, { cause: error });
}

async function launchExec(
  ctx: EngineContext,
  exec: Exec,
  tty: boolean,
  pending: Parameters<typeof connectAll>[0],
  options: Parameters<Execs["start"]>[1],
): Promise<MonitorLink> {
  const { container, record } = exec;
  const { config } = record;
  const plan = await planOf(ctx, container, { config, tty, attachGate: pending.length > 0 });
  const { direct } = options;
  const { socketPath, exitPath } = monitorFiles(ctx.options, container.id, record.id);
  let failAttach!: (error: unknown) => void;
  const attachFailed = new Promise<never>((_, reject) => (failAttach = reject));
  const launched = ctx.helper.launch(
    {
      plan,
      stdio: {
        tty,
        rows: direct?.rows ?? options.rows ?? 0,
        columns: direct?.columns ?? options.columns ?? 0,
        openStdin: config.AttachStdin,
        stdinOnce: true,
        ...(direct === undefined
          ? {}
          : {
              direct: {
                token: direct.token,
                stdin: direct.stdin && config.AttachStdin,
                stdout: direct.stdout,
                stderr: direct.stderr,
                detachKeys: direct.detachKeys,
              },
            }),
        attachGate: pending.length,
      },
      socketPath,
      exitPath,
      pidPath: "", // a restart of the engine ends what it knows of execs: nobody would read it
      exitReports: [],
    },
    pending.length === 0 ? undefined : (attach) => void connectAll(pending, attach).catch(failAttach),
  );
  return pending.length === 0 ? launched : launchedWith(launched, attachFailed);
}

interface ExecShape {
  readonly config: ExecRecord["config"];
  readonly tty: boolean;
  readonly attachGate: boolean;
}

/** Nothing of the exec's own, such as its id, stands in its plan: probes, tests and scripts execute the same again and again. */
async function planOf(ctx: EngineContext, container: Container, { config, tty, attachGate }: ExecShape): Promise<Plan> {
  const { record, state, id, run } = container;
  const user = await userOfExec(ctx, container, config.User === "" ? record.config.User : config.User);
  const { Cmd, Env, WorkingDir, Privileged } = config;
  const shape = JSON.stringify([id, run, user, Cmd, Env, WorkingDir, Privileged, tty, attachGate]);
  const known = ctx.known.execs.get(shape);
  if (known !== undefined) return known.for(id, []);
  const process = await processOf(ctx, container, { config, tty, user });
  const { cgroup } = record;
  const plan = planExec({
    target: { pid: state.pid, startTime: BigInt(state.startTime) },
    process: process.process,
    namespaces: process.namespaces,
    facts: ctx.facts,
    cgroup: cgroup === undefined ? { join: [] } : ctx.cgroups.planJoin(cgroup, slots.cgroup),
    tty,
    seccomp: process.seccomp,
    attachGate,
    userns: record.idMappings !== undefined,
    id,
  });
  ctx.known.execs.set(shape, new PlanPattern(plan, id));
  return plan;
}

interface ExecProcess {
  readonly process: OciProcess;
  readonly namespaces: readonly string[];
  readonly seccomp: Uint8Array | undefined;
}

/** The container's own process, but for what the exec says otherwise. */
async function processOf(
  ctx: EngineContext,
  container: Container,
  { config, tty, user }: Pick<ExecShape, "config" | "tty"> & { readonly user: ResolvedUser },
): Promise<ExecProcess> {
  const { record } = container;
  const spec = await containerSpec(ctx, container);
  const userns = record.idMappings !== undefined;
  const capabilities = config.Privileged
    ? containerCapabilities({ add: null, drop: null, privileged: true, userns }, ctx.facts).names
    : (spec.process.capabilities?.bounding ?? []);
  const cwd = config.WorkingDir || record.config.WorkingDir || "/";
  const env = environmentOf({ ...record.config, Tty: tty, Env: [...(record.config.Env ?? []), ...(config.Env ?? [])] }, user.home);
  const security = parseSecurityOptions(record.hostConfig.SecurityOpt);
  return {
    process: {
      ...spec.process,
      terminal: tty,
      user: { uid: user.uid, gid: user.gid, ...(user.additionalGids.length > 0 ? { additionalGids: [...user.additionalGids] } : {}) },
      args: config.Cmd,
      env,
      cwd,
      capabilities: capabilitySets([...capabilities], user.uid),
      noNewPrivileges: security.noNewPrivileges && !config.Privileged,
      ...(config.Privileged && spec.process.apparmorProfile !== undefined ? { apparmorProfile: "unconfined" } : {}),
    },
    namespaces: (spec.linux?.namespaces ?? []).map((ns) => ns.type),
    seccomp: config.Privileged
      ? undefined
      : seccompProgram(
          record.hostConfig.Privileged && security.seccomp === "builtin" ? undefined : seccompFor(security.seccomp, capabilities, ctx.facts),
          ctx.facts,
        ),
  };
}

/** The spec of a running container, built again when this daemon has not started it. */
async function containerSpec(ctx: EngineContext, container: Container): Promise<OciSpec> {
  const { run } = container;
  const known = specs.get(container);
  if (known?.run === run) return known.spec;
  const { spec } = await specOf(ctx, container.record, {
    user: { uid: 0, gid: 0, additionalGids: [], home: "/" },
    join: joinedProcessesOrSelf(ctx, container),
  });
  specs.set(container, { run, spec });
  return spec;
}

const specs = new WeakMap<Container, { readonly run: number; readonly spec: OciSpec }>();

/** The container whose namespaces were joined may have ended; that they are not the host's is all that matters here. */
function joinedProcessesOrSelf(ctx: EngineContext, { record, state }: Container): ReturnType<typeof joinedProcesses> {
  try {
    return joinedProcesses(ctx, record.hostConfig);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return { pid: state.pid, ipc: state.pid, network: state.pid, uts: state.pid };
  }
}

function watchExec(ctx: EngineContext, exec: Exec, link: MonitorLink): void {
  const done = (exit: Pick<ExitRecord, "code">) => finish(ctx, exec, exit.code);
  ctx.background.addEndless(
    `the end of exec ${exec.record.id}`,
    link.exited.then(done, () => done({ code: 137 })),
  );
}

function finish(ctx: EngineContext, exec: Exec, code: number): void {
  const { container, record } = exec;
  exec.link = undefined;
  exec.record = { ...record, running: false, exitCode: code, pid: 0 };
  exec.end(code);
  const { socketPath, exitPath } = monitorFiles(ctx.options, container.id, record.id);
  ctx.leftovers.add([socketPath, exitPath]);
  publishContainerEvent(ctx, container, "exec_die", { execID: record.id, exitCode: String(code) });
}

export async function resizeExec(ctx: EngineContext, id: string, rows: number, columns: number): Promise<void> {
  const { link, record } = ctx.execs.get(id);
  if (link === undefined) throw new EngineError("conflict", `cannot resize a stopped exec: ${record.id}`);
  await link.resize(rows, columns);
}
