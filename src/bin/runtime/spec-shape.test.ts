import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { checkProcessShape, checkResourcesShape, checkSpecShape } from "./spec-shape.ts";

const corpus = (name: string): object => JSON.parse(readFileSync(new URL(`../../../test/fuzz/corpus/${name}.json`, import.meta.url), "utf8")) as object;

it("takes a spec that has everything, as it is", () => {
  const spec = corpus("spec-whole");
  expect(checkSpecShape({ ...spec })).toEqual(spec);
});

it.each([
  [{ linux: { resources: { memory: { limit: "64m" } } } }, "config.json: linux.resources.memory.limit is not a whole number"],
  [{ linux: { resources: { devices: [{ access: "rwm" }] } } }, "config.json: linux.resources.devices[0].allow is missing"],
  [{ linux: { resources: { network: { priorities: [null] } } } }, "config.json: linux.resources.network.priorities[0] is not an object"],
  [{ linux: { timeOffsets: { monotonic: { secs: 0.5 } } } }, "config.json: linux.timeOffsets.monotonic.secs is not a whole number"],
  [{ linux: { personality: {} } }, "config.json: linux.personality.domain is missing"],
  [{ process: { scheduler: { policy: "SCHED_DEADLINE", runtime: 0.5 } } }, "config.json: process.scheduler.runtime is not a whole number"],
  [{ process: { execCPUAffinity: { final: 1 } } }, "config.json: process.execCPUAffinity.final is not a string"],
])("refuses %j by name", (spec, message) => {
  expect(() => checkSpecShape(spec)).toThrow(message);
});

it("process and limits by themselves: null is absent, what is not listed is nobody's business", () => {
  expect(checkProcessShape({ args: ["sh"], ioPriority: null, future: [1] })).toEqual({ args: ["sh"], future: [1] });
  expect(() => checkProcessShape({ ioPriority: {} })).toThrow("process.ioPriority.class is missing");
  expect(checkResourcesShape({ cpu: null, pids: { limit: 3 } })).toEqual({ pids: { limit: 3 } });
  expect(() => checkResourcesShape([])).toThrow("--resources: it is not an object");
  expect(() => checkResourcesShape({ pids: {} })).toThrow("--resources: pids.limit is missing");
});
