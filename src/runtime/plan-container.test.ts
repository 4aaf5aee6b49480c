import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openCgroups } from "#cgroup/mod.ts";
import type { HostConfig } from "#core/container-config.ts";
import type { OciSeccomp, OciSpec } from "#core/runtime-spec.ts";
import { compileSeccomp } from "#linux/bpf/compile.ts";
import { CLONE } from "#linux/flags.ts";
import type { HostFacts } from "#linux/host-facts.ts";
import { MAX_SLOTS, NO_SLOT, type Plan, SLOT_BASE, type Step } from "#linux/plan.ts";
import { buildSpec, type SpecInput } from "./default-spec.ts";
import { exampleConfig, exampleFacts, exampleHostConfig } from "./example.fixture.ts";
import { planContainer, sysctlPath } from "./plan-container.ts";
import { planExec } from "./plan-exec.ts";
import { candidates } from "./plan-process.ts";
import { idmapText } from "./plan-root.ts";
import { planReadRootFiles } from "./read-root-files.ts";
import type { RootMountData } from "./root-mount.ts";
import { seccompProgram } from "./seccomp.ts";
import { slots } from "./slots.ts";
import { resolveUser } from "./users.ts";

const overlay: Extract<RootMountData, { kind: "overlay" }> = {
  kind: "overlay",
  lower: ["/s/init/diff", "/s/base/diff"],
  links: ["l/A", "l/B"],
  linkDir: "/s",
  upper: "/s/c/diff",
  work: "/s/c/work",
  options: ["volatile"],
};
const v1Facts: HostFacts = {
  ...exampleFacts,
  cgroup: { mode: "v1", v1: { memory: "/cg/memory", cpu: "/cg/cpu,cpuacct", cpuacct: "/cg/cpu,cpuacct" }, v2Controllers: [], own: {}, kill: false },
};
const oldFacts: HostFacts = {
  ...exampleFacts,
  kernel: { ...exampleFacts.kernel, major: 5, minor: 10 },
  mountSetattr: false,
  idmappedMounts: false,
  overlay: { ...exampleFacts.overlay, lowerdirPlus: false, layerFds: false },
};

interface Wanted {
  readonly hostConfig?: Partial<HostConfig>;
  readonly input?: Partial<SpecInput>;
  readonly facts?: HostFacts;
  readonly root?: RootMountData;
  readonly tty?: boolean;
  readonly user?: string;
  readonly lateUnmount?: boolean;
  readonly amend?: (spec: OciSpec) => unknown;
}

function plan({ hostConfig = {}, input = {}, facts = exampleFacts, root = overlay, tty = false, user = "", lateUnmount = false, amend }: Wanted = {}): Plan {
  const { spec, files } = buildSpec({
    id: "c1",
    config: { ...exampleConfig, Tty: tty },
    hostConfig: { ...exampleHostConfig, ...hostConfig },
    args: ["sh"],
    user: resolveUser(user, "", ""),
    mounts: [],
    files: { hosts: "/e/hosts" },
    cgroupsPath: "/wherry/c1",
    facts,
    ...input,
  });
  amend?.(spec);
  const cgroup = openCgroups(facts).plan("", "c1", spec.linux?.resources ?? {}, slots.cgroup);
  const seccomp = seccompProgram(spec.linux?.seccomp, facts);
  return planContainer({ spec, root, facts, cgroup, network: [], tty, seccomp, attachGate: tty, files, id: "c1", lateUnmount });
}

const mapping = [{ containerID: 0, hostID: 100000, size: 65536 }];
const userns = { uids: mapping, gids: mapping };

/** What each operation reads from a slot. */
function readsOf(step: Step): number[] {
  const fields = ["dir", "slot", "fs", "fd", "mnt", "userns", "root", "cgroup"] as const;
  const values = step as unknown as Record<string, unknown>;
  return fields.flatMap((field) => (typeof values[field] === "number" && values[field] !== NO_SLOT && step.op !== "close" ? [values[field]] : []));
}

/** Walks a plan as the helper would, keeping count of the slots. Returns what the child has open when it leaves for paths of the container. */
function checkSlots({ steps }: Plan): Set<number> {
  const host = new Map<number, Step>();
  let child = new Map<number, Step>();
  for (const [index, step] of steps.entries()) {
    const mine = step.where === "host" ? host : child;
    for (const slot of readsOf(step))
      if (!mine.has(slot) && step.ignore?.includes("EBADF") !== true) throw new Error(`step ${index + 1} (${step.op}) uses slot ${slot}, which is empty`);
    if (step.op === "close") mine.delete(step.slot);
    if ("out" in step) {
      if (step.out >= MAX_SLOTS) throw new Error(`slot ${step.out}`);
      mine.set(step.out, step);
    }
    if (step.op === "clone") child = new Map(host);
  }
  return new Set([...child].filter(([, by]) => by.where === "host" && by.op !== "open_tree" && by.op !== "fsmount").map(([slot]) => slot));
}

const ops = (p: Plan, where?: "host" | "child") => p.steps.filter((s) => where === undefined || s.where === where).map((s) => s.op);
const find = <T extends Step["op"]>(p: Plan, op: T) => p.steps.filter((s): s is Extract<Step, { op: T }> => s.op === op);

it("limits come after the last descriptor that a plan opens in the child", () => {
  const { steps } = plan({ hostConfig: { Ulimits: [{ Name: "nofile", Soft: 20, Hard: 20 }] }, input: { appArmorProfile: "wherry-default" } });
  const limited = steps.findIndex(({ op }) => op === "rlimit");
  const opened = steps.findLastIndex((step) => step.where === "child" && "out" in step);
  expect(steps.some((step) => step.op === "write" && step.path === "self/attr/exec")).toBe(true);
  expect(limited).toBeGreaterThan(opened);
});

describe("planContainer", () => {
  it("keeps the mount namespace for the time after the end only when it is told to", () => {
    expect(find(plan(), "hold_ns")).toEqual([]);
    const steps = plan({ lateUnmount: true }).steps;
    const [held] = find({ steps }, "hold_ns");
    expect(held).toMatchObject({ where: "host", name: "mnt" });
    expect(steps.indexOf(held!)).toBeGreaterThan(steps.findIndex(({ op }) => op === "clone"));
  });

  const namespaceMode = fc.constantFrom("", "host", "container:x");
  const arbitrary = fc.record({
    facts: fc.constantFrom(exampleFacts, v1Facts, oldFacts),
    root: fc.constantFrom<RootMountData>(
      overlay,
      { ...overlay, lower: Array.from({ length: 20 }, (_, i) => `/store/${"x".repeat(60)}${i}`), links: Array.from({ length: 20 }, (_, i) => `l/${i}`) },
      { kind: "bind", source: "/debian", readonly: false },
    ),
    tty: fc.boolean(),
    user: fc.constantFrom("", "1000:1000"),
    hostConfig: fc.record({
      PidMode: namespaceMode,
      IpcMode: namespaceMode,
      NetworkMode: fc.constantFrom("none", "host", "container:x"),
      UTSMode: fc.constantFrom("", "host"),
      CgroupnsMode: fc.constantFrom("", "host"),
      Privileged: fc.boolean(),
      ReadonlyRootfs: fc.boolean(),
      SecurityOpt: fc.constantFrom<string[] | null>(null, ["no-new-privileges"], ["seccomp=unconfined"]),
    }),
    mapped: fc.boolean(),
    binds: fc.integer({ min: 0, max: 70 }),
  });

  it("is a plan that the helper can follow, whatever is asked for", () => {
    let refused = 0;
    fc.assert(
      fc.property(arbitrary, ({ facts, root, tty, user, hostConfig, mapped, binds }) => {
        const mounts = Array.from({ length: binds }, (_, i) => ({
          Type: "bind" as const,
          Source: `/src/${i}`,
          Destination: `/dst/${i}`,
          RW: i % 2 === 0,
          Propagation: "",
        }));
        let made: Plan;
        try {
          made = plan({ facts, root, tty, user, hostConfig, input: { mounts, join: { pid: 1, ipc: 1, network: 1 }, ...(mapped ? { userns } : {}) } });
        } catch (error) {
          refused++;
          expect(String(error)).toMatch(/user namespace|userns|PID namespace|network namespace|one container/);
          expect(mapped).toBe(true);
          return;
        }
        expect(checkSlots(made)).toEqual(new Set());
        expect(find(made, "clone")).toHaveLength(1);
        expect(made.steps.at(-1)?.op).toBe("exec");
        const order = ["pivot_root", "chdir", "cap_bset", "setresuid", "close_range", "exec"].map((op) => ops(made, "child").lastIndexOf(op as Step["op"]));
        expect(order).toEqual([...order].sort((a, b) => a - b));
        for (const step of made.steps) expect(step.why).not.toBe("");
      }),
      { numRuns: 300 },
    );
    expect(refused).toBeLessThan(250);
  });

  it("filters system calls last of all with no_new_privs, else before the capabilities go", () => {
    const tail = (p: Plan) => ops(p, "child").slice(ops(p, "child").indexOf("setresuid"));
    expect(tail(plan({ hostConfig: { SecurityOpt: ["no-new-privileges"] } }))).toEqual(["setresuid", "close_range", "capset", "seccomp", "exec"]);
    expect(tail(plan())).toEqual(["setresuid", "close_range", "seccomp", "capset", "exec"]);
    const asUser = plan({ user: "1000" });
    expect(tail(asUser)).toEqual(["setresuid", "close_range", "capset", "seccomp", "capset", "exec"]);
    expect(find(asUser, "capset").at(-1)).toMatchObject({ effective: 0n, permitted: 0n });
    expect(ops(plan({ hostConfig: { Privileged: true } }))).not.toContain("seccomp");
  });

  it("mounts the cgroups only when the child is in them", () => {
    for (const facts of [exampleFacts, v1Facts]) {
      const child = plan({ facts }).steps.filter((s) => s.where === "child");
      const at = (match: (s: Step) => boolean) => child.findIndex(match);
      expect(at((s) => s.op === "unshare")).toBeLessThan(at((s) => s.op === "mount" && s.fstype.startsWith("cgroup")));
    }
  });

  it("keeps hard-to-see promises of paths", () => {
    const made = plan();
    const masked = find(made, "mount").filter((s) => s.path === "kcore");
    // Relative to /proc itself, which is known to be no link and no other filesystem.
    const proc = find(made, "openat").find((s) => s.path === "proc");
    expect(proc).toMatchObject({ flags: 0o10600000n });
    expect(find(made, "expect_fs").map((s) => s.slot)).toContain(proc?.out);
    expect(masked[0]?.dir).toBe(proc?.out);
    expect(masked).toMatchObject([{ source: expect.stringMatching(/^\/proc\/self\/fd\/1\d\d$/), ignore: ["ENOENT"] }]);
    const custom = plan({ hostConfig: { MaskedPaths: ["/proc/odd"], ReadonlyPaths: [] } });
    expect(find(custom, "mount").filter((s) => s.path === "odd")).toHaveLength(2);
    expect(find(custom, "mount_setattr").filter((s) => s.recursive === 1 && s.set === 1n)).toHaveLength(0);
  });

  it("a PID namespace is joined last of all, and its /proc comes from the monitor", () => {
    const join = { hostConfig: { PidMode: "container:x" }, input: { join: { pid: 7 } } };
    for (const [facts, mapped] of [
      [exampleFacts, false],
      [{ ...exampleFacts, procPidns: true }, false],
      [exampleFacts, true],
    ] as const) {
      const made = plan({ ...join, facts, input: { ...join.input, ...(mapped ? { userns } : {}) } });
      const at = (match: (s: Step) => boolean) => made.steps.findIndex(match);
      const [joining, clone] = [at((s) => s.op === "setns" && s.flags === CLONE.NEWPID), at((s) => s.op === "clone")];
      expect(made.steps[joining]).toMatchObject({ where: "child" });
      expect(at((s) => s.op === "rebirth")).toBeGreaterThan(at((s) => s.op === "capset"));
      if (!mapped) expect(joining).toBeGreaterThan(at((s) => s.op === "pivot_root"));
      else expect(joining).toBeLessThan(at((s) => s.op === "unshare" && (s.flags & CLONE.NEWUSER) !== 0n));
      expect(find(made, "mount").filter((s) => s.fstype === "proc")).toEqual([]);
      const proc = facts.procPidns === true ? at((s) => s.op === "fsconfig_fd" && s.key === "pidns") : at((s) => s.op === "expect_procfs");
      expect(proc).toBeGreaterThan(0);
      expect(proc).toBeLessThan(clone);
    }
    // No process that has such a /proc is known: born inside, as ever.
    const bare = plan({ ...join, amend: (spec) => spec.linux?.namespaces.splice(1, 20, { type: "mount" }, { type: "pid", path: "/run/pidns" }) });
    expect(find(bare, "setns").filter((s) => s.flags === CLONE.NEWPID)).toMatchObject([{ where: "host" }]);
    expect(find(bare, "rebirth")).toEqual([]);
  });

  it("hands its cgroup to a container with users of its own that may write there, on cgroup v2", () => {
    const writable = { SecurityOpt: ["writable-cgroups=true"] };
    const chowns = (wanted: Wanted) => find(plan(wanted), "chown");
    const v2 = { ...exampleFacts, cgroup: { ...exampleFacts.cgroup, delegate: ["cgroup.procs", "memory.oom.group"] } };
    const made = chowns({ facts: v2, hostConfig: writable, input: { userns } });
    const [directory = "", ...files] = made.map(({ path }) => path);
    expect(files).toEqual([`${directory}/cgroup.procs`, `${directory}/memory.oom.group`]);
    for (const { uid, gid, where } of made) expect([uid, gid, where]).toEqual([userns.uids[0]?.hostID, 0xffffffff, "host"]);
    expect(chowns({ hostConfig: writable, input: { userns } }).map(({ path }) => path.slice(directory.length + 1))).toEqual([
      "",
      "cgroup.procs",
      "cgroup.subtree_control",
      "cgroup.threads",
    ]);
    // Read-only there, the host's users, or a hierarchy that cannot be delegated.
    for (const wanted of [{ input: { userns } }, { hostConfig: writable }, { facts: v1Facts, hostConfig: writable, input: { userns } }])
      expect(chowns(wanted)).toEqual([]);
  });

  it("labels what is mounted afresh, where files have no labels of their own", () => {
    const label = "system_u:object_r:container_file_t:s0:c1,c2";
    const made = plan({ hostConfig: { Tmpfs: { "/t": "size=1m" } }, amend: (spec) => spec.linux !== undefined && (spec.linux.mountLabel = label) });
    const data = Object.fromEntries(find(made, "mount").map((s) => [s.path, s.data]));
    expect(data["t"]).toMatch(new RegExp(`size=1m,context="${label}"$`));
    expect(data["dev/pts"]).toContain(`context="${label}"`);
    for (const path of ["proc", "sys", "dev/mqueue"]) expect(data[path]).not.toContain("context");
  });

  it("labels processes at exec, and the root when it is mounted: as an option of its own, or quoted among others", () => {
    const input = { processLabel: "u:r:container_t:s0:c1,c2", mountLabel: "u:o:container_file_t:s0:c1,c2" };
    const written = (made: Plan) => find(made, "write").filter(({ path }) => path.endsWith("attr/exec"));
    const made = plan({ input });
    expect(written(made).map(({ data }) => Buffer.from(data).toString())).toEqual([input.processLabel]);
    expect(find(made, "fsconfig_str").filter(({ key }) => key === "context")).toMatchObject([{ value: input.mountLabel }]);
    expect(find(plan({ input: { ...input, userns } }), "fsconfig_str").filter(({ key }) => key === "context")).toMatchObject([{ value: input.mountLabel }]);
    // Before Linux 6.5, with names that fit no option: one string.
    const long = `/${"x".repeat(300)}`;
    const legacy = find(plan({ input, facts: oldFacts, root: { ...overlay, upper: long, work: `${long}/w` } as RootMountData }), "mount");
    expect(legacy.find(({ fstype }) => fstype === "overlay")?.data).toContain(`,context="${input.mountLabel}"`);
    const disk: RootMountData = { kind: "fs", fstype: "ext4", source: "/dev/x", options: [], readonly: false };
    expect(find(plan({ input, root: disk }), "fsconfig_str").filter(({ key }) => key === "context")).toMatchObject([{ value: input.mountLabel }]);
    // A directory's files have their own; a program's mount has none.
    expect(find(plan({ input, root: { kind: "bind", source: "/d", readonly: false } }), "fsconfig_str")).toEqual([]);
    const fuse: RootMountData = { kind: "fuse", argv: ["/f"], mountpoint: "/m", readonly: false, directories: [] };
    expect(() => plan({ input, root: fuse })).toThrow("the files of a FUSE root have no SELinux label");
    expect(written(plan({ input: { ...input, processLabel: "" }, root: fuse }))).toEqual([]);
  });

  it("refuses binds over what programs trust in /proc, and over the root itself", () => {
    const at = (Destination: string) => () => plan({ input: { mounts: [{ Type: "bind", Source: "/x", Destination, RW: true, Propagation: "" }] } });
    expect(at("/proc/sys/kernel")).toThrow('"/proc/sys/kernel" cannot be mounted because it is inside /proc');
    expect(at("/proc/cpuinfo")).not.toThrow();
    expect(at("/")).toThrow("would hide the whole root");
    expect(at("/../..")).toThrow("would hide the whole root");
    expect(at("/x/../proc/sys")).toThrow("inside /proc");
    expect(at("/proc")).toThrow('"/proc" cannot be mounted because it is not of type proc');
    expect(() => plan({ hostConfig: { Tmpfs: { "/proc/sys": "" } } })).toThrow("inside /proc");
  });

  it("needs a new kernel for a user namespace on overlayfs, and says so", () => {
    expect(() => plan({ facts: oldFacts, input: { userns } })).toThrow("--userns needs overlay layers by descriptor");
    expect(() => plan({ facts: oldFacts, input: { userns }, root: { kind: "bind", source: "/d", readonly: false } })).toThrow(
      "--userns needs id-mapped mounts",
    );
  });

  it("shifts the owners of a filesystem of its own for a user namespace", () => {
    const made = plan({ input: { userns }, root: { kind: "fs", fstype: "ext4", source: "/dev/dm-1", options: ["ro"], readonly: true } });
    const at = made.steps.findIndex((step) => step.op === "fsmount");
    expect(made.steps.slice(at).find((step) => step.op === "mount_setattr")).toMatchObject({ set: 0x100000n, where: "host" });
    expect(() => plan({ input: { userns }, root: { kind: "fuse", argv: ["/f"], mountpoint: "/m", readonly: false, directories: [] } })).toThrow("FUSE root");
  });

  it("makes no devices in a user namespace", () => {
    const made = plan({ input: { userns } });
    expect(ops(made)).not.toContain("mknod");
    expect(find(made, "open_tree").filter((s) => s.path === "/dev/null")).toHaveLength(1);
  });

  it("keeps it short", () => {
    expect(plan().steps.length).toBeLessThan(120);
    expect(
      planExec({
        target: { pid: 5, startTime: 6n },
        process: { user: { uid: 0, gid: 0 }, args: ["id"], cwd: "/" },
        namespaces: ["mount", "pid"],
        facts: exampleFacts,
        cgroup: { join: [] },
        tty: false,
        seccomp: undefined,
        attachGate: false,
        userns: false,
      }).steps.length,
    ).toBeLessThan(20);
  });

  it("refuses to run nothing", () => expect(() => plan({ input: { args: [] } })).toThrow("no command specified"));
});

describe("planExec", () => {
  it("joins by one descriptor what the container has of its own", () => {
    const made = planExec({
      target: { pid: 5, startTime: 6n },
      process: { user: { uid: 0, gid: 0 }, args: ["id"], cwd: "/" },
      namespaces: ["user", "mount", "pid", "network"],
      facts: exampleFacts,
      cgroup: { join: [{ op: "write", dir: NO_SLOT, path: "/cg/tasks", flags: 0n, data: Buffer.from("0"), where: "child", why: "joins" }] },
      tty: true,
      seccomp: undefined,
      attachGate: true,
      userns: true,
    });
    expect(checkSlots(made)).toEqual(new Set());
    expect(find(made, "setns").map((s) => [s.where, s.flags])).toEqual([["child", 0x10000000n | 0x20000n | 0x20000000n | 0x40000000n]]);
    expect(ops(made, "child").slice(0, 4)).toEqual(["write", "setns", "setresgid", "setresuid"]);
    expect(ops(made, "host")).toContain("attach_gate");
    expect(ops(made, "child").slice(-3)).toEqual(["capset", "rebirth", "exec"]);
  });

  it("is born in the container when nothing is left to give up; before a filter that would not let it", () => {
    const tail = (seccomp: OciSeccomp, namespaces = ["pid", "mount"], noNewPrivileges = false) => {
      const process = { user: { uid: 0, gid: 0 }, args: ["id"], cwd: "/", noNewPrivileges };
      const target = { pid: 5, startTime: 6n };
      const filter = compileSeccomp(seccomp, "x86_64");
      const made = planExec({
        target,
        process,
        namespaces,
        facts: exampleFacts,
        cgroup: { join: [] },
        tty: false,
        seccomp: filter,
        attachGate: false,
        userns: false,
      });
      return ops(made, "child").slice(ops(made, "child").indexOf("close_range") + 1);
    };
    const lenient: OciSeccomp = { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["mount"], action: "SCMP_ACT_ERRNO" }] };
    const strict: OciSeccomp = { defaultAction: "SCMP_ACT_ERRNO", syscalls: [{ names: ["read", "write", "execve", "capset"], action: "SCMP_ACT_ALLOW" }] };
    expect(tail(lenient)).toEqual(["seccomp", "capset", "rebirth", "exec"]);
    expect(tail(strict)).toEqual(["rebirth", "seccomp", "capset", "exec"]);
    expect(tail(strict, ["pid"], true)).toEqual(["capset", "rebirth", "seccomp", "exec"]);
    expect(tail(lenient, ["mount"])).toEqual(["seccomp", "capset", "exec"]);
  });
});

describe("planReadRootFiles", () => {
  const files = [{ path: "/etc/passwd", tag: 1, max: 65536 }];
  it("looks into a directory, one layer or many", () => {
    expect(ops(planReadRootFiles({ kind: "bind", source: "/d", readonly: false }, files, exampleFacts))).toEqual(["open_tree", "report"]);
    expect(ops(planReadRootFiles({ ...overlay, lower: [] }, files, exampleFacts))).toEqual(["open_tree", "report"]);
    expect(ops(planReadRootFiles(overlay, files, exampleFacts))).toEqual(["fsopen", "fsconfig_dirs", "fsmount", "report"]);
    expect(ops(planReadRootFiles({ ...overlay, upper: `/${"x".repeat(300)}` }, files, oldFacts))).toEqual([
      "unshare",
      "mount",
      "chdir",
      "mount",
      "openat",
      "report",
    ]);
  });
  it("leaves no slot unfilled", () => {
    for (const facts of [exampleFacts, oldFacts])
      for (const root of [overlay, { ...overlay, lower: ["/a"] }]) expect(() => checkSlots(planReadRootFiles(root, files, facts))).not.toThrow();
  });
});

describe("small things", () => {
  it("sysctlPath reads names as sysctl(8) does", () => {
    expect(sysctlPath("net.ipv4.conf.all.forwarding")).toBe("net/ipv4/conf/all/forwarding");
    expect(sysctlPath("net/ipv4/conf/eth0.100/forwarding")).toBe("net/ipv4/conf/eth0.100/forwarding");
    expect(sysctlPath("net.ipv4.conf.eth0/100.forwarding")).toBe("net/ipv4/conf/eth0.100/forwarding");
    for (const bad of ["net/../kernel", "a..b", "/a", ""]) expect(() => sysctlPath(bad)).toThrow("is not a name");
  });
  it("candidates searches absolute directories of the last PATH", () => {
    expect(candidates("sh", ["PATH=/old", "PATH=/bin/:.:rel::/usr/bin"])).toEqual(["/bin/sh", "/usr/bin/sh"]);
    expect(candidates("./sh", [])).toEqual(["./sh"]);
    expect(candidates("sh", [])).toEqual([]);
  });
  it("idmapText gives overlayfs a place for the host's root", () => {
    const map = [{ containerID: 0, hostID: 100000, size: 65536 }];
    expect(idmapText(map, false)).toBe("0 100000 65536\n");
    expect(idmapText(map, true)).toBe("0 100000 65536\n65536 0 1\n");
    expect(idmapText([{ containerID: 0, hostID: 0, size: 10 }], true)).toBe("0 0 10\n");
  });
});

it("images on a kernel whose overlay takes no detached layers: by paths, for the length of the plan", () => {
  const image = { fstype: "erofs", source: "/s/base/layer.erofs", devices: ["/s/base/layer.data"], loop: true } as const;
  const root: RootMountData = { ...overlay, lower: ["/s/init/diff", image.source], images: [undefined, image], attachAt: "/s/tmp-mnt" };
  const { steps } = plan({ facts: oldFacts, root });
  const mounts = steps.flatMap((step) => (step.op === "mount" && step.where === "host" ? [`${step.fstype} ${step.path} ${step.data}`] : []));
  expect(mounts.slice(-1)).toEqual(["overlay /s/tmp-mnt/root lowerdir=/s/init/diff:1,upperdir=/s/c/diff,workdir=/s/c/work,volatile"]);
  const slot = (path: string) => steps.find((step) => step.op === "loop" && step.path === path) as Extract<Step, { op: "loop" }>;
  expect(steps).toContainEqual(expect.objectContaining({ op: "fsconfig_str", key: "source", value: `/proc/self/fd/${SLOT_BASE + slot(image.source).out}` }));
  expect(steps).toContainEqual(
    expect.objectContaining({ op: "fsconfig_str", key: "device", value: `/proc/self/fd/${SLOT_BASE + slot("/s/base/layer.data").out}` }),
  );
  // It comes back to where it was, and the root that it takes along is in its slot.
  const [left, back] = [steps.findIndex(({ op }) => op === "unshare"), steps.findIndex(({ op }) => op === "setns")];
  expect(left).toBeGreaterThan(0);
  expect(steps.slice(left, back).some((step) => step.op === "open_tree" && step.out === slots.root)).toBe(true);
});
