/** Attacks that need a helper whose defence is out to show that it holds: descriptors, sessions, and who joins a container. */
import { chmodSync, cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CLONE, O } from "#linux/flags.ts";
import { NO_SLOT, SLOT_BASE, type Step } from "#linux/plan.ts";
import { probeHost } from "#linux/probe-host.ts";
import { RuntimeUnderTest, wherryRuntime } from "../integration/oci-runtime.fixture.ts";
import { type RunOptions, type Running, Sandbox } from "../integration/sandbox.ts";
import { nativeHelper } from "../suites/native-helper.ts";
import { until } from "../integration/engine-setup.ts";
import { compileAttack, compileWeakened, endWatcher, outcomes, startWatcher } from "./attack-program.fixture.ts";

const facts = await probeHost();
const why = process.getuid?.() !== 0 ? "needs root" : process.env["WHERRY_HELPER"] !== undefined ? "there is no compiler here" : undefined;

describe.skipIf(why !== undefined)(`what joins a container, and what stays open in it${why === undefined ? "" : ` (${why})`}`, () => {
  let strong: Sandbox;
  let weak: Sandbox;
  let weakened: string;
  beforeAll(async () => {
    strong = await Sandbox.open(facts);
    mkdirSync(join(strong.dir, "weakened"));
    weakened = join(strong.dir, "weakened/wherry-helper");
    compileWeakened(weakened);
    weak = await Sandbox.open(facts, "/tmp", weakened);
    for (const box of [strong, weak]) compileAttack(join(box.dir, "base/bin/attack"));
  }, 180_000);
  afterAll(async () => {
    await weak?.[Symbol.asyncDispose]();
    await strong?.[Symbol.asyncDispose]();
  });

  const sleeper = async (during: (target: Running) => Promise<void>, hostConfig = {}, args = ["sleep", "60"]) => {
    const target = await strong.start({ args, hostConfig });
    try {
      await during(target);
    } finally {
      await target.link.kill(9);
      await target.finish();
    }
  };

  describe("CVE-2024-21626", () => {
    it("no descriptor of the engine is open in a container's program; without close-on-exec some are", async () => {
      expect((await strong.run({ args: ["attack", "descriptors"] })).stdout).toBe("");
      expect((await weak.run({ args: ["attack", "descriptors"] })).stdout).toMatch(/socket:/);
    });

    it("nor in the program of an exec", async () => {
      await sleeper(async (target) => {
        expect((await strong.exec(target, ["attack", "descriptors"])).stdout).toBe("");
        expect((await weak.exec(target, ["attack", "descriptors"])).stdout).toMatch(/socket:/);
      });
    });

    it("nor in those of wherry-runtime run and exec", () => {
      const dist = join(strong.dir, "dist");
      cpSync(join(wherryRuntime, "../.."), dist, { recursive: true, filter: (source) => !/types$|\.map$/.test(source) });
      cpSync(weakened, join(dist, "bin/wherry-helper"));
      const runtime = new RuntimeUnderTest(wherryRuntime);
      const weakRuntime = new RuntimeUnderTest(join(dist, "bin/wherry-runtime"));
      try {
        const attacker = (script: string) => {
          const bundle = runtime.bundle(script);
          compileAttack(join(bundle, "rootfs/attack"));
          return bundle;
        };
        const target = runtime.id();
        expect(runtime.create(target, attacker("sleep 60"))).toMatchObject({ code: 0 });
        expect(runtime.call(["start", target])).toMatchObject({ code: 0 });
        const seen = (by: RuntimeUnderTest) => [
          by.call(["--root", runtime.root, "run", "--bundle", attacker("/attack descriptors"), runtime.id()]).stdout,
          by.call(["--root", runtime.root, "exec", target, "/attack", "descriptors"]).stdout,
        ];
        expect(seen(runtime)).toEqual(["", ""]);
        expect(seen(weakRuntime)).toEqual([expect.stringMatching(/socket:/), expect.stringMatching(/socket:/)]);
      } finally {
        runtime.dispose();
        weakRuntime.dispose();
      }
    });

    it("a working directory in /proc/self/fd leads nowhere; where links of the kernel are followed, to the host", async () => {
      const leak: Step = { op: "openat", dir: NO_SLOT, path: "/", flags: O.PATH | O.DIRECTORY, mode: 0, out: 60, where: "host", why: "test" };
      const options: RunOptions = {
        args: ["cat", `.${join(strong.dir, "hostname")}`],
        amend: (spec) => {
          spec.process.cwd = `/proc/self/fd/${SLOT_BASE + 60}`;
        },
        alter: (steps) =>
          steps
            .filter((step) => !(step.op === "mkdir" && step.path.startsWith("proc/self")))
            .flatMap((step): readonly Step[] => (step.op === "clone" ? [leak, step] : [step])),
      };
      await expect(strong.run(options)).rejects.toThrow(/too many|loop/i);
      expect(await weak.run(options)).toMatchObject({ code: 0, stdout: "boxed\n" });
    });
  });

  it("TIOCSTI: an engine that was started from a terminal does not lend it; without a session of its own, a container types into it", async () => {
    const tried = async (helper: string) => {
      const wrapper = join(strong.dir, `on-terminal-${helper === weakened ? "weak" : "strong"}`);
      writeFileSync(wrapper, onTerminal(helper));
      chmodSync(wrapper, 0o755);
      await using box = await Sandbox.open(facts, "/tmp", wrapper);
      compileAttack(join(box.dir, "base/bin/attack"));
      return outcomes((await box.run({ args: ["attack", "tiocsti"] })).stdout);
    };
    expect(await tried(nativeHelper())).toEqual({ tty: "ENXIO", tiocsti: "ENOTTY", controlling: "ENOTTY" });
    const { tty, tiocsti } = await tried(weakened);
    expect(tty).toBe("ok");
    expect(["ok", "EIO"]).toContain(tiocsti); // EIO: this kernel has none at all (dev.tty.legacy_tiocsti = 0)
  });

  it("CAP_SYS_PTRACE: who joins is seen when nothing of the host is left in it; as it was done before, the host's root lies open", async () => {
    const pause: Step = {
      op: "hook",
      path: "/bin/sleep",
      argv: ["sleep", "1"],
      envp: [],
      head: new Uint8Array(),
      tail: new Uint8Array(),
      timeout_ms: 0,
      where: "child",
      why: "test",
    };
    const bornInside = (steps: readonly Step[]): Step[] => {
      const join = steps.find((step) => step.op === "setns");
      if (join?.op !== "setns") throw new Error("the plan joins nothing");
      const first: Step = { op: "setns", fd: join.fd, flags: CLONE.NEWPID, where: "host", why: "test" };
      return steps
        .filter((step) => step.op !== "rebirth")
        .flatMap((step): readonly Step[] =>
          step.op === "clone" ? [first, step, pause] : step === join ? [{ ...join, flags: join.flags & ~CLONE.NEWPID }] : [step],
        );
    };
    const seen = async (alter: (steps: readonly Step[]) => readonly Step[]) => {
      const args = ["attack", "watch-joining", join(strong.dir, "hostname")];
      const target = await startWatcher(strong, { args, hostConfig: { CapAdd: ["SYS_PTRACE"] } });
      await strong.exec(target, ["true"], { alter });
      return await endWatcher(target);
    };
    expect(await seen((steps) => steps.flatMap((step): readonly Step[] => (step.op === "exec" ? [pause, step] : [step])))).toEqual({ seen: "ok", end: "" });
    expect(await seen(bornInside)).toEqual({ seen: "ok", root: "ok", rights: "ok", descriptors: "ok", end: "" });
  });

  describe("--pid container:X, and X is hostile and has CAP_SYS_PTRACE", () => {
    const pause = { op: "hook", path: "/bin/sleep", argv: ["sleep", "1"], envp: [], head: new Uint8Array(), tail: new Uint8Array(), timeout_ms: 0 } as const;
    const paused: Step = { ...pause, where: "child", why: "test" };
    const seen = async (alter: NonNullable<RunOptions["alter"]>, options: Partial<RunOptions> = {}) => {
      const target = await startWatcher(strong, {
        args: ["attack", "watch-joining", join(strong.dir, "hostname")],
        hostConfig: { CapAdd: ["SYS_PTRACE"] },
      });
      const { stdout } = await strong.run({
        // Few descriptors: its own are counted as well.
        args: ["sh", "-c", "test $$ -gt 1 && echo joined; cat /proc/1/comm"],
        hostConfig: { PidMode: "container:x" },
        join: { pid: target.link.pid },
        alter,
        ...options,
      });
      return { ...(await endWatcher(target)), joined: stdout.replaceAll(/\s+/g, " ").trim() };
    };
    const safe = { seen: "ok", end: "", joined: "joined attack" };
    const pausedBefore = (steps: readonly Step[], name: Step["op"]) => steps.flatMap((step): readonly Step[] => (step.op === name ? [paused, step] : [step]));
    it.runIf(facts.procPidns === true)("a new container is born among X's processes when it has nothing of the host any more", async () => {
      expect(await seen((steps) => pausedBefore(steps, "exec"))).toEqual(safe);
    });
    it("nor is it before Linux 6.18, where it takes the /proc that X has", async () => {
      expect(await seen((steps) => pausedBefore(steps, "exec"), { facts: { procPidns: false } })).toEqual(safe);
    });
    it("born there from the start, X finds the host's root and the engine's rights and descriptors in it", async () => {
      const bornInside = (steps: readonly Step[]): Step[] => {
        const late = steps.find((step) => step.op === "setns" && step.where === "child" && step.flags === CLONE.NEWPID);
        if (late?.op !== "setns") throw new Error("the plan joins no PID namespace");
        const first: Step = { ...late, where: "host" };
        return steps
          .filter((step) => step.op !== "rebirth" && step !== late)
          .flatMap((step): readonly Step[] => (step.op === "clone" ? [first, step, paused] : [step]));
      };
      expect(await seen(bornInside)).toMatchObject({ seen: "ok", root: "ok", rights: "ok", descriptors: "ok" });
    });
    it("before Linux 6.18: what X has mounted over its /proc is not taken for it", async () => {
      const hostile = await strong.start({
        args: ["sh", "-c", "mkdir /fake && mount --bind /proc/1 /fake && mount --bind /fake /proc && echo up; sleep 60"],
        hostConfig: { CapAdd: ["SYS_ADMIN"], SecurityOpt: ["seccomp=unconfined"] },
      });
      try {
        await until(() => hostile.output().stdout.includes("up"));
        const options = { args: ["ls", "/proc"], hostConfig: { PidMode: "container:x" }, join: { pid: hostile.link.pid }, facts: { procPidns: false } };
        await expect(strong.run(options)).rejects.toThrow(/proc/);
        const trusting = (steps: readonly Step[]) =>
          steps.filter((step) => step.op !== "expect_procfs" && step.op !== "expect_fs" && !(step.op === "write" && step.path.startsWith("sys/")));
        expect((await strong.run({ ...options, alter: trusting })).stdout).toContain("environ"); // of its process 1
      } finally {
        await hostile.link.kill(9);
        await hostile.finish();
      }
    });
  });
});

/** A program that starts the helper in a session of its own with a terminal. */
function onTerminal(helper: string): string {
  return `#!/usr/bin/python3
import fcntl, os, sys, termios
master, slave = os.openpty()
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    os.close(master)
    os.close(slave)
    os.execv(${JSON.stringify(helper)}, ["wherry-helper", *sys.argv[1:]])
os.close(slave)
for fd in range(3, 10):
    if fd != master:
        try:
            os.close(fd)
        except OSError:
            pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;
}
