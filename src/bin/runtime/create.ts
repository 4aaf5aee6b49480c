/** `create` and `run`. @module */
import { resolve } from "node:path";
import { EngineError } from "#core/errors.ts";
import type { OciSpec } from "#core/runtime-spec.ts";
import type { Detached } from "#linux/detached-launch.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import type { Plan, Step } from "#linux/plan.ts";
import { type DetachedProcess, planContainer, seccompListener, seccompProgram } from "#runtime/mod.ts";
import type { CgroupPlan } from "#cgroup/mod.ts";
import { fileBinds, readBundle } from "./bundle.ts";
import { helperPath, hostFacts, planCgroup, type RuntimeContext } from "./context.ts";
import { deleteContainer, startContainer } from "./lifecycle.ts";
import { idOf, isSet, type Parsed, flagValue } from "./flags.ts";
import { checkHooks, containerHooks, runHooks } from "./hooks.ts";
import { absolute, requireOwnProcess, type RuntimeIo } from "./io.ts";
import { type OciState, ociState, type Status, type StoredState } from "./state.ts";
import { writePidFile } from "./files.ts";
import { foreground } from "./foreground.ts";
import { validate } from "./validate.ts";

export async function create(context: RuntimeContext, flags: Parsed): Promise<number> {
  await createContainer(context, flags, { wait: false });
  return 0;
}

/** create and start; unless detached, stays until the program ends and answers with its exit code. */
export async function run(context: RuntimeContext, flags: Parsed): Promise<number> {
  const wait = !isSet(flags, "detach");
  const id = idOf(flags);
  const process = await createContainer(context, flags, { wait });
  try {
    await startContainer(context, id);
  } catch (error) {
    await deleteContainer(context, id, true);
    throw error;
  }
  if (!wait) return 0;
  try {
    return await foreground(process, context.io);
  } finally {
    if (!isSet(flags, "keep")) await deleteContainer(context, id, true);
  }
}

/** Where the launcher's terminal goes, checked before anything is made. */
export function consoleOf(io: RuntimeIo, flags: Parsed, tty: boolean, wait: boolean): string | undefined {
  const given = absolute(io, flagValue(flags, "console-socket"));
  if (tty && !wait && given === undefined) throw new EngineError("invalid", "cannot allocate tty if runc will detach without setting console socket");
  if (!tty && given !== undefined) throw new EngineError("invalid", "cannot use console socket if runc will not detach or allocate tty");
  return given;
}

/** `--preserve-fds`, and what LISTEN_FDS announces (systemd's socket activation). */
export function preservedOf(flags: Parsed): number {
  const count = Number(flagValue(flags, "preserve-fds") ?? 0);
  if (!Number.isInteger(count) || count < 0 || count > 250)
    throw new EngineError("invalid", "invalid value for --preserve-fds: a number from 0 to 250 is expected");
  return count;
}

async function createContainer(context: RuntimeContext, flags: Parsed, { wait }: { readonly wait: boolean }): Promise<Detached> {
  const { io, store } = context;
  const id = idOf(flags);
  const bundle = resolve(io.cwd, flagValue(flags, "bundle") ?? ".");
  const spec = readBundle(bundle, (line) => io.err(line));
  checkHooks(spec);
  const tty = spec.process.terminal === true;
  const consoleSocket = consoleOf(io, flags, tty, wait);
  const preserveFds = preservedOf(flags);
  if (preserveFds > 0) requireOwnProcess(io, "descriptors of the caller are handed on");
  if (tty && wait) requireOwnProcess(io, "the caller's terminal is the container's");
  if (context.systemdCgroup) requireOwnProcess(io, "systemd is asked for the cgroup");
  store.reserve(id);
  let made: Awaited<ReturnType<typeof planCgroup>>;
  let held: { release(): Promise<void> } | undefined;
  try {
    const facts = await hostFacts();
    validate(spec, facts);
    made = await planCgroup(spec, id, context);
    const cgroup = made?.plan;
    const base = { id, pid: 0, startTime: "0", bundle, rootfs: spec.root.path, created: new Date().toISOString(), spec };
    const noKeyring = isSet(flags, "no-new-keyring");
    const kept = { cgroup: cgroup?.paths, paused: false, ...(noKeyring ? { noKeyring } : {}) };
    const stored = (status: Status, pid: number): OciState => ociState({ ...base, pid }, status);
    // So that `delete --force` finds the cgroup of a creation that was killed half way.
    store.write({ ...base, ...kept });
    const detached = { fifo: store.fifo(id), preserveFds, noPivot: isSet(flags, "no-pivot"), noKeyring };
    const plan = planFor(spec, { id, facts, cgroup, tty, detached, state: stored("creating", 0) });
    if (made !== undefined) held = await made.manager.hold?.(made.plan);
    const process = await io.launch({
      helperPath: helperPath(),
      plan,
      tty,
      rows: spec.process.consoleSize?.height ?? 0,
      columns: spec.process.consoleSize?.width ?? 0,
      consoleSocket,
      wait,
      preserveFds,
      onGate: async (pid) => {
        await runHooks(spec, "prestart", stored("creating", pid));
        await runHooks(spec, "createRuntime", stored("creating", pid));
      },
    });
    const state: StoredState = { ...base, ...kept, pid: process.pid, startTime: String(process.startTime) };
    store.write(state);
    writePidFile(absolute(io, flagValue(flags, "pid-file")), process.pid);
    return process;
  } catch (error) {
    await held?.release();
    if (made !== undefined) await made.manager.remove(made.plan.paths);
    store.remove(id);
    throw error;
  } finally {
    await held?.release();
    await made?.manager.close();
  }
}

interface PlanParts {
  readonly id: string;
  readonly facts: HostFacts;
  readonly cgroup: CgroupPlan | undefined;
  readonly tty: boolean;
  readonly detached: DetachedProcess;
  readonly state: OciState;
}

function planFor(spec: OciSpec, { id, facts, cgroup, tty, detached, state }: PlanParts): Plan {
  const gate: Step = { op: "engine_gate", where: "host", why: "hooks of the spec run, in the runtime's namespaces", section: "Hooks" };
  const hooked = (spec.hooks?.["prestart"]?.length ?? 0) + (spec.hooks?.["createRuntime"]?.length ?? 0) > 0;
  return planContainer({
    spec,
    root: { kind: "bind", source: spec.root.path, readonly: spec.root.readonly === true, owners: "disk" },
    facts,
    cgroup,
    network: hooked ? [gate] : [],
    tty,
    seccomp: seccompProgram(spec.linux?.seccomp ?? undefined, facts),
    attachGate: false,
    files: fileBinds(spec),
    id,
    detached: { ...detached, listener: seccompListener(spec.linux?.seccomp, withoutPid(state)) },
    hooks: {
      createContainer: containerHooks(spec, "createContainer", state),
      startContainer: containerHooks(spec, "startContainer", { ...state, status: "created" }),
    },
  });
}

/** Which pid it will be is not known yet. */
function withoutPid({ pid: _pid, ...state }: OciState): Omit<OciState, "pid"> {
  return state;
}
