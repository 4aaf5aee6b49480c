import { describe, expect, it } from "vitest";
import { describeCache, parseCache, portableKey } from "./portable.ts";
import { Hidden } from "./record.ts";

const layer = `sha256:${"a".repeat(64)}` as const;
const key = "b".repeat(64);
const created = "2026-01-02T03:04:05.678Z";

describe("a cache that leaves its data root", () => {
  it("has keys of all inputs, in no order, hidden ones included", async () => {
    const inputs = { operation: "run", command: "[]", "ARG A": new Hidden("1") };
    const same = await portableKey({ "ARG A": new Hidden("1"), command: "[]", operation: "run" });
    expect(await portableKey(inputs)).toBe(same);
    expect(same).toMatch(/^[0-9a-f]{64}$/);
    const others = [
      { ...inputs, "ARG A": new Hidden("2") },
      { ...inputs, "ARG A": "1" },
      { ...inputs, command: '["x"]' },
      { ...inputs, more: "" },
      { operation: "run", command: "[]" },
      { "ARG A": new Hidden("1"), command: "[]", "operation:run": "" },
    ];
    const keys = await Promise.all(others.map((other) => portableKey(other)));
    expect(new Set([same, ...keys]).size).toBe(others.length + 1);
  });

  it("takes a secret's bytes as they are: text and bytes are the same", async () => {
    expect(await portableKey({ a: new Hidden(Buffer.from("x")) })).toBe(await portableKey({ a: new Hidden("x") }));
  });

  it("is read as it was written", () => {
    const steps = [
      { key, created, diffId: layer },
      { key: "c".repeat(64), created, diffId: undefined },
    ];
    const read = parseCache(JSON.parse(JSON.stringify(describeCache(steps, [layer]))), "x");
    expect(read.layers).toEqual([layer]);
    expect([...read.steps.values()]).toEqual(steps);
  });

  it.each<[string, unknown]>([
    ["no object", []],
    ["another version", { version: 2, layers: [], steps: [] }],
    ["a layer that is no digest", { version: 1, layers: ["../etc"], steps: [] }],
    ["a key that is none", { version: 1, layers: [], steps: [{ key: "x", created }] }],
    ["a layer that is not listed", { version: 1, layers: [layer], steps: [{ key, created, layer: 1 }] }],
    ["half a number of a layer", { version: 1, layers: [layer], steps: [{ key, created, layer: 0.5 }] }],
    ["a negative layer", { version: 1, layers: [layer], steps: [{ key, created, layer: -1 }] }],
    ["no time", { version: 1, layers: [], steps: [{ key, created: "yesterday?" }] }],
    ["steps that are no list", { version: 1, layers: [], steps: { length: 1 } }],
    ["too many steps", { version: 1, layers: [], steps: Array(50_001).fill({ key, created }) }],
  ])("is refused when it has %s", (_what, value) => {
    expect(() => parseCache(value, "the cache")).toThrow(expect.objectContaining({ code: "corrupt" }) as Error);
  });
});
