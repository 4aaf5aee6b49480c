import { describe, expect, test } from "vitest";
import { Draft } from "./draft.ts";
import { cpuMask, planLabels, planPersonality, planScheduling } from "./process-attributes.ts";

const process = { args: ["x"], cwd: "/", user: { uid: 0, gid: 0 } };

describe("cpuMask", () => {
  test.each([
    ["0", [1]],
    ["0-2,7", [0b10000111]],
    ["9", [0, 2]],
  ])("%s", (list, bytes) => expect([...cpuMask(list)]).toEqual(bytes));
  test.each(["", "a", "3-1", "99999", "-1"])("%j is refused", (list) => expect(() => cpuMask(list)).toThrow(/cannot be understood/));
});

test("policies, classes and domains that do not exist are refused", () => {
  const draft = new Draft();
  expect(() => planScheduling(draft, { ...process, scheduler: { policy: "toString" } })).toThrow(/unknown/);
  expect(() => planScheduling(draft, { ...process, ioPriority: { class: "x" } })).toThrow(/unknown/);
  expect(() => planScheduling(draft, { ...process, ioPriority: { class: "IOPRIO_CLASS_BE", priority: 8 } })).toThrow(/0 to 7/);
  expect(() => planPersonality(draft, { domain: "x" })).toThrow(/unknown/);
  expect(draft.plan().steps).toEqual([]);
});

test("labels are written to the kernel's own /proc only", () => {
  const draft = new Draft();
  planLabels(draft, { ...process, apparmorProfile: "docker-default", selinuxLabel: "" });
  expect(draft.plan().steps.map(({ op }) => op)).toEqual(["openat", "expect_fs", "write", "close"]);
  const written = draft.plan().steps.find((step) => step.op === "write");
  expect(Buffer.from(written?.data ?? []).toString()).toBe("exec docker-default");
});
