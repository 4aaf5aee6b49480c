/** A daemon's rehearsal after its start: the code of a run, and nothing that anybody can see. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { rehearse } from "../../src/bin/rehearse.ts";
import { TestEngine, until } from "./engine-setup.ts";

describe.skipIf(process.getuid?.() !== 0)("a rehearsal", () => {
  let t: TestEngine;
  beforeAll(async () => {
    t = await TestEngine.open();
  });
  afterEach(() => t.removeAll());
  afterAll(() => t?.[Symbol.asyncDispose]());

  const never = new AbortController().signal;

  it("goes all the way and leaves no trace", async () => {
    const events: string[] = [];
    const seen = new AbortController();
    const reading = (async () => {
      for await (const event of t.engine.system.events({ sinceNs: 0n, untilNs: undefined, filters: {}, signal: seen.signal })) events.push(event.Action);
    })().catch(() => undefined);
    const before = readdirSync(join(t.root, "data/containers"));
    await rehearse(t.engine, { times: 3, pauseMs: 0, signal: never });
    expect(t.engine.containers.list({ all: true, limit: undefined, filters: {} })).toEqual([]);
    expect(readdirSync(join(t.root, "data/containers"))).toEqual(before);
    expect(existsSync(join(t.root, "run/rehearsal"))).toBe(false);
    expect(readdirSync(join(t.root, "run/c"))).toEqual([]);
    await t.create(["true"]);
    await until(() => events.length > 0);
    expect(events).toEqual(["create"]);
    seen.abort();
    await reading;
  });

  it("goes the whole way: the containers of its engine run and end", async () => {
    await using rehearsal = await t.engine.rehearsal();
    const { containers } = rehearsal.engine;
    const { id } = await containers.create(t.request("busybox", ["true"], {}, { NetworkMode: "none" }));
    const ended = containers.wait(id, "next-exit");
    await containers.start(id);
    expect((await ended).exitCode).toBe(0);
    await containers.remove(id, { force: false, volumes: false });
    expect(containers.list({ all: true, limit: undefined, filters: {} })).toEqual([]);
  });

  it("ends when it is told to", async () => {
    await expect(rehearse(t.engine, { times: 1000, pauseMs: 20, signal: AbortSignal.timeout(100) })).rejects.toThrow("aborted");
    expect(existsSync(join(t.root, "run/rehearsal"))).toBe(false);
  });
});
