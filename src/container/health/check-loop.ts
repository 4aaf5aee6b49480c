/**
 * Probes a container again and again until it is told to stop. Time comes from a {@link Clock}; what a probe is, from its caller.
 * @module
 */
import type { HealthState } from "#container/mod.ts";
import type { Clock } from "#core/clock.ts";
import type { HealthCheck } from "./health-check.ts";
import { afterProbe, delayMs, type ProbeResult } from "./health-state.ts";

/** A probe under way. */
export interface Probe {
  /** The exit code, when the process has ended and its output is read. Rejects when it could not be started. */
  readonly ended: Promise<number>;
  /** So far. */
  output(): string;
  /** SIGKILL, now or as soon as there is a process. May be called when it has ended. */
  kill(): void;
}

export interface CheckLoop {
  readonly clock: Clock;
  readonly check: HealthCheck;
  readonly startedAtMs: number;
  /** As it is now. */
  readonly health: () => HealthState;
  readonly changed: (health: HealthState) => void;
  readonly probe: () => Probe;
  readonly stop: AbortSignal;
}

/** Resolves when stopped; nothing is changed after that. */
export async function runCheckLoop(loop: CheckLoop): Promise<void> {
  const { clock, check, startedAtMs, stop } = loop;
  while (!stop.aborted) {
    const delay = delayMs(loop.health(), check, clock.now(), startedAtMs);
    if (!(await sleeps(clock, delay, stop))) return;
    const probe = loop.probe();
    const result = await outcome(loop, probe);
    if (result === undefined) return;
    loop.changed(afterProbe(loop.health(), check, result, startedAtMs));
    // One that does not die may not be joined by more of its kind.
    await endOrStop(probe, stop);
  }
}

/** Not by a race with one promise for all: that would keep something of every probe for as long as the container lives. */
function endOrStop({ ended }: Probe, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stop.removeEventListener("abort", done);
      resolve();
    };
    if (stop.aborted) return resolve();
    stop.addEventListener("abort", done);
    ended.then(done, done);
  });
}

/** undefined: stopped meanwhile. A probe that takes too long is killed and not waited for: it may be stuck in the kernel. */
async function outcome({ clock, check, stop }: CheckLoop, probe: Probe): Promise<ProbeResult | undefined> {
  const startMs = clock.now();
  const timer = new AbortController();
  const cancel = () => {
    timer.abort();
    probe.kill();
  };
  stop.addEventListener("abort", cancel, { once: true });
  const ended = probe.ended.then(
    (exitCode) => ({ exitCode, output: probe.output() }),
    (error: Error) => ({ exitCode: -1, output: error.message }),
  );
  const late = sleeps(clock, check.timeoutMs, timer.signal).then(() => undefined);
  const inTime = await Promise.race([ended, late]);
  stop.removeEventListener("abort", cancel);
  timer.abort();
  if (stop.aborted) return undefined;
  if (inTime === undefined) probe.kill();
  return { startMs, endMs: clock.now(), ...(inTime ?? { exitCode: -1, output: timeoutText(check.timeoutMs, probe.output()) }) };
}

/** False when aborted. */
function sleeps(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  return clock.sleep(ms, signal).then(
    () => true,
    () => false, // aborted: told by the answer
  );
}

function timeoutText(timeoutMs: number, output: string): string {
  const text = `Health check exceeded timeout (${goDuration(timeoutMs)})`;
  return output === "" ? text : `${text}: ${output}`;
}

/** "1s", "1m30s", "500ms", "1.5s", "2h0m0s": as Go prints a duration of at least a microsecond. */
export function goDuration(ms: number): string {
  if (ms < 1) return `${Number((ms * 1000).toFixed(3))}µs`;
  if (ms < 1000) return `${Number(ms.toFixed(6))}ms`;
  const seconds = Number(((ms % 60_000) / 1000).toFixed(9));
  const minutes = Math.floor(ms / 60_000);
  if (minutes === 0) return `${seconds}s`;
  return minutes < 60 ? `${minutes}m${seconds}s` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds}s`;
}
