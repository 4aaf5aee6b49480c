import { describe, expect, it } from "vitest";
import { exampleFacts } from "./example.fixture.ts";
import { planRunningTree, planStoppedTree } from "./plan-tree.ts";
import { slots } from "./slots.ts";

const root = {
  kind: "overlay",
  lower: ["/l/1", "/l/0"],
  links: ["l/A", "l/B"],
  linkDir: "/l",
  upper: "/u/diff",
  work: "/u/work",
  options: ["index=off"],
} as const;

describe("opening a container's tree", () => {
  it("joins the mounts of a process after it is known to be the right one", () => {
    expect(planRunningTree({ pid: 7, startTime: 9n }).steps.map(({ op }) => op)).toEqual(["pidfd_open", "setns", "openat"]);
    expect(planRunningTree({ pid: 7, startTime: 9n, root: { uid: 5, gid: 6 } }).steps.at(-1)).toMatchObject({ op: "fs_ids", uid: 5, gid: 6 });
  });

  it("mounts a stopped one where only the worker sees it", () => {
    const { steps } = planStoppedTree({
      root,
      facts: exampleFacts,
      at: "/run/empty",
      mounts: [{ source: "/v", destination: "/data", readonly: true, file: false }],
    });
    expect(new Set(steps.map(({ where }) => where))).toEqual(new Set(["host"]));
    expect(steps.slice(0, 2).map(({ op }) => op)).toEqual(["unshare", "mount"]);
    expect(steps.slice(-6).map(({ op }) => op)).toEqual(["move_mount", "openat", "open_tree", "mkdir", "move_mount", "mount"]);
    // What belongs to the container is named below its root.
    expect(steps.at(-2)).toMatchObject({ dir: slots.root, path: "data" });
  });

  it("has layers that fsconfig(2) cannot take mounted the old way, in the same place", () => {
    const long = { ...root, upper: `/${"u".repeat(300)}` };
    const { steps } = planStoppedTree({ root: long, facts: exampleFacts, at: "/run/empty", mounts: [] });
    expect(steps.map(({ op }) => op)).toEqual(["unshare", "mount", "chdir", "mount", "openat"]);
    expect(new Set(steps.map(({ where }) => where))).toEqual(new Set(["host"]));
  });
});
