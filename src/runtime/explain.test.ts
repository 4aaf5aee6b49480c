import { describe, expect, it } from "vitest";
import { NO_SLOT, type Plan } from "#linux/plan.ts";
import { explainPlan, planToJson } from "./explain.ts";

const plan: Plan = {
  steps: [
    { op: "openat", dir: NO_SLOT, path: "/d", flags: 0o10000000n, mode: 0, out: 9, where: "host", why: "a place", section: "First" },
    { op: "write", dir: 9, path: "f", flags: 0n, data: new Uint8Array([104, 105]), where: "host", why: "says hi", ignore: ["ENOENT"] },
    { op: "write", dir: 9, path: "g", flags: 0n, data: new Uint8Array([104]), where: "host", why: "says hi", ignore: ["ENOENT"] },
    { op: "clone", flags: 0x20000000n, cgroup: NO_SLOT, where: "host", why: "a child", section: "Second" },
    { op: "exec", paths: ["/bin/sh"], argv: ["sh", "-c", "echo 'a b'"], envp: ["A=1"], where: "child", why: "becomes the program" },
  ],
};

describe("explainPlan", () => {
  it("says each step, why, and where to read on; a reason once a section; kinds of namespaces", () => {
    const text = explainPlan(plan).split("\n").slice(4).join("\n");
    expect(text).toBe(`First
  1 host  open /d (PATH)
          a place. [openat2(2)]
  2 host  write hi to </d>/f
          says hi. [write(2)] (if it exists)
  3 host  write h to </d>/g

Second
  4 host  clone NEWPID
          a child. [clone(2)]
          NEWPID  process numbers start at 1 again, and no process of the host can be seen or signalled. [pid_namespaces(7)]
  5 child exec sh -c "echo 'a b'"
          becomes the program. [execve(2)]
`);
  });
});

describe("planToJson", () => {
  it("has every field in a form that JSON holds", () => {
    const { version, steps } = JSON.parse(planToJson(plan)) as {
      version: number;
      steps: { op: string; call: string; see: string; ignore: string[]; args: Record<string, unknown> }[];
    };
    expect(version).toBe(1);
    expect(steps.map((s) => s.op)).toEqual(["openat", "write", "write", "clone", "exec"]);
    expect(steps[0]?.args).toEqual({ dir: NO_SLOT, path: "/d", flags: "0x200000", mode: 0, out: 9 });
    expect(steps[1]).toMatchObject({ args: { data: "aGk=" }, ignore: ["ENOENT"], see: "write(2)" });
    expect(steps[4]?.args).toMatchObject({ argv: ["sh", "-c", "echo 'a b'"] });
  });
});
