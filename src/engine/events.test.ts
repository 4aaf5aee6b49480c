import { appendFile, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { EventStore } from "./event-store.ts";
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

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-events-"));
});
afterEach(() => rm(directory, { recursive: true }));

const stored = (maxBytes = 1 << 24) => EventStore.open(directory, { maxBytes, warn: (message) => expect.fail(message) });
const soon = () => BigInt(Date.now()) * 1_000_000n + 5_000_000n;

async function ids(log: EventLog, query: object): Promise<string[]> {
  const seen: string[] = [];
  for await (const event of log.read({ ...all, ...query })) seen.push(event.Actor.ID);
  return seen;
}

test("history outlives the engine; a torn line costs itself only; times go on rising", async () => {
  const first = await stored();
  const log = await EventLog.open(first);
  for (let i = 0; i < 100; i++) log.publish("container", i % 2 === 0 ? "start" : "die", `c${i}`, { name: `n${i}` });
  await first.close();
  await appendFile(join(directory, "events.ndjson"), '{"t":"1');
  const second = await stored();
  const again = await EventLog.open(second);
  again.publish("container", "start", "new", {});
  expect(await ids(again, { sinceNs: 0n, untilNs: soon() })).toEqual([...Array.from({ length: 100 }, (_, i) => `c${i}`), "new"]);
  expect(await ids(again, { sinceNs: 0n, untilNs: soon(), filters: { event: ["die"], container: ["c9"] } })).toEqual(["c9", "c91", "c93", "c95", "c97", "c99"]);
  await second.close();
});

test("a reader that is slower than memory is long reads on from disk; readers that sleep hold nothing", async () => {
  const store = await stored();
  const log = await EventLog.open(store);
  const leave = new AbortController();
  const slow = log.read({ ...all, signal: leave.signal });
  const first = slow.next();
  for (let i = 0; i < 40_000; i++) log.publish("volume", "create", `v${i}`, {});
  expect((await first).value.Actor.ID).toBe("v0");
  for (let i = 1; i < 20_000; i++) expect((await slow.next()).value.Actor.ID).toBe(`v${i}`);
  for (let i = 40_000; i < 60_000; i++) log.publish("volume", "create", `v${i}`, {});
  for (let i = 20_000; i < 60_000; i++) expect((await slow.next()).value.Actor.ID).toBe(`v${i}`);
  leave.abort();
  expect((await slow.next()).done).toBe(true);
  await store.close();
});

test("what is on disk is bounded, and what is left of it is read", async () => {
  const store = await stored(20_000);
  const log = await EventLog.open(store);
  for (let i = 0; i < 3000; i++) {
    log.publish("volume", "create", `v${i}`, {});
    if (i % 100 === 0) await store.read(1n << 62n).next(); // it has written what it has
  }
  await store.close();
  const sizes = await Promise.all((await readdir(directory)).map(async (name) => (await stat(join(directory, name))).size));
  expect(sizes).toHaveLength(2);
  expect(Math.max(...sizes)).toBeLessThan(40_000);
  const next = await stored(20_000);
  const seen = await ids(await EventLog.open(next), { sinceNs: 0n, untilNs: soon() });
  expect(seen.at(-1)).toBe("v2999");
  expect(seen).toEqual(seen.map((_, i) => `v${3000 - seen.length + i}`));
  await next.close();
});
