/**
 * `stop`, `kill`, `restart`: signals to a container's first process, and waiting for its end.
 * @module
 */
import { constants } from "node:os";
import type { CgroupPaths } from "#cgroup/mod.ts";
import type { Container } from "#container/container.ts";
import { signalName } from "#container/exit-reason.ts";
import { parseSignal } from "#container/signals.ts";
import { isRunning } from "#container/state.ts";
import { systemClock } from "#core/clock.ts";
import { EngineError, isEngineError } from "#core/errors.ts";
import { type EngineContext, publishContainerEvent } from "./context.ts";

const { SIGKILL, SIGTERM } = constants.signals;
/** `stop` without a timeout. */
const DEFAULT_TIMEOUT_S = 10;
/** How long the kernel may take to end a process that got SIGKILL, before the container is called stuck. */
const KILL_TIMEOUT_MS = 10_000;

interface StopOptions {
  readonly timeout?: number | undefined;
  readonly signal?: string | undefined;
}

/** @throws EngineError "not-modified" when it does not run */
export async function stopContainer(ctx: EngineContext, name: string, options: StopOptions = {}): Promise<void> {
  const container = ctx.registry.get(name);
  const found = await intendStop(ctx, container);
  if (found === "ended") throw new EngineError("not-modified", `container ${container.record.name} is already stopped`);
  if (found === "running") await stopRunning(ctx, container, options);
}

/** From here on no restart policy starts it again. Under its mutex, so that it is not just between two runs. */
async function intendStop(ctx: EngineContext, container: Container): Promise<"running" | "ended" | "waited"> {
  return container.mutex.run(async () => {
    if (cancelRestart(ctx, container)) return "waited";
    if (!isRunning(container.state)) return "ended";
    container.set({ manuallyStopped: true });
    return "running";
  });
}

export async function restartContainer(ctx: EngineContext, name: string, options: StopOptions = {}): Promise<void> {
  const container = ctx.registry.get(name);
  if ((await intendStop(ctx, container)) === "running") await stopRunning(ctx, container, options, "wherry restart");
  await container.mutex.run(async () => {
    await ctx.start(container).catch((error: unknown) => {
      if (!isEngineError(error, "not-modified")) throw error; // somebody else has started it meanwhile
    });
    if (container.record.restartCount > 0) container.set({ restartCount: 0 });
  });
  publishContainerEvent(ctx, container, "restart");
}

/** Ends the wait before a restart by policy. True when there was one: the container is then stopped. */
function cancelRestart(ctx: EngineContext, container: Container): boolean {
  if (container.restart === undefined) return false;
  container.restart.cancel.abort();
  container.restart = undefined;
  container.set({ manuallyStopped: true, state: { ...container.state, status: "exited" } });
  ctx.background.add(`storing container ${container.id}`, ctx.records.save(container.record));
  container.notifyExit();
  return true;
}

async function stopRunning(ctx: EngineContext, container: Container, { timeout, signal }: StopOptions, by = "wherry stop"): Promise<void> {
  const { config } = container.record;
  const number = parseSignal(signal || config.StopSignal || "SIGTERM");
  const seconds = timeout ?? config.StopTimeout ?? DEFAULT_TIMEOUT_S;
  const ended = nextEnd(container);
  await send(ctx, container, number, by);
  if (!(await within(ended, seconds < 0 ? undefined : seconds * 1000))) await killAndWait(ctx, container, `${by}, after its timeout`);
  publishContainerEvent(ctx, container, "stop");
}

export async function killContainer(ctx: EngineContext, name: string, signal: string): Promise<void> {
  const container = ctx.registry.get(name);
  const number = parseSignal(signal || "SIGKILL");
  if (container.state.status === "restarting" || !isRunning(container.state))
    throw new EngineError("conflict", `cannot kill container: ${name}: container ${container.id} is not running`);
  // SIGKILL is waited for: `docker kill` answers when the container has ended.
  if (number === SIGKILL) await killAndWait(ctx, container);
  else if (!(await send(ctx, container, number, `wherry kill -s ${signalName(number)}`)))
    throw new EngineError("conflict", `cannot kill container: ${name}: container ${container.id} is not running`);
}

/** SIGKILL, until it has ended. Also ends a wait for a restart. @throws EngineError "unavailable" when the kernel does not let it end */
export async function killAndWait(ctx: EngineContext, container: Container, by = "wherry kill"): Promise<void> {
  if ((await intendStop(ctx, container)) !== "running") return;
  const ended = nextEnd(container);
  await send(ctx, container, SIGKILL, by);
  if (await within(ended, KILL_TIMEOUT_MS)) return;
  throw new EngineError(
    "unavailable",
    `container ${container.record.name} got SIGKILL ${KILL_TIMEOUT_MS / 1000} s ago and has not ended: process ${container.state.pid} is stuck in the kernel`,
    {
      hint: `see /proc/${container.state.pid}/stack and /proc/${container.state.pid}/wchan for what it waits for`,
    },
  );
}

/** False when it has ended already. Remembers that somebody wanted this end, so that restart policies leave it alone. */
async function send(ctx: EngineContext, container: Container, signal: number, by: string): Promise<boolean> {
  const { link, record } = container;
  if (link === undefined) return false;
  const stopSignal = parseSignal(record.config.StopSignal || "SIGTERM");
  const ends = signal === SIGKILL || signal === SIGTERM || signal === stopSignal;
  container.sentBy = { signal, by };
  if (ends) container.set({ manuallyStopped: true });
  // Under the mutex, for which the end of the container waits too: nobody hears of its death before he hears of the signal.
  const sent = await container.mutex.run(async () => {
    if (!(await link.kill(signal))) return false;
    publishContainerEvent(ctx, container, "kill", { signal: String(signal) });
    return true;
  });
  if (!sent) return false;
  if (ends && record.state.status === "paused" && record.cgroup !== undefined) await thawForSignal(ctx, record.cgroup);
  return true;
}

/** A frozen process gets its signal when it thaws. On cgroup v2 SIGKILL reaches it frozen: it may have ended, and its cgroup gone, before we thaw. */
async function thawForSignal(ctx: EngineContext, cgroup: CgroupPaths): Promise<void> {
  try {
    await ctx.cgroups.thaw(cgroup);
  } catch (error) {
    if (!isEngineError(error, "not-found")) throw error;
  }
}

/** The end of the run that is under way. */
function nextEnd(container: Container): Promise<void> {
  return isRunning(container.state) ? new Promise((resolve) => void container.onExit(() => resolve())) : Promise.resolve();
}

/** True when `ended` settles in time. undefined: waits for ever. */
async function within(ended: Promise<void>, ms: number | undefined): Promise<boolean> {
  if (ms === undefined) {
    await ended;
    return true;
  }
  const timer = new AbortController();
  const late = systemClock.sleep(ms, timer.signal).then(
    () => false,
    () => false, // stopped: nobody looks any more
  );
  const inTime = await Promise.race([ended.then(() => true), late]);
  timer.abort();
  return inTime;
}
