/** What is done to a container that exists: start, state, kill, delete, pause, resume. @module */
import { closeSync, constants, openSync, rmSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, errnoOf } from "#core/errors.ts";
import { signalNumber } from "#linux/signals.ts";
import { cgroupManager, type RuntimeContext } from "./context.ts";
import { idOf, isSet, type Parsed, flagValue } from "./flags.ts";
import { runHooksAnyway } from "./hooks.ts";
import { isAlive, ociState, type StoredState } from "./state.ts";

/** How long the kernel may take to end a process after SIGKILL, and a program to begin after the word to. */
const END_TIMEOUT_MS = 10_000;

async function until(holds: () => boolean, timeoutMs: number): Promise<boolean> {
  const end = Date.now() + timeoutMs;
  for (let pauseMs = 1; !holds(); pauseMs = Math.min(50, pauseMs * 2)) {
    if (Date.now() >= end) return false;
    await sleep(pauseMs);
  }
  return true;
}

/** Opens the FIFO for writing; undefined when nobody reads from it (any more). */
function openFifo(path: string): number | undefined {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === "ENXIO" || errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** The process holds its FIFO until it becomes the program (or ends). */
function isWaiting(path: string): boolean {
  const fd = openFifo(path);
  if (fd !== undefined) closeSync(fd);
  return fd !== undefined;
}

export async function startContainer({ io, store }: RuntimeContext, id: string): Promise<void> {
  const state = store.read(id);
  const status = store.status(state);
  if (status === "stopped") throw new EngineError("conflict", "cannot start a container that has stopped");
  if (status === "creating") throw new EngineError("conflict", "cannot start a container that is being created");
  if (status !== "created") throw new EngineError("conflict", "cannot start an already running container");
  const fifo = store.fifo(id);
  const fd = openFifo(fifo);
  if (fd === undefined) throw new EngineError("conflict", "cannot start a container that has stopped");
  writeSync(fd, "0");
  closeSync(fd);
  // startContainer hooks take as long as they take; the launch of a program does not.
  const hooked = (state.spec.hooks?.["startContainer"]?.length ?? 0) > 0;
  const begun = await until(() => !isWaiting(fifo), hooked ? 2 ** 30 : END_TIMEOUT_MS);
  if (!begun) throw new EngineError("kernel", "the container's process does not start its program");
  rmSync(fifo, { force: true });
  await runHooksAnyway(state.spec, "poststart", ociState(state, isAlive(state) ? "running" : "stopped"), io);
}

export async function start(context: RuntimeContext, flags: Parsed): Promise<number> {
  await startContainer(context, idOf(flags));
  return 0;
}

export async function state({ io, store }: RuntimeContext, flags: Parsed): Promise<number> {
  const stored = store.read(idOf(flags));
  io.out(`${JSON.stringify(ociState(stored, store.status(stored)), undefined, 2)}\n`);
  return 0;
}

function signalOf(text: string): number {
  const number = signalNumber(text);
  if (number === undefined) throw new EngineError("invalid", `unknown signal "${text}"`);
  return number;
}

function sendSignal(pid: number, signal: number): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (errnoOf(error) !== "ESRCH") throw error;
  }
}

export async function kill({ store }: RuntimeContext, flags: Parsed): Promise<number> {
  const stored = store.read(idOf(flags));
  const signal = signalOf(flags.rest[1] ?? "SIGTERM");
  if (isSet(flags, "all")) {
    const pids = stored.cgroup === undefined ? [] : await (await cgroupManager(stored)).pids(stored.cgroup);
    for (const pid of pids) sendSignal(pid, signal);
    return 0;
  }
  const status = store.status(stored);
  if (status === "stopped" || status === "creating") throw new EngineError("conflict", "container not running");
  sendSignal(stored.pid, signal);
  return 0;
}

/** Takes the container away. Missing is no error with `force`. */
export async function deleteContainer({ io, store }: RuntimeContext, id: string, force: boolean): Promise<void> {
  let stored: StoredState;
  try {
    stored = store.read(id);
  } catch (error) {
    if (!force || !(error instanceof EngineError) || error.code !== "not-found") throw error;
    store.remove(id);
    return;
  }
  const status = store.status(stored);
  // A process that has not begun its program is ended, as runc does.
  if (status !== "stopped" && status !== "created" && !force) throw new EngineError("conflict", `cannot delete container ${id} that is not stopped: ${status}`);
  const { cgroup } = stored;
  const cgroups = cgroup === undefined ? undefined : await cgroupManager(stored);
  if (status !== "stopped" && status !== "creating") {
    sendSignal(stored.pid, 9);
    // A frozen process ends when it is thawed.
    if (status === "paused" && cgroup !== undefined) await cgroups?.thaw(cgroup);
    if (!(await until(() => !isAlive(stored), END_TIMEOUT_MS))) throw new EngineError("kernel", `container ${id} does not end after SIGKILL`);
  }
  if (cgroup !== undefined) {
    // Without a PID namespace of its own, or with an exec that went its own way, others may be left.
    await cgroups?.kill(cgroup);
    await cgroups?.remove(cgroup);
  }
  store.remove(id);
  await runHooksAnyway(stored.spec, "poststop", ociState(stored, "stopped"), io);
}

export async function remove(context: RuntimeContext, flags: Parsed): Promise<number> {
  await deleteContainer(context, idOf(flags), isSet(flags, "force"));
  return 0;
}

async function freezeOrThaw({ store }: RuntimeContext, id: string, paused: boolean): Promise<number> {
  const stored = store.read(id);
  const status = store.status(stored);
  if (paused && status !== "running" && status !== "created") throw new EngineError("conflict", "container not running");
  if (!paused && status !== "paused") throw new EngineError("conflict", "container not paused");
  if (stored.cgroup === undefined) throw new EngineError("unsupported", "the container has no cgroup: it cannot be paused");
  const cgroups = await cgroupManager(stored);
  await (paused ? cgroups.freeze(stored.cgroup) : cgroups.thaw(stored.cgroup));
  store.write({ ...stored, paused });
  return 0;
}

export const pause = (context: RuntimeContext, flags: Parsed): Promise<number> => freezeOrThaw(context, idOf(flags), true);
export const resume = (context: RuntimeContext, flags: Parsed): Promise<number> => freezeOrThaw(context, idOf(flags), false);

export async function list({ io, store }: RuntimeContext, flags: Parsed): Promise<number> {
  const states = store.all().map((stored) => ({ ...ociState(stored, store.status(stored)), owner: "root" }));
  if (isSet(flags, "quiet")) io.out(states.map(({ id }) => `${id}\n`).join(""));
  else if (flagValue(flags, "format") === "json") io.out(`${JSON.stringify(states.length === 0 ? null : states)}\n`);
  else {
    const rows = [
      ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"],
      ...states.map((s) => [s.id, String(s.pid), s.status, s.bundle, s.created ?? "", s.owner]),
    ];
    const widths = rows[0]?.map((_, column) => Math.max(12, ...rows.map((row) => (row[column] ?? "").length + 1))) ?? [];
    io.out(
      rows
        .map(
          (row) =>
            `${row
              .map((cell, column) => cell.padEnd(widths[column] ?? 0))
              .join("")
              .trimEnd()}\n`,
        )
        .join(""),
    );
  }
  return 0;
}
