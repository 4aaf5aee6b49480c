import { expect, test } from "vitest";
import { cpuMask, propertiesOf, sliceName, slicePath } from "./units.ts";

test("slices nest by their names", () => {
  expect(slicePath("system.slice")).toBe("/system.slice");
  expect(slicePath("a-b-c.slice")).toBe("/a.slice/a-b.slice/a-b-c.slice");
  expect(slicePath(sliceName("-.slice"))).toBe("");
  for (const bad of ["", ".slice", "a", "/a.slice", "a--b.slice", "a-.slice", "x.slice/y.slice"]) expect(() => sliceName(bad)).toThrow("valid slice");
});

test("CPU lists are bit masks", () => {
  expect(cpuMask("0")).toEqual([1]);
  expect(cpuMask("0-2,9")).toEqual([7, 2]);
  expect(() => cpuMask("0-x")).toThrow("invalid list");
});

test("writes become properties; what systemd does not have stays a write", () => {
  const [max, n] = [{ signature: "t", value: 2n ** 64n - 1n }, (value: bigint) => ({ signature: "t", value })];
  expect(
    propertiesOf([
      { file: "memory.max", value: "1000" },
      { file: "memory.swap.max", value: "max" },
      { file: "memory.high", value: "900" },
      { file: "cpu.max", value: "33333 100000" },
      { file: "pids.max", value: "max" },
      { file: "io.weight", value: "default 50" },
      { file: "io.max", value: "8:0 rbps=1" },
      { file: "memory.oom.group", value: "1" },
      { file: "memory.low", value: "not a number" },
    ]),
  ).toEqual([
    ["MemoryMax", n(1000n)],
    ["MemorySwapMax", max],
    ["MemoryHigh", n(900n)],
    ["CPUQuotaPeriodUSec", n(100_000n)],
    ["CPUQuotaPerSecUSec", n(340_000n)],
    ["TasksMax", max],
    ["IOWeight", n(50n)],
  ]);
});
