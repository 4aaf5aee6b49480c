import { expect, test } from "vitest";
import { EventLog, eventFilter } from "./events.ts";
import type { EngineEvent } from "./mod.ts";

const all = { sinceNs: undefined, untilNs: undefined, filters: {} };

test("a reader that sleeps through a thousand events misses none, and others are not held up", async () => {
  const log = new EventLog();
  const leave = new AbortController();
  const slow = log.read({ ...all, signal: leave.signal });
  const quick = log.read({ ...all, signal: leave.signal });
  const first = quick.next();
  for (let i = 0; i < 1000; i++) log.publish("container", "start", `c${i}`, {});
  expect((await first).value.Actor.ID).toBe("c0");
  for (let i = 0; i < 1000; i++) expect((await slow.next()).value.Actor.ID).toBe(`c${i}`);
  leave.abort();
  expect((await slow.next()).done).toBe(true);
});

test("since replays, until ends, history is bounded", async () => {
  const log = new EventLog();
  for (let i = 0; i < 20_000; i++) log.publish("volume", "create", `v${i}`, {});
  const seen: EngineEvent[] = [];
  for await (const e of log.read({ ...all, sinceNs: 0n, untilNs: BigInt(Date.now()) * 1_000_000n + 5_000_000n })) seen.push(e);
  expect(seen).toHaveLength(16_384);
  expect(seen.at(-1)?.Actor.ID).toBe("v19999");
  const after = log.read({ ...all, sinceNs: seen.at(-3)!.timeNano });
  expect((await after.next()).value.Actor.ID).toBe("v19997");
  await after.return(undefined);
});

test("no replay without since or until; listening begins with the call", async () => {
  const log = new EventLog();
  log.publish("container", "create", "old", {});
  const reading = log.read(all);
  log.publish("container", "create", "new", {});
  expect((await reading.next()).value.Actor.ID).toBe("new");
  expect(log.listeners).toBe(1);
  await reading.return(undefined);
  expect(log.listeners).toBe(0);
});

test("filters", () => {
  const event = (Type: EngineEvent["Type"], Action: string, ID: string, Attributes: Record<string, string> = {}): EngineEvent => ({
    Type,
    Action,
    Actor: { ID, Attributes },
    timeNano: 1n,
  });
  const exec = event("container", "exec_create: sh", "abc123", { name: "web", image: "busybox:latest", tier: "front" });
  for (const yes of [
    {},
    { event: ["exec_create"] },
    { container: ["abc"] },
    { container: ["/web"] },
    { image: ["busybox"] },
    { label: ["tier"] },
    { label: ["tier=front", "name"] },
    { type: ["image", "container"] },
  ])
    expect(eventFilter(yes)(exec), JSON.stringify(yes)).toBe(true);
  for (const no of [{ event: ["exec"] }, { container: ["b"] }, { image: ["busy"] }, { label: ["tier", "x"] }, { type: ["image"] }, { node: ["x"] }])
    expect(eventFilter(no)(exec), JSON.stringify(no)).toBe(false);
  expect(eventFilter({ container: ["abc"] })(event("network", "connect", "n1", { container: "abc123" }))).toBe(true);
});
