/** The loop on a clock that is moved by hand. */
import { expect, test } from "vitest";
import type { HealthState } from "#container/mod.ts";
import type { Clock } from "#core/clock.ts";
import { type Probe, runCheckLoop } from "./check-loop.ts";
import { startingHealth } from "./health-state.ts";

class HandClock implements Clock {
  #now = 0;
  #sleepers: { readonly at: number; readonly wake: () => void }[] = [];
  now(): number {
    return this.#now;
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { at: this.#now + ms, wake: resolve };
      this.#sleepers.push(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers = this.#sleepers.filter((s) => s !== sleeper);
        reject(signal.reason);
      });
    });
  }
  get sleeping(): number {
    return this.#sleepers.length;
  }
  /** In steps of a millisecond, with all that follows from each. */
  async advance(ms: number): Promise<void> {
    for (let i = 0; i < ms; i++) {
      this.#now++;
      const due = this.#sleepers.filter((s) => s.at <= this.#now);
      this.#sleepers = this.#sleepers.filter((s) => s.at > this.#now);
      for (const { wake } of due) wake();
      await settle();
    }
  }
}

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

interface FakeProbe {
  readonly at: number;
  killed: boolean;
  end(code: number): void;
  fail(error: Error): void;
}

function begin(change: Partial<Parameters<typeof runCheckLoop>[0]["check"]> = {}) {
  const clock = new HandClock();
  const probes: FakeProbe[] = [];
  const stop = new AbortController();
  const seen: HealthState[] = [];
  let health = startingHealth(undefined);
  const probe = (): Probe => {
    const { promise, resolve, reject } = withResolvers();
    const fake: FakeProbe = { at: clock.now(), killed: false, end: resolve, fail: reject };
    probes.push(fake);
    return { ended: promise, output: () => "so far", kill: () => void (fake.killed = true) };
  };
  const done = runCheckLoop({
    clock,
    check: { probe: ["x"], intervalMs: 100, timeoutMs: 20, retries: 1, startPeriodMs: 0, startIntervalMs: 5, ...change },
    startedAtMs: 0,
    health: () => health,
    changed: (now) => {
      health = now;
      seen.push(now);
    },
    probe,
    stop: stop.signal,
  });
  return { clock, probes, stop, seen, done };
}

function withResolvers() {
  let resolve!: (code: number) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<number>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

test("waits the interval before the first probe and after the end of each", async () => {
  const { clock, probes, seen } = begin();
  await clock.advance(99);
  expect(probes).toEqual([]);
  await clock.advance(11);
  probes[0]?.end(0);
  await settle();
  expect(seen).toMatchObject([
    { status: "healthy", log: [{ exitCode: 0, output: "so far", start: "1970-01-01T00:00:00.1Z", end: "1970-01-01T00:00:00.11Z" }] },
  ]);
  await clock.advance(100);
  expect(probes.map((p) => p.at)).toEqual([100, 210]);
  expect(probes[0]?.killed).toBe(false);
});

test("while it starts, the start interval holds", async () => {
  const { clock, probes } = begin({ startPeriodMs: 12 });
  for (let i = 0; i < 3; i++) {
    await clock.advance(5);
    probes.at(-1)?.end(1);
    await settle();
  }
  await clock.advance(100);
  expect(probes.map((p) => p.at)).toEqual([5, 10, 15, 115]);
});

test("a probe that takes too long is killed and told of at once; the next one waits for its end", async () => {
  const { clock, probes, seen } = begin();
  await clock.advance(120);
  expect(probes[0]?.killed).toBe(true);
  expect(seen).toMatchObject([{ status: "unhealthy", failingStreak: 1, log: [{ exitCode: -1, output: "Health check exceeded timeout (20ms): so far" }] }]);
  await clock.advance(500);
  expect(probes.length).toBe(1);
  probes[0]?.end(137);
  await settle();
  await clock.advance(100);
  expect(probes.length).toBe(2);
  expect(seen.length).toBe(1);
});

test("a probe that cannot be started has failed, with the reason as its output", async () => {
  const { clock, probes, seen } = begin();
  await clock.advance(100);
  probes[0]?.fail(new Error("no such program"));
  await settle();
  expect(seen).toMatchObject([{ status: "unhealthy", log: [{ exitCode: -1, output: "no such program" }] }]);
});

test.each([
  ["between probes", 50, 0, false],
  ["during one", 110, 1, true],
  ["while one does not die", 300, 1, true],
])("stopped %s: it ends, kills, and changes nothing more", async (_when, ms, count, killed) => {
  const { clock, probes, stop, seen, done } = begin();
  await clock.advance(ms);
  const before = seen.length;
  stop.abort();
  await done;
  expect(probes.length).toBe(count);
  expect(probes[0]?.killed ?? false).toBe(killed);
  probes[0]?.end(0);
  await clock.advance(300);
  expect([probes.length, seen.length, clock.sleeping]).toEqual([count, before, 0]);
});
