import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Gather } from "./gather.ts";

test("what comes within the time is done in one go, in order, one call at a time", async () => {
  const calls: number[][] = [];
  let running = 0;
  const gather = new Gather<number>(10, async (items) => {
    expect(++running).toBe(1);
    await sleep(5);
    calls.push(items);
    running--;
  });
  gather.add(1);
  gather.add(2, 3);
  expect(calls).toEqual([]);
  await gather.flush();
  expect(calls).toEqual([[1, 2, 3]]);
  gather.add(4);
  const first = gather.flush();
  gather.add(5);
  await Promise.all([first, gather.flush()]);
  expect(calls).toEqual([[1, 2, 3], [4], [5]]);
  await gather.flush();
  expect(calls).toHaveLength(3);
});

test("nobody has to ask for it", async () => {
  const done = new Promise<string[]>((resolve) => new Gather<string>(1, async (items) => resolve(items)).add("a"));
  expect(await done).toEqual(["a"]);
});

test("closed, it does what it has, and nothing that comes later", async () => {
  const calls: number[][] = [];
  const gather = new Gather<number>(1, async (items) => void calls.push(items));
  gather.add(1);
  await gather.close();
  gather.add(2);
  await sleep(5);
  await gather.flush();
  expect(calls).toEqual([[1]]);
});
