import { constants, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { collector } from "./collector.ts";

it("collects what it is told to", async () => {
  const kinds: number[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) kinds.push((entry as PerformanceEntry & { readonly detail: { readonly kind: number } }).detail.kind); // of Node's entries: perf_hooks
  });
  observer.observe({ entryTypes: ["gc"] });
  const collect = collector();
  const of = async (type: "minor" | "major") => {
    kinds.length = 0;
    collect(type);
    await sleep(50);
    return [...kinds];
  };
  expect(await of("major")).toContain(constants.NODE_PERFORMANCE_GC_MAJOR);
  const minor = await of("minor");
  expect(minor).toContain(constants.NODE_PERFORMANCE_GC_MINOR);
  expect(minor).not.toContain(constants.NODE_PERFORMANCE_GC_MAJOR);
  observer.disconnect();
});
