import { describe, expect, it } from "vitest";
import type { OciSpec } from "#core/runtime-spec.ts";
import type { Plan } from "#linux/plan.ts";
import { NO_SLOT } from "#linux/plan.ts";
import { exampleFacts } from "./example.fixture.ts";
import type { DetachedProcess, HookRun, PlanHooks } from "./mod.ts";
import { planContainer } from "./plan-container.ts";
import { planExec } from "./plan-exec.ts";
import { points } from "./slots.ts";

const spec: OciSpec = {
  ociVersion: "1.2.0",
  process: { user: { uid: 0, gid: 0 }, args: ["prog"], env: ["PATH=/bin:/usr/bin"], cwd: "/", noNewPrivileges: true },
  root: { path: "/b/rootfs" },
  linux: { namespaces: [{ type: "mount" }, { type: "pid" }] },
};
const filter = new Uint8Array(8);

function plan(detached: DetachedProcess, tty = false, userns = false, hooks: PlanHooks = {}): Plan {
  const mapping = [{ containerID: 0, hostID: 100_000, size: 65_536 }];
  return planContainer({
    spec: userns ? { ...spec, linux: { namespaces: [{ type: "mount" }, { type: "user" }], uidMappings: mapping, gidMappings: mapping } } : spec,
    root: { kind: "bind", source: "/b/rootfs", readonly: false, owners: "disk" },
    facts: exampleFacts,
    cgroup: undefined,
    network: [],
    tty,
    seccomp: filter,
    attachGate: false,
    detached,
    hooks,
  });
}
const names = ({ steps }: Plan) => steps.map((step) => step.op);
const hook = (path: string): HookRun => ({ path, args: [], env: [], head: new Uint8Array(), tail: new Uint8Array(), timeoutMs: 0 });

describe("a process without a monitor", () => {
  it("opens its FIFO before the clone, for both directions, and waits for it before the filter and the program", () => {
    const { steps } = plan({ fifo: "/run/x/exec.fifo" });
    const open = steps.findIndex((step) => step.op === "openat" && step.path === "/run/x/exec.fifo");
    expect(steps[open]).toMatchObject({ where: "host", flags: 2n });
    expect(open).toBeLessThan(steps.findIndex((step) => step.op === "clone"));
    const gate = steps.find((step) => step.op === "exec_gate");
    expect(gate).toMatchObject({ where: "child", fifo: (steps[open] as { out: number }).out, paths: ["/bin/prog", "/usr/bin/prog"] });
    expect(names({ steps }).slice(-4)).toEqual(["capset", "exec_gate", "seccomp", "exec"]);
  });

  it("keeps its caller's streams, and makes a terminal when it shall have one", () => {
    expect(names(plan({}))).not.toContain("stdio");
    expect(names(plan({}, true))).toContain("stdio");
  });

  it("does not wait without a FIFO", () => {
    expect(plan({}).steps.find((step) => step.op === "exec_gate")).toMatchObject({ fifo: NO_SLOT });
  });

  it("runs hooks on both sides of pivot_root, the latter after the start", () => {
    const { steps } = plan({ fifo: "/f" }, false, false, {
      createRuntime: [hook("/r")],
      createContainer: [hook("/a")],
      startContainer: [hook("/b")],
      rootAt: "/b/seen",
    });
    const at = (path: string) => steps.findIndex((step) => step.op === "hook" && step.path === path);
    expect(at("/a")).toBeGreaterThan(0);
    expect(at("/a")).toBeLessThan(names({ steps }).indexOf("pivot_root"));
    expect(at("/b")).toBeGreaterThan(names({ steps }).indexOf("exec_gate"));
    expect(steps[at("/a")]).toMatchObject({ argv: ["/a"] });
    expect(steps[at("/r")]).toMatchObject({ where: "host" });
    expect(steps.slice(at("/r")).find(({ op }) => op === "signal")).toMatchObject({ where: "host", id: points.ready });
    expect(steps[at("/a") - 2]).toMatchObject({ op: "move_mount", dir: NO_SLOT, path: "/b/seen" });
  });

  it("--no-pivot: chroot, and no /proc of the host's is left; not with a user namespace", () => {
    const { steps } = plan({ noPivot: true });
    expect(names({ steps })).not.toContain("pivot_root");
    const chroot = names({ steps }).indexOf("chroot");
    expect(steps.slice(chroot - 2, chroot)).toMatchObject([
      { op: "umount", dir: NO_SLOT, path: "/proc" },
      { op: "umount", dir: NO_SLOT, path: "/sys" },
    ]);
    expect(() => plan({ noPivot: true }, false, true)).toThrow("--no-pivot is not supported with a user namespace");
  });

  it("--no-new-keyring: none is made, neither at the start nor by exec", () => {
    expect(names(plan({}))).toContain("keyring");
    expect(names(plan({ noKeyring: true }))).not.toContain("keyring");
  });

  it("leaves owners as they are on disk, also with a user namespace", () => {
    expect(names(plan({}, false, true))).not.toContain("userns_open");
  });

  it("hands descriptors on after the others are marked, in exec too", () => {
    const exec = planExec({
      target: { pid: 7, startTime: 8n },
      process: spec.process,
      namespaces: ["pid", "mount"],
      facts: exampleFacts,
      cgroup: { join: [] },
      tty: false,
      seccomp: undefined,
      attachGate: false,
      userns: false,
      detached: { preserveFds: 2 },
    });
    expect(names(exec).slice(-5)).toEqual(["preserve_fds", "capset", "rebirth", "exec_gate", "exec"]);
    expect(names(exec).at(-6)).toBe("close_range");
    expect(exec.steps.find(({ op }) => op === "rebirth")).toMatchObject({ keep: 2 });
    expect(names(exec)).not.toContain("stdio");
  });
});
